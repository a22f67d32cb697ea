//! Notices that a majority can be reached again, and sees to writes that nobody can merge.

use std::sync::Arc;
use std::time::Duration;

use fleet_consensus::View;
use fleet_protocol::local::LocalEnd;
use fleet_state::{DeviceId, NodeName, Placement};
use tokio::time::Instant;

use super::keeper::Ends;
use super::{Book, Ended, LocalHandle};
use crate::consensus::Handle;
use crate::device::wall_ms;

/// How long a barrier may take until it is asked for again.
const BARRIER_WITHIN: Duration = Duration::from_secs(4);
/// The pause before it is asked for again, and between looks at what nobody can merge.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// Marks writes as ready to be merged, as long as the process lives.
pub(in crate::device) async fn watch(handle: Handle, local: LocalHandle) {
    let mut books = local.watch();
    loop {
        let waits = books.wait_for(|book| book.open().next().is_some()).await.is_ok();
        if !waits {
            // The keeper is gone; the process is ending.
            return std::future::pending().await;
        }
        let book = local.book();
        let (last, returned) = book.numbers();
        let waits = book.open().any(|write| write.number > returned);
        if waits && handle.linearizable(Instant::now() + BARRIER_WITHIN).await.is_ok() {
            tracing::info!(up_to = last, "a majority is reached again; local writes are merged");
            local.returned(last).await;
            continue;
        }
        let gone = of_nobody(&book, &handle.view());
        if !gone.is_empty() {
            local.end(gone).await;
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

/// The ends of what no task of a link of this node will see to any more.
fn of_nobody(book: &Book, view: &View) -> Ends {
    let (_, returned) = book.numbers();
    let node = view.state.member(&view.standing.node).map(|member| member.name.clone());
    let due = book.open().filter(|write| write.number <= returned);
    let gone = due
        .filter(|write| node.as_ref().is_none_or(|node| !is_wired_here(view, &write.device, node)));
    let ends = gone.flat_map(|write| {
        let open = write.parts.iter().filter(|part| part.end.is_none());
        open.map(|part| {
            (write.number, part.property.clone(), Ended::plain(LocalEnd::Gone, wall_ms()))
        })
    });
    ends.collect()
}

/// Whether a device hangs on a link that no other node may own.
pub(in crate::device) fn is_wired_here(view: &View, device: &DeviceId, node: &NodeName) -> bool {
    let link = view.state.device(device).and_then(|device| device.spec.link.as_ref());
    let link = link.and_then(|link| view.state.link(link));
    link.is_some_and(|link| match &link.spec.placement {
        Placement::On(name) => name == node,
        Placement::Any { .. } => false,
    })
}

/// For how long no leader has been known; `None` while one is.
#[must_use]
pub(in crate::device) fn leaderless_ms(view: &Arc<View>, now_ms: u64) -> Option<u64> {
    let since = view.leaderless_since_ms.filter(|_| view.standing.leader.is_none())?;
    Some(now_ms.saturating_sub(since))
}
