//! The southbound side: from a committed wish to the device, and from the device's word back.
//!
//! - `connector` is the contract of everything that speaks a protocol of devices.
//! - `connectors/` are those that come with the agent; [`connectors::Connectors`] finds one by
//!   its name.
//!
//! What holds everywhere here: nothing is written but by the owner of a link, in its epoch,
//! within its lease; nothing is written because a log is replayed; a connector that hangs,
//! panics or lies harms neither the consensus loop nor another link.

pub mod connector;
pub mod connectors;
pub mod plan;
