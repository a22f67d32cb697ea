//! Choices that one number decides, so that a run can be told about and made again.
//!
//! The choices come again; what real processes do meanwhile does not.

/// A sequence of choices (splitmix64).
#[derive(Debug, Clone)]
pub struct Dice(u64);

impl Dice {
    /// From `FLOTILLA_SEED`, or from the clock; the number is printed.
    ///
    /// # Panics
    /// If the variable holds no number.
    pub fn thrown() -> Self {
        let seed = match std::env::var("FLOTILLA_SEED") {
            Ok(text) => text.parse().expect("FLOTILLA_SEED is a number"),
            Err(_) => {
                let now = std::time::SystemTime::now();
                let since = now.duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
                u64::from(since.subsec_nanos())
            }
        };
        println!("FLOTILLA_SEED={seed}");
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from `low` to `high`, both included.
    pub fn between(&mut self, low: usize, high: usize) -> usize {
        let span = high.saturating_sub(low) as u64 + 1;
        low + usize::try_from(self.next() % span).unwrap_or_default()
    }

    /// Whether it happens, in so many of a hundred times.
    pub fn chance(&mut self, percent: usize) -> bool {
        self.between(1, 100) <= percent
    }

    /// So many of the numbers below `of`, in no order.
    pub fn choose(&mut self, many: usize, of: usize) -> Vec<usize> {
        let mut all: Vec<usize> = (0..of).collect();
        while all.len() > many {
            let at = self.between(0, all.len() - 1);
            all.swap_remove(at);
        }
        all
    }
}
