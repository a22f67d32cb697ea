//! Ids for requests that came without one.

use std::sync::atomic::{AtomicU64, Ordering};

use fleet_state::RequestId;

/// Makes ids that no other agent and no other start of this one makes.
///
/// They are random UUIDs without a time in them: the site judges the age of a time-stamped id, and
/// the clock of a gateway may be years off. Who sends no id can't retry, so none is needed later.
#[derive(Debug)]
pub(super) struct RequestIds {
    seed: [u64; 2],
    made: AtomicU64,
}

impl RequestIds {
    pub(super) fn new() -> Self {
        let mut seed = [0u8; 16];
        if getrandom::fill(&mut seed).is_err() {
            // Without a random source (no such system is known) the process id and an address
            // still keep agents on one machine apart.
            let place = std::ptr::from_ref(&seed) as usize as u64;
            seed = ((u128::from(std::process::id()) << 64) | u128::from(place)).to_le_bytes();
        }
        let whole = u128::from_le_bytes(seed);
        #[allow(clippy::cast_possible_truncation, reason = "the two halves of the seed")]
        let seed = [whole as u64, (whole >> 64) as u64];
        Self { seed, made: AtomicU64::new(0) }
    }

    /// A new id: two mixed 64-bit words of seed and counter. One atomic addition, no system call.
    pub(super) fn next(&self) -> RequestId {
        let number = self.made.fetch_add(1, Ordering::Relaxed);
        let [low, high] = self.seed;
        let high = mix(high.wrapping_add(number));
        let low = mix(low ^ number.rotate_left(32));
        let mut bytes = ((u128::from(high) << 64) | u128::from(low)).to_be_bytes();
        // Version 4 (random) and the variant of RFC 9562.
        let [_, _, _, _, _, _, version, _, variant, ..] = &mut bytes;
        *version = (*version & 0x0f) | 0x40;
        *variant = (*variant & 0x3f) | 0x80;
        RequestId::from_uuid_bytes(bytes)
    }
}

/// The finaliser of SplitMix64: a bijection that spreads each bit over the whole word.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn ids_differ_and_carry_no_time() {
        let (one, other) = (RequestIds::new(), RequestIds::new());
        let made: BTreeSet<String> =
            (0..1000).flat_map(|_| [one.next(), other.next()]).map(|id| id.to_string()).collect();
        assert_eq!(made.len(), 2000);
        assert!(!one.next().is_uuid_v7());
        assert!(made.iter().all(|id| id.len() == 36 && id.as_bytes()[14] == b'4'));
    }
}
