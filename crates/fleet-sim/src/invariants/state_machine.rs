//! State machine safety: equal states and equal outcomes at equal indexes, on all nodes and at
//! all times.
//!
//! A reference state of the checker's own applies every committed entry once, read from the
//! first log that has it committed. Each node is compared with it, so that also an entry which
//! nodes only ever apply while they start is judged.

use std::collections::BTreeMap;

use fleet_consensus::frame::{ConfChange, EntryPayload};
use fleet_consensus::replica::AppliedEntry;
use fleet_log::LogEntry;
use fleet_state::{
    AgentCommand, Answer, Body, Change, Command, Entity, Entry, FleetState, NodeId, Outcome,
    RequestId, Revision, Role,
};

use super::Violation;

const NAME: &str = "equal states";

/// What an entry came to. What the records hold is compared by the states' digests.
#[derive(Debug)]
struct Came {
    request_id: Option<RequestId>,
    answer: Option<Answer>,
    changed: Vec<(Entity, Option<Revision>, bool)>,
}

impl Came {
    fn of(entry: &AppliedEntry) -> Self {
        let changed =
            |change: &Change| (change.entity.clone(), change.previous, change.record.is_some());
        Self {
            request_id: entry.request_id.clone(),
            answer: entry.answer.clone(),
            changed: entry.changes.iter().map(changed).collect(),
        }
    }

    fn is_of(&self, entry: &AppliedEntry) -> bool {
        let same =
            |((entity, previous, there), change): (&(Entity, Option<Revision>, bool), &Change)| {
                *entity == change.entity
                    && *previous == change.previous
                    && *there == change.record.is_some()
            };
        self.request_id == entry.request_id
            && self.answer == entry.answer
            && self.changed.len() == entry.changes.len()
            && self.changed.iter().zip(&entry.changes).all(same)
    }
}

/// The reference.
#[derive(Debug, Default)]
pub struct StateMachine {
    state: Option<FleetState>,
    applied: u64,
    digests: BTreeMap<u64, [u8; 32]>,
    outcomes: BTreeMap<u64, Came>,
    seen: BTreeMap<NodeId, (u64, u64)>,
    compared: u64,
}

impl StateMachine {
    /// The site begins with this state at this index.
    pub fn begin(&mut self, state: FleetState, index: u64) {
        self.digests.insert(index, state.digests().combined().0);
        self.applied = index;
        self.state = Some(state);
    }

    /// Takes the next committed entry and gives back what it did.
    ///
    /// # Errors
    /// It isn't the next one, or can't be read.
    pub fn commit(&mut self, entry: &LogEntry) -> Result<AppliedEntry, Violation> {
        let fail = |what: String| Violation::new("committed entries follow each other", what);
        let (index, revision) = (entry.index, Revision::new(entry.index));
        let Some(state) = self.state.as_mut().filter(|_| index == self.applied + 1) else {
            return Err(fail(format!("index {index} was committed after {}", self.applied)));
        };
        let payload = fleet_consensus::frame::LogEntry::from_disk(
            index,
            entry.term,
            entry.kind,
            entry.data.clone(),
        )
        .map_err(|e| fail(format!("index {index}: {e}")))?
        .payload;
        let mut done = AppliedEntry {
            revision,
            request_id: None,
            answer: None,
            changes: Vec::new(),
            wall_time_ms: 0,
        };
        match payload {
            EntryPayload::Empty => state.skip(revision),
            EntryPayload::ConfChange(change) => {
                let (node, role) = match change {
                    ConfChange::AddVoter(node) => (node, Role::Voter),
                    ConfChange::AddLearner(node) => (node, Role::Learner),
                    ConfChange::Remove(node) => (node, Role::Removed),
                };
                done.changes = state.apply_role(revision, node, role);
            }
            EntryPayload::Normal(data) => {
                let entry =
                    Entry::decode(&data).map_err(|e| fail(format!("index {index}: {e}")))?;
                let stale = is_of_former_owner(&entry, state);
                let applied = state.apply(revision, &entry);
                let answer = applied.answer.as_ref().map(|answer| &answer.outcome);
                if stale && !matches!(answer, Some(Outcome::Rejected(_))) {
                    let what = format!("index {index}: {:?} was taken in: {answer:?}", entry.body);
                    return Err(Violation::new("a former owner is not heard", what));
                }
                done.request_id = applied.request_id;
                done.answer = applied.answer;
                done.changes = applied.changes;
            }
        }
        self.applied = index;
        self.digests.insert(index, state.digests().combined().0);
        self.outcomes.insert(index, Came::of(&done));
        Ok(done)
    }

    /// A node has applied everything up to `applied` since its start `boot`. It is compared
    /// when that is news.
    ///
    /// # Errors
    /// Its state is another one than the reference was at this index.
    pub fn observe(
        &mut self,
        node: NodeId,
        boot: u64,
        applied: u64,
        state: &FleetState,
    ) -> Result<(), Violation> {
        let known = self.seen.insert(node, (boot, applied)) == Some((boot, applied));
        if applied == 0 || known {
            return Ok(());
        }
        let digests = state.digests();
        self.compared += 1;
        if self.digests.get(&applied) == Some(&digests.combined().0) {
            return Ok(());
        }
        let reference = self.state.as_ref().map(|s| s.digests().to_string());
        let what = format!(
            "at index {applied} node {node} has the state {digests}; the reference at {} is {}",
            self.applied,
            reference.unwrap_or_default()
        );
        Err(Violation::new(NAME, what))
    }

    /// A node applied an entry.
    ///
    /// # Errors
    /// It came to another outcome than the reference.
    pub fn applied(&mut self, node: NodeId, entry: &AppliedEntry) -> Result<(), Violation> {
        if self.outcomes.get(&entry.revision.get()).is_some_and(|came| came.is_of(entry)) {
            return Ok(());
        }
        Err(Violation::new(
            NAME,
            format!("node {node} applied {entry:?}; others came to another outcome"),
        ))
    }

    /// Whether it is known what an entry comes to.
    #[must_use]
    pub fn knows(&self, revision: Revision) -> bool {
        self.outcomes.contains_key(&revision.get())
    }

    /// The reference state and its index.
    #[must_use]
    pub fn reference(&self) -> Option<(&FleetState, u64)> {
        self.state.as_ref().map(|state| (state, self.applied))
    }

    /// How many states of nodes were compared.
    #[must_use]
    pub fn compared(&self) -> u64 {
        self.compared
    }
}

/// Whether an agent speaks of a link in an epoch that is over.
fn is_of_former_owner(entry: &Entry, state: &FleetState) -> bool {
    let Body::Proposal(proposal) = &entry.body else { return false };
    let Command::Agents(command) = &proposal.command else { return false };
    let (AgentCommand::LinkAssign { expect_epoch: epoch, .. }
    | AgentCommand::LinkRelease { epoch, .. }
    | AgentCommand::Stages { epoch, .. }
    | AgentCommand::Claim { epoch, .. }
    | AgentCommand::InvocationEnd { epoch, .. }
    | AgentCommand::Adopt { epoch, .. }) = command;
    state.link(command.link()).is_none_or(|link| link.epoch != *epoch)
}
