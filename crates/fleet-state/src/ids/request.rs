//! The id that a client gives to a command and repeats on every retry.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use super::numbers::{parse_hex, write_hex};
use super::{IdError, character};
use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::REQUEST_ID_CHARS_MAX;

const FIELD: &str = "the request id";
const UUID_HYPHENS: [usize; 4] = [8, 13, 18, 23];

/// The id that a client gives to a command and repeats on every retry: 1 to 64 of `A-Z a-z 0-9 . _ : -`.
///
/// A UUID in its canonical lower-case form is kept as 16 bytes; any other text as it is. The two never mix: one
/// text has one representation.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RequestId(Form);

#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Form {
    Uuid([u8; 16]),
    Text(Arc<str>),
}

impl RequestId {
    /// The id with these UUID bytes.
    #[must_use]
    pub const fn from_uuid_bytes(bytes: [u8; 16]) -> Self {
        Self(Form::Uuid(bytes))
    }

    /// Comes before every other id.
    pub(crate) const fn lowest() -> Self {
        Self::from_uuid_bytes([0; 16])
    }

    /// The bytes, when the id is a UUID.
    #[must_use]
    pub fn uuid_bytes(&self) -> Option<[u8; 16]> {
        match &self.0 {
            Form::Uuid(bytes) => Some(*bytes),
            Form::Text(_) => None,
        }
    }

    /// Whether the id is a UUID of version 7, whose order is its order in time.
    #[must_use]
    pub fn is_uuid_v7(&self) -> bool {
        self.uuid_v7().is_some()
    }

    /// The bytes of a UUID of version 7.
    pub(crate) fn uuid_v7(&self) -> Option<[u8; 16]> {
        let bytes = self.uuid_bytes()?;
        let [_, _, _, _, _, _, version, _, variant, ..] = bytes;
        (version >> 4 == 7 && variant >> 6 == 0b10).then_some(bytes)
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        match &self.0 {
            Form::Uuid(bytes) => {
                writer.u8(0);
                writer.fixed(bytes);
            }
            Form::Text(text) => {
                writer.u8(1);
                writer.text(text);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        match reader.u8()? {
            0 => Ok(Self::from_uuid_bytes(reader.fixed()?)),
            1 => {
                let parsed = reader.text(REQUEST_ID_CHARS_MAX)?.parse::<Self>();
                let id = parsed.map_err(|_| DecodeError::Invalid { what: FIELD })?;
                // A UUID has one encoding only.
                if id.uuid_bytes().is_some() {
                    Err(DecodeError::Invalid { what: FIELD })
                } else {
                    Ok(id)
                }
            }
            found => Err(DecodeError::UnknownKind { what: FIELD, found: u64::from(found) }),
        }
    }
}

/// The milliseconds since 1970 that a UUID of version 7 carries.
pub(crate) fn uuid_v7_unix_ms(uuid: [u8; 16]) -> u64 {
    let [a, b, c, d, e, f, ..] = uuid;
    u64::from_be_bytes([0, 0, a, b, c, d, e, f])
}

fn parse_uuid(text: &str) -> Option<[u8; 16]> {
    if text.len() != 36 || UUID_HYPHENS.iter().any(|at| text.as_bytes().get(*at) != Some(&b'-')) {
        return None;
    }
    let digits: String = text.chars().filter(|c| *c != '-').collect();
    parse_hex(&digits)
}

impl FromStr for RequestId {
    type Err = IdError;

    fn from_str(text: &str) -> Result<Self, IdError> {
        if text.is_empty() {
            return Err(IdError::Empty { field: FIELD, expected: "a UUID, or leave it out" });
        }
        let allowed = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | ':' | '-');
        if let Some((at, found)) = text.char_indices().find(|(_, c)| !allowed(c)) {
            return Err(character(FIELD, found, at, "A-Z, a-z, 0-9, dot, _, : and -"));
        }
        if text.len() > REQUEST_ID_CHARS_MAX {
            return Err(IdError::TooLong {
                field: FIELD,
                found: text.len(),
                limit: REQUEST_ID_CHARS_MAX,
            });
        }
        Ok(Self(parse_uuid(text).map_or_else(|| Form::Text(Arc::from(text)), Form::Uuid)))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = match &self.0 {
            Form::Text(text) => return f.write_str(text),
            Form::Uuid(bytes) => bytes,
        };
        for (position, byte) in bytes.iter().enumerate() {
            if matches!(position, 4 | 6 | 8 | 10) {
                f.write_str("-")?;
            }
            write_hex(std::slice::from_ref(byte), f)?;
        }
        Ok(())
    }
}

impl fmt::Debug for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
