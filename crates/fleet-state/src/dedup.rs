//! The memory of answers, by which a retry is told the first answer instead of being carried out again.
//!
//! It holds, per request id, a digest of the command and the answer: for ten minutes of log time, and for 65,536
//! requests at most. Both bounds are counted in log entries and log time, so every node forgets the same answers at
//! the same entry.
//!
//! What is forgotten leaves a trace when the id is a UUIDv7: such ids order by time, so the newest one forgotten is a
//! horizon, and an unknown id at or below it is refused as expired, because nobody can tell whether it was carried
//! out. An id stamped far ahead of the site's clock does not move the horizon, or one client with a wrong clock would
//! shut out all others. Such ids are remembered beyond their time, until the clock has caught up or others need the room.
//! Ids that are no UUIDv7 are protected within the window only.

use std::sync::Arc;

use imbl::OrdMap;
use sha2::{Digest as _, Sha256};

use crate::codec::{DecodeError, Reader, Writer};
use crate::command::Proposal;
use crate::digest::{Section, Sum};
use crate::ids::{RequestId, Revision, uuid_v7_unix_ms};
use crate::limits::{
    DEDUP_CLOCK_AHEAD_MS_MAX, DEDUP_EVICTIONS_PER_ENTRY_MAX, DEDUP_RECORDS_MAX, DEDUP_WINDOW_MS,
    MESSAGE_BYTES_MAX,
};
use crate::outcome::{Accepted, Answer, Outcome, RejectCode, Rejection};

/// A remembered answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Remembered {
    pub(crate) request_id: RequestId,
    pub(crate) command: [u8; 16],
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
            self.forget_oldest(wall_time_ms);
        }
    }

    pub(crate) fn insert(&mut self, remembered: Arc<Remembered>) {
        self.sum.add(Section::Dedup, remembered.bytes().as_slice());
        self.by_id.insert(remembered.request_id.clone(), remembered.answer.revision);
        self.by_revision.insert(remembered.answer.revision, remembered);
    }

    /// Forgets answers whose time is over, a few per call.
    ///
    /// Answers to ids that the site's clock takes for ones of the future stay until the clock has caught up: they
    /// could leave no horizon. The clock may be the wrong one, where the leader's was put back, and then a repetition
    /// of a right client would be carried out again.
    pub(crate) fn forget_aged(&mut self, log_time_ms: u64, wall_time_ms: u64) {
        let aged =
            |answer: &Remembered| log_time_ms.saturating_sub(answer.log_time_ms) > DEDUP_WINDOW_MS;
        let over: Vec<Revision> = self
            .by_revision
            .iter()
            .take(DEDUP_EVICTIONS_PER_ENTRY_MAX)
            .take_while(|(_, answer)| aged(answer))
            .filter(|(_, answer)| !answer.is_from_the_future(wall_time_ms))
            .map(|(revision, _)| *revision)
            .collect();
        for revision in over {
            self.forget(revision, wall_time_ms);
        }
    }

    fn forget_oldest(&mut self, wall_time_ms: u64) {
        if let Some(revision) = self.by_revision.get_min().map(|(revision, _)| *revision) {
            self.forget(revision, wall_time_ms);
        }
    }

    fn forget(&mut self, revision: Revision, wall_time_ms: u64) {
        let Some(oldest) = self.by_revision.get(&revision).cloned() else {
            return;
        };
        self.by_revision.remove(&revision);
        self.by_id.remove(&oldest.request_id);
        self.sum.subtract(Section::Dedup, oldest.bytes().as_slice());
        if !oldest.is_from_the_future(wall_time_ms) {
            self.horizon = self.horizon.max(oldest.request_id.uuid_v7());
        }
    }
}

const UNCHANGED: u8 = 0;
const ACCEPTED: u8 = 1;
const REJECTED: u8 = 2;

impl Remembered {
    /// Whether its id is a UUIDv7 stamped well after this time.
    fn is_from_the_future(&self, wall_time_ms: u64) -> bool {
        let latest_ms = wall_time_ms.saturating_add(DEDUP_CLOCK_AHEAD_MS_MAX);
        self.request_id.uuid_v7().is_some_and(|uuid| uuid_v7_unix_ms(uuid) > latest_ms)
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
        writer.u64(self.log_time_ms);
        match &self.answer.outcome {
            Outcome::Unchanged => writer.u8(UNCHANGED),
            Outcome::Accepted(Accepted { node }) => {
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
            log_time_ms: reader.u64()?,
            answer: Answer { revision, outcome: decode_outcome(reader)? },
        })
    }
}

fn decode_outcome(reader: &mut Reader<'_>) -> Result<Outcome, DecodeError> {
    Ok(match reader.u8()? {
        UNCHANGED => Outcome::Unchanged,
        ACCEPTED => Outcome::Accepted(Accepted { node: reader.option(Reader::node)? }),
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
