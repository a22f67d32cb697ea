//! The ways between nodes: sealed frames out of the loop, and frames into its inbox.
//!
//! A way never makes the loop wait: it takes a frame or drops it and says so. What arrives on
//! any way goes into one inbox, with the way's name; the replica opens the frames. Nothing in
//! here looks inside one.
//!
//! Which way a frame to a node takes is decided in `choice`, a pure table of rules over what
//! the NATS client says, which nodes the mesh is connected to, and who was heard on which way.
//! `Ways` carries that out for the replica.

mod choice;
mod inbox;
mod mesh;
mod nats;
mod rendezvous;
mod table;
mod ways;

pub use choice::{ChoiceConfig, WayMode};
pub use inbox::{Dropped, FRAME_BYTES_MAX, Inbound, Inbox, InboxSender, inbox};
pub use mesh::MeshWay;
pub use nats::NatsWay;
pub use rendezvous::meet;
pub use table::{WayNews, WaySeen, WaySwitch, WayTable, WayTeller, way_news};
pub use ways::{WayParts, Ways};
