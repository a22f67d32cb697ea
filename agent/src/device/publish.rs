//! Carries what this node observes to the others, and what they observe into the table.
//!
//! Told is the newest of each device that changed, at most every [`TELL_EVERY`]; what changes
//! faster is coalesced, what gets lost is mended by the next change, or by the round in which
//! everything is told again.

use std::time::Duration;

use fleet_consensus::frame::limits::OBSERVED_BYTES_MAX;
use fleet_state::{Entity, FleetState, LinkId, Value};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::{Instant, timeout_at};

use super::metrics::DeviceMetrics;
use super::observed::{ITEMS_PER_MESSAGE_MAX, ObservedTable, decode, encode};
use crate::consensus::Handle;

/// How often changes are told.
const TELL_EVERY: Duration = Duration::from_millis(100);
/// How often everything of this node is told again.
const TELL_ALL_EVERY: Duration = Duration::from_secs(30);
/// Messages in one round; the rest follows in the next.
const MESSAGES_PER_ROUND_MAX: usize = 16;

/// Tells the other nodes, as long as the process lives.
pub(super) async fn tell(handle: Handle, observed: ObservedTable) {
    let mut all_due = Instant::now() + TELL_ALL_EVERY;
    loop {
        tokio::time::sleep(TELL_EVERY).await;
        // An error says that all are due, which they are also while others keep changing.
        let _waited = timeout_at(all_due, observed.changed()).await;
        if Instant::now() >= all_due {
            all_due = Instant::now() + TELL_ALL_EVERY;
            let view = handle.view();
            observed.retain(|of| view.state.record(of).is_some());
            observed.mark_all_of(view.standing.node);
        }
        for message in messages(&observed) {
            // A busy loop drops it; the device is told again in the round of all.
            let _taken = handle.tell(message.into());
        }
    }
}

/// What changed, in as many messages as a round takes.
fn messages(observed: &ObservedTable) -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    let mut items: Vec<Value> = Vec::new();
    let mut size_bytes = 2;
    for (of, known) in observed.take_changed(MESSAGES_PER_ROUND_MAX * ITEMS_PER_MESSAGE_MAX) {
        let item = encode(&of, &known);
        let item_bytes = item.to_json().len() + 1;
        let full =
            size_bytes + item_bytes > OBSERVED_BYTES_MAX || items.len() >= ITEMS_PER_MESSAGE_MAX;
        if full && !items.is_empty() {
            messages.push(Value::List(std::mem::take(&mut items)).to_json().into());
            size_bytes = 2;
        }
        size_bytes += item_bytes;
        items.push(item);
    }
    if !items.is_empty() {
        messages.push(Value::List(items).to_json().into());
    }
    messages
}

/// The link over which something is observed now.
pub(super) fn present_link(state: &FleetState, of: &Entity) -> Option<LinkId> {
    match of {
        Entity::Device(id) => state.device(id)?.spec.link.clone(),
        Entity::Link(id) => Some(id.clone()),
        Entity::Member(_)
        | Entity::Token(_)
        | Entity::Param(_)
        | Entity::Watermarks(_)
        | Entity::Invocation { .. } => None,
    }
}

/// Hears the other nodes, as long as the process lives.
pub(super) async fn hear(handle: Handle, observed: ObservedTable, metrics: DeviceMetrics) {
    let mut told = handle.subscribe_observed();
    loop {
        let (node, bytes) = match told.recv().await {
            Ok(told) => told,
            Err(RecvError::Lagged(missed)) => {
                metrics.observed_refused.inc_by(missed);
                continue;
            }
            // The consensus loop has ended; the process is ending.
            Err(RecvError::Closed) => return std::future::pending().await,
        };
        let Some(items) = decode(node, &bytes) else {
            metrics.observed_refused.inc();
            continue;
        };
        observed.note_heard(node);
        let view = handle.view();
        let exists = |of: &Entity| view.state.record(of).is_some();
        for (of, known) in items {
            // One that this node has not heard of yet comes again with the round of all.
            if exists(&of) {
                let present = present_link(&view.state, &of);
                observed.put(of, known, present.as_ref());
            }
        }
    }
}
