//! Deciding whether this agent takes requests in, and which.
//!
//! One task looks at everything that speaks for or against it and publishes one [`IntakeState`];
//! the lanes follow it (`intake`), status and readiness tell it. An agent that has known no leader
//! for two seconds, or whose consensus loop has stood still for as long, can't get anything decided,
//! so it leaves commands and administration; when all have, clients hear "no responders" at once.
//! Reads it keeps: a stale read needs no leader, and is what people want to see when there is none.
//! It leaves those too when it hears a leader elsewhere, because then others know better.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use fleet_consensus::View;
use fleet_state::{Entity, NodeId, Revision};
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use crate::consensus::AppliedBatch;

use super::IntakeState;
use super::desk::Desk;
use super::membership::Membership;

/// Without a leader for so long, an agent gets nothing decided.
pub(super) const LEADERLESS_MS_MAX: u64 = 2_000;
/// How often it is looked at. The view itself is renewed with each tick of the loop, and an idle
/// agent should sleep.
pub(super) const LOOK_INTERVAL: Duration = Duration::from_millis(250);

/// What speaks for or against taking requests in, beside the view.
#[derive(Clone, Copy, Debug)]
struct Around {
    /// Where intake stands now.
    held: IntakeState,
    /// Another site answers under the same name.
    foreign: bool,
    /// A leader is heard that does not speak to this node.
    elsewhere: bool,
    /// The consensus loop stands still, and what the view says of a leader is old.
    still: bool,
    now_ms: u64,
}

/// Publishes where intake stands, until the agent stops.
pub(super) async fn judge(desk: Arc<Desk>, mut stopped: watch::Receiver<bool>) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut applied = desk.handle.subscribe();
    let mut views = desk.handle.watch_view();
    let mut foreign = desk.foreign.subscribe();
    while !*stopped.borrow_and_update() {
        let view = Arc::clone(&views.borrow_and_update());
        let still = desk.handle.still_ms().is_some();
        if view.standing.leader.is_some() {
            desk.met_leader.store(true, Ordering::Relaxed);
        }
        let held = *desk.intake.borrow();
        let around = Around {
            held,
            foreign: *foreign.borrow_and_update(),
            elsewhere: desk.elsewhere.borrow().is_some_and(|leader| leader.is_there()),
            still,
            now_ms: desk.handle.clock().now_ms(),
        };
        let state = state_of(&view, around);
        if held != state {
            desk.intake.send_replace(state);
            tracing::info!(intake = state.as_str(), "intake has changed");
        }
        // Somebody waits for an agent that has found its leader: no time is lost there.
        let waits_for_leader =
            !still && matches!(state, IntakeState::NoLeader | IntakeState::Reading);
        tokio::select! {
            _ = looks.tick() => {}
            _ = stopped.changed() => {}
            _ = foreign.changed() => {}
            () = concerned(&mut applied, desk.facts.id) => {}
            _ = views.wait_for(has_leader_and_state), if waits_for_leader => {}
        }
    }
    desk.intake.send_replace(IntakeState::Stopped);
}

/// For how long no leader has been known; 0 while one is.
pub(super) fn leaderless_ms(desk: &Desk) -> u64 {
    let since = desk.handle.view().leaderless_since_ms;
    since.map_or(0, |since| desk.handle.clock().now_ms().saturating_sub(since).max(1))
}

/// For how long this node has known nothing of a leader; also because it stands still.
pub(super) fn cut_off_ms(desk: &Desk) -> u64 {
    leaderless_ms(desk).max(desk.handle.still_ms().unwrap_or(0))
}

fn has_leader_and_state(view: &Arc<View>) -> bool {
    view.standing.leader.is_some() && view.applied != Revision::NONE
}

/// Where intake should stand.
fn state_of(view: &View, around: Around) -> IntakeState {
    if around.foreign {
        return IntakeState::ForeignSite;
    }
    match Membership::of(view) {
        Membership::Removed | Membership::Leaving => return IntakeState::Removed,
        Membership::Member => {}
    }
    // A joiner knows nothing of the site before its first snapshot.
    if view.applied == Revision::NONE {
        return IntakeState::NoLeader;
    }
    if around.still {
        return without_leader(around);
    }
    if view.standing.leader.is_some() {
        return IntakeState::Serving;
    }
    let since = view.leaderless_since_ms.unwrap_or(around.now_ms);
    if around.now_ms.saturating_sub(since) < LEADERLESS_MS_MAX {
        // An election is on; who was taking requests in goes on, who was not waits for its end.
        return around.held;
    }
    without_leader(around)
}

/// Where intake stands when nothing can be decided here.
const fn without_leader(around: Around) -> IntakeState {
    if around.elsewhere { IntakeState::NoLeader } else { IntakeState::Reading }
}

/// Returns once something was applied that is about this node as a member.
async fn concerned(
    applied: &mut tokio::sync::broadcast::Receiver<Arc<AppliedBatch>>,
    node: NodeId,
) {
    let me = Entity::Member(node);
    loop {
        match applied.recv().await {
            Ok(batch) => {
                let mut changes = batch.items.iter().flat_map(|item| &item.changes);
                if changes.any(|change| change.entity == me) {
                    return;
                }
            }
            // What was missed may have been about this node.
            Err(RecvError::Lagged(_)) => return,
            // The consensus loop has ended; the process is ending.
            Err(RecvError::Closed) => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use fleet_consensus::NodeRole;
    use fleet_state::Role;

    use crate::metrics::tests::view;

    use super::*;

    fn around(held: IntakeState, now_ms: u64) -> Around {
        Around { held, foreign: false, elsewhere: false, still: false, now_ms }
    }

    #[test]
    fn a_member_with_a_leader_serves() {
        let led = view(NodeRole::Follower, Some(1));
        assert_eq!(state_of(&led, around(IntakeState::NoLeader, 0)), IntakeState::Serving);
        let foreign = Around { foreign: true, ..around(IntakeState::Serving, 0) };
        assert_eq!(state_of(&led, foreign), IntakeState::ForeignSite);
    }

    #[test]
    fn who_stands_still_gets_nothing_decided_whatever_it_last_knew_of_a_leader() {
        let led = view(NodeRole::Leader, Some(1));
        let still = Around { still: true, ..around(IntakeState::Serving, 0) };
        assert_eq!(state_of(&led, still), IntakeState::Reading);
        let elsewhere = Around { elsewhere: true, ..still };
        assert_eq!(state_of(&led, elsewhere), IntakeState::NoLeader);
    }

    #[test]
    fn without_a_leader_reads_stay_unless_there_is_one_elsewhere() {
        let mut alone = view(NodeRole::PreCandidate, None);
        alone.leaderless_since_ms = Some(1_000);
        let at = |held, now_ms| state_of(&alone, around(held, now_ms));
        assert_eq!(at(IntakeState::Serving, 2_900), IntakeState::Serving, "an election");
        assert_eq!(at(IntakeState::NoLeader, 2_900), IntakeState::NoLeader, "a start");
        assert_eq!(at(IntakeState::Serving, 3_000), IntakeState::Reading);
        assert_eq!(at(IntakeState::Reading, 9_000), IntakeState::Reading);
        let elsewhere = Around { elsewhere: true, ..around(IntakeState::Serving, 3_000) };
        assert_eq!(state_of(&alone, elsewhere), IntakeState::NoLeader);
    }

    #[test]
    fn who_was_removed_takes_nothing_in_whatever_it_knows_of_a_leader() {
        let mut removed = view(NodeRole::Follower, Some(1));
        let node = removed.standing.node;
        removed.state.apply_role(Revision::new(13), node, Role::Removed);
        assert_eq!(state_of(&removed, around(IntakeState::Serving, 0)), IntakeState::Removed);
    }

    #[test]
    fn who_has_no_state_yet_waits() {
        let mut blank = view(NodeRole::Learner, Some(1));
        blank.applied = Revision::NONE;
        assert_eq!(state_of(&blank, around(IntakeState::NoLeader, 9_000)), IntakeState::NoLeader);
    }
}
