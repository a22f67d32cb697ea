//! Lengths of time as people write them: `500ms`, `4s`, `10m`, `2h`, `7d`.
//!
//! A whole number and a unit, nothing else. A number without a unit is refused, because half of the
//! world would read `4` as seconds and the other half as milliseconds.

use thiserror::Error;

const UNITS: [(&str, u64); 5] =
    [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

/// Why a text is not a length of time within its bounds.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum DurationError {
    /// Not a whole number followed by a unit.
    #[error(
        "\"{0}\" is not a length of time; write a whole number and a unit, as in 500ms, 4s, 10m, 2h, 7d"
    )]
    Form(String),
    /// Outside of what is allowed here.
    #[error("{text} is out of bounds; allowed is {min} to {max}")]
    Bounds {
        /// What was given.
        text: String,
        /// Shortest allowed, as text.
        min: String,
        /// Longest allowed, as text.
        max: String,
    },
}

/// Reads a length of time in milliseconds between `min_ms` and `max_ms`, both allowed.
pub fn parse_ms(text: &str, min_ms: u64, max_ms: u64) -> Result<u64, DurationError> {
    let form = || DurationError::Form(text.chars().take(32).flat_map(char::escape_debug).collect());
    let digits = text.find(|c: char| !c.is_ascii_digit()).ok_or_else(form)?;
    let (number, unit) = text.split_at(digits);
    let (_, factor) = UNITS.iter().find(|(name, _)| *name == unit).ok_or_else(form)?;
    if number.is_empty() {
        return Err(form());
    }
    let bounds = || DurationError::Bounds {
        text: text.chars().take(32).collect(),
        min: format_ms(min_ms),
        max: format_ms(max_ms),
    };
    // A number too large for u64 is a number all the same: out of bounds, not malformed.
    let number: u64 = number.parse().map_err(|_| bounds())?;
    let ms = number.checked_mul(*factor).ok_or_else(bounds)?;
    if (min_ms..=max_ms).contains(&ms) { Ok(ms) } else { Err(bounds()) }
}

/// Writes milliseconds in the largest unit that loses nothing.
#[must_use]
pub fn format_ms(ms: u64) -> String {
    UNITS
        .iter()
        .rev()
        .find(|(_, factor)| ms >= *factor && ms.is_multiple_of(*factor))
        .map_or_else(|| format!("{ms}ms"), |(unit, factor)| format!("{}{unit}", ms / factor))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn readable_lengths() {
        let cases = [
            ("1ms", 1),
            ("500ms", 500),
            ("4s", 4_000),
            ("1m", 60_000),
            ("60s", 60_000),
            ("007s", 7_000),
        ];
        for (text, expected) in cases {
            assert_eq!(parse_ms(text, 1, 60_000), Ok(expected), "{text}");
        }
    }

    #[test]
    fn refused_lengths() {
        for text in
            ["", "4", "s", "-1s", "+1s", "1.5s", "4 s", " 4s", "4S", "4sec", "NaN", "١s", "1e3ms"]
        {
            assert!(matches!(parse_ms(text, 1, 60_000), Err(DurationError::Form(_))), "{text}");
        }
        for text in
            ["0ms", "0s", "61s", "2m", "1h", "99999999999999999999999s", "18446744073709551615d"]
        {
            assert!(
                matches!(parse_ms(text, 1, 60_000), Err(DurationError::Bounds { .. })),
                "{text}"
            );
        }
    }

    #[test]
    fn written_and_read_again() {
        for ms in [0, 1, 999, 1_000, 61_000, 60_000, 3_600_000, 86_400_000, 90_000] {
            assert_eq!(parse_ms(&format_ms(ms), 0, u64::MAX), Ok(ms));
        }
    }
}
