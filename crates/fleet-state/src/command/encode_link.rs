//! The bytes of what a link is.

use super::{LinkSpec, Placement};
use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{ADDRESS_BYTES_MAX, NAME_BYTES_MAX};
use crate::value::Object;

impl LinkSpec {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.text(&self.connector);
        writer.text(&self.address);
        match &self.placement {
            Placement::Any { labels } => {
                writer.u8(0);
                writer.labels(labels);
            }
            Placement::On(name) => {
                writer.u8(1);
                writer.text(name.as_str());
            }
        }
        writer.text(&self.name);
        writer.labels(&self.labels);
        self.settings.encode(writer);
    }
}

pub(crate) fn decode_link_spec(reader: &mut Reader<'_>) -> Result<LinkSpec, DecodeError> {
    Ok(LinkSpec {
        connector: reader.shared(ADDRESS_BYTES_MAX)?,
        address: reader.shared(ADDRESS_BYTES_MAX)?,
        placement: match reader.u8()? {
            0 => Placement::Any { labels: reader.labels()? },
            1 => Placement::On(reader.id()?),
            found => {
                return Err(DecodeError::UnknownKind {
                    what: "a placement",
                    found: u64::from(found),
                });
            }
        },
        name: reader.shared(NAME_BYTES_MAX)?,
        labels: reader.labels()?,
        settings: Object::decode(reader)?,
    })
}
