//! The bytes of commands.

use std::sync::Arc;

use super::{
    BatchItem, Command, DeviceSpec, JoinRequest, Labels, LinkSpec, NodeKeys, Placement, Proposal,
};
use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{NodeId, RequestId, Revision, TokenId};
use crate::limits::{
    ACTOR_BYTES_MAX, ADDRESS_BYTES_MAX, BATCH_ITEMS_MAX, ENTRY_BYTES_MAX, LABEL_KEY_BYTES_MAX,
    LABEL_VALUE_BYTES_MAX, LABELS_MAX, NAME_BYTES_MAX, NOTE_BYTES_MAX,
};
use crate::schema::Schema;
use crate::value::{Object, Value};

/// Length of the longest id: eight tokens and seven dots fit well.
const ID_BYTES_MAX: usize = 512;

const LINK_REGISTER: u8 = 1;
const LINK_DELETE: u8 = 2;
const DEVICE_REGISTER: u8 = 3;
const DEVICE_UPDATE: u8 = 4;
const DEVICE_REPLACE: u8 = 5;
const DEVICE_DELETE: u8 = 6;
const PARAM_SET: u8 = 7;
const PARAM_DELETE: u8 = 8;
const BATCH: u8 = 9;
const TOKEN_CREATE: u8 = 10;
const TOKEN_REVOKE: u8 = 11;
const JOIN: u8 = 12;
const CERTIFY: u8 = 13;
const MEMBER_REMOVE: u8 = 14;
const MEMBER_PROMOTE: u8 = 15;
const SET_VOTERS: u8 = 16;

impl Writer {
    pub(crate) fn option<T>(&mut self, value: Option<&T>, write: impl FnOnce(&mut Self, &T)) {
        self.bool(value.is_some());
        if let Some(value) = value {
            write(self, value);
        }
    }

    pub(crate) fn revision(&mut self, revision: Revision) {
        self.u64(revision.get());
    }

    pub(crate) fn labels(&mut self, labels: &Labels) {
        self.count(labels.len());
        for (key, value) in labels {
            self.text(key);
            self.text(value);
        }
    }
}

impl<'a> Reader<'a> {
    pub(crate) fn option<T>(
        &mut self,
        read: impl FnOnce(&mut Self) -> Result<T, DecodeError>,
    ) -> Result<Option<T>, DecodeError> {
        if self.bool()? { read(self).map(Some) } else { Ok(None) }
    }

    pub(crate) fn revision(&mut self) -> Result<Revision, DecodeError> {
        self.u64().map(Revision::new)
    }

    /// An id of any text type.
    pub(crate) fn id<T: std::str::FromStr>(&mut self) -> Result<T, DecodeError> {
        self.text(ID_BYTES_MAX)?.parse().map_err(|_| DecodeError::Invalid { what: "an id" })
    }

    pub(crate) fn node(&mut self) -> Result<NodeId, DecodeError> {
        NodeId::new(self.u64()?).ok_or(DecodeError::Invalid { what: "a node id" })
    }

    pub(crate) fn shared(&mut self, limit: usize) -> Result<Arc<str>, DecodeError> {
        self.text(limit).map(Arc::from)
    }

    pub(crate) fn labels(&mut self) -> Result<Labels, DecodeError> {
        let count = self.count(LABELS_MAX)?;
        let mut labels = Labels::new();
        for _ in 0..count {
            let key = self.shared(LABEL_KEY_BYTES_MAX)?;
            if labels.last_key_value().is_some_and(|(before, _)| *before >= key) {
                return Err(DecodeError::Invalid { what: "the order of labels" });
            }
            labels.insert(key, self.shared(LABEL_VALUE_BYTES_MAX)?);
        }
        Ok(labels)
    }
}

impl Proposal {
    pub(crate) fn write(&self, writer: &mut Writer) {
        self.request_id.encode(writer);
        writer.option(self.actor.as_ref(), |writer, actor| writer.text(actor));
        self.write_command(writer);
    }

    /// The part that must be the same on a retry: the precondition and the command.
    pub(crate) fn write_command(&self, writer: &mut Writer) {
        writer.option(self.if_revision.as_ref(), |writer, revision| writer.revision(*revision));
        self.command.encode(writer);
    }

    pub(crate) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            request_id: RequestId::decode(reader)?,
            actor: reader.option(|reader| reader.shared(ACTOR_BYTES_MAX))?,
            if_revision: reader.option(Reader::revision)?,
            command: Command::decode(reader, true)?,
        })
    }
}

impl Command {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        match self {
            Command::LinkRegister { id, spec } => {
                tagged(writer, LINK_REGISTER, id.as_str());
                spec.encode(writer);
            }
            Command::LinkDelete { id } => tagged(writer, LINK_DELETE, id.as_str()),
            Command::DeviceRegister { id, spec } => {
                tagged(writer, DEVICE_REGISTER, id.as_str());
                spec.encode(writer);
            }
            Command::DeviceUpdate { id, patch } => {
                tagged(writer, DEVICE_UPDATE, id.as_str());
                patch.encode(writer);
            }
            Command::DeviceReplace { id, desired } => {
                tagged(writer, DEVICE_REPLACE, id.as_str());
                desired.encode(writer);
            }
            Command::DeviceDelete { id } => tagged(writer, DEVICE_DELETE, id.as_str()),
            Command::ParamSet { key, value } => {
                tagged(writer, PARAM_SET, key.as_str());
                value.encode(writer);
            }
            Command::ParamDelete { key } => tagged(writer, PARAM_DELETE, key.as_str()),
            Command::Batch(items) => encode_batch(items, writer),
            Command::TokenCreate { .. }
            | Command::TokenRevoke { .. }
            | Command::Join(_)
            | Command::Certify { .. }
            | Command::MemberRemove { .. }
            | Command::MemberPromote { .. }
            | Command::SetVoters { .. } => self.encode_admin(writer),
        }
    }

    fn encode_admin(&self, writer: &mut Writer) {
        match self {
            Command::TokenCreate { id, key, ttl_ms, uses, note } => {
                writer.u8(TOKEN_CREATE);
                writer.fixed(id.as_bytes());
                writer.fixed(key);
                writer.u64(*ttl_ms);
                writer.u32(*uses);
                writer.text(note);
            }
            Command::TokenRevoke { id } => {
                writer.u8(TOKEN_REVOKE);
                writer.fixed(id.as_bytes());
            }
            Command::Join(request) => {
                writer.u8(JOIN);
                writer.fixed(request.token.as_bytes());
                writer.text(request.name.as_str());
                encode_keys(&request.keys, writer);
                writer.fixed(&request.proof);
            }
            Command::Certify { node, credential } => {
                numbered(writer, CERTIFY, node.get());
                writer.fixed(credential);
            }
            Command::MemberRemove { node } => numbered(writer, MEMBER_REMOVE, node.get()),
            Command::MemberPromote { node } => numbered(writer, MEMBER_PROMOTE, node.get()),
            Command::SetVoters { voters } => numbered(writer, SET_VOTERS, u64::from(*voters)),
            Command::LinkRegister { .. }
            | Command::LinkDelete { .. }
            | Command::DeviceRegister { .. }
            | Command::DeviceUpdate { .. }
            | Command::DeviceReplace { .. }
            | Command::DeviceDelete { .. }
            | Command::ParamSet { .. }
            | Command::ParamDelete { .. }
            | Command::Batch(_) => {}
        }
    }

    fn decode(reader: &mut Reader<'_>, batch_allowed: bool) -> Result<Self, DecodeError> {
        let kind = reader.u8()?;
        Ok(match kind {
            LINK_REGISTER => {
                Command::LinkRegister { id: reader.id()?, spec: decode_link_spec(reader)? }
            }
            LINK_DELETE => Command::LinkDelete { id: reader.id()? },
            DEVICE_REGISTER => {
                Command::DeviceRegister { id: reader.id()?, spec: decode_device_spec(reader)? }
            }
            DEVICE_UPDATE => {
                Command::DeviceUpdate { id: reader.id()?, patch: Object::decode(reader)? }
            }
            DEVICE_REPLACE => {
                Command::DeviceReplace { id: reader.id()?, desired: Object::decode(reader)? }
            }
            DEVICE_DELETE => Command::DeviceDelete { id: reader.id()? },
            PARAM_SET => Command::ParamSet { key: reader.id()?, value: Value::decode(reader)? },
            PARAM_DELETE => Command::ParamDelete { key: reader.id()? },
            BATCH if batch_allowed => decode_batch(reader)?,
            _ if batch_allowed => Self::decode_admin(kind, reader)?,
            found => {
                return Err(DecodeError::UnknownKind {
                    what: "a command in a batch",
                    found: u64::from(found),
                });
            }
        })
    }

    fn decode_admin(kind: u8, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            TOKEN_CREATE => Command::TokenCreate {
                id: TokenId::from_bytes(reader.fixed()?),
                key: reader.fixed()?,
                ttl_ms: reader.u64()?,
                uses: reader.u32()?,
                note: reader.shared(NOTE_BYTES_MAX)?,
            },
            TOKEN_REVOKE => Command::TokenRevoke { id: TokenId::from_bytes(reader.fixed()?) },
            JOIN => Command::Join(JoinRequest {
                token: TokenId::from_bytes(reader.fixed()?),
                name: reader.id()?,
                keys: decode_keys(reader)?,
                proof: reader.fixed()?,
            }),
            CERTIFY => Command::Certify { node: reader.node()?, credential: reader.fixed()? },
            MEMBER_REMOVE => Command::MemberRemove { node: reader.node()? },
            MEMBER_PROMOTE => Command::MemberPromote { node: reader.node()? },
            SET_VOTERS => {
                let voters = u8::try_from(reader.u64()?).map_err(|_| DecodeError::Integer)?;
                Command::SetVoters { voters }
            }
            found => {
                return Err(DecodeError::UnknownKind {
                    what: "a command",
                    found: u64::from(found),
                });
            }
        })
    }
}

fn tagged(writer: &mut Writer, kind: u8, id: &str) {
    writer.u8(kind);
    writer.text(id);
}

fn numbered(writer: &mut Writer, kind: u8, number: u64) {
    writer.u8(kind);
    writer.u64(number);
}

fn encode_batch(items: &[BatchItem], writer: &mut Writer) {
    writer.u8(BATCH);
    writer.count(items.len());
    for item in items {
        writer.option(item.if_revision.as_ref(), |writer, revision| writer.revision(*revision));
        item.command.encode(writer);
    }
}

fn decode_batch(reader: &mut Reader<'_>) -> Result<Command, DecodeError> {
    let count = reader.count(BATCH_ITEMS_MAX)?;
    let item = |reader: &mut Reader<'_>| {
        let if_revision = reader.option(Reader::revision)?;
        Ok(BatchItem { command: Command::decode(reader, false)?, if_revision })
    };
    (0..count).map(|_| item(reader)).collect::<Result<Vec<_>, _>>().map(Command::Batch)
}

pub(crate) fn encode_keys(keys: &NodeKeys, writer: &mut Writer) {
    writer.fixed(&keys.sign);
    writer.fixed(&keys.exchange);
}

pub(crate) fn decode_keys(reader: &mut Reader<'_>) -> Result<NodeKeys, DecodeError> {
    Ok(NodeKeys { sign: reader.fixed()?, exchange: reader.fixed()? })
}

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
    })
}

impl DeviceSpec {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.option(self.link.as_ref(), |writer, link| writer.text(link.as_str()));
        writer.text(&self.address);
        writer.text(&self.name);
        writer.labels(&self.labels);
        writer.option(self.model.as_ref(), |writer, model| model.source().encode(writer));
    }
}

pub(crate) fn decode_device_spec(reader: &mut Reader<'_>) -> Result<DeviceSpec, DecodeError> {
    Ok(DeviceSpec {
        link: reader.option(Reader::id)?,
        address: reader.shared(ADDRESS_BYTES_MAX)?,
        name: reader.shared(NAME_BYTES_MAX)?,
        labels: reader.labels()?,
        model: reader.option(|reader| {
            let source = Value::decode(reader)?;
            Schema::from_value(source).map_err(|_| DecodeError::Invalid { what: "a device model" })
        })?,
    })
}

// An encoded command must fit in an entry; `Proposal::validate` sees to it.
const _: () = assert!(ID_BYTES_MAX < ENTRY_BYTES_MAX);
