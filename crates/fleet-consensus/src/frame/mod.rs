//! What nodes send each other: closed messages, bounded bytes, sealed frames.
//!
//! The NATS server, and whoever can publish to it, sees, delays, drops, repeats and makes up messages. Frames take all
//! but the first of these powers away, and most of the first: a payload is sealed with XChaCha20-Poly1305 under a key
//! that only its sender and its receiver can derive, and everything around it is part of what the seal covers: the
//! site, from, to, the sender's boot counter and the receiver's, the way, the class, the sequence and which fragment it
//! is. What is opened here was said by that node, to this one, once, in the present starts of both.
//!
//! In: payloads ([`Payload`]) with a [`Route`], bytes from a way, the time. Out: bytes to send, payloads with their
//! proven sender, or a [`Refused`] to count. The keyring is fed from the replicated member records; a node that the
//! records here don't know yet is let in by a [`Credential`] that the site signed.
//!
//! Two nodes must have heard each other's present boot counter before anything but a greeting is taken. That closes the
//! gap which a restart would open: without it a server could play back to a fresh start what was sealed for the one
//! before, a read's grant for instance. A greeting is one small frame each way, asked for by
//! [`FrameCodec::take_greetings`].
//!
//! Never here: sockets, clocks, randomness; bytes of a peer in front of rust-protobuf; state that changes before a seal
//! was verified. What an authenticated node may still lie about is the business of [`crate::guard`].
//!
//! Tests are in `tests/frame_*.rs`.

mod bridge;
mod codec;
mod credential;
mod entry;
mod header;
mod keyring;
pub mod limits;
mod message;
mod message_codec;
mod nonce;
mod open;
mod pack;
mod payload;
mod payload_codec;
mod refused;
mod route;
mod seal;
mod window;

pub use codec::{FrameCodec, FrameIdentity, IdentityError, Opened};
pub use credential::Credential;
pub use entry::{
    ConfChange, EntryError, EntryPayload, KIND_CONF_CHANGE, KIND_NORMAL, LogEntry,
    log_entry_to_raft,
};
pub use keyring::KeyError;
pub use message::{
    Append, AppendResponse, Ballot, BallotAnswer, Beat, MessageError, MessageKind, RaftMessage,
    Reject, SnapshotOffer, SnapshotRef,
};
pub use pack::{pack_messages, pack_proposals};
pub use payload::{Payload, RefuseReason, SnapshotEnd, SnapshotId};
pub use refused::Refused;
pub use route::{Arrival, Class, Path, Route};
pub use seal::SealError;
