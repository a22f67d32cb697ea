//! Which way frames to a node take: pure, with time as an argument.
//!
//! NATS is preferred while it works. It does not work for a node when the client says that it
//! is disconnected or that its server is about to go, and when nothing came from the node over
//! NATS for two heartbeats while frames from it kept coming over the mesh: that is how a server
//! that stands still, or that reaches only some nodes, is told from a node that is down. The
//! way back is slower on purpose: NATS must have carried the node's frames without a gap for a
//! while, or a flapping server would make the frames flap.
//!
//! What is urgent is never chosen for: it goes by every way that is open. That keeps elections
//! and leases alive through any change of ways, and is what proves the ways.
//!
//! Silence is judged by what the other way carries, not by the clock alone: two nodes that have
//! nothing to say to each other are silent on both ways, and that says nothing about either.
//! Tests: the tables below.

use std::collections::BTreeMap;

use fleet_consensus::frame::Path;
use fleet_state::NodeId;

use super::table::WaySeen;

/// Nodes that are followed at most; ids come from the replicated members, which are fewer.
const NODES_MAX: usize = 1_024;

/// Which ways may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WayMode {
    /// NATS while it works, the mesh as soon as it does not.
    Auto,
    /// Only NATS.
    Nats,
    /// Only the mesh.
    Mesh,
}

/// When ways are changed.
#[derive(Clone, Copy, Debug)]
pub struct ChoiceConfig {
    /// Which ways may be used.
    pub mode: WayMode,
    /// A way on which a node is not heard for this long, while the other way carries its
    /// frames, is silent.
    pub silent_ms: u64,
    /// NATS is taken again after it has carried a node's frames for this long.
    pub back_ms: u64,
}

/// What the NATS client says of its connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NatsState {
    /// It is connected.
    Up,
    /// Its server is about to go: frames still pass, and soon won't.
    Leaving,
    /// It is not connected.
    Down,
}

/// Which ways to a node are open now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Open {
    /// The connection to NATS.
    pub(super) nats: NatsState,
    /// Whether the node is connected over the mesh.
    pub(super) mesh: bool,
}

/// Why the way was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Why {
    /// NATS is disconnected.
    NatsDown,
    /// The NATS server is about to go.
    NatsLeaving,
    /// The node is not heard over NATS and is over the mesh.
    NatsSilent,
    /// NATS has carried the node's frames for long enough.
    NatsProven,
    /// The node is not connected over the mesh any more.
    MeshDown,
    /// The node is not heard over the mesh and is over NATS.
    MeshSilent,
}

impl Why {
    /// The reason in words, for the log.
    #[must_use]
    pub(super) const fn as_str(self) -> &'static str {
        match self {
            Self::NatsDown => "NATS is disconnected",
            Self::NatsLeaving => "the NATS server is about to go",
            Self::NatsSilent => "the node is heard over the mesh and not over NATS",
            Self::NatsProven => "NATS carries the node's frames again",
            Self::MeshDown => "the node is not connected over the mesh",
            Self::MeshSilent => "the node is heard over NATS and not over the mesh",
        }
    }
}

/// A change of the way to a node.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Switch {
    /// The new way.
    pub(super) to: Path,
    /// Why.
    pub(super) why: Why,
}

/// When a node was heard on one way.
#[derive(Clone, Copy, Debug, Default)]
struct Seen {
    last_ms: Option<u64>,
    /// Since when the other way alone carries its frames: the first frame there after the last
    /// one here.
    missing_since_ms: Option<u64>,
}

/// What is known of one node.
#[derive(Clone, Copy, Debug)]
struct Lane {
    way: Path,
    /// The way that was taken last.
    used: Option<Path>,
    nats: Seen,
    mesh: Seen,
    /// Since when NATS carries its frames without a gap.
    proven_since_ms: Option<u64>,
}

impl Lane {
    const fn new(way: Path) -> Self {
        let seen = Seen { last_ms: None, missing_since_ms: None };
        Self { way, used: None, nats: seen, mesh: seen, proven_since_ms: None }
    }

    fn note(&mut self, path: Path, now_ms: u64, gap_ms: u64) {
        let (here, there) = match path {
            Path::Nats => (&mut self.nats, &mut self.mesh),
            Path::Mesh => (&mut self.mesh, &mut self.nats),
        };
        let gap = here.last_ms.is_none_or(|last| now_ms.saturating_sub(last) > gap_ms);
        here.last_ms = Some(now_ms);
        here.missing_since_ms = None;
        // After a time in which both had nothing to say the count begins anew.
        if gap || there.missing_since_ms.is_none() {
            there.missing_since_ms = Some(now_ms);
        }
        if path == Path::Nats && (gap || self.proven_since_ms.is_none()) {
            self.proven_since_ms = Some(now_ms);
        }
    }

    /// Whether the other way goes on carrying the node's frames, and this one does not.
    fn is_silent(&self, path: Path, now_ms: u64, config: &ChoiceConfig) -> bool {
        let (here, there) = match path {
            Path::Nats => (&self.nats, &self.mesh),
            Path::Mesh => (&self.mesh, &self.nats),
        };
        let (Some(since), Some(last)) = (here.missing_since_ms, there.last_ms) else {
            return false;
        };
        last.saturating_sub(since) >= config.silent_ms
            && now_ms.saturating_sub(last) <= config.gap_ms()
    }

    fn is_proven(&self, now_ms: u64, config: &ChoiceConfig) -> bool {
        let (Some(since), Some(last)) = (self.proven_since_ms, self.nats.last_ms) else {
            return false;
        };
        last.saturating_sub(since) >= config.back_ms
            && now_ms.saturating_sub(last) <= config.gap_ms()
    }

    fn next(&self, open: Open, now_ms: u64, config: &ChoiceConfig) -> Option<Why> {
        match (self.way, open.mesh, open.nats) {
            (Path::Nats, true, NatsState::Down) => Some(Why::NatsDown),
            (Path::Nats, true, NatsState::Leaving) => Some(Why::NatsLeaving),
            (Path::Nats, true, NatsState::Up) => {
                self.is_silent(Path::Nats, now_ms, config).then_some(Why::NatsSilent)
            }
            (Path::Mesh, false, NatsState::Up | NatsState::Leaving) => Some(Why::MeshDown),
            (Path::Mesh, true, NatsState::Up) if self.is_silent(Path::Mesh, now_ms, config) => {
                Some(Why::MeshSilent)
            }
            (Path::Mesh, true, NatsState::Up) => {
                self.is_proven(now_ms, config).then_some(Why::NatsProven)
            }
            (Path::Nats, false, _) | (Path::Mesh, _, _) => None,
        }
    }
}

impl ChoiceConfig {
    /// A node that says nothing for longer has nothing to say.
    const fn gap_ms(&self) -> u64 {
        self.silent_ms.saturating_mul(2)
    }
}

/// The ways to all nodes.
#[derive(Debug)]
pub(super) struct Choices {
    config: ChoiceConfig,
    lanes: BTreeMap<NodeId, Lane>,
}

impl Choices {
    /// Nothing is known of any node yet.
    #[must_use]
    pub(super) const fn new(config: ChoiceConfig) -> Self {
        Self { config, lanes: BTreeMap::new() }
    }

    /// Which ways may be used.
    #[must_use]
    pub(super) const fn mode(&self) -> WayMode {
        self.config.mode
    }

    /// An authentic frame came from a node.
    pub(super) fn heard(&mut self, from: NodeId, path: Path, now_ms: u64) {
        let gap_ms = self.config.gap_ms();
        if let Some(lane) = self.lane(from) {
            lane.note(path, now_ms, gap_ms);
        }
    }

    /// The way to take to a node, `None` while none is open, and whether that is a change.
    pub(super) fn choose(
        &mut self,
        to: NodeId,
        open: Open,
        now_ms: u64,
    ) -> (Option<Path>, Option<Switch>) {
        let nats = (open.nats != NatsState::Down).then_some(Path::Nats);
        let mesh = open.mesh.then_some(Path::Mesh);
        match self.config.mode {
            WayMode::Nats => return (nats, None),
            WayMode::Mesh => return (mesh, None),
            WayMode::Auto => {}
        }
        let config = self.config;
        let Some(lane) = self.lane(to) else {
            return (nats.or(mesh), None);
        };
        let switch = lane.next(open, now_ms, &config).map(|why| {
            let to = match why {
                Why::NatsDown | Why::NatsLeaving | Why::NatsSilent => Path::Mesh,
                Why::NatsProven | Why::MeshDown | Why::MeshSilent => Path::Nats,
            };
            lane.way = to;
            // What was proven before counts no more.
            lane.proven_since_ms = None;
            Switch { to, why }
        });
        let way = match lane.way {
            Path::Nats => nats,
            Path::Mesh => mesh,
        };
        (way, switch)
    }

    /// What is known of every node.
    pub(super) fn seen(&self) -> BTreeMap<NodeId, WaySeen> {
        let seen = |lane: &Lane| WaySeen {
            way: lane.used,
            nats_ms: lane.nats.last_ms,
            mesh_ms: lane.mesh.last_ms,
        };
        self.lanes.iter().map(|(node, lane)| (*node, seen(lane))).collect()
    }

    /// Frames to a node went by a way.
    pub(super) fn used(&mut self, to: NodeId, path: Path) {
        if let Some(lane) = self.lane(to) {
            lane.used = Some(path);
        }
    }

    fn lane(&mut self, node: NodeId) -> Option<&mut Lane> {
        if self.lanes.len() >= NODES_MAX && !self.lanes.contains_key(&node) {
            return None;
        }
        Some(self.lanes.entry(node).or_insert(Lane::new(Path::Nats)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const CONFIG: ChoiceConfig =
        ChoiceConfig { mode: WayMode::Auto, silent_ms: 100, back_ms: 1_000 };
    const BOTH: Open = Open { nats: NatsState::Up, mesh: true };
    const NATS_ONLY: Open = Open { nats: NatsState::Up, mesh: false };

    fn node() -> NodeId {
        NodeId::new(2).unwrap()
    }

    /// A node that sends on the given ways every 50 ms, and what was chosen after each.
    struct Clock {
        choices: Choices,
        now_ms: u64,
        switches: Vec<(u64, Switch)>,
    }

    impl Clock {
        fn new() -> Self {
            Self { choices: Choices::new(CONFIG), now_ms: 1_000, switches: Vec::new() }
        }

        fn run(&mut self, for_ms: u64, ways: &[Path], open: Open) -> Option<Path> {
            let mut way = None;
            for _ in 0..for_ms / 50 {
                self.now_ms += 50;
                for path in ways {
                    self.choices.heard(node(), *path, self.now_ms);
                    self.now_ms += 1;
                    let (chosen, switch) = self.choices.choose(node(), open, self.now_ms);
                    self.switches.extend(switch.map(|switch| (self.now_ms, switch)));
                    way = chosen;
                }
                if ways.is_empty() {
                    let (chosen, switch) = self.choices.choose(node(), open, self.now_ms);
                    self.switches.extend(switch.map(|switch| (self.now_ms, switch)));
                    way = chosen;
                }
            }
            way
        }

        fn reasons(&self) -> Vec<Why> {
            self.switches.iter().map(|(_, switch)| switch.why).collect()
        }
    }

    #[test]
    fn nats_is_taken_while_it_works() {
        let mut clock = Clock::new();
        assert_eq!(clock.run(10_000, &[Path::Mesh, Path::Nats], BOTH), Some(Path::Nats));
        assert_eq!(clock.run(10_000, &[Path::Nats, Path::Mesh], BOTH), Some(Path::Nats));
        assert_eq!(clock.run(10_000, &[Path::Nats], NATS_ONLY), Some(Path::Nats));
        assert!(clock.switches.is_empty(), "{:?}", clock.switches);
    }

    #[test]
    fn the_mesh_takes_over_and_gives_back() {
        for (open, ways, why) in [
            (Open { nats: NatsState::Down, mesh: true }, vec![Path::Mesh], Why::NatsDown),
            (
                Open { nats: NatsState::Leaving, mesh: true },
                vec![Path::Nats, Path::Mesh],
                Why::NatsLeaving,
            ),
            (BOTH, vec![Path::Mesh], Why::NatsSilent),
        ] {
            let mut clock = Clock::new();
            clock.run(2_000, &[Path::Nats, Path::Mesh], BOTH);
            let fault_ms = clock.now_ms;
            assert_eq!(clock.run(5_000, &ways, open), Some(Path::Mesh), "{why:?}");
            let (at_ms, _) = clock.switches[0];
            assert!(at_ms <= fault_ms + 200, "{why:?}: after {} ms", at_ms - fault_ms);
            let back_ms = clock.now_ms;
            let way = clock.run(5_000, &[Path::Nats, Path::Mesh], BOTH);
            assert_eq!(way, Some(Path::Nats), "{why:?}");
            assert_eq!(clock.reasons(), [why, Why::NatsProven], "{why:?}");
            let (at_ms, _) = clock.switches[1];
            assert!((1_000..1_200).contains(&(at_ms - back_ms)) || why == Why::NatsLeaving);
        }
    }

    #[test]
    fn a_node_that_is_down_changes_nothing() {
        let mut clock = Clock::new();
        clock.run(2_000, &[Path::Nats, Path::Mesh], BOTH);
        assert_eq!(clock.run(20_000, &[], BOTH), Some(Path::Nats));
        // Back after a while, first on the mesh: both were silent, so neither is to blame.
        assert_eq!(clock.run(5_000, &[Path::Mesh, Path::Nats], BOTH), Some(Path::Nats));
        assert!(clock.switches.is_empty(), "{:?}", clock.switches);
    }

    #[test]
    fn a_flapping_server_does_not_make_the_frames_flap() {
        let mut clock = Clock::new();
        clock.run(2_000, &[Path::Nats, Path::Mesh], BOTH);
        for _ in 0..20 {
            clock.run(600, &[Path::Mesh], BOTH);
            clock.run(600, &[Path::Nats, Path::Mesh], BOTH);
        }
        assert_eq!(clock.reasons(), [Why::NatsSilent]);
    }

    #[test]
    fn a_mesh_that_breaks_gives_way_at_once() {
        for (open, ways, why) in [
            (NATS_ONLY, vec![Path::Nats], Why::MeshDown),
            (BOTH, vec![Path::Nats], Why::MeshSilent),
        ] {
            let mut clock = Clock::new();
            clock.run(2_000, &[Path::Mesh], Open { nats: NatsState::Down, mesh: true });
            let fault_ms = clock.now_ms;
            assert_eq!(clock.run(500, &ways, open), Some(Path::Nats), "{why:?}");
            let (at_ms, _) = *clock.switches.last().unwrap();
            assert!(at_ms <= fault_ms + 200, "{why:?}: after {} ms", at_ms - fault_ms);
            assert_eq!(clock.reasons(), [Why::NatsDown, why]);
        }
    }

    #[test]
    fn without_an_open_way_there_is_none() {
        let closed = Open { nats: NatsState::Down, mesh: false };
        for mode in [WayMode::Auto, WayMode::Nats, WayMode::Mesh] {
            let mut choices = Choices::new(ChoiceConfig { mode, ..CONFIG });
            assert_eq!(choices.choose(node(), closed, 1), (None, None), "{mode:?}");
        }
    }

    #[test]
    fn a_fixed_way_is_kept() {
        for (mode, want) in [(WayMode::Nats, Path::Nats), (WayMode::Mesh, Path::Mesh)] {
            let mut choices = Choices::new(ChoiceConfig { mode, ..CONFIG });
            for now_ms in (0..10_000).step_by(50) {
                choices.heard(
                    node(),
                    if want == Path::Nats { Path::Mesh } else { Path::Nats },
                    now_ms,
                );
                assert_eq!(choices.choose(node(), BOTH, now_ms), (Some(want), None));
            }
        }
    }

    #[test]
    fn nodes_are_bounded() {
        let mut choices = Choices::new(CONFIG);
        for id in 1..3_000 {
            choices.heard(NodeId::new(id).unwrap(), Path::Mesh, 1);
        }
        assert_eq!(choices.lanes.len(), NODES_MAX);
    }
}
