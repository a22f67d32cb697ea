//! Join tokens: all that a new gateway needs to find its site and to prove that it was invited.
//!
//! `flt2_` and base64url of: site name, site uid, site public key, token id, secret, the NATS servers
//! and the addresses of gateways on the mesh at which the site is reached, and a checksum. Either list
//! may be empty: a site without NATS is joined over the mesh, one without a mesh over NATS. The secret is made by the client that asks for the token.
//! The site only ever sees a key derived from it, and a joiner sends a proof made with it, so it never
//! crosses NATS. The site's public key lets the joiner know its site's members from impostors.
//!
//! The text is a secret until it is used up or expired: it is shown once, `Debug` hides it, and
//! errors never repeat it.

use std::{fmt, str::FromStr};

use base64::{Engine as _, engine::general_purpose::URL_SAFE_NO_PAD};
use fleet_state::{
    SiteName, SiteUid, TokenId,
    codec::{DecodeError, Reader, Writer},
    limits::TOKEN_CHARS_MAX,
};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::limits::{TOKEN_MESH_MAX, TOKEN_TEXT_BYTES_MAX, TOKEN_URL_BYTES_MAX, TOKEN_URLS_MAX};

/// Every join token begins with this; the digit is the version of its form.
pub const JOIN_TOKEN_PREFIX: &str = "flt2_";
const CHECKSUM_BYTES: usize = 4;

/// Why a text is not a join token.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum JoinTokenError {
    /// Does not begin as one.
    #[error("this is not a join token; one begins with {JOIN_TOKEN_PREFIX}")]
    Prefix,
    /// Another form.
    #[error(
        "this join token was made by another version of flotilla; use the same version on both machines"
    )]
    OtherVersion,
    /// Cut, mistyped or wrapped by something in between.
    #[error("the join token is damaged; copy the whole of it, exactly as it was printed")]
    Damaged,
    /// Too many or too long addresses to put in one.
    #[error(
        "a join token holds at most {TOKEN_URLS_MAX} NATS servers and {TOKEN_MESH_MAX} addresses of the mesh, of at most {TOKEN_URL_BYTES_MAX} bytes each"
    )]
    Addresses,
}

/// A join token.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    /// The site to join.
    pub site: SiteName,
    /// Its uid.
    pub uid: SiteUid,
    /// Its Ed25519 public key.
    pub site_public_key: [u8; 32],
    /// The token's public id.
    pub token: TokenId,
    /// What proves the invitation.
    pub secret: [u8; 16],
    /// Where the site's NATS servers are.
    pub nats_urls: Vec<String>,
    /// Where gateways of the site are on the mesh: multiaddresses with the PeerId behind.
    pub mesh: Vec<String>,
}

impl JoinToken {
    /// The token as text. It is refused when its addresses are beyond the bounds.
    pub fn encode(&self) -> Result<String, JoinTokenError> {
        let fits = self.nats_urls.len() <= TOKEN_URLS_MAX
            && self.mesh.len() <= TOKEN_MESH_MAX
            && self.nats_urls.iter().chain(&self.mesh).all(|at| at.len() <= TOKEN_URL_BYTES_MAX);
        if !fits {
            return Err(JoinTokenError::Addresses);
        }
        let mut writer = Writer::new();
        writer.text(self.site.as_ref());
        writer.fixed(self.uid.as_bytes());
        writer.fixed(&self.site_public_key);
        writer.fixed(self.token.as_bytes());
        writer.fixed(&self.secret);
        for addresses in [&self.nats_urls, &self.mesh] {
            writer.count(addresses.len());
            for address in addresses {
                writer.text(address);
            }
        }
        let checksum = checksum(writer.as_slice());
        writer.fixed(&checksum);
        Ok(format!("{JOIN_TOKEN_PREFIX}{}", URL_SAFE_NO_PAD.encode(writer.as_slice())))
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;

    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let text = text.trim();
        let Some(rest) = text.strip_prefix(JOIN_TOKEN_PREFIX) else {
            let other = text
                .strip_prefix("flt")
                .is_some_and(|rest| rest.starts_with(|c: char| c.is_ascii_digit()));
            return Err(if other { JoinTokenError::OtherVersion } else { JoinTokenError::Prefix });
        };
        if rest.len() > TOKEN_TEXT_BYTES_MAX {
            return Err(JoinTokenError::Damaged);
        }
        let bytes = URL_SAFE_NO_PAD.decode(rest).map_err(|_| JoinTokenError::Damaged)?;
        let (body, sum) =
            bytes.split_last_chunk::<CHECKSUM_BYTES>().ok_or(JoinTokenError::Damaged)?;
        if checksum(body) != *sum {
            return Err(JoinTokenError::Damaged);
        }
        read(body).map_err(|_| JoinTokenError::Damaged)
    }
}

fn read(body: &[u8]) -> Result<JoinToken, DecodeError> {
    let mut reader = Reader::new(body);
    let site = reader
        .text(TOKEN_CHARS_MAX)?
        .parse()
        .map_err(|_| DecodeError::Invalid { what: "the site name" })?;
    let uid = SiteUid::from_bytes(reader.fixed()?);
    let site_public_key = reader.fixed()?;
    let token = TokenId::from_bytes(reader.fixed()?);
    let secret = reader.fixed()?;
    let nats_urls = texts(&mut reader, TOKEN_URLS_MAX)?;
    let mesh = texts(&mut reader, TOKEN_MESH_MAX)?;
    reader.finish()?;
    Ok(JoinToken { site, uid, site_public_key, token, secret, nats_urls, mesh })
}

fn texts(reader: &mut Reader<'_>, max: usize) -> Result<Vec<String>, DecodeError> {
    let count = reader.count(max)?;
    (0..count).map(|_| reader.text(TOKEN_URL_BYTES_MAX).map(str::to_owned)).collect()
}

fn checksum(bytes: &[u8]) -> [u8; CHECKSUM_BYTES] {
    let hash =
        Sha256::new().chain_update(b"flotilla join token text v1").chain_update(bytes).finalize();
    let mut sum = [0; CHECKSUM_BYTES];
    for (to, from) in sum.iter_mut().zip(hash) {
        *to = from;
    }
    sum
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "JoinToken({} of site {}, secret hidden)", self.token, self.site)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> JoinToken {
        JoinToken {
            site: "home".parse().unwrap(),
            uid: SiteUid::from_bytes([7; 16]),
            site_public_key: [9; 32],
            token: TokenId::from_bytes([1; 8]),
            secret: [0xab; 16],
            nats_urls: vec![
                "nats://10.0.0.1:4222".to_owned(),
                "tls://nats.example:4222".to_owned(),
            ],
            mesh: vec!["/ip4/10.0.0.1/tcp/4244/p2p/12D3KooW".to_owned()],
        }
    }

    #[test]
    fn written_and_read_again() {
        let text = sample().encode().unwrap();
        assert!(text.starts_with(JOIN_TOKEN_PREFIX));
        assert_eq!(text.parse(), Ok(sample()));
        assert_eq!(format!("  {text}\n").parse(), Ok(sample()));
    }

    #[test]
    fn every_truncation_and_every_changed_character_is_noticed() {
        let text = sample().encode().unwrap();
        for end in 0..text.len() {
            assert!(text[..end].parse::<JoinToken>().is_err(), "cut at {end}");
        }
        for at in JOIN_TOKEN_PREFIX.len()..text.len() {
            let mut changed = text.clone().into_bytes();
            changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
            let changed = String::from_utf8(changed).unwrap();
            assert_eq!(
                changed.parse::<JoinToken>(),
                Err(JoinTokenError::Damaged),
                "changed at {at}"
            );
        }
    }

    #[test]
    fn other_texts() {
        assert_eq!("".parse::<JoinToken>(), Err(JoinTokenError::Prefix));
        assert_eq!("nats://x".parse::<JoinToken>(), Err(JoinTokenError::Prefix));
        assert_eq!("flt1_abc".parse::<JoinToken>(), Err(JoinTokenError::OtherVersion));
        assert_eq!("flt3_abc".parse::<JoinToken>(), Err(JoinTokenError::OtherVersion));
        assert_eq!(
            format!("flt2_{}", "A".repeat(9_999)).parse::<JoinToken>(),
            Err(JoinTokenError::Damaged)
        );
    }

    #[test]
    fn bounds_on_addresses() {
        let many = JoinToken { nats_urls: vec![String::new(); TOKEN_URLS_MAX + 1], ..sample() };
        assert_eq!(many.encode(), Err(JoinTokenError::Addresses));
        let long = JoinToken { nats_urls: vec!["x".repeat(TOKEN_URL_BYTES_MAX + 1)], ..sample() };
        assert_eq!(long.encode(), Err(JoinTokenError::Addresses));
        let many = JoinToken { mesh: vec![String::new(); TOKEN_MESH_MAX + 1], ..sample() };
        assert_eq!(many.encode(), Err(JoinTokenError::Addresses));
        let none = JoinToken { nats_urls: Vec::new(), mesh: Vec::new(), ..sample() };
        assert_eq!(none.encode().unwrap().parse(), Ok(none));
        let full = "x".repeat(TOKEN_URL_BYTES_MAX);
        let full = JoinToken {
            nats_urls: vec![full.clone(); TOKEN_URLS_MAX],
            mesh: vec![full; TOKEN_MESH_MAX],
            ..sample()
        };
        assert_eq!(full.encode().unwrap().parse(), Ok(full), "the largest fits");
    }

    #[test]
    fn the_secret_is_not_shown() {
        let shown = format!("{:?}", sample());
        assert!(!shown.contains("abab") && !shown.contains("171"), "{shown}");
    }
}
