//! What a member shows to a node that does not know it yet: its record, signed by the site key.

use ed25519_dalek::{Signature, VerifyingKey};
use fleet_state::{NodeId, NodeKeys, NodeName, SiteUid, credential::credential_message};

/// A member's record and the site's signature over it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Credential {
    /// The member.
    pub node: NodeId,
    /// Its name.
    pub name: NodeName,
    /// Its public keys.
    pub keys: NodeKeys,
    /// Ed25519 signature by the site key over `fleet_state::credential_message`.
    pub signature: [u8; 64],
}

impl Credential {
    /// Whether the site signed it. Weak keys and malleable signatures are refused too.
    #[must_use]
    pub fn is_signed_by(&self, site_key: &VerifyingKey, site: SiteUid) -> bool {
        let message = credential_message(site, self.node, &self.name, &self.keys);
        site_key.verify_strict(&message, &Signature::from_bytes(&self.signature)).is_ok()
    }
}
