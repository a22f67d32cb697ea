//! Sealed frames over streams: `/flotilla/<site>/raft/1`.
//!
//! Each connected node has one long-lived outbound stream per class, so that pieces of a
//! snapshot never stand before a heartbeat. A stream is a sequence of frames: four bytes of
//! length, big-endian, and as many bytes. There is nothing else in it and no answer: a frame
//! says by itself who sent it, to whom, and in which class, and is worth nothing unless its
//! seal opens.
//!
//! Writers take from bounded queues and give up a stream whose other end does not read in
//! time; readers allocate no more than has arrived, give a frame that was begun a deadline,
//! and keep each peer to a rate. Neither ever makes the swarm or the consensus loop wait.

mod accept;
mod codec;
mod pace;
mod queue;
mod write;

pub(super) use accept::{Intake, accept};
pub use queue::{FrameQueue, QueueBounds};
pub(super) use write::{StreamTo, write};

/// What the accepting end writes when it begins to read.
const READY: u8 = 1;

/// Frames are made no larger than this for the mesh; the rest of a payload goes in fragments.
pub const FRAME_BYTES_PREFERRED: usize = 256 * 1024;
