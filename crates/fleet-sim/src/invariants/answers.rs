//! Answers: each comes from the log and stays true for ever.
//!
//! - an answer with a revision is the one that the log decided at that revision;
//! - a request takes effect at one index only, and every repetition hears the first answer;
//! - a request whose every attempt was refused without a revision is not in the log, and doesn't
//!   come there before it is asked for again.

use std::collections::{BTreeMap, BTreeSet};

use fleet_consensus::replica::AppliedEntry;
use fleet_state::{Answer, Outcome, RejectCode, RequestId};

use super::Violation;

/// What a client knows of a request when it stops asking.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Known {
    /// It heard an answer with a revision.
    Decided,
    /// Every attempt was refused.
    NotTaken,
    /// At least one attempt ended without either.
    Unknown,
}

/// The log's decisions by request.
#[derive(Debug, Default)]
pub struct Answers {
    decided: BTreeMap<RequestId, Answer>,
    refused: BTreeSet<RequestId>,
    acknowledged: u64,
    repeated: u64,
}

impl Answers {
    /// An entry was applied for the first time anywhere.
    ///
    /// # Errors
    /// Its request had taken effect before, or was told something else.
    pub fn applied(&mut self, entry: &AppliedEntry) -> Result<(), Violation> {
        let (Some(id), Some(answer)) = (&entry.request_id, &entry.answer) else {
            return Ok(());
        };
        if is_agents_own(id) || is_expired(answer) {
            return Ok(());
        }
        self.not_refused(id)?;
        match self.decided.get(id) {
            None if answer.revision == entry.revision => {
                self.decided.insert(id.clone(), answer.clone());
                Ok(())
            }
            None => Err(Violation::new(
                "answers come from the log",
                format!("{id} at {} was told an earlier answer: {answer:?}", entry.revision),
            )),
            Some(first) if first == answer => {
                self.repeated += 1;
                Ok(())
            }
            Some(first) => Err(Violation::new(
                "none applied twice",
                format!("{id} at {} was told {answer:?}, before {first:?}", entry.revision),
            )),
        }
    }

    /// A client was told an answer with a revision.
    ///
    /// # Errors
    /// The log decided otherwise.
    pub fn acknowledged(&mut self, id: &RequestId, answer: &Answer) -> Result<(), Violation> {
        if is_agents_own(id) || is_expired(answer) {
            return Ok(());
        }
        self.acknowledged += 1;
        match self.decided.get(id) {
            Some(decided) if decided == answer => Ok(()),
            decided => Err(Violation::new(
                "answers come from the log",
                format!("{id} was told {answer:?}; the log decided {decided:?}"),
            )),
        }
    }

    /// Every attempt of a request so far was refused.
    ///
    /// # Errors
    /// It took effect nevertheless.
    pub fn all_refused(&mut self, id: RequestId) -> Result<(), Violation> {
        self.refused.insert(id.clone());
        if self.decided.contains_key(&id) { self.not_refused(&id) } else { Ok(()) }
    }

    /// A request is asked for once more.
    pub fn asked_again(&mut self, id: &RequestId) {
        self.refused.remove(id);
    }

    fn not_refused(&self, id: &RequestId) -> Result<(), Violation> {
        if self.refused.contains(id) {
            let what = format!("every attempt of {id} was refused, yet the log decided it");
            return Err(Violation::new("no effect of what was refused", what));
        }
        Ok(())
    }

    /// At the end of a run.
    ///
    /// # Errors
    /// Something took effect that had been refused.
    pub fn check_refused(&self) -> Result<(), Violation> {
        let decided = self.refused.iter().find(|id| self.decided.contains_key(*id));
        decided.map_or(Ok(()), |id| self.not_refused(id))
    }

    /// The log's decision about a request, if there is one.
    #[must_use]
    pub fn decision(&self, id: &RequestId) -> Option<&Answer> {
        self.decided.get(id)
    }

    /// (answers given to clients, repetitions in the log).
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        (self.acknowledged, self.repeated)
    }
}

/// Agents guard their own proposals by content and epoch, without the memory of answers.
fn is_agents_own(id: &RequestId) -> bool {
    let id = id.to_string();
    id.starts_with("certify.") || id.starts_with("own.")
}

/// Too old to be remembered: the answer says that nobody can know.
fn is_expired(answer: &Answer) -> bool {
    match &answer.outcome {
        Outcome::Rejected(rejection) => rejection.code == RejectCode::RequestExpired,
        Outcome::Accepted(_) | Outcome::Unchanged => false,
    }
}
