//! The kinds of commands: their numbers in the log, their names in replies, and the feature level that each came with.

use super::{AgentCommand, Command};
use crate::codec::{DecodeError, Reader, Writer};
use crate::record::Entity;

macro_rules! command_kinds {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $text:literal, $level:literal;)*) => {
        /// What kind of command something is. Numbers are replicated and never change their meaning.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum CommandKind {
            $($(#[$doc])* $name,)*
        }

        impl CommandKind {
            /// All kinds, in the order of their numbers.
            pub const ALL: &'static [CommandKind] = &[$(CommandKind::$name),*];

            /// The kind as it stands in replies.
            #[must_use]
            pub fn as_str(self) -> &'static str {
                match self { $(CommandKind::$name => $text,)* }
            }

            /// The feature level that it came with.
            #[must_use]
            pub fn feature_level(self) -> u16 {
                match self { $(CommandKind::$name => $level,)* }
            }

            pub(crate) fn number(self) -> u8 {
                match self { $(CommandKind::$name => $number,)* }
            }

            fn from_number(number: u8) -> Option<Self> {
                match number { $($number => Some(CommandKind::$name),)* _ => None }
            }
        }
    };
}

command_kinds! {
    /// [`Command::LinkRegister`]
    LinkRegister = 1, "link.register", 1;
    /// [`Command::LinkDelete`]
    LinkDelete = 2, "link.delete", 1;
    /// [`Command::DeviceRegister`]
    DeviceRegister = 3, "device.register", 1;
    /// [`Command::DeviceUpdate`]
    DeviceUpdate = 4, "device.update", 1;
    /// [`Command::DeviceReplace`]
    DeviceReplace = 5, "device.replace", 1;
    /// [`Command::DeviceDelete`]
    DeviceDelete = 6, "device.delete", 1;
    /// [`Command::ParamSet`]
    ParamSet = 7, "param.set", 1;
    /// [`Command::ParamDelete`]
    ParamDelete = 8, "param.delete", 1;
    /// [`Command::Batch`]
    Batch = 9, "batch", 1;
    /// [`Command::TokenCreate`]
    TokenCreate = 10, "token.create", 1;
    /// [`Command::TokenRevoke`]
    TokenRevoke = 11, "token.revoke", 1;
    /// [`Command::Join`]
    Join = 12, "member.join", 1;
    /// [`Command::Certify`]
    Certify = 13, "member.certify", 1;
    /// [`Command::MemberRemove`]
    MemberRemove = 14, "member.remove", 1;
    /// [`Command::MemberPromote`]
    MemberPromote = 15, "member.promote", 1;
    /// [`Command::SetVoters`]
    SetVoters = 16, "voters.set", 1;
    /// [`Command::LinkMove`]
    LinkMove = 17, "link.move", 1;
    /// [`Command::LinkPause`]
    LinkPause = 18, "link.pause", 1;
    /// [`Command::DeviceMode`]
    DeviceMode = 19, "device.mode", 1;
    /// [`Command::DeviceHold`]
    DeviceHold = 20, "device.hold", 1;
    /// [`Command::DeviceRelease`]
    DeviceRelease = 21, "device.release", 1;
    /// [`Command::DeviceInvoke`]
    DeviceInvoke = 22, "device.invoke", 1;
    /// [`Command::CommandCancel`]
    CommandCancel = 23, "command.cancel", 1;
    /// [`Command::NodeDrain`]
    NodeDrain = 24, "member.drain", 1;
    /// [`AgentCommand::LinkAssign`]
    LinkAssign = 25, "link.assign", 1;
    /// [`AgentCommand::LinkRelease`]
    LinkLetGo = 26, "link.release", 1;
    /// [`AgentCommand::Stages`]
    Stages = 27, "stages", 1;
    /// [`AgentCommand::Claim`]
    Claim = 28, "claim", 1;
    /// [`AgentCommand::InvocationEnd`]
    InvocationEnd = 29, "invocation.end", 1;
    /// [`AgentCommand::Adopt`]
    Adopt = 30, "adopt", 1;
    /// [`Command::MemberLabel`]
    MemberLabel = 31, "member.label", 1;
}

impl CommandKind {
    /// Whether agents alone propose it, and no user may.
    #[must_use]
    pub fn is_agents_own(self) -> bool {
        matches!(
            self,
            CommandKind::Certify
                | CommandKind::LinkAssign
                | CommandKind::LinkLetGo
                | CommandKind::Stages
                | CommandKind::Claim
                | CommandKind::InvocationEnd
                | CommandKind::Adopt
        )
    }

    /// Whether it may stand in a batch: links, devices and parameters, and nothing that happens once.
    #[must_use]
    pub fn in_batch(self) -> bool {
        matches!(
            self,
            CommandKind::LinkRegister
                | CommandKind::LinkDelete
                | CommandKind::LinkMove
                | CommandKind::LinkPause
                | CommandKind::DeviceRegister
                | CommandKind::DeviceUpdate
                | CommandKind::DeviceReplace
                | CommandKind::DeviceDelete
                | CommandKind::DeviceMode
                | CommandKind::DeviceHold
                | CommandKind::DeviceRelease
                | CommandKind::ParamSet
                | CommandKind::ParamDelete
        )
    }

    pub(crate) fn encode(self, writer: &mut Writer) {
        writer.u8(self.number());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = reader.u8()?;
        let unknown = DecodeError::UnknownKind { what: "a command", found: u64::from(number) };
        Self::from_number(number).ok_or(unknown)
    }
}

impl Command {
    /// What kind of command it is.
    #[must_use]
    pub fn kind(&self) -> CommandKind {
        match self {
            Command::LinkRegister { .. } => CommandKind::LinkRegister,
            Command::LinkDelete { .. } => CommandKind::LinkDelete,
            Command::LinkMove { .. } => CommandKind::LinkMove,
            Command::LinkPause { .. } => CommandKind::LinkPause,
            Command::DeviceRegister { .. } => CommandKind::DeviceRegister,
            Command::DeviceUpdate { .. } => CommandKind::DeviceUpdate,
            Command::DeviceReplace { .. } => CommandKind::DeviceReplace,
            Command::DeviceDelete { .. } => CommandKind::DeviceDelete,
            Command::DeviceMode { .. } => CommandKind::DeviceMode,
            Command::DeviceHold { .. } => CommandKind::DeviceHold,
            Command::DeviceRelease { .. } => CommandKind::DeviceRelease,
            Command::DeviceInvoke { .. } => CommandKind::DeviceInvoke,
            Command::CommandCancel { .. } => CommandKind::CommandCancel,
            Command::ParamSet { .. } => CommandKind::ParamSet,
            Command::ParamDelete { .. } => CommandKind::ParamDelete,
            Command::Batch(_) => CommandKind::Batch,
            Command::TokenCreate { .. } => CommandKind::TokenCreate,
            Command::TokenRevoke { .. } => CommandKind::TokenRevoke,
            Command::Join(_) => CommandKind::Join,
            Command::Certify { .. } => CommandKind::Certify,
            Command::MemberRemove { .. } => CommandKind::MemberRemove,
            Command::MemberPromote { .. } => CommandKind::MemberPromote,
            Command::NodeDrain { .. } => CommandKind::NodeDrain,
            Command::MemberLabel { .. } => CommandKind::MemberLabel,
            Command::SetVoters { .. } => CommandKind::SetVoters,
            Command::Agents(command) => command.kind(),
        }
    }
}

impl Command {
    /// The feature level that it came with: it is proposed once the site has that.
    #[must_use]
    pub fn feature_level(&self) -> u16 {
        let own = self.kind().feature_level();
        let Command::Batch(items) = self else { return own };
        items.iter().map(|item| item.command.feature_level()).fold(own, u16::max)
    }

    /// The link, device or parameter that it is about, when it is about one.
    #[must_use]
    pub fn about(&self) -> Option<Entity> {
        match self {
            Command::LinkRegister { id, .. }
            | Command::LinkDelete { id }
            | Command::LinkMove { id, .. }
            | Command::LinkPause { id, .. } => Some(Entity::Link(id.clone())),
            Command::DeviceRegister { id, .. }
            | Command::DeviceUpdate { id, .. }
            | Command::DeviceReplace { id, .. }
            | Command::DeviceDelete { id }
            | Command::DeviceMode { id, .. }
            | Command::DeviceHold { id, .. }
            | Command::DeviceRelease { id }
            | Command::DeviceInvoke { id, .. } => Some(Entity::Device(id.clone())),
            Command::ParamSet { key, .. } | Command::ParamDelete { key } => {
                Some(Entity::Param(key.clone()))
            }
            Command::Agents(command) => Some(Entity::Link(command.link().clone())),
            Command::MemberRemove { node }
            | Command::MemberPromote { node }
            | Command::Certify { node, .. }
            | Command::NodeDrain { node, .. }
            | Command::MemberLabel { node, .. } => Some(Entity::Member(*node)),
            Command::TokenCreate { id, .. } | Command::TokenRevoke { id } => {
                Some(Entity::Token(*id))
            }
            Command::CommandCancel { .. }
            | Command::Batch(_)
            | Command::Join(_)
            | Command::SetVoters { .. } => None,
        }
    }
}

impl AgentCommand {
    fn kind(&self) -> CommandKind {
        match self {
            AgentCommand::LinkAssign { .. } => CommandKind::LinkAssign,
            AgentCommand::LinkRelease { .. } => CommandKind::LinkLetGo,
            AgentCommand::Stages { .. } => CommandKind::Stages,
            AgentCommand::Claim { .. } => CommandKind::Claim,
            AgentCommand::InvocationEnd { .. } => CommandKind::InvocationEnd,
            AgentCommand::Adopt { .. } => CommandKind::Adopt,
        }
    }
}
