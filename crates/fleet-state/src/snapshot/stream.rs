//! Streams that hash, hold back and limit.

use std::io::{self, Read, Write};

use sha2::{Digest, Sha256};

use super::CHECKSUM_BYTES;

const CHUNK_BYTES: usize = 16 * 1024;

/// Hashes what passes through it.
pub(super) struct HashingWriter<'a> {
    inner: &'a mut dyn Write,
    hasher: Sha256,
}

impl<'a> HashingWriter<'a> {
    pub(super) fn new(inner: &'a mut dyn Write) -> Self {
        Self { inner, hasher: Sha256::new() }
    }

    /// Writes the hash of all that was written.
    pub(super) fn finish(self) -> io::Result<()> {
        let checksum: [u8; CHECKSUM_BYTES] = self.hasher.finalize().into();
        self.inner.write_all(&checksum)?;
        self.inner.flush()
    }
}

impl Write for HashingWriter<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let written = self.inner.write(bytes).map_err(without_content)?;
        self.hasher.update(bytes.get(..written).unwrap_or(bytes));
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush().map_err(without_content)
    }
}

/// The compressor takes any error that carries another one for its own, and panics when it isn't.
fn without_content(error: io::Error) -> io::Error {
    error.raw_os_error().map_or_else(|| error.kind().into(), io::Error::from_raw_os_error)
}

/// Gives out all of a stream but its last 32 bytes, hashing what it gives out. Where the content ends is therefore
/// known without a length in the file, and without trust in what the content says about itself.
pub(super) struct ContentReader<'a> {
    input: &'a mut dyn Read,
    buffer: Vec<u8>,
    given: usize,
    ended: bool,
    failed: Option<io::ErrorKind>,
    hasher: Sha256,
}

impl<'a> ContentReader<'a> {
    pub(super) fn new(input: &'a mut dyn Read) -> Self {
        let buffer = Vec::with_capacity(CHUNK_BYTES + CHECKSUM_BYTES);
        Self { input, buffer, given: 0, ended: false, failed: None, hasher: Sha256::new() }
    }

    fn held(&self) -> usize {
        self.buffer.len().saturating_sub(self.given)
    }

    /// The error of the input itself, if it had one.
    pub(super) fn failure(&self) -> Option<io::ErrorKind> {
        self.failed
    }

    fn fill(&mut self) -> io::Result<()> {
        while !self.ended && self.held() <= CHECKSUM_BYTES {
            self.buffer.drain(..self.given);
            self.given = 0;
            let chunk = &mut (&mut *self.input).take(CHUNK_BYTES as u64);
            let read = chunk.read_to_end(&mut self.buffer);
            let count = read.inspect_err(|error| self.failed = Some(error.kind()))?;
            self.ended = count == 0;
        }
        Ok(())
    }

    /// Reads to the end and says whether the checksum fits.
    pub(super) fn finish(mut self) -> io::Result<bool> {
        io::copy(&mut self, &mut io::sink())?;
        let checksum: [u8; CHECKSUM_BYTES] = self.hasher.finalize().into();
        Ok(self.buffer.get(self.given..) == Some(checksum.as_slice()))
    }
}

impl Read for ContentReader<'_> {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        self.fill()?;
        let count = out.len().min(self.held().saturating_sub(CHECKSUM_BYTES));
        let bytes =
            self.buffer.get(self.given..self.given.saturating_add(count)).unwrap_or_default();
        self.hasher.update(bytes);
        if let Some(out) = out.get_mut(..count) {
            out.copy_from_slice(bytes);
        }
        self.given = self.given.saturating_add(count);
        Ok(count)
    }
}
