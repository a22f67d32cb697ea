//! What this node sees of the others, put together from presence and the ways of frames; and the
//! events of ways that change.

use std::sync::Arc;

use fleet_consensus::View;
use fleet_consensus::frame::Path;
use fleet_protocol::mesh::{NodeMesh, PeerSeen, Pinged, Told, WaySwitched};
use fleet_protocol::reply::{self, ReplyMessage};
use fleet_protocol::{ErrorCode, Failure, Noun, event};
use fleet_state::{Member, NodeId, Role};
use tokio::sync::mpsc;

use crate::mesh::{Beat, MeshHandle, MeshStatus, NodePresence, PingError};
use crate::transport::{WaySeen, WaySwitch, WayTable};

use super::desk::{Desk, Job};
use super::events::wall_time_ms;
use super::nats_door::NatsDoor;

/// A node that was heard over NATS within this time can be reached there, as far as one knows.
const NATS_AGE_MS_MAX: u64 = 5_000;
/// Addresses of a node that are told; the best come first.
const ADDRESSES_MAX: usize = 4;

/// Where what is told comes from.
#[derive(Clone, Debug)]
pub struct MeshSource {
    /// The mesh, if this node takes part in it.
    pub mesh: Option<MeshHandle>,
    /// The ways of frames.
    pub ways: tokio::sync::watch::Receiver<WayTable>,
}

/// All of it at one moment.
struct Seen {
    now_ms: u64,
    on_nats: bool,
    status: Arc<MeshStatus>,
    meshed: bool,
    ways: WayTable,
}

/// What this node sees of the others.
pub(super) fn view(desk: &Desk) -> NodeMesh {
    let mesh = desk.mesh.mesh.as_ref();
    let seen = Seen {
        now_ms: desk.handle.clock().now_ms(),
        on_nats: desk.nats.as_ref().is_some_and(|nats| nats.is_connected()),
        status: mesh.map(|mesh| mesh.watch_status().borrow().clone()).unwrap_or_default(),
        meshed: mesh.is_some(),
        ways: desk.mesh.ways.borrow().clone(),
    };
    let view = desk.handle.view();
    let me = view.standing.node;
    let others =
        view.state.members().filter(|member| member.id != me && member.role != Role::Removed);
    NodeMesh {
        node: me.get(),
        name: desk.facts.name.to_string(),
        peer: seen.meshed.then(|| seen.status.peer.clone()),
        listening: seen.status.listening.clone(),
        on_nats: seen.on_nats,
        load_permille: seen.meshed.then_some(seen.status.load_permille),
        peers: others.map(|member| seen.peer(member.id, member.name.to_string())).collect(),
    }
}

impl Seen {
    fn peer(&self, node: NodeId, name: String) -> PeerSeen {
        let way = self.ways.get(&node).copied().unwrap_or_default();
        let presence = self.status.nodes.get(&node);
        let age = |at_ms: u64| self.now_ms.saturating_sub(at_ms);
        let addresses = self.status.addresses.get(&node);
        PeerSeen {
            node: node.get(),
            name,
            life: presence.map(|presence| presence.life.as_str().to_owned()),
            since_ms: presence.map(|presence| age(presence.since_ms)),
            heard_ms: self.heard_ms(presence, way).map(age),
            ways: self.ways_to(presence, way).to_owned(),
            way: way.way.map(|way| way.as_str().to_owned()),
            rtt_us: presence
                .and_then(|presence| presence.rtt)
                .map(|rtt| u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX)),
            lag: presence.and_then(|presence| presence.lag),
            told: presence.and_then(|presence| presence.beat.as_ref()).map(told),
            addresses: addresses.into_iter().flatten().take(ADDRESSES_MAX).cloned().collect(),
        }
    }

    fn heard_ms(&self, presence: Option<&NodePresence>, way: WaySeen) -> Option<u64> {
        // Before anything was heard the time is that of the beginning, which says nothing.
        let told = presence.filter(|seen| seen.beat.is_some() || seen.connected);
        [told.map(|presence| presence.heard_ms), way.nats_ms, way.mesh_ms]
            .into_iter()
            .flatten()
            .max()
    }

    /// The ways that lead to a node now: NATS when both are connected to it, the mesh when there
    /// is a connection.
    fn ways_to(&self, presence: Option<&NodePresence>, way: WaySeen) -> &'static str {
        let recent = |at_ms: u64| self.now_ms.saturating_sub(at_ms) <= NATS_AGE_MS_MAX;
        let says_so = presence.is_some_and(|presence| {
            presence.beat.is_some_and(|beat| beat.on_nats) && recent(presence.heard_ms)
        });
        let nats = self.on_nats && (says_so || way.nats_ms.is_some_and(recent));
        match (nats, presence.is_some_and(|presence| presence.connected)) {
            (true, true) => "both",
            (true, false) => "nats",
            (false, true) => "mesh",
            (false, false) => "none",
        }
    }
}

fn told(beat: &Beat) -> Told {
    Told {
        boot: beat.boot,
        role: beat.role.as_str().to_owned(),
        term: beat.term,
        applied: beat.applied,
        on_nats: beat.on_nats,
        mesh_nodes: beat.mesh_nodes,
        load_permille: beat.load_permille,
    }
}

/// One round trip to another node.
pub(super) async fn ping(desk: &Desk, to: NodeId, job: &Job) -> Result<ReplyMessage, Failure> {
    let view = desk.handle.view();
    let name = member_name(&view, to).ok_or_else(|| {
        Failure::new(ErrorCode::NotFound, format!("no member has the node id {to}"))
            .about(Noun::Member)
    })?;
    let from = desk.facts.id;
    if to == from {
        return Err(Failure::new(ErrorCode::Unsupported, format!("{name} can't ping itself"))
            .with_hint("Name another node."));
    }
    let mesh = desk.mesh.mesh.as_ref().ok_or_else(|| {
        Failure::new(
            ErrorCode::Unsupported,
            format!("{} takes no part in the mesh", desk.facts.name),
        )
        .with_hint("Set mesh.enabled in its configuration.")
    })?;
    match mesh.ping(to).await {
        Ok(rtt) => {
            let rtt_us = u64::try_from(rtt.as_micros()).unwrap_or(u64::MAX);
            let pinged = Pinged { from: from.get(), to: to.get(), rtt_us };
            Ok(reply::item(&job.request_id, &pinged))
        }
        Err(error @ (PingError::NotConnected | PingError::NoEcho(_))) => Err(Failure::new(
            ErrorCode::Unreachable,
            format!("{} gets no echo from {name}: {error}", desk.facts.name),
        )
        .with_hint("See who is connected to whom: flotilla mesh graph.")),
    }
}

fn member_name(view: &View, node: NodeId) -> Option<String> {
    let alive = |member: &&Arc<Member>| member.role != Role::Removed;
    view.state.member(&node).filter(alive).map(|member| member.name.to_string())
}

/// Tells every change of a way once. While NATS is away they wait in its client's queue.
pub(super) async fn tell_switches(
    desk: Arc<Desk>,
    nats: Arc<NatsDoor>,
    mut switches: mpsc::Receiver<WaySwitch>,
) {
    let node = desk.facts.id;
    let subject = desk.subjects.way_event(node);
    while let Some(WaySwitch { to, way, reason }) = switches.recv().await {
        let told = WaySwitched {
            node: node.get(),
            to: to.get(),
            way: match way {
                Path::Nats => "nats".to_owned(),
                Path::Mesh => "mesh".to_owned(),
            },
            reason: reason.to_owned(),
            wall_time_ms: wall_time_ms(),
        };
        let payload = event::way_switched(&told);
        let message = ReplyMessage { headers: Vec::new(), payload };
        nats.publish(subject.clone().into(), message).await;
        desk.metrics.events.inc();
    }
    // The consensus loop has ended; the process is ending.
    std::future::pending::<()>().await;
}
