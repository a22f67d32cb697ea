//! Wall clocks that jump, as seen by one agent.
//!
//! A library between the agent and the system adds to the time of day what a file says. The
//! monotonic clock stays what it is: no clock jump of a real machine moves it.

use std::path::{Path, PathBuf};

use crate::agent::Agent;
use crate::programs;

/// Jumps that are drawn from: a day, a month, ten years, each way.
pub(super) const JUMPS: [&str; 6] = ["+1d", "-1d", "+31d", "-31d", "+3650d", "-3650d"];

/// As in "2026-11-28".
const DAY_BYTES: usize = 10;

/// The clock of one agent.
#[derive(Debug)]
pub(super) struct Clock {
    file: PathBuf,
}

impl Clock {
    /// Gives an agent a clock of its own, from its next start on; an error says why it can't be.
    pub(super) fn give(agent: &mut Agent, workplace: &Path) -> Result<Self, String> {
        let library =
            programs::faketime().ok_or("there is no libfaketime; run `make fault-tools`")?;
        let file = workplace.join(format!("{}.clock", agent.name));
        let clock = Self { file };
        clock.set("+0");
        agent.set_environment("LD_PRELOAD", &library.to_string_lossy());
        agent.set_environment("FAKETIME_TIMESTAMP_FILE", &clock.file.to_string_lossy());
        agent.set_environment("FAKETIME_CACHE_DURATION", "1");
        agent.set_environment("DONT_FAKE_MONOTONIC", "1");
        Ok(clock)
    }

    /// How far from the true time it is from now on.
    pub(super) fn set(&self, jump: &str) {
        std::fs::write(&self.file, jump).expect("the workplace is writable");
    }
}

/// The day that it is for an agent, by the last line of its log that tells the time.
pub(super) fn day_of(agent: &Agent) -> Option<String> {
    let log = agent.log();
    let mut days = log.lines().rev().filter_map(|line| line.get(..DAY_BYTES));
    days.find(|day| day.bytes().filter(|byte| *byte == b'-').count() == 2).map(str::to_owned)
}
