//! Who this node is: one secret of 32 bytes, from which its two key pairs are derived.
//!
//! The signing key (Ed25519) proves what the node says at joining and on the mesh; the exchange
//! key (X25519) seals its frames. Both come from the secret by HKDF-SHA-256 under labels of their
//! own, so neither tells anything about the other. The secret is made once, before the node joins
//! or founds a site, and is never replaced: a node without it is another node.

use std::fmt;
use std::path::Path;

use ed25519_dalek::SigningKey;
use fleet_state::NodeKeys;
use hkdf::Hkdf;
use sha2::Sha256;
use x25519_dalek::{PublicKey, StaticSecret};

use super::secret_file::{SecretError, load, store};

const IDENTITY_FILE: &str = "identity.key";
const IDENTITY_LABEL: &str = "flotilla-identity-1";
const SIGN_INFO: &[u8] = b"flotilla node signing key v1";
const EXCHANGE_INFO: &[u8] = b"flotilla node exchange key v1";

/// The secret keys of this node.
pub struct Identity {
    sign: SigningKey,
    exchange: StaticSecret,
}

impl Identity {
    /// The identity with this secret.
    #[must_use]
    pub fn from_secret(secret: &[u8; 32]) -> Self {
        Self {
            sign: SigningKey::from_bytes(&derive(secret, SIGN_INFO)),
            exchange: StaticSecret::from(derive(secret, EXCHANGE_INFO)),
        }
    }

    /// Reads the identity of a data directory.
    ///
    /// # Errors
    /// When there is none, or it is damaged or readable by others.
    pub fn load(data_dir: &Path) -> Result<Self, SecretError> {
        load(data_dir, IDENTITY_FILE, IDENTITY_LABEL).map(|secret| Self::from_secret(&secret))
    }

    /// Reads the identity of a data directory; without one, makes it from `fresh_secret`, durably.
    ///
    /// # Errors
    /// When one is there that can't be read, or none can be written.
    pub fn load_or_create(data_dir: &Path, fresh_secret: &[u8; 32]) -> Result<Self, SecretError> {
        match Self::load(data_dir) {
            Err(SecretError::Missing { .. }) => {
                store(data_dir, IDENTITY_FILE, IDENTITY_LABEL, fresh_secret)?;
                Ok(Self::from_secret(fresh_secret))
            }
            other => other,
        }
    }

    /// The key that signs for this node.
    #[must_use]
    pub fn sign_key(&self) -> &SigningKey {
        &self.sign
    }

    /// The secret half of the key that seals this node's frames.
    #[must_use]
    pub fn exchange_secret(&self) -> [u8; 32] {
        self.exchange.to_bytes()
    }

    /// The public halves, as they stand in the member record.
    #[must_use]
    pub fn keys(&self) -> NodeKeys {
        NodeKeys {
            sign: self.sign.verifying_key().to_bytes(),
            exchange: PublicKey::from(&self.exchange).to_bytes(),
        }
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("keys", &self.keys()).finish_non_exhaustive()
    }
}

fn derive(secret: &[u8; 32], info: &[u8]) -> [u8; 32] {
    let mut key = [0; 32];
    Hkdf::<Sha256>::new(None, secret)
        .expand(info, &mut key)
        .expect("HKDF-SHA-256 gives up to 8160 bytes, and 32 are asked for");
    key
}

#[cfg(test)]
mod tests {
    use super::super::secret_file::hex;
    use super::*;

    #[test]
    fn an_identity_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(Identity::load(dir.path()), Err(SecretError::Missing { .. })));
        let made = Identity::load_or_create(dir.path(), &[1; 32]).unwrap();
        let again = Identity::load_or_create(dir.path(), &[2; 32]).unwrap();
        assert_eq!(made.keys(), again.keys());
        assert_eq!(made.exchange_secret(), Identity::load(dir.path()).unwrap().exchange_secret());
        let other = Identity::from_secret(&[2; 32]);
        assert_ne!(made.keys(), other.keys());
    }

    #[test]
    fn the_derivation_stays_as_it_is() {
        let keys = Identity::from_secret(&[1; 32]).keys();
        assert_eq!(
            hex(&keys.sign),
            "dddf674112a58d1c70b1cfac58ae6e02f0580429bb0e9b4982bef1ffd7735ba2"
        );
        assert_eq!(
            hex(&keys.exchange),
            "8faa3116c98b297c4b69feb7927ee6d6951d6bab6ce105ca868a868e2321ae4f"
        );
    }

    #[test]
    fn secrets_are_not_printed() {
        let identity = Identity::from_secret(&[1; 32]);
        let text = format!("{identity:?}");
        assert!(!text.contains(&hex(&identity.exchange_secret())));
        assert!(!text.contains(&format!("{:?}", identity.sign_key().to_bytes())));
    }
}
