//! A node's identity on the mesh: its signing key, and nothing else.
//!
//! The key stands in the member record, so every member knows every other member's PeerId; a
//! PeerId proves a key, and whether the key may take part is for the record to say.

use ed25519_dalek::SigningKey;
use libp2p::identity::{Keypair, PublicKey, ed25519};

/// The key pair of this node. `None` never happens for a key that was made by us.
pub(super) fn keypair(sign: &SigningKey) -> Option<Keypair> {
    Keypair::ed25519_from_bytes(sign.to_bytes()).ok()
}

/// A member's public signing key as the mesh knows it; `None` when it is no valid key.
pub(super) fn public_key(sign_key: &[u8; 32]) -> Option<PublicKey> {
    ed25519::PublicKey::try_from_bytes(sign_key).ok().map(PublicKey::from)
}

/// The PeerId of the member with this public signing key.
#[cfg(test)]
pub(super) fn peer_of(sign_key: &[u8; 32]) -> Option<libp2p::PeerId> {
    public_key(sign_key).map(|key| key.to_peer_id())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_record_and_the_key_give_the_same_peer() {
        let sign = SigningKey::from_bytes(&[7; 32]);
        let pair = keypair(&sign).unwrap();
        let peer = peer_of(&sign.verifying_key().to_bytes()).unwrap();
        assert_eq!(pair.public().to_peer_id(), peer);
        assert_ne!(
            peer,
            peer_of(&SigningKey::from_bytes(&[8; 32]).verifying_key().to_bytes()).unwrap()
        );
    }
}
