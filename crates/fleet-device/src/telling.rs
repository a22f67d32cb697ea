//! What the log is told of how far the wishes of a device got, and what a device is told of who
//! speaks.

use std::sync::Arc;

use fleet_state::{Device, DeviceId, Link, StageFailure, StageItem};

use crate::plan::{Orders, Plan, Trouble};

/// What the log doesn't know yet, if there is anything: how far the wishes got, and what keeps
/// those that the marks pass over. The two go together, or a wish that was given up would count
/// as verified for as long as only the marks are known.
#[must_use]
pub fn stage_news(device: &DeviceId, plan: &Plan, orders: &Orders) -> Option<StageItem> {
    let is_known = |trouble: &Trouble| {
        let known = orders.given_up.get(&trouble.revision);
        known.is_some_and(|known| (known.code, known.stage) == (trouble.code, trouble.stage))
    };
    let failures = plan.failures.iter().filter(|trouble| !is_known(trouble));
    let item = StageItem {
        device: device.clone(),
        sent: plan.marks.sent,
        acknowledged: plan.marks.acknowledged,
        verified: plan.marks.verified,
        failures: failures
            .map(|trouble| StageFailure {
                revision: trouble.revision,
                stage: trouble.stage,
                code: Arc::from(trouble.code.as_str()),
                message: Arc::from(trouble.message.as_str()),
            })
            .collect(),
        overcome: plan.overcome.clone(),
    };
    let raised = plan.marks.max(orders.marks) != orders.marks;
    let news = raised || !item.failures.is_empty() || !item.overcome.is_empty();
    news.then_some(item)
}

/// The epoch that a device is told with what is handed to it: it only grows for one device, whoever
/// owns its link, also when it moves to a link whose own epochs are lower.
///
/// Epochs are a link's own, revisions are the site's. Who knows a later revision of the link knows
/// who owns it since, so an earlier owner can't have told a higher one than its successor; and one
/// of the device's former link tells nothing that is later than the move.
#[must_use]
pub fn told_epoch(link: &Link, device: &Device) -> u64 {
    link.epoch.max(link.revision.get()).max(device.revision.get())
}

#[cfg(test)]
mod tests {
    use fleet_state::{
        AgentCommand, Body, Command, DeviceSpec, Entry, FleetState, FoundingMember, FoundingParams,
        LinkSpec, NodeId, NodeKeys, Placement, Proposal, Revision, SiteUid,
    };

    use super::told_epoch;

    fn founding(site: &str) -> FoundingParams {
        FoundingParams {
            site: site.parse().expect("a name"),
            uid: SiteUid::from_bytes([4; 16]),
            site_public_key: [5; 32],
            member: FoundingMember {
                name: "gw-1".parse().expect("a name"),
                keys: NodeKeys { sign: [1; 32], exchange: [2; 32] },
                credential: [3; 64],
            },
            voters: 1,
            feature_level: fleet_state::limits::FEATURE_LEVEL,
            token: None,
            wall_time_ms: 0,
        }
    }

    fn run(state: &mut FleetState, command: Command) {
        let revision = Revision::new(state.last_applied().get() + 1);
        let request_id = format!("r-{revision}").parse().expect("an id");
        let proposal = Proposal { request_id, if_revision: None, actor: None, command };
        let body = Body::Proposal(proposal);
        let applied = state.apply(revision, &Entry { log_time_ms: 0, wall_time_ms: 0, body });
        let outcome = applied.answer.expect("an answer").outcome;
        assert!(matches!(outcome, fleet_state::Outcome::Accepted(_)), "{outcome:?}");
    }

    fn link(state: &mut FleetState, id: &str) {
        let spec = LinkSpec {
            connector: "nats".into(),
            address: "".into(),
            placement: Placement::On("gw-1".parse().expect("a name")),
            name: "".into(),
            labels: std::collections::BTreeMap::new(),
            settings: fleet_state::Object::new(),
        };
        run(state, Command::LinkRegister { id: id.parse().expect("an id"), spec });
    }

    fn assigned(state: &mut FleetState, id: &str, owner: Option<NodeId>) {
        let link = id.parse().expect("an id");
        let expect_epoch = state.link(&link).expect("a link").epoch;
        run(state, Command::Agents(AgentCommand::LinkAssign { link, expect_epoch, owner }));
    }

    /// Puts the lamp on a link; gives what it is told from then on.
    fn on(state: &mut FleetState, link: &str) -> u64 {
        let spec = DeviceSpec { link: Some(link.parse().expect("an id")), ..DeviceSpec::default() };
        run(state, Command::DeviceRegister { id: "lamp".parse().expect("an id"), spec });
        told(state)
    }

    fn told(state: &FleetState) -> u64 {
        let lamp = state.device(&"lamp".parse().expect("an id")).expect("a lamp");
        let link = lamp.spec.link.as_ref().and_then(|link| state.link(link));
        told_epoch(link.expect("a link"), lamp)
    }

    #[test]
    fn what_a_device_is_told_only_grows() {
        let mut state = FleetState::found(founding("home"));
        for id in ["old", "new"] {
            link(&mut state, id);
            assigned(&mut state, id, Some(NodeId::FOUNDER));
        }
        let mut before = on(&mut state, "new");
        let mut grows = |what: &str, now: u64| {
            assert!(now > before, "{what}: {now}, and {before} before");
            before = now;
        };
        // The other link's own epochs are lower.
        grows("moved", on(&mut state, "old"));
        assigned(&mut state, "old", None);
        assigned(&mut state, "old", Some(NodeId::FOUNDER));
        grows("another owner", told(&state));
        let snapshot = state.clone();
        for _ in 0..100 {
            assigned(&mut state, "old", None);
            assigned(&mut state, "old", Some(NodeId::FOUNDER));
        }
        grows("many owners", told(&state));
        // The site is restored from a snapshot that knows nothing of them.
        let mut state = snapshot.restore_as(founding("ship"));
        grows("restored", told(&state));
        link(&mut state, "newest");
        grows("moved to a link of after that", on(&mut state, "newest"));
    }
}
