//! What runs of a development site, until it is stopped or left to itself.

use std::path::PathBuf;

use super::nats;
use super::process::{self, Process};
use crate::output::say;

/// Everything that runs.
#[derive(Debug)]
pub(super) struct Running {
    /// None on a site without NATS.
    pub(super) nats: Option<NatsProcess>,
    pub(super) agents: Vec<Process>,
    data_dirs: Vec<PathBuf>,
}

/// The server between the agents.
#[derive(Debug)]
pub(super) struct NatsProcess {
    pub(super) process: Process,
    pub(super) port: u16,
}

impl Running {
    /// Nothing yet of a site with these data directories.
    pub(super) const fn nothing_yet(data_dirs: Vec<PathBuf>) -> Self {
        Self { nats: None, agents: Vec::new(), data_dirs }
    }

    /// How a client or an agent finds the server.
    pub(super) fn nats_url(&self) -> Option<String> {
        self.nats.as_ref().map(|nats| nats::url(nats.port))
    }

    /// Agents first: they say goodbye to each other over the server.
    pub(super) async fn stop(mut self) {
        for agent in &mut self.agents {
            agent.terminate();
        }
        for agent in &mut self.agents {
            if !agent.stop().await {
                say(&format!("{} did not end by itself and was killed", agent.name));
            }
        }
        // Somebody may have started one of them again by hand.
        let by_hand: Vec<u32> =
            self.data_dirs.iter().flat_map(|folder| process::agents_on(folder, &[])).collect();
        process::stop_all(&by_hand).await;
        if let Some(nats) = &mut self.nats {
            nats.process.stop().await;
        }
    }

    /// Leaves everything running when this program ends.
    pub(super) fn leave(self) {
        let nats = self.nats.map(|nats| nats.process);
        self.agents.into_iter().chain(nats).for_each(Process::leave);
    }
}
