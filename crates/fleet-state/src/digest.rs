//! Digests by which nodes compare their states.
//!
//! A section's digest is the sum of the hashes of its records: four lanes of 64 bits, added with wrap-around. A sum
//! does not depend on order and can be kept up with each change, at the price of two hashes, whatever the size of
//! the state. It finds mistakes, which is what it is for; it is no defence against somebody who may choose records
//! freely, because sums of hashes can be forged.

use std::fmt;

use sha2::{Digest as _, Sha256};

use crate::ids::write_hex;

/// The sections of the state that have a digest of their own.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Links = 1,
    Devices = 2,
    Params = 3,
    Members = 4,
    Tokens = 5,
    Dedup = 6,
    Tombstones = 7,
    Site = 8,
    Watermarks = 9,
    Invocations = 10,
}

/// A sum of hashes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Sum([u64; 4]);

fn lanes(section: Section, record: &[u8]) -> [u64; 4] {
    let hash: [u8; 32] =
        Sha256::new().chain_update([section as u8]).chain_update(record).finalize().into();
    let mut lanes = [0u64; 4];
    for (lane, bytes) in lanes.iter_mut().zip(hash.chunks_exact(8)) {
        *lane = bytes.iter().rev().fold(0, |lane, byte| lane << 8 | u64::from(*byte));
    }
    lanes
}

impl Sum {
    pub(crate) fn add(&mut self, section: Section, record: &[u8]) {
        for (sum, lane) in self.0.iter_mut().zip(lanes(section, record)) {
            *sum = sum.wrapping_add(lane);
        }
    }

    pub(crate) fn subtract(&mut self, section: Section, record: &[u8]) {
        for (sum, lane) in self.0.iter_mut().zip(lanes(section, record)) {
            *sum = sum.wrapping_sub(lane);
        }
    }

    pub(crate) fn digest(self) -> Digest {
        let mut bytes = [0u8; 32];
        for (chunk, lane) in bytes.chunks_exact_mut(8).zip(self.0) {
            chunk.copy_from_slice(&lane.to_le_bytes());
        }
        Digest(bytes)
    }
}

/// 32 bytes that are equal when what they stand for is.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Digest(pub [u8; 32]);

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write_hex(&self.0, f)
    }
}

impl fmt::Debug for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The digests of a state, by section.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Digests {
    /// Links.
    pub links: Digest,
    /// Devices.
    pub devices: Digest,
    /// Parameters.
    pub params: Digest,
    /// Members, removed ones included.
    pub members: Digest,
    /// Join tokens.
    pub tokens: Digest,
    /// How far wishes got.
    pub watermarks: Digest,
    /// Invocations.
    pub invocations: Digest,
    /// Remembered answers.
    pub dedup: Digest,
    /// Remembered deletions.
    pub tombstones: Digest,
    /// Everything else: the site's name and uid, times, counters, levels.
    pub site: Digest,
}

impl Digests {
    /// One digest over all sections.
    #[must_use]
    pub fn combined(&self) -> Digest {
        let mut hasher = Sha256::new();
        for (_, digest) in self.sections() {
            hasher.update(digest.0);
        }
        Digest(hasher.finalize().into())
    }

    /// The sections by name, in a fixed order.
    #[must_use]
    pub fn sections(&self) -> [(&'static str, Digest); 10] {
        [
            ("links", self.links),
            ("devices", self.devices),
            ("params", self.params),
            ("members", self.members),
            ("tokens", self.tokens),
            ("watermarks", self.watermarks),
            ("invocations", self.invocations),
            ("dedup", self.dedup),
            ("tombstones", self.tombstones),
            ("site", self.site),
        ]
    }
}

impl fmt::Display for Digests {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, digest) in self.sections() {
            write!(f, "{name}={digest} ")?;
        }
        write!(f, "combined={}", self.combined())
    }
}
