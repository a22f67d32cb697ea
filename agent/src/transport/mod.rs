//! The ways between nodes: sealed frames out of the loop, and frames into its inbox.
//!
//! A way never makes the loop wait: it takes a frame or drops it and says so. What arrives on
//! any way goes into one inbox, with the way's name; the replica opens the frames. Nothing in
//! here looks inside one.

mod inbox;
mod nats;

pub use inbox::{Inbound, Inbox, InboxSender, inbox};
pub use nats::NatsWay;
