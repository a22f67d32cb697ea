//! How a gateway comes to belong to a site: founding one, joining one, restoring one.
//!
//! All three write a data directory from which `run` starts and do nothing else to it later.
//! A directory that already belongs to a site is never touched: `init` and `join` say so and
//! succeed when it is the same site, and refuse when it is another one.
//!
//! Order on disk, in each of the three: the identity key first (it must survive whatever comes
//! after), then log and snapshot, the node file last. What has a node file is complete; what has
//! none can be started over.

mod contacts;
mod found;
mod join;
mod name;
mod parts;
mod restore;

pub use contacts::Contacts;
pub use found::{FoundRequest, Founded, found};
pub use join::{JoinRequest, Joined, join};
pub use name::default_node_name;
pub use parts::{key_of, parts};
pub use restore::{RestoreRequest, Restored, restore};
