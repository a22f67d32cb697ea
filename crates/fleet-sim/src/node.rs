//! One node: its disks outlive its replica, as files outlive a process.

use std::collections::BTreeMap;

use ed25519_dalek::SigningKey;
use fleet_consensus::frame::Credential;
use fleet_consensus::replica::{self, Founding, Opened, Parts};
use fleet_consensus::{Levels, Now, Replica, ReplicaConfig, StartError};
use fleet_device::ownership::Resting;
use fleet_log::{DiskFault, LogConfig, MemoryDisk};
use fleet_state::limits::FEATURE_LEVEL;
use fleet_state::{Command, LinkId, NodeId};

use crate::faults::Fault;
use crate::keeper::Keeper;
use crate::network::Flight;
use crate::random::mix;
use crate::site::{NodeSecrets, Site};
use crate::swarm::Swarm;

/// Who waits for an answer: the number of an attempt.
pub type Attempt = u64;

/// Frames that wait for a paused node; more are lost.
const PAUSED_INBOX_MAX: usize = 4_096;
/// Ticks for which a drawn election timeout holds.
const TIMEOUT_HOLDS_TICKS: u64 = 64;

/// What a node is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Life {
    /// It runs.
    Running,
    /// The process stands still.
    Paused,
    /// The process is gone; it will be started again.
    Down,
    /// It never comes back.
    Gone,
}

/// Why a node's files may not be what it wrote last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// A byte of them was changed.
    Flipped,
    /// They are an older copy.
    RolledBack,
}

/// A copy of a node's disks.
pub struct OldCopy {
    /// The log directory.
    pub log_disk: MemoryDisk,
    /// The snapshot directory.
    pub snapshot_disk: MemoryDisk,
    /// Counter of its starts at that time.
    pub boot: u64,
}

/// Faults planned for one node's disks that have not happened yet, at most.
const DISK_FAULTS_AHEAD_MAX: usize = 2;

/// A fault that waits for a call to a disk.
struct Planned {
    on_log: bool,
    call: u64,
    fault: Fault,
}

/// A node of the simulated site.
pub struct Node {
    /// Its id.
    pub id: NodeId,
    /// Its secrets.
    pub secrets: NodeSecrets,
    /// What it is doing.
    pub life: Life,
    /// Its replica, while the process runs.
    pub replica: Option<Replica<MemoryDisk, Attempt>>,
    /// Counter of its starts.
    pub boot: u64,
    /// The log directory.
    pub log_disk: MemoryDisk,
    /// The snapshot directory.
    pub snapshot_disk: MemoryDisk,
    /// The site key, once it was handed one.
    pub site_key: Option<SigningKey>,
    /// Shown to strangers as long as the state doesn't hold it.
    pub credential: Option<Credential>,
    /// What the wall clock is off by, beyond the time that the whole site slept.
    pub wall_offset_ms: i64,
    /// Time that passed while all nodes were down, which the simulation skipped.
    pub slept_ms: u64,
    /// Frames that arrived during a pause.
    pub inbox: Vec<Flight>,
    /// After its pause it hears what arrived before its clock strikes.
    pub hears_first: bool,
    /// Its southbound side, in this start of it.
    pub keeper: Keeper,
    /// As leader: who let go of which link lately.
    pub resting: Resting,
    /// As leader: when it looks next who owns what.
    pub assign_next_ms: u64,
    /// As leader: links that are being given to somebody, with whom they are taken from.
    pub assigning: BTreeMap<LinkId, Option<NodeId>>,
    /// As leader: links of which nobody heard what became of that.
    pub undecided: BTreeMap<LinkId, Option<NodeId>>,
    /// The feature level that its program reads.
    pub reads: u16,
    /// How much faster its monotonic clock runs than time, of a thousand.
    pub drift: i64,
    /// Faults planned for its disks that have not happened yet.
    planned: Vec<Planned>,
    /// Its power was cut since it last ran.
    pub was_cut: bool,
    /// Its files were tampered with; it need not go on.
    pub doubt: Option<Doubt>,
    /// Its disks have hardly any room: what fails for that is no defect.
    pub full: bool,
    /// How long a sync of its log takes, beyond none.
    pub slow_sync_ms: u64,
    /// It applied its own removal.
    pub removed: bool,
    started_ms: u64,
    ticks: u64,
    seed: u64,
}

impl Node {
    /// A node with empty disks.
    #[must_use]
    pub fn new(id: NodeId, secrets: NodeSecrets, seed: u64) -> Self {
        Self {
            id,
            secrets,
            life: Life::Down,
            replica: None,
            boot: 0,
            log_disk: MemoryDisk::new(),
            snapshot_disk: MemoryDisk::new(),
            site_key: None,
            credential: None,
            wall_offset_ms: 0,
            slept_ms: 0,
            inbox: Vec::new(),
            hears_first: false,
            keeper: Keeper::new(id),
            resting: Resting::default(),
            assign_next_ms: 0,
            assigning: BTreeMap::new(),
            undecided: BTreeMap::new(),
            reads: FEATURE_LEVEL,
            drift: 0,
            planned: Vec::new(),
            was_cut: false,
            doubt: None,
            full: false,
            slow_sync_ms: 0,
            removed: false,
            started_ms: 0,
            ticks: 0,
            seed,
        }
    }

    /// Whether its process can do anything now.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.life == Life::Running && self.replica.is_some()
    }

    /// When its process was started last.
    #[must_use]
    pub fn started_ms(&self) -> u64 {
        self.started_ms
    }

    /// Its clocks. The monotonic one begins anew with each start.
    #[must_use]
    pub fn clock(&self, now_ms: u64) -> Now {
        let wall_ms = WALL_START_MS.saturating_add(now_ms).saturating_add(self.slept_ms);
        let ran_ms = now_ms.saturating_sub(self.started_ms);
        let ran_ms = ran_ms.saturating_mul(1_000_u64.saturating_add_signed(self.drift)) / 1_000;
        Now { mono_ms: 1_000 + ran_ms, wall_ms: wall_ms.saturating_add_signed(self.wall_offset_ms) }
    }

    /// Writes the files of a site that begins on this node.
    ///
    /// # Errors
    /// Of the disk; there are none without a planned fault.
    pub fn found(&mut self, site: &Site, swarm: &Swarm) -> Result<(), StartError> {
        self.site_key = Some(site.key.clone());
        let wall_ms = self.clock(0).wall_ms;
        let founding =
            Founding::new(site.founding(&self.secrets, swarm.voters, self.reads, wall_ms));
        replica::found(&self.parts(site, swarm), &founding)
    }

    /// Writes the files of a node that joins.
    ///
    /// # Errors
    /// Of the disk; there are none without a planned fault.
    pub fn join(&mut self, site: &Site, swarm: &Swarm) -> Result<(), StartError> {
        replica::join(&self.parts(site, swarm))
    }

    /// Starts the process.
    ///
    /// # Errors
    /// What the replica says of its files.
    pub fn open(
        &mut self,
        site: &Site,
        swarm: &Swarm,
        now_ms: u64,
    ) -> Result<Opened<MemoryDisk, Attempt>, StartError> {
        self.boot += 1;
        self.started_ms = now_ms;
        self.inbox.clear();
        self.keeper = Keeper::new(self.id);
        self.resting = Resting::default();
        self.assign_next_ms = 0;
        self.assigning.clear();
        self.undecided.clear();
        Replica::open(self.parts(site, swarm), self.clock(now_ms))
    }

    fn parts(&self, site: &Site, swarm: &Swarm) -> Parts<MemoryDisk> {
        let mut config = ReplicaConfig::new(self.id, site.uid);
        config.snapshot_every_entries = swarm.snapshot_every_entries;
        config.uncommitted_bytes_max = swarm.uncommitted_bytes_max;
        config.append_bytes_max = swarm.append_bytes_max;
        config.levels = Levels { reads: self.reads, needed: level_needed };
        config.log =
            LogConfig { segment_bytes: swarm.segment_bytes, cache_bytes: swarm.cache_bytes };
        Parts {
            config,
            site: site.name.clone(),
            site_public_key: site.key.verifying_key().to_bytes(),
            site_key: self.site_key.clone(),
            exchange_secret: self.secrets.exchange,
            boot: self.boot,
            salt: self.salt(),
            credential: self.credential.clone(),
            log_disk: self.log_disk.clone(),
            snapshot_disk: self.snapshot_disk.clone(),
        }
    }

    /// The random bytes of its last start. A copy put back gets others than the original had.
    #[must_use]
    pub fn salt(&self) -> [u8; 8] {
        let copied = if self.doubt == Some(Doubt::RolledBack) { u64::MAX } else { 0 };
        mix(self.seed ^ self.boot ^ copied).to_le_bytes()
    }

    /// Its disks are an older copy of them from now on.
    pub fn put_back(&mut self, copy: OldCopy) {
        self.planned.clear();
        self.full = false;
        self.log_disk = copy.log_disk;
        self.snapshot_disk = copy.snapshot_disk;
        self.boot = copy.boot;
        self.doubt = Some(Doubt::RolledBack);
        // As after a restart of the machine: what was open is gone.
        self.was_cut = true;
    }

    /// Draws raft's next election timeout from the seed; see `Replica::pin_election_timeout`.
    pub fn pin_election_timeout(&mut self) {
        self.ticks += 1;
        let Some(replica) = &mut self.replica else {
            return;
        };
        let (term, _) = replica.term_and_commit();
        let held = self.ticks / TIMEOUT_HOLDS_TICKS;
        let drawn = mix(self.seed ^ mix(term ^ mix(self.boot ^ mix(held))));
        replica.pin_election_timeout(10 + usize::try_from(drawn % 20).unwrap_or(0));
    }

    /// Keeps a frame for the end of a pause.
    pub fn keep_for_later(&mut self, flight: Flight) {
        if self.inbox.len() < PAUSED_INBOX_MAX {
            self.inbox.push(flight);
        }
    }

    /// The process is gone; its files are as it left them.
    pub fn drop_replica(&mut self) {
        self.replica = None;
        self.inbox.clear();
    }

    /// The power is gone too: what was not synced survives in part.
    pub fn cut_power(&mut self, seed: u64) {
        self.drop_replica();
        self.was_cut = true;
        self.log_disk.power_cut(seed);
        self.snapshot_disk.power_cut(mix(seed));
    }

    /// Whether one of its disks has stopped, and with it the machine.
    #[must_use]
    pub fn is_stopped(&self) -> bool {
        self.log_disk.is_stopped() || self.snapshot_disk.is_stopped()
    }

    /// Plans a fault for a call to one of its disks, so many calls from now; not while earlier ones
    /// wait for theirs: they would all hit one restart.
    pub fn plan(&mut self, fault: Fault, kind: DiskFault, on_log: bool, ahead: u64) -> bool {
        if self.planned.len() >= DISK_FAULTS_AHEAD_MAX {
            return false;
        }
        let disk = if on_log { &self.log_disk } else { &self.snapshot_disk };
        let call = disk.calls() + ahead;
        disk.plan_fault(call, kind);
        self.planned.push(Planned { on_log, call, fault });
        true
    }

    /// Its disks have only so much room left; `None` is enough.
    pub fn leave_room(&mut self, bytes: Option<u64>) {
        self.full = bytes.is_some();
        for disk in [&self.log_disk, &self.snapshot_disk] {
            disk.set_capacity_bytes(bytes.map(|bytes| disk.used_bytes() + bytes));
        }
    }

    /// Whether its disks may fail now without being told to.
    #[must_use]
    pub fn may_fail(&self) -> bool {
        self.full || self.is_stopped()
    }

    /// The planned faults that have happened since this was asked last.
    pub fn take_disk_faults(&mut self) -> Vec<Fault> {
        let mut happened = Vec::new();
        let (log, snapshots) = (&self.log_disk, &self.snapshot_disk);
        self.planned.retain(|planned| {
            let disk = if planned.on_log { log } else { snapshots };
            if disk.has_fired(planned.call) {
                happened.push(planned.fault);
                return false;
            }
            // Its call may have come while the machine had stopped.
            disk.calls() <= planned.call
        });
        happened
    }
}

/// The level that an older program reads.
pub const OLDER: u16 = FEATURE_LEVEL - 1;

/// As if parameters could be deleted only since the newest level.
fn level_needed(command: &Command) -> u16 {
    if let Command::Batch(items) = command {
        return items.iter().map(|item| level_needed(&item.command)).max().unwrap_or(OLDER);
    }
    if matches!(command, Command::ParamDelete { .. }) { FEATURE_LEVEL } else { OLDER }
}

/// Wall time at which a simulation begins: 2026-01-01.
pub(crate) const WALL_START_MS: u64 = 1_767_225_600_000;
