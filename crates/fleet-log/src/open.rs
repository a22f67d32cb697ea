//! Opens a log that exists: recovery finds out what is there, then what must be changed is.

use std::sync::atomic::AtomicBool;

use crate::compact::{remove, sync_dir};
use crate::config::{LogConfig, LogIdentity};
use crate::disk::{Disk, DiskFile};
use crate::end_mark::EndMark;
use crate::error::{LogError, OpenError};
use crate::index::Index;
use crate::log::Log;
use crate::record::Seed;
use crate::recovery::{Access, Found, Recovered, Recovery, recover, to_u64};
use crate::scan::End;
use crate::segment::{Segment, file_name};

/// Written piece by piece over a cut end.
static ZEROS: [u8; 64 * 1024] = [0; 64 * 1024];

impl<D: Disk> Log<D> {
    /// Opens the log in a directory. On an error nothing was changed there.
    ///
    /// What is in the log then is durable, also what a killed process had written without a sync.
    /// If the last batch is not whole it is cut, durably, and the [`Recovery`] says so.
    pub fn open(
        disk: D,
        identity: LogIdentity,
        config: LogConfig,
    ) -> Result<(Self, Recovery), OpenError> {
        config.validate().map_err(OpenError::Refused)?;
        let recovered = recover(&disk, &identity, Access::Use)?;
        Ok(Self::take_over(disk, identity, config, recovered)?)
    }

    /// From here on the directory is changed; each step may be the last one before a crash.
    fn take_over(
        disk: D,
        identity: LogIdentity,
        config: LogConfig,
        recovered: Recovered<D::File>,
    ) -> Result<(Self, Recovery), LogError> {
        let Recovered { replay, mut found, cut, leftovers, unborn: _ } = recovered;
        let seed = Seed::new(&identity);
        // 1. Bytes of a torn batch must never come alive behind what is written next.
        if let Some(newest) = found.last_mut() {
            let Segment { number, end, .. } = newest.segment;
            let mark = EndMark::behind(&replay.point).encode(seed, number, end);
            clear_tail(newest, &mark)?;
        }
        // 2. Leftovers go after that: an empty next segment excuses a torn seal.
        for name in &leftovers {
            remove(&disk, name)?;
        }
        if !leftovers.is_empty() {
            sync_dir(&disk)?;
        }
        let mut log = Self {
            disk,
            identity,
            seed,
            config,
            segments: found.into_iter().map(|found| found.segment).collect(),
            index: Index::new(replay.point.start, replay.slots, config.cache_bytes),
            hard_state: replay.point.hard_state,
            durable: replay.point,
            batch: Vec::new(),
            marked: replay.marked,
            poisoned: AtomicBool::new(false),
        };
        // 3. A compaction may have been stopped before it removed anything.
        let unused = log.remove_unused()?;
        // 4. Everything is synced by now, which is worth being on record.
        log.mark()?;
        let recovery = Recovery {
            cut,
            segments: log.segments.len(),
            entries: log.entries_len(),
            leftovers_removed: leftovers.len() + unused,
        };
        Ok((log, recovery))
    }
}

/// Overwrites a torn batch with the end mark and zeros, durably.
fn clear_tail<F: DiskFile>(found: &mut Found<F>, mark: &[u8]) -> Result<(), LogError> {
    let End::Torn { size_bytes, .. } = found.scan.end else {
        return Ok(());
    };
    let Found { segment, .. } = found;
    zero(segment, mark, size_bytes).map_err(|source| LogError::Storage {
        action: "clear the torn end of",
        file: file_name(segment.number),
        source,
    })
}

fn zero<F: DiskFile>(
    segment: &mut Segment<F>,
    mark: &[u8],
    size_bytes: usize,
) -> std::io::Result<()> {
    let mut offset = u64::from(segment.end);
    segment.file.write_at(offset, mark)?;
    offset += to_u64(mark.len());
    let mut left = size_bytes.saturating_sub(mark.len());
    while left > 0 {
        let zeros = ZEROS.get(..left).unwrap_or(&ZEROS);
        segment.file.write_at(offset, zeros)?;
        offset += to_u64(zeros.len());
        left -= zeros.len();
    }
    segment.file.sync_data()
}
