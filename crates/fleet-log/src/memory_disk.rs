//! A disk in memory that lies as real ones do.
//!
//! It keeps apart what was written from what is durable. [`MemoryDisk::power_cut`] loses some of
//! what was not synced: nothing of it, all of it, a prefix that ends in the middle of a write, or
//! any subset of sectors and names, as a seed decides. Without a cut everything written is there
//! for the next process, as after a kill. Faults are planned by the number of the call that
//! changes something; [`MemoryDisk::faults_fired`] tells a test that its fault did happen.
//!
//! After a failed sync, reads go on to show what was written, until the file is opened anew: the
//! bytes are then gone, and a second sync would not have saved them.
//!
//! A clone is the same disk; [`MemoryDisk::fork`] is a copy.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::disk::{Disk, DiskFile};

mod contents;

use contents::{Change, Contents, Names, Random};

/// What goes wrong at a planned call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DiskFault {
    /// An I/O error. Nothing is done, and a sync loses what it should have made durable.
    Io,
    /// No space left. Nothing is done.
    NoSpace,
    /// No space left in the middle of a write; any other call just fails.
    ShortWrite,
    /// The machine stops: this call and all later ones fail until [`MemoryDisk::power_cut`].
    Stop,
}

/// See the module.
#[derive(Clone, Debug, Default)]
pub struct MemoryDisk {
    machine: Arc<Mutex<Machine>>,
}

/// A file on a [`MemoryDisk`].
#[derive(Debug)]
pub struct MemoryFile {
    machine: Arc<Mutex<Machine>>,
    boot: u64,
    inode: u64,
}

#[derive(Clone, Debug, Default)]
struct Machine {
    boot: u64,
    inodes_made: u64,
    files: BTreeMap<u64, Contents>,
    names: Names,
    calls: u64,
    planned: BTreeMap<u64, DiskFault>,
    /// Calls at which a planned fault has happened.
    fired: BTreeSet<u64>,
    stopped: bool,
    capacity_bytes: Option<u64>,
}

impl MemoryDisk {
    /// An empty directory on a disk without limit.
    pub fn new() -> Self {
        Self::default()
    }

    /// A copy with the same contents, durable and not, but no planned faults.
    pub fn fork(&self) -> Self {
        let mut machine = self.lock().clone();
        machine.planned.clear();
        machine.stopped = false;
        Self { machine: Arc::new(Mutex::new(machine)) }
    }

    /// Cuts the power and turns it on again: open files become useless, and what was not synced
    /// survives in the part that `seed` chooses. A machine that had stopped goes on.
    pub fn power_cut(&self, seed: u64) {
        let mut machine = self.lock();
        let mut random = Random::new(seed);
        machine.boot += 1;
        machine.stopped = false;
        for contents in machine.files.values_mut() {
            contents.power_cut(&mut random);
        }
        machine.names.power_cut(&mut random);
        machine.forget_unnamed();
    }

    /// Plans a fault for the call with this number; the next call has the number
    /// [`calls`](Self::calls).
    pub fn plan_fault(&self, call: u64, fault: DiskFault) {
        self.lock().planned.insert(call, fault);
    }

    /// How many calls have changed, or tried to change, something.
    pub fn calls(&self) -> u64 {
        self.lock().calls
    }

    /// How many planned faults have happened.
    pub fn faults_fired(&self) -> u64 {
        crate::recovery::to_u64(self.lock().fired.len())
    }

    /// Whether the fault that was planned for this call has happened. One whose call came while the
    /// machine had stopped never does.
    pub fn has_fired(&self, call: u64) -> bool {
        self.lock().fired.contains(&call)
    }

    /// Whether a [`DiskFault::Stop`] has happened since the last cut of the power.
    pub fn is_stopped(&self) -> bool {
        self.lock().stopped
    }

    /// Limits the sum of all file sizes; beyond it there is no space left. `None` is no limit.
    pub fn set_capacity_bytes(&self, capacity_bytes: Option<u64>) {
        self.lock().capacity_bytes = capacity_bytes;
    }

    /// The sum of all file sizes.
    pub fn used_bytes(&self) -> u64 {
        self.lock().used_bytes()
    }

    /// All bytes of a file as a reader would see them.
    pub fn contents(&self, name: &str) -> Option<Vec<u8>> {
        let machine = self.lock();
        let inode = machine.names.get(name)?;
        machine.files.get(&inode).map(|contents| contents.seen().to_vec())
    }

    /// Puts a file there, durably, in place of one of that name.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut machine = self.lock();
        let inode = machine.new_inode(Contents::durable(bytes));
        machine.names.put(name, inode);
        machine.forget_unnamed();
    }

    /// Flips the bits of `mask` in one byte, durably. Says whether there is such a byte.
    pub fn flip(&self, name: &str, offset: usize, mask: u8) -> bool {
        let mut machine = self.lock();
        let Some(inode) = machine.names.get(name) else {
            return false;
        };
        machine.files.get_mut(&inode).is_some_and(|contents| contents.flip(offset, mask))
    }

    fn lock(&self) -> MutexGuard<'_, Machine> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Machine {
    fn new_inode(&mut self, contents: Contents) -> u64 {
        self.inodes_made += 1;
        self.files.insert(self.inodes_made, contents);
        self.inodes_made
    }

    fn forget_unnamed(&mut self) {
        let Self { files, names, .. } = self;
        files.retain(|inode, _| names.has(*inode));
    }

    /// Counts a call and lets its planned fault happen, all but the partial ones.
    fn step(&mut self) -> io::Result<Option<DiskFault>> {
        let call = self.calls;
        self.calls += 1;
        if self.stopped {
            return Err(stopped());
        }
        let fault = self.planned.remove(&call);
        if fault.is_some() {
            self.fired.insert(call);
        }
        if fault == Some(DiskFault::Stop) {
            self.stopped = true;
            return Err(stopped());
        }
        Ok(fault)
    }

    /// As [`step`](Self::step), for calls that are done whole or not at all.
    fn step_whole(&mut self) -> io::Result<()> {
        match self.step()? {
            None => Ok(()),
            Some(fault) => Err(error_of(fault)),
        }
    }

    fn find(&self, name: &str) -> io::Result<u64> {
        if self.stopped {
            return Err(stopped());
        }
        self.names
            .get(name)
            .ok_or_else(|| io::Error::new(io::ErrorKind::NotFound, format!("no file {name}")))
    }

    fn check_room(&self, more_bytes: u64) -> io::Result<()> {
        match self.capacity_bytes {
            Some(capacity) if self.used_bytes().saturating_add(more_bytes) > capacity => {
                Err(error_of(DiskFault::NoSpace))
            }
            _ => Ok(()),
        }
    }

    fn used_bytes(&self) -> u64 {
        self.files.values().map(Contents::size_bytes).sum()
    }
}

fn stopped() -> io::Error {
    io::Error::other("the machine has stopped")
}

fn error_of(fault: DiskFault) -> io::Error {
    match fault {
        DiskFault::Io => io::Error::other("planned I/O error"),
        DiskFault::NoSpace | DiskFault::ShortWrite => {
            io::Error::new(io::ErrorKind::StorageFull, "no space left on the disk")
        }
        DiskFault::Stop => stopped(),
    }
}

impl Disk for MemoryDisk {
    type File = MemoryFile;

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.lock().names.list())
    }

    fn open(&self, name: &str) -> io::Result<MemoryFile> {
        let mut machine = self.lock();
        let inode = machine.find(name)?;
        if let Some(contents) = machine.files.get_mut(&inode) {
            contents.read_from_medium();
        }
        Ok(MemoryFile { machine: Arc::clone(&self.machine), boot: machine.boot, inode })
    }

    fn create(&self, name: &str) -> io::Result<MemoryFile> {
        let mut machine = self.lock();
        machine.step_whole()?;
        if machine.names.get(name).is_some() {
            return Err(io::Error::new(io::ErrorKind::AlreadyExists, format!("{name} exists")));
        }
        let inode = machine.new_inode(Contents::default());
        machine.names.set(name, inode);
        Ok(MemoryFile { machine: Arc::clone(&self.machine), boot: machine.boot, inode })
    }

    fn rename(&self, from: &str, to: &str) -> io::Result<()> {
        let mut machine = self.lock();
        machine.step_whole()?;
        machine.find(from)?;
        machine.names.rename(from, to);
        machine.forget_unnamed();
        Ok(())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let mut machine = self.lock();
        machine.step_whole()?;
        machine.find(name)?;
        machine.names.remove(name);
        machine.forget_unnamed();
        Ok(())
    }

    fn sync_dir(&self) -> io::Result<()> {
        let mut machine = self.lock();
        machine.step_whole()?;
        machine.names.sync();
        machine.forget_unnamed();
        Ok(())
    }
}

impl MemoryFile {
    fn with<T>(&self, act: impl FnOnce(&mut Machine, u64) -> io::Result<T>) -> io::Result<T> {
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        if machine.boot != self.boot {
            return Err(io::Error::other("the file was open before a power cut"));
        }
        act(&mut machine, self.inode)
    }

    fn resize(&self, size_bytes: u64, grow_only: bool) -> io::Result<()> {
        self.with(|machine, inode| {
            machine.step_whole()?;
            let now = contents_of(machine, inode)?.size_bytes();
            if grow_only && now >= size_bytes {
                return Ok(());
            }
            machine.check_room(size_bytes.saturating_sub(now))?;
            contents_of(machine, inode)?.change(Change::Size(size_bytes));
            Ok(())
        })
    }
}

/// A file that has lost its names lives on for those who have it open.
fn contents_of(machine: &mut Machine, inode: u64) -> io::Result<&mut Contents> {
    Ok(machine.files.entry(inode).or_default())
}

impl DiskFile for MemoryFile {
    fn size_bytes(&self) -> io::Result<u64> {
        self.with(|machine, inode| Ok(contents_of(machine, inode)?.size_bytes()))
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        self.with(|machine, inode| {
            if machine.stopped {
                return Err(stopped());
            }
            Ok(contents_of(machine, inode)?.read(offset, buffer))
        })
    }

    fn write_at(&mut self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        self.with(|machine, inode| {
            let fault = machine.step()?;
            let written = match fault {
                None => bytes,
                Some(DiskFault::ShortWrite) => bytes.get(..bytes.len() / 2).unwrap_or_default(),
                Some(fault) => return Err(error_of(fault)),
            };
            let end = offset.saturating_add(crate::recovery::to_u64(written.len()));
            let size_bytes = contents_of(machine, inode)?.size_bytes();
            machine.check_room(end.saturating_sub(size_bytes))?;
            contents_of(machine, inode)?.change(Change::Write { offset, bytes: written.to_vec() });
            fault.map_or(Ok(()), |fault| Err(error_of(fault)))
        })
    }

    fn set_size(&mut self, size_bytes: u64) -> io::Result<()> {
        self.resize(size_bytes, false)
    }

    fn preallocate(&mut self, size_bytes: u64) -> io::Result<()> {
        self.resize(size_bytes, true)
    }

    fn sync_data(&mut self) -> io::Result<()> {
        self.with(|machine, inode| {
            let fault = machine.step()?;
            let contents = contents_of(machine, inode)?;
            if let Some(fault) = fault {
                contents.lose_unsynced();
                return Err(error_of(fault));
            }
            contents.sync();
            Ok(())
        })
    }
}
