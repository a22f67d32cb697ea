//! The mesh: gateways find each other over libp2p, tell who is there, and carry frames.
//!
//! One task owns the swarm (`event_loop`); everything else holds a [`MeshHandle`]. Everything
//! from libp2p stays in this folder.
//!
//! - **Who**: a node's signing key is its PeerId. The gate lets in the live members of the
//!   replicated state and closes the connections of one that was removed; a stranger may ask to
//!   join (`joins`, and from the other side `joiner`) and nothing else. A connection proves
//!   a key and nothing else: frames are sealed and judged by the replica, whatever way they came.
//! - **Where**: addresses come from the configuration, the last run, mDNS, identify, signed
//!   announcements over NATS, and from Kademlia, which finds all from any one. They are filtered
//!   before they are kept and again before they are dialled. The book says which to try and when.
//! - **What**: frames go over one stream per node and class; presence goes over gossipsub and
//!   fills a table that people look at. Presence never reaches the replica.
//!
//! Inputs: views of the replicated state, frames by way of the queues in `lanes`. Outputs:
//! frames into the inbox, the lanes of connected nodes, a status, events. It must never make
//! the consensus loop wait, nor the swarm.
//!
//! Tests: beside the pure parts (`addresses`, `book`, `gate`, `frames`, `presence`); swarms on
//! the loopback in `tests.rs`; real agents in the workspace's tests.

mod addresses;
mod announce;
mod asks;
mod behaviour;
mod book;
mod chores;
mod dial;
mod echo;
mod event_loop;
mod frames;
mod gate;
mod gated;
mod gone;
mod handle;
mod identity;
mod joiner;
mod joins;
mod lanes;
mod listening;
mod local;
mod memory;
mod peers;
mod peers_file;
mod per_peer;
mod places;
mod presence;
mod prompt;
mod refusal;
mod roster;
mod seeds;
mod swarm_events;
mod waiting;

#[cfg(test)]
mod tests;

pub use addresses::{AddressError, check_address};
pub use asks::{Question, Told};
pub use event_loop::{EventLoop, MeshError, MeshOut, MeshParts, new};
pub use frames::{FRAME_BYTES_PREFERRED, FrameQueue, QueueBounds};
pub use gone::Refusals;
pub use handle::{MeshEvent, MeshHandle, MeshStatus, PingError};
pub use joiner::{Joiner, JoinerError, JoinerParts};
pub use joins::{JoinAsk, JoinAsked, JoinQuestion};
pub use lanes::{LaneTable, NodeLanes};
pub use places::{places, remember};
pub use presence::{Beat, Life, NodePresence};
