//! Subscribing and unsubscribing: when this agent takes requests in, and when it leaves that to
//! others.
//!
//! The shared lanes stand in a queue group: NATS gives each message to one agent of the site. An
//! agent that has known no leader for two seconds can't help anybody, so it leaves the group; when
//! all have left, clients hear "no responders" at once. It leaves too when it stops, and while
//! another site answers under the same name. Leaving is graceful: the server is told first, then
//! what had already arrived is served.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use async_nats::Subscriber;
use fleet_protocol::subjects::QUEUE_GROUP;
use fleet_state::Revision;
use futures_util::StreamExt;
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::IntakeState;
use super::desk::Desk;
use super::lanes::Lane;

/// Without a leader for so long, an agent leaves the queue group.
const LEADERLESS_MS_MAX: u64 = 2_000;
/// How often it is looked at.
const LEADER_LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Messages that are still taken when leaving under load; more than can be on their way.
const LAST_MESSAGES: u64 = 256;
/// How long they are waited for; at a lower rate there is next to nothing on its way.
const LAST_WAIT: Duration = Duration::from_millis(250);
/// How long leaving may take; without a server there is nothing more to come.
const LEAVE_WAIT: Duration = Duration::from_secs(1);
/// Pause before subscribing again after a subscription ended by itself.
const SUBSCRIBE_PAUSE: Duration = Duration::from_millis(500);

/// Runs the lanes that all agents of the site share.
pub(super) async fn shared_lanes(desk: Arc<Desk>, stopped: watch::Receiver<bool>) {
    while !*stopped.borrow() {
        if !may_serve(&desk, stopped.clone()).await {
            break;
        }
        serve_shared(&desk, stopped.clone()).await;
    }
    desk.intake.send_replace(IntakeState::Stopped);
}

/// Runs the lane of this agent alone.
pub(super) async fn node_lane(desk: Arc<Desk>, stopped: watch::Receiver<bool>) {
    let subjects = [desk.subjects.node_all(&desk.facts.name), desk.subjects.all_all()];
    while !*stopped.borrow() {
        let mut lanes = JoinSet::new();
        for subject in &subjects {
            match desk.client.subscribe(subject.clone()).await {
                Ok(subscriber) => {
                    let lane = Arc::clone(&desk.lanes.node);
                    lanes.spawn(serve_lane(Arc::clone(&desk), lane, subscriber, stopped.clone()));
                }
                Err(error) => tracing::warn!(subject, %error, "could not subscribe"),
            }
        }
        while lanes.join_next().await.is_some() {}
        pause(stopped.clone()).await;
    }
}

/// Waits until requests may be taken in; false when the agent stops first.
async fn may_serve(desk: &Desk, mut stopped: watch::Receiver<bool>) -> bool {
    let mut views = desk.handle.watch_view();
    let mut foreign = desk.foreign.subscribe();
    loop {
        let (leader, blank) = {
            let view = views.borrow_and_update();
            (view.standing.leader, view.applied == Revision::default())
        };
        let state = match (*foreign.borrow_and_update(), leader) {
            (true, _) => IntakeState::ForeignSite,
            (false, Some(_)) if !blank => return true,
            // A joiner knows nothing of the site before its first snapshot.
            (false, _) => IntakeState::NoLeader,
        };
        desk.intake.send_if_modified(|held| std::mem::replace(held, state) != state);
        tokio::select! {
            () = told(&mut stopped) => return false,
            _ = foreign.changed() => {}
            changed = views.changed() => if changed.is_err() { return false },
        }
    }
}

/// Subscribes, serves until there is a reason to leave, and leaves.
async fn serve_shared(desk: &Arc<Desk>, stopped: watch::Receiver<bool>) {
    let shared = [
        (&desk.lanes.commands, desk.subjects.commands_all()),
        (&desk.lanes.query, desk.subjects.queries_all()),
        (&desk.lanes.changes, desk.subjects.changes_all()),
        (&desk.lanes.admin, desk.subjects.admin_all()),
    ];
    let (leave, leaving) = watch::channel(false);
    let mut lanes = JoinSet::new();
    for (lane, subject) in shared {
        match desk.client.queue_subscribe(subject.clone(), QUEUE_GROUP.to_owned()).await {
            Ok(subscriber) => {
                let (desk, lane) = (Arc::clone(desk), Arc::clone(lane));
                lanes.spawn(serve_lane(desk, lane, subscriber, leaving.clone()));
            }
            Err(error) => {
                tracing::warn!(subject, %error, "could not subscribe; trying again");
                leave.send_replace(true);
            }
        }
    }
    desk.intake.send_replace(IntakeState::Serving);
    tracing::info!("requests are taken in");
    let reason = tokio::select! {
        reason = reason_to_leave(desk, stopped.clone()) => reason,
        // A lane ends by itself only when its subscription did.
        _ = lanes.join_next() => "a subscription ended",
    };
    tracing::info!(reason, "requests are left to other agents");
    leave.send_replace(true);
    while lanes.join_next().await.is_some() {}
    if !*stopped.borrow() && desk.handle.view().standing.leader.is_some() {
        pause(stopped).await;
    }
}

/// Returns when this agent should leave the queue group.
async fn reason_to_leave(desk: &Desk, mut stopped: watch::Receiver<bool>) -> &'static str {
    let mut foreign = desk.foreign.subscribe();
    tokio::select! {
        () = told(&mut stopped) => "the agent is stopping",
        () = told(&mut foreign) => "another site uses the same name",
        () = leaderless(desk) => "no leader is known",
    }
}

/// Returns once no leader has been known for [`LEADERLESS_MS_MAX`].
///
/// It looks at the view now and then instead of following it: the view is renewed with each tick,
/// and an idle agent should sleep.
async fn leaderless(desk: &Desk) {
    let mut looks = tokio::time::interval(LEADER_LOOK_INTERVAL);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        looks.tick().await;
        let since = desk.handle.view().leaderless_since_ms;
        let now_ms = desk.handle.clock().now_ms();
        if since.is_some_and(|since| now_ms.saturating_sub(since) >= LEADERLESS_MS_MAX) {
            return;
        }
    }
}

/// Takes the messages of one subscription in, until told to leave or the subscription ends.
async fn serve_lane(
    desk: Arc<Desk>,
    lane: Arc<Lane>,
    mut messages: Subscriber,
    mut leave: watch::Receiver<bool>,
) {
    let connects = connects(&desk);
    let mut taken: u64 = 0;
    loop {
        tokio::select! {
            biased;
            message = messages.next() => match message {
                Some(message) => {
                    taken = taken.saturating_add(1);
                    desk.receive(&lane, message).await;
                }
                None => return,
            },
            () = told(&mut leave) => break,
        }
    }
    // 1. Under load: the server stops after a given number of messages, and not one is lost. It
    //    counts anew after a reconnect, the client doesn't, so then this way is closed.
    if self::connects(&desk) == connects {
        let last = taken.saturating_add(LAST_MESSAGES);
        if messages.unsubscribe_after(last).await.is_ok()
            && serve_rest(&desk, &lane, &mut messages, LAST_WAIT).await
        {
            return;
        }
    }
    // 2. Nearly idle: plainly. The client forgets the subscription a moment before the server
    //    does, so a message on its way just then finds nobody; its sender sends it again.
    if messages.drain().await.is_ok() {
        serve_rest(&desk, &lane, &mut messages, LEAVE_WAIT).await;
    }
}

/// Takes in what still comes; true when the subscription ended within `wait`.
async fn serve_rest(
    desk: &Arc<Desk>,
    lane: &Arc<Lane>,
    messages: &mut Subscriber,
    wait: Duration,
) -> bool {
    let rest = async {
        while let Some(message) = messages.next().await {
            desk.receive(lane, message).await;
        }
    };
    tokio::time::timeout(wait, rest).await.is_ok()
}

/// How often the client has connected.
fn connects(desk: &Desk) -> u64 {
    desk.client.statistics().connects.load(Ordering::Relaxed)
}

async fn pause(mut stopped: watch::Receiver<bool>) {
    // Either end is fine: time to try again, or the agent stops.
    let _ = tokio::time::timeout(SUBSCRIBE_PAUSE, told(&mut stopped)).await;
}

/// Returns once the flag is up; also when nobody can raise it any more.
async fn told(flag: &mut watch::Receiver<bool>) {
    let _ = flag.wait_for(|up| *up).await;
}
