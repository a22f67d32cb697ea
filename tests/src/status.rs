//! What an agent says about itself, from its status reply.

use serde_json::Value;

/// The reply of `control.node.<name>.status`.
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

    /// Which nodes vote, as far as this one knows.
    pub fn voters(&self) -> Vec<u64> {
        let list = self.0.pointer("/voters").and_then(Value::as_array);
        list.map(|ids| ids.iter().filter_map(Value::as_u64).collect())
            .unwrap_or_default()
    }

    /// The digests of its state, one per section.
    pub fn digests(&self) -> &Value {
        self.0
            .pointer("/digests")
            .unwrap_or_else(|| panic!("no digests in {}", self.0))
    }
}
