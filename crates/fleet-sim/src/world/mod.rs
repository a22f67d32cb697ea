//! The simulated site: nodes, network, clients and time, in one place and in one order.
//!
//! Time stands still while anything happens; then it jumps to the next event. Events of one
//! millisecond are carried out in the order in which they were made, after which every node that
//! got an input has one turn, in the order of their ids. Nothing else decides the order, so a
//! seed replays to the byte.
//!
//! - `turn.rs`: a replica's turn, and what it gave out
//! - `life.rs`: starting, crashing, pausing
//! - `clients.rs`: operations and their attempts; `wishes.rs`: what they are about
//! - `histories.rs`: what clients saw, for the judge
//! - `keepers.rs`: the southbound sides of nodes; `field.rs`: links, devices, and wishes for them
//! - `scenario.rs`: what named scenarios do by hand
//! - `operator.rs`: who invites and removes nodes
//! - `nemesis.rs`: who breaks things

mod clients;
mod field;
mod histories;
mod keepers;
mod life;
mod nemesis;
mod operator;
mod queue;
mod scenario;
mod turn;
mod wishes;

use std::collections::{BTreeMap, BTreeSet};

use fleet_log::MemoryDisk;
use fleet_state::{FleetState, NodeId};

pub use clients::ClientFigures;
use clients::Clients;
use nemesis::Nemesis;
use operator::Operator;
use queue::Queue;
pub use scenario::Ended;

use crate::faults::Fault;
use crate::field::Field;
use crate::invariants::{Invariants, Violation, compare_logs};
use crate::network::{Flight, Network};
use crate::node::{Attempt, Life, Node, OLDER};
use crate::random::{Random, mix};
use crate::site::{NodeSecrets, Site};
use crate::swarm::Swarm;
use crate::trace::Trace;

/// Milliseconds between two ticks of a node.
pub const TICK_MS: u64 = 25;
/// Events between two comparisons of all logs with each other.
const COMPARE_EVERY_EVENTS: u64 = 5_000;

/// Something that will happen.
enum Event {
    /// A node's clock strikes; `boot` tells a node that was restarted since.
    Tick(NodeId, u64),
    Frame(Flight),
    Client(usize, u64),
    Operator,
    Nemesis,
    /// A partition ends.
    Heal,
    /// Ways open and close.
    Flap(u32),
    Start(NodeId),
    /// A node's disk is fast again, and has room.
    DiskWell(NodeId),
    Resume(NodeId),
    /// Something arrives at a device.
    Device(Box<keepers::Errand>),
    /// A device's answer arrives.
    Answer(Box<(keepers::Errand, crate::keeper::Answer)>),
    /// Devices are well again.
    DevicesWell,
    /// Somebody turns a device, so many times more.
    Hand(u32),
    /// Somebody turns the devices of a node, so many times more.
    HandOn(NodeId, u32),
    /// A device says unasked what it is, to a node in one start of it.
    Report(NodeId, u64, Box<fleet_device::Observation>),
    /// A node hears nothing of the others until a moment.
    CutOff(NodeId, u64),
    /// A node falls at a moment that was chosen for it; its counter of starts tells which life.
    Fall(NodeId, u64, Fault),
    /// A snapshot has been written.
    Build(NodeId, u64, Box<fleet_consensus::replica::BuildSnapshot<MemoryDisk>>),
}

/// The simulated site.
pub struct World {
    /// What the seed chose.
    pub swarm: Swarm,
    /// What must hold, and what was seen.
    pub invariants: Invariants,
    /// What happened.
    pub trace: Trace,
    /// Faults by how often they happened.
    pub fired: BTreeMap<Fault, u64>,
    site: Site,
    now_ms: u64,
    /// Time that was skipped because all nodes were down.
    slept_ms: u64,
    random: Random,
    nodes: BTreeMap<NodeId, Node>,
    network: Network,
    queue: Queue<Event>,
    /// Nodes that got an input since their last turn.
    due: BTreeSet<NodeId>,
    clients: Clients,
    operator: Operator,
    nemesis: Nemesis,
    /// The devices.
    pub field: Field,
    recent_one_shots: Vec<fleet_state::RequestId>,
    own_commands: u64,
    takeovers: u64,
    attempts_made: Attempt,
    steps: u64,
    disk_faults: u64,
    snapshots_taken: u64,
    snapshots_installed: u64,
}

impl World {
    /// A site that was just founded on one node, with the others on their way.
    ///
    /// # Errors
    /// The first node doesn't start.
    pub fn new(seed: u64, swarm: Swarm, live: bool) -> Result<Self, Violation> {
        let mut random = Random::new(if swarm.salt == 0 { seed } else { seed ^ mix(swarm.salt) });
        let site = Site::new(&mut random);
        let secrets = NodeSecrets::new(name_of(1), &mut random);
        let mut invariants = Invariants::default();
        let mut founder = Node::new(NodeId::FOUNDER, secrets, random.next());
        if swarm.is_mixed() {
            founder.reads = OLDER;
        }
        let wall_ms = founder.clock(0).wall_ms;
        let founding = site.founding(&founder.secrets, swarm.voters, founder.reads, wall_ms);
        invariants.states.begin(FleetState::found(founding), 1);
        invariants.membership.observe(NodeId::FOUNDER, 1, &[NodeId::FOUNDER], &[])?;
        founder
            .found(&site, &swarm)
            .map_err(|e| Violation::new("a site can be founded", e.to_string()))?;
        let mut network = Network::new(crate::swarm::NetworkManners::calm(), random.fork());
        network.set_ways(swarm.ways);
        let mut world = Self {
            clients: Clients::new(&swarm.workload),
            operator: Operator::default(),
            nemesis: Nemesis::default(),
            trace: Trace::new(live),
            nodes: BTreeMap::from([(NodeId::FOUNDER, founder)]),
            fired: BTreeMap::new(),
            queue: Queue::default(),
            due: BTreeSet::new(),
            now_ms: 0,
            slept_ms: 0,
            field: Field::default(),
            recent_one_shots: Vec::new(),
            own_commands: 0,
            takeovers: 0,
            attempts_made: 0,
            steps: 0,
            disk_faults: 0,
            snapshots_taken: 0,
            snapshots_installed: 0,
            swarm,
            invariants,
            site,
            random,
            network,
        };
        world.start(NodeId::FOUNDER)?;
        for _ in 1..world.swarm.nodes {
            world.invite();
        }
        world.register_field();
        world.queue.push(1, Event::Operator);
        Ok(world)
    }

    /// Carries out everything up to a time, or until `done`. Says whether it was done.
    ///
    /// # Errors
    /// An invariant doesn't hold.
    pub fn run_until(
        &mut self,
        until_ms: u64,
        done: impl Fn(&Self) -> bool,
    ) -> Result<bool, Violation> {
        while !done(self) {
            match self.queue.next_ms() {
                Some(at_ms) if at_ms <= until_ms => self.step()?,
                Some(_) | None => {
                    self.turns()?;
                    self.now_ms = until_ms;
                    return Ok(done(self));
                }
            }
        }
        Ok(true)
    }

    /// Carries out so many milliseconds.
    ///
    /// # Errors
    /// An invariant doesn't hold.
    pub fn run_for(&mut self, ms: u64) -> Result<(), Violation> {
        self.run_until(self.now_ms + ms, |_| false).map(|_| ())
    }

    fn step(&mut self) -> Result<(), Violation> {
        let Some(at_ms) = self.queue.next_ms() else {
            return Ok(());
        };
        if at_ms > self.now_ms {
            self.turns()?;
            // The turns may have made something that comes first.
            let Some(at_ms) = self.queue.next_ms() else {
                return Ok(());
            };
            self.now_ms = self.now_ms.max(at_ms);
        }
        let Some(event) = self.queue.pop() else {
            return Ok(());
        };
        self.steps += 1;
        if self.steps.is_multiple_of(COMPARE_EVERY_EVENTS) {
            self.compare_logs()?;
            let (count, frame) = (self.queue.len(), self.swarm.frame_bytes_max);
            self.invariants.bounds.in_flight(count, self.nodes.len(), frame)?;
        }
        self.carry_out(event)
    }

    fn carry_out(&mut self, event: Event) -> Result<(), Violation> {
        match event {
            Event::Tick(node, boot) => self.tick(node, boot),
            Event::Frame(flight) => self.deliver(flight),
            Event::Client(client, wake) => self.client_acts(client, wake),
            Event::Operator => self.operator_acts(),
            Event::Nemesis => self.nemesis_acts(),
            Event::Heal => {
                self.network.heal();
                Ok(())
            }
            Event::Flap(left) => {
                self.flap(left);
                Ok(())
            }
            Event::Start(node) => self.start_if_down(node),
            Event::DiskWell(node) => {
                self.disk_well(node);
                Ok(())
            }
            Event::Resume(node) => self.resume(node),
            Event::Device(errand) => self.arrive(*errand),
            Event::Answer(answer) => self.answer_arrives(answer.0, answer.1),
            Event::DevicesWell => {
                self.field.heal();
                Ok(())
            }
            Event::Hand(left) => {
                self.go_on_turning(left);
                Ok(())
            }
            Event::HandOn(node, left) => {
                self.turn_devices_of(node, left);
                Ok(())
            }
            Event::Report(node, boot, heard) => self.report_arrives(node, boot, &heard),
            Event::CutOff(node, until_ms) => {
                self.cut_off(node, until_ms);
                Ok(())
            }
            Event::Fall(node, boot, why) => {
                self.fall(node, boot, why);
                Ok(())
            }
            Event::Build(node, boot, build) => self.build_snapshot(node, boot, *build),
        }
    }

    /// Compares the logs of all running nodes with each other.
    ///
    /// # Errors
    /// Two contradict each other.
    pub fn compare_logs(&self) -> Result<(), Violation> {
        let logs: Vec<_> = self
            .nodes
            .values()
            .filter_map(|node| Some((node.id, node.replica.as_ref()?.log())))
            .collect();
        compare_logs(&logs)
    }

    /// Now.
    #[must_use]
    pub fn now_ms(&self) -> u64 {
        self.now_ms
    }

    /// What a right wall clock would show to have passed since the beginning.
    #[must_use]
    pub fn passed_ms(&self) -> u64 {
        self.now_ms + self.slept_ms
    }

    /// Events carried out.
    #[must_use]
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// All nodes that ever were.
    pub fn nodes(&self) -> impl Iterator<Item = &Node> {
        self.nodes.values()
    }

    /// One node.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.get(&id)
    }

    /// Ids of the nodes that run.
    #[must_use]
    pub fn running(&self) -> Vec<NodeId> {
        self.nodes.values().filter(|n| n.is_running()).map(|n| n.id).collect()
    }

    /// The running node that leads in the highest term.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        let leading = self.nodes.values().filter(|node| node.is_running()).filter_map(|node| {
            let replica = node.replica.as_ref().filter(|replica| replica.is_leader())?;
            Some((replica.term_and_commit().0, node.id))
        });
        leading.max().map(|(_, node)| node)
    }

    /// The network, to be cut and healed.
    pub fn network_mut(&mut self) -> &mut Network {
        &mut self.network
    }

    /// The network.
    #[must_use]
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// (disk faults that happened, snapshots taken, snapshots installed).
    #[must_use]
    pub fn counts(&self) -> (u64, u64, u64) {
        (self.disk_faults, self.snapshots_taken, self.snapshots_installed)
    }

    /// Whether a member that still counts is not running.
    #[must_use]
    pub fn anyone_down(&self) -> bool {
        self.nodes.values().any(|n| matches!(n.life, Life::Down | Life::Paused))
    }
}

fn name_of(number: u64) -> fleet_state::NodeName {
    format!("node-{number}").parse().expect("a valid node name")
}
