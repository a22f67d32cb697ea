//! What a scenario does by hand.

use fleet_state::{Answer, Command, NodeId, ParamKey, Proposal};

use super::World;
use super::clients::{Maker, Open};
use crate::node::Attempt;

/// How an attempt of a scenario ended.
#[derive(Clone, Debug, PartialEq)]
pub enum Ended {
    /// The log has decided.
    Decided(Answer),
    /// Nothing was done.
    NotTaken,
    /// Nobody knows.
    Unknown,
    /// The view of this index may be read.
    Read(u64),
}

impl World {
    /// Asks a node for a command; see [`World::end_of`].
    pub fn ask(&mut self, node: NodeId, command: Command, wait_ms: u64) -> Attempt {
        let request_id = self.request_id();
        let proposal = Proposal { request_id, if_revision: None, actor: None, command };
        let floor = self.invariants.order.begin();
        self.submit(node, &proposal, Maker::Scenario, floor, wait_ms);
        self.attempts_made
    }

    /// Asks a node for a linearizable read of a parameter; see [`World::end_of`].
    pub fn ask_for_read(&mut self, node: NodeId, key: &ParamKey, wait_ms: u64) -> Attempt {
        let floor = self.invariants.order.begin();
        let maker = Maker::Scenario;
        let open = Open { maker, node, request: None, floor, key: Some(key.clone()) };
        self.ask_read(node, open, wait_ms);
        self.attempts_made
    }

    /// How an attempt of a scenario ended, once it has.
    #[must_use]
    pub fn end_of(&self, attempt: Attempt) -> Option<&Ended> {
        self.clients.ended.get(&attempt)
    }
}
