//! Presence: who is there, as far as one can tell. Observed, never replicated.
//!
//! Every node tells the others about itself every two seconds, and at once when its role
//! changes, on one gossipsub topic. A message is signed by its author; a node takes it only
//! when the author is the member that the message speaks of, and when it is newer than the last
//! one from there. From these messages, from which nodes are connected, and from pings comes
//! the table that `status` shows.
//!
//! Nothing in here reaches the replica: presence can't change what the site has agreed on.

mod load;
mod message;
mod table;

pub(super) use load::load_permille;
pub(super) use message::BEAT_BYTES_MAX;
pub use message::Beat;
pub(super) use table::{Heard, PresenceTable};
pub use table::{Life, NodePresence};
