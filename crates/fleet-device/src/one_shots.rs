//! One-shots of one device, as the owner of its link sees them, in one epoch.
//!
//! An owner asks the log for a one-shot before its first byte leaves; what the log grants it hands
//! over once, if its time is not over, and tells how that ended. What stands as dispatching and
//! was not asked for here is somebody else's, and is left alone: it ends `unknown` when the link
//! changes hands.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_state::{Device, FleetState, Invocation, LinkId, NodeId, RequestId, Stage};

use crate::plan::Orders;
use crate::{Availability, Handed, WriteError, claimed_until_ms, seeded};

/// One-shots of a device that are open.
#[derive(Debug, Default)]
pub struct OneShots {
    /// Asked for in the log, with when that was first; nothing has left.
    pub asked: BTreeMap<RequestId, u64>,
    /// Ended, with what is to be told.
    pub ends: BTreeMap<RequestId, (Stage, String)>,
    /// Everything open that a hand-over was ever begun of in this epoch.
    pub begun: BTreeSet<RequestId>,
}

/// What to do with the oldest one-shot that waits.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Ask the log for it.
    Ask(RequestId),
    /// It was granted, and nobody had heard of that: hand it over. Asked for at this moment.
    HandOver(Arc<Invocation>, u64),
}

/// Whether a one-shot that the log granted is handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Begun {
    /// Now, and not after this moment.
    HandOver {
        /// Reading of the node's monotonic clock.
        until_ms: Option<u64>,
    },
    /// It ends without a byte having left; what is to be told stands in [`OneShots::ends`].
    Refused,
    /// It was begun before.
    Again,
}

impl OneShots {
    /// Forgets what the state doesn't hold open any more.
    pub fn follow(&mut self, state: &FleetState) {
        let open = |id: &RequestId| state.invocation(id).is_some_and(|known| known.stage.is_open());
        self.begun.retain(open);
        self.asked.retain(|id, _| open(id));
    }

    /// What comes next for the oldest of `open`, if anything does.
    #[must_use]
    pub fn next(
        &self,
        open: Vec<Arc<Invocation>>,
        orders: &Orders,
        availability: Availability,
    ) -> Option<Next> {
        let next = open.into_iter().find(|next| !self.begun.contains(&next.id))?;
        if next.stage == Stage::Dispatching {
            let asked_ms = self.asked.get(&next.id).copied()?;
            return Some(Next::HandOver(next, asked_ms));
        }
        if next.stage != Stage::Committed || !orders.allows_writing() {
            return None;
        }
        if availability == Availability::Offline && next.deadline_log_ms.is_some() {
            // It may come back in time.
            return None;
        }
        if seeded::on("claim-skipped") {
            return Some(Next::HandOver(next, u64::MAX));
        }
        Some(Next::Ask(next.id.clone()))
    }

    /// Notes that the log is asked for a one-shot; gives back when that was first.
    pub fn ask(&mut self, request: &RequestId, now_ms: u64) -> u64 {
        *self.asked.entry(request.clone()).or_insert(now_ms)
    }

    /// Begins the hand-over of a one-shot that the log granted: once, and not after its time.
    pub fn begin(
        &mut self,
        state: &FleetState,
        invocation: &Invocation,
        asked_ms: u64,
        device: (&Orders, Availability),
        now_ms: u64,
    ) -> Begun {
        if !self.begun.insert(invocation.id.clone()) {
            return Begun::Again;
        }
        let until_ms = invocation
            .deadline_log_ms
            .map(|deadline_log_ms| claimed_until_ms(state, deadline_log_ms, asked_ms));
        let (orders, availability) = device;
        let actions = orders.profile.actions.as_ref();
        let refused = if until_ms.is_some_and(|until_ms| now_ms >= until_ms)
            && !seeded::on("expiry-ignored")
        {
            "its time was over before it could be handed over"
        } else if !orders.allows_writing() {
            "nothing is handed to the device now: it is on hold, or in mode observe"
        } else if availability == Availability::Offline {
            "the device is away; give it a time limit to wait for it"
        } else if actions.is_some_and(|actions| !actions.contains(&invocation.action)) {
            "the device has no such action"
        } else {
            return Begun::HandOver { until_ms };
        };
        self.ends.insert(invocation.id.clone(), (Stage::Failed, refused.to_owned()));
        Begun::Refused
    }

    /// A hand-over has ended.
    pub fn handed_over(&mut self, request: RequestId, ended: Result<Handed, WriteError>) {
        let end = match ended {
            Ok(Handed::Sent) => (Stage::Sent, String::new()),
            Ok(Handed::Acknowledged) => (Stage::Acknowledged, String::new()),
            Err(error) if error.may_have_acted => (Stage::Unknown, error.message),
            Err(error) => (Stage::Failed, error.message),
        };
        self.ends.insert(request, end);
    }

    /// A hand-over has not ended, and is not waited for any more.
    pub fn given_up(&mut self, request: RequestId, why: &str) {
        self.ends.insert(request, (Stage::Unknown, why.to_owned()));
    }

    /// The log has heard the end of a one-shot.
    pub fn told(&mut self, request: &RequestId) {
        self.ends.remove(request);
        self.asked.remove(request);
    }
}

/// One-shots that the state has for a device and that this owner has to see to, oldest first.
#[must_use]
pub fn open_one_shots(
    state: &FleetState,
    device: &Device,
    link: &LinkId,
    node: NodeId,
    epoch: u64,
) -> Vec<Arc<Invocation>> {
    let mine = |invocation: &&Arc<Invocation>| match &invocation.dispatch {
        None => invocation.stage == Stage::Committed,
        Some(dispatch) => {
            invocation.stage == Stage::Dispatching
                && dispatch.link == *link
                && dispatch.node == node
                && dispatch.epoch == epoch
        }
    };
    let mut open: Vec<_> = state.invocations_open(&device.id).filter(mine).cloned().collect();
    open.sort_by_key(|invocation| invocation.committed);
    open
}

#[cfg(test)]
mod tests {
    use fleet_state::{
        FleetState, FoundingMember, FoundingParams, NodeKeys, Object, Revision, SiteUid,
    };

    use super::*;
    use crate::plan::{Marks, Mode, OnReturn, PropertyPolicy};
    use crate::{Fence, Profile};

    fn state() -> FleetState {
        let keys = NodeKeys { sign: [1; 32], exchange: [2; 32] };
        FleetState::found(FoundingParams {
            site: "home".parse().expect("a name"),
            uid: "00112233445566778899aabbccddeeff".parse::<SiteUid>().expect("an id"),
            site_public_key: [3; 32],
            member: FoundingMember {
                name: "gw1".parse().expect("a name"),
                keys,
                credential: [4; 64],
            },
            voters: 1,
            feature_level: fleet_state::limits::FEATURE_LEVEL,
            token: None,
            wall_time_ms: 0,
        })
    }

    fn orders(mode: Mode, held: bool) -> Orders {
        Orders {
            mode,
            held,
            wishes: BTreeMap::new(),
            desired_revision: Revision::NONE,
            marks: Marks::default(),
            policies: BTreeMap::new(),
            policy: PropertyPolicy::default(),
            on_return: OnReturn::Discard,
            given_up: BTreeMap::new(),
            stood_down: BTreeMap::new(),
            profile: Arc::new(Profile {
                properties: BTreeMap::new(),
                others: None,
                actions: None,
                fence: Fence::None,
                warnings: Vec::new(),
            }),
        }
    }

    #[test]
    fn what_was_granted_before_a_hold_is_not_handed_over_after_it() {
        let invocation = Invocation {
            id: "open-1".parse().expect("an id"),
            device: "hall.door".parse().expect("an id"),
            action: Arc::from("open"),
            args: Object::new(),
            actor: None,
            deadline_log_ms: None,
            idempotent: false,
            stage: Stage::Dispatching,
            dispatch: None,
            detail: Arc::from(""),
            committed: Revision::new(3),
            revision: Revision::new(4),
            changed_wall_ms: 0,
        };
        let table =
            [(Mode::Auto, false, true), (Mode::Auto, true, false), (Mode::Observe, false, false)];
        for (mode, held, goes) in table {
            let (mut one_shots, orders) = (OneShots::default(), orders(mode, held));
            let device = (&orders, Availability::Online);
            let begun = one_shots.begin(&state(), &invocation, 0, device, 5);
            let expected = if goes { Begun::HandOver { until_ms: None } } else { Begun::Refused };
            assert_eq!(begun, expected, "{mode:?} {held}");
            let end = one_shots.ends.get(&invocation.id).map(|(stage, _)| *stage);
            assert_eq!(end, (!goes).then_some(Stage::Failed));
        }
    }
}
