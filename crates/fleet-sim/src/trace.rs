//! What happened, as a running hash and as the last events of each node.
//!
//! Two runs of a seed must give the same hash: then a failure can be replayed. The hash covers
//! every event with its time; frames count with their length and tag, so that a difference in
//! any sealed byte shows.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::hash::{Hash, Hasher};

use fleet_consensus::NodeRole;
use fleet_state::NodeId;

/// Events kept per node for a failure's report.
const KEPT_PER_NODE: usize = 48;

/// Something that happened on or to a node.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Event {
    /// The replica was opened.
    Start {
        /// Counter of its starts.
        boot: u64,
        /// Index up to which its log was replayed.
        applied: u64,
    },
    /// The replica is gone.
    Stop(&'static str),
    /// No frame and no tick reaches it for a while.
    Pause,
    /// It goes on.
    Resume,
    /// A frame was handed to it.
    Frame {
        /// By whom it was sent.
        from: u64,
        /// Its length.
        bytes: usize,
        /// The last bytes of its seal.
        tag: u64,
    },
    /// Another role, leader or term.
    Role {
        /// Role now.
        role: NodeRole,
        /// Term now.
        term: u64,
        /// Leader now.
        leader: Option<u64>,
    },
    /// More is committed and applied.
    Commit {
        /// Commit index.
        commit: u64,
        /// Applied index.
        applied: u64,
    },
    /// Another configuration.
    Membership {
        /// Voters.
        voters: Vec<u64>,
        /// Learners.
        learners: Vec<u64>,
        /// The entry that changed it.
        index: u64,
    },
    /// A snapshot of its own is on disk.
    SnapshotTaken(u64),
    /// A snapshot is offered to it.
    SnapshotOffered(u64),
    /// A snapshot of another node is installed.
    SnapshotInstalled(u64),
    /// A command or read was submitted.
    Submit(u64),
    /// A command or read ended.
    Ended(u64, &'static str, u64),
    /// Something was done to it on purpose.
    Fault(&'static str, u64),
}

/// The history of a run.
#[derive(Clone, Debug)]
pub struct Trace {
    hash: Fnv,
    last: BTreeMap<NodeId, VecDeque<(u64, Event)>>,
    events: u64,
    live: bool,
}

impl Trace {
    /// An empty history; `live` prints events as they happen.
    #[must_use]
    pub fn new(live: bool) -> Self {
        Self { hash: Fnv::default(), last: BTreeMap::new(), events: 0, live }
    }

    /// Notes an event.
    pub fn note(&mut self, at_ms: u64, node: NodeId, event: Event) {
        self.events += 1;
        (at_ms, node.get(), &event).hash(&mut self.hash);
        if self.live && !matches!(event, Event::Frame { .. }) {
            eprintln!("{at_ms:>8} ms  node {node}  {event:?}");
        }
        let last = self.last.entry(node).or_default();
        if last.len() >= KEPT_PER_NODE {
            last.pop_front();
        }
        last.push_back((at_ms, event));
    }

    /// The hash of all events so far.
    #[must_use]
    pub fn hash(&self) -> u64 {
        self.hash.finish()
    }

    /// How many events there were.
    #[must_use]
    pub fn events(&self) -> u64 {
        self.events
    }
}

impl fmt::Display for Trace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (node, events) in &self.last {
            writeln!(f, "node {node}, last events:")?;
            for (at_ms, event) in events {
                writeln!(f, "  {at_ms:>8} ms  {event:?}")?;
            }
        }
        Ok(())
    }
}

/// FNV-1a by words of eight bytes: not for adversaries, but the same on every machine and every
/// release.
#[derive(Clone, Debug)]
pub(crate) struct Fnv(u64);

impl Fnv {
    fn word(&mut self, word: u64) {
        self.0 = (self.0 ^ word).wrapping_mul(0x0100_0000_01b3).rotate_left(29);
    }
}

impl Default for Fnv {
    fn default() -> Self {
        Self(0xcbf2_9ce4_8422_2325)
    }
}

impl Hasher for Fnv {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        let (words, rest) = bytes.as_chunks::<8>();
        for word in words {
            self.word(u64::from_le_bytes(*word));
        }
        for byte in rest {
            self.word(u64::from(*byte));
        }
    }
}
