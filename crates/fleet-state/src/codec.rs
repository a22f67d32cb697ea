//! The byte codec of entries, records, snapshots and frames.
//!
//! Replicated bytes must be the same on every node and in every later release, so they are written by hand and
//! owe nothing to a serialisation framework. The format has no self-description: integers are little-endian base-128
//! varints in their shortest form, byte strings and text carry a varint length, options and booleans are one byte.
//!
//! [`Reader`] takes hostile bytes. It never panics, never allocates from a length that it has not checked against
//! both a limit and the bytes that remain, and accepts exactly one encoding of each value, so that
//! decode-then-encode gives back the same bytes. What it can't read is a [`DecodeError`] and changes nothing.
//!
//! Its tests are in `tests/suite/codec.rs`.

use thiserror::Error;

/// Why bytes could not be decoded.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DecodeError {
    /// The bytes end before the value does.
    #[error("the bytes end inside a value")]
    Truncated,
    /// Bytes are left after the value.
    #[error("{count} bytes are left over after the value")]
    TrailingBytes {
        /// How many.
        count: usize,
    },
    /// A varint is longer than it needs to be, or larger than its type.
    #[error("an integer is not in its shortest form or out of range")]
    Integer,
    /// A length or count is above its limit.
    #[error("a length of {found} is above the limit of {limit}")]
    TooLong {
        /// The length found.
        found: u64,
        /// The limit.
        limit: usize,
    },
    /// A text is not UTF-8.
    #[error("a text is not UTF-8")]
    Text,
    /// A version that this binary does not know.
    #[error("{what} has version {found}, which this version of flotilla does not know")]
    UnknownVersion {
        /// Of what.
        what: &'static str,
        /// The version found.
        found: u64,
    },
    /// A kind that this binary does not know.
    #[error("{what} has kind {found}, which this version of flotilla does not know")]
    UnknownKind {
        /// Of what.
        what: &'static str,
        /// The kind found.
        found: u64,
    },
    /// A field holds a value that is not allowed there.
    #[error("{what} is not valid")]
    Invalid {
        /// Which field.
        what: &'static str,
    },
}

/// Appends values to a byte vector.
#[derive(Debug, Default, Clone)]
pub struct Writer {
    bytes: Vec<u8>,
}

impl Writer {
    /// An empty writer.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty writer with room for `size_bytes`.
    #[must_use]
    pub fn with_capacity(size_bytes: usize) -> Self {
        Self { bytes: Vec::with_capacity(size_bytes) }
    }

    /// One byte.
    pub fn u8(&mut self, value: u8) {
        self.bytes.push(value);
    }

    /// A varint.
    pub fn u16(&mut self, value: u16) {
        self.u64(u64::from(value));
    }

    /// A varint.
    pub fn u32(&mut self, value: u32) {
        self.u64(u64::from(value));
    }

    /// A varint.
    pub fn u64(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.bytes.push((value & 0x7f) as u8 | 0x80);
            value >>= 7;
        }
        self.bytes.push(value as u8);
    }

    /// A signed varint: zigzag, so that small negative numbers stay short.
    pub fn i64(&mut self, value: i64) {
        self.u64(((value as u64) << 1) ^ ((value >> 63) as u64));
    }

    /// One byte, 0 or 1.
    pub fn bool(&mut self, value: bool) {
        self.bytes.push(u8::from(value));
    }

    /// Bytes without a length: the reader knows how many there are.
    pub fn fixed(&mut self, value: &[u8]) {
        self.bytes.extend_from_slice(value);
    }

    /// So many zeros, to be written over.
    pub fn zeros(&mut self, count: usize) {
        self.bytes.resize(self.bytes.len().saturating_add(count), 0);
    }

    /// A count or length as a varint.
    pub fn count(&mut self, value: usize) {
        self.u64(value as u64);
    }

    /// A length and as many bytes.
    pub fn bytes(&mut self, value: &[u8]) {
        self.count(value.len());
        self.bytes.extend_from_slice(value);
    }

    /// A length and as many bytes of UTF-8.
    pub fn text(&mut self, value: &str) {
        self.bytes(value.as_bytes());
    }

    /// What was written so far.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes written so far.
    #[must_use]
    pub fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Whether nothing was written yet.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// Forgets what was written and keeps the room for it.
    pub fn clear(&mut self) {
        self.bytes.clear();
    }

    /// The bytes.
    #[must_use]
    pub fn into_vec(self) -> Vec<u8> {
        self.bytes
    }
}

/// Takes values off the front of a byte slice.
#[derive(Debug, Clone)]
pub struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    /// A reader of these bytes.
    #[must_use]
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Bytes not read yet.
    #[must_use]
    pub fn remaining(&self) -> usize {
        self.rest.len()
    }

    fn take(&mut self, count: usize) -> Result<&'a [u8], DecodeError> {
        let (head, tail) = self.rest.split_at_checked(count).ok_or(DecodeError::Truncated)?;
        self.rest = tail;
        Ok(head)
    }

    /// One byte.
    ///
    /// # Errors
    /// Nothing is left.
    pub fn u8(&mut self) -> Result<u8, DecodeError> {
        let (first, tail) = self.rest.split_first().ok_or(DecodeError::Truncated)?;
        self.rest = tail;
        Ok(*first)
    }

    /// A varint of at most 16 bits.
    ///
    /// # Errors
    /// Truncated, not in its shortest form, or out of range.
    pub fn u16(&mut self) -> Result<u16, DecodeError> {
        u16::try_from(self.u64()?).map_err(|_| DecodeError::Integer)
    }

    /// A varint of at most 32 bits.
    ///
    /// # Errors
    /// Truncated, not in its shortest form, or out of range.
    pub fn u32(&mut self) -> Result<u32, DecodeError> {
        u32::try_from(self.u64()?).map_err(|_| DecodeError::Integer)
    }

    /// A varint of at most 64 bits.
    ///
    /// # Errors
    /// Truncated, not in its shortest form, or out of range.
    pub fn u64(&mut self) -> Result<u64, DecodeError> {
        let mut value = 0u64;
        let mut shift = 0u32;
        loop {
            let byte = self.u8()?;
            let bits = u64::from(byte & 0x7f);
            if shift == 63 && bits > 1 {
                return Err(DecodeError::Integer);
            }
            value |= bits << shift;
            if byte & 0x80 == 0 {
                let overlong = byte == 0 && shift > 0;
                return if overlong { Err(DecodeError::Integer) } else { Ok(value) };
            }
            if shift == 63 {
                return Err(DecodeError::Integer);
            }
            shift += 7;
        }
    }

    /// A signed varint.
    ///
    /// # Errors
    /// Truncated, not in its shortest form, or out of range.
    pub fn i64(&mut self) -> Result<i64, DecodeError> {
        let raw = self.u64()?;
        Ok(((raw >> 1) as i64) ^ -((raw & 1) as i64))
    }

    /// One byte, 0 or 1.
    ///
    /// # Errors
    /// Nothing is left, or another byte.
    pub fn bool(&mut self) -> Result<bool, DecodeError> {
        match self.u8()? {
            0 => Ok(false),
            1 => Ok(true),
            _ => Err(DecodeError::Invalid { what: "a boolean" }),
        }
    }

    /// Exactly `N` bytes.
    ///
    /// # Errors
    /// Fewer are left.
    pub fn fixed<const N: usize>(&mut self) -> Result<[u8; N], DecodeError> {
        let head = self.take(N)?;
        <[u8; N]>::try_from(head).map_err(|_| DecodeError::Truncated)
    }

    /// A count of items of at least one byte each, checked against the limit and the bytes that remain.
    ///
    /// # Errors
    /// The count is above `limit` or cannot fit in what remains.
    pub fn count(&mut self, limit: usize) -> Result<usize, DecodeError> {
        let found = self.u64()?;
        let count = usize::try_from(found).map_err(|_| DecodeError::TooLong { found, limit })?;
        if count > limit {
            return Err(DecodeError::TooLong { found, limit });
        }
        if count > self.rest.len() {
            return Err(DecodeError::Truncated);
        }
        Ok(count)
    }

    /// A length of at most `limit` and as many bytes.
    ///
    /// # Errors
    /// The length is above `limit` or above what remains.
    pub fn bytes(&mut self, limit: usize) -> Result<&'a [u8], DecodeError> {
        let count = self.count(limit)?;
        self.take(count)
    }

    /// A length of at most `limit` bytes and as much UTF-8.
    ///
    /// # Errors
    /// The length is above `limit` or above what remains, or the bytes are not UTF-8.
    pub fn text(&mut self, limit: usize) -> Result<&'a str, DecodeError> {
        std::str::from_utf8(self.bytes(limit)?).map_err(|_| DecodeError::Text)
    }

    /// Everything that is left.
    pub fn rest(&mut self) -> &'a [u8] {
        std::mem::take(&mut self.rest)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// Bytes are left.
    pub fn finish(self) -> Result<(), DecodeError> {
        match self.rest.len() {
            0 => Ok(()),
            count => Err(DecodeError::TrailingBytes { count }),
        }
    }
}
