//! What a message is about: an operation or a noun together with validated ids.
//!
//! Targets are what subjects are built from and what they are read into. Inside the project a target
//! is passed around, never its text.

use fleet_state::{
    DeviceId, Entity, IdError, LinkId, NodeId, ParamKey, RequestId, Revision, TokenId,
};

use crate::{Area, CommandOp, Noun};

/// What a command is about: the operation and a validated id.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(missing_docs)] // Named as the operations are; see `CommandOp`.
pub enum CommandTarget {
    LinkRegister(LinkId),
    LinkDelete(LinkId),
    LinkMove(LinkId),
    LinkPause(LinkId),
    LinkResume(LinkId),
    DeviceRegister(DeviceId),
    DeviceUpdate(DeviceId),
    DeviceReplace(DeviceId),
    DeviceDelete(DeviceId),
    DeviceMode(DeviceId),
    DeviceHold(DeviceId),
    DeviceRelease(DeviceId),
    DeviceInvoke(DeviceId),
    CommandCancel(RequestId),
    ParamSet(ParamKey),
    ParamDelete(ParamKey),
    Batch,
}

/// What a query is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum QueryTarget {
    /// The site itself.
    Site,
    /// One thing.
    Get(Entity),
    /// What is remembered of one command.
    Command(RequestId),
    /// Many things, perhaps of one area only.
    List {
        /// Which kind of thing.
        noun: Noun,
        /// Ids outside of it are left out.
        area: Option<Area>,
    },
}

/// Which changes are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangesTarget {
    /// Changes after this revision.
    pub since: Revision,
    /// Only of this noun.
    pub noun: Option<Noun>,
    /// Only in this area; only together with a noun.
    pub area: Option<Area>,
}

impl CommandTarget {
    /// The target of an operation on an id; `id` is empty for a batch.
    pub fn new(op: CommandOp, id: &str) -> Result<Self, String> {
        fn parsed<T>(
            id: &str,
            make: impl FnOnce(T) -> CommandTarget,
        ) -> Result<CommandTarget, String>
        where
            T: std::str::FromStr<Err = IdError>,
        {
            id.parse().map(make).map_err(|error| error.to_string())
        }
        match op {
            CommandOp::LinkRegister => parsed(id, Self::LinkRegister),
            CommandOp::LinkDelete => parsed(id, Self::LinkDelete),
            CommandOp::DeviceRegister => parsed(id, Self::DeviceRegister),
            CommandOp::DeviceUpdate => parsed(id, Self::DeviceUpdate),
            CommandOp::DeviceReplace => parsed(id, Self::DeviceReplace),
            CommandOp::DeviceDelete => parsed(id, Self::DeviceDelete),
            CommandOp::LinkMove => parsed(id, Self::LinkMove),
            CommandOp::LinkPause => parsed(id, Self::LinkPause),
            CommandOp::LinkResume => parsed(id, Self::LinkResume),
            CommandOp::DeviceMode => parsed(id, Self::DeviceMode),
            CommandOp::DeviceHold => parsed(id, Self::DeviceHold),
            CommandOp::DeviceRelease => parsed(id, Self::DeviceRelease),
            CommandOp::DeviceInvoke => parsed(id, Self::DeviceInvoke),
            CommandOp::CommandCancel => parsed(id, Self::CommandCancel),
            CommandOp::ParamSet => parsed(id, Self::ParamSet),
            CommandOp::ParamDelete => parsed(id, Self::ParamDelete),
            CommandOp::Batch if id.is_empty() => Ok(Self::Batch),
            CommandOp::Batch => {
                Err("a batch has no id of its own; each item names its own".to_owned())
            }
        }
    }

    /// The operation.
    #[must_use]
    pub fn op(&self) -> CommandOp {
        match self {
            Self::LinkRegister(_) => CommandOp::LinkRegister,
            Self::LinkDelete(_) => CommandOp::LinkDelete,
            Self::LinkMove(_) => CommandOp::LinkMove,
            Self::LinkPause(_) => CommandOp::LinkPause,
            Self::LinkResume(_) => CommandOp::LinkResume,
            Self::DeviceRegister(_) => CommandOp::DeviceRegister,
            Self::DeviceUpdate(_) => CommandOp::DeviceUpdate,
            Self::DeviceReplace(_) => CommandOp::DeviceReplace,
            Self::DeviceDelete(_) => CommandOp::DeviceDelete,
            Self::DeviceMode(_) => CommandOp::DeviceMode,
            Self::DeviceHold(_) => CommandOp::DeviceHold,
            Self::DeviceRelease(_) => CommandOp::DeviceRelease,
            Self::DeviceInvoke(_) => CommandOp::DeviceInvoke,
            Self::CommandCancel(_) => CommandOp::CommandCancel,
            Self::ParamSet(_) => CommandOp::ParamSet,
            Self::ParamDelete(_) => CommandOp::ParamDelete,
            Self::Batch => CommandOp::Batch,
        }
    }

    /// What it is about, which a batch and a cancellation do not have.
    #[must_use]
    pub fn entity(&self) -> Option<Entity> {
        match self {
            Self::LinkRegister(id)
            | Self::LinkDelete(id)
            | Self::LinkMove(id)
            | Self::LinkPause(id)
            | Self::LinkResume(id) => Some(Entity::Link(id.clone())),
            Self::DeviceRegister(id)
            | Self::DeviceUpdate(id)
            | Self::DeviceReplace(id)
            | Self::DeviceDelete(id)
            | Self::DeviceMode(id)
            | Self::DeviceHold(id)
            | Self::DeviceRelease(id)
            | Self::DeviceInvoke(id) => Some(Entity::Device(id.clone())),
            Self::ParamSet(key) | Self::ParamDelete(key) => Some(Entity::Param(key.clone())),
            Self::CommandCancel(_) | Self::Batch => None,
        }
    }

    /// Whether the thing is there after the command was carried out, and the command gave it its revision.
    #[must_use]
    pub fn leaves_thing(&self) -> bool {
        !matches!(
            self.op(),
            CommandOp::LinkDelete
                | CommandOp::DeviceDelete
                | CommandOp::DeviceInvoke
                | CommandOp::CommandCancel
                | CommandOp::ParamDelete
                | CommandOp::Batch
        )
    }

    /// The id, which a batch does not have.
    #[must_use]
    pub fn id(&self) -> Option<String> {
        if let Self::CommandCancel(id) = self {
            return Some(id.to_string());
        }
        self.entity().map(|entity| entity.id_text())
    }
}

impl std::fmt::Display for CommandTarget {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(self.op().as_str())?;
        self.id().map_or(Ok(()), |id| write!(f, ".{id}"))
    }
}

/// The thing of a noun with this id.
pub fn entity(noun: Noun, id: &str) -> Result<Entity, String> {
    match noun {
        Noun::Link => id.parse().map(Entity::Link).map_err(|error| error.to_string()),
        Noun::Device => id.parse().map(Entity::Device).map_err(|error| error.to_string()),
        Noun::Param => id.parse().map(Entity::Param).map_err(|error| error.to_string()),
        Noun::Member => id.parse::<NodeId>().map(Entity::Member).map_err(|error| error.to_string()),
        Noun::Token => id.parse::<TokenId>().map(Entity::Token).map_err(|error| error.to_string()),
        Noun::Watermarks => id.parse().map(Entity::Watermarks).map_err(|error| error.to_string()),
        Noun::Invocation => invocation(id),
        Noun::Command => Err("commands are asked for by their request ids".to_owned()),
        Noun::Site => Err("the site has no id; ask for site.get".to_owned()),
    }
}

/// `<device>/<request id>`, as changes name an invocation.
fn invocation(text: &str) -> Result<Entity, String> {
    let (device, id) =
        text.split_once('/').ok_or("an invocation is named <device>/<request id>".to_owned())?;
    let device = device.parse().map_err(|error: IdError| error.to_string())?;
    let id = id.parse().map_err(|error: IdError| error.to_string())?;
    Ok(Entity::Invocation { device, id })
}

/// How changes name a thing within its noun.
#[must_use]
pub fn id_text(entity: &Entity) -> String {
    match entity {
        // Its area is that of its device.
        Entity::Invocation { device, id } => format!("{device}/{id}"),
        Entity::Link(_)
        | Entity::Device(_)
        | Entity::Param(_)
        | Entity::Member(_)
        | Entity::Token(_)
        | Entity::Watermarks(_) => entity.id_text(),
    }
}
