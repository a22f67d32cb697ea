//! Where gateways will be found, before any of them runs: what goes into a token at `init`, and
//! what a joiner remembers of the token it joined with.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::path::Path;

use ed25519_dalek::SigningKey;
use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

use super::addresses::{parse, port_in};
use super::book::{Book, Source};
use super::identity::keypair;
use super::peers_file::PeersFile;
use crate::config::MeshConfig;

/// Addresses that nobody has; the system says from which of its own it would speak to them.
const ELSEWHERE_V4: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const ELSEWHERE_V6: Ipv6Addr = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);

/// Where a gateway with these settings and this key will be reached, its PeerId behind. An
/// address whose port is chosen at the start is left out; one that means all of the machine's
/// is told as the one that other machines would see.
#[must_use]
pub fn places(config: &MeshConfig, sign_key: &SigningKey) -> Vec<String> {
    let Some(me) = keypair(sign_key).map(|pair| pair.public().to_peer_id()) else {
        return Vec::new();
    };
    if !config.enabled {
        return Vec::new();
    }
    let listen = config.listen.iter().filter_map(|text| parse(text).ok());
    let reachable = listen.filter_map(|address| as_seen(&address.address));
    reachable.map(|address| format!("{address}/p2p/{me}")).collect()
}

fn as_seen(address: &Multiaddr) -> Option<Multiaddr> {
    let port = address.iter().find_map(port_in).filter(|port| *port != 0)?;
    let ip = match address.ip_addr()? {
        IpAddr::V4(ip) if ip.is_unspecified() => own_address(ELSEWHERE_V4.into())?,
        IpAddr::V6(ip) if ip.is_unspecified() => own_address(ELSEWHERE_V6.into())?,
        ip @ (IpAddr::V4(_) | IpAddr::V6(_)) => ip,
    };
    Some(Multiaddr::from(ip).with(Protocol::Tcp(port)))
}

/// The address from which this machine speaks to another one. Nothing is sent to find it out.
fn own_address(elsewhere: IpAddr) -> Option<IpAddr> {
    let any: SocketAddr = match elsewhere {
        IpAddr::V4(_) => (Ipv4Addr::UNSPECIFIED, 0).into(),
        IpAddr::V6(_) => (Ipv6Addr::UNSPECIFIED, 0).into(),
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect((elsewhere, 9)).ok()?;
    let own = socket.local_addr().ok()?.ip();
    (!own.is_unspecified() && !own.is_loopback()).then_some(own)
}

/// Notes the gateways of a join token for the first start, which may find nobody otherwise.
pub fn remember(dir: &Path, addresses: &[String]) {
    let mut book = Book::new(PeerId::random());
    for address in addresses.iter().filter_map(|text| parse(text).ok()) {
        if let Some(peer) = address.peer {
            book.learn(peer, address.address, Source::Kept, 0);
        }
    }
    if book.iter().next().is_none() {
        return;
    }
    if let Err(error) = PeersFile::of(&book, &[]).store(dir) {
        tracing::warn!(%error, "the gateways of the token could not be written down");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(listen: &[&str]) -> MeshConfig {
        MeshConfig {
            enabled: true,
            listen: listen.iter().map(|&at| at.to_owned()).collect(),
            listen_is_default: false,
            bootstrap: Vec::new(),
            mdns: false,
            bulk_bytes_per_second: 1 << 20,
        }
    }

    #[test]
    fn what_is_known_before_the_start_is_told() {
        let key = SigningKey::from_bytes(&[7; 32]);
        let me = keypair(&key).unwrap().public().to_peer_id();
        let told = places(
            &config(&["/ip4/10.0.0.1/tcp/4244", "/ip4/10.0.0.1/tcp/0", "/ip6/fd::1/tcp/5"]),
            &key,
        );
        assert_eq!(
            told,
            [format!("/ip4/10.0.0.1/tcp/4244/p2p/{me}"), format!("/ip6/fd::1/tcp/5/p2p/{me}")]
        );
        for at in places(&config(&["/ip4/0.0.0.0/tcp/4244"]), &key) {
            assert!(!at.contains("/0.0.0.0/") && !at.contains("/127."), "{at}");
        }
        let off = MeshConfig { enabled: false, ..config(&["/ip4/10.0.0.1/tcp/4244"]) };
        assert!(places(&off, &key).is_empty());
    }

    #[test]
    fn a_token_is_remembered_where_the_first_start_looks() {
        let dir = tempfile::tempdir().unwrap();
        remember(dir.path(), &[]);
        assert_eq!(PeersFile::load(dir.path()).peers().count(), 0);
        let peer = PeerId::random();
        remember(dir.path(), &[format!("/ip4/10.0.0.1/tcp/7/p2p/{peer}"), "odd".to_owned()]);
        let kept: Vec<_> = PeersFile::load(dir.path()).peers().collect();
        assert_eq!(kept, [(peer, vec!["/ip4/10.0.0.1/tcp/7".parse().unwrap()])]);
    }
}
