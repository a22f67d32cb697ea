//! Events: the leader tells every change after it was applied, and the revision every second.
//!
//! Events are a convenience: a listener that missed some sees it by their revisions and asks for
//! the changes. So they are told at most once, and not at all while NATS is away, rather than
//! piling up for a listener who by then wants the present state.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleet_consensus::NodeRole;
use fleet_protocol::event::{self, Tick};
use fleet_protocol::limits::TICK_INTERVAL_MS;
use fleet_protocol::reply::ReplyMessage;
use tokio::sync::broadcast::error::RecvError;
use tokio::time::MissedTickBehavior;

use crate::consensus::AppliedItem;

use super::desk::Desk;
use super::nats_door::NatsDoor;

/// Tells what was applied while this node leads.
pub(super) async fn tell(desk: Arc<Desk>, nats: Arc<NatsDoor>) {
    let mut applied = desk.handle.subscribe();
    loop {
        let batch = match applied.recv().await {
            Ok(batch) => batch,
            Err(RecvError::Lagged(missed)) => {
                tracing::debug!(missed, "events were left out; listeners close the gap themselves");
                continue;
            }
            // The consensus loop has ended; the process is ending.
            Err(RecvError::Closed) => return std::future::pending().await,
        };
        if batch.is_leader && nats.is_connected() {
            for item in &batch.items {
                tell_item(&desk, &nats, item).await;
            }
        }
    }
}

async fn tell_item(desk: &Desk, nats: &Arc<NatsDoor>, item: &AppliedItem) {
    if item.changes.is_empty() {
        return;
    }
    let events = match event::change_events(item.revision, item.wall_time_ms, &item.changes) {
        Ok(events) => events,
        Err(failure) => {
            tracing::warn!(revision = item.revision.get(), reason = failure.message, "no events");
            return;
        }
    };
    for (change, payload) in item.changes.iter().zip(events) {
        let subject = desk.subjects.event(&change.entity);
        let message = ReplyMessage { headers: Vec::new(), payload };
        nats.publish(subject.into(), message).await;
        desk.metrics.events.inc();
    }
}

/// Tells the revision every second while this node leads, as far as it can know: one that stands
/// still has been replaced.
pub(super) async fn tick(desk: Arc<Desk>, nats: Arc<NatsDoor>) {
    let mut interval = tokio::time::interval(Duration::from_millis(TICK_INTERVAL_MS));
    // After a pause one tick is enough.
    interval.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let subject = desk.subjects.tick();
    loop {
        interval.tick().await;
        let view = desk.handle.view();
        let leads = view.standing.role == NodeRole::Leader && desk.handle.still_ms().is_none();
        if !leads || !nats.is_connected() {
            continue;
        }
        let payload = event::tick(&Tick {
            revision: view.applied.get(),
            term: view.standing.term,
            leader: view.standing.node.get(),
            wall_time_ms: wall_time_ms(),
        });
        let message = ReplyMessage { headers: Vec::new(), payload };
        nats.publish(subject.clone().into(), message).await;
    }
}

/// Tells what others write to devices of this node. While NATS is away it is left out.
pub(super) async fn tell_foreign(desk: Arc<Desk>, nats: Arc<NatsDoor>) {
    let mut foreign = desk.observed.follow_foreign();
    loop {
        let told = match foreign.recv().await {
            Ok(told) => told,
            Err(RecvError::Lagged(missed)) => {
                tracing::debug!(missed, "events of foreign writes were left out");
                continue;
            }
            // The table is gone; the process is ending.
            Err(RecvError::Closed) => return std::future::pending().await,
        };
        let Ok(device) = told.device.parse() else { continue };
        if !nats.is_connected() {
            continue;
        }
        let subject = desk.subjects.foreign_write_event(&device);
        let message = ReplyMessage { headers: Vec::new(), payload: event::foreign_write(&told) };
        nats.publish(subject.into(), message).await;
        desk.metrics.events.inc();
    }
}

/// Wall time for display; 0 on a clock before 1970.
pub(super) fn wall_time_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
