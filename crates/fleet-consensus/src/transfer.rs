//! Snapshots on their way to a node that the log can no longer serve.
//!
//! The leader's snapshot message carries a reference (size, checksum), no data. The receiver
//! asks for the file window by window, in the same sealed frames as everything else, from
//! where it has got to: a lost chunk costs one repeated window, and a leader that comes back
//! with the same snapshot is asked for the rest only. Raft is told of the snapshot when the
//! file is complete, verified and durable. The sender answers what it is asked for and keeps
//! no file open; it reports to raft how the transfer ended, always, be it by its silence.

use std::collections::BTreeMap;
use std::io;

use bytes::Bytes;
use fleet_log::Disk;
use fleet_state::NodeId;

use crate::config::{
    SNAPSHOT_CHUNK_BYTES, SNAPSHOT_RETRY_MS, SNAPSHOT_SILENCE_MS, SNAPSHOT_STALL_MS,
    SNAPSHOT_WINDOW_BYTES,
};
use crate::frame::{Payload, SnapshotId};
use crate::snapshot_store::{IncomingFile, LoadedSnapshot, SnapshotFile, SnapshotStore};

/// What a chunk led to.
#[derive(Debug)]
pub(crate) enum Received {
    /// Not asked for, or out of place.
    Ignored,
    /// More is needed.
    Partly,
    /// The file is complete and durable.
    Complete(Box<LoadedSnapshot>),
    /// The file is complete and not what was promised; it was given up.
    Refused,
}

/// A window that is asked for.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Want {
    pub(crate) id: SnapshotId,
    pub(crate) offset: u64,
    pub(crate) len: u64,
}

/// A part of a snapshot file that arrived.
#[derive(Clone, Debug)]
pub(crate) struct Chunk {
    pub(crate) id: SnapshotId,
    pub(crate) offset: u64,
    pub(crate) bytes: Bytes,
}

struct Incoming<D: Disk> {
    from: NodeId,
    target: SnapshotFile,
    file: IncomingFile<D>,
    received: u64,
    asked_through: u64,
    progress_ms: u64,
    began_ms: u64,
}

/// Both ends of the transfers of one node.
pub(crate) struct Transfer<D: Disk> {
    store: SnapshotStore<D>,
    incoming: Option<Incoming<D>>,
    /// Receivers and when they were last heard of.
    sending: BTreeMap<NodeId, u64>,
}

impl<D: Disk> Transfer<D> {
    pub(crate) fn new(store: SnapshotStore<D>) -> Self {
        Self { store, incoming: None, sending: BTreeMap::new() }
    }

    /// A snapshot message to `to` leaves.
    pub(crate) fn offered(&mut self, to: NodeId, now_ms: u64) {
        self.sending.insert(to, now_ms);
    }

    /// `from` asks for a window: the chunks to send. A file that is gone gives none; the
    /// receiver's silence then ends the transfer.
    pub(crate) fn serve(&mut self, from: NodeId, want: &Want, now_ms: u64) -> Vec<Payload> {
        if let Some(heard_ms) = self.sending.get_mut(&from) {
            *heard_ms = now_ms;
        }
        let id = want.id;
        let end = want.offset.saturating_add(want.len.min(SNAPSHOT_WINDOW_BYTES));
        let mut chunks = Vec::new();
        let mut offset = want.offset;
        while offset < end {
            let len = usize::try_from(SNAPSHOT_CHUNK_BYTES.min(end - offset)).unwrap_or(0);
            let Ok((bytes, total)) = self.store.read_chunk(id.index, id.term, offset, len) else {
                break;
            };
            if bytes.is_empty() {
                break;
            }
            let read = bytes.len() as u64;
            chunks.push(Payload::SnapshotChunk { id, offset, total, bytes: bytes.into() });
            offset += read;
        }
        chunks
    }

    /// The receiver says how it ended; returns whether a transfer to it was under way.
    pub(crate) fn done(&mut self, from: NodeId) -> bool {
        self.sending.remove(&from).is_some()
    }

    /// Receivers that have been silent for too long.
    pub(crate) fn take_stalled(&mut self, now_ms: u64) -> Vec<NodeId> {
        let stalled: Vec<NodeId> = self
            .sending
            .iter()
            .filter(|(_, heard_ms)| now_ms.saturating_sub(**heard_ms) >= SNAPSHOT_SILENCE_MS)
            .map(|(node, _)| *node)
            .collect();
        for node in &stalled {
            self.sending.remove(node);
        }
        stalled
    }

    /// The leader offers a snapshot. The same one again only changes whom to ask.
    pub(crate) fn accept(
        &mut self,
        from: NodeId,
        target: SnapshotFile,
        now_ms: u64,
    ) -> io::Result<()> {
        if let Some(incoming) = &mut self.incoming {
            if incoming.target.checksum == target.checksum {
                incoming.from = from;
                return Ok(());
            }
            let moving = now_ms.saturating_sub(incoming.progress_ms) < SNAPSHOT_STALL_MS;
            if moving && incoming.target.index >= target.index {
                return Ok(());
            }
        }
        self.incoming = Some(Incoming {
            from,
            target,
            file: self.store.begin_incoming()?,
            received: 0,
            asked_through: 0,
            progress_ms: now_ms,
            began_ms: now_ms,
        });
        Ok(())
    }

    /// What to ask for now, and whom.
    pub(crate) fn take_want(&mut self, now_ms: u64) -> Option<(NodeId, Payload)> {
        let incoming = self.incoming.as_mut()?;
        let stalled = now_ms.saturating_sub(incoming.progress_ms) >= SNAPSHOT_RETRY_MS;
        if incoming.received < incoming.asked_through && !stalled {
            return None;
        }
        incoming.progress_ms = now_ms;
        let rest = incoming.target.size_bytes.saturating_sub(incoming.received);
        let len = rest.min(SNAPSHOT_WINDOW_BYTES);
        incoming.asked_through = incoming.received + len;
        let want = Payload::SnapshotWant {
            id: SnapshotId {
                index: incoming.target.index,
                term: incoming.target.term,
                checksum: incoming.target.checksum,
            },
            offset: incoming.received,
            len: u32::try_from(len).unwrap_or(0),
        };
        Some((incoming.from, want))
    }

    /// A chunk arrived. Only the very next bytes of the snapshot that is being received count.
    pub(crate) fn receive(
        &mut self,
        from: NodeId,
        chunk: &Chunk,
        now_ms: u64,
    ) -> io::Result<Received> {
        let Some(incoming) = self.incoming.as_mut() else {
            return Ok(Received::Ignored);
        };
        let fits = incoming.from == from
            && incoming.target.checksum == chunk.id.checksum
            && incoming.received == chunk.offset
            && !chunk.bytes.is_empty()
            && chunk.offset + chunk.bytes.len() as u64 <= incoming.target.size_bytes;
        if !fits {
            return Ok(Received::Ignored);
        }
        incoming.file.append(&chunk.bytes)?;
        incoming.received += chunk.bytes.len() as u64;
        incoming.progress_ms = now_ms;
        if incoming.received < incoming.target.size_bytes {
            return Ok(Received::Partly);
        }
        let Some(Incoming { file, target, .. }) = self.incoming.take() else {
            return Ok(Received::Ignored);
        };
        match self.store.finish_incoming(file, &target) {
            Ok(loaded) => Ok(Received::Complete(Box::new(loaded))),
            Err(error) if error.kind() == io::ErrorKind::InvalidData => Ok(Received::Refused),
            Err(error) => Err(error),
        }
    }

    /// Gives up what is being received when the log has overtaken it or nobody sends.
    pub(crate) fn give_up_if_needless(&mut self, commit: u64, now_ms: u64) {
        let needless = self.incoming.as_ref().is_some_and(|incoming| {
            let silent = now_ms.saturating_sub(incoming.began_ms) >= SNAPSHOT_STALL_MS
                && incoming.received == 0;
            incoming.target.index <= commit || silent
        });
        if needless {
            self.incoming = None;
        }
    }

    /// Whether a snapshot is being received.
    pub(crate) fn is_receiving(&self) -> bool {
        self.incoming.is_some()
    }

    pub(crate) fn store(&self) -> &SnapshotStore<D> {
        &self.store
    }
}
