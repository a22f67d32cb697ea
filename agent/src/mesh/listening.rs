//! Where this node listens.

use libp2p::multiaddr::Protocol;
use libp2p::{Multiaddr, Swarm};

use super::addresses::{Address, port_in, split};
use super::event_loop::MeshError;
use super::gated::Gated;
use super::peers_file::PeersFile;

/// Listens on the configured addresses.
///
/// Where any port will do, the one of the last run is tried first: the others remember it. The
/// built-in port may be taken by another agent on the same machine; then any will do, too. One
/// that the operator wrote is meant.
pub(super) fn listen(
    swarm: &mut Swarm<Gated>,
    wanted: &[Address],
    is_default: bool,
    kept: &PeersFile,
) -> Result<(), MeshError> {
    let last_port = kept.listened.iter().find_map(|text| port_of(&text.parse().ok()?));
    let mut failed = None;
    let mut listening = 0;
    for Address { address, .. } in wanted {
        let mut attempts = vec![address.clone()];
        if port_of(address) == Some(0) {
            attempts.splice(0..0, last_port.and_then(|port| with_port(address, port)));
        } else if is_default {
            attempts.extend(last_port.and_then(|port| with_port(address, port)));
            attempts.extend(with_port(address, 0));
        }
        match first_that_works(swarm, attempts) {
            Ok(()) => listening += 1,
            Err(reason) => {
                failed = Some(MeshError::Listen { address: address.to_string(), reason });
            }
        }
    }
    match failed {
        // Without IPv6 the other half of the default is enough.
        Some(error) if !(is_default && listening > 0) => Err(error),
        Some(_) | None => Ok(()),
    }
}

fn first_that_works(swarm: &mut Swarm<Gated>, attempts: Vec<Multiaddr>) -> Result<(), String> {
    let mut reason = String::new();
    for address in attempts {
        match swarm.listen_on(address) {
            Ok(_) => return Ok(()),
            Err(error) => reason = error.to_string(),
        }
    }
    Err(reason)
}

fn port_of(address: &Multiaddr) -> Option<u16> {
    split(address)?.address.iter().find_map(port_in)
}

fn with_port(address: &Multiaddr, port: u16) -> Option<Multiaddr> {
    address.replace(1, |_| Some(Protocol::Tcp(port)))
}
