//! Listening for a leader that this node does not hear as a member.
//!
//! The leader tells the revision on the tick subject every second, to everybody. A node that has
//! no leader and hears those ticks is cut off from a site that works: its frames don't get through,
//! or it was removed while it was away, which nobody can tell it as a member any more. It then
//! leaves even stale reads to those that are up to date, and says what may be the matter.
//!
//! A tick proves nothing: whoever may publish on that subject can make one. So it decides nothing
//! but whether a node that can't help anyway stays in the queue group.

use std::sync::Arc;
use std::time::Duration;

use fleet_protocol::event::Tick;
use fleet_protocol::limits::TICK_INTERVAL_MS;
use futures_util::StreamExt;
use tokio::time::{Instant, MissedTickBehavior};

use super::desk::Desk;
use super::judge::{LEADERLESS_MS_MAX, LOOK_INTERVAL, cut_off_ms, leaderless_ms};
use super::membership::Membership;
use super::nats_door::NatsDoor;

/// A leader that has not been heard for this long is not there.
const TICK_AGE_MAX: Duration = Duration::from_millis(TICK_INTERVAL_MS * 3);
/// Pause before subscribing again after it failed.
const SUBSCRIBE_PAUSE: Duration = Duration::from_secs(1);

/// A leader as its ticks show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Elsewhere {
    /// Its node id, as it says.
    pub leader: u64,
    /// Its term, as it says.
    pub term: u64,
    /// When it was heard last.
    pub at: Instant,
}

impl Elsewhere {
    /// Whether it was heard lately.
    pub(super) fn is_there(&self) -> bool {
        self.at.elapsed() < TICK_AGE_MAX
    }
}

/// Listens while this node has no leader.
pub(super) async fn listen(desk: Arc<Desk>, nats: Arc<NatsDoor>) {
    let mut looks = tokio::time::interval(LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        if cut_off_ms(&desk) == 0 {
            continue;
        }
        let mut said = false;
        match nats.client.subscribe(desk.subjects.tick()).await {
            Ok(mut ticks) => {
                while cut_off_ms(&desk) > 0 {
                    tokio::select! {
                        message = ticks.next() => match message {
                            Some(message) => said = note(&desk, &message.payload, said),
                            None => break,
                        },
                        _ = looks.tick() => {}
                    }
                }
            }
            Err(error) => {
                tracing::debug!(%error, "could not subscribe to ticks");
                tokio::time::sleep(SUBSCRIBE_PAUSE).await;
            }
        }
        desk.elsewhere.send_replace(None);
    }
}

/// Notes a tick; true when what it means was said, now or before.
fn note(desk: &Desk, payload: &[u8], said: bool) -> bool {
    let Ok(tick) = serde_json::from_slice::<Tick>(payload) else { return said };
    // Our own last tick may still be on its way.
    if tick.leader == desk.facts.id.get() {
        return said;
    }
    let heard = Elsewhere { leader: tick.leader, term: tick.term, at: Instant::now() };
    desk.elsewhere.send_replace(Some(heard));
    // Who knows that it was removed has said so. Right after an election the tick may come before
    // the leader's first frame.
    let wonders = Membership::of(&desk.handle.view()) != Membership::Removed;
    if !said && wonders && leaderless_ms(desk) >= LEADERLESS_MS_MAX {
        tracing::warn!(
            leader = tick.leader,
            term = tick.term,
            "the site has a leader that does not speak to this node; it may have been removed while it was away"
        );
        return true;
    }
    said
}
