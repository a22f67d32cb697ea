//! The closed lists of what can be asked for: commands, queries, administration, single nodes.
//!
//! Each list is an enum with one spelling per variant. The spelling is used in subjects, in the `op`
//! field of a batch and in logs, so it is written once, here.

macro_rules! spelled {
    ($(#[$doc:meta])* $name:ident { $($(#[$vdoc:meta])* $variant:ident = $text:literal,)+ }) => {
        $(#[$doc])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub enum $name { $($(#[$vdoc])* $variant,)+ }

        impl $name {
            /// Every variant, in the order of the contract.
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// The one spelling.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $text,)+ }
            }

            /// The variant spelled like this.
            #[must_use]
            pub fn from_name(text: &str) -> Option<Self> {
                match text { $($text => Some(Self::$variant),)+ _ => None }
            }

            /// "; did you mean …?" for an unknown spelling, or nothing.
            #[must_use]
            pub fn suggestion(text: &str) -> String {
                $crate::suggest::did_you_mean(text, Self::ALL.iter().map(|variant| variant.as_str()))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use spelled;

spelled! {
    /// A command on links, devices and parameters: what goes through the log for users.
    CommandOp {
        /// Make a link known, or change how it is reached.
        LinkRegister = "link.register",
        /// Forget a link that no device uses.
        LinkDelete = "link.delete",
        /// Ask the owner of a link to let go of it, for a named node or whichever is best.
        LinkMove = "link.move",
        /// Write nothing to the devices of a link.
        LinkPause = "link.pause",
        /// Write to the devices of a link again.
        LinkResume = "link.resume",
        /// Make a device known, or change its description; its desired state stays.
        DeviceRegister = "device.register",
        /// Merge a patch into a device's desired state.
        DeviceUpdate = "device.update",
        /// Put a whole desired state in place of the old one.
        DeviceReplace = "device.replace",
        /// Forget a device.
        DeviceDelete = "device.delete",
        /// Say whether a device is written to: `observe`, `manual` or `auto`.
        DeviceMode = "device.mode",
        /// Write nothing to a device, whatever its mode.
        DeviceHold = "device.hold",
        /// End a hold.
        DeviceRelease = "device.release",
        /// Ask a device to do something once.
        DeviceInvoke = "device.invoke",
        /// Take back a command that was not handed to its device yet.
        CommandCancel = "command.cancel",
        /// Set a parameter.
        ParamSet = "param.set",
        /// Forget a parameter.
        ParamDelete = "param.delete",
        /// Several of these in one step of the log: all of them or none.
        Batch = "batch",
    }
}

spelled! {
    /// What can be queried, and what changes and events are about.
    Noun {
        /// A link.
        Link = "link",
        /// A device.
        Device = "device",
        /// A parameter.
        Param = "param",
        /// A member of the site.
        Member = "member",
        /// A join token (never its secret).
        Token = "token",
        /// How far the wishes of a device got.
        Watermarks = "watermarks",
        /// An invocation of a device.
        Invocation = "invocation",
        /// A command that is remembered. Queried only: what it did is told with the thing it was about.
        Command = "command",
        /// The site itself.
        Site = "site",
    }
}

spelled! {
    /// How a noun is queried.
    QueryVerb {
        /// One, by its id.
        Get = "get",
        /// Many, page by page.
        List = "list",
    }
}

spelled! {
    /// Administration of the site.
    AdminOp {
        /// Become a member, with a join token.
        MemberJoin = "member.join",
        /// Remove a member for ever.
        MemberRemove = "member.remove",
        /// Let a standby become a voter.
        MemberPromote = "member.promote",
        /// Let a member have no links that another node could.
        MemberDrain = "member.drain",
        /// Let a member have links again.
        MemberResume = "member.resume",
        /// Give a member labels, which placements of links ask for, or take them away.
        MemberLabel = "member.label",
        /// Say how many voters the site wants.
        VotersSet = "voters.set",
        /// Make a join token.
        TokenCreate = "token.create",
        /// Make a join token useless.
        TokenRevoke = "token.revoke",
        /// Hand the leadership to another voter.
        LeaderTransfer = "leader.transfer",
        /// Take a snapshot on the agent that answers.
        SnapshotTake = "snapshot.take",
        /// Say which snapshots the agent that answers holds.
        SnapshotInfo = "snapshot.info",
    }
}

spelled! {
    /// What a single node is asked.
    NodeVerb {
        /// How it is.
        Status = "status",
        /// A piece of one of its snapshots.
        Snapshot = "snapshot",
        /// What it sees of the others.
        Mesh = "mesh",
        /// How long a round trip from it to another node takes.
        Ping = "ping",
        /// What it finds along a link that it owns.
        Look = "look",
        /// What it did while no majority could be reached, and what became of it.
        Partition = "partition",
    }
}

spelled! {
    /// What an event tells of.
    EventKind {
        /// A link changed.
        Link = "link",
        /// A device's registration or desired state changed.
        Device = "device",
        /// A parameter changed.
        Param = "param",
        /// A member changed.
        Member = "member",
        /// A join token changed.
        Token = "token",
        /// The wishes of a device got further.
        Watermarks = "watermarks",
        /// An invocation came or got further.
        Invocation = "invocation",
        /// What came of a command that had no reply subject.
        Outcome = "outcome",
        /// The current revision, every second.
        Tick = "tick",
        /// Frames from one node to another take another way.
        Way = "way",
        /// Something was written locally, without a majority, or merged afterwards.
        Local = "local",
        /// Somebody else wrote to a device.
        ForeignWrite = "foreign_write",
    }
}

/// Whether a command has a payload.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Payload {
    /// It is empty, or the command is refused.
    Empty,
    /// An object of options, or empty.
    Options,
    /// It is the value.
    Value,
}

impl CommandOp {
    /// Whether it has a payload.
    pub(crate) const fn payload(self) -> Payload {
        match self {
            Self::LinkDelete
            | Self::LinkPause
            | Self::LinkResume
            | Self::DeviceDelete
            | Self::DeviceRelease
            | Self::CommandCancel
            | Self::ParamDelete => Payload::Empty,
            Self::LinkMove | Self::DeviceHold => Payload::Options,
            Self::LinkRegister
            | Self::DeviceRegister
            | Self::DeviceUpdate
            | Self::DeviceReplace
            | Self::DeviceMode
            | Self::DeviceInvoke
            | Self::ParamSet
            | Self::Batch => Payload::Value,
        }
    }

    /// Whether it may stand in a batch.
    pub(crate) const fn in_batch(self) -> bool {
        !matches!(self, Self::Batch | Self::DeviceInvoke | Self::CommandCancel)
    }

    /// Whether it may carry a time limit.
    #[must_use]
    pub const fn takes_ttl(self) -> bool {
        matches!(self, Self::DeviceUpdate | Self::DeviceReplace | Self::DeviceInvoke)
    }
}

impl AdminOp {
    /// What kind of thing it is about, if one.
    #[must_use]
    pub const fn noun(self) -> Option<Noun> {
        match self {
            Self::MemberJoin
            | Self::MemberRemove
            | Self::MemberPromote
            | Self::MemberDrain
            | Self::MemberResume
            | Self::MemberLabel
            | Self::LeaderTransfer => Some(Noun::Member),
            Self::TokenCreate | Self::TokenRevoke => Some(Noun::Token),
            Self::VotersSet | Self::SnapshotTake | Self::SnapshotInfo => None,
        }
    }
}

impl From<&fleet_state::Entity> for Noun {
    fn from(entity: &fleet_state::Entity) -> Self {
        match entity {
            fleet_state::Entity::Link(_) => Self::Link,
            fleet_state::Entity::Device(_) => Self::Device,
            fleet_state::Entity::Param(_) => Self::Param,
            fleet_state::Entity::Member(_) => Self::Member,
            fleet_state::Entity::Token(_) => Self::Token,
            fleet_state::Entity::Watermarks(_) => Self::Watermarks,
            fleet_state::Entity::Invocation { .. } => Self::Invocation,
        }
    }
}
