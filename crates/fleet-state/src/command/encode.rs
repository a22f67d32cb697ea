//! The bytes of commands.

use std::sync::Arc;

use super::encode_device::{decode_device_spec, decode_ttl, encode_ttl};
use super::encode_link::decode_link_spec;
use super::{
    BatchItem, Command, CommandKind, JoinRequest, LabelPatch, Labels, Mode, NodeKeys, Proposal,
};
use crate::codec::{DecodeError, Reader, Writer};
use crate::ids::{NodeId, RequestId, Revision, TokenId};
use crate::limits::{
    ACTION_BYTES_MAX, ACTOR_BYTES_MAX, BATCH_ITEMS_MAX, ENTRY_BYTES_MAX, LABEL_KEY_BYTES_MAX,
    LABEL_VALUE_BYTES_MAX, LABELS_MAX, NOTE_BYTES_MAX, REASON_BYTES_MAX,
};
use crate::value::{Object, Value};

/// Length of the longest id: eight tokens and seven dots fit well.
const ID_BYTES_MAX: usize = 512;

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

    fn label_patch(&mut self, patch: &LabelPatch) {
        self.count(patch.len());
        for (key, value) in patch {
            self.text(key);
            self.option(value.as_ref(), |writer, value| writer.text(value));
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

    fn label_patch(&mut self) -> Result<LabelPatch, DecodeError> {
        let count = self.count(LABELS_MAX)?;
        let mut patch = LabelPatch::new();
        for _ in 0..count {
            let key = self.shared(LABEL_KEY_BYTES_MAX)?;
            if patch.last_key_value().is_some_and(|(before, _)| *before >= key) {
                return Err(DecodeError::Invalid { what: "the order of labels" });
            }
            let value = self.option(|reader| reader.shared(LABEL_VALUE_BYTES_MAX))?;
            patch.insert(key, value);
        }
        Ok(patch)
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
        writer.u8(self.kind().number());
        match self {
            Command::LinkRegister { .. }
            | Command::LinkDelete { .. }
            | Command::LinkMove { .. }
            | Command::LinkPause { .. } => self.encode_link(writer),
            Command::DeviceRegister { .. }
            | Command::DeviceUpdate { .. }
            | Command::DeviceReplace { .. }
            | Command::DeviceDelete { .. }
            | Command::DeviceMode { .. }
            | Command::DeviceHold { .. }
            | Command::DeviceRelease { .. }
            | Command::DeviceInvoke { .. } => self.encode_device(writer),
            Command::ParamSet { key, value } => {
                writer.text(key.as_str());
                value.encode(writer);
            }
            Command::ParamDelete { key } => writer.text(key.as_str()),
            Command::CommandCancel { request } => request.encode(writer),
            Command::Batch(items) => encode_batch(items, writer),
            Command::Agents(command) => command.encode(writer),
            Command::TokenCreate { .. }
            | Command::TokenRevoke { .. }
            | Command::Join(_)
            | Command::Certify { .. }
            | Command::MemberRemove { .. }
            | Command::MemberPromote { .. }
            | Command::NodeDrain { .. }
            | Command::MemberLabel { .. }
            | Command::SetVoters { .. } => self.encode_admin(writer),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the caller has sorted the commands by what they are about"
    )]
    fn encode_link(&self, writer: &mut Writer) {
        match self {
            Command::LinkRegister { id, spec } => {
                writer.text(id.as_str());
                spec.encode(writer);
            }
            Command::LinkDelete { id } => writer.text(id.as_str()),
            Command::LinkMove { id, to } => {
                writer.text(id.as_str());
                writer.option(to.as_ref(), |writer, to| writer.text(to.as_str()));
            }
            Command::LinkPause { id, paused } => {
                writer.text(id.as_str());
                writer.bool(*paused);
            }
            _ => {}
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the caller has sorted the commands by what they are about"
    )]
    fn encode_device(&self, writer: &mut Writer) {
        match self {
            Command::DeviceRegister { id, spec } => {
                writer.text(id.as_str());
                spec.encode(writer);
            }
            Command::DeviceUpdate { id, patch: object, ttl_ms }
            | Command::DeviceReplace { id, desired: object, ttl_ms } => {
                writer.text(id.as_str());
                object.encode(writer);
                encode_ttl(*ttl_ms, writer);
            }
            Command::DeviceDelete { id } | Command::DeviceRelease { id } => {
                writer.text(id.as_str());
            }
            Command::DeviceMode { id, mode } => {
                writer.text(id.as_str());
                mode.encode(writer);
            }
            Command::DeviceHold { id, reason } => {
                writer.text(id.as_str());
                writer.text(reason);
            }
            Command::DeviceInvoke { id, action, args, ttl_ms } => {
                writer.text(id.as_str());
                writer.text(action);
                args.encode(writer);
                encode_ttl(*ttl_ms, writer);
            }
            _ => {}
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the caller has sorted the commands by what they are about"
    )]
    fn encode_admin(&self, writer: &mut Writer) {
        match self {
            Command::TokenCreate { id, key, ttl_ms, uses, note } => {
                writer.fixed(id.as_bytes());
                writer.fixed(key);
                writer.u64(*ttl_ms);
                writer.u32(*uses);
                writer.text(note);
            }
            Command::TokenRevoke { id } => writer.fixed(id.as_bytes()),
            Command::Join(request) => {
                writer.fixed(request.token.as_bytes());
                writer.text(request.name.as_str());
                encode_keys(&request.keys, writer);
                writer.fixed(&request.proof);
            }
            Command::Certify { node, credential } => {
                writer.u64(node.get());
                writer.fixed(credential);
            }
            Command::MemberRemove { node } | Command::MemberPromote { node } => {
                writer.u64(node.get());
            }
            Command::NodeDrain { node, drain } => {
                writer.u64(node.get());
                writer.bool(*drain);
            }
            Command::MemberLabel { node, labels } => {
                writer.u64(node.get());
                writer.label_patch(labels);
            }
            Command::SetVoters { voters } => writer.u64(u64::from(*voters)),
            _ => {}
        }
    }

    fn decode(reader: &mut Reader<'_>, batch_allowed: bool) -> Result<Self, DecodeError> {
        let kind = CommandKind::decode(reader)?;
        if !batch_allowed && !kind.in_batch() {
            let found = u64::from(kind.number());
            return Err(DecodeError::UnknownKind { what: "a command in a batch", found });
        }
        Ok(match kind {
            CommandKind::LinkRegister => {
                Command::LinkRegister { id: reader.id()?, spec: decode_link_spec(reader)? }
            }
            CommandKind::LinkDelete => Command::LinkDelete { id: reader.id()? },
            CommandKind::LinkMove => {
                Command::LinkMove { id: reader.id()?, to: reader.option(Reader::id)? }
            }
            CommandKind::LinkPause => {
                Command::LinkPause { id: reader.id()?, paused: reader.bool()? }
            }
            CommandKind::ParamSet => {
                Command::ParamSet { key: reader.id()?, value: Value::decode(reader)? }
            }
            CommandKind::ParamDelete => Command::ParamDelete { key: reader.id()? },
            CommandKind::CommandCancel => {
                Command::CommandCancel { request: RequestId::decode(reader)? }
            }
            CommandKind::Batch => decode_batch(reader)?,
            CommandKind::DeviceRegister
            | CommandKind::DeviceUpdate
            | CommandKind::DeviceReplace
            | CommandKind::DeviceDelete
            | CommandKind::DeviceMode
            | CommandKind::DeviceHold
            | CommandKind::DeviceRelease
            | CommandKind::DeviceInvoke => Self::decode_device(kind, reader)?,
            CommandKind::TokenCreate
            | CommandKind::TokenRevoke
            | CommandKind::Join
            | CommandKind::Certify
            | CommandKind::MemberRemove
            | CommandKind::MemberPromote
            | CommandKind::NodeDrain
            | CommandKind::MemberLabel
            | CommandKind::SetVoters => Self::decode_admin(kind, reader)?,
            CommandKind::LinkAssign
            | CommandKind::LinkLetGo
            | CommandKind::Stages
            | CommandKind::Claim
            | CommandKind::InvocationEnd
            | CommandKind::Adopt => Command::Agents(super::AgentCommand::decode(kind, reader)?),
        })
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the caller has sorted the commands by what they are about"
    )]
    fn decode_device(kind: CommandKind, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let id = reader.id()?;
        Ok(match kind {
            CommandKind::DeviceRegister => {
                Command::DeviceRegister { id, spec: decode_device_spec(reader)? }
            }
            CommandKind::DeviceUpdate => Command::DeviceUpdate {
                id,
                patch: Object::decode(reader)?,
                ttl_ms: decode_ttl(reader)?,
            },
            CommandKind::DeviceReplace => Command::DeviceReplace {
                id,
                desired: Object::decode(reader)?,
                ttl_ms: decode_ttl(reader)?,
            },
            CommandKind::DeviceMode => Command::DeviceMode { id, mode: Mode::decode(reader)? },
            CommandKind::DeviceHold => {
                Command::DeviceHold { id, reason: reader.shared(REASON_BYTES_MAX)? }
            }
            CommandKind::DeviceRelease => Command::DeviceRelease { id },
            CommandKind::DeviceInvoke => Command::DeviceInvoke {
                id,
                action: reader.shared(ACTION_BYTES_MAX)?,
                args: Object::decode(reader)?,
                ttl_ms: decode_ttl(reader)?,
            },
            _ => Command::DeviceDelete { id },
        })
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the caller has sorted the commands by what they are about"
    )]
    fn decode_admin(kind: CommandKind, reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match kind {
            CommandKind::TokenCreate => Command::TokenCreate {
                id: TokenId::from_bytes(reader.fixed()?),
                key: reader.fixed()?,
                ttl_ms: reader.u64()?,
                uses: reader.u32()?,
                note: reader.shared(NOTE_BYTES_MAX)?,
            },
            CommandKind::TokenRevoke => {
                Command::TokenRevoke { id: TokenId::from_bytes(reader.fixed()?) }
            }
            CommandKind::Join => Command::Join(JoinRequest {
                token: TokenId::from_bytes(reader.fixed()?),
                name: reader.id()?,
                keys: decode_keys(reader)?,
                proof: reader.fixed()?,
            }),
            CommandKind::Certify => {
                Command::Certify { node: reader.node()?, credential: reader.fixed()? }
            }
            CommandKind::MemberRemove => Command::MemberRemove { node: reader.node()? },
            CommandKind::MemberPromote => Command::MemberPromote { node: reader.node()? },
            CommandKind::NodeDrain => {
                Command::NodeDrain { node: reader.node()?, drain: reader.bool()? }
            }
            CommandKind::MemberLabel => {
                Command::MemberLabel { node: reader.node()?, labels: reader.label_patch()? }
            }
            _ => {
                let voters = u8::try_from(reader.u64()?).map_err(|_| DecodeError::Integer)?;
                Command::SetVoters { voters }
            }
        })
    }
}

fn encode_batch(items: &[BatchItem], writer: &mut Writer) {
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

// An encoded command must fit in an entry; `Proposal::validate` sees to it.
const _: () = assert!(ID_BYTES_MAX < ENTRY_BYTES_MAX);
