//! What a site's secrets are in a simulation: all of them follow from the seed.

use ed25519_dalek::{Signer, SigningKey};
use fleet_consensus::frame::Credential;
use fleet_state::command::{JoinRequest, NodeKeys};
use fleet_state::credential::{credential_message, join_message, join_proof, token_key};
use fleet_state::{FoundingMember, FoundingParams, NodeId, NodeName, SiteName, SiteUid, TokenId};

use crate::random::Random;

/// The site's name, uid and key.
#[derive(Clone)]
pub struct Site {
    /// Its name.
    pub name: SiteName,
    /// Its uid.
    pub uid: SiteUid,
    /// The key that signs credentials.
    pub key: SigningKey,
}

/// The secrets of one node.
#[derive(Clone)]
pub struct NodeSecrets {
    /// Its name.
    pub name: NodeName,
    sign: SigningKey,
    /// X25519.
    pub exchange: [u8; 32],
}

/// An invitation, with the secret that only its holder has.
#[derive(Clone, Copy, Debug)]
pub struct Invitation {
    /// Its public id.
    pub id: TokenId,
    /// What proofs are made with.
    pub key: [u8; 32],
}

impl Site {
    /// The site of a seed.
    pub fn new(random: &mut Random) -> Self {
        Self {
            name: "sim".parse().expect("a valid site name"),
            uid: SiteUid::from_bytes(random.bytes()),
            key: SigningKey::from_bytes(&random.bytes()),
        }
    }

    /// What the site begins with on its first node.
    #[must_use]
    pub fn founding(
        &self,
        founder: &NodeSecrets,
        voters: u8,
        feature_level: u16,
        wall_ms: u64,
    ) -> FoundingParams {
        let node = NodeId::FOUNDER;
        let message = credential_message(self.uid, node, &founder.name, &founder.public());
        FoundingParams {
            site: self.name.clone(),
            uid: self.uid,
            site_public_key: self.key.verifying_key().to_bytes(),
            member: FoundingMember {
                name: founder.name.clone(),
                keys: founder.public(),
                credential: self.key.sign(&message).to_bytes(),
            },
            voters,
            feature_level,
            token: None,
            wall_time_ms: wall_ms,
        }
    }
}

impl NodeSecrets {
    /// Fresh secrets under a name.
    pub fn new(name: NodeName, random: &mut Random) -> Self {
        Self { name, sign: SigningKey::from_bytes(&random.bytes()), exchange: random.bytes() }
    }

    /// The public halves.
    #[must_use]
    pub fn public(&self) -> NodeKeys {
        let secret = x25519_dalek::StaticSecret::from(self.exchange);
        NodeKeys {
            sign: self.sign.verifying_key().to_bytes(),
            exchange: x25519_dalek::PublicKey::from(&secret).to_bytes(),
        }
    }

    /// A request to join by an invitation.
    #[must_use]
    pub fn join_request(&self, invitation: &Invitation) -> JoinRequest {
        let keys = self.public();
        let message = join_message(invitation.id, &self.name, &keys);
        JoinRequest {
            token: invitation.id,
            name: self.name.clone(),
            keys,
            proof: join_proof(&invitation.key, &message),
        }
    }

    /// The credential that the site signed for this node.
    #[must_use]
    pub fn credential(&self, node: NodeId, signature: [u8; 64]) -> Credential {
        Credential { node, name: self.name.clone(), keys: self.public(), signature }
    }
}

impl Invitation {
    /// A fresh one.
    pub fn new(random: &mut Random) -> Self {
        Self { id: TokenId::from_bytes(random.bytes()), key: token_key(&random.bytes()) }
    }
}
