//! The links of this node: one task for each that it owns. Which ones, and in which epochs, says
//! [`fleet_device::charges`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fleet_device::charges::{Charge, Charges};
use fleet_state::{AgentCommand, FleetState, LinkId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::{Instant, MissedTickBehavior};

use super::DeviceParts;
use super::link::{self, Ended, LinkTask};

/// How often links are looked at, when nothing about them was applied.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// How long giving a link back may take until it is tried again.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);
/// How long links may take to be given back when the agent stops.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// How long the first barrier may take until it is asked for again.
const BARRIER_WITHIN: Duration = Duration::from_secs(4);

/// What runs.
struct Links {
    parts: Arc<DeviceParts>,
    charges: Charges,
    tasks: JoinSet<(Charge, Ended)>,
    let_go: BTreeMap<LinkId, watch::Sender<bool>>,
    by_task: BTreeMap<tokio::task::Id, Charge>,
    wanted: watch::Sender<bool>,
}

/// Runs the links of this node until `stopping`, and gives them back then.
pub(super) async fn run(
    parts: Arc<DeviceParts>,
    wanted: watch::Sender<bool>,
    mut stopping: watch::Receiver<bool>,
) {
    let charges = charges_at_start(&parts, &mut stopping).await;
    let mut links = Links {
        parts,
        charges,
        tasks: JoinSet::new(),
        let_go: BTreeMap::new(),
        by_task: BTreeMap::new(),
        wanted,
    };
    let mut looks = tokio::time::interval(LOOK_EVERY);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut releases = JoinSet::new();
    let mut releasing = BTreeSet::new();
    while !*stopping.borrow_and_update() {
        tokio::select! {
            _ = looks.tick() => {}
            _ = stopping.changed() => {}
            Some(ended) = links.tasks.join_next_with_id() => links.ended(ended),
            Some(released) = releases.join_next() => forget(&mut releasing, released),
        }
        let view = links.parts.handle.view();
        links.follow(&view.state);
        for charge in links.charges.to_release(&view.state) {
            if releasing.insert(charge.clone()) {
                releases.spawn(release(Arc::clone(&links.parts), charge));
            }
        }
    }
    links.stop().await;
}

fn forget(releasing: &mut BTreeSet<Charge>, released: Result<Charge, tokio::task::JoinError>) {
    match released {
        Ok(charge) => {
            releasing.remove(&charge);
        }
        // Giving back doesn't panic; if it did, all are tried again.
        Err(_) => releasing.clear(),
    }
}

/// Waits for the read barrier that shows what an earlier start of this node owned.
async fn charges_at_start(parts: &DeviceParts, stopping: &mut watch::Receiver<bool>) -> Charges {
    loop {
        let barrier = parts.handle.linearizable(Instant::now() + BARRIER_WITHIN);
        let view = tokio::select! {
            view = barrier => view,
            _ = stopping.wait_for(|stopping| *stopping) => return Charges::none(parts.node),
        };
        if let Ok(view) = view {
            return Charges::after_barrier(parts.node, &view.state);
        }
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

async fn release(parts: Arc<DeviceParts>, charge: Charge) -> Charge {
    let (link, epoch) = charge.clone();
    let command = AgentCommand::LinkRelease { link, epoch };
    let end = parts.handle.submit_own(command, Instant::now() + RELEASE_WITHIN).await;
    tracing::info!(link = %charge.0, epoch, ?end, "a link was given back");
    charge
}

impl Links {
    /// Starts and stops what the state asks for.
    fn follow(&mut self, state: &FleetState) {
        let turn = self.charges.follow(state);
        for charge in turn.start {
            self.start(charge);
        }
        for id in turn.let_go {
            if let Some(let_go) = self.let_go.get(&id) {
                let_go.send_replace(true);
            }
        }
        let lease_wanted = turn.lease_wanted;
        self.wanted
            .send_if_modified(|wanted| std::mem::replace(wanted, lease_wanted) != lease_wanted);
    }

    fn start(&mut self, charge: Charge) {
        let (link, epoch) = charge.clone();
        let (let_go, let_go_seen) = watch::channel(false);
        let task = LinkTask::new(Arc::clone(&self.parts), link.clone(), epoch, let_go_seen);
        let named = charge.clone();
        let handle = self.tasks.spawn(async move { (named, link::run(task).await) });
        tracing::info!(%link, epoch, "this node owns a link");
        self.by_task.insert(handle.id(), charge);
        self.let_go.insert(link, let_go);
    }

    /// A task has ended, by itself or in a panic.
    fn ended(&mut self, ended: Result<(tokio::task::Id, (Charge, Ended)), tokio::task::JoinError>) {
        let (task, panicked) = match &ended {
            Ok((task, _)) => (*task, false),
            Err(error) => (error.id(), true),
        };
        let Some(charge) = self.by_task.remove(&task) else { return };
        self.let_go.remove(&charge.0);
        if panicked {
            tracing::error!(link = %charge.0, epoch = charge.1, "the task of a link panicked; the link is given back");
        } else {
            tracing::info!(link = %charge.0, epoch = charge.1, "this node is done with a link");
        }
        self.charges.ended(charge);
    }

    /// Gives all links back, so that others need not wait for the end of a lease.
    async fn stop(mut self) {
        for let_go in self.let_go.values() {
            let_go.send_replace(true);
        }
        let all = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.ended(ended);
            }
            let view = self.parts.handle.view();
            let releases = self.charges.to_release(&view.state).into_iter();
            let releases = releases.map(|charge| release(Arc::clone(&self.parts), charge));
            futures_util::future::join_all(releases).await;
        };
        if tokio::time::timeout(DRAIN_MAX, all).await.is_err() {
            tracing::warn!(
                "not all links were given back in time; others wait for the lease's end"
            );
        }
    }
}
