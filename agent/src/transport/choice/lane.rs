//! What is known of one node, and what follows from it for the way to it.

use fleet_consensus::frame::{Arrival, Class, Path};

use super::{ChoiceConfig, NatsState, Open, Why};

/// Heartbeats of evidence that make a way silent, and the frames that they must come from.
const SILENT_HEARTBEATS: u64 = 3;
const SILENT_FRAMES: u32 = 4;
/// NATS that is left again within so many of the times that it had to prove itself has to prove
/// itself for twice as long, up to the longest.
const LASTED: u64 = 10;
const BACK_MS_MAX: u64 = 60_000;
/// Without a word on either way for so many of these times, NATS is as good as the mesh.
const IDLE: u64 = 5;

/// What was heard of a node on one way.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Seen {
    pub(super) last_ms: Option<u64>,
    /// When something came that went by every way.
    urgent_ms: Option<u64>,
    /// For how long, and how often, the other way alone carried what went by both.
    alone_ms: u64,
    alone_frames: u32,
}

/// What is known of one node.
#[derive(Clone, Copy, Debug)]
pub(super) struct Lane {
    pub(super) way: Path,
    /// The way that was taken last.
    pub(super) used: Option<Path>,
    pub(super) nats: Seen,
    pub(super) mesh: Seen,
    /// On which way the node does not hear this one, and when it said so last.
    unheard: Option<(Path, u64)>,
    /// Since when NATS carries its frames without a gap.
    proven_since_ms: Option<u64>,
    /// For how long NATS has to do that, and when it had done it last.
    back_ms: u64,
    proven_ms: Option<u64>,
    /// When the way was changed last.
    switched_ms: u64,
}

impl Lane {
    pub(super) fn new(way: Path, config: &ChoiceConfig) -> Self {
        Self {
            way,
            used: None,
            nats: Seen::default(),
            mesh: Seen::default(),
            unheard: None,
            proven_since_ms: None,
            back_ms: config.back_ms,
            proven_ms: None,
            switched_ms: 0,
        }
    }

    /// When the node was heard last.
    pub(super) fn heard_ms(&self) -> Option<u64> {
        self.nats.last_ms.max(self.mesh.last_ms)
    }

    const fn seen(&self, path: Path) -> &Seen {
        match path {
            Path::Nats => &self.nats,
            Path::Mesh => &self.mesh,
        }
    }

    pub(super) fn note(&mut self, arrival: Arrival, now_ms: u64, config: &ChoiceConfig) {
        let beat_ms = config.heartbeat_ms();
        self.unheard = arrival.unheard.map(|path| (path, now_ms));
        let (here, there) = match arrival.path {
            Path::Nats => (&mut self.nats, &mut self.mesh),
            Path::Mesh => (&mut self.mesh, &mut self.nats),
        };
        if arrival.path == Path::Nats {
            let paused = is_older(here.last_ms, config.silent_ms, now_ms);
            let missed = here.alone_ms >= 2 * beat_ms || arrival.unheard == Some(Path::Nats);
            if paused || missed || self.proven_since_ms.is_none() {
                self.proven_since_ms = Some(now_ms);
            }
        }
        here.last_ms = Some(now_ms);
        (here.alone_ms, here.alone_frames) = (0, 0);
        if arrival.class != Class::Urgent {
            return;
        }
        if is_older(here.urgent_ms, config.gap_ms(), now_ms) {
            // Both had nothing to say: the count begins anew.
            (there.alone_ms, there.alone_frames) = (0, 0);
        } else {
            let since_ms = here.urgent_ms.max(there.last_ms).unwrap_or(now_ms);
            let alone_ms = now_ms.saturating_sub(since_ms).min(beat_ms);
            there.alone_ms = there.alone_ms.saturating_add(alone_ms);
        }
        there.alone_frames = there.alone_frames.saturating_add(1);
        here.urgent_ms = Some(now_ms);
    }

    /// Whether the other way goes on carrying the node's frames, and this one does not.
    pub(super) fn is_silent(&self, path: Path, now_ms: u64, config: &ChoiceConfig) -> bool {
        let (here, there) = (self.seen(path), self.seen(path.other()));
        here.alone_frames >= SILENT_FRAMES
            && here.alone_ms >= SILENT_HEARTBEATS * config.heartbeat_ms()
            && !is_older(there.urgent_ms, config.gap_ms(), now_ms)
    }

    /// Whether the node says now that it does not hear this one on a way.
    pub(super) fn is_unheard(&self, path: Path, now_ms: u64, config: &ChoiceConfig) -> bool {
        self.unheard.is_some_and(|(unheard, said_ms)| {
            unheard == path && !is_older(Some(said_ms), config.gap_ms(), now_ms)
        })
    }

    fn is_proven(&self, now_ms: u64, config: &ChoiceConfig) -> bool {
        let (Some(since), Some(last)) = (self.proven_since_ms, self.nats.last_ms) else {
            return false;
        };
        last.saturating_sub(since) >= self.back_ms
            && !is_older(Some(last), config.gap_ms(), now_ms)
            && self.nats.alone_ms < config.heartbeat_ms()
    }

    /// Whether there is nothing by which to judge the ways, and was nothing since the last change.
    fn says_nothing(&self, now_ms: u64, config: &ChoiceConfig) -> bool {
        let idle_ms = config.back_ms.saturating_mul(IDLE);
        let urgent_ms = self.nats.urgent_ms.max(self.mesh.urgent_ms);
        is_older(urgent_ms, idle_ms, now_ms) && is_older(Some(self.switched_ms), idle_ms, now_ms)
    }

    pub(super) fn next(&self, open: Open, now_ms: u64, config: &ChoiceConfig) -> Option<Why> {
        let silent = |path| self.is_silent(path, now_ms, config);
        let unheard = |path| self.is_unheard(path, now_ms, config);
        match (self.way, open.mesh, open.nats) {
            (Path::Nats, true, NatsState::Down) => Some(Why::NatsDown),
            (Path::Nats, true, NatsState::Leaving) => Some(Why::NatsLeaving),
            (Path::Nats, true, NatsState::Up) if silent(Path::Nats) => Some(Why::NatsSilent),
            (Path::Nats, true, NatsState::Up) if unheard(Path::Nats) => Some(Why::NatsUnheard),
            (Path::Mesh, false, NatsState::Up | NatsState::Leaving) => Some(Why::MeshDown),
            (Path::Mesh, true, NatsState::Up) if silent(Path::Mesh) => Some(Why::MeshSilent),
            (Path::Mesh, true, NatsState::Up) if unheard(Path::Mesh) => Some(Why::MeshUnheard),
            (Path::Mesh, true, NatsState::Up) if self.is_proven(now_ms, config) => {
                Some(Why::NatsProven)
            }
            (Path::Mesh, true, NatsState::Up) if self.says_nothing(now_ms, config) => {
                Some(Why::NothingSaid)
            }
            (Path::Nats, _, _) | (Path::Mesh, _, _) => None,
        }
    }

    pub(super) fn change(&mut self, why: Why, now_ms: u64, config: &ChoiceConfig) -> Path {
        self.way = match why {
            Why::NatsDown | Why::NatsLeaving | Why::NatsSilent | Why::NatsUnheard => Path::Mesh,
            Why::NatsProven
            | Why::NothingSaid
            | Why::MeshDown
            | Why::MeshSilent
            | Why::MeshUnheard => Path::Nats,
        };
        match why {
            Why::NatsProven => self.proven_ms = Some(now_ms),
            Why::NatsSilent | Why::NatsUnheard => self.damp(now_ms, config),
            // What the client says is no matter of opinion, and costs nothing to believe.
            Why::NatsDown
            | Why::NatsLeaving
            | Why::NothingSaid
            | Why::MeshDown
            | Why::MeshSilent
            | Why::MeshUnheard => {}
        }
        // What was proven before counts no more.
        self.proven_since_ms = None;
        self.switched_ms = now_ms;
        self.way
    }

    /// NATS had proved itself and is left all the same.
    fn damp(&mut self, now_ms: u64, config: &ChoiceConfig) {
        let Some(proven_ms) = self.proven_ms else { return };
        let lasted_ms = now_ms.saturating_sub(proven_ms);
        if lasted_ms >= BACK_MS_MAX {
            self.back_ms = config.back_ms;
        } else if lasted_ms <= self.back_ms.saturating_mul(LASTED) {
            self.back_ms = self.back_ms.saturating_mul(2).min(BACK_MS_MAX);
        }
    }
}

/// Whether something is longer ago than this, or never was.
fn is_older(at_ms: Option<u64>, than_ms: u64, now_ms: u64) -> bool {
    at_ms.is_none_or(|at_ms| now_ms.saturating_sub(at_ms) > than_ms)
}
