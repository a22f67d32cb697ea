//! How far a command got toward its device.
//!
//! A command goes through committed, dispatching, sent, acknowledged and verified, as far as its device's protocol
//! can tell, or ends at one of failed, expired, cancelled, superseded and unknown. Sent and acknowledged are both a
//! place on the way and, where a protocol can tell no more, the end.

use crate::codec::{DecodeError, Reader, Writer};

/// How far a command got toward its device, or how it ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Stage {
    /// In the log of a majority; nothing has left for the device.
    Committed,
    /// Its owner may be handing it to the device.
    Dispatching,
    /// Handed to the device's protocol.
    Sent,
    /// The device itself said that it took it.
    Acknowledged,
    /// The device reported what was wanted, read after the write.
    Verified,
    /// The device or its connector refused it.
    Failed,
    /// Its time was up before it was handed over: it never happened.
    Expired,
    /// It was taken back before it was handed over: it never happened.
    Cancelled,
    /// A newer command took its place.
    Superseded,
    /// Nobody can tell whether the device acted.
    Unknown,
}

impl Stage {
    /// All stages: those on the way, in order, then the other ends.
    pub const ALL: [Stage; 10] = [
        Stage::Committed,
        Stage::Dispatching,
        Stage::Sent,
        Stage::Acknowledged,
        Stage::Verified,
        Stage::Failed,
        Stage::Expired,
        Stage::Cancelled,
        Stage::Superseded,
        Stage::Unknown,
    ];

    /// The stage as it stands in replies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Stage::Committed => "committed",
            Stage::Dispatching => "dispatching",
            Stage::Sent => "sent",
            Stage::Acknowledged => "acknowledged",
            Stage::Verified => "verified",
            Stage::Failed => "failed",
            Stage::Expired => "expired",
            Stage::Cancelled => "cancelled",
            Stage::Superseded => "superseded",
            Stage::Unknown => "unknown",
        }
    }

    /// The stage of this name.
    #[must_use]
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.as_str() == name)
    }

    /// Whether nothing can follow.
    #[must_use]
    pub fn is_final(self) -> bool {
        matches!(
            self,
            Stage::Verified
                | Stage::Failed
                | Stage::Expired
                | Stage::Cancelled
                | Stage::Superseded
                | Stage::Unknown
        )
    }

    /// Whether its owner has yet to tell what became of it.
    #[must_use]
    pub fn is_open(self) -> bool {
        matches!(self, Stage::Committed | Stage::Dispatching)
    }

    fn number(self) -> u8 {
        match self {
            Stage::Committed => 1,
            Stage::Dispatching => 2,
            Stage::Sent => 3,
            Stage::Acknowledged => 4,
            Stage::Verified => 5,
            Stage::Failed => 6,
            Stage::Expired => 7,
            Stage::Cancelled => 8,
            Stage::Superseded => 9,
            Stage::Unknown => 10,
        }
    }

    pub(crate) fn encode(self, writer: &mut Writer) {
        writer.u8(self.number());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let number = reader.u8()?;
        let unknown = DecodeError::UnknownKind { what: "a stage", found: u64::from(number) };
        Self::ALL.into_iter().find(|stage| stage.number() == number).ok_or(unknown)
    }
}
