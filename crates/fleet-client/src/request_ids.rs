//! Request ids: UUIDs of version 7 (RFC 9562), made once per command and kept through its retries.
//!
//! A UUIDv7 begins with the time, so the site can tell an id that is older than what it remembers
//! from one that it never saw. Ids of one process rise strictly: the 12 bits behind the millisecond
//! are a counter that runs over into the time.

use std::{
    sync::atomic::{AtomicU64, Ordering},
    time::{SystemTime, UNIX_EPOCH},
};

use fleet_state::RequestId;

/// Makes request ids.
#[derive(Debug)]
pub struct RequestIds {
    /// Milliseconds since 1970, shifted by the counter's 12 bits.
    last: AtomicU64,
    /// Random, to keep processes apart.
    seed: u64,
}

impl RequestIds {
    /// A source of ids that no other process makes.
    ///
    /// # Errors
    /// When the system gives no random bytes.
    pub fn new() -> Result<Self, getrandom::Error> {
        Ok(Self { last: AtomicU64::new(0), seed: getrandom::u64()? })
    }

    /// A new id, stamped with the present time.
    #[must_use]
    pub fn next(&self) -> RequestId {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        self.at(u64::try_from(now.as_millis()).unwrap_or(u64::MAX))
    }

    fn at(&self, now_ms: u64) -> RequestId {
        let floor = now_ms << 12;
        let step = |last: u64| Some(floor.max(last.wrapping_add(1)));
        let last = self.last.fetch_update(Ordering::Relaxed, Ordering::Relaxed, step);
        let stamp = floor.max(last.unwrap_or(0).wrapping_add(1));
        let high = (stamp >> 12) << 16 | 0x7000 | (stamp & 0x0fff);
        let low = mix(self.seed ^ stamp) & !(0b11 << 62) | (0b10 << 62);
        RequestId::from_uuid_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }

    /// A random id without a time in it (version 4), for when this machine's clock is not believed.
    #[must_use]
    pub fn timeless(&self) -> RequestId {
        let stamp = self.last.fetch_add(1, Ordering::Relaxed);
        let high = mix(self.seed.rotate_left(32) ^ stamp) & !0xf000 | 0x4000;
        let low = mix(self.seed ^ stamp) & !(0b11 << 62) | (0b10 << 62);
        RequestId::from_uuid_bytes((u128::from(high) << 64 | u128::from(low)).to_be_bytes())
    }
}

/// The finaliser of SplitMix64: a bijection, so different stamps give different words.
fn mix(word: u64) -> u64 {
    let word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let word = (word ^ (word >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let word = (word ^ (word >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ (word >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_rise_even_when_the_clock_does_not() {
        let ids = RequestIds::new().expect("random bytes");
        let mut last = String::new();
        for now in [1_000, 1_000, 1_000, 999, 5, 1_001, 1_001] {
            let id = ids.at(now);
            assert!(id.is_uuid_v7());
            assert!(id.to_string() > last, "{id} after {last}");
            last = id.to_string();
        }
        for _ in 0..10_000 {
            let id = ids.at(1_001);
            assert!(id.to_string() > last);
            last = id.to_string();
        }
    }

    #[test]
    fn the_time_leads() {
        let ids = RequestIds::new().expect("random bytes");
        let text = ids.at(0x0123_4567_89ab).to_string();
        assert!(text.starts_with("01234567-89ab-7"), "{text}");
        assert!(!ids.timeless().is_uuid_v7());
        assert_ne!(ids.timeless(), ids.timeless());
    }
}
