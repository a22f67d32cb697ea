//! From the records of the state to the words of the planner.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_state::{
    Device, DriftPolicy, FleetState, Mode, OnDrift, OnReturn, Revision, StageFailure, Wish,
};

use crate::{Profile, plan};

/// Wishes with an end that this owner has claimed, and until when they may be handed over, in
/// milliseconds of the node's monotonic clock.
pub type Claims = BTreeMap<Revision, u64>;

/// Wishes with an end that this owner has asked the log for, with when that was first.
pub type Asked = BTreeMap<Revision, u64>;

/// Takes what the log has granted of what this owner asked for, also where nobody heard the
/// answer: in an epoch nobody else can have asked.
pub fn take_granted(state: &FleetState, device: &Device, asked: &Asked, claims: &mut Claims) {
    for (_, wish) in device.wishes.iter() {
        let (Some(ttl), Some(asked_ms)) = (&wish.ttl, asked.get(&wish.revision)) else { continue };
        if !state.needs_claim(&device.id, wish) {
            let until_ms = claimed_until_ms(state, ttl.deadline_log_ms, *asked_ms);
            claims.entry(wish.revision).or_insert(until_ms);
        }
    }
}

/// How late log time was at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LogBound {
    log_ms: u64,
    at_ms: u64,
}

impl LogBound {
    /// From something that this node asked the log for at `asked_ms` of its monotonic clock, and
    /// that the log has decided since: it was stamped after it was asked for, so log time was no
    /// later then than what the state shows now.
    #[must_use]
    pub fn of(state: &FleetState, asked_ms: u64) -> Self {
        Self { log_ms: state.log_time_ms(), at_ms: asked_ms }
    }

    /// How old a wish is. One of after the bound was asked for is younger than that.
    fn age_of(self, state: &FleetState, wish: &Wish) -> plan::Age {
        if state.age_ms(wish.revision, wish.wished_log_ms).is_none() {
            return plan::Age::Unknown;
        }
        let age_ms = self.log_ms.saturating_sub(wish.wished_log_ms);
        plan::Age::AtMost { age_ms, at_ms: self.at_ms }
    }
}

/// What an owner has learnt from the log.
#[derive(Clone, Copy, Debug)]
pub struct Learnt<'a> {
    /// Wishes that it has claimed.
    pub claims: &'a Claims,
    /// How late it is at most.
    pub bound: Option<LogBound>,
}

/// What the planner is told.
#[must_use]
pub fn orders(
    state: &FleetState,
    device: &Device,
    profile: &Arc<Profile>,
    learnt: Learnt<'_>,
) -> plan::Orders {
    let marks = state.watermarks(&device.id);
    let policy = &device.spec.policy;
    let wishes = device.wishes.iter().map(|(property, wish)| {
        let ttl = if wish.ttl.is_none() {
            plan::Ttl::Unlimited
        } else if state.needs_claim(&device.id, wish) {
            plan::Ttl::Unclaimed
        } else {
            let claimed = learnt.claims.get(&wish.revision);
            let until_ms = claimed.copied();
            until_ms.map_or(plan::Ttl::ClaimedElsewhere, |until_ms| plan::Ttl::Claimed { until_ms })
        };
        let previous = wish.ttl.as_ref().and_then(|ttl| ttl.previous.as_ref());
        let previous = previous.filter(|_| ttl == plan::Ttl::Unclaimed);
        let (value, revision) = (wish.value.clone(), wish.revision);
        let before = previous.map(|former| former.revision);
        let age = learnt.bound.map_or(plan::Age::Unasked, |bound| bound.age_of(state, wish));
        let wish = plan::Wish { value, revision, ttl, age, before, local: None };
        (Arc::clone(property), wish)
    });
    plan::Orders {
        mode: match device.mode {
            Mode::Observe => plan::Mode::Observe,
            Mode::Manual => plan::Mode::Manual,
            Mode::Auto => plan::Mode::Auto,
        },
        held: device.hold.is_some(),
        wishes: wishes.collect(),
        desired_revision: device.desired_revision,
        marks: marks.map_or_else(plan::Marks::default, |marks| plan::Marks {
            sent: marks.sent,
            acknowledged: marks.acknowledged,
            verified: marks.verified,
        }),
        policies: policy
            .properties
            .iter()
            .map(|(property, policy)| (Arc::clone(property), property_policy(policy)))
            .collect(),
        policy: property_policy(&policy.drift),
        on_return: match policy.on_return {
            OnReturn::Hold => plan::OnReturn::Hold,
            OnReturn::Apply { age_ms_max } => plan::OnReturn::Apply { age_ms_max },
            OnReturn::Discard => plan::OnReturn::Discard,
        },
        given_up: marks.map(|marks| given_up(&marks.failures)).unwrap_or_default(),
        stood_down: BTreeMap::new(),
        profile: Arc::clone(profile),
    }
}

fn given_up(failures: &[StageFailure]) -> BTreeMap<Revision, plan::GivenUp> {
    let given_up = failures.iter().map(|failure| {
        let code = plan::TroubleCode::of_word(&failure.code);
        let (stage, message) = (failure.stage, Arc::clone(&failure.message));
        (failure.revision, plan::GivenUp { code, stage, message })
    });
    given_up.collect()
}

fn property_policy(policy: &DriftPolicy) -> plan::PropertyPolicy {
    plan::PropertyPolicy {
        on_drift: match policy.on_drift {
            OnDrift::Report => plan::OnDrift::Report,
            OnDrift::Adopt => plan::OnDrift::Adopt,
            OnDrift::Enforce => plan::OnDrift::Enforce,
        },
        // Without a time of its own it gets the usual one: with none at all, a report that was on
        // its way when something was handed over would count as the device's answer to it.
        settle_ms: if policy.settle_ms == 0 { plan::SETTLE_MS_DEFAULT } else { policy.settle_ms },
        tolerance: policy.tolerance.map_or(0.0, |tolerance| tolerance.get()),
    }
}

/// Until when something may be handed over that an owner asked for in the log, by its own
/// monotonic clock, when its time ends at `deadline_log_ms`.
///
/// The claim was stamped after it was asked for, so log time is now at most what the state shows
/// and the time since then.
#[must_use]
pub fn claimed_until_ms(state: &FleetState, deadline_log_ms: u64, asked_ms: u64) -> u64 {
    asked_ms.saturating_add(deadline_log_ms.saturating_sub(state.log_time_ms()))
}

#[cfg(test)]
mod tests {
    use fleet_state::{
        AgentCommand, Body, ClaimItem, Command, DeviceId, DeviceSpec, Entry, FoundingMember,
        FoundingParams, LinkId, LinkSpec, NodeKeys, Object, Placement, Proposal, SiteUid, Value,
    };

    use super::*;
    use crate::Fence;

    /// A lamp that is wished on, for so long.
    fn wished(ttl_ms: u64) -> FleetState {
        let keys = NodeKeys { sign: [1; 32], exchange: [2; 32] };
        let (name, credential) = ("gw1".parse().expect("a name"), [4; 64]);
        let mut state = FleetState::found(FoundingParams {
            site: "home".parse().expect("a name"),
            uid: "00112233445566778899aabbccddeeff".parse::<SiteUid>().expect("an id"),
            site_public_key: [3; 32],
            member: FoundingMember { name, keys, credential },
            voters: 1,
            feature_level: fleet_state::limits::FEATURE_LEVEL,
            token: None,
            wall_time_ms: 0,
        });
        let spec = LinkSpec {
            connector: "mqtt".into(),
            address: "mqtt://broker:1883".into(),
            placement: Placement::Any { labels: BTreeMap::default() },
            name: "".into(),
            labels: BTreeMap::default(),
            settings: Object::new(),
        };
        apply(&mut state, Command::LinkRegister { id: link(), spec });
        let owner = state.members().next().map(|founder| founder.id);
        let expect_epoch = state.link(&link()).expect("it").epoch;
        let assign = AgentCommand::LinkAssign { link: link(), expect_epoch, owner };
        apply(&mut state, Command::Agents(assign));
        let spec = DeviceSpec { link: Some(link()), ..DeviceSpec::default() };
        apply(&mut state, Command::DeviceRegister { id: lamp(), spec });
        apply(&mut state, Command::DeviceMode { id: lamp(), mode: Mode::Auto });
        let patch: Object = [(Arc::from("on"), Value::from(true))].into_iter().collect();
        let ttl_ms = Some(ttl_ms);
        apply(&mut state, Command::DeviceUpdate { id: lamp(), patch, ttl_ms });
        state
    }

    fn link() -> LinkId {
        "broker".parse().expect("an id")
    }

    fn lamp() -> DeviceId {
        "lamp".parse().expect("an id")
    }

    fn apply(state: &mut FleetState, command: Command) {
        let revision = Revision::new(state.last_applied().get() + 1);
        let request_id = format!("request-{revision}").parse().expect("an id");
        let proposal = Proposal { request_id, if_revision: None, actor: None, command };
        let body = Body::Proposal(proposal);
        let applied = state.apply(revision, &Entry { log_time_ms: 0, wall_time_ms: 0, body });
        let answer = applied.answer.expect("an answer");
        assert!(matches!(answer.outcome, fleet_state::Outcome::Accepted(_)), "{answer:?}");
    }

    #[test]
    fn what_the_log_granted_is_held_though_nobody_heard_the_answer() {
        let mut state = wished(30_000);
        let device = |state: &FleetState| Arc::clone(state.device(&lamp()).expect("it"));
        let wish = device(&state).wishes.get("on").expect("it").revision;
        let (asked, mut claims) = (Asked::from([(wish, 400)]), Claims::new());
        take_granted(&state, &device(&state), &asked, &mut claims);
        assert!(claims.is_empty(), "it was not granted");
        let items = vec![ClaimItem::Wish { device: lamp(), revision: wish }];
        let epoch = state.link(&link()).expect("it").epoch;
        let claim = AgentCommand::Claim { link: link(), epoch, items };
        apply(&mut state, Command::Agents(claim));
        take_granted(&state, &device(&state), &Asked::new(), &mut claims);
        assert!(claims.is_empty(), "somebody else asked for it");
        take_granted(&state, &device(&state), &asked, &mut claims);
        assert_eq!(claims, Claims::from([(wish, 30_400)]));
        let profile = Arc::new(Profile {
            properties: BTreeMap::new(),
            others: None,
            actions: None,
            fence: Fence::None,
            warnings: Vec::new(),
        });
        let learnt = Learnt { claims: &claims, bound: None };
        let orders = orders(&state, &device(&state), &profile, learnt);
        let ttl = orders.wishes.get("on").map(|wish| wish.ttl);
        assert_eq!(ttl, Some(plan::Ttl::Claimed { until_ms: 30_400 }));
    }
}
