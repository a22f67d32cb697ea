//! Tables for people: columns as wide as their widest cell, the last one as long as it is.

use std::fmt;

use super::document::is_hidden;
use chrono::{DateTime, SecondsFormat, Utc};

/// Longest cell; the whole is in the other forms.
const CELL_CHARS_MAX: usize = 80;

/// Rows under a head.
#[derive(Debug)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// A table with these columns.
    pub(crate) fn new(head: &[&'static str]) -> Self {
        Self { head: head.to_vec(), rows: Vec::new() }
    }

    /// Adds a row.
    pub(crate) fn row<const N: usize>(&mut self, cells: [String; N]) {
        self.rows.push(cells.into_iter().map(|text| cell(&text)).collect());
    }

    /// A table of names and values, without a head.
    pub(crate) fn facts<'a>(facts: impl IntoIterator<Item = (&'a str, String)>) -> Self {
        let mut table = Self::new(&[]);
        for (name, value) in facts {
            table.row([format!("{name}:"), value]);
        }
        table
    }
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let head = (!self.head.is_empty())
            .then(|| self.head.iter().map(|&text| text.to_owned()).collect());
        let rows: Vec<&Vec<String>> = head.iter().chain(&self.rows).collect();
        let columns = rows.iter().map(|row| row.len()).max().unwrap_or(0);
        let widths: Vec<usize> = (0..columns)
            .map(|at| {
                rows.iter()
                    .filter_map(|row| row.get(at))
                    .map(|text| text.chars().count())
                    .max()
                    .unwrap_or(0)
            })
            .collect();
        for row in rows {
            let mut line = String::new();
            for (text, width) in row.iter().zip(&widths) {
                line.push_str(text);
                line.extend(std::iter::repeat_n(
                    ' ',
                    width.saturating_sub(text.chars().count()).saturating_add(2),
                ));
            }
            writeln!(f, "{}", line.trim_end())?;
        }
        Ok(())
    }
}

/// A text as it may stand in a table: one line, nothing a terminal would act on, not too long.
pub(crate) fn cell(text: &str) -> String {
    let mut chars = text.chars();
    let mut out: String = chars.by_ref().take(CELL_CHARS_MAX).collect();
    if chars.next().is_some() {
        out.push('…');
    }
    tame(&out)
}

/// A whole text on one line, without anything that a terminal would act on.
pub(crate) fn tame(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if is_hidden(c) { out.extend(c.escape_unicode()) } else { out.push(c) }
    }
    out
}

/// A wall time as text.
pub(crate) fn time(wall_ms: u64) -> String {
    i64::try_from(wall_ms)
        .ok()
        .and_then(DateTime::<Utc>::from_timestamp_millis)
        .map_or_else(|| "?".to_owned(), |time| time.to_rfc3339_opts(SecondsFormat::Secs, true))
}

/// How long something has lasted.
pub(crate) fn lasted(ms: u64) -> String {
    let seconds = ms / 1_000;
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m{}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h{}m", seconds / 3_600, seconds % 3_600 / 60),
        _ => format!("{}d{}h", seconds / 86_400, seconds % 86_400 / 3_600),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_line_up() {
        let mut table = Table::new(&["ID", "VALUE"]);
        table.row(["a".to_owned(), "1".to_owned()]);
        table.row(["länger".to_owned(), String::new()]);
        assert_eq!(table.to_string(), "ID      VALUE\na       1\nlänger\n");
        assert_eq!(Table::facts([("site", "home".to_owned())]).to_string(), "site:  home\n");
        assert_eq!(Table::new(&["ID"]).to_string(), "ID\n");
    }

    #[test]
    fn cells_are_tame() {
        assert_eq!(cell("a\u{1b}[2J\n\u{202e}"), "a\\u{1b}[2J\\u{a}\\u{202e}");
        assert_eq!(cell(&"x".repeat(1_000)).chars().count(), CELL_CHARS_MAX + 1);
        assert_eq!(cell(&"x".repeat(CELL_CHARS_MAX)).chars().count(), CELL_CHARS_MAX);
        assert_eq!(
            tame(&format!("{}\u{1b}", "x".repeat(1_000))),
            format!("{}\\u{{1b}}", "x".repeat(1_000))
        );
    }

    #[test]
    fn times() {
        assert_eq!(time(0), "1970-01-01T00:00:00Z");
        assert_eq!(time(u64::MAX), "?");
        let times = [(999, "0s"), (61_000, "1m1s"), (3_661_000, "1h1m"), (90_000_000, "1d1h")];
        for (ms, expected) in times {
            assert_eq!(lasted(ms), expected);
        }
    }
}
