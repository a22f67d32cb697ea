//! The connectors that come with the agent.
//!
//! A connector is found by the word that a link was registered with. A word that nobody knows is
//! refused at registration, with the words that would do.

pub mod modbus;
pub mod mqtt;
pub mod nats;
pub mod simulated;

pub(crate) mod settings;

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use super::connector::{Connector, Refusal};
use nats::NatsConnector;
use simulated::Simulated;

/// The connectors of this agent, by their word.
#[derive(Clone, Default)]
pub struct Connectors(BTreeMap<&'static str, Arc<dyn Connector>>);

impl fmt::Debug for Connectors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.0.keys()).finish()
    }
}

impl Connectors {
    /// All that come with the agent, the one over its NATS connection among them; how often
    /// registers that wear out were written is kept in `wear_dir`; simulated links keep their
    /// journals in a folder, and are refused without it.
    #[must_use]
    pub fn all(nats: NatsConnector, wear_dir: PathBuf, simulated_dir: Option<PathBuf>) -> Self {
        Self::default()
            .with(Arc::new(modbus::ModbusConnector::kept_in(wear_dir)))
            .with(Arc::new(mqtt::MqttConnector))
            .with(Arc::new(nats))
            .with(Arc::new(Simulated::new(simulated_dir)))
    }

    /// These and one more; one of the same word is replaced.
    #[must_use]
    pub fn with(mut self, connector: Arc<dyn Connector>) -> Self {
        self.0.insert(connector.kind(), connector);
        self
    }

    /// The connector of this word.
    ///
    /// # Errors
    /// There is none; the words that exist are named.
    pub fn get(&self, kind: &str) -> Result<&Arc<dyn Connector>, Refusal> {
        self.0.get(kind).ok_or_else(|| {
            let known: Vec<&str> = self.0.keys().copied().collect();
            Refusal::new("connector", format!("{kind:?} is not a connector of this agent"))
                .with_hint(format!("the connectors are: {}", known.join(", ")))
        })
    }
}
