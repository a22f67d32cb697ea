//! How a log gets shorter at its beginning: compaction, and the start anew after a snapshot.

use crate::disk::Disk;
use crate::entry::Position;
use crate::error::{DIRECTORY, LogError};
use crate::log::Log;
use crate::record::{Content, Kind, push};
use crate::seeded;
use crate::segment::file_name;

impl<D: Disk> Log<D> {
    /// Forgets the entries up to and with `through` and removes the segments that are no longer
    /// needed; what waits for a sync is synced with it. What is compacted is taken for committed.
    pub fn compact(&mut self, through: u64) -> Result<(), LogError> {
        self.check_usable()?;
        if through <= self.start().index {
            return Ok(());
        }
        self.check_commit()?;
        let term = self
            .index
            .term(through)
            .ok_or(LogError::Unavailable { index: through, last: self.last_index() })?;
        let start = Position { index: through, term };
        push(&mut self.batch, &Content::bare(Kind::Start, through, term));
        self.hard_state.commit = self.hard_state.commit.max(through);
        self.index.compact(start);
        self.sync()?;
        let removed = self.remove_unused().map(|_| ());
        self.poison_if_failed(removed)
    }

    /// Empties the log, which then goes on after `start`: a snapshot up to there was installed.
    /// After a crash either the old log is there or the new one. What waited for a sync is
    /// dropped, but for the hard state, whose commit index becomes at least `start.index`.
    pub fn reset(&mut self, start: Position) -> Result<(), LogError> {
        self.check_usable()?;
        if start.index < self.hard_state.commit {
            return Err(LogError::Committed { index: start.index, commit: self.hard_state.commit });
        }
        self.batch.clear();
        push(&mut self.batch, &Content::bare(Kind::Reset, start.index, start.term));
        self.hard_state.commit = start.index;
        self.index.reset(start);
        self.sync()?;
        let removed = self.remove_unused().map(|_| ());
        self.poison_if_failed(removed)
    }

    /// Removes the segments without entries before the first one that has some. Returns how many.
    pub(crate) fn remove_unused(&mut self) -> Result<usize, LogError> {
        let newest = self.segments.last().map_or(0, |segment| segment.number);
        let needed = self.index.first_segment().unwrap_or(newest);
        let needed = needed + u32::from(needed < newest && seeded::on("needed-segment-removed"));
        let unused = self.segments.iter().take_while(|segment| segment.number < needed).count();
        if unused == 0 {
            return Ok(0);
        }
        for segment in self.segments.drain(..unused) {
            remove(&self.disk, &file_name(segment.number))?;
        }
        sync_dir(&self.disk)?;
        Ok(unused)
    }
}

pub(crate) fn remove<D: Disk>(disk: &D, name: &str) -> Result<(), LogError> {
    disk.remove(name).map_err(|source| LogError::Storage {
        action: "remove",
        file: name.to_owned(),
        source,
    })
}

pub(crate) fn sync_dir<D: Disk>(disk: &D) -> Result<(), LogError> {
    disk.sync_dir().map_err(|source| LogError::Storage {
        action: "sync",
        file: DIRECTORY.to_owned(),
        source,
    })
}
