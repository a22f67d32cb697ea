//! Who owns which link: decided by the leader ([`fleet_device::ownership`]), carried out through
//! the log.
//!
//! Every node runs this; only the leader acts, and without a majority nothing that it proposes
//! is committed. A node that something is taken from is seized first: its read barriers stay
//! unanswered until what takes it is committed.

use std::collections::BTreeSet;
use std::time::Duration;

use fleet_device::lease::silent_ms;
use fleet_device::ownership::{Assignment, Resting, due};
use fleet_state::{AgentCommand, NodeId, Outcome};
use tokio::time::Instant;

use super::looks::Looks;
use super::metrics::DeviceMetrics;
use crate::consensus::{Handle, Submitted};

/// Least time between two looks, and how often it is looked where there are links.
const LOOK_EVERY: Duration = Duration::from_millis(100);
/// How often it is looked where there are none.
const LOOK_EVERY_WITHOUT: Duration = Duration::from_secs(1);
/// How long one assignment may take until it is looked at again.
const ASSIGN_WITHIN: Duration = Duration::from_secs(2);
/// Assignments begun in one look.
const ASSIGNMENTS_PER_LOOK: usize = 64;

/// Gives links to nodes, as long as the process lives.
pub(super) async fn assign(handle: Handle, metrics: DeviceMetrics) {
    let mut looks = Looks::new(&handle, LOOK_EVERY);
    let mut resting = Resting::default();
    let mut every = LOOK_EVERY;
    loop {
        looks.next(every).await;
        let view = handle.view();
        every = if view.state.links_len() == 0 { LOOK_EVERY_WITHOUT } else { LOOK_EVERY };
        let now_ms = handle.clock().now_ms();
        let mut due = due(&view, &resting, now_ms);
        resting.note(&view, now_ms);
        due.truncate(ASSIGNMENTS_PER_LOOK);
        if !due.is_empty() {
            carry_out_all(&handle, &metrics, due).await;
        }
    }
}

/// Seizes the nodes that something is taken from, gives it to others, and answers them again.
async fn carry_out_all(handle: &Handle, metrics: &DeviceMetrics, due: Vec<Assignment>) {
    let silent: BTreeSet<NodeId> = due.iter().filter_map(|assignment| assignment.from).collect();
    let mut seized = BTreeSet::new();
    for node in silent {
        if handle.seize(node, silent_ms()).await {
            seized.insert(node);
        }
    }
    let safe = |assignment: &Assignment| assignment.from.is_none_or(|from| seized.contains(&from));
    let ends = due.into_iter().filter(safe).map(|due| carry_out(handle, metrics, due));
    let decided = futures_util::future::join_all(ends).await;
    // What is not decided may be committed yet: then the bound on seizing answers them again.
    if decided.iter().all(|decided| *decided) {
        for node in seized {
            handle.resume(node).await;
        }
    }
}

/// Gives one link to a node; `true` when the log has decided.
async fn carry_out(handle: &Handle, metrics: &DeviceMetrics, assignment: Assignment) -> bool {
    let Assignment { link, expect_epoch, owner, from } = assignment;
    tracing::info!(
        %link,
        owner = owner.get(),
        from = from.map(NodeId::get),
        epoch = expect_epoch,
        "a link is given to a node"
    );
    let command = AgentCommand::LinkAssign { link: link.clone(), expect_epoch, owner: Some(owner) };
    match handle.submit_own(command, Instant::now() + ASSIGN_WITHIN).await {
        Submitted::Decided(answer) => {
            if from.is_some() && matches!(answer.outcome, Outcome::Accepted(_)) {
                metrics.takeovers.inc();
            }
            true
        }
        end @ (Submitted::Busy { .. }
        | Submitted::NoLeader
        | Submitted::Unknown
        | Submitted::Stopping) => {
            tracing::debug!(%link, ?end, "an assignment is looked at again");
            false
        }
    }
}
