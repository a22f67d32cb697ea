//! The links of this node: one task for each that it owns. Which ones, and in which epochs, says
//! [`fleet_device::charges`].
//!
//! Without a leader no epoch begins, and a gateway that was restarted then would leave the devices
//! that are wired to it without anybody. Such a link is run *alone*: no other node may own it, its
//! devices are read, and nothing but local writes is handed to them, with sequence numbers above
//! all that an earlier start used. That ends as soon as there is a leader, and before a link is
//! run as usual.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use fleet_consensus::View;
use fleet_device::charges::{Charge, Charges};
use fleet_state::{AgentCommand, LinkId};
use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::consensus::Submitted;

use super::DeviceParts;
use super::link::{self, Ended, LinkTask, Run};
use super::local::ALONE_AFTER_MS;
use super::local::returned::leaderless_ms;
use super::looks::Looks;

/// Least time between two looks at the links.
const LOOKS_APART: Duration = Duration::from_millis(50);
/// How often they are looked at when nothing was applied.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// The pause before something is asked for again.
const PAUSE: Duration = Duration::from_millis(50);
/// How long giving a link back may take until it is tried again.
const RELEASE_WITHIN: Duration = Duration::from_secs(2);
/// How long links may take to be given back when the agent stops.
const DRAIN_MAX: Duration = Duration::from_secs(3);
/// How long the first barrier may take until it is asked for again.
const BARRIER_WITHIN: Duration = Duration::from_secs(4);

/// What runs.
struct Links {
    parts: Arc<DeviceParts>,
    earlier: Earlier,
    charges: Charges,
    tasks: JoinSet<(Charge, Ended)>,
    let_go: BTreeMap<LinkId, watch::Sender<bool>>,
    /// The links that are run alone, with their epochs.
    alone: BTreeMap<LinkId, u64>,
    /// Runs alone that were begun.
    alone_runs: u64,
    by_task: BTreeMap<tokio::task::Id, (Charge, Run)>,
    wanted: watch::Sender<bool>,
}

/// Whether it is known what an earlier start of this node owned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Earlier {
    /// Nothing is run but alone.
    Awaited,
    Known,
}

/// Runs the links of this node until `stopping`, and gives them back then.
pub(super) async fn run(
    parts: Arc<DeviceParts>,
    wanted: watch::Sender<bool>,
    mut stopping: watch::Receiver<bool>,
) {
    let mut earlier = std::pin::pin!(charges_at_start(Arc::clone(&parts), stopping.clone()));
    let mut links = Links {
        earlier: Earlier::Awaited,
        charges: Charges::none(parts.node),
        parts,
        tasks: JoinSet::new(),
        let_go: BTreeMap::new(),
        alone: BTreeMap::new(),
        alone_runs: 0,
        by_task: BTreeMap::new(),
        wanted,
    };
    let mut looks = Looks::new(&links.parts.handle, LOOKS_APART);
    let mut releases = JoinSet::new();
    let mut releasing = BTreeSet::new();
    while !*stopping.borrow_and_update() {
        tokio::select! {
            () = looks.next(LOOK_EVERY) => {}
            _ = stopping.changed() => {}
            charges = &mut earlier, if links.earlier == Earlier::Awaited => links.know(charges),
            Some(ended) = links.tasks.join_next_with_id() => links.ended(ended),
            Some(released) = releases.join_next() => forget(&mut releasing, released),
        }
        let view = links.parts.handle.view();
        links.follow(&view);
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
async fn charges_at_start(parts: Arc<DeviceParts>, mut stopping: watch::Receiver<bool>) -> Charges {
    loop {
        let barrier = parts.handle.linearizable(Instant::now() + BARRIER_WITHIN);
        let view = tokio::select! {
            view = barrier => view,
            _ = stopping.wait_for(|stopping| *stopping) => return Charges::none(parts.node),
        };
        if let Ok(view) = view {
            return Charges::after_barrier(parts.node, &view.state);
        }
        tokio::time::sleep(PAUSE).await;
    }
}

async fn release(parts: Arc<DeviceParts>, charge: Charge) -> Charge {
    let (link, epoch) = charge.clone();
    let command = AgentCommand::LinkRelease { link, epoch };
    let end = parts.handle.submit_own(command, Instant::now() + RELEASE_WITHIN).await;
    match end {
        Submitted::Decided(_) => tracing::info!(link = %charge.0, epoch, "a link was given back"),
        Submitted::Busy { .. } | Submitted::NoLeader | Submitted::Unknown | Submitted::Stopping => {
            tracing::info!(link = %charge.0, epoch, ?end, "a link could not be given back yet");
            // What refuses at once, as a node without space does, must not be asked again at once.
            tokio::time::sleep(PAUSE).await;
        }
    }
    charge
}

impl Links {
    fn know(&mut self, charges: Charges) {
        self.charges = charges;
        self.earlier = Earlier::Known;
    }

    /// Starts and stops what the view asks for.
    fn follow(&mut self, view: &Arc<View>) {
        let lost_ms = leaderless_ms(view, self.parts.handle.clock().now_ms());
        let is_alone = lost_ms.is_some_and(|lost_ms| lost_ms >= ALONE_AFTER_MS);
        self.follow_alone(view, is_alone);
        let busy_alone = !is_alone && !self.alone.is_empty();
        if self.earlier == Earlier::Awaited || busy_alone {
            return;
        }
        let turn = self.charges.follow(&view.state);
        for charge in turn.start {
            self.start(charge, Run::InEpoch);
        }
        for id in turn.let_go.iter().filter(|id| !self.alone.contains_key(*id)) {
            if let Some(let_go) = self.let_go.get(id) {
                let_go.send_replace(true);
            }
        }
        let lease_wanted = turn.lease_wanted;
        self.wanted
            .send_if_modified(|wanted| std::mem::replace(wanted, lease_wanted) != lease_wanted);
    }

    /// Runs what is wired here and nobody runs, as long as there is no leader.
    fn follow_alone(&mut self, view: &View, is_alone: bool) {
        for (id, epoch) in &self.alone {
            let link = view.state.link(id);
            let same =
                link.is_some_and(|link| link.epoch == *epoch && link::may_run_alone(view, link));
            if let Some(let_go) = self.let_go.get(id).filter(|_| !is_alone || !same) {
                let_go.send_replace(true);
            }
        }
        for link in view.state.links().filter(|_| is_alone) {
            let charge = (link.id.clone(), link.epoch);
            let comes_as_usual = self.earlier == Earlier::Known
                && link.owner == Some(self.parts.node)
                && !self.charges.is_over(&charge);
            if self.let_go.contains_key(&link.id)
                || comes_as_usual
                || !link::may_run_alone(view, link)
            {
                continue;
            }
            self.alone_runs += 1;
            self.alone.insert(link.id.clone(), link.epoch);
            self.start(charge, Run::Alone { run: self.alone_runs });
        }
    }

    fn start(&mut self, charge: Charge, run: Run) {
        let (link, epoch) = charge.clone();
        let (let_go, let_go_seen) = watch::channel(false);
        let task = LinkTask::new(Arc::clone(&self.parts), charge.clone(), run, let_go_seen);
        let named = charge.clone();
        let handle = self.tasks.spawn(async move { (named, link::run(task).await) });
        match run {
            Run::InEpoch => tracing::info!(%link, epoch, "this node owns a link"),
            Run::Alone { .. } => {
                tracing::warn!(%link, "no majority is reached; a link that is wired here is run for local writes");
            }
        }
        self.by_task.insert(handle.id(), (charge, run));
        self.let_go.insert(link, let_go);
    }

    /// A task has ended, by itself or in a panic.
    fn ended(&mut self, ended: Result<(tokio::task::Id, (Charge, Ended)), tokio::task::JoinError>) {
        let (task, panicked) = match &ended {
            Ok((task, _)) => (*task, false),
            Err(error) => (error.id(), true),
        };
        let Some((charge, run)) = self.by_task.remove(&task) else { return };
        self.let_go.remove(&charge.0);
        if panicked {
            tracing::error!(link = %charge.0, epoch = charge.1, "the task of a link panicked; the link is given back");
        } else {
            tracing::info!(link = %charge.0, epoch = charge.1, "this node is done with a link");
        }
        match run {
            Run::InEpoch => self.charges.ended(charge),
            // It had no epoch of its own.
            Run::Alone { .. } => {
                self.alone.remove(&charge.0);
            }
        }
    }

    /// Gives all links back, so that others need not wait for the end of a lease.
    async fn stop(mut self) {
        for let_go in self.let_go.values() {
            let_go.send_replace(true);
        }
        // Each as soon as its own task has ended: one that takes long keeps no other.
        let mut releases = JoinSet::new();
        let mut releasing = BTreeSet::new();
        let all = async {
            loop {
                let view = self.parts.handle.view();
                for charge in self.charges.to_release(&view.state) {
                    if releasing.insert(charge.clone()) {
                        releases.spawn(release(Arc::clone(&self.parts), charge));
                    }
                }
                tokio::select! {
                    Some(ended) = self.tasks.join_next_with_id() => self.ended(ended),
                    Some(_released) = releases.join_next() => {}
                    else => break,
                }
            }
        };
        if tokio::time::timeout(DRAIN_MAX, all).await.is_err() {
            tracing::warn!(
                "not all links were given back in time; others wait for the lease's end"
            );
        }
    }
}
