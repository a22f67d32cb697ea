//! The network between nodes: what is under way, and what never arrives.
//!
//! It carries sealed frames and knows nothing of their content. A frame that has no way at the
//! moment of its arrival is lost, so that a partition also takes what was under way.

use std::collections::{BTreeMap, BTreeSet, VecDeque};

use bytes::Bytes;
use fleet_consensus::frame::{Arrival, Class, Path, Route};
use fleet_consensus::{Routes, Wire};
use fleet_state::NodeId;

use crate::random::{Random, mix};
use crate::swarm::NetworkManners;

/// Old frames that a replay can choose from.
const ARCHIVE_MAX: usize = 256;

/// The first way to a node works as long as it was heard there this lately.
const WAY_WORKS_MS: u64 = 500;

/// For so long a node keeps to a way.
const STRAY_MS: u64 = 300;

/// A frame under way.
#[derive(Clone, Debug)]
pub struct Flight {
    /// Who sent it.
    pub from: NodeId,
    /// Where it goes.
    pub to: NodeId,
    /// By which way.
    pub path: Path,
    /// The sealed frame.
    pub bytes: Bytes,
}

/// What happened to frames so far.
#[derive(Clone, Copy, Debug, Default)]
pub struct Traffic {
    /// Handed to the network.
    pub sent: u64,
    /// Lost by chance.
    pub lost: u64,
    /// Lost in a partition.
    pub cut: u64,
    /// Delivered twice.
    pub duplicated: u64,
    /// Delivered again much later.
    pub replayed: u64,
    /// Delivered with a flipped bit.
    pub corrupted: u64,
    /// Refused at the sender.
    pub refused: u64,
    /// Delivered far too late.
    pub late: u64,
    /// Delivered before one that was sent earlier by the same way.
    pub overtook: u64,
}

/// The network.
pub struct Network {
    manners: [NetworkManners; Path::COUNT],
    ways: u8,
    /// The first way is gone, for all.
    server_down: bool,
    /// When a node last heard another one by the first way.
    heard_ms: BTreeMap<(NodeId, NodeId), u64>,
    /// Ordered pairs that hear nothing of each other.
    cut: BTreeSet<(NodeId, NodeId)>,
    /// Nodes without any connection, which they know.
    offline: BTreeSet<NodeId>,
    /// When the last frame arrives of those that keep their order, by way.
    last_due_ms: BTreeMap<(NodeId, NodeId, bool), u64>,
    /// When the last frame arrives at all, by way.
    newest_due_ms: BTreeMap<(NodeId, NodeId, bool), u64>,
    archive: VecDeque<Flight>,
    random: Random,
    traffic: Traffic,
}

impl Traffic {
    /// What happened, by the words of reports.
    #[must_use]
    pub fn by_name(&self) -> [(&'static str, u64); 9] {
        [
            ("sent", self.sent),
            ("lost", self.lost),
            ("cut", self.cut),
            ("duplicated", self.duplicated),
            ("replayed", self.replayed),
            ("corrupted", self.corrupted),
            ("refused", self.refused),
            ("late", self.late),
            ("overtook", self.overtook),
        ]
    }
}

impl Network {
    /// A network with these manners.
    #[must_use]
    pub fn new(manners: NetworkManners, random: Random) -> Self {
        Self {
            manners: [manners.clone(), manners],
            ways: 1,
            server_down: false,
            heard_ms: BTreeMap::new(),
            cut: BTreeSet::new(),
            offline: BTreeSet::new(),
            last_due_ms: BTreeMap::new(),
            newest_due_ms: BTreeMap::new(),
            archive: VecDeque::new(),
            random,
            traffic: Traffic::default(),
        }
    }

    /// From now on both ways behave like this.
    pub fn set_manners(&mut self, manners: NetworkManners) {
        self.manners = [manners.clone(), manners];
    }

    /// From now on the two ways behave like this.
    pub fn set_manners_by_way(&mut self, first: NetworkManners, second: NetworkManners) {
        self.manners = [first, second];
    }

    /// Whether no way between two nodes is closed.
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.cut.is_empty() && self.offline.is_empty()
    }

    /// How many ways there are between two nodes: one or two.
    pub fn set_ways(&mut self, ways: u8) {
        self.ways = ways;
    }

    /// Nothing goes by the first way.
    pub fn set_server_down(&mut self) {
        self.server_down = true;
    }

    fn manners_of(&self, path: Path) -> &NetworkManners {
        let [first, second] = &self.manners;
        match path {
            Path::Nats => first,
            Path::Mesh => second,
        }
    }

    /// Nothing from `from` reaches `to`.
    pub fn cut(&mut self, from: NodeId, to: NodeId) {
        self.cut.insert((from, to));
    }

    /// Nothing passes between two nodes.
    pub fn cut_both(&mut self, one: NodeId, other: NodeId) {
        self.cut(one, other);
        self.cut(other, one);
    }

    /// A node has no connection and is told so.
    pub fn set_offline(&mut self, node: NodeId) {
        self.offline.insert(node);
    }

    /// All ways are open.
    pub fn heal(&mut self) {
        self.cut.clear();
        self.offline.clear();
        self.server_down = false;
    }

    /// Whether a frame would arrive.
    #[must_use]
    pub fn is_open(&self, from: NodeId, to: NodeId) -> bool {
        !self.cut.contains(&(from, to))
            && !self.offline.contains(&from)
            && !self.offline.contains(&to)
    }

    /// What happened to frames so far.
    #[must_use]
    pub fn traffic(&self) -> Traffic {
        self.traffic
    }

    /// A frame arrives now: whether it is still to be delivered.
    pub fn arrives(&mut self, flight: &Flight) -> bool {
        let gone = self.server_down && flight.path == Path::Nats;
        let open = self.is_open(flight.from, flight.to) && !gone;
        self.traffic.cut += u64::from(!open);
        open
    }

    /// When which frames arrive that were sent now.
    pub fn send(&mut self, flight: Flight, now_ms: u64) -> Vec<(u64, Flight)> {
        self.traffic.sent += 1;
        let manners = self.manners_of(flight.path);
        let (loss, duplicated) = (manners.loss, manners.duplicated);
        let (replayed, corrupted) = (manners.replayed, manners.corrupted);
        let mut due = Vec::new();
        if self.random.per_mille(replayed)
            && let Some(old) = self.old_frame()
        {
            self.traffic.replayed += 1;
            due.push((now_ms + self.random.between(1, 500), old));
        }
        self.archive.push_back(flight.clone());
        if self.archive.len() > ARCHIVE_MAX {
            self.archive.pop_front();
        }
        if self.random.per_mille(loss) {
            self.traffic.lost += 1;
            return due;
        }
        if self.random.per_mille(duplicated) {
            self.traffic.duplicated += 1;
            due.push((self.due_ms(&flight, now_ms), flight.clone()));
        }
        if self.random.per_mille(corrupted) {
            self.traffic.corrupted += 1;
            let corrupted = self.corrupt(flight);
            due.push((self.due_ms(&corrupted, now_ms), corrupted));
            return due;
        }
        due.push((self.due_ms(&flight, now_ms), flight));
        due
    }

    fn old_frame(&mut self) -> Option<Flight> {
        let at = usize::try_from(self.random.below(self.archive.len() as u64)).ok()?;
        self.archive.get(at).cloned()
    }

    fn corrupt(&mut self, mut flight: Flight) -> Flight {
        let mut bytes = flight.bytes.to_vec();
        let at = usize::try_from(self.random.below(bytes.len() as u64)).unwrap_or(0);
        if let Some(byte) = bytes.get_mut(at) {
            *byte ^= 1 << self.random.below(8);
        }
        flight.bytes = bytes.into();
        flight
    }

    fn due_ms(&mut self, flight: &Flight, now_ms: u64) -> u64 {
        let manners = self.manners_of(flight.path);
        let (min_ms, max_ms, in_order) =
            (manners.delay_min_ms, manners.delay_max_ms, manners.in_order);
        let (late, late_ms_max) = (manners.late, manners.late_ms_max);
        let mut delay_ms = self.random.between(min_ms, max_ms);
        if self.random.per_mille(late) {
            self.traffic.late += 1;
            delay_ms += self.random.between(1, late_ms_max);
        }
        let mut due_ms = now_ms + delay_ms;
        let second = flight.path == Path::Mesh;
        let lane = (flight.from, flight.to, second);
        if in_order {
            let last = self.last_due_ms.entry(lane).or_default();
            due_ms = due_ms.max(*last);
            *last = due_ms;
        }
        let newest = self.newest_due_ms.entry(lane).or_default();
        self.traffic.overtook += u64::from(due_ms < *newest);
        *newest = due_ms.max(*newest);
        due_ms
    }
}

/// A node's side of the network during one turn of its replica.
pub struct SimWire<'a> {
    from: NodeId,
    frame_bytes_max: usize,
    network: &'a mut Network,
    sent: Vec<Flight>,
}

impl<'a> SimWire<'a> {
    /// The side of `from`.
    pub fn new(from: NodeId, frame_bytes_max: usize, network: &'a mut Network) -> Self {
        Self { from, frame_bytes_max, network, sent: Vec::new() }
    }

    /// What was sent.
    #[must_use]
    pub fn into_sent(self) -> Vec<Flight> {
        self.sent
    }
}

impl Wire for SimWire<'_> {
    fn routes(&mut self, to: NodeId, class: Class, now_ms: u64) -> Routes {
        if self.network.offline.contains(&self.from) {
            return Routes::NONE;
        }
        let frame_bytes_max = self.frame_bytes_max;
        let first = Route { to, path: Path::Nats, class, frame_bytes_max, unheard: None };
        let second = Route { path: Path::Mesh, ..first };
        if self.network.ways < 2 {
            return Routes::one(first);
        }
        if class == Class::Urgent {
            return Routes::of(Some(first), Some(second));
        }
        let heard_ms = self.network.heard_ms.get(&(self.from, to)).copied().unwrap_or(0);
        let works = now_ms.saturating_sub(heard_ms) < WAY_WORKS_MS;
        // Now and then a node takes the second way though the first one works: it may have heard
        // nothing there for a moment.
        let strays = mix(self.from.get() ^ (now_ms / STRAY_MS)).is_multiple_of(4);
        Routes::one(if works && !strays { first } else { second })
    }

    fn heard(&mut self, from: NodeId, arrival: Arrival, now_ms: u64) {
        if arrival.path == Path::Nats {
            self.network.heard_ms.insert((self.from, from), now_ms);
        }
    }

    fn send(&mut self, route: Route, frame: Bytes) -> bool {
        let refused = self.network.manners_of(route.path).refused;
        if self.network.random.per_mille(refused) {
            self.network.traffic.refused += 1;
            return false;
        }
        self.sent.push(Flight { from: self.from, to: route.to, path: route.path, bytes: frame });
        true
    }
}
