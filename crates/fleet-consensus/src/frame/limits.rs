//! Every bound of the frames between nodes, in one place.
//!
//! A receiver never allocates from a length that it has not compared with one of these. What a sender of this
//! version makes always fits: appends are split by [`super::pack_messages`] before they are sealed.

use fleet_state::limits::ENTRY_BYTES_MAX;

/// Largest plain payload of one frame, over all of its fragments.
pub const PAYLOAD_BYTES_MAX: usize = 1024 * 1024;
/// Messages are packed into one payload until it holds this many bytes; one entry may go beyond.
pub const PACK_BYTES_TARGET: usize = 384 * 1024;
/// Raft messages in one payload.
pub const RAFT_MESSAGES_MAX: usize = 1024;
/// Entries in one append.
pub const APPEND_ENTRIES_MAX: usize = 8192;
/// Bytes of the data of one log entry.
pub const ENTRY_DATA_BYTES_MAX: usize = ENTRY_BYTES_MAX;
/// Bytes of a read context carried by a heartbeat.
pub const READ_CONTEXT_BYTES_MAX: usize = 64;
/// Voters in the configuration of a snapshot.
pub const VOTERS_MAX: usize = 15;
/// Learners in the configuration of a snapshot.
pub const LEARNERS_MAX: usize = 1024;
/// Bytes of a snapshot that a node would take from another: as many as it could read.
pub const SNAPSHOT_BYTES_MAX: u64 = crate::config::SNAPSHOT_BYTES_MAX;
/// Relayed proposals in one payload.
pub const PROPOSALS_MAX: usize = 1024;
/// Bytes of one relayed proposal.
pub const PROPOSAL_BYTES_MAX: usize = ENTRY_BYTES_MAX;
/// Reads in one payload.
pub const READS_MAX: usize = 4096;
/// Bytes of snapshot in one chunk.
pub const CHUNK_BYTES_MAX: usize = 128 * 1024;
/// Bytes of what a node observed, in one payload.
pub const OBSERVED_BYTES_MAX: usize = 128 * 1024;
/// Bytes that may be asked for in one `SnapshotWant`.
pub const CHUNK_WANT_BYTES_MAX: u32 = 8 * 1024 * 1024;
/// Bytes of a request id as text.
pub const REQUEST_ID_BYTES_MAX: usize = 64;
/// Bytes of a node name in a credential.
pub const NODE_NAME_BYTES_MAX: usize = 32;

/// Smallest size that a transport may announce for one fragment.
pub const FRAGMENT_BYTES_MIN: usize = 1024;
/// Fragments of one payload.
pub const FRAGMENTS_MAX: usize = 2048;
/// Bytes of unfinished payloads kept for one sender.
pub const REASSEMBLY_BYTES_PER_SENDER_MAX: usize = 2 * PAYLOAD_BYTES_MAX;
/// Bytes of unfinished payloads kept in all.
pub const REASSEMBLY_BYTES_MAX: usize = 8 * PAYLOAD_BYTES_MAX;
/// An unfinished payload is dropped after this time without a new fragment: as long as a transport
/// lets one take on a narrow cable.
pub const REASSEMBLY_TIMEOUT_MS: u64 = 60_000;

/// Nodes of which a boot counter and sequences are kept.
pub const MEMBERS_MAX: usize = 1024;
/// Nodes known only by the credential that they showed.
pub const PROVISIONAL_MAX: usize = 64;
/// A node known only by its credential may make place for another after this time of silence.
pub const PROVISIONAL_IDLE_MS: u64 = 60_000;
/// Signatures of credentials checked in one second; more frames of strangers are dropped unread.
pub const CREDENTIAL_CHECKS_PER_SECOND: u32 = 64;
/// A sender shows its credential to a node from which nothing current was heard for this long.
pub const CREDENTIAL_QUIET_MS: u64 = 1_000;
/// Greetings to one node are at least this far apart.
pub const GREETING_GAP_MS: u64 = 50;

/// Highest boot counter; it has 48 bits in the nonce.
pub const BOOT_MAX: u64 = (1 << 48) - 1;
/// Highest sequence; it has 56 bits in the nonce.
pub const SEQUENCE_MAX: u64 = (1 << 56) - 1;

/// Highest term and index that any message may carry, far from where arithmetic on them could overflow.
pub const TERM_MAX: u64 = 1 << 62;
/// See [`TERM_MAX`].
pub const INDEX_MAX: u64 = 1 << 62;
