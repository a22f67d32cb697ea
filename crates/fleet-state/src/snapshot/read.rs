//! Reading a snapshot.

use std::io::{self, Read};
use std::sync::Arc;

use lz4_flex::frame::FrameDecoder;

use super::stream::ContentReader;
use super::{MAGIC, SnapshotError, SnapshotMeta, VERSION};
use crate::codec::{DecodeError, Reader};
use crate::dedup::Remembered;
use crate::ids::Revision;
use crate::limits::{
    DEDUP_RECORDS_MAX, DEVICES_MAX, FEATURE_LEVEL, INVOCATIONS_MAX, LINKS_MAX, MEMBERS_MAX,
    MEMBERS_REMOVED_MAX, PARAMS_MAX, RECORD_BYTES_MAX, SNAPSHOT_HEADER_BYTES_MAX, TOKENS_MAX,
    TOMBSTONES_MAX, VOTERS_MAX,
};
use crate::record::{Device, Entity, Invocation, Link, Member, Param, Token, Watermarks};
use crate::state::FleetState;
use crate::table::Stored;

/// Reads a snapshot file whose content is at most `limit_bytes` when unpacked.
///
/// # Errors
/// Anything but a whole, undamaged snapshot of a version that is known.
pub fn decode_snapshot(
    input: &mut dyn Read,
    limit_bytes: u64,
) -> Result<(SnapshotMeta, FleetState), SnapshotError> {
    let mut content = ContentReader::new(input);
    let meta = read_header(&mut content)?;
    let state = read_body(&mut content, limit_bytes, &meta);
    if let Some(kind) = content.failure() {
        return Err(SnapshotError::Io(kind.into()));
    }
    // Damage shows in many ways, and the checksum is the plainest of them; a limit is no damage, though, and is
    // reported without reading on.
    match state {
        Err(limit @ SnapshotError::TooLarge { .. }) => Err(limit),
        state => {
            if !content.finish()? {
                return Err(SnapshotError::Checksum);
            }
            Ok((meta, state?))
        }
    }
}

/// Reads a snapshot's header and checks the checksum of the whole file, without unpacking the state.
///
/// # Errors
/// The header or the checksum is wrong.
pub fn read_snapshot_meta(input: &mut dyn Read) -> Result<SnapshotMeta, SnapshotError> {
    let mut content = ContentReader::new(input);
    let meta = read_header(&mut content)?;
    if content.finish()? { Ok(meta) } else { Err(SnapshotError::Checksum) }
}

fn read_header(content: &mut ContentReader<'_>) -> Result<SnapshotMeta, SnapshotError> {
    let magic: [u8; 8] = read_fixed(content, SnapshotError::NotASnapshot)?;
    if magic != *MAGIC {
        return Err(SnapshotError::NotASnapshot);
    }
    let version = u16::from_le_bytes(read_fixed(content, SnapshotError::Truncated)?);
    if version != VERSION {
        return Err(SnapshotError::UnknownVersion { found: version, known: VERSION });
    }
    let length = u32::from_le_bytes(read_fixed(content, SnapshotError::Truncated)?);
    let part = "header";
    if length as usize > SNAPSHOT_HEADER_BYTES_MAX {
        let source =
            DecodeError::TooLong { found: u64::from(length), limit: SNAPSHOT_HEADER_BYTES_MAX };
        return Err(SnapshotError::Decode { part, source });
    }
    let mut header = Vec::new();
    content.take(u64::from(length)).read_to_end(&mut header)?;
    if header.len() != length as usize {
        return Err(SnapshotError::Truncated);
    }
    SnapshotMeta::decode(&header).map_err(|source| SnapshotError::Decode { part, source })
}

fn read_fixed<const N: usize>(
    content: &mut ContentReader<'_>,
    short: SnapshotError,
) -> Result<[u8; N], SnapshotError> {
    let mut bytes = [0u8; N];
    match content.read_exact(&mut bytes) {
        Ok(()) => Ok(bytes),
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => Err(short),
        Err(error) => Err(error.into()),
    }
}

fn read_body(
    content: &mut ContentReader<'_>,
    limit_bytes: u64,
    meta: &SnapshotMeta,
) -> Result<FleetState, SnapshotError> {
    let frame = FrameDecoder::new(content);
    let mut body = Body { frame, left_bytes: limit_bytes, limit_bytes, record: Vec::new() };
    let state = body.state(meta)?;
    body.end()?;
    Ok(state)
}

struct Body<'a, 'b> {
    frame: FrameDecoder<&'a mut ContentReader<'b>>,
    left_bytes: u64,
    limit_bytes: u64,
    record: Vec<u8>,
}

impl Body<'_, '_> {
    fn state(&mut self, meta: &SnapshotMeta) -> Result<FleetState, SnapshotError> {
        let mut state = self.record("counters", FleetState::decode_meta)?;
        check_counters(&state, meta)?;
        self.table::<Link>(&mut state, "links", LINKS_MAX, Link::decode)?;
        self.table::<Device>(&mut state, "devices", DEVICES_MAX, Device::decode)?;
        self.table::<Param>(&mut state, "params", PARAMS_MAX, Param::decode)?;
        let members_max = MEMBERS_MAX + MEMBERS_REMOVED_MAX;
        self.table::<Member>(&mut state, "members", members_max, Member::decode)?;
        self.table::<Token>(&mut state, "tokens", TOKENS_MAX, Token::decode)?;
        self.table::<Watermarks>(&mut state, "watermarks", DEVICES_MAX, Watermarks::decode)?;
        self.table::<Invocation>(&mut state, "invocations", INVOCATIONS_MAX, Invocation::decode)?;
        self.tombstones(&mut state)?;
        self.dedup(&mut state)?;
        check_references(&mut state)?;
        let digest = self.record("digest", |reader| reader.fixed::<32>())?;
        if digest != state.digests().combined().0 {
            return Err(inconsistent("the digest is another one than that of the records"));
        }
        Ok(state)
    }

    /// Reads one record and decodes it to its last byte.
    fn record<T>(
        &mut self,
        part: &'static str,
        decode: impl FnOnce(&mut Reader<'_>) -> Result<T, DecodeError>,
    ) -> Result<T, SnapshotError> {
        let mut length = [0u8; 4];
        self.fill(&mut length)?;
        let length = u32::from_le_bytes(length) as usize;
        if length > RECORD_BYTES_MAX {
            let source = DecodeError::TooLong { found: length as u64, limit: RECORD_BYTES_MAX };
            return Err(SnapshotError::Decode { part, source });
        }
        let mut record = std::mem::take(&mut self.record);
        record.clear();
        record.resize(length, 0);
        self.fill(&mut record)?;
        let mut reader = Reader::new(&record);
        let decoded = decode(&mut reader).and_then(|value| reader.finish().map(|()| value));
        self.record = record;
        decoded.map_err(|source| SnapshotError::Decode { part, source })
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<(), SnapshotError> {
        let left = self.left_bytes.checked_sub(out.len() as u64);
        self.left_bytes = left.ok_or(SnapshotError::TooLarge { limit_bytes: self.limit_bytes })?;
        self.frame.read_exact(out).map_err(|_| SnapshotError::Compression)
    }

    fn count(&mut self, part: &'static str, limit: usize) -> Result<usize, SnapshotError> {
        self.record(part, |reader| match reader.u64()? {
            found if found > limit as u64 => Err(DecodeError::TooLong { found, limit }),
            found => Ok(found as usize),
        })
    }

    fn table<R: Stored>(
        &mut self,
        state: &mut FleetState,
        part: &'static str,
        limit: usize,
        decode: impl Fn(&mut Reader<'_>) -> Result<R, DecodeError>,
    ) -> Result<(), SnapshotError> {
        for _ in 0..self.count(part, limit)? {
            let record = Arc::new(self.record(part, &decode)?);
            let revision = check_revision(state, record.revision())?;
            if R::table_mut(state).last().is_some_and(|before| before.key() >= record.key()) {
                return Err(inconsistent("its records are not in the order of their keys"));
            }
            state.index.changed(record.entity(), None, revision);
            R::table_mut(state).insert(record);
        }
        Ok(())
    }

    fn tombstones(&mut self, state: &mut FleetState) -> Result<(), SnapshotError> {
        let part = "tombstones";
        let mut before: Option<Entity> = None;
        for _ in 0..self.count(part, TOMBSTONES_MAX)? {
            let decode =
                |reader: &mut Reader<'_>| Ok((Entity::decode(reader)?, reader.revision()?));
            let (entity, revision) = self.record(part, decode)?;
            check_revision(state, revision)?;
            if before.is_some_and(|before| before >= entity) {
                return Err(inconsistent("its tombstones are not in order"));
            }
            if state.record(&entity).is_some() {
                return Err(inconsistent("something is deleted and exists"));
            }
            before = Some(entity.clone());
            state.index.bury(entity, revision);
        }
        Ok(())
    }

    fn dedup(&mut self, state: &mut FleetState) -> Result<(), SnapshotError> {
        let part = "answers";
        let mut before = Revision::NONE;
        for _ in 0..self.count(part, DEDUP_RECORDS_MAX)? {
            let remembered = self.record(part, Remembered::decode)?;
            let revision = check_revision(state, remembered.answer.revision)?;
            if revision <= before || state.dedup.answer(&remembered.request_id).is_some() {
                return Err(inconsistent("its answers are not in order"));
            }
            before = revision;
            state.dedup.insert(Arc::new(remembered));
        }
        Ok(())
    }

    /// Sees that nothing follows: not in the frame, and not behind it.
    fn end(mut self) -> Result<(), SnapshotError> {
        let mut byte = [0u8];
        let more = self.frame.read(&mut byte).map_err(|_| SnapshotError::Compression)?;
        let behind = self.frame.into_inner().read(&mut byte)?;
        if more == 0 && behind == 0 {
            Ok(())
        } else {
            Err(inconsistent("it goes on after its end"))
        }
    }
}

fn inconsistent(what: &'static str) -> SnapshotError {
    SnapshotError::Inconsistent { what }
}

fn check_counters(state: &FleetState, meta: &SnapshotMeta) -> Result<(), SnapshotError> {
    let level = state.feature_level();
    if level > FEATURE_LEVEL {
        let source = DecodeError::UnknownVersion {
            what: "the site's feature level",
            found: u64::from(level),
        };
        return Err(SnapshotError::Decode { part: "counters", source });
    }
    if state.last_applied().get() != meta.index
        || state.uid() != meta.uid
        || *state.site() != meta.site
    {
        return Err(inconsistent("its header is not that of the state"));
    }
    if state.voters_wanted().is_multiple_of(2) || state.voters_wanted() > VOTERS_MAX {
        return Err(inconsistent("the number of voters wanted is not 1, 3, 5 or 7"));
    }
    Ok(())
}

fn check_revision(state: &FleetState, revision: Revision) -> Result<Revision, SnapshotError> {
    if revision == Revision::NONE || revision > state.last_applied() {
        return Err(inconsistent("a record's revision lies outside the log"));
    }
    Ok(revision)
}

/// Checks what records say about each other and derives what follows from them.
fn check_references(state: &mut FleetState) -> Result<(), SnapshotError> {
    let devices = state.devices.clone();
    for link in devices.iter().filter_map(|device| device.spec.link.as_ref()) {
        if state.links.get(link).is_none() {
            return Err(inconsistent("a device names a link that does not exist"));
        }
        state.move_link_use(None, Some(link));
    }
    for watermarks in state.watermarks.iter() {
        if state.devices.get(&watermarks.device).is_none() {
            return Err(inconsistent("it tells how far the wishes of no device got"));
        }
    }
    state.derive_device_indexes();
    if state.members.last().is_some_and(|member| member.id >= state.next_node()) {
        return Err(inconsistent("a member's id is still to be given"));
    }
    state.reckon_tokens_due();
    Ok(())
}
