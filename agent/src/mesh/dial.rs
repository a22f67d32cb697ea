//! The transport: TCP that dials only what the rules admit, then noise, then yamux.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use fleet_state::SiteUid;
use libp2p::core::muxing::StreamMuxerBox;
use libp2p::core::transport::timeout::TransportTimeoutError;
use libp2p::core::transport::{
    Boxed, DialOpts, ListenerId, Transport, TransportError, TransportEvent,
};
use libp2p::core::upgrade;
use libp2p::identity::Keypair;
use libp2p::swarm::derive_prelude::Either;
use libp2p::{Multiaddr, PeerId, noise, tcp, yamux};

use super::addresses::AddressRules;
use super::prompt::Prompt;

/// From accepting or dialling to a multiplexed, authenticated connection.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);
/// Connections that the kernel holds until they are accepted.
const BACKLOG: u32 = 64;
/// Streams on one connection: three classes and the protocols beside, both ways, with room.
const STREAMS_PER_CONNECTION_MAX: usize = 64;
/// What both ends must say first, so that two sites never get as far as a connection.
const PROLOGUE: &[u8] = b"flotilla mesh 1 ";

/// TCP under [`AddressRules`].
struct Filtered<T> {
    inner: T,
    rules: AddressRules,
}

impl<T: Transport + Unpin> Transport for Filtered<T> {
    type Output = T::Output;
    type Error = T::Error;
    type ListenerUpgrade = T::ListenerUpgrade;
    type Dial = T::Dial;

    fn listen_on(
        &mut self,
        id: ListenerId,
        address: Multiaddr,
    ) -> Result<(), TransportError<Self::Error>> {
        self.inner.listen_on(id, address)
    }

    fn remove_listener(&mut self, id: ListenerId) -> bool {
        self.inner.remove_listener(id)
    }

    fn dial(
        &mut self,
        address: Multiaddr,
        options: DialOpts,
    ) -> Result<Self::Dial, TransportError<Self::Error>> {
        if !self.rules.admit(&address) {
            return Err(TransportError::MultiaddrNotSupported(address));
        }
        self.inner.dial(address, options)
    }

    fn poll(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<TransportEvent<Self::ListenerUpgrade, Self::Error>> {
        Pin::new(&mut self.inner).poll(context)
    }
}

/// The whole stack.
pub(super) fn transport(
    keypair: &Keypair,
    uid: SiteUid,
    rules: AddressRules,
) -> Result<Boxed<(PeerId, StreamMuxerBox)>, noise::Error> {
    let config = tcp::Config::new().nodelay(true).listen_backlog(BACKLOG);
    let prologue = [PROLOGUE, uid.to_string().as_bytes()].concat();
    let noise = noise::Config::new(keypair)?.with_prologue(prologue);
    let mut yamux = yamux::Config::default();
    yamux.set_max_num_streams(STREAMS_PER_CONNECTION_MAX);
    let transport = Filtered { inner: tcp::tokio::Transport::new(config), rules }
        .upgrade(upgrade::Version::V1Lazy)
        .authenticate(noise)
        .multiplex(yamux)
        .timeout(HANDSHAKE_MAX)
        .map(|(peer, muxer), _| (peer, StreamMuxerBox::new(Prompt::new(muxer))))
        .map_err(|error| match error {
            // What the system said stays as it is: a refused connection says that nobody listens.
            TransportTimeoutError::Other(Either::Left(Either::Left(error))) => error,
            other @ (TransportTimeoutError::Timeout
            | TransportTimeoutError::TimerError(_)
            | TransportTimeoutError::Other(_)) => io::Error::other(other),
        })
        .boxed();
    Ok(transport)
}
