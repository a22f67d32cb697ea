//! Every bound of the contract, in one place.
//!
//! A bound that a client can meet is also written in `docs/protocol.md`. Bounds on the *contents*
//! of ids, values and commands belong to `fleet-state` and are used from there.

/// Version of the contract that this crate speaks; told in the service registration.
pub const PROTOCOL_VERSION: u16 = 1;
/// Longest subject that is looked at; a longer one is refused unread.
pub const SUBJECT_BYTES_MAX: usize = 512;
/// Longest reply subject that an agent answers to.
pub const REPLY_SUBJECT_BYTES_MAX: usize = 256;
/// Most headers of one message, ours and others'.
pub const HEADERS_MAX: usize = 32;
/// Longest value of a header of ours.
pub const HEADER_VALUE_BYTES_MAX: usize = 256;
/// Largest payload of one request. A batch is the largest of them.
pub const REQUEST_BYTES_MAX: usize = fleet_state::limits::ENTRY_BYTES_MAX;
/// Depth of a batch body: a value of the deepest kind inside item, list and body.
pub const BATCH_DEPTH_MAX: usize = fleet_state::limits::VALUE_DEPTH_MAX + 4;

/// How long a request waits when it does not say.
pub const TIMEOUT_MS_DEFAULT: u64 = 4_000;
/// Shortest wait that can be asked for.
pub const TIMEOUT_MS_MIN: u64 = 1;
/// Longest wait that can be asked for; also the longest life of one change stream.
pub const TIMEOUT_MS_MAX: u64 = 60_000;

/// How long an invocation may take until it is handed over, when it does not say.
pub const INVOKE_TTL_MS_DEFAULT: u64 = 60_000;

/// Items on a page when the request does not say.
pub const PAGE_ITEMS_DEFAULT: u32 = 100;
/// Most items on a page.
pub const PAGE_ITEMS_MAX: u32 = 1_000;
/// Most bytes of items on a page, whatever the server's `max_payload` would allow.
pub const PAGE_BYTES_MAX: usize = 512 * 1024;
/// What the envelope of a page may take beside its items; agents give a page at most the server's
/// `max_payload` less this.
pub const PAGE_ENVELOPE_BYTES: usize = 2 * 1024;
/// Most labels a filter may name.
pub const FILTER_LABELS_MAX: usize = 16;

/// Questions a second of a scan that does not say.
pub const SCAN_PER_SECOND_DEFAULT: u32 = 5;
/// Most questions a second of a scan.
pub const SCAN_PER_SECOND_MAX: u32 = 50;

/// Most bytes of a snapshot in one reply; well below any sensible `max_payload`.
pub const SNAPSHOT_CHUNK_BYTES_MAX: u32 = 128 * 1024;

/// How long a join token is good for when `token.create` does not say.
pub const TOKEN_TTL_MS_DEFAULT: u64 = 3_600_000;
/// Shortest life of a join token.
pub const TOKEN_TTL_MS_MIN: u64 = 1_000;
/// Longest life of a join token: 30 days.
pub const TOKEN_TTL_MS_MAX: u64 = 30 * 24 * 3_600_000;
/// Longest text of a join token.
pub const TOKEN_TEXT_BYTES_MAX: usize = 4_096;
/// Most NATS addresses in a join token.
pub const TOKEN_URLS_MAX: usize = 8;
/// Addresses of the mesh in a join token.
pub const TOKEN_MESH_MAX: usize = 8;
/// Longest NATS address in a join token.
pub const TOKEN_URL_BYTES_MAX: usize = 128;

/// How often the leader tells the current revision on the tick subject.
pub const TICK_INTERVAL_MS: u64 = 1_000;
/// A change stream with nothing to tell says so this often.
pub const STREAM_HEARTBEAT_MS: u64 = 1_000;
/// Size of the values of one local write.
pub const LOCAL_BYTES_MAX: usize = 8 * 1024;
/// Size of what one node tells of its local writes.
pub const PARTITION_BYTES_MAX: usize = 192 * 1024;
