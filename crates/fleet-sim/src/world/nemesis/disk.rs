//! Disks that change behind a node's back: rot, and copies of earlier days.
//!
//! Both happen to a node that the site bears to lose. What it does then is its own affair as long
//! as nobody else is deceived: it may refuse to start, or stop as soon as it hears the others; it
//! is then replaced. Going on with other data than it had is a failure.

use fleet_consensus::ReplicaConfig;
use fleet_log::{Disk, Log, LogIdentity, MemoryDisk};
use fleet_state::NodeId;

use super::super::World;
use crate::invariants::Violation;
use crate::node::{Doubt, Life, OldCopy};

/// Bytes looked at before a flip is given up.
const FLIPS_MAX: usize = 24;
/// Within this time after its start a node was heard by all that it can reach.
const HEARD_MS: u64 = 400;
/// Within this time an old copy is recognised by all who have heard more of it. Who restarts before
/// that has forgotten, and with all of them nobody could tell: that is a limit of the promise.
const RECOGNISED_MS: u64 = 2_000;

impl World {
    /// One byte of a node's files changes while the node is down.
    pub(super) fn flip_a_byte(&mut self, id: NodeId) -> Result<bool, Violation> {
        if !self.may_lose(id) {
            return Ok(false);
        }
        let Some(node) = self.nodes.get(&id) else {
            return Ok(false);
        };
        let in_log = self.random.per_mille(600);
        let disk = if in_log { node.log_disk.clone() } else { node.snapshot_disk.clone() };
        self.take_down(id, false, "rot");
        let Some((name, offset, mask)) = self.choose_byte(id, &disk, in_log)? else {
            self.start(id)?;
            return Ok(false);
        };
        disk.flip(&name, offset, mask);
        if let Some(node) = self.nodes.get_mut(&id) {
            node.doubt = Some(Doubt::Flipped);
        }
        self.start(id)?;
        Ok(true)
    }

    fn choose_byte(
        &mut self,
        id: NodeId,
        disk: &MemoryDisk,
        in_log: bool,
    ) -> Result<Option<(String, usize, u8)>, Violation> {
        let names = disk.list().unwrap_or_default();
        for _ in 0..FLIPS_MAX {
            let Some(name) = self.random.pick(&names).cloned() else {
                return Ok(None);
            };
            // Most of a segment is not written yet.
            let bytes = disk.contents(&name).unwrap_or_default();
            let used = bytes.iter().rposition(|byte| *byte != 0).map_or(0, |at| at + 1);
            let offset = usize::try_from(self.random.below(used as u64)).unwrap_or(0);
            let mask = 1 << self.random.below(8);
            if !in_log || self.is_noticed(id, disk, &name, offset, mask)? {
                return Ok(Some((name, offset, mask)));
            }
        }
        Ok(None)
    }

    /// Whether a flip in the log is noticed when it is opened. A flip in the last batch can't be
    /// told from a torn write, and is left out: it costs what the batch held, as is documented.
    fn is_noticed(
        &self,
        id: NodeId,
        disk: &MemoryDisk,
        name: &str,
        offset: usize,
        mask: u8,
    ) -> Result<bool, Violation> {
        let config = ReplicaConfig::new(id, self.site.uid);
        let identity = LogIdentity { site_uid: *self.site.uid.as_bytes(), node: id.get() };
        let (sound, flipped) = (disk.fork(), disk.fork());
        flipped.flip(name, offset, mask);
        let Ok((sound, _)) = Log::open(sound, identity, config.log) else {
            return Ok(false);
        };
        let Ok((flipped, recovery)) = Log::open(flipped, identity, config.log) else {
            return Ok(true);
        };
        if recovery.cut.is_some() {
            return Ok(false);
        }
        let all = |log: &Log<MemoryDisk>| {
            log.entries(log.first_index(), log.last_index() + 1, u64::MAX).ok()
        };
        let same = sound.hard_state() == flipped.hard_state() && all(&sound) == all(&flipped);
        if same {
            return Ok(false);
        }
        let what = format!("node {id}: byte {offset} of {name}, bits {mask:#x}");
        Err(Violation::new("a flipped bit of the log is noticed", what))
    }

    /// A copy of a node's disks is kept, or put back in place of the disks.
    pub(super) fn roll_back(&mut self, any: NodeId) -> Result<bool, Violation> {
        let Some((id, copy_boot)) = self.nemesis.copy.as_ref().map(|(id, copy)| (*id, copy.boot))
        else {
            let kept = self.nodes.get(&any).map(|node| OldCopy {
                log_disk: node.log_disk.fork(),
                snapshot_disk: node.snapshot_disk.fork(),
                boot: node.boot,
            });
            self.nemesis.copy = kept.map(|copy| (any, copy));
            return Ok(false);
        };
        let Some(node) = self.nodes.get(&id).filter(|node| node.life != Life::Gone) else {
            self.nemesis.copy = None;
            return Ok(false);
        };
        // The boot counter is on the disk too. With one that nobody has heard before, an old copy
        // looks like a node that restarted; only two starts in between tell. And only those can tell
        // who have heard the last of them, and run since.
        let starts = (copy_boot + 2).saturating_sub(node.boot);
        let heard = self.nodes.values().filter(|other| other.id != id).all(|other| {
            other.life == Life::Gone || other.is_running() && other.started_ms() < node.started_ms()
        });
        if starts > 0 || !heard {
            let restarts = if node.is_running() { starts.max(1) } else { 0 };
            for _ in 0..restarts {
                self.take_down(id, false, "restart");
                self.start(id)?;
            }
            return Ok(false);
        }
        if self.now_ms.saturating_sub(node.started_ms()) < HEARD_MS || !self.network.is_whole() {
            return Ok(false);
        }
        if !self.may_lose(id) {
            return Ok(false);
        }
        let Some((_, copy)) = self.nemesis.copy.take() else {
            return Ok(false);
        };
        self.take_down(id, false, "rolled back");
        if let Some(node) = self.nodes.get_mut(&id) {
            node.put_back(copy);
        }
        self.remove(id);
        self.invite();
        self.start(id)?;
        self.nemesis.quiet_until_ms = self.now_ms + RECOGNISED_MS;
        Ok(true)
    }
}
