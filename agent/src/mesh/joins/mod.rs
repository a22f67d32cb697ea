//! Joining over the mesh: `/flotilla/<site>/join/1`.
//!
//! One stream, one question, one answer, each as four bytes of length, big-endian, and as many
//! bytes. A guest may ask to join, and, once it has, for its own member record; that is all it
//! takes to become a member where there is no NATS. The answers are control's own, in the words
//! of the contract; in here they are bytes. Who may ask what is decided here, before control
//! hears of it.
//!
//! Questions and answers are bounded in size, number and time, and guests have places of their
//! own.

mod answer;
mod asker;
mod wire;

use tokio::sync::oneshot;

use fleet_state::NodeId;

pub(super) use answer::{Answerer, answer};
pub(super) use asker::{Asker, ask};
pub use wire::JoinQuestion;

/// A question that waits for its answer.
#[derive(Debug)]
pub struct JoinAsk {
    /// What is asked.
    pub asked: JoinAsked,
    /// Where the answer goes.
    pub answer: oneshot::Sender<Vec<u8>>,
}

/// What is asked, once it is known who asks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum JoinAsked {
    /// To become a member; the body is that of `member.join`.
    Join {
        /// The request id.
        request_id: String,
        /// The body.
        body: Vec<u8>,
    },
    /// For the asker's own member record.
    Record(NodeId),
}
