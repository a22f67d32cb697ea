//! A run: the site grows, suffers, and must recover.

use std::collections::BTreeMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};

use fleet_state::limits::FEATURE_LEVEL;

use crate::faults::Fault;
use crate::invariants::Violation;
use crate::network::Traffic;
use crate::node::Life;
use crate::random::Random;
use crate::swarm::Swarm;
use crate::world::{ClientFigures, TICK_MS, World};

/// Time in which a site without faults has to grow to its size.
const GROWTH_MS_MAX: u64 = 30_000;
/// The faults go on until all that were chosen have happened, so many times longer, or until each
/// has had its turns.
const PATIENCE: u64 = 4;
/// Ticks after which a calm site must have converged: all members with equal states, every
/// change of membership carried out, writes and reads answered.
pub const CALM_TICKS_MAX: u64 = 800;
/// Calm in which clients go on until they were answered a few times.
const CALM_LOAD_MS: u64 = 10_000;
/// Fewer answered operations in a run prove nothing.
const PROGRESS_MIN: u64 = 5;

/// What a run did.
#[derive(Clone, Debug)]
pub struct Report {
    /// Its seed.
    pub seed: u64,
    /// Hash of everything that happened.
    pub trace_hash: u64,
    /// Events carried out.
    pub steps: u64,
    /// Simulated time.
    pub simulated_ms: u64,
    /// Ticks from calm to convergence.
    pub calm_ticks: u64,
    /// What clients saw.
    pub clients: ClientFigures,
    /// What the network did.
    pub traffic: Traffic,
    /// Faults that happened.
    pub fired: BTreeMap<Fault, u64>,
    /// Terms with a leader.
    pub terms: usize,
    /// Configurations.
    pub configurations: usize,
    /// Committed entries.
    pub committed: u64,
    /// Disk faults that happened, snapshots taken, snapshots installed.
    pub counts: (u64, u64, u64),
    /// Ends of operations that the general judge explained, of so many.
    pub judged: (u64, u64),
    /// Hand-overs to devices, writes and one-shots that arrived, links taken from an owner.
    pub field: [u64; 4],
}

/// A run that failed.
#[derive(Clone, Debug)]
pub struct Failure {
    /// Its seed.
    pub seed: u64,
    /// After so many events.
    pub step: u64,
    /// At this time.
    pub at_ms: u64,
    /// What doesn't hold.
    pub violation: Violation,
    /// The last events of each node.
    pub last_events: String,
    /// What was chosen otherwise than the seed would, as options.
    pub options: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.last_events)?;
        writeln!(f, "seed {} failed at step {} ({} ms)", self.seed, self.step, self.at_ms)?;
        writeln!(f, "{}", self.violation)?;
        let (seed, options) = (self.seed, &self.options);
        write!(f, "replay: cargo run --profile sim -p fleet-sim -- --seed {seed}{options} -v")
    }
}

impl std::error::Error for Failure {}

/// Runs what a seed chooses.
///
/// # Errors
/// An invariant doesn't hold, or the run proves nothing.
pub fn run_seed(seed: u64, live: bool) -> Result<Report, Box<Failure>> {
    let mut random = Random::new(!seed);
    run_swarm(seed, Swarm::draw(&mut random), live)
}

/// Runs a seed with chosen settings.
///
/// # Errors
/// An invariant doesn't hold, or the run proves nothing.
pub fn run_swarm(seed: u64, swarm: Swarm, live: bool) -> Result<Report, Box<Failure>> {
    let options = crate::shrink::options(seed, &swarm);
    let failed = |violation, world: Option<&World>| {
        Box::new(Failure {
            seed,
            options: options.clone(),
            step: world.map_or(0, World::steps),
            at_ms: world.map_or(0, World::now_ms),
            violation,
            last_events: world.map_or_else(String::new, |w| w.trace.to_string()),
        })
    };
    let mut world = World::new(seed, swarm, live).map_err(|v| failed(v, None))?;
    // A panic inside a replica is a finding like any other.
    let ended = catch_unwind(AssertUnwindSafe(|| phases(&mut world)));
    match ended {
        Ok(Ok(calm_ticks)) => Ok(report(seed, &world, calm_ticks)),
        Ok(Err(violation)) => Err(failed(violation, Some(&world))),
        Err(panic) => {
            let what = panic
                .downcast_ref::<String>()
                .cloned()
                .or_else(|| panic.downcast_ref::<&str>().map(ToString::to_string));
            let violation = Violation::new("no panic", what.unwrap_or_default());
            Err(failed(violation, Some(&world)))
        }
    }
}

fn phases(world: &mut World) -> Result<u64, Violation> {
    // 1. The site grows.
    let grown = world.run_until(GROWTH_MS_MAX, |w| w.has_grown())?;
    if !grown {
        return Err(Violation::new("liveness", "the site did not grow to its size"));
    }
    // 2. Safety, under load and faults.
    world.start_clients();
    world.start_faults();
    let safety_ms = world.swarm.safety_ms;
    let began_ms = world.now_ms();
    world.run_for(safety_ms)?;
    let patience_ms = began_ms + PATIENCE * safety_ms;
    if !world.unfired().is_empty() {
        let patience_ms = world.last_chance().max(patience_ms);
        world.run_until(patience_ms, |w| w.unfired().is_empty())?;
    }
    // 3. Calm, then liveness.
    world.stop_faults()?;
    let calm_ms = world.now_ms();
    world.wake_idle_clients();
    world.run_until(calm_ms + CALM_LOAD_MS, World::has_progressed)?;
    world.stop_clients();
    let deadline_ms = calm_ms + CALM_TICKS_MAX * TICK_MS;
    world.run_until(deadline_ms, World::clients_idle)?;
    world.wish_for_good();
    if !world.run_until(deadline_ms, World::has_converged)? {
        return Err(Violation::new("liveness", world.why_not_converged()));
    }
    let calm_ticks = (world.now_ms() - calm_ms) / TICK_MS;
    // 4. What only the end can tell.
    world.compare_logs()?;
    world.invariants.answers.check_refused()?;
    world.invariants.histories.check()?;
    world.check_field()?;
    prove_worth(world)?;
    Ok(calm_ticks)
}

fn prove_worth(world: &World) -> Result<(), Violation> {
    let unfired = world.unfired();
    if !unfired.is_empty() {
        let words: Vec<&str> = unfired.iter().map(|fault| fault.as_str()).collect();
        return Err(Violation::new("planned faults happen", words.join(", ")));
    }
    let [left, ..] = world.field_counts();
    if !world.has_progressed() || world.swarm.links > 0 && left == 0 {
        let what = format!("{:?}, {left} left for devices", world.client_figures());
        return Err(Violation::new("progress", what));
    }
    Ok(())
}

fn report(seed: u64, world: &World, calm_ticks: u64) -> Report {
    Report {
        seed,
        trace_hash: world.trace.hash(),
        steps: world.steps(),
        simulated_ms: world.now_ms(),
        calm_ticks,
        clients: world.client_figures(),
        traffic: world.network().traffic(),
        fired: world.fired.clone(),
        terms: world.invariants.election.terms(),
        configurations: world.invariants.membership.changes(),
        committed: world.invariants.committed.last_index(),
        counts: world.counts(),
        judged: (world.invariants.histories.judged(), world.invariants.histories.heard()),
        field: world.field_counts(),
    }
}

impl World {
    /// Whether everybody who was invited at the start takes part.
    #[must_use]
    pub fn has_grown(&self) -> bool {
        let (voters, learners) = self.invariants.membership.newest();
        let size = self.swarm.nodes;
        let wanted = usize::from(self.swarm.voters).min(if size.is_multiple_of(2) {
            size - 1
        } else {
            size
        });
        self.operator_idle() && voters.len() == wanted && voters.len() + learners.len() == size
    }

    /// Whether clients were answered often enough for the run to mean something.
    #[must_use]
    pub fn has_progressed(&self) -> bool {
        let figures = self.client_figures();
        figures.decided + figures.read >= PROGRESS_MIN && figures.decided > 0
    }

    /// Whether all members have one state, nobody waits, and every wish was carried out.
    #[must_use]
    pub fn has_converged(&self) -> bool {
        self.why_not().is_none()
    }

    /// What is missing.
    #[must_use]
    pub fn why_not_converged(&self) -> String {
        let nodes: Vec<String> = self
            .nodes()
            .map(|node| {
                let standing = node.replica.as_ref().map(|r| r.view().standing);
                let refused: Vec<_> =
                    node.replica.iter().flat_map(|r| r.counters().refused()).collect();
                let key = if node.site_key.is_some() { "with" } else { "without" };
                format!(
                    "node {} is {:?}, {key} the site key: {standing:?}, refused {refused:?}",
                    node.id, node.life
                )
            })
            .collect();
        format!("{}\n{}", self.why_not().unwrap_or_default(), nodes.join("\n"))
    }

    fn why_not(&self) -> Option<String> {
        if !self.clients_idle() {
            return Some("a client waits for its answer".to_owned());
        }
        if !self.operator_idle() {
            return Some("the operator's wishes are not carried out".to_owned());
        }
        let Some(leader) = self.leader() else {
            return Some("there is no leader".to_owned());
        };
        let (state, _) = self.invariants.states.reference()?;
        if let Some(going) = state.members().find(|m| m.leaving && m.is_live()) {
            return Some(format!("node {} is still being removed", going.id));
        }
        // Who is gone and was not removed holds the site back.
        let stays = |id| self.node(id).is_some_and(|node| node.life != Life::Gone);
        let live = || state.members().filter(|m| m.is_live());
        if live().all(|m| stays(m.id)) && state.feature_level() < FEATURE_LEVEL {
            return Some(format!("the site has feature level {}", state.feature_level()));
        }
        let reads = |id| self.node(id).map_or(0, |node| node.reads);
        if let Some(other) = live().find(|m| stays(m.id) && m.feature_level != reads(m.id)) {
            return Some(format!("the log has another level of node {}", other.id));
        }
        let last = self.node(leader)?.replica.as_ref()?.log().last_index();
        let (voters, learners) = self.invariants.membership.newest();
        for id in voters.iter().chain(&learners) {
            let Some(node) = self.node(*id) else {
                return Some(format!("member {id} has no node"));
            };
            if node.life == Life::Gone {
                continue;
            }
            let applied = node.replica.as_ref().filter(|_| node.is_running());
            let applied = applied.map_or(0, |replica| replica.applied().get());
            if applied != last {
                return Some(format!("node {id} has applied {applied} of {last}"));
            }
        }
        self.why_field_waits(state)
    }
}
