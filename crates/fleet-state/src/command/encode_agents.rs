//! The bytes of what agents propose themselves.

use super::{AgentCommand, ClaimItem, CommandKind, StageItem};
use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{LinkId, RequestId};
use crate::limits::{
    DETAIL_BYTES_MAX, FAILURES_MAX, PROPERTY_BYTES_MAX, REPORT_ITEMS_MAX, WISHES_MAX,
};
use crate::record::{decode_failure, encode_failure};
use crate::stage::Stage;
use crate::value::Value;

impl AgentCommand {
    pub(super) fn encode(&self, writer: &mut Writer) {
        writer.text(self.link().as_str());
        match self {
            AgentCommand::LinkAssign { expect_epoch, owner, .. } => {
                writer.u64(*expect_epoch);
                writer.option(owner.as_ref(), |writer, owner| writer.u64(owner.get()));
            }
            AgentCommand::LinkRelease { epoch, .. } => writer.u64(*epoch),
            AgentCommand::Stages { epoch, items, .. } => {
                writer.u64(*epoch);
                writer.count(items.len());
                items.iter().for_each(|item| item.encode(writer));
            }
            AgentCommand::Claim { epoch, items, .. } => {
                writer.u64(*epoch);
                writer.count(items.len());
                items.iter().for_each(|item| item.encode(writer));
            }
            AgentCommand::InvocationEnd { epoch, id, stage, detail, .. } => {
                writer.u64(*epoch);
                id.encode(writer);
                stage.encode(writer);
                writer.text(detail);
            }
            AgentCommand::Adopt { epoch, device, property, value, seen_revision, .. } => {
                writer.u64(*epoch);
                writer.text(device.as_str());
                writer.text(property);
                value.encode(writer);
                writer.revision(*seen_revision);
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the caller has sorted the kinds")]
    pub(super) fn decode(kind: CommandKind, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let link: LinkId = reader.id()?;
        let epoch = reader.u64()?;
        Ok(match kind {
            CommandKind::LinkAssign => AgentCommand::LinkAssign {
                link,
                expect_epoch: epoch,
                owner: reader.option(Reader::node)?,
            },
            CommandKind::LinkLetGo => AgentCommand::LinkRelease { link, epoch },
            CommandKind::Stages => {
                AgentCommand::Stages { link, epoch, items: items(reader, StageItem::decode)? }
            }
            CommandKind::Claim => {
                AgentCommand::Claim { link, epoch, items: items(reader, ClaimItem::decode)? }
            }
            CommandKind::InvocationEnd => AgentCommand::InvocationEnd {
                link,
                epoch,
                id: RequestId::decode(reader)?,
                stage: Stage::decode(reader)?,
                detail: reader.shared(DETAIL_BYTES_MAX)?,
            },
            _ => AgentCommand::Adopt {
                link,
                epoch,
                device: reader.id()?,
                property: reader.shared(PROPERTY_BYTES_MAX)?,
                value: Value::decode(reader)?,
                seen_revision: reader.revision()?,
            },
        })
    }
}

fn items<T>(
    reader: &mut Reader<'_>,
    decode: impl Fn(&mut Reader<'_>) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    let count = reader.count(REPORT_ITEMS_MAX)?;
    (0..count).map(|_| decode(reader)).collect()
}

impl StageItem {
    fn encode(&self, writer: &mut Writer) {
        writer.text(self.device.as_str());
        writer.revision(self.sent);
        writer.revision(self.acknowledged);
        writer.revision(self.verified);
        writer.count(self.failures.len());
        self.failures.iter().for_each(|failure| encode_failure(failure, writer));
        writer.count(self.overcome.len());
        self.overcome.iter().for_each(|revision| writer.revision(*revision));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: reader.id()?,
            sent: reader.revision()?,
            acknowledged: reader.revision()?,
            verified: reader.revision()?,
            failures: {
                let count = reader.count(WISHES_MAX)?;
                (0..count).map(|_| decode_failure(reader)).collect::<Result<_, _>>()?
            },
            overcome: {
                let count = reader.count(FAILURES_MAX)?;
                (0..count).map(|_| reader.revision()).collect::<Result<_, _>>()?
            },
        })
    }
}

impl ClaimItem {
    fn encode(&self, writer: &mut Writer) {
        match self {
            ClaimItem::Wish { device, revision } => {
                writer.u8(1);
                writer.text(device.as_str());
                writer.revision(*revision);
            }
            ClaimItem::Invocation(id) => {
                writer.u8(2);
                id.encode(writer);
            }
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => ClaimItem::Wish { device: reader.id()?, revision: reader.revision()? },
            2 => ClaimItem::Invocation(RequestId::decode(reader)?),
            found => {
                let found = u64::from(found);
                return Err(DecodeError::UnknownKind { what: "an item of a claim", found });
            }
        })
    }
}
