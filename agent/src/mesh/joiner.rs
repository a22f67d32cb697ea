//! The mesh of a gateway that is no member yet: as much of it as joining needs.
//!
//! A swarm with one protocol, for asking. It dials the gateways that the join token names, and
//! those that answer on the local network; each end proves in the handshake that it knows the
//! site's uid, and a gateway named with its PeerId proves its key as well. There it is a guest:
//! it asks to join, reads its own record, and is gone.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use ed25519_dalek::SigningKey;
use fleet_state::{SiteName, SiteUid};
use libp2p::futures::StreamExt as _;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::{DialOpts, PeerCondition};
use libp2p::{PeerId, Swarm};
use tokio::sync::watch;
use tokio::task::AbortHandle;
use tokio::time::{MissedTickBehavior, timeout};

use super::addresses::AddressRules;
use super::behaviour::Names;
use super::book::{Book, Source};
use super::dial::transport;
use super::event_loop::{MeshError, swarm_config};
use super::identity::keypair;
use super::joins::{Asker, JoinQuestion, ask};
use super::local::{Found, Local};
use super::seeds::Seeds;
use crate::consensus::MonotonicClock;

/// What is due is looked at so often.
const TICK: Duration = Duration::from_millis(100);
/// How long a first connection is waited for by one question.
const CONNECT_MAX: Duration = Duration::from_secs(3);

/// What joining over the mesh needs.
#[derive(Debug)]
pub struct JoinerParts {
    /// The key of the gateway that joins.
    pub sign_key: SigningKey,
    /// The site's name.
    pub site: SiteName,
    /// The site's uid.
    pub uid: SiteUid,
    /// Where gateways of the site are.
    pub addresses: Vec<String>,
    /// Whether they are looked for on the local network as well.
    pub mdns: bool,
}

/// Why there is no answer.
#[derive(Debug, thiserror::Error)]
pub enum JoinerError {
    /// There is nobody to ask.
    #[error("no gateway of the site could be reached over the mesh")]
    NotConnected,
    /// The other end closed the stream, or was too slow.
    #[error("no answer came over the mesh: {0}")]
    NoAnswer(std::io::Error),
}

/// Asks gateways of the site. The swarm ends with it.
#[derive(Debug)]
pub struct Joiner {
    asker: Asker,
    connected: watch::Receiver<Arc<BTreeSet<PeerId>>>,
    task: AbortHandle,
}

impl Drop for Joiner {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Joiner {
    /// Begins to look for gateways.
    ///
    /// # Errors
    /// When an address can't be used, or the system refuses.
    pub fn start(parts: &JoinerParts) -> Result<Self, MeshError> {
        let setup = |error: &dyn std::fmt::Display| MeshError::Setup(error.to_string());
        let keypair =
            keypair(&parts.sign_key).ok_or_else(|| setup(&"the node's key is not valid"))?;
        let me = keypair.public().to_peer_id();
        let addresses = super::event_loop::addresses("the join token", &parts.addresses)?;
        let rules = AddressRules::new(&[], &addresses);
        let names = Names::new(&parts.site).map_err(|error| setup(&error))?;
        let transport = transport(&keypair, parts.uid, rules).map_err(|error| setup(&error))?;
        let streams = libp2p_stream::Behaviour::new();
        let asker = Asker { control: streams.new_control(), protocol: names.join };
        let swarm = Swarm::new(transport, streams, me, swarm_config());
        let local = Local::start(me, parts.mdns);
        let clock = MonotonicClock::start();
        let mut book = Book::new(me);
        for seed in &addresses {
            if let Some(peer) = seed.peer {
                book.learn(peer, seed.address.clone(), Source::Configured, clock.now_ms());
            }
        }
        let (connected, connected_seen) = watch::channel(Arc::default());
        let looking =
            Looking { swarm, book, seeds: Seeds::new(addresses), local, rules, connected, clock };
        let task = tokio::spawn(looking.run()).abort_handle();
        Ok(Self { asker, connected: connected_seen, task })
    }

    /// Asks the gateways that are connected, one after the other, until one answers.
    ///
    /// # Errors
    /// When none does.
    pub async fn ask(&mut self, question: &JoinQuestion) -> Result<Vec<u8>, JoinerError> {
        let someone = self.connected.wait_for(|connected| !connected.is_empty());
        let peers = match timeout(CONNECT_MAX, someone).await {
            Ok(Ok(peers)) => Arc::clone(&peers),
            Ok(Err(_)) | Err(_) => return Err(JoinerError::NotConnected),
        };
        let mut failed = JoinerError::NotConnected;
        for peer in peers.iter() {
            match ask(&self.asker, *peer, question).await {
                Ok(answer) => return Ok(answer),
                Err(error) => failed = JoinerError::NoAnswer(error),
            }
        }
        Err(failed)
    }
}

/// The task that keeps connections.
struct Looking {
    swarm: Swarm<libp2p_stream::Behaviour>,
    book: Book,
    seeds: Seeds,
    local: Local,
    rules: AddressRules,
    connected: watch::Sender<Arc<BTreeSet<PeerId>>>,
    clock: MonotonicClock,
}

impl Looking {
    async fn run(mut self) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                event = self.swarm.select_next_some() => self.on_event(event),
                found = self.local.next() => self.on_found(found),
                _ = tick.tick() => self.dial(),
            }
        }
    }

    #[expect(clippy::wildcard_enum_match_arm, reason = "the library adds events at will")]
    fn on_event(&mut self, event: SwarmEvent<()>) {
        let now_ms = self.clock.now_ms();
        match event {
            SwarmEvent::ConnectionEstablished { peer_id, connection_id, .. } => {
                self.book.connected(peer_id, connection_id, None, now_ms);
                self.note(peer_id, true);
            }
            SwarmEvent::ConnectionClosed { peer_id, num_established: 0, connection_id, .. } => {
                self.book.disconnected(peer_id, now_ms);
                // It sends guests away that have stayed for long: not to be dialled at once.
                self.book.begun(peer_id, connection_id);
                self.book.failed(peer_id, connection_id, now_ms);
                self.note(peer_id, false);
            }
            SwarmEvent::OutgoingConnectionError { peer_id, error, connection_id } => {
                tracing::debug!(peer = ?peer_id, %error, "a gateway could not be reached");
                if let Some(peer) = peer_id {
                    self.book.failed(peer, connection_id, now_ms);
                }
            }
            other => tracing::trace!(?other, "swarm of a joiner"),
        }
    }

    fn on_found(&mut self, (peer, address): Found) {
        for address in self.rules.filter(peer, [address]) {
            self.book.learn(peer, address, Source::Local, self.clock.now_ms());
        }
    }

    fn note(&self, peer: PeerId, connected: bool) {
        self.connected.send_modify(|known| {
            let known = Arc::make_mut(known);
            if connected {
                known.insert(peer)
            } else {
                known.remove(&peer)
            };
        });
    }

    fn dial(&mut self) {
        let now_ms = self.clock.now_ms();
        let known: Vec<PeerId> = self.book.iter().map(|(peer, _)| *peer).collect();
        for peer in &known {
            if self.swarm.is_connected(peer) {
                continue;
            }
            let Some(addresses) = self.book.take_due(peer, now_ms) else { continue };
            let options = DialOpts::peer_id(*peer)
                .addresses(addresses)
                .condition(PeerCondition::DisconnectedAndNotDialing)
                .build();
            let id = options.connection_id();
            self.book.begun(*peer, id);
            if self.swarm.dial(options).is_err() {
                self.book.failed(*peer, id, now_ms);
            }
        }
        if !self.connected.borrow().is_empty() {
            return;
        }
        for address in self.seeds.take_due(now_ms) {
            let _refused = self.swarm.dial(DialOpts::unknown_peer_id().address(address).build());
        }
    }
}
