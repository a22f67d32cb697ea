//! The one way in which the state changes.
//!
//! [`FleetState::apply`] takes a committed entry and its revision and gives back what it decided and what changed. It
//! is total and deterministic: no clock, no random number, no hash order, no input besides the state and the entry,
//! no float arithmetic, and no panic on data. A command that cannot be carried out is an outcome like any other.
//!
//! Order within one entry, the same for every kind: 1. log time moves, 2. what is due by it is forgotten, 3. the memory
//! of answers is asked, 4. the command is checked and decided, 5. its answer is remembered.
//!
//! The commands are in `apply/`, one file per noun. Each decides before it changes anything; a batch works on a clone
//! of the state, which takes constant time, and drops it when one of its commands is refused.
//!
//! Its tests are in `tests/suite` and, against an independent model, in `tests/suite/reference_model.rs`.

mod batch;
mod devices;
mod effects;
mod links;
mod members;
mod params;
mod room;
mod tokens;

pub(crate) use effects::Effects;

use crate::command::{Command, Proposal};
use crate::dedup::{Recall, Remembered, command_digest};
use crate::entry::{Body, Entry};
use crate::ids::{RequestId, Revision};
use crate::outcome::{Accepted, Answer, Outcome, RejectCode, Rejection};
use crate::record::Change;
use crate::state::FleetState;

/// What an entry did.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Applied {
    /// Whose request it was.
    pub request_id: Option<RequestId>,
    /// What is answered to it.
    pub answer: Option<Answer>,
    /// What changed, each entity once, in the order in which it first changed.
    ///
    /// What a batch made and deleted again stands here without a previous revision and without a record.
    pub changes: Vec<Change>,
}

/// What a command decided. An `Err` changed nothing.
pub(crate) type Decision = Result<Outcome, Rejection>;

pub(crate) const ACCEPTED: Outcome = Outcome::Accepted(Accepted { node: None });

impl FleetState {
    /// Applies a committed entry.
    ///
    /// An entry at or below [`FleetState::last_applied`] was applied before and does nothing.
    pub fn apply(&mut self, revision: Revision, entry: &Entry) -> Applied {
        if revision <= self.counters.last_applied {
            return Applied::default();
        }
        self.counters.last_applied = revision;
        self.counters.log_time_ms = self.counters.log_time_ms.max(entry.log_time_ms);
        self.counters.wall_time_ms = entry.wall_time_ms;
        let mut effects = Effects::new(revision, entry.wall_time_ms);
        self.forget_tokens(&mut effects);
        self.dedup.forget_aged(self.counters.log_time_ms, entry.wall_time_ms);
        match &entry.body {
            Body::Proposal(proposal) => {
                let answer = self.answer(proposal, &mut effects);
                Applied {
                    request_id: Some(proposal.request_id.clone()),
                    answer: Some(answer),
                    changes: effects.into_changes(),
                }
            }
            Body::TimeTick => Applied { changes: effects.into_changes(), ..Applied::default() },
            Body::RaiseFeatureLevel(level) => {
                self.counters.feature_level = self.counters.feature_level.max(*level);
                Applied { changes: effects.into_changes(), ..Applied::default() }
            }
        }
    }

    /// Notes an entry of the log that is nothing to the state: the empty one of a new leader.
    pub fn skip(&mut self, revision: Revision) {
        self.counters.last_applied = self.counters.last_applied.max(revision);
    }

    fn answer(&mut self, proposal: &Proposal, effects: &mut Effects) -> Answer {
        let revision = effects.revision();
        let rejected = |code, message: &str| Answer {
            revision,
            outcome: Outcome::Rejected(Rejection::new(code, message)),
        };
        let remembered = enters_dedup(&proposal.command);
        let command = if remembered { command_digest(proposal) } else { [0; 16] };
        if remembered {
            match self.dedup.recall(&proposal.request_id, &command) {
                Recall::New => {}
                Recall::Repeated(first) => return first,
                Recall::Reused => return rejected(RejectCode::RequestIdReused, REUSED),
                Recall::Expired => return rejected(RejectCode::RequestExpired, EXPIRED),
            }
        }
        let checked = proposal.validate().map_err(Rejection::from);
        let decision =
            checked.and_then(|()| self.decide(&proposal.command, proposal.if_revision, effects));
        let answer = Answer { revision, outcome: decision.unwrap_or_else(Outcome::Rejected) };
        if remembered {
            let remembered = Remembered {
                request_id: proposal.request_id.clone(),
                command,
                log_time_ms: self.counters.log_time_ms,
                answer: answer.clone(),
            };
            self.dedup.remember(remembered, self.counters.wall_time_ms);
        }
        answer
    }

    /// Decides one command and carries it out.
    fn decide(
        &mut self,
        command: &Command,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        match command {
            Command::LinkRegister { id, spec } => self.link_register(id, spec, expected, effects),
            Command::LinkDelete { id } => self.link_delete(id, expected, effects),
            Command::DeviceRegister { id, spec } => {
                self.device_register(id, spec, expected, effects)
            }
            Command::DeviceUpdate { id, patch } => self.device_update(id, patch, expected, effects),
            Command::DeviceReplace { id, desired } => {
                self.device_replace(id, desired, expected, effects)
            }
            Command::DeviceDelete { id } => self.device_delete(id, expected, effects),
            Command::ParamSet { key, value } => self.param_set(key, value, expected, effects),
            Command::ParamDelete { key } => self.param_delete(key, expected, effects),
            Command::Batch(items) => self.batch(items, effects),
            Command::TokenCreate { .. } => self.token_create(command, expected, effects),
            Command::TokenRevoke { id } => self.token_revoke(*id, expected, effects),
            Command::Join(request) => self.join(request, effects),
            Command::Certify { node, credential } => self.certify(*node, credential, effects),
            Command::MemberRemove { node } => self.member_remove(*node, expected, effects),
            Command::MemberPromote { node } => self.member_promote(*node, expected, effects),
            Command::SetVoters { voters } => Ok(self.set_voters(*voters)),
        }
    }
}

const REUSED: &str =
    "the request id was used for another command; give every command an id of its own";
const EXPIRED: &str = "the request id is older than the answers that are remembered, so it cannot be told whether the \
                       command was carried out; look at the state, then send it under a new id, from a machine \
                       with a right clock";

/// What agents propose themselves is guarded by its own content and would only push users' answers out.
fn enters_dedup(command: &Command) -> bool {
    !matches!(command, Command::Certify { .. })
}
