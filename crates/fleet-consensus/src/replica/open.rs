//! From files to a running replica.
//!
//! The newest snapshot that decodes gives state and configuration; raft starts with exactly
//! its index as *applied*, because raft skips entries between a higher one and the loaded
//! state without a word. The log is then replayed to the commit index before the first tick.
//! Whatever doesn't fit together is a [`StartError`] that says what to do; nothing is repaired
//! by guessing.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use fleet_log::{Disk, HardState, Log, LogIdentity, Position, Recovery};
use fleet_state::{FleetState, FoundingParams, SiteName, SnapshotMeta};
use raft::RawNode;

use super::snapshots::conf_state;
use super::wire::NoWire;
use super::{Conf, Outputs, Pace, Replica};
use crate::checkpoints::Checkpoints;
use crate::config::ReplicaConfig;
use crate::counters::Counters;
use crate::fault::{Fault, StartError};
use crate::frame::{Credential, FrameCodec, FrameIdentity};
use crate::guard::Guard;
use crate::leases::Leases;
use crate::log_time::{LogTime, Now};
use crate::raft_storage::{RaftStorage, SnapshotPointer};
use crate::reads::Reads;
use crate::seeded;
use crate::snapshot_store::{LoadedSnapshot, SnapshotStore};
use crate::transfer::Transfer;
use crate::waiters::Waiters;

/// Index and term at which a site begins: its founding is a snapshot, not an entry.
pub const FOUNDING: Position = Position { index: 1, term: 1 };

/// What a replica is made from.
pub struct Parts<D> {
    /// Settings.
    pub config: ReplicaConfig,
    /// The site's name, as in the node file.
    pub site: SiteName,
    /// The site's public key, as in the node file.
    pub site_public_key: [u8; 32],
    /// The site's secret key, where this node holds it.
    pub site_key: Option<SigningKey>,
    /// This node's X25519 secret.
    pub exchange_secret: [u8; 32],
    /// Counts the starts of this node.
    pub boot: u64,
    /// Random bytes of this start.
    pub salt: [u8; 8],
    /// This node's credential, for a joiner whose state does not hold it yet.
    pub credential: Option<Credential>,
    /// The log directory.
    pub log_disk: D,
    /// The snapshot directory.
    pub snapshot_disk: D,
}

/// A replica, and what was noticed while opening it.
pub struct Opened<D: Disk, T> {
    /// Ready for inputs.
    pub replica: Replica<D, T>,
    /// What the log had to cut.
    pub recovery: Recovery,
    /// Snapshots that did not decode and were renamed.
    pub damaged_snapshots: Vec<String>,
}

/// What a site begins with on its first node.
pub struct Founding {
    /// The state; see `FleetState::found` and `FleetState::restore_as`.
    pub state: FleetState,
    /// Where its log begins: [`FOUNDING`], or the restored snapshot's index in a new term.
    pub at: Position,
}

impl Founding {
    /// A site from nothing.
    #[must_use]
    pub fn new(params: FoundingParams) -> Self {
        Self { state: FleetState::found(params), at: FOUNDING }
    }
}

/// Writes the first files of a node whose site begins with it.
///
/// # Errors
/// When a directory isn't empty or can't be written.
pub fn found<D: Disk>(parts: &Parts<D>, founding: &Founding) -> Result<(), StartError> {
    let meta = SnapshotMeta {
        site: founding.state.site().clone(),
        uid: founding.state.uid(),
        index: founding.at.index,
        term: founding.at.term,
        voters: vec![parts.config.node],
        learners: Vec::new(),
        wall_time_ms: founding.state.wall_time_ms(),
    };
    let hard = HardState { term: founding.at.term, vote: 0, commit: founding.at.index };
    let store = SnapshotStore::new(parts.snapshot_disk.clone());
    store.write(&meta, &founding.state).map_err(StartError::SnapshotIo)?;
    create_log(parts, founding.at, hard)
}

/// Writes the first files of a node that joins: an empty log, to be filled by a snapshot.
///
/// # Errors
/// When the directory isn't empty or can't be written.
pub fn join<D: Disk>(parts: &Parts<D>) -> Result<(), StartError> {
    create_log(parts, Position::default(), HardState::default())
}

pub(super) fn create_log<D: Disk>(
    parts: &Parts<D>,
    start: Position,
    hard: HardState,
) -> Result<(), StartError> {
    let disk = parts.log_disk.clone();
    Log::create(disk, identity(&parts.config), parts.config.log, start, hard)?;
    Ok(())
}

fn identity(config: &ReplicaConfig) -> LogIdentity {
    LogIdentity { site_uid: *config.site_uid.as_bytes(), node: config.node.get() }
}

impl<D: Disk, T> Replica<D, T> {
    /// Opens a node's files and replays the log.
    ///
    /// # Errors
    /// See [`StartError`]; nothing was changed but what its text says.
    pub fn open(parts: Parts<D>, now: Now) -> Result<Opened<D, T>, StartError> {
        parts.config.validate()?;
        let config = parts.config.clone();
        let snapshots = SnapshotStore::new(parts.snapshot_disk.clone());
        snapshots.remove_unfinished().map_err(StartError::SnapshotIo)?;
        let (loaded, damaged_snapshots) = snapshots.load_newest(config.site_uid)?;
        let (mut log, recovery) = Log::open(parts.log_disk.clone(), identity(&config), config.log)?;
        fit_log(&mut log, loaded.as_ref().map(|l| position(&l.meta)))?;
        let (state, pointer) = match loaded {
            Some(loaded) => {
                let pointer = pointer(&loaded);
                (loaded.state, Some(pointer))
            }
            None => {
                let key = parts.site_public_key;
                let blank = FleetState::blank(parts.site.clone(), config.site_uid, key);
                (blank, None)
            }
        };
        let applied = pointer.as_ref().map_or_else(Position::default, |p| Position {
            index: p.file.index,
            term: p.file.term,
        });
        let skipped = if seeded::on("restart-applied-above-snapshot") {
            log.hard_state().commit
        } else {
            applied.index
        };
        let storage = RaftStorage::new(log, pointer);
        let conf = Conf::from_raft(&storage.conf);
        let logger = slog::Logger::root(slog::Discard, slog::o!());
        let raw = RawNode::new(&config.to_raft(skipped), storage, &logger)
            .map_err(|e| StartError::Raft(e.to_string()))?;
        let frames = FrameCodec::new(FrameIdentity {
            site: config.site_uid,
            site_public_key: parts.site_public_key,
            me: config.node,
            boot: parts.boot,
            salt: parts.salt,
            exchange_secret: parts.exchange_secret,
            credential: parts.credential,
        })?;
        let mut replica = Self {
            raw,
            state,
            applied,
            log_time: LogTime::from_disk(0, 0),
            frames,
            boot: parts.boot,
            guard: Guard::new(),
            conf,
            site_key: parts.site_key,
            waiters: Waiters::default(),
            reads: Reads::new(parts.boot << 40),
            leases: Leases::default(),
            answered_ms: BTreeMap::new(),
            told_levels: BTreeMap::new(),
            transfer: Transfer::new(snapshots, config.site_uid),
            checkpoints: Checkpoints::default(),
            proposals: Vec::new(),
            unsynced: None,
            outbox: Vec::new(),
            heard: Vec::new(),
            crash: super::crash::CrashWatch::default(),
            pace: Pace { last_tick_ms: now.mono_ms, ..Pace::default() },
            outputs: Outputs::default(),
            counters: Counters::default(),
            config,
        };
        replica.replay(now)?;
        Ok(Opened { replica, recovery, damaged_snapshots })
    }

    /// Applies the log up to the commit index, without effects: what it did to the outside
    /// happened in an earlier life.
    fn replay(&mut self, now: Now) -> Result<(), Fault> {
        self.check_level()?;
        self.refresh_keyring();
        // No snapshot is begun here: nobody would write it, and the count of entries since the
        // last one would begin anew with every restart.
        self.pace.building = true;
        while self.raw.has_ready() {
            self.poll(now, &mut NoWire)?;
        }
        self.outputs = Outputs::default();
        self.pace.building = false;
        self.log_time = LogTime::from_disk(self.state.log_time_ms(), self.state.wall_time_ms());
        if self.conf.voters == [self.config.node] {
            // The only voter has nobody to wait for.
            self.raw.campaign().map_err(|e| Fault::Raft(e.to_string()))?;
        }
        Ok(())
    }
}

fn position(meta: &SnapshotMeta) -> Position {
    Position { index: meta.index, term: meta.term }
}

fn pointer(loaded: &LoadedSnapshot) -> SnapshotPointer {
    SnapshotPointer { file: loaded.file.clone(), conf: conf_state(&loaded.meta) }
}

/// Makes log and snapshot fit where a crash in the middle of an install left them apart, and
/// refuses what no crash can explain.
pub(super) fn fit_log<D: Disk>(
    log: &mut Log<D>,
    snapshot: Option<Position>,
) -> Result<(), StartError> {
    let start = log.start();
    let Some(snapshot) = snapshot else {
        if start.index > 0 {
            return Err(StartError::NoSnapshot { log_start: start.index });
        }
        return check_commit(log);
    };
    if start.index > snapshot.index {
        return Err(StartError::Gap { log_start: start.index, snapshot: snapshot.index });
    }
    check_commit(log)?;
    let mut hard = log.hard_state();
    if log.term(snapshot.index) != Some(snapshot.term) {
        // The received snapshot was named, the log not yet emptied. Where it goes further it
        // holds entries that lost to those in the snapshot.
        log.reset(snapshot)?;
        hard.term = hard.term.max(snapshot.term);
    }
    if hard.commit < snapshot.index {
        hard.commit = snapshot.index;
        log.set_hard_state(hard)?;
        log.sync()?;
    }
    Ok(())
}

fn check_commit<D: Disk>(log: &Log<D>) -> Result<(), StartError> {
    let (commit, last) = (log.hard_state().commit, log.last_index());
    if commit > last {
        return Err(StartError::CommitBeyondLog { commit, last });
    }
    Ok(())
}
