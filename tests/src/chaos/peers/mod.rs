//! The same kind of fire for others: registers of etcd and of a JetStream bucket, under kills,
//! pauses and partitions, their answers judged by the judges that judge ours.
//!
//! - [`registers`]: what is asked of a store, and what it may answer.
//! - [`etcd`] and [`jetstream`]: three servers of each, and how they are spoken to: without a
//!   client library of theirs, as in [`crate::guest::peers`].
//! - [`trio`]: three servers on machines of their own.
//! - [`clients`]: who asks, and what becomes of an answer that doesn't come.
//! - [`harm`]: what breaks them, and the proof that it did.
//!
//! An operation is sent once: others have no request ids, so nothing can be sent again without
//! being done again. What is not answered is unknown.

pub mod clients;
pub mod etcd;
pub mod harm;
pub mod jetstream;
pub mod registers;
pub mod trio;
