//! What a seed chooses: how large the site is, how small its limits are, which faults happen.
//!
//! A run with every fault at once explores little, because faults mask each other. Each seed
//! therefore switches most of them off and turns the rest up (swarm testing).

mod fields;

use fleet_consensus::config::APPEND_BYTES_MAX;

use crate::faults::Fault;
use crate::random::Random;

/// Clocks may run apart by a twentieth.
const DRIFT_MAX: u64 = 24;

/// Runs in which leases come late, of a thousand with links.
const LATE_LEASES: u64 = 300;

/// Runs that begin with older programs, of a thousand.
const MIXED_LEVELS: u64 = 250;

/// Values that are no burden.
const SMALL_VALUE_BYTES: u64 = 200;
/// Runs with small append messages, of a thousand.
const SMALL_APPENDS: u64 = 250;

/// Bytes that no run fills.
const ROOMY_BYTES: u64 = 16 * 1024 * 1024;

/// How the network behaves while the faults last.
#[derive(Clone, Debug)]
pub struct NetworkManners {
    /// Least delay of a frame.
    pub delay_min_ms: u64,
    /// Largest delay of a frame.
    pub delay_max_ms: u64,
    /// Whether frames of one sender keep their order.
    pub in_order: bool,
    /// Frames lost, of a thousand.
    pub loss: u64,
    /// Frames delivered twice, of a thousand.
    pub duplicated: u64,
    /// Old frames delivered again for each thousand sent.
    pub replayed: u64,
    /// Frames with a flipped bit, of a thousand.
    pub corrupted: u64,
    /// Frames that a full queue refuses at the sender, of a thousand.
    pub refused: u64,
    /// Frames that come far too late, of a thousand.
    pub late: u64,
    /// How much later, at most.
    pub late_ms_max: u64,
}

impl NetworkManners {
    /// A good network.
    #[must_use]
    pub fn calm() -> Self {
        Self {
            delay_min_ms: 1,
            delay_max_ms: 4,
            in_order: true,
            loss: 0,
            duplicated: 0,
            replayed: 0,
            corrupted: 0,
            refused: 0,
            late: 0,
            late_ms_max: 1,
        }
    }

    fn draw(random: &mut Random) -> Self {
        let rate = |random: &mut Random, off: u64, max: u64| {
            if random.per_mille(off) { 0 } else { random.between(1, max) }
        };
        let delay_min_ms = random.between(1, 10);
        Self {
            delay_min_ms,
            delay_max_ms: delay_min_ms + rate(random, 300, 60),
            in_order: random.per_mille(600),
            loss: rate(random, 400, 150),
            duplicated: rate(random, 500, 100),
            replayed: rate(random, 500, 50),
            corrupted: rate(random, 700, 20),
            refused: rate(random, 700, 50),
            late: 0,
            late_ms_max: 1,
        }
    }

    /// A way by which some frames take very long: elections later they still arrive, behind what
    /// went by the other way meanwhile.
    fn draw_slow(random: &mut Random) -> Self {
        let drawn = Self::draw(random);
        let longest_ms = [100, 600, 2_000, 5_000];
        Self {
            in_order: random.per_mille(200),
            late: random.between(20, 500),
            late_ms_max: random.pick(&longest_ms).copied().unwrap_or(100),
            ..drawn
        }
    }
}

/// What clients do.
#[derive(Clone, Debug)]
pub struct Workload {
    /// Clients, each with one operation at a time.
    pub clients: usize,
    /// Parameters and devices that they share.
    pub keys: u64,
    /// Largest value, in bytes.
    pub value_bytes_max: u64,
    /// Reads, of a thousand operations.
    pub reads: u64,
    /// Operations in all, so that a fast site costs no more than a slow one.
    pub operations_max: u64,
    /// Longest pause between two operations.
    pub think_ms_max: u64,
}

/// All of it.
#[derive(Clone, Debug)]
pub struct Swarm {
    /// Nodes before the faults begin.
    pub nodes: usize,
    /// How many of them vote, at most.
    pub voters: u8,
    /// A snapshot after so many entries.
    pub snapshot_every_entries: u64,
    /// Bytes that a leader takes in before they are committed.
    pub uncommitted_bytes_max: u64,
    /// Bytes of entries in one append message.
    pub append_bytes_max: u64,
    /// Size of a log segment.
    pub segment_bytes: u64,
    /// Entries kept in memory by the log.
    pub cache_bytes: usize,
    /// The largest frame that a way takes.
    pub frame_bytes_max: usize,
    /// Longest time that writing a snapshot takes.
    pub snapshot_build_ms_max: u64,
    /// How long faults go on.
    pub safety_ms: u64,
    /// Longest pause between two faults.
    pub fault_gap_ms_max: u64,
    /// Faults at most.
    pub strikes_max: u64,
    /// Another one gives the same choices other chances.
    pub salt: u64,
    /// Which faults happen.
    pub faults: Vec<Fault>,
    /// Links that carry devices; without any, devices are only written down.
    pub links: u64,
    /// Devices on each.
    pub devices_per_link: u64,
    /// How much faster or slower than time monotonic clocks run, of a thousand, at most.
    pub drift_max: u64,
    /// Ways between two nodes: one, or two.
    pub ways: u8,
    /// The network, by the first way.
    pub network: NetworkManners,
    /// The network by the second way.
    pub second_way: NetworkManners,
    /// The clients.
    pub workload: Workload,
}

impl Swarm {
    /// A site of a given size without any fault.
    #[must_use]
    pub fn quiet(nodes: usize, voters: u8) -> Self {
        Self {
            nodes,
            voters,
            snapshot_every_entries: 200,
            uncommitted_bytes_max: ROOMY_BYTES,
            append_bytes_max: APPEND_BYTES_MAX,
            segment_bytes: 64 * 1024,
            cache_bytes: 64 * 1024,
            frame_bytes_max: 1024 * 1024,
            snapshot_build_ms_max: 20,
            safety_ms: 3_000,
            fault_gap_ms_max: 1_000,
            strikes_max: u64::MAX,
            salt: 0,
            links: 0,
            devices_per_link: 1,
            drift_max: 0,
            faults: Vec::new(),
            ways: 1,
            network: NetworkManners::calm(),
            second_way: NetworkManners::calm(),
            workload: Workload {
                clients: 3,
                keys: 8,
                value_bytes_max: 200,
                reads: 300,
                operations_max: 10_000,
                think_ms_max: 40,
            },
        }
    }

    /// Whether the site begins with programs of different ages.
    #[must_use]
    pub fn is_mixed(&self) -> bool {
        self.faults.contains(&Fault::Upgrade)
    }

    /// What a seed chooses.
    pub fn draw(random: &mut Random) -> Self {
        let nodes = usize::try_from(random.between(1, 6)).unwrap_or(3);
        let voters = [1, 3, 3, 3, 5, 5, 7];
        let voters = random.pick(&voters).copied().unwrap_or(3);
        let frames = [1_200, 4_096, 64 * 1024, 1024 * 1024];
        let gaps = [400, 1_500, 4_000];
        let ways = if random.per_mille(500) { 2 } else { 1 };
        let faults = Fault::draw(random, nodes, voters, ways);
        let mut drawn = Self {
            nodes,
            voters,
            snapshot_every_entries: random.between(20, 400),
            uncommitted_bytes_max: ROOMY_BYTES,
            append_bytes_max: APPEND_BYTES_MAX,
            segment_bytes: random.between(4, 128) * 1024,
            cache_bytes: usize::try_from(random.below(64)).unwrap_or(0) * 1024,
            frame_bytes_max: random.pick(&frames).copied().unwrap_or(64 * 1024),
            snapshot_build_ms_max: random.between(1, 400),
            safety_ms: random.between(8, 24) * 1_000,
            fault_gap_ms_max: random.pick(&gaps).copied().unwrap_or(1_500),
            strikes_max: u64::MAX,
            salt: 0,
            links: 0,
            devices_per_link: 1,
            drift_max: 0,
            faults,
            ways,
            network: NetworkManners::draw(random),
            second_way: NetworkManners::draw_slow(random),
            workload: Workload {
                clients: usize::try_from(random.between(1, 8)).unwrap_or(3),
                keys: random.between(1, 12),
                value_bytes_max: if random.per_mille(250) { 6_000 } else { SMALL_VALUE_BYTES },
                reads: random.between(100, 600),
                operations_max: random.between(300, 3_000),
                think_ms_max: random.between(10, 150),
            },
        };
        if random.per_mille(500) {
            drawn.links = random.between(1, 3);
            drawn.devices_per_link = random.between(1, 2);
            drawn.drift_max = random.below(DRIFT_MAX + 1);
            drawn.faults.extend(Fault::draw_for_devices(random, nodes));
        }
        // Who has little room refuses now and then what it took in before.
        if random.per_mille(250) {
            drawn.uncommitted_bytes_max = random.between(1, 16) * 1024;
        }
        // Drawn last, so that what others chose before it came stays what it was.
        let several = drawn.links > 0 && drawn.nodes >= Fault::LateLease.nodes_min();
        if several && random.per_mille(LATE_LEASES) {
            drawn.faults.push(Fault::LateLease);
        }
        if drawn.nodes >= Fault::Upgrade.nodes_min() && random.per_mille(MIXED_LEVELS) {
            drawn.faults.push(Fault::Upgrade);
        }
        // Whoever is behind catches up step by step, and much can happen between two. With large
        // values on a network that reorders, repeated windows of such messages would be all there is.
        let small_values = drawn.workload.value_bytes_max <= SMALL_VALUE_BYTES;
        if small_values && random.per_mille(SMALL_APPENDS) {
            let sizes = [1, 500, 4_000];
            drawn.append_bytes_max = random.pick(&sizes).copied().unwrap_or(1);
        }
        // The largest sites there are; not drawn, for the same reason.
        if (drawn.nodes, drawn.voters) == (6, 7) {
            drawn.nodes = 7;
        }
        drawn
    }
}
