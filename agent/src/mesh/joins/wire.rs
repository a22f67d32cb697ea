//! JoinQuestions as bytes, and how they and their answers stand in a stream.

use std::io;

use fleet_state::codec::{DecodeError, Reader, Writer};
use libp2p::futures::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};

/// Bytes of a question.
pub(super) const QUESTION_BYTES_MAX: usize = 8 * 1024;
/// Bytes of an answer: a member record, or what became of a command.
pub(super) const ANSWER_BYTES_MAX: usize = 16 * 1024;
const REQUEST_ID_BYTES_MAX: usize = 64;
/// A buffer grows by what arrives, from this on.
const BUFFER_BYTES_FIRST: usize = 4 * 1024;

/// A question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinQuestion {
    /// To become a member; the body is that of `member.join`.
    Join {
        /// The request id, the same on every attempt.
        request_id: String,
        /// The body.
        body: Vec<u8>,
    },
    /// For the asker's own member record.
    Record,
}

impl JoinQuestion {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut writer = Writer::new();
        match self {
            Self::Join { request_id, body } => {
                writer.u8(0);
                writer.text(request_id);
                writer.bytes(body);
            }
            Self::Record => writer.u8(1),
        }
        writer.into_vec()
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let question = match reader.u8()? {
            0 => Self::Join {
                request_id: reader.text(REQUEST_ID_BYTES_MAX)?.to_owned(),
                body: reader.bytes(QUESTION_BYTES_MAX)?.to_vec(),
            },
            1 => Self::Record,
            _ => return Err(DecodeError::Invalid { what: "kind of question" }),
        };
        reader.finish()?;
        Ok(question)
    }
}

/// Writes a message with its length before it.
pub(super) async fn write(stream: &mut (impl AsyncWrite + Unpin), bytes: &[u8]) -> io::Result<()> {
    let length = u32::try_from(bytes.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_be_bytes()).await?;
    stream.write_all(bytes).await?;
    stream.flush().await
}

/// Reads a message of at most `max` bytes. The length is a claim: memory is taken for what comes.
pub(super) async fn read(stream: &mut (impl AsyncRead + Unpin), max: usize) -> io::Result<Vec<u8>> {
    let mut length = [0; 4];
    stream.read_exact(&mut length).await?;
    let length = usize::try_from(u32::from_be_bytes(length)).unwrap_or(usize::MAX);
    if length > max {
        return Err(io::Error::new(io::ErrorKind::InvalidData, format!("{length} bytes")));
    }
    let mut bytes = Vec::with_capacity(length.min(BUFFER_BYTES_FIRST));
    let limit = u64::try_from(length).unwrap_or(u64::MAX);
    stream.take(limit).read_to_end(&mut bytes).await?;
    if bytes.len() < length {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use libp2p::futures::io::Cursor;

    use super::*;

    #[test]
    fn questions_come_back() {
        for question in [
            JoinQuestion::Join { request_id: "join.1".to_owned(), body: vec![1; 1_000] },
            JoinQuestion::Record,
        ] {
            let bytes = question.encode();
            assert_eq!(JoinQuestion::decode(&bytes).unwrap(), question);
            for cut in 0..bytes.len() {
                assert!(JoinQuestion::decode(&bytes[..cut]).is_err(), "{question:?} cut at {cut}");
            }
            for at in 0..bytes.len().min(64) {
                for byte in 0..=255 {
                    let mut bad = bytes.clone();
                    bad[at] = byte;
                    let _no_panic = JoinQuestion::decode(&bad);
                }
            }
        }
    }

    #[tokio::test]
    async fn what_is_too_long_is_refused_before_memory_is_taken() {
        let mut long = Cursor::new(u32::MAX.to_be_bytes().to_vec());
        assert!(read(&mut long, QUESTION_BYTES_MAX).await.is_err());
        let mut short = Cursor::new([&4u32.to_be_bytes()[..], &[1, 2]].concat());
        assert!(read(&mut short, QUESTION_BYTES_MAX).await.is_err());
        let mut good = Cursor::new([&2u32.to_be_bytes()[..], &[1, 2]].concat());
        assert_eq!(read(&mut good, 2).await.unwrap(), [1, 2]);
    }
}
