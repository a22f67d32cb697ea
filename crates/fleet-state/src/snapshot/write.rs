//! Writing a snapshot.

use std::io::{self, Write};

use lz4_flex::frame::{BlockMode, BlockSize, FrameEncoder, FrameInfo};

use super::stream::HashingWriter;
use super::{MAGIC, SnapshotMeta, VERSION};
use crate::codec::Writer;
use crate::seeded;
use crate::state::FleetState;
use crate::table::{Stored, Table};

/// Writes a state as a snapshot file. The caller flushes and syncs what is below `out`.
///
/// # Errors
/// Writing failed, or the header is not that of the state: another site, uid or index.
pub fn encode_snapshot(
    state: &FleetState,
    meta: &SnapshotMeta,
    out: &mut dyn Write,
) -> io::Result<()> {
    if meta.index != state.last_applied().get()
        || meta.uid != state.uid()
        || meta.site != *state.site()
    {
        let message = "the snapshot's header is not that of the state";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    let mut out = HashingWriter::new(out);
    let mut header = Writer::new();
    meta.encode(&mut header);
    out.write_all(MAGIC)?;
    out.write_all(&VERSION.to_le_bytes())?;
    out.write_all(&length(header.len())?)?;
    out.write_all(header.as_slice())?;
    // Written out, because the bytes of the file depend on them.
    let frame = FrameInfo::new()
        .block_mode(BlockMode::Independent)
        .block_size(BlockSize::Max64KB)
        .block_checksums(false)
        .content_checksum(false);
    let mut body = Body {
        frame: FrameEncoder::with_frame_info(frame, out),
        record: Writer::with_capacity(1024),
    };
    body.state(state)?;
    body.frame.finish().map_err(io::Error::from)?.finish()
}

fn length(size_bytes: usize) -> io::Result<[u8; 4]> {
    u32::try_from(size_bytes).map(u32::to_le_bytes).map_err(io::Error::other)
}

struct Body<'a> {
    frame: FrameEncoder<HashingWriter<'a>>,
    record: Writer,
}

impl Body<'_> {
    fn state(&mut self, state: &FleetState) -> io::Result<()> {
        let mut bare;
        let state = if seeded::on("answers-not-in-snapshot") {
            bare = state.clone();
            bare.dedup = crate::dedup::Dedup::default();
            &bare
        } else {
            state
        };
        self.record(|record| state.encode_meta(record))?;
        self.table(&state.links)?;
        self.table(&state.devices)?;
        self.table(&state.params)?;
        self.table(&state.members)?;
        self.table(&state.tokens)?;
        self.table(&state.watermarks)?;
        self.table(&state.invocations)?;
        self.record(|record| record.count(state.index.tombstones_len()))?;
        for (entity, revision) in state.index.tombstones() {
            self.record(|record| {
                entity.encode(record);
                record.revision(revision);
            })?;
        }
        self.record(|record| record.count(state.dedup.len()))?;
        for remembered in state.dedup.iter() {
            self.record(|record| remembered.encode(record))?;
        }
        let digest = state.digests().combined();
        self.record(|record| record.fixed(&digest.0))
    }

    fn table<R: Stored>(&mut self, table: &Table<R>) -> io::Result<()> {
        self.record(|record| record.count(table.len()))?;
        table.iter().try_for_each(|stored| self.record(|record| stored.write(record)))
    }

    fn record(&mut self, write: impl FnOnce(&mut Writer)) -> io::Result<()> {
        self.record.clear();
        write(&mut self.record);
        self.frame.write_all(&length(self.record.len())?)?;
        self.frame.write_all(self.record.as_slice())
    }
}
