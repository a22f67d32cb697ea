//! Where a link may be served, and what of a member that is measured by.

use std::collections::BTreeMap;
use std::sync::Arc;

use super::Labels;
use crate::ids::NodeName;
use crate::record::Member;

/// The label that every member has without being given it: its name. It can't be changed.
pub const NODE_LABEL: &str = "node";

/// Changes of labels by key; a key without a value is taken away.
pub type LabelPatch = BTreeMap<Arc<str>, Option<Arc<str>>>;

/// Where a link may be served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Placement {
    /// On any node that has these labels.
    Any {
        /// What the node must have.
        labels: Labels,
    },
    /// On this node alone, because it is wired there.
    On(NodeName),
}

impl Placement {
    /// Whether one node alone may serve the link.
    #[must_use]
    pub fn is_wired(&self) -> bool {
        matches!(self, Self::On(_))
    }

    /// Whether a member of this name and with these labels may serve the link. Every member bears its name as the
    /// label [`NODE_LABEL`].
    #[must_use]
    pub fn fits(&self, member: &Member) -> bool {
        match self {
            Self::On(name) => member.name == *name,
            Self::Any { labels } => labels.iter().all(|(key, value)| {
                if key.as_ref() == NODE_LABEL {
                    value.as_ref() == member.name.as_str()
                } else {
                    member.labels.get(key) == Some(value)
                }
            }),
        }
    }
}
