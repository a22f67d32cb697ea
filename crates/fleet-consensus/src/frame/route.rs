//! Which way a frame goes.

use fleet_state::NodeId;

/// The two ways between nodes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Path {
    /// A NATS subject.
    Nats,
    /// The libp2p mesh.
    Mesh,
}

impl Path {
    /// How many there are.
    pub const COUNT: usize = 2;

    /// The word for logs and counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Nats => "nats",
            Self::Mesh => "mesh",
        }
    }

    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Nats => 0,
            Self::Mesh => 1,
        }
    }

    /// The other one.
    #[must_use]
    pub const fn other(self) -> Self {
        match self {
            Self::Nats => Self::Mesh,
            Self::Mesh => Self::Nats,
        }
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Nats),
            1 => Some(Self::Mesh),
            _ => None,
        }
    }
}

/// Frames of a class stay in order among themselves; those of another may overtake them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// Heartbeats, votes, answers, reads, greetings: small, and late is useless.
    Urgent,
    /// Appends and proposals.
    Normal,
    /// Snapshots.
    Bulk,
}

impl Class {
    /// How many there are.
    pub const COUNT: usize = 3;

    /// The word for logs and counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Urgent => "urgent",
            Self::Normal => "normal",
            Self::Bulk => "bulk",
        }
    }

    pub(super) const fn code(self) -> u8 {
        match self {
            Self::Urgent => 0,
            Self::Normal => 1,
            Self::Bulk => 2,
        }
    }

    pub(super) const fn from_code(code: u8) -> Option<Self> {
        match code {
            0 => Some(Self::Urgent),
            1 => Some(Self::Normal),
            2 => Some(Self::Bulk),
            _ => None,
        }
    }
}

/// Where a payload goes and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Route {
    /// The receiver.
    pub to: NodeId,
    /// The way.
    pub path: Path,
    /// The queue.
    pub class: Class,
    /// What the way takes in one piece, all of the frame counted.
    pub frame_bytes_max: usize,
    /// A way on which the sender hears nothing of the receiver, though the other one carries its
    /// frames. The receiver can't see that by itself: what it sends there vanishes.
    pub unheard: Option<Path>,
}

/// How an authentic frame came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Arrival {
    /// By which way.
    pub path: Path,
    /// Under which class.
    pub class: Class,
    /// The way on which its sender does not hear this node, though it does on the other.
    pub unheard: Option<Path>,
}
