//! Who is there: pure, with time as an argument.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_state::NodeId;

use super::message::Beat;

/// A node of which nothing was heard for this long is suspect, and then dead.
const SUSPECT_AFTER_MS: u64 = 5_000;
const DEAD_AFTER_MS: u64 = 15_000;
/// Messages of one node that are taken in one second; it sends one in two seconds, and one
/// more when its role changes.
const BEATS_PER_SECOND_MAX: u32 = 5;
/// Nodes in the table; members are fewer.
const NODES_MAX: usize = 1_024;

/// Whether a node lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It was heard of lately.
    Alive,
    /// It was not heard of for a while.
    Suspect,
    /// It was not heard of for long.
    Dead,
}

impl Life {
    /// The word in status output.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Alive => "alive",
            Self::Suspect => "suspect",
            Self::Dead => "dead",
        }
    }
}

/// What is known of one node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NodePresence {
    /// Whether it lives.
    pub life: Life,
    /// Since when, in milliseconds of this node's monotonic clock.
    pub since_ms: u64,
    /// When it was heard of last, same clock.
    pub heard_ms: u64,
    /// What it said last.
    pub beat: Option<Beat>,
    /// Whether it is connected over the mesh.
    pub connected: bool,
    /// Round trip of the last ping over the mesh.
    pub rtt: Option<Duration>,
    /// Entries that this node had applied, and that one had not, when it last told of itself.
    pub lag: Option<u64>,
}

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::mesh) enum Heard {
    /// It is news, and may be passed on.
    New,
    /// Nothing wrong with it, and nothing new.
    Old,
    /// There were too many from this node.
    TooMany,
}

#[derive(Debug)]
struct Entry {
    seen: NodePresence,
    second: u64,
    in_second: u32,
}

/// The members; of others nothing is noted.
#[derive(Debug, Default)]
pub(in crate::mesh) struct PresenceTable {
    entries: BTreeMap<NodeId, Entry>,
}

impl PresenceTable {
    /// Takes a message whose author is the node that it speaks of; this node has `applied` so
    /// much itself.
    pub(in crate::mesh) fn beat(&mut self, beat: Beat, applied: u64, now_ms: u64) -> Heard {
        let Some(entry) = self.entries.get_mut(&beat.node) else {
            return Heard::TooMany;
        };
        // Old ones first: others pass them on again, and must not use up what is for new ones.
        let last = entry.seen.beat.map(|last| (last.boot, last.sequence));
        if last.is_some_and(|last| (beat.boot, beat.sequence) <= last) {
            return Heard::Old;
        }
        let second = now_ms / 1_000;
        if entry.second != second {
            (entry.second, entry.in_second) = (second, 0);
        }
        entry.in_second = entry.in_second.saturating_add(1);
        if entry.in_second > BEATS_PER_SECOND_MAX {
            return Heard::TooMany;
        }
        entry.seen.beat = Some(beat);
        entry.seen.lag = Some(applied.saturating_sub(beat.applied));
        entry.seen.heard_ms = now_ms;
        entry.live(Life::Alive, now_ms);
        Heard::New
    }

    /// A ping was answered.
    pub(in crate::mesh) fn pinged(&mut self, node: NodeId, rtt: Duration, now_ms: u64) {
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.seen.rtt = Some(rtt);
            entry.seen.heard_ms = now_ms;
            entry.live(Life::Alive, now_ms);
        }
    }

    /// A node was connected, or its last connection is gone. The first is a sign of life; the
    /// second makes it suspect at once.
    pub(in crate::mesh) fn connection(&mut self, node: NodeId, connected: bool, now_ms: u64) {
        if let Some(entry) = self.entries.get_mut(&node) {
            entry.seen.connected = connected;
            if connected {
                entry.seen.heard_ms = now_ms;
                entry.live(Life::Alive, now_ms);
            } else {
                entry.seen.rtt = None;
                if entry.seen.life == Life::Alive {
                    entry.live(Life::Suspect, now_ms);
                }
            }
        }
    }

    /// Lets time pass.
    pub(in crate::mesh) fn tick(&mut self, now_ms: u64) {
        for entry in self.entries.values_mut() {
            let silent_ms = now_ms.saturating_sub(entry.seen.heard_ms);
            if silent_ms >= DEAD_AFTER_MS {
                entry.live(Life::Dead, now_ms);
            } else if silent_ms >= SUSPECT_AFTER_MS && entry.seen.life == Life::Alive {
                entry.live(Life::Suspect, now_ms);
            }
        }
    }

    /// Forgets nodes that are no members any more, and begins to wait for new ones.
    pub(in crate::mesh) fn set_members(&mut self, members: &[NodeId], now_ms: u64) {
        self.entries.retain(|node, _| members.contains(node));
        for node in members.iter().take(NODES_MAX) {
            self.entries.entry(*node).or_insert_with(|| Entry::new(now_ms));
        }
    }

    /// What is known, by node.
    pub(in crate::mesh) fn snapshot(&self) -> BTreeMap<NodeId, NodePresence> {
        self.entries.iter().map(|(node, entry)| (*node, entry.seen)).collect()
    }
}

impl Entry {
    const fn new(now_ms: u64) -> Self {
        let seen = NodePresence {
            life: Life::Suspect,
            since_ms: now_ms,
            heard_ms: now_ms,
            beat: None,
            connected: false,
            rtt: None,
            lag: None,
        };
        Self { seen, second: 0, in_second: 0 }
    }

    fn live(&mut self, life: Life, now_ms: u64) {
        if self.seen.life != life {
            self.seen.life = life;
            self.seen.since_ms = now_ms;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fleet_consensus::NodeRole;

    fn node() -> NodeId {
        NodeId::new(2).unwrap()
    }

    fn beat(boot: u64, sequence: u64) -> Beat {
        Beat {
            node: node(),
            boot,
            sequence,
            role: NodeRole::Follower,
            term: 1,
            applied: 1,
            on_nats: true,
            mesh_nodes: 1,
            load_permille: 0,
        }
    }

    fn life(table: &PresenceTable) -> (Life, u64) {
        let seen = table.snapshot()[&node()];
        (seen.life, seen.since_ms)
    }

    #[test]
    fn a_node_that_falls_silent_is_suspect_and_then_dead() {
        let mut table = PresenceTable::default();
        table.set_members(&[node()], 0);
        assert_eq!(life(&table), (Life::Suspect, 0), "until it is heard of");
        table.beat(beat(1, 1), 1, 1_000);
        assert_eq!(life(&table), (Life::Alive, 1_000));
        for (now_ms, want) in [
            (5_900, (Life::Alive, 1_000)),
            (6_000, (Life::Suspect, 6_000)),
            (15_900, (Life::Suspect, 6_000)),
            (16_000, (Life::Dead, 16_000)),
            (90_000, (Life::Dead, 16_000)),
        ] {
            table.tick(now_ms);
            assert_eq!(life(&table), want, "at {now_ms}");
        }
        table.pinged(node(), Duration::from_millis(1), 91_000);
        assert_eq!(life(&table), (Life::Alive, 91_000));
        table.connection(node(), true, 91_000);
        table.connection(node(), false, 92_000);
        assert_eq!(life(&table), (Life::Suspect, 92_000), "a closed connection is suspect at once");
        table.set_members(&[], 93_000);
        assert!(table.snapshot().is_empty());
    }

    #[test]
    fn replays_and_floods_are_noticed() {
        let mut table = PresenceTable::default();
        assert_eq!(table.beat(beat(1, 5), 1, 0), Heard::TooMany, "none of the members");
        assert!(table.snapshot().is_empty());
        table.set_members(&[node()], 0);
        assert_eq!(table.beat(beat(1, 5), 1, 0), Heard::New);
        assert_eq!(table.beat(beat(1, 5), 1, 1_000), Heard::Old);
        assert_eq!(table.beat(beat(1, 4), 1, 1_000), Heard::Old);
        assert_eq!(table.beat(beat(0, 9), 1, 1_000), Heard::Old);
        assert_eq!(table.beat(beat(2, 1), 1, 1_000), Heard::New, "a restart begins anew");
        let heard: Vec<Heard> = (2..20).map(|n| table.beat(beat(2, n), 1, 2_000)).collect();
        assert_eq!(heard.iter().filter(|h| **h == Heard::New).count(), 5);
        assert!(heard[5..].iter().all(|h| *h == Heard::TooMany));
        // What is repeated uses up nothing of what is for news.
        for _ in 0..100 {
            assert_eq!(table.beat(beat(2, 1), 1, 3_000), Heard::Old);
        }
        assert_eq!(table.beat(beat(2, 20), 1, 3_000), Heard::New);
    }
}
