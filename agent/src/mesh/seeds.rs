//! The configured addresses of which it is not known who is there.

use libp2p::Multiaddr;

use super::addresses::Address;

/// Wait between two attempts at the same address; it doubles up to the longest.
const RETRY_MS_MIN: u64 = 500;
const RETRY_MS_MAX: u64 = 10_000;

#[derive(Debug)]
struct Seed {
    address: Multiaddr,
    due_ms: u64,
    attempts: u32,
}

/// Addresses to begin with.
#[derive(Debug)]
pub(super) struct Seeds(Vec<Seed>);

impl Seeds {
    /// Those of the configuration that name no peer; the others stand in the book.
    pub(super) fn new(configured: Vec<Address>) -> Self {
        let nameless = configured.into_iter().filter(|seed| seed.peer.is_none());
        Self(nameless.map(|seed| Seed { address: seed.address, due_ms: 0, attempts: 0 }).collect())
    }

    /// The addresses to dial now.
    pub(super) fn take_due(&mut self, now_ms: u64) -> Vec<Multiaddr> {
        let due = self.0.iter_mut().filter(|seed| now_ms >= seed.due_ms);
        due.map(|seed| {
            let wait_ms = RETRY_MS_MIN.checked_shl(seed.attempts.min(16)).unwrap_or(RETRY_MS_MAX);
            seed.attempts = seed.attempts.saturating_add(1);
            seed.due_ms = now_ms.saturating_add(wait_ms.min(RETRY_MS_MAX));
            seed.address.clone()
        })
        .collect()
    }

    /// Somebody is lost: begin anew.
    pub(super) fn hurry(&mut self, now_ms: u64) {
        for seed in &mut self.0 {
            seed.attempts = 0;
            seed.due_ms = seed.due_ms.min(now_ms.saturating_add(RETRY_MS_MIN));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::addresses::parse;
    use super::*;

    #[test]
    fn attempts_back_off() {
        let peer = libp2p::PeerId::random();
        let seeds = ["/ip4/10.0.0.1/tcp/1".to_owned(), format!("/ip4/10.0.0.2/tcp/1/p2p/{peer}")];
        let mut seeds = Seeds::new(seeds.iter().map(|text| parse(text).unwrap()).collect());
        let tried = (0..120_000).step_by(100).filter(|now| !seeds.take_due(*now).is_empty());
        assert!((14..=18).contains(&tried.count()));
        seeds.hurry(200_000);
        assert_eq!(seeds.take_due(200_500).len(), 1);
    }
}
