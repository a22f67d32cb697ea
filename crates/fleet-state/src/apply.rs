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
mod cancel;
mod claims;
mod devices;
mod effects;
mod expiry;
mod invocations;
mod links;
mod members;
mod owners;
mod params;
mod room;
mod stages;
mod tokens;
mod wishes;

use effects::Asked;
pub(crate) use effects::Effects;

use crate::command::{AgentCommand, Command, Proposal};
use crate::dedup::{Recall, Remembered, command_digest};
use crate::entry::{Body, Entry};
use crate::ids::{RequestId, Revision};
use crate::outcome::{Accepted, Answer, Outcome, RejectCode, Rejection};
use crate::record::Change;
use crate::seeded;
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

pub(crate) const ACCEPTED: Outcome = Outcome::Accepted(Accepted { node: None, claims: Vec::new() });

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
        if seeded::on("log-time-goes-back") {
            self.counters.log_time_ms = entry.log_time_ms;
        }
        self.counters.wall_time_ms = entry.wall_time_ms;
        let mut effects = Effects::new(revision, entry.wall_time_ms);
        self.forget_tokens(&mut effects);
        self.expire_due(&mut effects);
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
            Body::TimeLost => {
                self.counters.time_lost = revision;
                self.expire_all(&mut effects);
                Applied { changes: effects.into_changes(), ..Applied::default() }
            }
            Body::TimeTick => Applied { changes: effects.into_changes(), ..Applied::default() },
            Body::MemberLevel { node, level } => {
                self.member_level(*node, *level, &mut effects);
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
        let remembered = !proposal.command.kind().is_agents_own();
        let command = if remembered { command_digest(proposal) } else { [0; 16] };
        if remembered {
            match self.dedup.recall(&proposal.request_id, &command) {
                Recall::New => {}
                Recall::Repeated(_) if seeded::on("repeat-carried-out-again") => {}
                Recall::Repeated(first) if seeded::on("repeat-answered-anew") => {
                    return Answer { revision, ..first };
                }
                Recall::Repeated(first) => return first,
                Recall::Reused => return rejected(RejectCode::RequestIdReused, REUSED),
                Recall::Expired => return rejected(RejectCode::RequestExpired, EXPIRED),
            }
        }
        effects.on_behalf_of(Asked {
            request_id: proposal.request_id.clone(),
            actor: proposal.actor.clone(),
        });
        let checked = proposal.validate().map_err(Rejection::from);
        let decision =
            checked.and_then(|()| self.decide(&proposal.command, proposal.if_revision, effects));
        let answer = Answer { revision, outcome: decision.unwrap_or_else(Outcome::Rejected) };
        if remembered {
            let about = proposal.command.about();
            let remembered = Remembered {
                request_id: proposal.request_id.clone(),
                command,
                kind: proposal.command.kind(),
                wished: self.has_wish_of(about.as_ref(), &proposal.request_id, revision),
                about,
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
            Command::LinkMove { id, to } => self.link_move(id, to.as_ref(), expected, effects),
            Command::LinkPause { id, paused } => self.link_pause(id, *paused, expected, effects),
            Command::DeviceRegister { .. }
            | Command::DeviceUpdate { .. }
            | Command::DeviceReplace { .. }
            | Command::DeviceDelete { .. }
            | Command::DeviceMode { .. }
            | Command::DeviceHold { .. }
            | Command::DeviceRelease { .. }
            | Command::DeviceInvoke { .. } => self.decide_device(command, expected, effects),
            Command::CommandCancel { request } => self.command_cancel(request, effects),
            Command::ParamSet { key, value } => self.param_set(key, value, expected, effects),
            Command::ParamDelete { key } => self.param_delete(key, expected, effects),
            Command::Batch(items) => self.batch(items, effects),
            Command::TokenCreate { .. } => self.token_create(command, expected, effects),
            Command::TokenRevoke { id } => self.token_revoke(*id, expected, effects),
            Command::Join(request) => self.join(request, effects),
            Command::Certify { node, credential } => self.certify(*node, credential, effects),
            Command::MemberRemove { node } => self.member_remove(*node, expected, effects),
            Command::MemberPromote { node } => self.member_promote(*node, expected, effects),
            Command::NodeDrain { node, drain } => self.node_drain(*node, *drain, expected, effects),
            Command::MemberLabel { node, labels } => {
                self.member_label(*node, labels, expected, effects)
            }
            Command::SetVoters { voters } => Ok(self.set_voters(*voters)),
            Command::Agents(command) => self.decide_agents(command, effects),
        }
    }

    fn decide_agents(&mut self, command: &AgentCommand, effects: &mut Effects) -> Decision {
        match command {
            AgentCommand::LinkAssign { link, expect_epoch, owner } => {
                self.link_assign(link, *expect_epoch, *owner, effects)
            }
            AgentCommand::LinkRelease { link, epoch } => self.link_release(link, *epoch, effects),
            AgentCommand::Stages { link, epoch, items } => {
                self.stages(link, *epoch, items, effects)
            }
            AgentCommand::Claim { link, epoch, items } => self.claim(link, *epoch, items, effects),
            AgentCommand::InvocationEnd { .. } => self.invocation_end(command, effects),
            AgentCommand::Adopt { .. } => self.adopt(command, effects),
        }
    }

    #[expect(
        clippy::wildcard_enum_match_arm,
        reason = "the caller has sorted the commands by what they are about"
    )]
    fn decide_device(
        &mut self,
        command: &Command,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        match command {
            Command::DeviceRegister { id, spec } => {
                self.device_register(id, spec, expected, effects)
            }
            Command::DeviceUpdate { id, patch, ttl_ms } => {
                let device = self.existing_device(id, expected)?;
                self.device_update(&device, patch, *ttl_ms, effects)
            }
            Command::DeviceReplace { id, desired, ttl_ms } => {
                let device = self.existing_device(id, expected)?;
                self.device_replace(&device, desired, *ttl_ms, effects)
            }
            Command::DeviceDelete { id } => self.device_delete(id, expected, effects),
            Command::DeviceMode { id, mode } => self.device_mode(id, *mode, expected, effects),
            Command::DeviceHold { id, reason } => self.device_hold(id, reason, expected, effects),
            Command::DeviceRelease { id } => self.device_release(id, expected, effects),
            Command::DeviceInvoke { .. } => self.device_invoke(command, expected, effects),
            _ => Ok(Outcome::Unchanged),
        }
    }
}

const REUSED: &str =
    "the request id was used for another command; give every command an id of its own";
const EXPIRED: &str = "the request id is older than the answers that are remembered, so it cannot be told whether the \
                       command was carried out; look at the state, then send it under a new id, from a machine \
                       with a right clock";
