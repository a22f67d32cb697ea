//! The links of this node: one task for each that it owns.
//!
//! A task is started for a link in an epoch, once: it never runs again in an epoch in which it
//! has ended, panicked, or run in an earlier start of the process. What such a run may have
//! handed over nobody knows, so the link is given back and comes again, here or elsewhere, in a
//! new epoch. What an earlier start owned is known from a read barrier, which sees everything
//! that start could have acted on.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fleet_consensus::View;
use fleet_state::{AgentCommand, Link, LinkId, Placement};
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

/// A link in an epoch.
type Charge = (LinkId, u64);

/// What runs.
struct Links {
    parts: Arc<DeviceParts>,
    tasks: JoinSet<(Charge, Ended)>,
    running: BTreeMap<LinkId, Running>,
    by_task: BTreeMap<tokio::task::Id, Charge>,
    /// Not to be run any more; to be given back.
    over: BTreeSet<Charge>,
    wanted: watch::Sender<bool>,
}

struct Running {
    epoch: u64,
    let_go: watch::Sender<bool>,
}

/// Runs the links of this node until `stopping`, and gives them back then.
pub(super) async fn run(
    parts: Arc<DeviceParts>,
    wanted: watch::Sender<bool>,
    mut stopping: watch::Receiver<bool>,
) {
    let over = earlier_charges(&parts, &mut stopping).await;
    let mut links = Links {
        parts,
        tasks: JoinSet::new(),
        running: BTreeMap::new(),
        by_task: BTreeMap::new(),
        over,
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
        links.follow(&view);
        for charge in links.to_release(&view) {
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

/// What an earlier start of this node owned.
async fn earlier_charges(
    parts: &DeviceParts,
    stopping: &mut watch::Receiver<bool>,
) -> BTreeSet<Charge> {
    loop {
        let barrier = parts.handle.linearizable(Instant::now() + BARRIER_WITHIN);
        let view = tokio::select! {
            view = barrier => view,
            _ = stopping.wait_for(|stopping| *stopping) => return BTreeSet::new(),
        };
        if let Ok(view) = view {
            return view
                .state
                .links()
                .filter(|link| link.owner == Some(parts.node))
                .map(|link| (link.id.clone(), link.epoch))
                .collect();
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
    /// Starts and stops what the view asks for.
    fn follow(&mut self, view: &View) {
        let node = self.parts.node;
        let mut lease_wanted = false;
        for link in view.state.links().filter(|link| link.owner == Some(node)) {
            lease_wanted |= matches!(link.spec.placement, Placement::Any { .. });
            let charge = (link.id.clone(), link.epoch);
            if self.over.contains(&charge) {
                continue;
            }
            match self.running.get(&link.id) {
                None => self.start(link),
                Some(running) if running.epoch != link.epoch || link.releasing => {
                    running.let_go.send_replace(true);
                }
                Some(_) => {}
            }
        }
        for (id, running) in &self.running {
            let owned = view.state.link(id).is_some_and(|link| link.owner == Some(node));
            if !owned {
                running.let_go.send_replace(true);
            }
        }
        self.over
            .retain(|(id, epoch)| view.state.link(id).is_some_and(|link| link.epoch <= *epoch));
        self.wanted
            .send_if_modified(|wanted| std::mem::replace(wanted, lease_wanted) != lease_wanted);
    }

    fn start(&mut self, link: &Link) {
        let (let_go, let_go_seen) = watch::channel(false);
        let task = LinkTask::new(Arc::clone(&self.parts), link.id.clone(), link.epoch, let_go_seen);
        let charge = (link.id.clone(), link.epoch);
        let named = charge.clone();
        let handle = self.tasks.spawn(async move { (named, link::run(task).await) });
        tracing::info!(link = %link.id, epoch = link.epoch, "this node owns a link");
        self.by_task.insert(handle.id(), charge);
        self.running.insert(link.id.clone(), Running { epoch: link.epoch, let_go });
    }

    /// A task has ended, by itself or in a panic.
    fn ended(&mut self, ended: Result<(tokio::task::Id, (Charge, Ended)), tokio::task::JoinError>) {
        let (task, panicked) = match &ended {
            Ok((task, _)) => (*task, false),
            Err(error) => (error.id(), true),
        };
        let Some(charge) = self.by_task.remove(&task) else { return };
        self.running.remove(&charge.0);
        if panicked {
            tracing::error!(link = %charge.0, epoch = charge.1, "the task of a link panicked; the link is given back");
        } else {
            tracing::info!(link = %charge.0, epoch = charge.1, "this node is done with a link");
        }
        // Whatever the reason: not again in this epoch.
        self.over.insert(charge);
    }

    /// What this node owns and does not run.
    fn to_release(&self, view: &View) -> Vec<Charge> {
        let owned = |(id, epoch): &&Charge| {
            let link = view.state.link(id);
            link.is_some_and(|link| link.owner == Some(self.parts.node) && link.epoch == *epoch)
        };
        let idle = |(id, _): &&Charge| !self.running.contains_key(id);
        self.over.iter().filter(owned).filter(idle).cloned().collect()
    }

    /// Gives all links back, so that others need not wait for the end of a lease.
    async fn stop(mut self) {
        for running in self.running.values() {
            running.let_go.send_replace(true);
        }
        let all = async {
            while let Some(ended) = self.tasks.join_next_with_id().await {
                self.ended(ended);
            }
            let view = self.parts.handle.view();
            let releases = self.to_release(&view).into_iter();
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
