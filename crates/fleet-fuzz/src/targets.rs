//! What is fed.
//!
//! - `wire.rs`: frames, log entries, proposals
//! - `payload.rs`: what is in a frame, the messages of raft among it
//! - `files.rs`: snapshots, the log
//! - `text.rs`: requests with their headers, values, ids, tokens, reply subjects, durations

mod files;
mod payload;
mod text;
mod wire;

/// Something that reads foreign bytes.
#[derive(Clone, Copy)]
pub struct Target {
    /// Its name; also that of its corpus.
    pub name: &'static str,
    /// Reads the input and says in a few words what it made of it.
    pub run: fn(&[u8]) -> String,
    /// Inputs that are valid, for formats that no file in the corpus can keep.
    pub seeds: fn() -> Vec<Vec<u8>>,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target").field("name", &self.name).finish_non_exhaustive()
    }
}

fn none() -> Vec<Vec<u8>> {
    Vec::new()
}

/// All of them.
pub const TARGETS: &[Target] = &[
    Target { name: "frame", run: wire::frame, seeds: wire::frames },
    Target { name: "payload", run: payload::payload, seeds: payload::payloads },
    Target { name: "entry", run: wire::entry, seeds: wire::entries },
    Target { name: "proposal", run: wire::proposal, seeds: wire::proposals },
    Target { name: "snapshot", run: files::snapshot, seeds: files::snapshots },
    Target { name: "log", run: files::log, seeds: files::segments },
    Target { name: "request", run: text::request, seeds: none },
    Target { name: "value", run: text::value, seeds: none },
    Target { name: "ids", run: text::ids, seeds: none },
    Target { name: "token", run: text::token, seeds: text::tokens },
    Target { name: "reply_subject", run: text::reply_subject, seeds: none },
    Target { name: "duration", run: text::duration, seeds: none },
];

/// What an error says without its numbers and names: the kind of error.
fn kind(error: &dyn std::fmt::Debug) -> String {
    let text = format!("{error:?}");
    text.chars().filter(|c| c.is_ascii_alphabetic() || *c == '(').take(60).collect()
}
