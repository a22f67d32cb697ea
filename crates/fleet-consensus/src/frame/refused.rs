//! Why a frame was not taken.

/// Why a frame was not taken. Each is counted under its own word; none changed anything, unless said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, thiserror::Error)]
pub enum Refused {
    /// The bytes end inside the header or before the tag.
    #[error("the frame is cut short")]
    Truncated,
    /// Other bytes, or a version of frames that this binary doesn't know.
    #[error("these bytes are not a frame of this version")]
    NotAFrame,
    /// A field of the header has no meaning.
    #[error("the header of the frame is not valid")]
    BadHeader,
    /// Larger than any payload of ours.
    #[error("the payload is above the limit")]
    TooLarge,
    /// Of another site.
    #[error("the frame is of another site")]
    WrongSite,
    /// For another node.
    #[error("the frame is for another node")]
    NotForMe,
    /// It says that this node sent it.
    #[error("the frame claims to be from this node itself")]
    FromMyself,
    /// Sealed for another way than the one it came by.
    #[error("the frame was sealed for another way")]
    WrongPath,
    /// No record of the sender and no credential.
    #[error("the sender is not known and shows no credential")]
    UnknownSender,
    /// The site key did not sign this credential.
    #[error("the sender's credential is not signed by the site")]
    BadCredential,
    /// Too many strangers at once; the frame was not looked at.
    #[error("too many unknown senders at a time")]
    TooManyStrangers,
    /// The sender was removed from the site.
    #[error("the sender was removed from the site")]
    Removed,
    /// The seal does not fit the bytes.
    #[error("the seal of the frame is broken")]
    BadSeal,
    /// This frame, or a later one, was taken before.
    #[error("the frame is a replay or came too late")]
    Replay,
    /// From an earlier start of the sender.
    #[error("the frame is from an earlier start of its sender")]
    StaleBoot,
    /// Two starts of the sender have the same boot counter: its data directory was copied or set back.
    #[error(
        "two starts of the sender share a boot counter; was its data directory copied or restored from a backup?"
    )]
    BootReused,
    /// A member has heard a later start of this node than this one: the data directory was set
    /// back to an older copy, and with it what this node voted for. The replica must stop.
    #[error("a member has heard later starts of this node than this one")]
    RolledBack,
    /// Sealed for an earlier start of this node. The sender is greeted, so that it learns of this one.
    #[error("the frame was sealed for an earlier start of this node")]
    NotFresh,
    /// Its fragments don't fit together, or the payload can't be read. The frame counts as seen.
    #[error("the content of the frame can't be read")]
    Malformed,
    /// Too many unfinished payloads. What the sender had begun is dropped.
    #[error("too many unfinished payloads")]
    ReassemblyFull,
}

impl Refused {
    /// The word for logs and counters.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Truncated => "truncated",
            Self::NotAFrame => "not_a_frame",
            Self::BadHeader => "bad_header",
            Self::TooLarge => "too_large",
            Self::WrongSite => "wrong_site",
            Self::NotForMe => "not_for_me",
            Self::FromMyself => "from_myself",
            Self::WrongPath => "wrong_path",
            Self::UnknownSender => "unknown_sender",
            Self::BadCredential => "bad_credential",
            Self::RolledBack => "rolled_back",
            Self::TooManyStrangers => "too_many_strangers",
            Self::Removed => "removed",
            Self::BadSeal => "bad_seal",
            Self::Replay => "replay",
            Self::StaleBoot => "stale_boot",
            Self::BootReused => "boot_reused",
            Self::NotFresh => "not_fresh",
            Self::Malformed => "malformed",
            Self::ReassemblyFull => "reassembly_full",
        }
    }
}
