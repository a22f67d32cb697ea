//! Every bound of the replicated state, in one place.
//!
//! A bound is part of the contract: `apply` refuses what is beyond it with a rejection that is the same on every
//! node. Raising a number is therefore a change of replicated behaviour and needs a new feature level.

/// The feature level that this program reads and writes. It grows with every release that adds a kind of entry or command
/// (which [`crate::Command::feature_level`] then gives the new number) or changes what `apply` does.
pub const FEATURE_LEVEL: u16 = 1;

/// Length of one token of an id.
pub const TOKEN_CHARS_MAX: usize = 32;
/// Tokens in a device or link id.
pub const ID_TOKENS_MAX: usize = 4;
/// Tokens in a parameter key.
pub const PARAM_TOKENS_MAX: usize = 8;
/// Length of a request id.
pub const REQUEST_ID_CHARS_MAX: usize = 64;

/// Size of one value, counted as compact JSON.
pub const VALUE_BYTES_MAX: usize = 32 * 1024;
/// Nesting of lists and maps in one value.
pub const VALUE_DEPTH_MAX: usize = 32;
/// Size of one encoded log entry.
pub const ENTRY_BYTES_MAX: usize = 256 * 1024;
/// Size of one encoded proposal: what an entry leaves after its own header.
pub const PROPOSAL_BYTES_MAX: usize = ENTRY_BYTES_MAX - 32;
/// Commands in one batch.
pub const BATCH_ITEMS_MAX: usize = 256;

/// Length of the claimed actor of a proposal.
pub const ACTOR_BYTES_MAX: usize = 64;
/// Length of an address.
pub const ADDRESS_BYTES_MAX: usize = 256;
/// Length of a free-text name.
pub const NAME_BYTES_MAX: usize = 128;
/// Labels on one link, device or placement.
pub const LABELS_MAX: usize = 16;
/// Length of a label's key.
pub const LABEL_KEY_BYTES_MAX: usize = 64;
/// Length of a label's value.
pub const LABEL_VALUE_BYTES_MAX: usize = 128;
/// Length of a token's note.
pub const NOTE_BYTES_MAX: usize = 128;

/// Links in a site.
pub const LINKS_MAX: usize = 4_096;
/// Devices in a site.
pub const DEVICES_MAX: usize = 250_000;
/// Parameters in a site.
pub const PARAMS_MAX: usize = 250_000;
/// Bytes of all links, devices and parameters, as a snapshot writes them. Well below what snapshots may hold.
pub const SITE_BYTES_MAX: u64 = 512 * 1024 * 1024;
/// Properties that a device's desired state may name.
pub const WISHES_MAX: usize = 256;
/// Commands that something keeps from their device, remembered per device: those that stand behind its wishes, and
/// those that come back when the time of these is up.
pub const FAILURES_MAX: usize = 2 * WISHES_MAX;
/// Properties with a policy of their own.
pub const POLICY_PROPERTIES_MAX: usize = 256;
/// Length of a property's name.
pub const PROPERTY_BYTES_MAX: usize = 128;
/// Actions of a device that may be repeated.
pub const IDEMPOTENT_ACTIONS_MAX: usize = 64;
/// Length of an action's name.
pub const ACTION_BYTES_MAX: usize = 64;
/// Size of the settings of a link or a device, counted as compact JSON.
pub const SETTINGS_BYTES_MAX: usize = 32 * 1024;
/// Size of the arguments of an invocation, counted as compact JSON.
pub const ARGS_BYTES_MAX: usize = 4 * 1024;
/// Length of the reason of a hold.
pub const REASON_BYTES_MAX: usize = 128;
/// Length of what an owner tells about an invocation or a failure.
pub const DETAIL_BYTES_MAX: usize = 240;
/// Length of a failure's code.
pub const FAILURE_CODE_BYTES_MAX: usize = 64;
/// Longest settle time and longest age of what is applied on return: 30 days.
pub const POLICY_MS_MAX: u64 = 30 * 24 * 3_600 * 1_000;
/// How old a wish may be that is still written to a device which comes back, where its policy says nothing.
pub const ON_RETURN_AGE_MS_DEFAULT: u64 = 5 * 60 * 1_000;
/// Shortest time that a command may be given.
pub const TTL_MS_MIN: u64 = 50;
/// Longest time that a command may be given: 7 days.
pub const TTL_MS_MAX: u64 = 7 * 24 * 3_600 * 1_000;
/// Invocations that are remembered, open and ended ones.
pub const INVOCATIONS_MAX: usize = 4_096;
/// Invocations of one device that have not ended.
pub const INVOCATIONS_OPEN_MAX: usize = 16;
/// Commands with a time limit that ended without being handed over, remembered per device.
pub const WISH_ENDS_MAX: usize = 8;
/// Devices or invocations in one report or claim of an owner.
pub const REPORT_ITEMS_MAX: usize = 512;
/// Devices and invocations whose time is up that one entry sees to; the rest is due at the next one.
pub const EXPIRIES_PER_ENTRY_MAX: usize = 1_024;
/// Join tokens in a site, spent and expired ones included.
pub const TOKENS_MAX: usize = 256;
/// Members that have not been removed.
pub const MEMBERS_MAX: usize = 64;
/// Removed members that are remembered by name; ids are never given twice even after that.
pub const MEMBERS_REMOVED_MAX: usize = 1_024;
/// Voters that may be asked for; odd numbers only.
pub const VOTERS_MAX: u8 = 7;

/// Shortest life of a join token.
pub const TOKEN_TTL_MS_MIN: u64 = 1_000;
/// Longest life of a join token: 30 days.
pub const TOKEN_TTL_MS_MAX: u64 = 30 * 24 * 3_600 * 1_000;
/// Uses of one join token.
pub const TOKEN_USES_MAX: u32 = 64;
/// How long an expired token is remembered, so that a late user hears `token_expired` and not `token_unknown`.
pub const TOKEN_KEPT_MS: u64 = 24 * 3_600 * 1_000;

/// Answers remembered for retries.
pub const DEDUP_RECORDS_MAX: usize = 65_536;
/// How long an answer is remembered, in log time.
pub const DEDUP_WINDOW_MS: u64 = 10 * 60 * 1_000;
/// Aged answers dropped per entry, so that no single entry pays for a whole quiet night.
pub const DEDUP_EVICTIONS_PER_ENTRY_MAX: usize = 16;
/// How far ahead of the entry's wall time a UUIDv7 may be stamped and still move the horizon of expired ids.
pub const DEDUP_CLOCK_AHEAD_MS_MAX: u64 = 60 * 1_000;
/// Of so many of the oldest answers the one with the lowest stamp makes room. That many answers to ids stamped ahead can
/// be held without harm to others.
pub const DEDUP_COMPARED_MAX: usize = 256;
/// Length of a rejection's message.
pub const MESSAGE_BYTES_MAX: usize = 240;

/// Deletions remembered for `changes since`.
pub const TOMBSTONES_MAX: usize = 65_536;

/// Size of one record in a snapshot.
pub const RECORD_BYTES_MAX: usize = 512 * 1024;
/// Size of a snapshot's header.
pub const SNAPSHOT_HEADER_BYTES_MAX: usize = 16 * 1024;
