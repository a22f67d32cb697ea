//! Sealed frames over streams: `/flotilla/<site>/raft/1` and `/flotilla/<site>/raft-paced/1`.
//!
//! Each connected node has one long-lived outbound stream per class, so that pieces of a
//! snapshot never stand before a heartbeat. A stream is a sequence of frames: four bytes of
//! length, big-endian, and as many bytes. There is nothing else in it: a frame says by itself who
//! sent it, to whom, and in which class, and is worth nothing unless its seal opens.
//!
//! All streams of a node share its connection, and what the system has taken in leaves in order.
//! So on a stream of the second kind, which is for all that is not urgent, the reading end says
//! how far it has read, four bytes for how much more it was each time, and the writing end keeps
//! little on its way (`window`).
//!
//! Writers take from bounded queues and give up a stream whose other end does not read in
//! time; readers allocate no more than has arrived, give a frame that was begun a deadline,
//! and keep each peer to a rate. Neither ever makes the swarm or the consensus loop wait.

mod accept;
mod codec;
mod pace;
mod paced;
mod queue;
mod window;
mod write;

use crate::metrics::Way;

pub(super) use accept::{Intake, accept};
pub use queue::{FrameQueue, QueueBounds};
pub(super) use write::{StreamTo, write};

/// What is counted here is counted of the mesh.
pub(super) const WAY: Way = Way { way: "mesh" };

/// What the accepting end writes when it begins to read.
const READY: u8 = 1;

/// Frames are made no larger than this for the mesh: eight seconds at 64 kbit/s. The rest of a payload
/// goes in fragments.
pub const FRAME_BYTES_PREFERRED: usize = 64 * 1024;
