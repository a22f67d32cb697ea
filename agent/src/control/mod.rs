//! Control: commands, queries, changes, administration and events of a site.
//!
//! Requests come through two doors. Over NATS (`nats_door`) they arrive in *lanes*, one per kind
//! of subject: `commands`, `query`, `changes` and `admin` are shared by all agents of the site
//! through a queue group, so at most one agent takes a message; `node` belongs to this agent
//! alone. At the local door (`local`) whoever is on this machine hands them over; it needs no
//! NATS, and an agent may have no other. Behind the doors everything is the same, lanes included.
//!
//! 1. `judge` decides whether requests are taken in; `intake` subscribes, and unsubscribes when
//!    this agent can't help, so that clients hear "no responders" at once and don't wait for it.
//! 2. `desk` takes a request in: it is parsed once into a validated type, a permit bounds how
//!    many are being worked on. Whatever is wrong is answered at once, counted by surface and
//!    reason, and changes nothing.
//! 3. The request goes to its place: `commands`, `queries`, `looks`, `changes`, `admin`, `node`.
//! 4. `answers` knows where the answer goes. A NATS message without a reply subject is served like
//!    any other; the outcome of such a command, a refusal too, is told as an event (`outcomes`).
//!
//! A node that was removed from its site (`membership`) takes nothing in and says so; one that
//! may have been, while it was away, hears a leader `elsewhere`.
//!
//! `events` tells what was applied, `service` answers `nats micro`, `neighbours` watches for
//! another site under the same name. Nothing here holds replicated state: reads come from views,
//! writes go through [`Handle::submit`], and every wait ends at the request's deadline.

mod admin;
mod answers;
mod aside;
mod changes;
mod checks;
mod commands;
mod desk;
mod elsewhere;
mod events;
mod feed;
mod intake;
mod joins;
mod judge;
mod lanes;
mod local;
mod local_writes;
mod looks;
mod membership;
mod mesh;
mod nats_door;
mod neighbours;
mod node;
mod others;
mod outcomes;
mod queries;
mod request_ids;
mod service;
mod snapshots;
mod stages;

use std::sync::Arc;
use std::time::Duration;

use fleet_protocol::Subjects;
use fleet_state::{NodeId, NodeName, SiteName, SiteUid};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::consensus::Handle;
use crate::device::connectors::Connectors;
use crate::device::local::LocalHandle;
use crate::device::{Lookout, ObservedTable};
use crate::metrics::Metrics;
use crate::nats::Connection;
use crate::transport::WaySwitch;

pub use answers::Said;
pub use feed::{EventFeed, EventTold, Wanted};
pub use joins::answer_joins;
pub use local::{LocalDoor, LocalRequest, Replies};
pub use local_writes::LocalCommand;
pub(crate) use membership::Membership;
pub use mesh::MeshSource;
pub use snapshots::{SnapshotFile, SnapshotList};

use desk::Desk;
use intake::Group;
use nats_door::NatsDoor;

/// How long the last answers may take to leave when the agent stops.
const FLUSH_TIMEOUT: Duration = Duration::from_millis(500);

/// Who this agent is, as it says in status, service registration and logs.
#[derive(Clone, Debug)]
pub struct NodeFacts {
    /// The site.
    pub site: SiteName,
    /// The site's uid.
    pub uid: SiteUid,
    /// The node's id.
    pub id: NodeId,
    /// The node's name.
    pub name: NodeName,
    /// The boot counter.
    pub boot: u64,
    /// Version of the agent, as in a release: `1.2.3`.
    pub version: &'static str,
}

/// What control works with.
#[derive(Debug)]
pub struct ControlContext {
    /// The connection for control, where there is one; frames between agents have one of their own.
    pub nats: Option<Connection>,
    /// The consensus loop.
    pub handle: Handle,
    /// Who this agent is.
    pub node: NodeFacts,
    /// The snapshots on disk.
    pub snapshots: SnapshotList,
    /// What is seen of the other nodes.
    pub mesh: MeshSource,
    /// Changes of the ways to them.
    pub switches: mpsc::Receiver<WaySwitch>,
    /// What is known of devices.
    pub observed: ObservedTable,
    /// What is written here without a majority.
    pub local: LocalHandle,
    /// What checks links and devices before they are registered.
    pub connectors: Connectors,
    /// What looks along the links of this node.
    pub lookout: Lookout,
    /// The numbers.
    pub metrics: Metrics,
}

/// Where intake stands; told in status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum IntakeState {
    /// No leader is known while there is one elsewhere, or nothing of the site yet, so nothing is
    /// taken in.
    NoLeader,
    /// No leader is known and none is heard of: reads are answered from what this node holds.
    Reading,
    /// Requests are taken in.
    Serving,
    /// This node was removed from the site, or is about to be.
    Removed,
    /// Another site uses the same name on this NATS server, so nothing is taken in.
    ForeignSite,
    /// The agent is stopping.
    Stopped,
}

impl IntakeState {
    /// The word used in logs.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NoLeader => "no_leader",
            Self::Reading => "reading",
            Self::Serving => "serving",
            Self::Removed => "removed",
            Self::ForeignSite => "foreign_site",
            Self::Stopped => "stopped",
        }
    }
}

/// Running control; dropping it ends its tasks at once.
#[derive(Debug)]
pub struct ControlHandle {
    desk: Arc<Desk>,
    stop: watch::Sender<bool>,
    intake: JoinSet<()>,
    /// Tasks that end with the process: events, service, neighbours.
    others: JoinSet<()>,
}

/// Starts intake, events and the service registration.
///
/// It returns at once; an unreachable server and a missing leader are waited for.
pub fn start(context: ControlContext) -> ControlHandle {
    let (stop, stopped) = watch::channel(false);
    let (desk, switches) = Desk::new(context);
    let desk = Arc::new(desk);
    let mut intake = JoinSet::new();
    intake.spawn(judge::judge(Arc::clone(&desk), stopped.clone()));
    let mut others = JoinSet::new();
    others.spawn(others::answer_mesh(Arc::clone(&desk)));
    if let Some(nats) = &desk.nats {
        open_nats_door(&desk, nats, &mut intake, stopped);
        tell_nats(&desk, nats, &mut others);
        others.spawn(mesh::tell_switches(Arc::clone(&desk), Arc::clone(nats), switches));
    }
    ControlHandle { desk, stop, intake, others }
}

/// The lanes of the door over NATS; they end in a drain.
fn open_nats_door(
    desk: &Arc<Desk>,
    nats: &Arc<NatsDoor>,
    intake: &mut JoinSet<()>,
    stopped: watch::Receiver<bool>,
) {
    let (desk, nats) = (|| Arc::clone(desk), || Arc::clone(nats));
    for group in [Group::Deciding, Group::Leading, Group::Reading] {
        intake.spawn(intake::shared_lanes(desk(), nats(), group, stopped.clone()));
    }
    intake.spawn(intake::node_lane(desk(), nats(), stopped));
}

/// What is told and heard over NATS as long as the process lives.
fn tell_nats(desk: &Arc<Desk>, nats: &Arc<NatsDoor>, others: &mut JoinSet<()>) {
    let (desk, nats) = (|| Arc::clone(desk), || Arc::clone(nats));
    others.spawn(events::tell(desk(), nats()));
    others.spawn(events::tick(desk(), nats()));
    others.spawn(events::tell_foreign(desk(), nats()));
    others.spawn(local_writes::tell(desk(), nats()));
    others.spawn(service::answer(desk(), nats()));
    others.spawn(neighbours::watch(desk(), nats()));
    others.spawn(elsewhere::listen(desk(), nats()));
}

impl ControlHandle {
    /// The way in for requests of this machine.
    #[must_use]
    pub fn local_door(&self) -> LocalDoor {
        LocalDoor::new(Arc::clone(&self.desk))
    }

    /// Where intake stands.
    #[must_use]
    pub fn intake(&self) -> IntakeState {
        *self.desk.intake.borrow()
    }

    /// Waits until one of the tasks of control has ended, which none should.
    ///
    /// The text names what ended, for the reason with which the process then stops.
    pub async fn failed(&mut self) -> String {
        let ended = tokio::select! {
            Some(ended) = self.intake.join_next() => ended,
            Some(ended) = self.others.join_next() => ended,
            else => return "control has no tasks left".to_owned(),
        };
        match ended {
            Ok(()) => "a task of control ended".to_owned(),
            Err(error) => format!("a task of control failed: {error}"),
        }
    }

    /// Stops taking requests in, lets those under way end, and flushes their answers.
    ///
    /// At `deadline` it returns in any case; who is still waiting then hears nothing and retries
    /// with the same request id.
    pub async fn drain(mut self, deadline: Instant) {
        self.stop.send_replace(true);
        let ended = async {
            while self.intake.join_next().await.is_some() {}
            self.desk.lanes.idle().await;
        };
        if tokio::time::timeout_at(deadline, ended).await.is_err() {
            tracing::warn!(
                waiting = self.desk.lanes.in_flight(),
                "requests were still under way when the time to drain was over"
            );
        }
        self.others.abort_all();
        let Some(nats) = &self.desk.nats else { return };
        // The answers are in the client's queue; without a server there is nobody to wait for.
        let flushed = tokio::time::timeout(FLUSH_TIMEOUT, nats.client.flush()).await;
        if !matches!(flushed, Ok(Ok(()))) {
            tracing::debug!("the last answers could not be flushed");
        }
    }
}

/// The subjects of the site of `facts`.
fn subjects_of(facts: &NodeFacts) -> Subjects {
    Subjects::new(&facts.site)
}
