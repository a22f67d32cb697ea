//! Log lines on stderr, as text for people or as one JSON object per line for machines.
//!
//! The level comes from the configuration (`log.level`): one word, or directives per module
//! separated by commas, as in `info,flotilla_agent::control=debug`. The NATS client library is
//! silent unless a directive names it: it repeats each failed attempt to connect, and what
//! matters of it is logged by `nats`, once in a while and with a hint. The library for mDNS only
//! warns, and that for gossip tells of errors only: others could fill the log with their lines.
//!
//! Much of what is logged was sent by others. Whatever a line holds, it stays one line: control
//! characters, terminal escapes and text direction marks are written as `\u001b`, so nobody can
//! forge a log line or talk to the terminal of the person who reads it. That is done once, for
//! the whole line, behind the formatter, so no call site can forget it.

use std::io::{self, Write};
use std::str::FromStr;

use tracing::Level;
use tracing::level_filters::LevelFilter;
use tracing_subscriber::filter::Targets;
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::{SubscriberInitExt, TryInitError};
use tracing_subscriber::{Layer, fmt};

use crate::config::{LogConfig, LogFormat};
use crate::nats::LIBRARY_LOG_TARGET;

/// Says a line for each answer of anybody on the network.
const MDNS_LOG_TARGET: &str = "libp2p_mdns";
/// Warns of each message that it does not like; the mesh tells whose are ignored.
const GOSSIP_LOG_TARGET: &str = "libp2p_gossipsub";
/// Most directives in `log.level`.
const DIRECTIVES_MAX: usize = 32;

/// Starts logging for this process.
///
/// # Errors
/// When logging was started before.
pub fn start(config: &LogConfig) -> Result<(), TryInitError> {
    // A level that doesn't parse was refused when the configuration was built.
    let filter =
        parse_level(&config.level).unwrap_or_else(|_| Targets::new().with_default(Level::INFO));
    let lines = fmt::layer().with_ansi(false).with_writer(|| OneLine { inner: io::stderr() });
    match config.format {
        LogFormat::Text => {
            tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()
        }
        LogFormat::Json => {
            let lines = lines.json().flatten_event(true);
            tracing_subscriber::registry().with(lines.with_filter(filter)).try_init()
        }
    }
}

/// Checks a value for `log.level`; the error says what is wrong with it.
///
/// # Errors
/// A sentence that names the directive.
pub fn check_level(level: &str) -> Result<(), String> {
    parse_level(level).map(|_| ())
}

fn parse_level(level: &str) -> Result<Targets, String> {
    let directives: Vec<&str> = level.split(',').map(str::trim).collect();
    if directives.len() > DIRECTIVES_MAX {
        return Err(format!("{} directives are more than {DIRECTIVES_MAX}", directives.len()));
    }
    let mut targets = Targets::new()
        .with_target(LIBRARY_LOG_TARGET, LevelFilter::OFF)
        .with_target(MDNS_LOG_TARGET, LevelFilter::WARN)
        .with_target(GOSSIP_LOG_TARGET, LevelFilter::ERROR);
    for directive in directives {
        let (target, word) = match directive.split_once('=') {
            Some((target, word)) => (Some(target.trim()), word.trim()),
            None => (None, directive),
        };
        let filter = level_of(word)
            .ok_or_else(|| format!("\"{}\" is not a log level", word.escape_debug()))?;
        targets = match target {
            None => targets.with_default(filter),
            Some(name) if is_module(name) => targets.with_target(name, filter),
            Some(name) => {
                return Err(format!("\"{}\" is not the name of a module", name.escape_debug()));
            }
        };
    }
    Ok(targets)
}

/// Only the words: `LevelFilter` would take digits too, which read like a count.
fn level_of(word: &str) -> Option<LevelFilter> {
    let known = ["off", "error", "warn", "info", "debug", "trace"].contains(&word);
    known.then(|| LevelFilter::from_str(word).ok()).flatten()
}

fn is_module(name: &str) -> bool {
    !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_' || c == ':')
}

/// A writer that keeps each formatted event on one line.
///
/// The formatter writes each event with one call, its line end last.
struct OneLine<W> {
    inner: W,
}

impl<W: Write> Write for OneLine<W> {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        let (body, end): (&[u8], &[u8]) = match line.split_last() {
            Some((b'\n', body)) => (body, b"\n"),
            _ => (line, b""),
        };
        match std::str::from_utf8(body) {
            Ok(text) if text.chars().any(must_escape) => {
                let mut escaped = escape(text).into_bytes();
                escaped.extend_from_slice(end);
                self.inner.write_all(&escaped)?;
            }
            _ => self.inner.write_all(line)?,
        }
        Ok(line.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.inner.flush()
    }
}

/// Control characters (C0, DEL, C1) and marks that reorder or hide text.
fn must_escape(c: char) -> bool {
    c.is_control()
        || matches!(c, '\u{200B}'..='\u{200F}' | '\u{2028}'..='\u{202E}' | '\u{2066}'..='\u{2069}' | '\u{FEFF}')
}

/// Writes what must not stand in a line as JSON does, which is valid in both formats.
fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for c in text.chars() {
        if must_escape(c) {
            // All of them lie in the basic plane: one unit each.
            out.push_str(&format!("\\u{:04x}", u32::from(c)));
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(line: &str) -> String {
        let mut out = Vec::new();
        OneLine { inner: &mut out }.write_all(line.as_bytes()).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_line_stays_one_line() {
        for (given, want) in [
            ("plain\n", "plain\n"),
            ("forged\nINFO all is well\n", "forged\\u000aINFO all is well\n"),
            ("\u{1b}[2Jgone\n", "\\u001b[2Jgone\n"),
            ("a\u{202e}b\u{9b}c\n", "a\\u202eb\\u009bc\n"),
            ("größe ✓\n", "größe ✓\n"),
            ("", ""),
        ] {
            assert_eq!(written(given), want);
        }
    }

    #[test]
    fn strangers_on_the_network_write_no_lines() {
        let mdns = "libp2p_mdns::behaviour";
        assert!(!parse_level("info").unwrap().would_enable(mdns, &Level::INFO));
        assert!(parse_level("info").unwrap().would_enable(mdns, &Level::WARN));
        assert!(parse_level("info,libp2p_mdns=info").unwrap().would_enable(mdns, &Level::INFO));
        let gossip = "libp2p_gossipsub::behaviour";
        assert!(!parse_level("info").unwrap().would_enable(gossip, &Level::WARN));
    }

    #[test]
    fn levels_are_words_and_directives() {
        for good in ["info", "off", "warn,flotilla_agent::control=debug", "async_nats=trace,info"] {
            assert!(check_level(good).is_ok(), "{good}");
        }
        for bad in ["", "inof", "3", "INFO ", "info,", "a b=info", "=info", "x=loud", "info;debug"]
        {
            // "INFO " is trimmed and then not one of the lower-case words.
            assert!(check_level(bad).is_err(), "{bad}");
        }
        assert!(check_level(&["info"; 33].join(",")).is_err());
    }
}
