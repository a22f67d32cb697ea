//! What the event loop does now and then: dialling, searching, telling, keeping.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use fleet_state::NodeId;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{Multiaddr, PeerId};

use super::event_loop::EventLoop;
use super::handle::MeshStatus;
use super::peers::Gossip;
use super::peers_file::PeersFile;
use super::presence::{Beat, load_permille};

/// What is due is looked at so often while somebody is missing, and while nobody is.
const TICK_MS: u64 = 250;
const TICK_MS_CALM: u64 = 1_000;
/// A node says that it is there so often.
const BEAT_EVERY_MS: u64 = 2_000;
/// While members are missing they are searched for so often.
const SEARCH_EVERY_MS: u64 = 2_000;
/// What is known of others is written down at most so often.
const KEEP_EVERY_MS: u64 = 10_000;
/// What is known is published at most so often, unless a node comes or goes.
const STATUS_EVERY_MS: u64 = 1_000;

impl EventLoop {
    pub(super) fn on_tick(&mut self) {
        let now_ms = self.clock.now_ms();
        self.chores.ticked_ms = now_ms;
        let known = self.book.ips();
        self.swarm.behaviour_mut().set_known(known);
        self.swarm.behaviour_mut().sweep();
        self.presence.tick(now_ms);
        self.close_silent(now_ms);
        self.heed_scores();
        self.redial_lost(now_ms);
        self.dial(now_ms);
        self.search(now_ms);
        self.say_presence(now_ms);
        self.keep(now_ms);
        self.publish_status(now_ms);
    }

    /// How long nothing has to be looked at. While all are there that is a second: what has just
    /// changed sets its due time to nothing, and is not kept waiting.
    pub(super) fn until_tick(&self) -> Duration {
        let is_calm = self.roster.is_known()
            && self.chores.beat_due_ms > 0
            && self.chores.status_due_ms > 0
            && self.roster.peers().all(|(peer, _)| self.peers.is_connected(peer));
        let every_ms = if is_calm { TICK_MS_CALM } else { TICK_MS };
        let due_ms = self.chores.ticked_ms.saturating_add(every_ms);
        let due_ms = self.lost.due_ms().map_or(due_ms, |lost_ms| lost_ms.min(due_ms));
        Duration::from_millis(due_ms.saturating_sub(self.clock.now_ms()))
    }

    /// Whose gossip is ignored for what it sent, or heard again: said once.
    fn heed_scores(&mut self) {
        let gossip = &self.swarm.behaviour().members.gossip;
        let scores = self.peers.iter().filter_map(|peer| Some((*peer, gossip.peer_score(peer)?)));
        let scores: Vec<(PeerId, f64)> = scores.collect();
        for (peer, score) in scores {
            let node = self.peers.node_of(&peer).map(NodeId::get);
            match self.peers.scored(&peer, score) {
                Some(Gossip::Ignored) => {
                    self.metrics.refuse("presence", "ignored_peer");
                    tracing::warn!(
                        %peer,
                        node,
                        "what a gateway tells by gossip is ignored for a while: it sends too much of it, or what is wrong"
                    );
                }
                Some(Gossip::Heard) => {
                    tracing::info!(%peer, node, "what a gateway tells by gossip is heard again");
                }
                None => {}
            }
        }
    }

    /// Those that should be connected and are not.
    fn missing(&self) -> Vec<PeerId> {
        let wanted: Vec<PeerId> = if self.roster.is_known() {
            self.roster.peers().map(|(peer, _)| *peer).collect()
        } else {
            self.book.iter().map(|(peer, _)| *peer).collect()
        };
        wanted.into_iter().filter(|peer| !self.peers.is_connected(peer)).collect()
    }

    /// Dials a peer whose connection has just been lost, without waiting for its turn.
    ///
    /// First where it was: when its process has ended, its machine says so at once. An attempt
    /// tells how it ended when all its addresses have, and one that leads nowhere, as a network
    /// that this node has no part in, would keep that word back.
    pub(super) fn redial(&mut self, peer: PeerId, at: Option<IpAddr>, now_ms: u64) {
        if self.roster.node_of(&peer).is_none() {
            return;
        }
        self.book.at_once(peer, now_ms);
        let here = at.map_or_else(Vec::new, |ip| self.book.addresses_at(&peer, ip));
        let mut elsewhere = self.book.take_due(&peer, now_ms).unwrap_or_default();
        elsewhere.retain(|address| !here.contains(address));
        for addresses in [here, elsewhere] {
            if !addresses.is_empty() {
                self.dial_at(peer, addresses, PeerCondition::Disconnected, now_ms);
            }
        }
    }

    /// Tries those once more of whom an attempt did not tell whether they are gone. What becomes
    /// of the regular attempts does not depend on it.
    fn redial_lost(&mut self, now_ms: u64) {
        for (peer, at) in self.lost.take_due(now_ms) {
            let addresses = at.map_or_else(Vec::new, |ip| self.book.addresses_at(&peer, ip));
            if addresses.is_empty() {
                continue;
            }
            let condition = PeerCondition::Disconnected;
            let options = DialOpts::peer_id(peer).addresses(addresses).condition(condition).build();
            if let Err(error) = self.swarm.dial(options) {
                tracing::trace!(%peer, %error, "not dialled");
            }
        }
    }

    fn dial_peer(&mut self, peer: PeerId, now_ms: u64) {
        if let Some(addresses) = self.book.take_due(&peer, now_ms) {
            self.dial_at(peer, addresses, PeerCondition::DisconnectedAndNotDialing, now_ms);
        }
    }

    fn dial_at(
        &mut self,
        peer: PeerId,
        addresses: Vec<Multiaddr>,
        condition: PeerCondition,
        now_ms: u64,
    ) {
        let options = DialOpts::peer_id(peer).addresses(addresses).condition(condition).build();
        let id = options.connection_id();
        self.book.begun(peer, id);
        if let Err(error) = self.swarm.dial(options) {
            tracing::trace!(%peer, %error, "not dialled");
            self.book.failed(peer, id, now_ms);
        }
    }

    fn dial(&mut self, now_ms: u64) {
        let missing = self.missing();
        for peer in &missing {
            self.dial_peer(*peer, now_ms);
        }
        if missing.is_empty() && self.roster.is_known() {
            return;
        }
        for address in self.seeds.take_due(now_ms) {
            let options = DialOpts::unknown_peer_id().address(address).build();
            if let Err(error) = self.swarm.dial(options) {
                tracing::trace!(%error, "not dialled");
            }
        }
    }

    /// Asks the connected ones for those that are missing.
    fn search(&mut self, now_ms: u64) {
        if now_ms < self.chores.search_due_ms {
            return;
        }
        self.chores.search_due_ms = now_ms.saturating_add(SEARCH_EVERY_MS);
        if self.peers.iter().next().is_none() {
            return;
        }
        let missing = self.missing();
        // One at a time; with the next tick it may be another's turn.
        let turn = usize::try_from(now_ms / SEARCH_EVERY_MS).unwrap_or(0);
        let unknown: Vec<&PeerId> = missing.iter().filter(|peer| !self.book.knows(peer)).collect();
        let pick = |of: usize| turn.checked_rem(of);
        let wanted = pick(unknown.len())
            .and_then(|at| unknown.get(at).copied())
            .or_else(|| pick(missing.len()).and_then(|at| missing.get(at)));
        if let Some(peer) = wanted {
            self.swarm.behaviour_mut().members.kad.get_closest_peers(*peer);
        }
    }

    fn say_presence(&mut self, now_ms: u64) {
        if now_ms < self.chores.beat_due_ms {
            return;
        }
        let Some((role, term, applied)) = self.chores.standing else { return };
        self.chores.beat_due_ms = now_ms.saturating_add(BEAT_EVERY_MS);
        self.chores.beats = self.chores.beats.saturating_add(1);
        let beat = Beat {
            node: self.node,
            boot: self.boot,
            sequence: self.chores.beats,
            role,
            term,
            applied,
            on_nats: *self.on_nats.borrow(),
            mesh_nodes: u32::try_from(self.lanes.borrow().len()).unwrap_or(u32::MAX),
            load_permille: load_permille(),
        };
        self.chores.load_permille = beat.load_permille;
        let topic = self.names.presence.clone();
        // Nobody to tell is no error: the next one will be heard.
        if let Err(error) = self.swarm.behaviour_mut().members.gossip.publish(topic, beat.encode())
        {
            tracing::trace!(%error, "presence was not told");
        }
    }

    /// Writes down where the others are, if that has changed.
    pub(super) fn keep(&mut self, now_ms: u64) {
        if now_ms < self.chores.keep_due_ms {
            return;
        }
        let file = PeersFile::of(&self.book, &self.chores.listening);
        if file == self.chores.kept {
            return;
        }
        self.chores.keep_due_ms = now_ms.saturating_add(KEEP_EVERY_MS);
        self.chores.kept = file.clone();
        let dir = self.data_dir.clone();
        tokio::task::spawn_blocking(move || {
            if let Err(error) = file.store(&dir) {
                tracing::warn!(%error, "what is known of other gateways could not be written down");
            }
        });
    }

    /// Where the other members may be found.
    fn found_at(&self) -> BTreeMap<NodeId, Vec<String>> {
        let members = self.book.iter().filter_map(|(peer, addresses)| {
            let node = self.roster.node_of(peer)?;
            Some((node, addresses.map(|at| format!("{at}/p2p/{peer}")).collect()))
        });
        members.collect()
    }

    fn publish_status(&mut self, now_ms: u64) {
        if now_ms < self.chores.status_due_ms {
            return;
        }
        self.chores.status_due_ms = now_ms.saturating_add(STATUS_EVERY_MS);
        let me = self.swarm.local_peer_id();
        let listening = self.chores.listening.iter().map(|at| format!("{at}/p2p/{me}")).collect();
        let status = MeshStatus {
            listening,
            peer: me.to_string(),
            load_permille: self.chores.load_permille,
            nodes: self.presence.snapshot(),
            addresses: self.found_at(),
            peers: self.roster.peers().map(|(peer, node)| (node, *peer)).collect(),
        };
        self.status.send_if_modified(|known| {
            let news = **known != status;
            if news {
                *known = Arc::new(status);
            }
            news
        });
    }
}
