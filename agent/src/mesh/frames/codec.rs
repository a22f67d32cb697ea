//! A frame on a stream: its length, then its bytes.

use std::io;

use bytes::{BufMut as _, Bytes, BytesMut};
use libp2p::futures::io::{AsyncRead, AsyncReadExt as _};

use crate::transport::FRAME_BYTES_MAX;

/// Bytes of the length.
const LENGTH_BYTES: usize = 4;
/// A buffer grows by what arrives, from this on.
const BUFFER_BYTES_FIRST: usize = 16 * 1024;

/// Adds a frame to what is to be written.
pub(super) fn put(buffer: &mut BytesMut, frame: &Bytes) {
    // Larger ones are never made; the queues are far smaller than `u32::MAX`.
    let Ok(length) = u32::try_from(frame.len()) else { return };
    buffer.put_u32(length);
    buffer.put_slice(frame);
}

/// How large a frame with this prefix would be, if it may be taken.
fn length_of(prefix: [u8; LENGTH_BYTES]) -> io::Result<usize> {
    let length = usize::try_from(u32::from_be_bytes(prefix)).unwrap_or(usize::MAX);
    if length == 0 || length > FRAME_BYTES_MAX {
        let what = format!("a frame of {length} bytes");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok(length)
}

/// Waits for the next frame to begin: its first byte, or `None` at the end of the stream.
pub(super) async fn read_first(stream: &mut (impl AsyncRead + Unpin)) -> io::Result<Option<u8>> {
    let mut first = [0];
    let read = stream.read(&mut first).await?;
    Ok((read > 0).then_some(first[0]))
}

/// Reads the rest of a frame that has begun with this byte.
pub(super) async fn read_rest(
    stream: &mut (impl AsyncRead + Unpin),
    first: u8,
) -> io::Result<Bytes> {
    let mut rest = [0; LENGTH_BYTES - 1];
    stream.read_exact(&mut rest).await?;
    let [second, third, fourth] = rest;
    read_body(stream, length_of([first, second, third, fourth])?).await
}

async fn read_body(stream: &mut (impl AsyncRead + Unpin), length: usize) -> io::Result<Bytes> {
    // A length is a claim: memory is taken for what has come.
    let mut body = Vec::with_capacity(length.min(BUFFER_BYTES_FIRST));
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    stream.take(limit).read_to_end(&mut body).await?;
    if body.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(body.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use libp2p::futures::io::Cursor;

    async fn read_all(bytes: &[u8]) -> (Vec<Bytes>, io::Result<()>) {
        let mut stream = Cursor::new(bytes.to_vec());
        let mut frames = Vec::new();
        loop {
            match read_first(&mut stream).await {
                Ok(None) => return (frames, Ok(())),
                Ok(Some(first)) => match read_rest(&mut stream, first).await {
                    Ok(frame) => frames.push(frame),
                    Err(error) => return (frames, Err(error)),
                },
                Err(error) => return (frames, Err(error)),
            }
        }
    }

    #[tokio::test]
    async fn frames_come_back_and_every_cut_is_noticed() {
        let sent = [Bytes::from_static(b"a"), vec![7; 70_000].into(), Bytes::from_static(b"xyz")];
        let mut buffer = BytesMut::new();
        sent.iter().for_each(|frame| put(&mut buffer, frame));
        let (frames, end) = read_all(&buffer).await;
        assert_eq!(frames, sent);
        assert!(end.is_ok());
        for cut in (0..buffer.len()).step_by(997).chain([1, 4, 5, 6, 9]) {
            let (frames, end) = read_all(&buffer[..cut]).await;
            let whole = [0, 5, 70_009].contains(&cut);
            assert_eq!(end.is_ok(), whole, "cut at {cut}");
            assert!(frames.len() < 3);
        }
    }

    #[tokio::test]
    async fn lengths_that_no_frame_has_are_refused_unread() {
        for length in [0u32, 1_228_801, u32::MAX] {
            let mut bytes = length.to_be_bytes().to_vec();
            bytes.extend_from_slice(&[0; 64]);
            let (frames, end) = read_all(&bytes).await;
            assert!(frames.is_empty());
            assert_eq!(end.unwrap_err().kind(), io::ErrorKind::InvalidData, "{length}");
        }
        assert_eq!(length_of(1_228_800u32.to_be_bytes()).unwrap(), FRAME_BYTES_MAX);
    }
}
