//! New inputs from old ones.

/// Longest input.
pub const INPUT_BYTES_MAX: usize = 64 * 1024;
/// Changes made to one input.
const CHANGES_MAX: u64 = 6;
/// Longest piece that is copied or cut.
const PIECE_BYTES_MAX: u64 = 48;

/// Numbers at which readers have their limits.
const EDGES: &[u64] = &[
    0,
    1,
    2,
    0x7f,
    0x80,
    0xff,
    0x100,
    0x7fff,
    0xffff,
    0x0001_0000,
    0x7fff_ffff,
    0xffff_ffff,
    1 << 48,
    1 << 62,
    i64::MAX as u64,
    u64::MAX - 1,
    u64::MAX,
];

/// Pieces of text that mean something to somebody.
const WORDS: &[&[u8]] = &[
    b"{",
    b"}",
    b"[",
    b"]",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"1e309",
    b"-0",
    b"0.1",
    b"null",
    b"true",
    b".",
    b"*",
    b">",
    b" ",
    b"\n",
    b"\r\n",
    b"\0",
    b":",
    b"Flotilla-",
    b"18446744073709551616",
    b"\xff",
    b"\xed\xa0\x80",
    b"\xf0\x9f\x98\x80",
    b"flotilla.",
    b"_INBOX.",
    b"$SYS",
    b"..",
];

/// A stream of chances that follows from its seed (splitmix64).
#[derive(Clone, Debug)]
pub struct Chance(u64);

impl Chance {
    /// The stream of a seed.
    #[must_use]
    pub fn new(seed: u64) -> Self {
        Self(seed)
    }

    /// The next number.
    #[expect(clippy::should_implement_trait, reason = "an endless stream needs no Option")]
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `bound`, or 0.
    pub fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound.max(1)
    }

    fn at(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    fn pick<'a, T>(&mut self, from: &'a [T]) -> Option<&'a T> {
        let at = self.at(from.len());
        from.get(at)
    }
}

/// An input like one of these, and like none.
pub fn mutate(seeds: &[Vec<u8>], chance: &mut Chance) -> Vec<u8> {
    let mut input = chance.pick(seeds).cloned().unwrap_or_default();
    for _ in 0..=chance.below(CHANGES_MAX) {
        change(&mut input, seeds, chance);
    }
    input.truncate(INPUT_BYTES_MAX);
    input
}

fn change(input: &mut Vec<u8>, seeds: &[Vec<u8>], chance: &mut Chance) {
    let at = chance.at(input.len());
    let piece = usize::try_from(chance.below(PIECE_BYTES_MAX)).unwrap_or(0) + 1;
    let end = (at + piece).min(input.len());
    match chance.below(10) {
        0 | 1 => {
            let bit = 1 << chance.below(8);
            if let Some(byte) = input.get_mut(at) {
                *byte ^= bit;
            }
        }
        2 => {
            let random = chance.next().to_le_bytes();
            if let (Some(byte), [new, ..]) = (input.get_mut(at), random) {
                *byte = new;
            }
        }
        3 => {
            input.drain(at.min(end)..end);
        }
        4 => {
            let copy: Vec<u8> = input.get(at..end).unwrap_or_default().to_vec();
            input.splice(at..at, copy);
        }
        5 => input.truncate(at),
        6 => edge(input, at, chance),
        7 => {
            let word = chance.pick(WORDS).copied().unwrap_or_default();
            input.splice(at..at, word.iter().copied());
        }
        8 => {
            let other = chance.pick(seeds).cloned().unwrap_or_default();
            let from = chance.at(other.len());
            input.truncate(at);
            input.extend_from_slice(other.get(from..).unwrap_or_default());
        }
        _ => {
            let random = chance.next().to_le_bytes();
            input.splice(at..at, random);
        }
    }
}

/// A number with a meaning over what stands there, in one of the widths and orders in use.
fn edge(input: &mut [u8], at: usize, chance: &mut Chance) {
    let number = chance.pick(EDGES).copied().unwrap_or(0);
    let bytes = if chance.below(2) == 0 { number.to_le_bytes() } else { number.to_be_bytes() };
    let width = 1usize << chance.below(4);
    for (to, from) in input.iter_mut().skip(at).take(width).zip(bytes) {
        *to = from;
    }
}
