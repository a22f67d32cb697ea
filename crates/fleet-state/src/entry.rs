//! What stands in the Raft log.
//!
//! An entry carries two times, both stamped by the leader: log time, a monotonic clock that deadlines live by, and
//! wall time, for display. `apply` has no other clock.
//!
//! The first byte is the version of the encoding, the second the kind of the entry. An entry that this binary
//! cannot decode must stop the node and is never skipped: the other nodes may have applied it.

use crate::codec::{DecodeError, Reader, Writer};
use crate::command::Proposal;
use crate::ids::NodeId;
use crate::limits::ENTRY_BYTES_MAX;

const VERSION: u8 = 1;
const PROPOSAL: u8 = 1;
const TIME_TICK: u8 = 2;
const MEMBER_LEVEL: u8 = 3;
const TIME_LOST: u8 = 4;

/// One entry of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The leader's monotonic clock, counted on from the entry before.
    pub log_time_ms: u64,
    /// The leader's wall clock, in milliseconds since 1970. For display only.
    pub wall_time_ms: u64,
    /// What it asks for.
    pub body: Body,
}

/// What an entry asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Body {
    /// A command of a user or an agent.
    Proposal(Proposal),
    /// Nothing but the passing of log time: a deadline is due.
    TimeTick,
    /// The highest feature level that a member's program reads, as the member told the leader. When all read a higher
    /// one than the site has, the site has it from here on: see [`crate::FleetState::feature_level`].
    MemberLevel {
        /// Which member.
        node: NodeId,
        /// What its program reads.
        level: u16,
    },
    /// The leader can't vouch for how late it is: every node that could tell has restarted. Whatever waits for a device
    /// with a time limit has run out of it.
    TimeLost,
}

impl Entry {
    /// The entry as bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match &self.body {
            Body::Proposal(proposal) => {
                Self::encode_with(self.log_time_ms, self.wall_time_ms, &proposal.encode())
            }
            Body::TimeLost => header(TIME_LOST, self.log_time_ms, self.wall_time_ms).into_vec(),
            Body::TimeTick => header(TIME_TICK, self.log_time_ms, self.wall_time_ms).into_vec(),
            Body::MemberLevel { node, level } => {
                let mut writer = header(MEMBER_LEVEL, self.log_time_ms, self.wall_time_ms);
                writer.u64(node.get());
                writer.u16(*level);
                writer.into_vec()
            }
        }
    }

    /// The bytes of an entry for a proposal that is encoded already.
    #[must_use]
    pub fn encode_with(log_time_ms: u64, wall_time_ms: u64, encoded_proposal: &[u8]) -> Vec<u8> {
        let mut writer = header(PROPOSAL, log_time_ms, wall_time_ms);
        writer.fixed(encoded_proposal);
        writer.into_vec()
    }

    /// An entry from bytes.
    ///
    /// # Errors
    /// The bytes are not exactly one entry of a version and kind that this binary knows. The caller stops the node.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        if bytes.len() > ENTRY_BYTES_MAX {
            return Err(DecodeError::TooLong { found: bytes.len() as u64, limit: ENTRY_BYTES_MAX });
        }
        let mut reader = Reader::new(bytes);
        let version = reader.u8()?;
        if version != VERSION {
            return Err(DecodeError::UnknownVersion {
                what: "an entry",
                found: u64::from(version),
            });
        }
        let kind = reader.u8()?;
        let log_time_ms = reader.u64()?;
        let wall_time_ms = reader.u64()?;
        let body = match kind {
            PROPOSAL => Body::Proposal(Proposal::read(&mut reader)?),
            TIME_TICK => Body::TimeTick,
            TIME_LOST => Body::TimeLost,
            MEMBER_LEVEL => Body::MemberLevel { node: reader.node()?, level: reader.u16()? },
            found => {
                return Err(DecodeError::UnknownKind { what: "an entry", found: u64::from(found) });
            }
        };
        reader.finish()?;
        Ok(Self { log_time_ms, wall_time_ms, body })
    }
}

fn header(kind: u8, log_time_ms: u64, wall_time_ms: u64) -> Writer {
    let mut writer = Writer::with_capacity(64);
    writer.u8(VERSION);
    writer.u8(kind);
    writer.u64(log_time_ms);
    writer.u64(wall_time_ms);
    writer
}
