//! How far the wishes of a device got.

use fleet_state::{Revision, Stage};

/// Every wish up to these revisions has reached the stage.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Marks {
    /// It has left.
    pub sent: Revision,
    /// The device has said that it has it.
    pub acknowledged: Revision,
    /// The device has said that it is so.
    pub verified: Revision,
}

impl Marks {
    /// The higher of both, stage by stage.
    #[must_use]
    pub fn max(self, other: Self) -> Self {
        Self {
            sent: self.sent.max(other.sent),
            acknowledged: self.acknowledged.max(other.acknowledged),
            verified: self.verified.max(other.verified),
        }
    }
}

/// Why a wish isn't where it should be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Trouble {
    /// What kind of reason.
    pub code: TroubleCode,
    /// The reason, for people.
    pub message: String,
    /// The wish.
    pub revision: Revision,
    /// How far the wish got in spite of it: failed; unknown, where nobody can say; verified, where this came after that; sent or
    /// acknowledged, where no more can be known.
    pub stage: Stage,
}

/// Kinds of [`Trouble`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TroubleCode {
    /// The device, or its connector, says that it won't.
    Refused,
    /// It was handed over as often as may be, and the device shows something else.
    NotVerified,
    /// It was enforced as often as may be, and the device shows something else.
    NotEnforced,
    /// It waited for the device, and is not handed over any more.
    Discarded,
    /// It waited for the device, and waits for somebody to wish it again.
    HeldOnReturn,
    /// Another owner claimed it; whether it was handed over in time is not known.
    Unknown,
    /// A local write stands before it, until somebody wishes anew.
    LocalStands,
    /// What the device shows was to become the wish, and the log refused that.
    NotAdopted,
    /// It was handed over, and nobody ever hears what became of it.
    WriteOnly,
    /// The device can't be reached; it is tried again.
    Unreachable,
}

impl TroubleCode {
    const ALL: [Self; 10] = [
        Self::Refused,
        Self::NotVerified,
        Self::NotEnforced,
        Self::Discarded,
        Self::HeldOnReturn,
        Self::Unknown,
        Self::LocalStands,
        Self::NotAdopted,
        Self::WriteOnly,
        Self::Unreachable,
    ];

    /// The kind of this word; a word that this version doesn't know is [`Self::Unknown`].
    #[must_use]
    pub fn of_word(word: &str) -> Self {
        Self::ALL.into_iter().find(|code| code.as_str() == word).unwrap_or(Self::Unknown)
    }

    /// Whether it is a decision that holds for every later owner.
    #[must_use]
    pub fn is_decision(self) -> bool {
        matches!(self, Self::Discarded | Self::HeldOnReturn)
    }

    /// The word of replies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            TroubleCode::Refused => "refused",
            TroubleCode::NotVerified => "not_verified",
            TroubleCode::NotEnforced => "not_enforced",
            TroubleCode::Discarded => "discarded",
            TroubleCode::HeldOnReturn => "held_on_return",
            TroubleCode::Unknown => "unknown",
            TroubleCode::LocalStands => "local_stands",
            TroubleCode::NotAdopted => "not_adopted",
            TroubleCode::WriteOnly => "write_only",
            TroubleCode::Unreachable => "unreachable",
        }
    }
}
