//! "Did you mean": the nearest known word to an unknown one.
//!
//! Used wherever an unknown name is refused (headers, fields, operations, configuration keys), so
//! that a misspelling costs its author one look and never becomes something unconditional.

/// Words longer than this are not compared; the cost is quadratic.
const WORD_CHARS_MAX: usize = 64;

/// The candidate nearest to `word`, when it is near enough to be worth saying.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word: Vec<char> = word.to_lowercase().chars().collect();
    if word.is_empty() || word.len() > WORD_CHARS_MAX {
        return None;
    }
    let allowed = match word.len() {
        0..=3 => 1,
        4..=7 => 2,
        _ => 3,
    };
    candidates
        .into_iter()
        .map(|candidate| {
            let lower: Vec<char> = candidate.to_lowercase().chars().collect();
            (distance(&word, &lower), candidate)
        })
        .filter(|(cost, _)| *cost <= allowed)
        .min_by_key(|(cost, _)| *cost)
        .map(|(_, candidate)| candidate)
}

/// The sentence ` (did you mean "x"?)`, or nothing.
#[must_use]
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> String {
    nearest(word, candidates)
        .map(|candidate| format!("; did you mean \"{candidate}\"?"))
        .unwrap_or_default()
}

/// Levenshtein's distance, with one row of the table kept.
fn distance(left: &[char], right: &[char]) -> usize {
    let mut row: Vec<usize> = (0..=right.len()).collect();
    for (i, from) in left.iter().enumerate() {
        let mut diagonal = i;
        let mut before = i + 1;
        for (cell, to) in row.iter_mut().skip(1).zip(right) {
            let change = diagonal + usize::from(from != to);
            diagonal = *cell;
            *cell = change.min(before + 1).min(diagonal + 1);
            before = *cell;
        }
        if let Some(first) = row.first_mut() {
            *first = i + 1;
        }
    }
    row.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn distances() {
        let cases =
            [("", "", 0), ("a", "", 1), ("", "ab", 2), ("kitten", "sitting", 3), ("abc", "abc", 0)];
        for (left, right, expected) in cases {
            let left: Vec<char> = left.chars().collect();
            let right: Vec<char> = right.chars().collect();
            assert_eq!(distance(&left, &right), expected);
            assert_eq!(distance(&right, &left), expected);
        }
    }

    #[test]
    fn near_words_are_offered_and_far_ones_are_not() {
        let known = ["Flotilla-If-Revision", "Flotilla-Timeout"];
        assert_eq!(nearest("flotilla-if-revison", known), Some("Flotilla-If-Revision"));
        assert_eq!(nearest("flotilla-banana", known), None);
        assert_eq!(nearest(&"x".repeat(10_000), known), None);
        assert_eq!(did_you_mean("tymeout", ["timeout"]), "; did you mean \"timeout\"?");
    }
}
