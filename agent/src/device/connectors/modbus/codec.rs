//! Values in registers: what words mean, and which words say a value.
//!
//! Modbus knows words of 16 bits and single bits, and nothing else. How a number of 32 or 64 bits,
//! a float or a text lies in several words is every maker's own choice: which word comes first,
//! which byte of a word, and by what a whole number is scaled. [`Coding`] holds these choices and
//! does both directions, purely.
//!
//! Scaling divides where it can: 3 with a scale of 0.1 is 3 / 10, which is 0.3, and not 3 × 0.1,
//! which isn't. A value that a register can't hold is an error and never a wrapped-around number.

use fleet_state::{Finite, Value};

use super::super::settings::{number_of, shown};

/// What a register holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// One bit: a coil, a discrete input, or a bit of a word.
    Bit,
    /// Whole numbers without a sign, in 1, 2 or 4 words.
    Unsigned(u8),
    /// Whole numbers with a sign, in 1, 2 or 4 words.
    Signed(u8),
    /// IEEE 754, in 2 or 4 words.
    Float(u8),
    /// Latin text, two characters a word, in this many words.
    Text(u8),
}

impl Kind {
    /// The names of settings, texts aside.
    pub(crate) const NAMES: [&'static str; 10] =
        ["bool", "u16", "i16", "u32", "i32", "u64", "i64", "f32", "f64", "text"];

    /// The kind of this name.
    pub(crate) fn named(place: usize, words: u8) -> Self {
        match place {
            0 => Kind::Bit,
            1 => Kind::Unsigned(1),
            2 => Kind::Signed(1),
            3 => Kind::Unsigned(2),
            4 => Kind::Signed(2),
            5 => Kind::Unsigned(4),
            6 => Kind::Signed(4),
            7 => Kind::Float(2),
            8 => Kind::Float(4),
            _ => Kind::Text(words),
        }
    }

    /// How many words it takes.
    pub(crate) fn words(self) -> u16 {
        match self {
            Kind::Bit => 1,
            Kind::Unsigned(words)
            | Kind::Signed(words)
            | Kind::Float(words)
            | Kind::Text(words) => u16::from(words),
        }
    }

    /// Whether it is a number that can be scaled.
    pub(crate) fn is_number(self) -> bool {
        matches!(self, Kind::Unsigned(_) | Kind::Signed(_) | Kind::Float(_))
    }
}

/// How a value lies in its words.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Coding {
    /// What it is.
    pub(crate) kind: Kind,
    /// The least significant word comes first.
    pub(crate) low_word_first: bool,
    /// The bytes of each word are swapped.
    pub(crate) bytes_swapped: bool,
    /// What one step is worth.
    pub(crate) scale: f64,
    /// What zero is worth.
    pub(crate) offset: f64,
}

impl Coding {
    /// The value in these words.
    ///
    /// # Errors
    /// Why they hold none.
    pub(crate) fn decode(&self, words: &[u16]) -> Result<Value, String> {
        if words.len() != usize::from(self.kind.words()) {
            return Err(format!("{} words came, {} are due", words.len(), self.kind.words()));
        }
        let bits = self.joined(words);
        let not_a_number = || "the device says that this is no number".to_owned();
        match self.kind {
            Kind::Bit => Err("a bit is no word".to_owned()),
            Kind::Unsigned(_) if self.is_plain() => Ok(Value::from(bits)),
            Kind::Signed(words) if self.is_plain() => Ok(Value::from(extended(bits, words))),
            #[expect(clippy::cast_precision_loss, reason = "a scaled number is a float")]
            Kind::Unsigned(_) => self.scaled(bits as f64).ok_or_else(not_a_number),
            #[expect(clippy::cast_precision_loss, reason = "a scaled number is a float")]
            Kind::Signed(words) => {
                self.scaled(extended(bits, words) as f64).ok_or_else(not_a_number)
            }
            Kind::Float(2) => {
                let narrow = f32::from_bits(u32::try_from(bits).map_err(|_| not_a_number())?);
                // Through its text: 0.1 in 32 bits is 0.1, and not 0.10000000149011612.
                let wide = narrow.to_string().parse().map_err(|_| not_a_number())?;
                self.scaled(wide).ok_or_else(not_a_number)
            }
            Kind::Float(_) => self.scaled(f64::from_bits(bits)).ok_or_else(not_a_number),
            Kind::Text(_) => Ok(self.text(words)),
        }
    }

    /// The words that say a value.
    ///
    /// # Errors
    /// Why none do.
    pub(crate) fn encode(&self, value: &Value) -> Result<Vec<u16>, String> {
        let refused = |why: &str| format!("{} {why}", shown(&value.to_json()));
        match self.kind {
            Kind::Bit => Err(refused("is no word")),
            Kind::Text(words) => {
                let text = value.as_text().ok_or_else(|| refused("is no text"))?;
                self.text_words(text, words).map_err(|why| refused(&why))
            }
            Kind::Float(words) => {
                let number = number_of(value).ok_or_else(|| refused("is no number"))?;
                let raw = self.unscaled(number);
                if words == 2 {
                    #[expect(clippy::cast_possible_truncation, reason = "checked just below")]
                    let narrow = raw as f32;
                    if !narrow.is_finite() {
                        return Err(refused("is beyond 32 bits"));
                    }
                    return Ok(self.parted(u64::from(narrow.to_bits()), 2));
                }
                Ok(self.parted(raw.to_bits(), 4))
            }
            Kind::Unsigned(words) | Kind::Signed(words) => {
                let raw = self.whole(value).ok_or_else(|| refused("is no whole number here"))?;
                let signed = matches!(self.kind, Kind::Signed(_));
                let bits = fitted(raw, words, signed)
                    .ok_or_else(|| refused("is beyond what the register holds"))?;
                Ok(self.parted(bits, words))
            }
        }
    }

    /// Whether a number stands in the register as it is.
    fn is_plain(&self) -> bool {
        self.scale.total_cmp(&1.0).is_eq() && self.offset == 0.0
    }

    fn scaled(&self, raw: f64) -> Option<Value> {
        let value = match self.divisor() {
            Some(divisor) => raw / divisor + self.offset,
            None => raw * self.scale + self.offset,
        };
        Finite::new(value).map(Value::F64)
    }

    fn unscaled(&self, value: f64) -> f64 {
        match self.divisor() {
            Some(divisor) => (value - self.offset) * divisor,
            None => (value - self.offset) / self.scale,
        }
    }

    /// The whole number that the scale is one part of, where it is.
    fn divisor(&self) -> Option<f64> {
        let parts = (1.0 / self.scale).round();
        let exact = (parts * self.scale - 1.0).abs() < 1e-12 && parts.abs() >= 1.0;
        exact.then_some(parts)
    }

    fn whole(&self, value: &Value) -> Option<i128> {
        if self.is_plain() {
            return match value {
                Value::I64(number) => Some(i128::from(*number)),
                Value::U64(number) => Some(i128::from(*number)),
                Value::F64(number) if number.get().fract() == 0.0 => rounded(number.get()),
                Value::Null
                | Value::Bool(_)
                | Value::F64(_)
                | Value::Text(_)
                | Value::List(_)
                | Value::Map(_) => None,
            };
        }
        rounded(self.unscaled(number_of(value)?))
    }

    /// The words as one number, most significant first.
    fn joined(&self, words: &[u16]) -> u64 {
        let join = |bits: u64, word: &u16| (bits << 16) | u64::from(self.swapped(*word));
        if self.low_word_first {
            words.iter().rev().fold(0, join)
        } else {
            words.iter().fold(0, join)
        }
    }

    fn parted(&self, bits: u64, words: u8) -> Vec<u16> {
        #[expect(clippy::cast_possible_truncation, reason = "one word is taken at a time")]
        let word = |place: u8| self.swapped((bits >> (16 * u32::from(place))) as u16);
        if self.low_word_first {
            (0..words).map(word).collect()
        } else {
            (0..words).rev().map(word).collect()
        }
    }

    fn swapped(&self, word: u16) -> u16 {
        if self.bytes_swapped { word.swap_bytes() } else { word }
    }

    fn text(&self, words: &[u16]) -> Value {
        let bytes = words.iter().flat_map(|word| self.swapped(*word).to_be_bytes());
        let text: String = bytes.take_while(|byte| *byte != 0).map(char::from).collect();
        Value::from(text.trim_end())
    }

    fn text_words(&self, text: &str, words: u8) -> Result<Vec<u16>, String> {
        let mut bytes = Vec::with_capacity(usize::from(words) * 2);
        for c in text.chars() {
            let byte = u8::try_from(c).ok().filter(|byte| *byte != 0);
            bytes.push(byte.ok_or_else(|| format!("holds {c:?}, which no register holds"))?);
        }
        if bytes.len() > usize::from(words) * 2 {
            return Err(format!("has {} characters, {} fit", bytes.len(), usize::from(words) * 2));
        }
        bytes.resize(usize::from(words) * 2, 0);
        let pairs = bytes.chunks_exact(2);
        Ok(pairs
            .map(|pair| pair.iter().fold(0, |word, byte| (word << 8) | u16::from(*byte)))
            .map(|word| self.swapped(word))
            .collect())
    }
}

/// A number of some words, with the sign that its first bit says.
fn extended(bits: u64, words: u8) -> i64 {
    let unused = 64 - 16 * u32::from(words.clamp(1, 4));
    (bits << unused).cast_signed() >> unused
}

fn fitted(raw: i128, words: u8, signed: bool) -> Option<u64> {
    let bits = 16 * u32::from(words);
    let (low, high) = if signed {
        (-(1_i128 << (bits - 1)), (1_i128 << (bits - 1)) - 1)
    } else {
        (0, (1_i128 << bits) - 1)
    };
    if raw < low || raw > high {
        return None;
    }
    let mask = (1_u128 << bits) - 1;
    u64::try_from(raw.cast_unsigned() & mask).ok()
}

#[expect(clippy::cast_possible_truncation, reason = "the range is checked")]
fn rounded(number: f64) -> Option<i128> {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let number = number.round();
    (number.abs() <= EXACT).then_some(number as i128)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn coding(kind: Kind) -> Coding {
        Coding { kind, low_word_first: false, bytes_swapped: false, scale: 1.0, offset: 0.0 }
    }

    fn json(text: &str) -> Value {
        Value::parse(text.as_bytes(), fleet_state::Limits::default()).unwrap()
    }

    #[test]
    fn words_and_values() {
        // 123456.789 as a float is 0x47F1_2065; its four orders are those of makers' manuals.
        let float = |low_word_first, bytes_swapped| Coding {
            low_word_first,
            bytes_swapped,
            ..coding(Kind::Float(2))
        };
        let tenth = |kind| Coding { scale: 0.1, ..coding(kind) };
        let celsius = Coding { scale: 0.01, offset: -40.0, ..coding(Kind::Unsigned(1)) };
        let cases: Vec<(Coding, Vec<u16>, &str)> = vec![
            (coding(Kind::Unsigned(1)), vec![65_535], "65535"),
            (coding(Kind::Signed(1)), vec![65_535], "-1"),
            (coding(Kind::Unsigned(2)), vec![0x0001, 0x0000], "65536"),
            (coding(Kind::Signed(2)), vec![0xffff, 0xfffe], "-2"),
            (coding(Kind::Unsigned(4)), vec![0xffff; 4], "18446744073709551615"),
            (coding(Kind::Signed(4)), vec![0x8000, 0, 0, 0], "-9223372036854775808"),
            (float(false, false), vec![0x4148, 0x0000], "12.5"),
            (float(true, false), vec![0x0000, 0x4148], "12.5"),
            (float(false, true), vec![0x4841, 0x0000], "12.5"),
            (float(true, true), vec![0x0000, 0x4841], "12.5"),
            (coding(Kind::Float(2)), vec![0x3dcc, 0xcccd], "0.1"),
            (coding(Kind::Float(4)), vec![0x3ff8, 0, 0, 0], "1.5"),
            (tenth(Kind::Unsigned(1)), vec![3], "0.3"),
            (tenth(Kind::Signed(1)), vec![0xffd3], "-4.5"),
            (celsius, vec![6_150], "21.5"),
            (Coding { scale: 10.0, ..coding(Kind::Unsigned(1)) }, vec![7], "70.0"),
            (coding(Kind::Text(3)), vec![0x4142, 0x4300, 0], "\"ABC\""),
            (Coding { bytes_swapped: true, ..coding(Kind::Text(1)) }, vec![0x4241], "\"AB\""),
        ];
        for (coding, words, value) in cases {
            assert_eq!(coding.decode(&words), Ok(json(value)), "{coding:?}");
            assert_eq!(coding.encode(&json(value)), Ok(words), "{coding:?}");
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        for (kind, value) in [
            (Kind::Unsigned(1), "65536"),
            (Kind::Unsigned(1), "-1"),
            (Kind::Unsigned(1), "1.5"),
            (Kind::Unsigned(1), "true"),
            (Kind::Unsigned(1), "\"7\""),
            (Kind::Signed(1), "32768"),
            (Kind::Signed(2), "2147483648"),
            (Kind::Float(2), "1e300"),
            (Kind::Float(2), "null"),
            (Kind::Text(1), "\"ABC\""),
            (Kind::Text(4), "\"\u{20ac}\""),
            (Kind::Text(4), "7"),
        ] {
            assert!(coding(kind).encode(&json(value)).is_err(), "{kind:?} {value}");
        }
        let tenth = Coding { scale: 0.1, ..coding(Kind::Unsigned(1)) };
        assert!(tenth.encode(&json("6553.6")).is_err());
        assert!(coding(Kind::Float(2)).decode(&[0x7fc0, 0]).is_err(), "not a number");
        assert!(coding(Kind::Unsigned(2)).decode(&[1]).is_err(), "half a number");
    }

    fn any_kind() -> impl Strategy<Value = Kind> {
        let words = prop_oneof![Just(1_u8), Just(2), Just(4)];
        (words, any::<bool>()).prop_map(|(words, signed)| {
            if signed { Kind::Signed(words) } else { Kind::Unsigned(words) }
        })
    }

    proptest! {
        /// Whatever stands in a register comes back as it was, in every order.
        #[test]
        fn whole_numbers_survive(
            kind in any_kind(),
            low_word_first in any::<bool>(),
            bytes_swapped in any::<bool>(),
            words in proptest::collection::vec(any::<u16>(), 4),
        ) {
            let coding = Coding { low_word_first, bytes_swapped, ..coding(kind) };
            let words = &words[..usize::from(kind.words())];
            let value = coding.decode(words).unwrap();
            prop_assert_eq!(coding.encode(&value).unwrap(), words);
        }

        /// A scaled value that was written is read as the same value.
        #[test]
        fn scaled_numbers_survive(raw in any::<u16>(), digits in 0_i32..4, offset in -100_i32..100) {
            let scale = 10_f64.powi(-digits);
            let offset = f64::from(offset);
            let coding = Coding { scale, offset, ..coding(Kind::Unsigned(1)) };
            let value = coding.decode(&[raw]).unwrap();
            prop_assert_eq!(coding.encode(&value).unwrap(), vec![raw]);
        }
    }
}
