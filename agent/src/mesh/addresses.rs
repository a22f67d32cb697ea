//! Which addresses are dialled: `/ip4|ip6/…/tcp/…`, and only into ranges where gateways live.
//!
//! What another node says of addresses is a claim. A claim must not make this node knock at
//! its own loopback services, at a cloud's metadata service, or at a multicast group. The same
//! rules stand in the transport (nothing can dial around them) and before the address book
//! (nothing useless is kept). Loopback is admitted only where the operator uses it himself: a
//! site on one machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, PeerId};

/// Addresses that are taken from one peer at a time, and kept of one peer.
pub(super) const ADDRESSES_PER_PEER_MAX: usize = 8;

/// Metadata services of clouds that lie in ranges which are otherwise fine.
const METADATA_V4: Ipv4Addr = Ipv4Addr::new(100, 100, 100, 200);
const METADATA_V6: Ipv6Addr = Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254);

/// Why a text is no address of the mesh.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum AddressError {
    /// Not a multiaddress.
    #[error("it is not a multiaddress")]
    Syntax,
    /// Not IP and TCP.
    #[error("only /ip4/…/tcp/… and /ip6/…/tcp/…, with /p2p/… behind where it is known, are used")]
    Shape,
}

/// An address from the configuration, and whose it is if that stands behind it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Address {
    /// Without the peer.
    pub(super) address: Multiaddr,
    pub(super) peer: Option<PeerId>,
}

/// Checks the form of an address in the configuration.
///
/// # Errors
/// Why it can't be used.
pub fn check_address(text: &str) -> Result<(), AddressError> {
    parse(text).map(|_| ())
}

pub(super) fn parse(text: &str) -> Result<Address, AddressError> {
    let address: Multiaddr = text.parse().map_err(|_| AddressError::Syntax)?;
    split(&address).ok_or(AddressError::Shape)
}

/// The address without its peer, and the peer; `None` when it isn't IP and TCP.
pub(super) fn split(address: &Multiaddr) -> Option<Address> {
    let mut parts = address.iter();
    let (ip, tcp) = (parts.next()?, parts.next()?);
    if !matches!(ip, Protocol::Ip4(_) | Protocol::Ip6(_)) || !matches!(tcp, Protocol::Tcp(_)) {
        return None;
    }
    let peer = match parts.next() {
        None => None,
        Some(Protocol::P2p(peer)) => Some(peer),
        Some(_) => return None,
    };
    if parts.next().is_some() {
        return None;
    }
    Some(Address { address: Multiaddr::empty().with(ip).with(tcp), peer })
}

fn ip_and_port(address: &Multiaddr) -> Option<(IpAddr, u16)> {
    let port = address.iter().nth(1).and_then(port_in)?;
    let ip = match address.ip_addr()? {
        IpAddr::V6(ip) => ip.to_ipv4_mapped().map_or(IpAddr::V6(ip), IpAddr::V4),
        ip @ IpAddr::V4(_) => ip,
    };
    Some((ip, port))
}

/// The port of a TCP part.
pub(super) fn port_in(part: Protocol<'_>) -> Option<u16> {
    if let Protocol::Tcp(port) = part { Some(port) } else { None }
}

/// Whether an address is one of this machine's loopback.
pub(super) fn is_loopback(address: &Multiaddr) -> bool {
    ip_and_port(address).is_some_and(|(ip, _)| ip.is_loopback())
}

/// Which addresses may be dialled.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct AddressRules {
    /// Whether the loopback may.
    pub(super) loopback: bool,
}

impl AddressRules {
    /// The rules of a node with these addresses in its configuration.
    pub(super) fn new(listen: &[Address], bootstrap: &[Address]) -> Self {
        let all_here = !listen.is_empty() && listen.iter().all(|at| is_loopback(&at.address));
        let loopback = all_here || bootstrap.iter().any(|at| is_loopback(&at.address));
        Self { loopback }
    }

    /// Whether this address may be dialled.
    pub(super) fn admit(self, address: &Multiaddr) -> bool {
        let Some(split) = split(address) else {
            return false;
        };
        match ip_and_port(&split.address) {
            None | Some((_, 0)) => false,
            Some((ip, _)) if ip.is_loopback() => self.loopback,
            Some((IpAddr::V4(ip), _)) => is_usable_v4(ip),
            Some((IpAddr::V6(ip), _)) => is_usable_v6(ip),
        }
    }

    /// What is kept of addresses that somebody says are those of `peer`.
    pub(super) fn filter(
        self,
        peer: PeerId,
        claimed: impl IntoIterator<Item = Multiaddr>,
    ) -> Vec<Multiaddr> {
        let mut kept = Vec::new();
        // Bounded before it is looked at: a thousand useless ones cost no more than a few.
        for address in claimed.into_iter().take(4 * ADDRESSES_PER_PEER_MAX) {
            let Some(split) = split(&address) else { continue };
            let ours = split.peer.is_none_or(|named| named == peer);
            if ours && self.admit(&split.address) && !kept.contains(&split.address) {
                kept.push(split.address);
            }
            if kept.len() == ADDRESSES_PER_PEER_MAX {
                break;
            }
        }
        kept
    }
}

fn is_usable_v4(ip: Ipv4Addr) -> bool {
    let first = ip.octets()[0];
    !(first == 0
        || first >= 240
        || ip.is_multicast()
        || ip.is_link_local()
        || ip.is_documentation()
        || ip == METADATA_V4)
}

fn is_usable_v6(ip: Ipv6Addr) -> bool {
    !(ip.is_unspecified() || ip.is_multicast() || ip.is_unicast_link_local() || ip == METADATA_V6)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> Multiaddr {
        text.parse().unwrap()
    }

    const GOOD: &[&str] = &[
        "/ip4/192.168.1.7/tcp/4244",
        "/ip4/10.0.0.1/tcp/1",
        "/ip4/172.16.0.9/tcp/65535",
        "/ip4/8.8.8.8/tcp/4244",
        "/ip6/fd12::1/tcp/4244",
        "/ip6/2001:470::1/tcp/4244",
    ];
    const BAD: &[&str] = &[
        "/ip4/0.0.0.0/tcp/4244",
        "/ip4/0.1.2.3/tcp/4244",
        "/ip4/169.254.169.254/tcp/80",
        "/ip4/169.254.1.1/tcp/4244",
        "/ip4/100.100.100.200/tcp/80",
        "/ip4/224.0.0.251/tcp/4244",
        "/ip4/255.255.255.255/tcp/4244",
        "/ip4/240.0.0.1/tcp/4244",
        "/ip4/192.168.1.7/tcp/0",
        "/ip6/::/tcp/4244",
        "/ip6/fe80::1/tcp/4244",
        "/ip6/ff02::fb/tcp/4244",
        "/ip6/fd00:ec2::254/tcp/80",
        "/ip6/::ffff:169.254.169.254/tcp/80",
        "/ip4/192.168.1.7/udp/4244",
        "/ip4/192.168.1.7/tcp/4244/ws",
        "/dns4/example.org/tcp/4244",
        "/ip4/192.168.1.7",
        "/tcp/4244",
    ];

    #[test]
    fn ranges_are_kept_to() {
        for loopback in [false, true] {
            let rules = AddressRules { loopback };
            for good in GOOD {
                assert!(rules.admit(&at(good)), "{good}");
            }
            for bad in BAD {
                assert!(!rules.admit(&at(bad)), "{bad}");
            }
            for here in ["/ip4/127.0.0.1/tcp/9", "/ip6/::1/tcp/9", "/ip6/::ffff:127.0.0.1/tcp/9"] {
                assert_eq!(rules.admit(&at(here)), loopback, "{here}");
            }
        }
    }

    #[test]
    fn the_loopback_is_for_those_who_use_it() {
        let parse = |texts: &[&str]| -> Vec<Address> {
            texts.iter().map(|text| super::parse(text).unwrap()).collect()
        };
        for (listen, bootstrap, want) in [
            (vec!["/ip4/127.0.0.1/tcp/0"], vec![], true),
            (vec!["/ip4/127.0.0.1/tcp/0", "/ip6/::1/tcp/0"], vec![], true),
            (vec!["/ip4/127.0.0.1/tcp/0", "/ip4/0.0.0.0/tcp/0"], vec![], false),
            (vec!["/ip4/0.0.0.0/tcp/0"], vec!["/ip4/127.0.0.1/tcp/9"], true),
            (vec!["/ip4/0.0.0.0/tcp/0"], vec!["/ip4/10.0.0.1/tcp/9"], false),
            (vec![], vec![], false),
        ] {
            let rules = AddressRules::new(&parse(&listen), &parse(&bootstrap));
            assert_eq!(rules.loopback, want, "{listen:?} {bootstrap:?}");
        }
    }

    #[test]
    fn claims_are_filtered_and_capped() {
        let rules = AddressRules { loopback: false };
        let (peer, other) = (PeerId::random(), PeerId::random());
        let claims = vec![
            at("/ip4/127.0.0.1/tcp/22"),
            at(&format!("/ip4/10.0.0.1/tcp/1/p2p/{peer}")),
            at("/ip4/10.0.0.1/tcp/1"),
            at(&format!("/ip4/10.0.0.2/tcp/1/p2p/{other}")),
        ];
        assert_eq!(rules.filter(peer, claims), [at("/ip4/10.0.0.1/tcp/1")]);
        let many = (0..1_000u16).map(|i| at(&format!("/ip4/10.0.{}.{}/tcp/1", i / 250, i % 250)));
        assert_eq!(rules.filter(peer, many).len(), ADDRESSES_PER_PEER_MAX);
        let late = (0..1_000u16).map(|_| at("/ip4/127.0.0.1/tcp/1")).chain([at(GOOD[0])]);
        assert!(rules.filter(peer, late).is_empty());
    }

    #[test]
    fn configured_addresses_are_checked() {
        for good in GOOD.iter().chain(&["/ip4/0.0.0.0/tcp/0", "/ip6/::/tcp/0"]) {
            assert_eq!(check_address(good), Ok(()), "{good}");
        }
        let peer = PeerId::random();
        let parsed = parse(&format!("/ip4/10.0.0.1/tcp/1/p2p/{peer}")).unwrap();
        assert_eq!(parsed, Address { address: at("/ip4/10.0.0.1/tcp/1"), peer: Some(peer) });
        for (text, want) in [
            ("", AddressError::Shape),
            ("10.0.0.1:4244", AddressError::Syntax),
            ("/ip4/10.0.0/tcp/1", AddressError::Syntax),
            ("/ip4/10.0.0.1/tcp/70000", AddressError::Syntax),
            ("/ip4/10.0.0.1/udp/1/quic-v1", AddressError::Shape),
            ("/dns/host/tcp/1", AddressError::Shape),
        ] {
            assert_eq!(check_address(text), Err(want), "{text}");
        }
    }
}
