//! The southbound side of a simulated node: it carries out what `fleet-device` decides.
//!
//! What an agent does with tasks and sockets is done here with values: a look at the state gives
//! [`Act`]s, each with the number of a call, and the end of a call is told by that number. What is
//! decided (which links, which step, whether a one-shot is handed over, until when) is the agent's
//! own code; what stands here is the line, the calls and their deadlines.
//!
//! All of it is lost when the process ends.

mod device;
mod link;

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_consensus::CommandEnd;
use fleet_device::charges::{Charge, Charges};
use fleet_device::lease::{LEASE_MS, Lease, RENEW_EVERY_MS};
use fleet_device::{Handed, Observation, ReadErrorKind, Reading, WriteError};
use fleet_state::{
    AgentCommand, DeviceId, FleetState, LinkId, NodeId, Object, Outcome, RequestId, Revision, Value,
};

use link::Work;

/// How long the log may take for a command of a keeper.
const LOG_WITHIN_MS: u64 = 3_000;
/// How long giving a link back may take until it is tried again.
const RELEASE_WITHIN_MS: u64 = 2_000;
/// Pause after it was not.
const RELEASE_PAUSE_MS: u64 = 250;
/// How long the first barrier may take until it is asked for again.
const BARRIER_WITHIN_MS: u64 = 4_000;

/// The number of a call.
pub type Call = u64;

/// Something to be done for a keeper.
#[derive(Clone, Debug)]
pub enum Act {
    /// Have a command of this node's own decided.
    Submit(Call, AgentCommand, u64),
    /// Ask for a read barrier.
    Barrier(Call, u64),
    /// Ask a device, or hand it something.
    Device(Call, Ask),
}

/// What is asked of a device, or handed to it.
#[derive(Clone, Debug)]
pub struct Ask {
    /// Which.
    pub device: DeviceId,
    /// The link.
    pub link: LinkId,
    /// The epoch of the link.
    pub epoch: u64,
    /// What.
    pub what: What,
}

/// What is asked or handed over.
#[derive(Clone, Debug)]
pub enum What {
    /// Everything that it is.
    Read,
    /// Values, with the wish that each comes from.
    Write(Vec<(Arc<str>, Value, Revision)>),
    /// A one-shot.
    Invoke(RequestId),
}

/// How a device's call ended.
#[derive(Clone, Debug)]
pub enum Answer {
    /// A question.
    Read(Result<Reading, ReadErrorKind>),
    /// A hand-over.
    Handed(Result<Handed, WriteError>),
}

/// What a call is for.
#[derive(Clone, Debug)]
enum Purpose {
    Read(LinkId, DeviceId),
    Write(LinkId, DeviceId, Object),
    Invoke(LinkId, DeviceId, RequestId),
    Claim(LinkId, DeviceId, Vec<Revision>, u64),
    Take(LinkId, DeviceId, RequestId, u64),
    Settle(LinkId, DeviceId, RequestId),
    Adopt(LinkId, DeviceId),
    Stages(LinkId),
    Release(Charge),
    FirstBarrier,
    Barrier(u64),
}

/// The southbound side of one node, in one start of it.
#[derive(Debug)]
pub struct Keeper {
    node: NodeId,
    /// `None` until the first barrier.
    charges: Option<Charges>,
    lease: Lease,
    renew_next_ms: u64,
    works: BTreeMap<LinkId, Work>,
    /// What is being given back, and not tried again before a moment.
    releasing: BTreeMap<Charge, u64>,
    calls: Calls,
}

/// Calls under way, and what is to be done next.
#[derive(Debug, Default)]
struct Calls {
    next: Call,
    open: BTreeMap<Call, (Purpose, u64)>,
    acts: Vec<Act>,
}

impl Calls {
    fn begin(&mut self, purpose: Purpose, until_ms: u64) -> Call {
        self.next += 1;
        self.open.insert(self.next, (purpose, until_ms));
        self.next
    }

    fn submit(
        &mut self,
        purpose: Purpose,
        command: AgentCommand,
        now_ms: u64,
        within_ms: u64,
    ) -> Call {
        // The answer comes a little later than the deadline that it is given by.
        let call = self.begin(purpose, now_ms + 2 * within_ms);
        self.acts.push(Act::Submit(call, command, within_ms));
        call
    }
}

impl Keeper {
    /// A keeper that knows nothing yet.
    #[must_use]
    pub fn new(node: NodeId) -> Self {
        Self {
            node,
            charges: None,
            lease: Lease::default(),
            renew_next_ms: 0,
            works: BTreeMap::new(),
            releasing: BTreeMap::new(),
            calls: Calls::default(),
        }
    }

    /// Looks at the state and begins what is due.
    pub fn look(&mut self, state: &FleetState, now_ms: u64) -> Vec<Act> {
        self.give_up_late(state, now_ms);
        if self.charges.is_none() {
            self.ask_first(now_ms);
            return std::mem::take(&mut self.calls.acts);
        }
        self.follow(state, now_ms);
        let lease = self.lease;
        let mut done = Vec::new();
        for (id, work) in &mut self.works {
            if !work.look(self.node, lease, state, now_ms, &mut self.calls) {
                done.push((id.clone(), work.epoch()));
            }
        }
        for charge in done {
            self.works.remove(&charge.0);
            if let Some(charges) = &mut self.charges {
                charges.ended(charge);
            }
        }
        self.release(state, now_ms);
        std::mem::take(&mut self.calls.acts)
    }

    /// The log has decided about a command of this keeper's, or has not.
    pub fn decided(&mut self, call: Call, end: &CommandEnd, state: &FleetState, now_ms: u64) {
        let Some((purpose, _)) = self.calls.open.remove(&call) else { return };
        let outcome = match end {
            CommandEnd::Decided(answer) => Some(&answer.outcome),
            CommandEnd::Busy(_) | CommandEnd::NoLeader | CommandEnd::Unknown => None,
        };
        self.log_ended(call, purpose, outcome, state, now_ms);
    }

    /// A read barrier was granted, or not.
    pub fn barrier_ended(&mut self, call: Call, granted: bool, state: &FleetState, now_ms: u64) {
        let Some((purpose, _)) = self.calls.open.remove(&call) else { return };
        if matches!(purpose, Purpose::FirstBarrier) && granted {
            self.charges = Some(Charges::after_barrier(self.node, state));
        }
        if let Purpose::Barrier(asked_ms) = purpose
            && granted
        {
            self.lease = Lease::granted(asked_ms, now_ms);
        }
    }

    /// A device's call has ended.
    pub fn device_ended(&mut self, call: Call, answer: Answer, now_ms: u64) {
        let Some((purpose, _)) = self.calls.open.remove(&call) else { return };
        self.call_ended(call, purpose, answer, now_ms);
    }

    /// A device says what it is, unasked.
    pub fn heard(&mut self, heard: &Observation, now_ms: u64) {
        self.works.values_mut().for_each(|work| work.heard(heard, now_ms));
    }

    /// Whether one-shots or wishes of this node are under way to a device.
    #[must_use]
    pub fn is_idle(&self) -> bool {
        self.calls.open.values().all(|(purpose, _)| matches!(purpose, Purpose::Barrier(_)))
    }

    fn ask_first(&mut self, now_ms: u64) {
        if self.calls.open.is_empty() {
            let call = self.calls.begin(Purpose::FirstBarrier, now_ms + 2 * BARRIER_WITHIN_MS);
            self.calls.acts.push(Act::Barrier(call, BARRIER_WITHIN_MS));
        }
    }

    /// Begins and ends work as the state says, and renews the lease.
    fn follow(&mut self, state: &FleetState, now_ms: u64) {
        let Some(charges) = &mut self.charges else { return };
        let turn = charges.follow(state);
        for (link, epoch) in turn.start {
            self.works.insert(link.clone(), Work::new(link, epoch));
        }
        for link in turn.let_go {
            if let Some(work) = self.works.get_mut(&link) {
                work.let_go();
            }
        }
        let renewing = |(purpose, _): &(Purpose, u64)| matches!(purpose, Purpose::Barrier(_));
        let under_way = self.calls.open.values().any(renewing);
        if turn.lease_wanted && now_ms >= self.renew_next_ms && !under_way {
            self.renew_next_ms = now_ms + RENEW_EVERY_MS;
            let call = self.calls.begin(Purpose::Barrier(now_ms), now_ms + 2 * LEASE_MS);
            self.calls.acts.push(Act::Barrier(call, LEASE_MS));
        }
    }

    fn release(&mut self, state: &FleetState, now_ms: u64) {
        let Some(charges) = &self.charges else { return };
        for charge in charges.to_release(state) {
            if self.releasing.get(&charge).is_some_and(|next_ms| now_ms < *next_ms) {
                continue;
            }
            self.releasing.insert(charge.clone(), u64::MAX);
            let (link, epoch) = charge.clone();
            let command = AgentCommand::LinkRelease { link, epoch };
            self.calls.submit(Purpose::Release(charge), command, now_ms, RELEASE_WITHIN_MS);
        }
    }

    /// Calls that have not ended in their time count as ended without an answer.
    fn give_up_late(&mut self, state: &FleetState, now_ms: u64) {
        let late = |(_, (_, until_ms)): &(&Call, &(Purpose, u64))| *until_ms <= now_ms;
        let late: Vec<Call> = self.calls.open.iter().filter(late).map(|(call, _)| *call).collect();
        for call in late {
            let Some((purpose, _)) = self.calls.open.remove(&call) else { continue };
            match purpose {
                Purpose::Read(..) => {
                    let late = Answer::Read(Err(ReadErrorKind::Timeout));
                    self.call_ended(call, purpose, late, now_ms);
                }
                Purpose::Write(..) | Purpose::Invoke(..) => {
                    let late = Answer::Handed(Err(device::in_doubt()));
                    self.call_ended(call, purpose, late, now_ms);
                }
                Purpose::Claim(..)
                | Purpose::Take(..)
                | Purpose::Settle(..)
                | Purpose::Adopt(..)
                | Purpose::Stages(_)
                | Purpose::Release(_)
                | Purpose::FirstBarrier
                | Purpose::Barrier(_) => self.log_ended(call, purpose, None, state, now_ms),
            }
        }
    }

    fn call_ended(&mut self, call: Call, purpose: Purpose, answer: Answer, now_ms: u64) {
        let (Purpose::Read(link, _) | Purpose::Write(link, ..) | Purpose::Invoke(link, ..)) =
            &purpose
        else {
            return;
        };
        if let Some(work) = self.works.get_mut(&link.clone()) {
            work.device_ended(call, purpose, answer, now_ms);
        }
    }

    fn log_ended(
        &mut self,
        call: Call,
        purpose: Purpose,
        outcome: Option<&Outcome>,
        state: &FleetState,
        now_ms: u64,
    ) {
        let link = match &purpose {
            Purpose::Release(charge) => {
                // A node without space says so at once, and would be asked without end.
                match outcome {
                    Some(_) => self.releasing.remove(charge),
                    None => self.releasing.insert(charge.clone(), now_ms + RELEASE_PAUSE_MS),
                };
                return;
            }
            Purpose::Claim(link, ..)
            | Purpose::Take(link, ..)
            | Purpose::Settle(link, ..)
            | Purpose::Adopt(link, _)
            | Purpose::Stages(link) => link.clone(),
            Purpose::Read(..)
            | Purpose::Write(..)
            | Purpose::Invoke(..)
            | Purpose::FirstBarrier
            | Purpose::Barrier(_) => return,
        };
        if let Some(work) = self.works.get_mut(&link) {
            work.log_ended(call, purpose, outcome, (state, self.lease), now_ms, &mut self.calls);
        }
    }
}
