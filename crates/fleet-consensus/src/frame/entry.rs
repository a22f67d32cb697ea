//! Log entries as they cross the wire and as they lie on disk, and the bridge to `raft`'s own form.
//!
//! The library keeps a change of the configuration as a protobuf message in the entry's data. Bytes from a peer or a
//! file never reach its parser: on the wire and on disk a change is our own nine bytes, which become a closed
//! [`ConfChange`], and the protobuf form is written here, by hand, from that validated value. The same nine bytes
//! ride in the entry's `context`, which `raft` carries along untouched; so nothing has to be parsed back either. An
//! entry of the configuration kind without them, or with other data than they say, is refused.
//!
//! `raft` turns a change that it doesn't want now into an entry without data; that and the entry with which a leader
//! opens its term are [`EntryPayload::Empty`].

use bytes::Bytes;
use fleet_state::{
    NodeId,
    codec::{DecodeError, Reader, Writer},
};
use raft::eraftpb::{ConfChangeType, Entry, EntryType};

use super::limits::ENTRY_DATA_BYTES_MAX;

/// The kind byte of an ordinary or empty entry on disk.
pub const KIND_NORMAL: u8 = 0;
/// The kind byte of a change of the configuration on disk.
pub const KIND_CONF_CHANGE: u8 = 1;

const ADD_VOTER: u8 = 1;
const ADD_LEARNER: u8 = 2;
const REMOVE: u8 = 3;

/// One simple change of the configuration.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ConfChange {
    /// The node votes from now on; it was a learner, or is the first.
    AddVoter(NodeId),
    /// The node receives the log and has no vote.
    AddLearner(NodeId),
    /// The node is no longer part of the configuration.
    Remove(NodeId),
}

impl ConfChange {
    /// The node that it is about.
    #[must_use]
    pub const fn node(self) -> NodeId {
        match self {
            Self::AddVoter(node) | Self::AddLearner(node) | Self::Remove(node) => node,
        }
    }

    /// Our own form, on disk, on the wire and in the context of a proposed change.
    #[must_use]
    pub fn encode(self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(9);
        self.write(&mut writer);
        writer.into_vec()
    }

    /// Reads what [`ConfChange::encode`] wrote.
    ///
    /// # Errors
    /// The bytes are not exactly one change.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        let mut reader = Reader::new(bytes);
        let change = Self::read(&mut reader)?;
        reader.finish()?;
        Ok(change)
    }

    /// What `raft` applies.
    #[must_use]
    pub fn to_raft(self) -> raft::eraftpb::ConfChange {
        let mut change = raft::eraftpb::ConfChange::default();
        change.set_change_type(match self {
            Self::AddVoter(_) => ConfChangeType::AddNode,
            Self::AddLearner(_) => ConfChangeType::AddLearnerNode,
            Self::Remove(_) => ConfChangeType::RemoveNode,
        });
        change.set_node_id(self.node().get());
        change
    }

    pub(super) fn write(self, writer: &mut Writer) {
        writer.u8(match self {
            Self::AddVoter(_) => ADD_VOTER,
            Self::AddLearner(_) => ADD_LEARNER,
            Self::Remove(_) => REMOVE,
        });
        writer.u64(self.node().get());
    }

    pub(super) fn read(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let kind = reader.u8()?;
        let node = read_node(reader)?;
        match kind {
            ADD_VOTER => Ok(Self::AddVoter(node)),
            ADD_LEARNER => Ok(Self::AddLearner(node)),
            REMOVE => Ok(Self::Remove(node)),
            found => Err(DecodeError::UnknownKind {
                what: "a change of the configuration",
                found: u64::from(found),
            }),
        }
    }

    /// The protobuf form of `ConfChange { change_type (2), node_id (3) }`: default values are left out.
    fn to_protobuf(self) -> Vec<u8> {
        let mut writer = Writer::with_capacity(13);
        match self {
            Self::AddVoter(_) => {}
            Self::Remove(_) => writer.fixed(&[0x10, 1]),
            Self::AddLearner(_) => writer.fixed(&[0x10, 2]),
        }
        writer.u8(0x18);
        writer.u64(self.node().get());
        writer.into_vec()
    }
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryPayload {
    /// Nothing: the entry that opens a term, or a change that `raft` declined.
    Empty,
    /// An encoded `fleet_state::Entry`; never without bytes.
    Normal(Bytes),
    /// A change of the configuration.
    ConfChange(ConfChange),
}

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogEntry {
    /// Its index.
    pub index: u64,
    /// The term in which a leader made it.
    pub term: u64,
    /// What it holds.
    pub payload: EntryPayload,
}

/// Why an entry has no place in our log.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EntryError {
    /// `raft` made an entry of a kind that we never propose.
    #[error("entry {index} is of the kind {kind}, which is never proposed here")]
    Kind {
        /// Its index.
        index: u64,
        /// The library's number of the kind.
        kind: i32,
    },
    /// A change of the configuration without our own form of it, or with both not saying the same.
    #[error("the change of the configuration in entry {index} is not one that was made here")]
    ConfChange {
        /// Its index.
        index: u64,
    },
    /// A kind byte or data on disk that this version does not know.
    #[error("entry {index} can't be read: {source}")]
    Decode {
        /// Its index.
        index: u64,
        /// Why.
        source: DecodeError,
    },
}

impl LogEntry {
    /// Takes an entry out of `raft`; the data is shared, not copied.
    ///
    /// # Errors
    /// A kind that is never proposed here.
    pub fn from_raft(entry: Entry) -> Result<Self, EntryError> {
        let (index, term) = (entry.index, entry.term);
        let payload = match entry.get_entry_type() {
            EntryType::EntryNormal if entry.data.is_empty() => EntryPayload::Empty,
            EntryType::EntryNormal => EntryPayload::Normal(entry.data),
            EntryType::EntryConfChange => {
                let change = ConfChange::decode(&entry.context)
                    .map_err(|_| EntryError::ConfChange { index })?;
                if entry.data != change.to_protobuf() {
                    return Err(EntryError::ConfChange { index });
                }
                EntryPayload::ConfChange(change)
            }
            EntryType::EntryConfChangeV2 => {
                return Err(EntryError::Kind { index, kind: EntryType::EntryConfChangeV2 as i32 });
            }
        };
        Ok(Self { index, term, payload })
    }

    /// What `raft` keeps.
    #[must_use]
    pub fn into_raft(self) -> Entry {
        let mut entry = Entry { index: self.index, term: self.term, ..Default::default() };
        match self.payload {
            EntryPayload::Empty => {}
            EntryPayload::Normal(data) => entry.data = data,
            EntryPayload::ConfChange(change) => {
                entry.set_entry_type(EntryType::EntryConfChange);
                entry.data = change.to_protobuf().into();
                entry.context = change.encode().into();
            }
        }
        entry
    }

    /// The kind byte and the data under which the log keeps it.
    #[must_use]
    pub fn into_disk(self) -> (u8, Bytes) {
        match self.payload {
            EntryPayload::Empty => (KIND_NORMAL, Bytes::new()),
            EntryPayload::Normal(data) => (KIND_NORMAL, data),
            EntryPayload::ConfChange(change) => (KIND_CONF_CHANGE, change.encode().into()),
        }
    }

    /// Reads what [`LogEntry::into_disk`] gave.
    ///
    /// # Errors
    /// A kind or a change that this version does not know; the caller stops the node.
    pub fn from_disk(index: u64, term: u64, kind: u8, data: Bytes) -> Result<Self, EntryError> {
        let payload = match kind {
            KIND_NORMAL if data.is_empty() => EntryPayload::Empty,
            KIND_NORMAL => EntryPayload::Normal(data),
            KIND_CONF_CHANGE => EntryPayload::ConfChange(
                ConfChange::decode(&data).map_err(|source| EntryError::Decode { index, source })?,
            ),
            found => {
                let source =
                    DecodeError::UnknownKind { what: "a log entry", found: u64::from(found) };
                return Err(EntryError::Decode { index, source });
            }
        };
        Ok(Self { index, term, payload })
    }

    /// About how many bytes it takes on the wire, never too few.
    #[must_use]
    pub fn size_bytes_bound(&self) -> usize {
        const HEAD_BYTES_MAX: usize = 1 + 10 + 5;
        match &self.payload {
            EntryPayload::Normal(data) => HEAD_BYTES_MAX + data.len(),
            EntryPayload::Empty => HEAD_BYTES_MAX,
            EntryPayload::ConfChange(_) => HEAD_BYTES_MAX + 11,
        }
    }

    /// The index is left to the caller: in an append the indexes follow each other.
    pub(super) fn write(&self, writer: &mut Writer) {
        writer.u8(match &self.payload {
            EntryPayload::Empty => 0,
            EntryPayload::Normal(_) => 1,
            EntryPayload::ConfChange(_) => 2,
        });
        writer.u64(self.term);
        match &self.payload {
            EntryPayload::Empty => {}
            EntryPayload::Normal(data) => writer.bytes(data),
            EntryPayload::ConfChange(change) => change.write(writer),
        }
    }

    pub(super) fn read(
        reader: &mut Reader<'_>,
        whole: &Bytes,
        index: u64,
    ) -> Result<Self, DecodeError> {
        let kind = reader.u8()?;
        let term = reader.u64()?;
        let payload = match kind {
            0 => EntryPayload::Empty,
            1 => {
                let data = reader.bytes(ENTRY_DATA_BYTES_MAX)?;
                if data.is_empty() {
                    return Err(DecodeError::Invalid { what: "an entry without data" });
                }
                EntryPayload::Normal(whole.slice_ref(data))
            }
            2 => EntryPayload::ConfChange(ConfChange::read(reader)?),
            found => {
                return Err(DecodeError::UnknownKind { what: "an entry", found: u64::from(found) });
            }
        };
        Ok(Self { index, term, payload })
    }
}

/// What `raft` reads of an entry on disk.
///
/// # Errors
/// A kind or a change that this version does not know; the caller stops the node.
pub fn log_entry_to_raft(entry: fleet_log::LogEntry) -> Result<Entry, EntryError> {
    let fleet_log::LogEntry { index, term, kind, data } = entry;
    LogEntry::from_disk(index, term, kind, data).map(LogEntry::into_raft)
}

/// A node id; 0 is none.
pub(super) fn read_node(reader: &mut Reader<'_>) -> Result<NodeId, DecodeError> {
    NodeId::new(reader.u64()?).ok_or(DecodeError::Invalid { what: "a node id of 0" })
}
