//! The memory of answers, by which a retry is told the first answer instead of being carried out again.
//!
//! It holds, per request id, a digest of the command and the answer: for ten minutes of log time, and for 65,536
//! requests at most. Both bounds are counted in log entries and log time, so every node forgets the same answers at
//! the same entry.
//!
//! What is forgotten leaves a trace when the id is a UUIDv7: such ids order by time, so the newest one forgotten is a
//! horizon, and an unknown id at or below it is refused as expired, because nobody can tell whether it was carried
//! out. Hence nothing with such an id is ever carried out twice; the price is that the horizon may refuse a new id as
//! well, and the rules of forgetting keep it behind all clocks that are nearly right:
//!
//! - By age an answer goes when its stamp, too, is as old as the window. One client with a fast clock would otherwise
//!   lift the horizon into everybody's present, ten minutes after each of its commands.
//! - For want of room the lowest stamp among the oldest answers goes, not the oldest one whatever its stamp. A stamp
//!   that is ahead is held until the others have come up to it.
//! - A stamp far ahead of the site's clock does not move the horizon: it would shut everybody out until then. Such an
//!   answer stays until the clock has caught up, or, as with ids that are no UUIDv7, until others need the room. It is
//!   not known whose clock is the wrong one.

use std::sync::Arc;

use imbl::OrdMap;
use sha2::{Digest as _, Sha256};

use crate::codec::{DecodeError, Reader, Writer};
use crate::command::{CommandKind, Proposal};
use crate::digest::{Section, Sum};
use crate::ids::{RequestId, Revision, uuid_v7_unix_ms};
use crate::limits::{
    DEDUP_CLOCK_AHEAD_MS_MAX, DEDUP_COMPARED_MAX, DEDUP_EVICTIONS_PER_ENTRY_MAX, DEDUP_RECORDS_MAX,
    DEDUP_WINDOW_MS, MESSAGE_BYTES_MAX,
};
use crate::outcome::{Accepted, Answer, Outcome, RejectCode, Rejection};
use crate::record::Entity;
use crate::seeded;

/// A remembered answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) request_id: RequestId,
    pub(crate) command: [u8; 16],
    /// What kind of command it was.
    pub(crate) kind: CommandKind,
    /// The link, device or parameter that it was about, when it was about one.
    pub(crate) about: Option<Entity>,
    /// Whether it asked something of a device that its link's owner has to see to.
    pub(crate) wished: bool,
    pub(crate) log_time_ms: u64,
    pub(crate) answer: Answer,
}

/// What the memory says to a request id.
pub(crate) enum Recall {
    New,
    Repeated(Answer),
    Reused,
    Expired,
}

#[derive(Clone, Default)]
pub(crate) struct Dedup {
    by_revision: OrdMap<Revision, Arc<Remembered>>,
    by_id: OrdMap<RequestId, Revision>,
    horizon: Option<[u8; 16]>,
    sum: Sum,
}

/// What must be the same for two proposals to be the same command: the precondition and the command.
pub(crate) fn command_digest(proposal: &Proposal) -> [u8; 16] {
    let mut writer = Writer::with_capacity(256);
    proposal.write_command(&mut writer);
    let hash: [u8; 32] = Sha256::digest(writer.as_slice()).into();
    let mut digest = [0u8; 16];
    for (slot, byte) in digest.iter_mut().zip(hash) {
        *slot = byte;
    }
    digest
}

impl Dedup {
    pub(crate) fn len(&self) -> usize {
        self.by_revision.len()
    }

    pub(crate) fn sum(&self) -> Sum {
        self.sum
    }

    pub(crate) fn horizon(&self) -> Option<[u8; 16]> {
        self.horizon
    }

    pub(crate) fn set_horizon(&mut self, horizon: Option<[u8; 16]>) {
        self.horizon = horizon;
    }

    /// In the order of their revisions.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<Remembered>> {
        self.by_revision.values()
    }

    /// The newest first.
    pub(crate) fn iter_back(&self) -> impl Iterator<Item = &Arc<Remembered>> {
        self.by_revision.values().rev()
    }

    pub(crate) fn answer(&self, id: &RequestId) -> Option<&Remembered> {
        let revision = self.by_id.get(id)?;
        self.by_revision.get(revision).map(Arc::as_ref)
    }

    pub(crate) fn recall(&self, id: &RequestId, command: &[u8; 16]) -> Recall {
        match self.answer(id) {
            Some(known) if known.command == *command => Recall::Repeated(known.answer.clone()),
            Some(_) => Recall::Reused,
            None => match (id.uuid_v7(), self.horizon) {
                (Some(uuid), Some(horizon)) if uuid <= horizon => Recall::Expired,
                _ => Recall::New,
            },
        }
    }

    /// Remembers an answer; the caller has seen that the id is new.
    pub(crate) fn remember(&mut self, remembered: Remembered, wall_time_ms: u64) {
        self.insert(Arc::new(remembered));
        if self.len() > DEDUP_RECORDS_MAX {
            self.make_room(wall_time_ms);
        }
    }

    pub(crate) fn insert(&mut self, remembered: Arc<Remembered>) {
        self.sum.add(Section::Dedup, remembered.bytes().as_slice());
        self.by_id.insert(remembered.request_id.clone(), remembered.answer.revision);
        self.by_revision.insert(remembered.answer.revision, remembered);
    }

    /// Forgets answers whose time is over, a few per call.
    pub(crate) fn forget_aged(&mut self, log_time_ms: u64, wall_time_ms: u64) {
        let hasty = seeded::on("answers-forgotten-early");
        let window_ms = if hasty { 100 } else { DEDUP_WINDOW_MS };
        let aged = |answer: &Remembered| log_time_ms.saturating_sub(answer.log_time_ms) > window_ms;
        let over: Vec<Revision> = self
            .by_revision
            .iter()
            .take(DEDUP_COMPARED_MAX)
            .take_while(|(_, answer)| aged(answer))
            .filter(|(_, answer)| hasty || answer.is_stamped_before_window(wall_time_ms))
            .take(DEDUP_EVICTIONS_PER_ENTRY_MAX)
            .map(|(revision, _)| *revision)
            .collect();
        for revision in over {
            self.forget(revision, wall_time_ms);
        }
    }

    /// Forgets one of the oldest answers: the one with the lowest stamp, or, if it comes before that one, the first
    /// that leaves no horizon.
    fn make_room(&mut self, wall_time_ms: u64) {
        let mut without: Option<Revision> = None;
        let mut lowest: Option<([u8; 16], Revision)> = None;
        for (revision, answer) in self.by_revision.iter().take(DEDUP_COMPARED_MAX) {
            match answer.horizon(wall_time_ms) {
                Some(stamp) if lowest.is_none_or(|(lowest, _)| stamp < lowest) => {
                    lowest = Some((stamp, *revision));
                }
                Some(_) => {}
                None => without = without.or(Some(*revision)),
            }
        }
        let lowest = lowest.map(|(_, revision)| revision);
        if let Some(revision) = without.into_iter().chain(lowest).min() {
            self.forget(revision, wall_time_ms);
        }
    }

    fn forget(&mut self, revision: Revision, wall_time_ms: u64) {
        let Some(oldest) = self.by_revision.remove(&revision) else {
            return;
        };
        self.by_id.remove(&oldest.request_id);
        self.sum.subtract(Section::Dedup, oldest.bytes().as_slice());
        if !seeded::on("answers-forgotten-early") && !seeded::on("forgotten-without-horizon") {
            self.horizon = self.horizon.max(oldest.horizon(wall_time_ms));
        }
    }
}

const UNCHANGED: u8 = 0;
const ACCEPTED: u8 = 1;
const REJECTED: u8 = 2;

impl Remembered {
    /// The horizon that it leaves when it is forgotten now: its id, when that is a UUIDv7 that is not stamped far ahead.
    fn horizon(&self, wall_time_ms: u64) -> Option<[u8; 16]> {
        let latest_ms = wall_time_ms.saturating_add(DEDUP_CLOCK_AHEAD_MS_MAX);
        self.request_id.uuid_v7().filter(|uuid| uuid_v7_unix_ms(*uuid) <= latest_ms)
    }

    /// Whether its id bears no stamp, or one that the window lies behind.
    fn is_stamped_before_window(&self, wall_time_ms: u64) -> bool {
        self.request_id.uuid_v7().is_none_or(|uuid| {
            uuid_v7_unix_ms(uuid).saturating_add(DEDUP_WINDOW_MS) <= wall_time_ms
        })
    }

    fn bytes(&self) -> Writer {
        let mut writer = Writer::with_capacity(96);
        self.encode(&mut writer);
        writer
    }

    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.revision(self.answer.revision);
        self.request_id.encode(writer);
        writer.fixed(&self.command);
        self.kind.encode(writer);
        writer.option(self.about.as_ref(), |writer, about| about.encode(writer));
        writer.bool(self.wished);
        writer.u64(self.log_time_ms);
        match &self.answer.outcome {
            Outcome::Unchanged => writer.u8(UNCHANGED),
            // What a claim was granted is not remembered: agents' own commands never come here.
            Outcome::Accepted(Accepted { node, claims: _ }) => {
                writer.u8(ACCEPTED);
                writer.option(node.as_ref(), |writer, node| writer.u64(node.get()));
            }
            Outcome::Rejected(Rejection { code, message }) => {
                writer.u8(REJECTED);
                writer.u8(code.number());
                writer.text(message);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let revision = reader.revision()?;
        Ok(Self {
            request_id: RequestId::decode(reader)?,
            command: reader.fixed()?,
            kind: CommandKind::decode(reader)?,
            about: reader.option(Entity::decode)?,
            wished: reader.bool()?,
            log_time_ms: reader.u64()?,
            answer: Answer { revision, outcome: decode_outcome(reader)? },
        })
    }
}

fn decode_outcome(reader: &mut Reader<'_>) -> Result<Outcome, DecodeError> {
    Ok(match reader.u8()? {
        UNCHANGED => Outcome::Unchanged,
        ACCEPTED => {
            Outcome::Accepted(Accepted { node: reader.option(Reader::node)?, claims: Vec::new() })
        }
        REJECTED => {
            let number = reader.u8()?;
            let unknown =
                DecodeError::UnknownKind { what: "a rejection", found: u64::from(number) };
            let code = RejectCode::from_number(number).ok_or(unknown)?;
            Outcome::Rejected(Rejection {
                code,
                message: reader.text(MESSAGE_BYTES_MAX)?.to_owned(),
            })
        }
        found => {
            return Err(DecodeError::UnknownKind { what: "an outcome", found: u64::from(found) });
        }
    })
}
