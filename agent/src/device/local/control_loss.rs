//! What devices are to do when nobody controls them, where their policy names values.
//!
//! Best is what is armed in the device itself: a watchdog register, a timer of its own, a last
//! will. This here is for devices that have none, and works as long as their gateway does. It
//! speaks for wired links only: the values of a device that another node may own are not written,
//! since that node may be in control.
//!
//! The values are local writes like any other, with `on_control_loss` as their operation, and are
//! merged as those. What somebody wrote locally before stays.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use fleet_consensus::View;
use fleet_state::{Device, DeviceId, NodeName, OnControlLoss, Revision, Value};
use tokio::time::MissedTickBehavior;

use super::returned::{is_wired_here, leaderless_ms};
use super::{Book, Draft, LocalHandle, LocalOp, LocalRefusal};
use crate::consensus::Handle;
use crate::device::wall_ms;

/// Without a leader for so long, control is lost.
pub(crate) const CONTROL_LOST_AFTER_MS: u64 = 10_000;
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// The pause after one that was not taken: there is no room, or no disk, for others either.
const PAUSE_MS: u64 = 5_000;

/// Writes what devices are to do when control is lost, once each time that it is.
pub(in crate::device) async fn watch(handle: Handle, local: LocalHandle, name: NodeName) {
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut seen_to = BTreeSet::new();
    let mut count = 0_u64;
    let mut next_ms = 0_u64;
    loop {
        looks.tick().await;
        let view = handle.view();
        let lost_ms = leaderless_ms(&view, handle.clock().now_ms());
        if lost_ms.is_none_or(|lost_ms| lost_ms < CONTROL_LOST_AFTER_MS) {
            seen_to.clear();
            next_ms = 0;
            continue;
        }
        let now_ms = handle.clock().now_ms();
        if now_ms < next_ms {
            continue;
        }
        for values in due(&view, &local.book(), &name, &seen_to) {
            let device = values.device.clone();
            count += 1;
            let Some(draft) = values.draft(count) else { continue };
            match local.write(draft).await {
                Ok(write) => {
                    tracing::warn!(%device, number = write.number, "control is lost; the device gets what its policy names");
                    seen_to.insert(device);
                }
                // Somebody has written locally since it was looked: that stands.
                Err(LocalRefusal::Stands) => {}
                Err(error) => {
                    tracing::error!(%device, %error, "control is lost, and the device does not get what its policy names; it is tried again");
                    next_ms = now_ms.saturating_add(PAUSE_MS);
                    break;
                }
            }
        }
    }
}

/// What a device is to get.
struct Due {
    device: DeviceId,
    values: Vec<(Arc<str>, Value, Revision)>,
}

impl Due {
    fn draft(self, count: u64) -> Option<Draft> {
        let wall_ms = wall_ms();
        let request_id = format!("control-loss-{wall_ms}-{count}").parse().ok()?;
        let Self { device, values } = self;
        Some(Draft { device, op: LocalOp::OnControlLoss, values, actor: None, request_id, wall_ms })
    }
}

/// What is to be written.
fn due(view: &View, book: &Book, name: &NodeName, seen_to: &BTreeSet<DeviceId>) -> Vec<Due> {
    let ours = |device: &&Arc<Device>| {
        device.blocked().is_none()
            && !seen_to.contains(&device.id)
            && is_wired_here(view, &device.id, name)
    };
    view.state.devices().filter(ours).filter_map(|device| due_to(device, book)).collect()
}

fn due_to(device: &Device, book: &Book) -> Option<Due> {
    let OnControlLoss::Values(values) = &device.spec.policy.on_control_loss else { return None };
    let overlay = book.overlay(&device.id);
    if overlay.is_some_and(|overlay| overlay.stopped) {
        return None;
    }
    let written =
        |property: &str| overlay.is_some_and(|overlay| overlay.wishes.contains_key(property));
    let values = values.iter().filter(|(property, _)| !written(property));
    let values: Vec<_> = values
        .map(|(property, value)| {
            let known = device.wishes.get(property).map_or(Revision::NONE, |wish| wish.revision);
            (Arc::clone(property), value.clone(), known)
        })
        .collect();
    (!values.is_empty()).then(|| Due { device: device.id.clone(), values })
}
