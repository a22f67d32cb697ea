//! What a [`MemoryDisk`](super::MemoryDisk) holds: bytes and names, durable or not yet.

use std::collections::BTreeMap;

/// Sectors survive a power cut or don't, each as a whole.
const SECTOR_BYTES: usize = 512;

/// A change of a file that may not be durable yet.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Write { offset: u64, bytes: Vec<u8> },
    Size(u64),
}

/// A file.
#[derive(Clone, Debug, Default)]
pub(super) struct Contents {
    /// What readers see.
    seen: Vec<u8>,
    durable: Vec<u8>,
    unsynced: Vec<Change>,
    /// A sync failed: readers see bytes that the medium never got.
    sync_failed: bool,
}

impl Contents {
    pub(super) fn durable(bytes: Vec<u8>) -> Self {
        Self { seen: bytes.clone(), durable: bytes, unsynced: Vec::new(), sync_failed: false }
    }

    pub(super) fn seen(&self) -> &[u8] {
        &self.seen
    }

    pub(super) fn size_bytes(&self) -> u64 {
        crate::recovery::to_u64(self.seen.len())
    }

    pub(super) fn read(&self, offset: u64, buffer: &mut [u8]) -> usize {
        let from = usize::try_from(offset).unwrap_or(usize::MAX);
        let available = self.seen.get(from..).unwrap_or_default();
        let count = available.len().min(buffer.len());
        for (to, from) in buffer.iter_mut().zip(available) {
            *to = *from;
        }
        count
    }

    pub(super) fn change(&mut self, change: Change) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        for change in self.unsynced.drain(..) {
            change.apply(&mut self.durable);
        }
    }

    pub(super) fn lose_unsynced(&mut self) {
        self.unsynced.clear();
        self.sync_failed = true;
    }

    /// Opening a file drops what only the cache has.
    pub(super) fn read_from_medium(&mut self) {
        if self.sync_failed {
            self.sync_failed = false;
            self.seen.clone_from(&self.durable);
            for change in &self.unsynced {
                change.apply(&mut self.seen);
            }
        }
    }

    pub(super) fn flip(&mut self, offset: usize, mask: u8) -> bool {
        match (self.seen.get_mut(offset), self.durable.get_mut(offset)) {
            (Some(seen), Some(durable)) => {
                *seen ^= mask;
                *durable ^= mask;
                true
            }
            _ => false,
        }
    }

    pub(super) fn power_cut(&mut self, random: &mut Random) {
        let survival = Survival::choose(random);
        let changes = std::mem::take(&mut self.unsynced);
        let kept_max = match survival {
            Survival::Prefix => random.below(changes.len() + 1),
            Survival::Nothing | Survival::Everything | Survival::Some => changes.len(),
        };
        for (at, change) in changes.into_iter().enumerate() {
            match survival {
                Survival::Nothing => {}
                Survival::Everything => change.apply(&mut self.durable),
                Survival::Prefix if at < kept_max => change.apply(&mut self.durable),
                Survival::Prefix if at == kept_max => change.torn(random).apply(&mut self.durable),
                Survival::Prefix => {}
                Survival::Some => change.apply_sectors(&mut self.durable, random),
            }
        }
        self.sync_failed = false;
        self.seen.clone_from(&self.durable);
    }
}

impl Change {
    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Size(size_bytes) => to.resize(as_usize(*size_bytes), 0),
            Self::Write { offset, bytes } => write(to, as_usize(*offset), bytes),
        }
    }

    /// The beginning of this change, up to any byte.
    fn torn(self, random: &mut Random) -> Self {
        match self {
            Self::Size(_) => self,
            Self::Write { offset, mut bytes } => {
                bytes.truncate(random.below(bytes.len() + 1));
                Self::Write { offset, bytes }
            }
        }
    }

    /// Any subset of the sectors.
    fn apply_sectors(&self, to: &mut Vec<u8>, random: &mut Random) {
        match self {
            Self::Size(_) => {
                if random.below(2) == 1 {
                    self.apply(to);
                }
            }
            Self::Write { offset, bytes } => {
                let mut at = as_usize(*offset);
                let mut rest = bytes.as_slice();
                while !rest.is_empty() {
                    let in_sector = SECTOR_BYTES - at % SECTOR_BYTES;
                    let (sector, after) = rest.split_at(in_sector.min(rest.len()));
                    if random.below(2) == 1 {
                        write(to, at, sector);
                    }
                    at += sector.len();
                    rest = after;
                }
            }
        }
    }
}

fn write(to: &mut Vec<u8>, offset: usize, bytes: &[u8]) {
    let end = offset.saturating_add(bytes.len());
    if to.len() < end {
        to.resize(end, 0);
    }
    if let Some(range) = to.get_mut(offset..end) {
        range.copy_from_slice(bytes);
    }
}

fn as_usize(value: u64) -> usize {
    usize::try_from(value).unwrap_or(usize::MAX)
}

/// What survives of the changes that were not synced.
#[derive(Clone, Copy, Debug)]
enum Survival {
    Nothing,
    Everything,
    Prefix,
    Some,
}

impl Survival {
    fn choose(random: &mut Random) -> Self {
        match random.below(6) {
            0 => Self::Nothing,
            1 => Self::Everything,
            2 | 3 => Self::Prefix,
            _ => Self::Some,
        }
    }
}

/// The names of a directory.
#[derive(Clone, Debug, Default)]
pub(super) struct Names {
    seen: BTreeMap<String, u64>,
    durable: BTreeMap<String, u64>,
    unsynced: Vec<NameChange>,
}

#[derive(Clone, Debug)]
enum NameChange {
    Set(String, u64),
    Removed(String),
    Renamed(String, String, u64),
}

impl NameChange {
    fn apply(&self, to: &mut BTreeMap<String, u64>) {
        match self {
            Self::Set(name, inode) => {
                to.insert(name.clone(), *inode);
            }
            Self::Removed(name) => {
                to.remove(name);
            }
            Self::Renamed(from, name, inode) => {
                to.remove(from);
                to.insert(name.clone(), *inode);
            }
        }
    }
}

impl Names {
    pub(super) fn get(&self, name: &str) -> Option<u64> {
        self.seen.get(name).copied()
    }

    pub(super) fn list(&self) -> Vec<String> {
        self.seen.keys().cloned().collect()
    }

    pub(super) fn has(&self, inode: u64) -> bool {
        let durable = self.durable.values();
        let unsynced = self.unsynced.iter().any(|change| match change {
            NameChange::Set(_, named) | NameChange::Renamed(_, _, named) => *named == inode,
            NameChange::Removed(_) => false,
        });
        unsynced || self.seen.values().chain(durable).any(|named| *named == inode)
    }

    pub(super) fn put(&mut self, name: &str, inode: u64) {
        self.sync();
        self.seen.insert(name.to_owned(), inode);
        self.durable.insert(name.to_owned(), inode);
    }

    pub(super) fn set(&mut self, name: &str, inode: u64) {
        self.change(NameChange::Set(name.to_owned(), inode));
    }

    pub(super) fn remove(&mut self, name: &str) {
        self.change(NameChange::Removed(name.to_owned()));
    }

    pub(super) fn rename(&mut self, from: &str, to: &str) {
        if let Some(inode) = self.get(from) {
            self.change(NameChange::Renamed(from.to_owned(), to.to_owned(), inode));
        }
    }

    fn change(&mut self, change: NameChange) {
        change.apply(&mut self.seen);
        self.unsynced.push(change);
    }

    pub(super) fn sync(&mut self) {
        self.unsynced.clear();
        self.durable.clone_from(&self.seen);
    }

    pub(super) fn power_cut(&mut self, random: &mut Random) {
        let survival = Survival::choose(random);
        let changes = std::mem::take(&mut self.unsynced);
        let kept_max = random.below(changes.len() + 1);
        for (at, change) in changes.into_iter().enumerate() {
            let kept = match survival {
                Survival::Nothing => false,
                Survival::Everything => true,
                Survival::Prefix => at < kept_max,
                Survival::Some => random.below(2) == 1,
            };
            if kept {
                change.apply(&mut self.durable);
            }
        }
        self.seen.clone_from(&self.durable);
    }
}

/// A small generator of numbers (splitmix64): the same seed, the same numbers, everywhere.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    pub(super) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number from 0 up to but without `bound`, which is not 0.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        let bound = crate::recovery::to_u64(bound).max(1);
        as_usize(self.next() % bound)
    }
}
