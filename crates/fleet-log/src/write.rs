//! Batches on their way to the disk: where they go, when a new segment begins.

use crate::config::LogConfig;
use crate::disk::{Disk, DiskFile};
use crate::end_mark::{END_MARK_BYTES, EndMark};
use crate::error::LogError;
use crate::log::Log;
use crate::record::{Content, Kind, Place, SEAL_BYTES, push, seal_batch};
use crate::seeded;
use crate::segment::{Checkpoint, HEADER_BYTES, Header, Segment, file_name};

/// A batch buffer that has grown beyond this is given back after its sync.
const BUFFER_BYTES_KEPT: usize = 1024 * 1024;

impl<D: Disk> Log<D> {
    /// Proves to a later reader that everything before was synced: with a mark behind it, damage
    /// to the newest batch is told from a torn write. Worth a call when the log has been idle and
    /// before a clean stop. Syncs what waits; writes nothing if the newest batch is a mark, or if
    /// the segment is full.
    pub fn mark(&mut self) -> Result<(), LogError> {
        self.sync()?;
        if self.marked || !self.fits(SEAL_BYTES) {
            return Ok(());
        }
        push(&mut self.batch, &Content::bare(Kind::Mark, 0, 0));
        let written = self.write_batch();
        self.marked = written.is_ok();
        self.poison_if_failed(written)
    }

    /// Writes the batch that waits and syncs it.
    pub(crate) fn write_batch(&mut self) -> Result<(), LogError> {
        if !self.fits(self.batch.len()) {
            self.roll()?;
        }
        let segment = self.segments.last_mut().ok_or(LogError::Poisoned)?;
        let place = Place {
            seed: self.seed,
            segment: segment.number,
            offset: segment.end,
            sequence: self.durable.sequence,
            chain: self.durable.chain,
        };
        let chain = seal_batch(&mut self.batch, place);
        let durable = Checkpoint {
            start: self.index.start(),
            last: self.index.last(),
            hard_state: self.hard_state,
            sequence: place.sequence.saturating_add(1),
            chain,
        };
        // Batches are bounded far below 4 GiB.
        let batch_bytes = u32::try_from(self.batch.len()).unwrap_or(u32::MAX);
        let end = segment.end.saturating_add(batch_bytes);
        let mark = EndMark::behind(&durable).encode(self.seed, segment.number, end);
        self.batch.extend_from_slice(&mark);
        write_synced(segment, &self.batch)?;
        segment.end = end;
        self.durable = durable;
        self.index.settle(place.segment, place.offset);
        self.marked = false;
        self.batch.clear();
        self.batch.shrink_to(BUFFER_BYTES_KEPT);
        Ok(())
    }

    /// Whether a batch and what stands behind it, be it the end mark or a seal, have room in the
    /// newest segment.
    fn fits(&self, batch_bytes: usize) -> bool {
        self.segments.last().is_some_and(|segment| {
            let room = segment.size_bytes.saturating_sub(segment.end);
            usize::try_from(room).unwrap_or(0) >= batch_bytes + SEAL_BYTES
        })
    }

    /// Goes on in a new segment. The order counts: the new one is durable under its name before
    /// the old one is sealed, so a sealed segment without a next one means that one was lost.
    fn roll(&mut self) -> Result<(), LogError> {
        let old = self.segments.last_mut().ok_or(LogError::Poisoned)?;
        let mut seal = Vec::with_capacity(SEAL_BYTES);
        push(&mut seal, &Content::bare(Kind::Seal, 0, 0));
        let chain = seal_batch(
            &mut seal,
            Place {
                seed: self.seed,
                segment: old.number,
                offset: old.end,
                sequence: self.durable.sequence,
                chain: if seeded::on("segments-not-chained") { 0 } else { self.durable.chain },
            },
        );
        let checkpoint =
            Checkpoint { sequence: self.durable.sequence.saturating_add(1), chain, ..self.durable };
        let header = Header {
            identity: self.identity,
            number: old.number.checked_add(1).ok_or(LogError::Exhausted)?,
            size_bytes: segment_bytes(&self.config, self.batch.len()),
            checkpoint,
        };
        let new = Segment::create(&self.disk, &header)?;
        write_synced(old, &seal)?;
        self.durable = checkpoint;
        self.segments.push(new);
        Ok(())
    }
}

const _: () = assert!(END_MARK_BYTES <= SEAL_BYTES);

/// Writes at the end of a segment and syncs it.
fn write_synced<F: DiskFile>(segment: &mut Segment<F>, bytes: &[u8]) -> Result<(), LogError> {
    let number = segment.number;
    let fault = |action: &'static str| {
        move |source| LogError::Storage { action, file: file_name(number), source }
    };
    segment.file.write_at(u64::from(segment.end), bytes).map_err(fault("write to"))?;
    if seeded::on("sync-forgotten") {
        return Ok(());
    }
    if seeded::on("sync-error-ignored") {
        let _ = segment.file.sync_data();
        return Ok(());
    }
    segment.file.sync_data().map_err(fault("sync"))
}

/// The size of a new segment whose first batch has `batch_bytes`: a batch is never split, so a
/// very large one gets a larger segment.
pub(crate) fn segment_bytes(config: &LogConfig, batch_bytes: usize) -> u32 {
    let needed = HEADER_BYTES + batch_bytes + SEAL_BYTES;
    let configured = u32::try_from(config.segment_bytes).unwrap_or(u32::MAX);
    configured.max(u32::try_from(needed).unwrap_or(u32::MAX))
}
