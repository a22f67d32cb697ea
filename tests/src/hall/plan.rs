//! How a hall is made.

/// Election timeouts of one to three seconds.
const UNHURRIED_TICK_MS: u32 = 100;

/// How a hall is made.
#[derive(Debug, Clone)]
pub struct HallPlan {
    /// How many gateways; all vote if their number is odd.
    pub gateways: usize,
    /// The nats-server's configuration; `None` for a hall without one.
    pub nats: Option<String>,
    /// Sections for every agent's configuration.
    pub config: String,
    /// How long a tick is; `None` for what the agents take by themselves.
    pub tick_ms: Option<u32>,
}

impl HallPlan {
    /// So many gateways and a nats-server. Gateways don't look for each other by mDNS.
    pub fn of(gateways: usize) -> Self {
        let config = "[mesh]\nmdns = false\n".to_owned();
        Self { gateways, nats: Some(String::new()), config, tick_ms: None }
    }

    /// The same without a nats-server.
    #[must_use]
    pub fn without_nats(self) -> Self {
        Self { nats: None, ..self }
    }

    /// The same with these sections in every agent's configuration, and no others.
    #[must_use]
    pub fn configured(self, config: &str) -> Self {
        Self { config: config.to_owned(), ..self }
    }

    /// The same with heartbeats and elections at a quarter of their speed. What must not cause an
    /// election must not at any speed; on a busy machine, at full speed, something else might.
    #[must_use]
    pub fn unhurried(self) -> Self {
        Self { tick_ms: Some(UNHURRIED_TICK_MS), ..self }
    }

    pub(super) fn voters(&self) -> usize {
        if self.gateways % 2 == 1 { self.gateways } else { self.gateways - 1 }
    }
}
