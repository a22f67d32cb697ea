//! What may leave a node for a device, and when.
//!
//! - Owners take turns: whatever leaves for a link leaves in an epoch that is no older than any that
//!   something left in before, and from the node that the log made the owner of that epoch. Once
//!   the log has given the link to another one, nothing more leaves the former owner.
//! - Nothing leaves without a lease: within its length, by a clock that no node has, of a question
//!   that the leader answered. So nobody writes on the side of a partition that lost its majority.
//! - Nothing leaves after its expiry: what was wished with a time limit leaves within that time,
//!   by a clock that no node has.
//! - A one-shot arrives once, and a newer wish is never followed by an older one of the same owner.
//! - What the log says became of a one-shot is true.
//!
//! The first two look at the moment when something leaves a node, because what is on its way nobody
//! can stop; the others at the journals of the devices.

use std::collections::{BTreeMap, BTreeSet};

use fleet_state::{
    Change, DeviceId, FleetState, Invocation, LinkId, NodeId, Record, RequestId, Revision, Stage,
};

use fleet_device::lease::LEASE_MS;

use super::Violation;
use crate::field::{Field, Wrong};
use crate::keeper::{Ask, Call, What};

/// Clocks of nodes may be so much slower than time, and a turn of the loop late.
const DRIFT_SHARE: u64 = 20;
const LATE_MS: u64 = 100;

/// What is known of links and time limits.
#[derive(Debug, Default)]
pub struct HandOvers {
    /// The newest epoch in which anything left, by link.
    newest: BTreeMap<LinkId, (u64, NodeId)>,
    /// The newest epoch that the log gave to anybody, by link.
    given: BTreeMap<LinkId, u64>,
    /// Who owned a link in an epoch.
    owners: BTreeMap<(LinkId, u64), NodeId>,
    /// All one-shots, with when they are over.
    one_shots: BTreeMap<RequestId, u64>,
    /// When wishes are over.
    wishes: BTreeMap<(DeviceId, Revision), u64>,
    /// Questions for a lease that are not answered, with when they were asked; by the start of the
    /// node that asks.
    questions: BTreeMap<(NodeId, u64, Call), u64>,
    /// Until when a node may write, at most, in one start of it.
    leases: BTreeMap<(NodeId, u64), u64>,
    /// Links that are written to without a lease.
    unleased: BTreeSet<LinkId>,
    /// Wishes that left in time.
    in_time: BTreeSet<(DeviceId, Revision)>,
    left: u64,
}

impl HandOvers {
    /// An entry was committed, seen for the first time at `now_ms`, and changed this.
    pub fn committed(&mut self, changes: &[Change], log_ms: u64, now_ms: u64) {
        let over = |deadline_log_ms: u64| {
            let ttl_ms = deadline_log_ms.saturating_sub(log_ms);
            now_ms + ttl_ms + ttl_ms / DRIFT_SHARE + LATE_MS
        };
        for record in changes.iter().filter_map(|change| change.record.as_ref()) {
            match record {
                Record::Link(link) => {
                    if link.unleased {
                        self.unleased.insert(link.id.clone());
                    } else {
                        self.unleased.remove(&link.id);
                    }
                    if let Some(owner) = link.owner {
                        self.owners.insert((link.id.clone(), link.epoch), owner);
                        self.given.insert(link.id.clone(), link.epoch);
                    }
                }
                Record::Invocation(invocation) => {
                    let over_ms = invocation.deadline_log_ms.map_or(u64::MAX, over);
                    self.one_shots.entry(invocation.id.clone()).or_insert(over_ms);
                }
                Record::Device(device) => {
                    for (_, wish) in device.wishes.iter() {
                        if let Some(ttl) = &wish.ttl {
                            let of = (device.id.clone(), wish.revision);
                            self.wishes.entry(of).or_insert(over(ttl.deadline_log_ms));
                        }
                    }
                }
                Record::Param(_) | Record::Member(_) | Record::Token(_) | Record::Watermarks(_) => {
                }
            }
        }
    }

    /// A node asks for a lease now.
    pub fn lease_asked(&mut self, asks: (NodeId, u64), call: Call, now_ms: u64) {
        self.questions.insert((asks.0, asks.1, call), now_ms);
    }

    /// The question was answered: with a lease, which runs from the question, or without one.
    pub fn lease_answered(&mut self, asked: (NodeId, u64), call: Call, granted: bool) {
        let asked_ms = self.questions.remove(&(asked.0, asked.1, call));
        if let Some(asked_ms) = asked_ms.filter(|_| granted) {
            // A slow clock, and two roundings.
            let until_ms = asked_ms + LEASE_MS + LEASE_MS / (DRIFT_SHARE - 1) + 2;
            let known_ms = self.leases.entry(asked).or_default();
            *known_ms = until_ms.max(*known_ms);
        }
    }

    /// Something leaves a node now, in one start of it.
    ///
    /// # Errors
    /// It must not.
    pub fn leaves(&mut self, from: (NodeId, u64), ask: &Ask, now_ms: u64) -> Result<(), Violation> {
        if matches!(ask.what, What::Read) {
            return Ok(());
        }
        let (node, _) = from;
        self.left += 1;
        self.in_turn(node, ask)?;
        let until_ms = self.leases.get(&from).copied().unwrap_or(0);
        if until_ms < now_ms && !self.unleased.contains(&ask.link) {
            let link = &ask.link;
            let what = format!(
                "node {node} writes to {link} at {now_ms}; its lease was over at {until_ms}"
            );
            return Err(Violation::new("nothing leaves without a lease", what));
        }
        let late = |what: String, over_ms: u64| {
            let what =
                format!("node {node} hands over {what} at {now_ms}; it was over at {over_ms}");
            Err(Violation::new("nothing leaves after its expiry", what))
        };
        match &ask.what {
            What::Invoke(request) => match self.one_shots.get(request) {
                Some(over_ms) if *over_ms < now_ms => late(request.to_string(), *over_ms),
                Some(_) | None => Ok(()),
            },
            What::Write(parts) => {
                for (_, _, revision) in parts {
                    let over_ms = self.wishes.get(&(ask.device.clone(), *revision));
                    let of = (ask.device.clone(), *revision);
                    match over_ms {
                        // What was handed over in time may be enforced for ever.
                        Some(over_ms) if *over_ms < now_ms && !self.in_time.contains(&of) => {
                            return late(format!("r{revision} of {}", ask.device), *over_ms);
                        }
                        Some(_) => {
                            self.in_time.insert(of);
                        }
                        None => {}
                    }
                }
                Ok(())
            }
            What::Read => Ok(()),
        }
    }

    fn in_turn(&mut self, node: NodeId, ask: &Ask) -> Result<(), Violation> {
        let fail = |what: String| Err(Violation::new("owners take turns", what));
        let of = (ask.link.clone(), ask.epoch);
        match self.owners.get(&of) {
            Some(owner) if *owner == node => {}
            owner => {
                return fail(format!(
                    "node {node} writes to {} in epoch {}, whose owner is {owner:?}",
                    ask.link, ask.epoch
                ));
            }
        }
        if let Some(given) = self.given.get(&ask.link).filter(|given| **given > ask.epoch) {
            return fail(format!(
                "node {node} writes to {} in epoch {}, and epoch {given} is another one's",
                ask.link, ask.epoch
            ));
        }
        match self.newest.get(&ask.link) {
            Some((epoch, other)) if *epoch > ask.epoch => fail(format!(
                "node {node} writes to {} in epoch {}, after node {other} did in epoch {epoch}",
                ask.link, ask.epoch
            )),
            Some(_) | None => {
                self.newest.insert(ask.link.clone(), (ask.epoch, node));
                Ok(())
            }
        }
    }

    /// Something arrived that must not have.
    ///
    /// # Errors
    /// Always.
    pub fn wrong(node: NodeId, device: &DeviceId, wrong: &Wrong) -> Result<(), Violation> {
        match wrong {
            Wrong::Twice(request) => Err(Violation::new(
                "a one-shot arrives once",
                format!("device {device} got {request} again, from node {node}"),
            )),
            Wrong::Older(property, now, before) => Err(Violation::new(
                "no older wish after a newer one",
                format!(
                    "device {device} got {property} of r{now} after r{before} from node {node}"
                ),
            )),
        }
    }

    /// At the end: what the log says of one-shots is what the journals say.
    ///
    /// # Errors
    /// It is not.
    pub fn check_stages(&self, state: &FleetState, field: &Field) -> Result<(), Violation> {
        for invocation in self.one_shots.keys().filter_map(|id| state.invocation(id)) {
            let device = field.devices().find(|(id, _)| **id == invocation.device);
            let done = device.is_some_and(|(_, device)| device.has_done(&invocation.id));
            if let Some(what) = contradiction(invocation, done) {
                let what = format!("{} is {}, {what}", invocation.id, invocation.stage.as_str());
                return Err(Violation::new("what is told of one-shots is true", what));
            }
        }
        Ok(())
    }

    /// How many hand-overs were looked at.
    #[must_use]
    pub fn left(&self) -> u64 {
        self.left
    }
}

fn contradiction(invocation: &Invocation, done: bool) -> Option<&'static str> {
    match invocation.stage {
        Stage::Acknowledged | Stage::Verified if !done => Some("and the device never got it"),
        Stage::Committed | Stage::Failed | Stage::Expired | Stage::Cancelled if done => {
            Some("and the device got it")
        }
        Stage::Committed
        | Stage::Dispatching
        | Stage::Sent
        | Stage::Acknowledged
        | Stage::Verified
        | Stage::Failed
        | Stage::Expired
        | Stage::Cancelled
        | Stage::Superseded
        | Stage::Unknown => None,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "this whole module is a test")]
mod tests {
    use fleet_state::Object;

    use super::*;

    #[test]
    fn what_the_log_says_of_a_one_shot_is_held_against_the_journal() {
        let told = |stage| Invocation {
            id: "request-1".parse().unwrap(),
            device: "hall.lamp".parse().unwrap(),
            action: "on".into(),
            args: Object::default(),
            actor: None,
            deadline_log_ms: None,
            idempotent: false,
            stage,
            dispatch: None,
            detail: "".into(),
            committed: Revision::new(3),
            revision: Revision::new(4),
            changed_wall_ms: 5,
        };
        // Whether it may be so when the device got it, and when it did not.
        for (stage, got, missed) in [
            (Stage::Committed, false, true),
            (Stage::Dispatching, true, true),
            (Stage::Sent, true, true),
            (Stage::Acknowledged, true, false),
            (Stage::Verified, true, false),
            (Stage::Failed, false, true),
            (Stage::Expired, false, true),
            (Stage::Cancelled, false, true),
            (Stage::Unknown, true, true),
        ] {
            let is_true = |done| contradiction(&told(stage), done).is_none();
            assert_eq!((is_true(true), is_true(false)), (got, missed), "{stage:?}");
        }
    }
}
