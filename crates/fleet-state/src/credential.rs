//! The bytes that nodes sign and prove.
//!
//! Two secrets stand behind membership. The **token secret** shows that somebody was invited: a join request
//! carries a proof made with a key derived from it, so neither the secret nor the key crosses the network, and the
//! replicated state holds the key only. The **site key** shows who is a member: its signature over a member's id,
//! name and keys is the credential that a node presents to peers which have not heard of it yet.
//!
//! Every message starts with a label of its own, so that no signature or proof can be used for another purpose, and
//! is written with the bounded codec, so that two different contents never give the same bytes.

use hmac::{Hmac, Mac};
use sha2::{Digest, Sha256};

use crate::codec::Writer;
use crate::command::{NodeKeys, encode_keys};
use crate::ids::{NodeId, NodeName, SiteUid, TokenId};

const CREDENTIAL_LABEL: &[u8] = b"flotilla member credential v1";
const JOIN_LABEL: &[u8] = b"flotilla join v1";
const TOKEN_LABEL: &[u8] = b"flotilla token v1";

/// What the site key signs for a member.
#[must_use]
pub fn credential_message(uid: SiteUid, node: NodeId, name: &NodeName, keys: &NodeKeys) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.bytes(CREDENTIAL_LABEL);
    writer.fixed(uid.as_bytes());
    writer.u64(node.get());
    writer.text(name.as_str());
    encode_keys(keys, &mut writer);
    writer.into_vec()
}

/// What a join request is proven over.
#[must_use]
pub fn join_message(token: TokenId, name: &NodeName, keys: &NodeKeys) -> Vec<u8> {
    let mut writer = Writer::new();
    writer.bytes(JOIN_LABEL);
    writer.fixed(token.as_bytes());
    writer.text(name.as_str());
    encode_keys(keys, &mut writer);
    writer.into_vec()
}

/// The key that the site keeps for a token, from the token's secret.
#[must_use]
pub fn token_key(secret: &[u8; 16]) -> [u8; 32] {
    Sha256::new().chain_update(TOKEN_LABEL).chain_update(secret).finalize().into()
}

/// The proof that a join request was made with a token's secret: HMAC-SHA-256.
#[must_use]
pub fn join_proof(token_key: &[u8; 32], message: &[u8]) -> [u8; 32] {
    keyed(token_key, message).finalize().into_bytes().into()
}

/// Whether a proof is right, in constant time.
#[must_use]
pub fn verify_join_proof(token_key: &[u8; 32], message: &[u8], proof: &[u8; 32]) -> bool {
    keyed(token_key, message).verify_slice(proof).is_ok()
}

fn keyed(token_key: &[u8; 32], message: &[u8]) -> Hmac<Sha256> {
    let mut mac =
        <Hmac<Sha256> as Mac>::new_from_slice(token_key).expect("HMAC takes keys of any length");
    mac.update(message);
    mac
}
