//! One link that this node owns, in one epoch: connected, watched, written to.
//!
//! The task connects, with growing pauses, as long as the lease holds; works (`work`) until the
//! connection is lost, the lease is over, the link is registered anew or taken away; closes; and
//! begins again or ends. It does no I/O of its own: every call of the connector runs in a task
//! of its own (`calls`), with a deadline, its panics caught, so one that hangs or panics is a
//! failed call and nothing more. What was handed over when a call was given up counts as handed
//! over.
//!
//! A task that runs alone ([`Run::Alone`]) does the same for local writes only.
//!
//! Nothing leaves unless the link's record, as this node has applied it, names this node and
//! this epoch, and the lease holds.

mod calls;
mod closing;
mod foreign;
mod former;
mod local;
mod look;
mod one_shot;
mod slot;
mod tell;
mod work;

use std::collections::BTreeMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use fleet_consensus::View;
use fleet_device::LogBound;
use fleet_device::charges::Charge;
use fleet_state::{DeviceId, Link, LinkId, Member, Placement};
use futures_util::FutureExt;
use tokio::sync::watch;
use tokio::time::Instant;

use super::DeviceParts;
use super::connector::{
    ANSWER_MS_MAX, Connect, ConnectError, Connector, MayWrite, Refusal, Reports, Session,
};
use super::setups::{device_setup, link_setup};
use calls::contained;
use slot::Memory;
pub(super) use tell::wall_ms;
use work::{Work, WorkEnded};

/// Observations that a session may be ahead by.
const REPORTS_MAX: usize = 1_024;
/// How long connecting may take.
const CONNECT_WITHIN: Duration = Duration::from_secs(10);
/// The pause after the first failure; it doubles.
const PAUSE_MS_FIRST: u64 = 200;
/// The longest pause.
const PAUSE_MS_MAX: u64 = 30_000;
/// How often a task that may not work looks whether it may.
const LOOK_EVERY: Duration = Duration::from_millis(25);
/// A connection that stood for so long begins anew with short pauses.
const STEADY_MS: u64 = 10_000;

/// Why a task has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Ended {
    /// It was told to let go, or the link is another node's, or gone.
    Done,
}

/// In which capacity a task runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Run {
    /// As the owner of the link in its epoch.
    InEpoch,
    /// Without a majority, for local writes to a link that is wired here.
    Alone {
        /// How many such runs there were in this process, with this one.
        run: u64,
    },
}

/// Sequence numbers of one run alone.
const ALONE_RUN_SEQUENCES: u64 = 1 << 20;
/// Sequence numbers of one start of the process, for runs alone: above all that an owner uses in
/// an epoch, and growing from start to start.
const ALONE_BOOT_SEQUENCES: u64 = 1 << 36;

/// What a task works with.
pub(super) struct LinkTask {
    parts: Arc<DeviceParts>,
    id: LinkId,
    epoch: u64,
    run: Run,
    let_go: watch::Receiver<bool>,
    /// Grows with everything handed over or told in this epoch.
    sequence: u64,
    /// How late it is at most, from the last claim that the log decided.
    log_bound: Option<LogBound>,
    memory: BTreeMap<DeviceId, Memory>,
}

impl LinkTask {
    pub(super) fn new(
        parts: Arc<DeviceParts>,
        (id, epoch): Charge,
        run: Run,
        let_go: watch::Receiver<bool>,
    ) -> Self {
        let sequence = match run {
            Run::InEpoch => 0,
            Run::Alone { run } => {
                let before = run.saturating_mul(ALONE_RUN_SEQUENCES);
                parts.boot.saturating_mul(ALONE_BOOT_SEQUENCES).saturating_add(before)
            }
        };
        let memory = BTreeMap::new();
        Self { parts, id, epoch, run, let_go, sequence, log_bound: None, memory }
    }

    /// Whether it runs for local writes only.
    fn is_alone(&self) -> bool {
        matches!(self.run, Run::Alone { .. })
    }

    fn now_ms(&self) -> u64 {
        self.parts.handle.clock().now_ms()
    }

    /// The link, while it is this task's.
    fn link(&self) -> Option<Arc<Link>> {
        let view = self.parts.handle.view();
        let link = our_link(&view, &self.parts, (&self.id, self.epoch), self.run)?;
        (!*self.let_go.borrow()).then_some(link)
    }

    /// Until when this task may write; `None`: now it may not.
    fn until_ms(&self, link: &Link, now_ms: u64) -> Option<u64> {
        if self.is_alone() {
            // It is wired here, and there is nobody who could give it to another node.
            return Some(u64::MAX);
        }
        self.parts.lease.borrow().until_ms(link, now_ms)
    }

    fn next_sequence(&mut self) -> u64 {
        self.sequence += 1;
        self.sequence
    }
}

/// Whether a link may be run without an epoch: it is wired to this node, and nobody owns it but
/// this node at most.
pub(super) fn may_run_alone(view: &View, link: &Link) -> bool {
    let node = view.standing.node;
    let me = view.state.member(&node).filter(|member| member.is_live());
    let wired = |me: &Member| match &link.spec.placement {
        Placement::On(name) => *name == me.name,
        Placement::Any { .. } => false,
    };
    link.owner.is_none_or(|owner| owner == node) && me.is_some_and(|me| wired(me))
}

/// Works on a link until it is another node's.
pub(super) async fn run(mut task: LinkTask) -> Ended {
    let mut failures = 0_u32;
    while let Some(link) = task.link() {
        let now_ms = task.now_ms();
        if link.paused || task.until_ms(&link, now_ms).is_none() {
            tell::idle(&mut task, link.paused);
            wait(&mut task, LOOK_EVERY).await;
            continue;
        }
        tell::state(&mut task, "connecting");
        let began_ms = task.now_ms();
        let problem = match connect(&task, &link).await {
            Ok(None) => continue,
            Ok(Some((session, reports))) => {
                task.parts.metrics.links_connected.inc();
                tell::state(&mut task, "connected");
                let ended = Work::new(&mut task, link, session).run(reports).await;
                task.parts.metrics.links_connected.dec();
                match ended {
                    WorkEnded::Again => {
                        failures = 0;
                        continue;
                    }
                    WorkEnded::Lost(reason) => reason,
                }
            }
            Err(error) => error.message,
        };
        task.parts.metrics.link_failures.inc();
        if task.now_ms().saturating_sub(began_ms) >= STEADY_MS {
            failures = 0;
        }
        let pause_ms = PAUSE_MS_FIRST.saturating_mul(1 << failures.min(16)).min(PAUSE_MS_MAX);
        failures = failures.saturating_add(1);
        tracing::warn!(link = %task.id, epoch = task.epoch, problem, pause_ms, "a link is not connected");
        tell::problem(&mut task, &problem, pause_ms);
        wait(&mut task, Duration::from_millis(pause_ms)).await;
    }
    Ended::Done
}

/// Waits, unless the task is told to let go.
async fn wait(task: &mut LinkTask, pause: Duration) {
    // Both ends of the wait lead to the same look at the link.
    let _ended = tokio::time::timeout(pause, task.let_go.wait_for(|let_go| *let_go)).await;
}

type Connected = (Box<dyn Session>, tokio::sync::mpsc::Receiver<super::connector::Observation>);

/// Connects; `None` when the link may not be worked on any more before that is done. A former
/// owner that went on would be taken for the link itself where both have one name, as at an MQTT
/// broker, and throw the rightful owner off.
async fn connect(task: &LinkTask, link: &Link) -> Result<Option<Connected>, ConnectError> {
    let parts = &task.parts;
    let setup = link_setup(&link.id, &link.spec);
    let checked = parts.connectors.get(&link.spec.connector).and_then(|connector| {
        let panicked = || Refusal::new("settings", "the connector panicked while checking them");
        contained(|| connector.check_link(&setup)).unwrap_or_else(|| Err(panicked()))?;
        Ok(Arc::clone(connector))
    });
    let connector: Arc<dyn Connector> =
        checked.map_err(|refusal| ConnectError::new(refusal.to_string()))?;
    let (reports, heard) = Reports::new(REPORTS_MAX);
    let view = parts.handle.view();
    let connect = Connect {
        devices: view
            .state
            .devices_of(&link.id)
            .map(|device| device_setup(&device.id, &device.spec))
            .collect(),
        link: setup,
        epoch: task.epoch,
        site: parts.site.clone(),
        secrets_dir: parts.secrets_dir.clone(),
        reports,
        may_write: may_write(task),
    };
    // In a task of its own: what blocks or panics must not end this one.
    let mut connecting =
        tokio::spawn(
            async move { AssertUnwindSafe(connector.connect(connect)).catch_unwind().await },
        );
    let ended = tokio::select! {
        ended = tokio::time::timeout(CONNECT_WITHIN, &mut connecting) => Some(ended),
        () = not_ours(task, link) => None,
    };
    let gave_up = match ended {
        Some(Ok(Ok(Ok(connected)))) => return connected.map(|session| Some((session, heard))),
        Some(Ok(Ok(Err(_)) | Err(_))) => {
            return Err(ConnectError::new("the connector panicked while connecting"));
        }
        Some(Err(_)) => Err(ConnectError::new("connecting took too long")),
        None => Ok(None),
    };
    connecting.abort();
    // One that blocks its thread is not waited for.
    let _cancelled = tokio::time::timeout(LOOK_EVERY, connecting).await;
    gave_up
}

/// Whether a device may be kept armed, as the records and the lease are whenever that is asked.
fn may_write(task: &LinkTask) -> MayWrite {
    let (parts, link, epoch) = (Arc::clone(&task.parts), task.id.clone(), task.epoch);
    let (run, let_go) = (task.run, task.let_go.clone());
    MayWrite::new(move |device| {
        let (now, now_ms) = (Instant::now(), parts.handle.clock().now_ms());
        let view = parts.handle.view();
        let device = view.state.device(device).filter(|device| device.blocked().is_none())?;
        let ours = our_link(&view, &parts, (&link, epoch), run).filter(|link| !link.paused)?;
        let stopped = parts.local.book().overlay(&device.id).is_some_and(|known| known.stopped);
        let on_link = device.spec.link.as_ref() == Some(&link);
        let until_ms = match run {
            Run::InEpoch => parts.lease.borrow().until_ms(&ours, now_ms)?,
            Run::Alone { .. } => u64::MAX,
        };
        let left_ms = until_ms.saturating_sub(now_ms).min(ANSWER_MS_MAX);
        (on_link && !stopped && !*let_go.borrow()).then(|| now + Duration::from_millis(left_ms))
    })
}

/// A link, while this node runs it in this capacity.
fn our_link(
    view: &View,
    parts: &DeviceParts,
    (id, epoch): (&LinkId, u64),
    run: Run,
) -> Option<Arc<Link>> {
    let link = view.state.link(id)?;
    let ours = match run {
        Run::InEpoch => link.owner == Some(parts.node) && !link.releasing,
        Run::Alone { .. } => may_run_alone(view, link),
    };
    (ours && link.epoch == epoch).then(|| Arc::clone(link))
}

/// Ends when a link may not be connected any more as it was registered.
async fn not_ours(task: &LinkTask, link: &Link) {
    let mut let_go = task.let_go.clone();
    let ours = || {
        let same = task.link().is_some_and(|now| now.spec == link.spec && !now.paused);
        same && task.until_ms(link, task.now_ms()).is_some()
    };
    while ours() {
        let ended = tokio::time::timeout(LOOK_EVERY, let_go.wait_for(|let_go| *let_go)).await;
        if matches!(ended, Ok(Err(_))) {
            // Nobody would tell it to let go any more: the process is ending.
            return;
        }
    }
}
