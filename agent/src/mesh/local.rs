//! Gateways on the local network, by mDNS.
//!
//! Anybody on the network may answer, with as many names as fit into its packets and for as long
//! as it likes, and the library keeps them all, searches them one by one, and does so for as long
//! as answers come. So it has a thread and a runtime of its own, which hold up nobody else and on
//! which whoever receives and whoever keeps take turns; and it ends when it has found more than
//! any site has, and begins anew after a while. What was found leaves by a bounded channel.
//! Tests: below; real networks in the workspace's `finding`.

use std::future::poll_fn;
use std::io;
use std::task::{Context, Poll};
use std::time::Duration;

use libp2p::core::transport::ListenerId;
use libp2p::swarm::derive_prelude::{ExpiredListenAddr, NewListenAddr};
use libp2p::swarm::{FromSwarm, NetworkBehaviour as _, ToSwarm};
use libp2p::{Multiaddr, PeerId, mdns};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

const TTL: Duration = Duration::from_secs(360);
const QUERY_EVERY: Duration = Duration::from_secs(120);
/// Pairs of a peer and an address of it that may be known at a time.
const PAIRS_MAX: usize = 1_024;
/// How long nobody is looked for after there were more.
const PAUSE: Duration = Duration::from_secs(60);
/// Pairs that may wait to be looked at; the next round of questions brings the others again.
const FOUND_MAX: usize = 256;

/// A gateway, perhaps, and where it says that it is.
pub(super) type Found = (PeerId, Multiaddr);

/// The side that listens. What looks ends with it.
#[derive(Debug)]
pub(super) struct Local {
    found: mpsc::Receiver<Found>,
    listening: watch::Sender<Vec<Multiaddr>>,
}

impl Local {
    /// Begins to look for gateways, if that is wanted.
    pub(super) fn start(me: PeerId, wanted: bool) -> Self {
        let (found_in, found) = mpsc::channel(FOUND_MAX);
        let (listening, listening_seen) = watch::channel(Vec::new());
        let look = Look { found: found_in, listening: listening_seen };
        if wanted {
            let thread = std::thread::Builder::new().name("mdns".to_owned());
            if let Err(error) = thread.spawn(move || look.run(|| Mdns::new(me), PAUSE)) {
                warn_of(&error);
            }
        }
        Self { found, listening }
    }

    /// The next one; never, when nobody is looked for.
    pub(super) async fn next(&mut self) -> Found {
        match self.found.recv().await {
            Some(found) => found,
            None => std::future::pending().await,
        }
    }

    /// What others are told when they look for gateways.
    pub(super) fn listens_on(&self, addresses: &[Multiaddr]) {
        self.listening.send_replace(addresses.to_vec());
    }
}

fn warn_of(error: &io::Error) {
    tracing::warn!(%error, "gateways on the local network are not looked for by mDNS");
}

/// What finds others.
trait Finder {
    fn poll_found(&mut self, context: &mut Context<'_>) -> Poll<Vec<Found>>;
    fn pairs(&self) -> usize;
    fn listens_on(&mut self, addresses: Vec<Multiaddr>);
}

struct Mdns {
    behaviour: mdns::tokio::Behaviour,
    listening: Vec<Multiaddr>,
}

impl Mdns {
    fn new(me: PeerId) -> io::Result<Self> {
        let config = mdns::Config { ttl: TTL, query_interval: QUERY_EVERY, enable_ipv6: false };
        let behaviour = mdns::tokio::Behaviour::new(config, me)?;
        Ok(Self { behaviour, listening: Vec::new() })
    }
}

impl Finder for Mdns {
    #[expect(clippy::wildcard_enum_match_arm, reason = "a swarm has many words, and we want one")]
    fn poll_found(&mut self, context: &mut Context<'_>) -> Poll<Vec<Found>> {
        self.behaviour.poll(context).map(|event| match event {
            ToSwarm::GenerateEvent(mdns::Event::Discovered(found)) => found,
            // Expired ones, and what it would tell other protocols of a swarm.
            _ => Vec::new(),
        })
    }

    fn pairs(&self) -> usize {
        self.behaviour.discovered_nodes().len()
    }

    fn listens_on(&mut self, addresses: Vec<Multiaddr>) {
        let listener_id = ListenerId::next();
        for addr in &self.listening {
            let gone = ExpiredListenAddr { listener_id, addr };
            self.behaviour.on_swarm_event(FromSwarm::ExpiredListenAddr(gone));
        }
        for addr in &addresses {
            let new = NewListenAddr { listener_id, addr };
            self.behaviour.on_swarm_event(FromSwarm::NewListenAddr(new));
        }
        self.listening = addresses;
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// Nobody listens any more.
    Over,
    /// There is more than any site has.
    Flooded,
}

/// The side that looks.
struct Look {
    found: mpsc::Sender<Found>,
    listening: watch::Receiver<Vec<Multiaddr>>,
}

impl Look {
    fn run<F: Finder>(mut self, make: impl Fn() -> io::Result<F>, pause: Duration) {
        let mut warned = false;
        loop {
            let ended = alone().and_then(|runtime| {
                runtime.block_on(async {
                    let finder = make()?;
                    Ok(self.look(finder).await)
                })
                // With the runtime go the tasks of all networks, which the library leaves behind.
            });
            match ended {
                Ok(End::Over) => return,
                Ok(End::Flooded) if warned => tracing::debug!("again too many answers by mDNS"),
                Ok(End::Flooded) => {
                    tracing::warn!(
                        pairs = PAIRS_MAX,
                        "somebody on the local network floods it with answers by mDNS; gateways \
                         are not looked for by it for a while, now and whenever that happens"
                    );
                    warned = true;
                }
                Err(error) => return warn_of(&error),
            }
            let over = alone().map(|runtime| runtime.block_on(self.is_over_within(pause)));
            if over.unwrap_or(true) {
                return;
            }
        }
    }

    async fn look(&mut self, mut finder: impl Finder) -> End {
        self.listening.mark_changed();
        while finder.pairs() <= PAIRS_MAX {
            tokio::select! {
                found = poll_fn(|context| finder.poll_found(context)) => {
                    for pair in found {
                        // What does not fit is asked for again.
                        let _full = self.found.try_send(pair);
                    }
                }
                changed = self.listening.changed() => {
                    if changed.is_err() {
                        return End::Over;
                    }
                    finder.listens_on(self.listening.borrow_and_update().clone());
                }
            }
        }
        End::Flooded
    }

    async fn is_over_within(&mut self, pause: Duration) -> bool {
        let closed = async { while self.listening.changed().await.is_ok() {} };
        timeout(pause, closed).await.is_ok()
    }
}

fn alone() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;

    /// Finds somebody new whenever it is asked, and counts.
    struct Flood {
        pairs: usize,
        most: Arc<AtomicUsize>,
        listening: Arc<AtomicUsize>,
    }

    impl Finder for Flood {
        fn poll_found(&mut self, _context: &mut Context<'_>) -> Poll<Vec<Found>> {
            self.pairs += 10;
            self.most.fetch_max(self.pairs, Ordering::Relaxed);
            Poll::Ready(vec![(PeerId::random(), Multiaddr::empty()); 10])
        }

        fn pairs(&self) -> usize {
            self.pairs
        }

        fn listens_on(&mut self, addresses: Vec<Multiaddr>) {
            self.listening.store(addresses.len(), Ordering::Relaxed);
        }
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn a_flood_is_bounded_and_ends_with_whoever_listens() {
        let (found_in, found) = mpsc::channel(FOUND_MAX);
        let (listening, listening_seen) = watch::channel(Vec::new());
        let (most, told, made) = (Arc::default(), Arc::default(), Arc::new(AtomicUsize::new(0)));
        let look = Look { found: found_in, listening: listening_seen };
        let mut local = Local { found, listening };
        local.listens_on(&[Multiaddr::empty()]);
        let thread = std::thread::spawn({
            let (most, listening) = (Arc::clone(&most), Arc::clone(&told));
            let made = Arc::clone(&made);
            move || {
                let make = || {
                    made.fetch_add(1, Ordering::Relaxed);
                    let (most, listening) = (Arc::clone(&most), Arc::clone(&listening));
                    Ok(Flood { pairs: 0, most, listening })
                };
                look.run(make, Duration::from_millis(20));
            }
        });
        // It begins anew after each pause, and each begins with what is listened on.
        while made.load(Ordering::Relaxed) < 3 {
            local.next().await;
        }
        assert!(most.load(Ordering::Relaxed) <= PAIRS_MAX + 10);
        drop(local);
        thread.join().unwrap();
        assert_eq!(told.load(Ordering::Relaxed), 1);
    }

    #[tokio::test]
    async fn who_is_not_wanted_finds_nobody() {
        let mut local = Local::start(PeerId::random(), false);
        let found = timeout(Duration::from_millis(20), local.next()).await;
        assert!(found.is_err());
    }
}
