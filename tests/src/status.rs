//! What an agent says about itself, from its status reply.

use serde_json::Value;

/// The item in the reply of `control.node.<name>.status`.
#[derive(Debug, Clone, PartialEq)]
pub struct Status(pub Value);

impl Status {
    fn number(&self, pointer: &str) -> u64 {
        let value = self.0.pointer(pointer).and_then(Value::as_u64);
        value.unwrap_or_else(|| panic!("no number at {pointer} in {}", self.0))
    }

    fn text(&self, pointer: &str) -> &str {
        let value = self.0.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_else(|| panic!("no text at {pointer} in {}", self.0))
    }

    /// The name of the node.
    pub fn name(&self) -> &str {
        self.text("/name")
    }

    /// The id that the site gave it.
    pub fn node_id(&self) -> u64 {
        self.number("/node")
    }

    /// leader, follower, candidate, pre_candidate, learner.
    pub fn role(&self) -> &str {
        self.text("/role")
    }

    /// The node it takes for the leader.
    pub fn leader(&self) -> Option<u64> {
        self.0.pointer("/leader").and_then(Value::as_u64)
    }

    /// The Raft term.
    pub fn term(&self) -> u64 {
        self.number("/term")
    }

    /// The newest entry that is in its state.
    pub fn applied(&self) -> u64 {
        self.number("/applied")
    }

    /// The digest over its whole state at [`Status::applied`].
    pub fn digest(&self) -> &str {
        self.text("/digest")
    }

    /// How often it was started.
    pub fn boot(&self) -> u64 {
        self.number("/boot")
    }

    /// The first entry in its log.
    pub fn first_index(&self) -> u64 {
        self.number("/first_index")
    }

    /// The index of its newest snapshot.
    pub fn snapshot_index(&self) -> u64 {
        self.number("/snapshot_index")
    }

    /// Whether it takes commands.
    pub fn takes_commands(&self) -> bool {
        self.0.pointer("/intake").and_then(Value::as_bool) == Some(true)
    }

    /// What it says is wrong.
    pub fn troubles(&self) -> Vec<String> {
        let list = self.0.pointer("/troubles").and_then(Value::as_array);
        let texts = list.into_iter().flatten().filter_map(Value::as_str);
        texts.map(str::to_owned).collect()
    }
}
