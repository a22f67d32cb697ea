//! `flotilla mesh`: who sees whom, and by which ways.

use std::{collections::BTreeSet, fmt::Write as _, time::Duration};

use anyhow::Result;
use clap::Subcommand;
use fleet_client::{Client, ClientError};
use fleet_protocol::Consistency;
use fleet_protocol::mesh::{NodeMesh, PeerSeen, Pinged};
use fleet_protocol::record::MemberBody;
use fleet_state::{NodeId, NodeName};
use serde::Serialize;

use super::member;
use crate::{
    exit::{Exit, Stop},
    output::{Form, Table, lasted, put, say, tame},
    session::Session,
};

/// Pause between two pings.
const PING_PAUSE: Duration = Duration::from_millis(200);
/// Most pings of one run.
const PINGS_MAX: u16 = 1_000;

/// The mesh between the nodes
#[derive(Debug, Subcommand)]
pub(crate) enum MeshCommand {
    /// What one node sees of the others
    ///
    /// A node is alive, suspect (silent for 5 s, or it has closed its connections) or dead (silent
    /// for 15 s). WAYS are those that lead to it, FRAMES the one that what is said to it takes; LAG
    /// is how many entries it is behind, LOAD how busy its machine is.
    Peers {
        /// Whose view, by name or node id [default: the leader's]
        #[arg(long, value_name = "NODE")]
        from: Option<String>,
    },
    /// Who is connected to whom; with -o dot for graphviz
    Graph,
    /// Round trips to a node over the mesh
    Ping {
        /// Its name or node id
        node: String,
        /// From which node, by name or node id [default: the leader, or another one]
        #[arg(long, value_name = "NODE")]
        from: Option<String>,
        /// How many
        #[arg(short, long, default_value_t = 4, value_parser = clap::value_parser!(u16).range(1..=i64::from(PINGS_MAX)))]
        count: u16,
    },
}

pub(crate) async fn run(command: MeshCommand, session: &Session) -> Result<()> {
    let client = session.client().await?;
    match command {
        MeshCommand::Peers { from } => {
            let from = match from {
                Some(from) => Some(viewer(&client, &from).await?),
                None => None,
            };
            peers(session, &client, from.as_ref()).await
        }
        MeshCommand::Graph => graph(session, &client).await,
        MeshCommand::Ping { node, from, count } => {
            let members = members(&client).await?;
            let to = member::one_of(&members, &node)?;
            let (to, name) = (id_of(to)?, to.name.clone());
            let from = match from {
                Some(from) => name_of(member::one_of(&members, &from)?)?,
                None => a_node_but(&client, to).await?,
            };
            ping(session, &client, &Trip { from, to, name, count }).await
        }
    }
}

/// Who looks at the mesh may do so because nobody leads; who is a member, any agent knows well
/// enough.
async fn members(client: &Client) -> Result<Vec<MemberBody>, ClientError> {
    Ok(member::members(client, Consistency::Stale).await?.items)
}

/// The node that was named. Where nobody knows the members, that is for it to say.
async fn viewer(client: &Client, node: &str) -> Result<NodeName> {
    match members(client).await {
        Ok(members) => name_of(member::one_of(&members, node)?),
        Err(ClientError::Unavailable(_)) => Ok(node.parse()?),
        Err(error) => Err(error.into()),
    }
}

fn name_of(member: &MemberBody) -> Result<NodeName> {
    Ok(member.name.parse().map_err(|_| Stop::new(Exit::Failed, "a member has no usable name"))?)
}

fn id_of(member: &MemberBody) -> Result<NodeId> {
    NodeId::new(member.node)
        .ok_or_else(|| Stop::new(Exit::Failed, "a member has no node id").into())
}

/// What it means that nobody takes a request to one node.
fn silent(error: ClientError, node: &NodeName) -> anyhow::Error {
    if let ClientError::Unavailable(_) = error {
        return Stop::new(Exit::Unavailable, format!("{node} does not answer"))
            .with_hint("See which agents are up: flotilla status.")
            .into();
    }
    error.into()
}

/// The views of all nodes that answer.
pub(crate) async fn views(client: &Client) -> Result<Vec<NodeMesh>, ClientError> {
    client.all_mesh(&BTreeSet::new()).await
}

/// The view that says most: the leader's, as far as anybody names one, else of the node that sees
/// most others alive.
pub(crate) fn best_view(views: &[NodeMesh]) -> Option<&NodeMesh> {
    let led = views.iter().find_map(|view| {
        let leads = |peer: &&PeerSeen| peer.told.as_ref().is_some_and(|told| told.role == "leader");
        view.peers.iter().find(leads).map(|peer| peer.node)
    });
    let alive = |view: &&NodeMesh| {
        view.peers.iter().filter(|peer| peer.life.as_deref() == Some("alive")).count()
    };
    views.iter().find(|view| Some(view.node) == led).or_else(|| views.iter().max_by_key(alive))
}

fn nobody() -> Stop {
    Stop::new(Exit::Unavailable, "no agent of the site answers")
        .with_hint("See on the gateways whether the agents run.")
}

async fn peers(session: &Session, client: &Client, from: Option<&NodeName>) -> Result<()> {
    let view = match from {
        Some(from) => client.node_mesh(from).await.map_err(|error| silent(error, from))?,
        None => best_view(&views(client).await?).cloned().ok_or_else(nobody)?,
    };
    if session.form() == Form::Table {
        say(&format!("as {} (node {}) sees it", tame(&view.name), view.node));
    }
    session.form().print(&view, || {
        let mut table = Table::new(&[
            "NODE", "NAME", "STATE", "WAYS", "FRAMES", "RTT", "LAG", "LOAD", "ROLE", "ADDRESS",
        ]);
        for peer in &view.peers {
            let told = peer.told.as_ref();
            table.row([
                peer.node.to_string(),
                peer.name.clone(),
                state(peer),
                peer.ways.clone(),
                frames(&peer.ways, peer.way.as_ref()),
                rtt(peer),
                lag(peer),
                told.map_or_else(none, |told| load(told.load_permille)),
                told.map_or_else(none, |told| told.role.clone()),
                peer.addresses.first().map_or_else(none, |at| without_peer(at).to_owned()),
            ]);
        }
        table
    })
}

fn none() -> String {
    "-".to_owned()
}

/// The way that frames take, where there is any.
fn frames(ways: &str, way: Option<&String>) -> String {
    way.filter(|_| ways != "none").cloned().unwrap_or_else(none)
}

/// The address alone; whose it is says the row.
fn without_peer(address: &str) -> &str {
    address.split_once("/p2p/").map_or(address, |(address, _)| address)
}

/// `alive 12m3s`.
pub(crate) fn state(peer: &PeerSeen) -> String {
    let Some(life) = &peer.life else { return none() };
    let since = peer.since_ms.map(lasted);
    since.map_or_else(|| life.clone(), |since| format!("{life} {since}"))
}

/// What a view says of a node; and whether the node is the viewer, of whom it says nothing.
pub(crate) fn presence_of(view: Option<&NodeMesh>, node: u64) -> (Option<&PeerSeen>, bool) {
    let Some(view) = view else { return (None, false) };
    (view.peers.iter().find(|peer| peer.node == node), view.node == node)
}

/// The columns STATE, WAYS, RTT and LAG of a node. The viewer is alive: it has just answered.
pub(crate) fn columns(presence: Option<&PeerSeen>, is_viewer: bool) -> [String; 4] {
    match presence {
        Some(peer) => [state(peer), peer.ways.clone(), rtt(peer), lag(peer)],
        None if is_viewer => ["alive".to_owned(), none(), none(), none()],
        None => [none(), none(), none(), none()],
    }
}

/// The round trip in milliseconds.
pub(crate) fn rtt(peer: &PeerSeen) -> String {
    peer.rtt_us.map_or_else(none, millis)
}

/// Entries behind.
pub(crate) fn lag(peer: &PeerSeen) -> String {
    peer.lag.map_or_else(none, |lag| lag.to_string())
}

fn millis(us: u64) -> String {
    format!("{}.{:02} ms", us / 1_000, us % 1_000 / 10)
}

fn load(permille: u32) -> String {
    format!("{}%", permille / 10)
}

#[derive(Debug, Serialize)]
struct Graph {
    nodes: Vec<GraphNode>,
    edges: Vec<Edge>,
}

#[derive(Debug, Serialize)]
struct GraphNode {
    node: u64,
    name: String,
    on_nats: bool,
    /// Whether it told its view; of others only what these see is known.
    answered: bool,
}

#[derive(Debug, Serialize)]
struct Edge {
    from: u64,
    to: u64,
    from_name: String,
    to_name: String,
    life: String,
    ways: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    way: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    rtt_us: Option<u64>,
}

impl Graph {
    fn of(views: &[NodeMesh]) -> Self {
        let mut nodes: Vec<GraphNode> = Vec::new();
        for view in views {
            let (node, name, on_nats) = (view.node, view.name.clone(), view.on_nats);
            nodes.push(GraphNode { node, name, on_nats, answered: true });
        }
        for peer in views.iter().flat_map(|view| &view.peers) {
            if nodes.iter().all(|node| node.node != peer.node) {
                let on_nats = peer.told.as_ref().is_some_and(|told| told.on_nats);
                let (node, name) = (peer.node, peer.name.clone());
                nodes.push(GraphNode { node, name, on_nats, answered: false });
            }
        }
        nodes.sort_by_key(|node| node.node);
        let edges = views.iter().flat_map(|view| {
            view.peers.iter().map(|peer| Edge {
                from: view.node,
                to: peer.node,
                from_name: view.name.clone(),
                to_name: peer.name.clone(),
                life: peer.life.clone().unwrap_or_else(|| "unknown".to_owned()),
                ways: peer.ways.clone(),
                way: peer.way.clone(),
                rtt_us: peer.rtt_us,
            })
        });
        Self { nodes, edges: edges.collect() }
    }

    /// For graphviz. An edge that only one end sees has an arrow; a node that did not
    /// answer is dashed.
    fn dot(&self, site: &str) -> String {
        let mut dot = format!("digraph {} {{\n  node [shape=box];\n", quoted(site));
        for node in &self.nodes {
            let style = if node.answered { "solid" } else { "dashed" };
            let nats = if node.on_nats { "\\nNATS" } else { "" };
            let label = format!("\"{}{nats}\"", inside(&node.name));
            let _ = writeln!(dot, "  {} [label={label}, style={style}];", node.node);
        }
        for edge in self.edges.iter().filter(|edge| edge.ways == "mesh" || edge.ways == "both") {
            let back = self.edges.iter().any(|other| {
                (other.from, other.to) == (edge.to, edge.from)
                    && (other.ways == "mesh" || other.ways == "both")
            });
            if back && edge.from > edge.to {
                continue;
            }
            let direction = if back { "none" } else { "forward" };
            let label = edge.rtt_us.map_or_else(String::new, millis);
            let _ = writeln!(
                dot,
                "  {} -> {} [dir={direction}, label={}];",
                edge.from,
                edge.to,
                quoted(&label)
            );
        }
        dot.push_str("}\n");
        dot
    }
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", inside(text))
}

fn inside(text: &str) -> String {
    tame(text).replace('\\', "\\\\").replace('"', "\\\"")
}

async fn graph(session: &Session, client: &Client) -> Result<()> {
    let views = views(client).await?;
    if views.is_empty() {
        return Err(nobody().into());
    }
    let graph = Graph::of(&views);
    let silent = graph.nodes.iter().filter(|node| !node.answered);
    let silent: Vec<String> = silent.map(|node| tame(&node.name)).collect();
    if !silent.is_empty() {
        let known = graph.nodes.len();
        say(&format!("of {known} nodes these did not tell what they see: {}", silent.join(", ")));
    }
    if session.form() == Form::Dot {
        return put(&graph.dot(client.site().as_ref()));
    }
    session.form().print(&graph, || {
        let mut table = Table::new(&["FROM", "TO", "STATE", "WAYS", "FRAMES", "RTT"]);
        for edge in &graph.edges {
            table.row([
                edge.from_name.clone(),
                edge.to_name.clone(),
                edge.life.clone(),
                edge.ways.clone(),
                frames(&edge.ways, edge.way.as_ref()),
                edge.rtt_us.map_or_else(none, millis),
            ]);
        }
        table
    })
}

/// What is measured.
struct Trip {
    from: NodeName,
    to: NodeId,
    name: String,
    count: u16,
}

/// A node to ping another one from.
async fn a_node_but(client: &Client, to: NodeId) -> Result<NodeName> {
    let views = views(client).await?;
    let others: Vec<NodeMesh> = views.into_iter().filter(|view| view.node != to.get()).collect();
    let best = best_view(&others).ok_or_else(|| {
        Stop::new(Exit::Unavailable, "no other agent of the site answers, so nobody can ping it")
    })?;
    Ok(best.name.parse().map_err(|_| Stop::new(Exit::Failed, "an agent has no usable name"))?)
}

async fn ping(session: &Session, client: &Client, trip: &Trip) -> Result<()> {
    let mut answers: Vec<Pinged> = Vec::new();
    for number in 1..=trip.count {
        if number > 1 {
            tokio::time::sleep(PING_PAUSE).await;
        }
        let pinged = client.ping(&trip.from, trip.to).await;
        let pinged = pinged.map_err(|error| silent(error, &trip.from))?;
        let line = || format!("{} -> {}: {}", trip.from, tame(&trip.name), millis(pinged.rtt_us));
        session.form().print_next(&pinged, line)?;
        answers.push(pinged);
    }
    if session.form() == Form::Table {
        let mut times: Vec<u64> = answers.iter().map(|pinged| pinged.rtt_us).collect();
        times.sort_unstable();
        let at = |of: Option<&u64>| of.copied().map_or_else(none, millis);
        say(&format!(
            "{} round trips: fastest {}, median {}, slowest {}",
            times.len(),
            at(times.first()),
            at(times.get(times.len() / 2)),
            at(times.last())
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(node: u64, peers: &[(u64, &str, &str)]) -> NodeMesh {
        let peer = |(node, ways, role): &(u64, &str, &str)| PeerSeen {
            node: *node,
            name: format!("n{node}"),
            life: Some("alive".to_owned()),
            since_ms: Some(61_000),
            ways: (*ways).to_owned(),
            rtt_us: Some(1_234),
            told: Some(fleet_protocol::mesh::Told {
                boot: 1,
                role: (*role).to_owned(),
                term: 1,
                applied: 1,
                on_nats: true,
                mesh_nodes: 1,
                load_permille: 0,
            }),
            ..PeerSeen::default()
        };
        NodeMesh {
            node,
            name: format!("n{node}"),
            on_nats: true,
            peers: peers.iter().map(peer).collect(),
            ..NodeMesh::default()
        }
    }

    #[test]
    fn the_leaders_view_is_preferred() {
        let one = view(1, &[(2, "both", "leader"), (3, "both", "follower")]);
        let two = view(2, &[(1, "both", "follower")]);
        let both = [one, two];
        assert_eq!(best_view(&both).map(|view| view.node), Some(2));
        assert_eq!(best_view(&both[..1]).map(|view| view.node), Some(1));
        assert_eq!(best_view(&[]), None);
        assert_eq!(state(&both[0].peers[0]), "alive 1m1s");
        assert_eq!(rtt(&both[0].peers[0]), "1.23 ms");
    }

    #[test]
    fn a_graph_for_graphviz() {
        let views = [
            view(1, &[(2, "both", "leader"), (3, "mesh", "follower")]),
            view(2, &[(1, "mesh", "follower"), (3, "none", "follower")]),
        ];
        let dot = Graph::of(&views).dot("home");
        assert_eq!(
            dot,
            "digraph \"home\" {\n  node [shape=box];\n  1 [label=\"n1\\nNATS\", style=solid];\n  2 [label=\"n2\\nNATS\", style=solid];\n  3 [label=\"n3\\nNATS\", style=dashed];\n  1 -> 2 [dir=none, label=\"1.23 ms\"];\n  1 -> 3 [dir=forward, label=\"1.23 ms\"];\n}\n"
        );
        assert_eq!(quoted("a\"\\\n"), "\"a\\\"\\\\\\\\u{a}\"");
    }
}
