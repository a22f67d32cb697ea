//! The protocols of the mesh, each with its settings written out.

use std::collections::{HashMap, HashSet};
use std::num::NonZeroUsize;
use std::time::Duration;

use fleet_state::{NodeId, SiteName};
use libp2p::gossipsub::{self, IdentTopic, MessageAuthenticity, MessageId, ValidationMode};
use libp2p::identity::Keypair;
use libp2p::kad::store::{MemoryStore, MemoryStoreConfig};
use libp2p::swarm::NetworkBehaviour;
use libp2p::{PeerId, StreamProtocol, connection_limits, identify, kad, ping};
use sha2::{Digest as _, Sha256};

use super::presence::BEAT_BYTES_MAX;

/// Connections under way, inbound and outbound.
const PENDING_IN_MAX: u32 = 64;
const PENDING_OUT_MAX: u32 = 64;
/// Pings: round trips for people, and the end of connections that are dead.
const PING_EVERY: Duration = Duration::from_secs(2);
const PING_MAX: Duration = Duration::from_secs(2);
/// Other nodes are asked for the whole list of addresses so often.
const IDENTIFY_EVERY: Duration = Duration::from_secs(300);
const BOOTSTRAP_EVERY: Duration = Duration::from_secs(300);
const QUERY_MAX: Duration = Duration::from_secs(10);
/// No records are kept for others: the mesh looks for peers only.
const NO_RECORDS: MemoryStoreConfig = MemoryStoreConfig {
    max_records: 1,
    max_value_bytes: 64,
    max_providers_per_key: 1,
    max_provided_keys: 1,
};
const KAD_PACKET_BYTES_MAX: usize = 16 * 1024;
/// A signed presence message with its envelope.
const GOSSIP_BYTES_MAX: usize = BEAT_BYTES_MAX + 512;
/// What the library compares with its bound is all that it has read and not taken apart yet, eight
/// kilobytes at a time. Were the bound that of one message, a few that come together, as after a
/// pause, would end their stream, and after five of these gossip with the peer.
const GOSSIP_READ_BYTES_MAX: usize = 16 * 1024;
const GOSSIP_QUEUE_MAX: usize = 64;
const GOSSIP_PER_RPC_MAX: usize = 32;
const GOSSIP_CONTROL_BYTES_MAX: usize = 4 * 1024;
const GOSSIP_SEEN: Duration = Duration::from_secs(120);

/// Of whom gossip thinks less, nothing is taken in. A flood gets there within one message.
pub(super) const SCORE_IGNORED: f64 = -80.0;

/// Everything that runs on a member's connection; the gate stands around it (`gated`).
#[derive(NetworkBehaviour)]
pub(super) struct Behaviour {
    pub(super) frames: libp2p_stream::Behaviour,
    ping: ping::Behaviour,
    identify: identify::Behaviour,
    pub(super) kad: kad::Behaviour<MemoryStore>,
    pub(super) gossip: gossipsub::Behaviour<gossipsub::IdentityTransform, OneTopic>,
}

type OneTopic = gossipsub::MaxCountSubscriptionFilter<gossipsub::WhitelistSubscriptionFilter>;

/// The names that carry the site.
#[derive(Debug, Clone)]
pub(super) struct Names {
    pub(super) urgent: StreamProtocol,
    pub(super) paced: StreamProtocol,
    pub(super) echo: StreamProtocol,
    pub(super) asks: StreamProtocol,
    pub(super) join: StreamProtocol,
    kad: StreamProtocol,
    identify: String,
    gossip: String,
    pub(super) presence: IdentTopic,
}

/// A protocol name of ours could not be made; a site's name fits by its own rules.
#[derive(Debug, thiserror::Error)]
#[error("the site's name gives no protocol names")]
pub(super) struct BadName;

impl Names {
    pub(super) fn new(site: &SiteName) -> Result<Self, BadName> {
        let protocol = |name: &str| {
            StreamProtocol::try_from_owned(format!("/flotilla/{site}/{name}/1"))
                .map_err(|_| BadName)
        };
        Ok(Self {
            urgent: protocol("raft")?,
            paced: protocol("raft-paced")?,
            echo: protocol("echo")?,
            asks: protocol("ask")?,
            join: protocol("join")?,
            kad: protocol("kad")?,
            identify: format!("/flotilla/{site}/1"),
            gossip: format!("/flotilla/{site}/gossip"),
            presence: IdentTopic::new(format!("flotilla/{site}/presence/1")),
        })
    }
}

/// What a node calls itself to peers that do not have its record yet.
pub(super) fn agent_name(node: NodeId) -> String {
    format!("flotilla/{} node/{}", env!("CARGO_PKG_VERSION"), node.get())
}

/// The node in such a name. A claim: frames sent by it open for the right node only.
pub(super) fn node_in(agent_name: &str) -> Option<NodeId> {
    let (_, id) = agent_name.rsplit_once(" node/")?;
    NodeId::new(id.parse().ok()?)
}

/// Why the behaviour could not be made.
#[derive(Debug, thiserror::Error)]
#[error("gossip: {0}")]
pub(super) struct BadSettings(String);

impl Behaviour {
    pub(super) fn new(keypair: &Keypair, node: NodeId, names: &Names) -> Result<Self, BadSettings> {
        let me = keypair.public().to_peer_id();
        let ping = ping::Config::new().with_interval(PING_EVERY).with_timeout(PING_MAX);
        let identify = identify::Config::new(names.identify.clone(), keypair.public())
            .with_agent_version(agent_name(node))
            .with_interval(IDENTIFY_EVERY)
            .with_push_listen_addr_updates(true)
            // Addresses are kept in our own book, filtered.
            .with_cache_size(0);
        Ok(Self {
            frames: libp2p_stream::Behaviour::new(),
            ping: ping::Behaviour::new(ping),
            identify: identify::Behaviour::new(identify),
            kad: kad(me, names),
            gossip: gossip(keypair, names).map_err(BadSettings)?,
        })
    }
}

/// Connections that may be under way; whose they are is known only at their end.
pub(super) fn limits() -> connection_limits::ConnectionLimits {
    connection_limits::ConnectionLimits::default()
        .with_max_pending_incoming(Some(PENDING_IN_MAX))
        .with_max_pending_outgoing(Some(PENDING_OUT_MAX))
}

fn kad(me: PeerId, names: &Names) -> kad::Behaviour<MemoryStore> {
    let mut config = kad::Config::new(names.kad.clone());
    config
        .set_query_timeout(QUERY_MAX)
        .set_record_ttl(None)
        .set_record_filtering(kad::StoreInserts::FilterBoth)
        .set_replication_interval(None)
        .set_publication_interval(None)
        .set_provider_publication_interval(None)
        .set_kbucket_inserts(kad::BucketInserts::OnConnected)
        .set_caching(kad::Caching::Disabled)
        .set_max_packet_size(KAD_PACKET_BYTES_MAX)
        .set_periodic_bootstrap_interval(Some(BOOTSTRAP_EVERY))
        .disjoint_query_paths(true);
    let store = MemoryStore::with_config(me, NO_RECORDS);
    let mut kad = kad::Behaviour::with_config(me, store, config);
    // By itself it would wait for a public address, which a gateway never has.
    kad.set_mode(Some(kad::Mode::Server));
    kad
}

/// The same content is the same message, whoever passes it on; its author signs a boot counter
/// and a sequence within it.
fn message_id(message: &gossipsub::Message) -> MessageId {
    let mut hash = Sha256::new();
    hash.update(message.topic.as_str().as_bytes());
    hash.update(message.source.map(PeerId::to_bytes).unwrap_or_default());
    hash.update(&message.data);
    MessageId::new(&hash.finalize())
}

fn gossip(
    keypair: &Keypair,
    names: &Names,
) -> Result<gossipsub::Behaviour<gossipsub::IdentityTransform, OneTopic>, String> {
    let config = gossipsub::ConfigBuilder::default()
        .protocol_id_prefix(names.gossip.clone())
        .validation_mode(ValidationMode::Strict)
        .validate_messages()
        .message_id_fn(message_id)
        .max_transmit_size(GOSSIP_READ_BYTES_MAX)
        .max_transmit_size_for_topic(GOSSIP_BYTES_MAX, names.presence.hash())
        .heartbeat_initial_delay(Duration::from_secs(1))
        .heartbeat_interval(Duration::from_secs(1))
        .duplicate_cache_time(GOSSIP_SEEN)
        .flood_publish(true)
        .connection_handler_queue_len(GOSSIP_QUEUE_MAX)
        .max_publish_messages(GOSSIP_PER_RPC_MAX)
        .max_control_messages_sent(GOSSIP_PER_RPC_MAX)
        .max_control_message_size(GOSSIP_CONTROL_BYTES_MAX)
        .build()
        .map_err(|error| error.to_string())?;
    let topic = names.presence.hash();
    let filter = gossipsub::MaxCountSubscriptionFilter {
        filter: gossipsub::WhitelistSubscriptionFilter(HashSet::from([topic.clone()])),
        max_subscribed_topics: 1,
        max_subscriptions_per_request: 4,
    };
    let authenticity = MessageAuthenticity::Signed(keypair.clone());
    let mut gossip =
        gossipsub::Behaviour::new_with_subscription_filter(authenticity, config, filter)?;
    gossip.with_peer_score(scores(topic), thresholds())?;
    gossip.subscribe(&names.presence).map_err(|error| error.to_string())?;
    Ok(gossip)
}

/// Who sends rubbish loses its place; who is merely quiet, or shares an address, does not.
fn scores(topic: gossipsub::TopicHash) -> gossipsub::PeerScoreParams {
    let presence = gossipsub::TopicScoreParams {
        topic_weight: 1.0,
        time_in_mesh_weight: 0.01,
        time_in_mesh_quantum: Duration::from_secs(1),
        time_in_mesh_cap: 100.0,
        first_message_deliveries_weight: 0.1,
        first_message_deliveries_decay: 0.9,
        first_message_deliveries_cap: 50.0,
        // A small site is quiet: no delivery is owed.
        mesh_message_deliveries_weight: 0.0,
        mesh_failure_penalty_weight: 0.0,
        // Three of these and a peer is ignored, the longer the more it sent: nobody does that by
        // mistake.
        invalid_message_deliveries_weight: -10.0,
        invalid_message_deliveries_decay: 0.99,
        ..gossipsub::TopicScoreParams::default()
    };
    gossipsub::PeerScoreParams {
        topics: HashMap::from([(topic, presence)]),
        topic_score_cap: 50.0,
        app_specific_weight: 1.0,
        // Gateways in containers may well share an address.
        ip_colocation_factor_weight: 0.0,
        behaviour_penalty_weight: -10.0,
        behaviour_penalty_threshold: 2.0,
        behaviour_penalty_decay: 0.9,
        decay_interval: Duration::from_secs(1),
        decay_to_zero: 0.01,
        retain_score: Duration::from_secs(600),
        ..gossipsub::PeerScoreParams::default()
    }
}

fn thresholds() -> gossipsub::PeerScoreThresholds {
    gossipsub::PeerScoreThresholds {
        gossip_threshold: -20.0,
        publish_threshold: -40.0,
        graylist_threshold: SCORE_IGNORED,
        accept_px_threshold: 1_000.0,
        opportunistic_graft_threshold: 1.0,
    }
}

/// Connections that nobody uses are closed after this; streams of frames keep theirs.
pub(super) const IDLE_MAX: Duration = Duration::from_secs(60);
/// Addresses of one peer that are tried at a time.
pub(super) const DIAL_CONCURRENCY: NonZeroUsize = NonZeroUsize::MIN.saturating_add(3);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings_hold_together() {
        let names = Names::new(&"home".parse().unwrap()).unwrap();
        assert_eq!(names.urgent.as_ref(), "/flotilla/home/raft/1");
        let keypair = Keypair::generate_ed25519();
        assert!(gossip(&keypair, &names).is_ok());
        assert!(thresholds().validate().is_ok());
        assert!(scores(names.presence.hash()).validate().is_ok());
    }

    #[test]
    fn a_node_names_itself() {
        let node = NodeId::new(12).unwrap();
        assert_eq!(node_in(&agent_name(node)), Some(node));
        for odd in
            ["", "flotilla/1", "x node/", "x node/0", "x node/-1", "x node/99999999999999999999"]
        {
            assert_eq!(node_in(odd), None, "{odd}");
        }
    }
}
