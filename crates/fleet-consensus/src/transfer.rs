//! Snapshots on their way to a node that the log can no longer serve.
//!
//! The leader's snapshot message carries a reference (size, checksum), no data. The receiver
//! asks for the file window by window ([`asking`]), in the same sealed frames as everything else,
//! from where it has got to: a lost chunk costs one repeated window, and a leader that comes back
//! with the same snapshot is asked for the rest only. Raft is told of the snapshot when the
//! file is complete, verified and durable. The sender answers what it is asked for and keeps
//! no file open; it reports to raft how the transfer ended, always, be it by its silence.
//!
//! No transfer may stand in the way of a better one. What moves a transfer is bytes, never a
//! question: the receiver gives one up that got no chunk for a while, and at once when another
//! leader offers a snapshot; the sender counts only those questions that it could answer. A
//! receiver whose disk takes no more frees the space and rests before the next offer.

use std::collections::{BTreeMap, BTreeSet};
use std::io;

use bytes::Bytes;
use fleet_log::Disk;
use fleet_state::{NodeId, SiteUid};

use self::asking::{Ask, Asking};
use crate::config::{
    SNAPSHOT_CHUNK_BYTES, SNAPSHOT_REFUSED_REST_MS, SNAPSHOT_STALL_MS, SNAPSHOT_TELL_MS,
    SNAPSHOT_WINDOW_BYTES,
};
use crate::frame::{Payload, SnapshotId};
use crate::snapshot_store::{
    IncomingFile, LoadedSnapshot, ReceiveError, SnapshotFile, SnapshotStore,
};

mod asking;

/// What an offer led to.
#[derive(Debug)]
pub(crate) enum Accepted {
    /// It is being received, or another one from the same leader is.
    Receiving,
    /// This node rests after one that it could not store.
    Resting,
    /// The disk of this node does not take it.
    Failed(io::Error),
}

/// What a chunk led to.
#[derive(Debug)]
pub(crate) enum Received {
    /// Not asked for, or out of place.
    Ignored,
    /// More is needed.
    Partly,
    /// The file is complete and durable.
    Complete(Box<LoadedSnapshot>),
    /// It was given up.
    Failed(ReceiveError),
}

/// What a question was answered with.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) chunks: Vec<Payload>,
    /// The file can't be read: it is gone, or the disk has lost it.
    pub(crate) failed: bool,
}

/// A window that is asked for; an empty one says that the receiver still waits.
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
    asking: Asking,
}

/// A snapshot that a member was offered.
struct Outgoing {
    index: u64,
    heard_ms: u64,
}

/// Both ends of the transfers of one node.
pub(crate) struct Transfer<D: Disk> {
    store: SnapshotStore<D>,
    site: SiteUid,
    incoming: Option<Incoming<D>>,
    rest_until_ms: u64,
    /// By receiver.
    sending: BTreeMap<NodeId, Outgoing>,
}

impl<D: Disk> Transfer<D> {
    pub(crate) fn new(store: SnapshotStore<D>, site: SiteUid) -> Self {
        Self { store, site, incoming: None, rest_until_ms: 0, sending: BTreeMap::new() }
    }

    /// Whether no snapshot is being received.
    pub(crate) const fn is_idle(&self) -> bool {
        self.incoming.is_none()
    }

    /// A snapshot message of this index to `to` leaves.
    pub(crate) fn offered(&mut self, to: NodeId, index: u64, now_ms: u64) {
        self.sending.insert(to, Outgoing { index, heard_ms: now_ms });
    }

    /// Whether this snapshot was offered to `to`, and nothing was heard of an end.
    pub(crate) fn is_offered(&self, to: NodeId, index: u64) -> bool {
        self.sending.get(&to).is_some_and(|outgoing| outgoing.index == index)
    }

    /// `from` asks for a window: the chunks to send.
    pub(crate) fn serve(&mut self, from: NodeId, want: &Want, now_ms: u64) -> Served {
        let id = want.id;
        let end = want.offset.saturating_add(want.len.min(SNAPSHOT_WINDOW_BYTES));
        let mut served = Served { chunks: Vec::new(), failed: false };
        if want.len == 0 {
            // Hearing it costs a look at the disk, so it is heard as often as it is of use.
            if self.was_heard_lately(from, id.index, now_ms) {
                return served;
            }
            served.failed = self.store.read_chunk(id.index, id.term, want.offset, 1).is_err();
            if !served.failed {
                self.heard(from, id.index, now_ms);
            }
            return served;
        }
        let mut offset = want.offset;
        while offset < end {
            let len = usize::try_from(SNAPSHOT_CHUNK_BYTES.min(end - offset)).unwrap_or(0);
            let Ok((bytes, total)) = self.store.read_chunk(id.index, id.term, offset, len) else {
                served.failed = true;
                break;
            };
            if bytes.is_empty() {
                break;
            }
            let read = bytes.len() as u64;
            served.chunks.push(Payload::SnapshotChunk { id, offset, total, bytes: bytes.into() });
            offset += read;
        }
        if !served.chunks.is_empty() {
            self.heard(from, id.index, now_ms);
        }
        served
    }

    fn was_heard_lately(&self, from: NodeId, index: u64, now_ms: u64) -> bool {
        let of_offer = self.sending.get(&from).filter(|outgoing| outgoing.index == index);
        let lately = |it: &Outgoing| now_ms.saturating_sub(it.heard_ms) < SNAPSHOT_TELL_MS / 2;
        of_offer.is_none_or(lately)
    }

    fn heard(&mut self, from: NodeId, index: u64, now_ms: u64) {
        let of_offer = self.sending.get_mut(&from).filter(|outgoing| outgoing.index == index);
        of_offer.into_iter().for_each(|outgoing| outgoing.heard_ms = now_ms);
    }

    /// The transfer of this snapshot to `to` is over; returns whether it was under way.
    pub(crate) fn done(&mut self, to: NodeId, index: u64) -> bool {
        let ours = self.sending.get(&to).is_some_and(|outgoing| outgoing.index == index);
        ours && self.sending.remove(&to).is_some()
    }

    /// An offer that never left.
    pub(crate) fn unsent(&mut self, to: NodeId) -> bool {
        self.sending.remove(&to).is_some()
    }

    /// Indexes of the snapshots that members are being sent.
    pub(crate) fn being_sent(&self) -> BTreeSet<u64> {
        self.sending.values().map(|outgoing| outgoing.index).collect()
    }

    /// Receivers that have been silent for so long.
    pub(crate) fn take_stalled(&mut self, silence_ms: u64, now_ms: u64) -> Vec<NodeId> {
        let silent_ms = |outgoing: &Outgoing| now_ms.saturating_sub(outgoing.heard_ms);
        let stalled: Vec<NodeId> = self
            .sending
            .iter()
            .filter(|(_, outgoing)| silent_ms(outgoing) >= silence_ms)
            .map(|(node, _)| *node)
            .collect();
        for node in &stalled {
            self.sending.remove(node);
        }
        stalled
    }

    /// The leader, `from`, offers a snapshot. The same one again only changes whom to ask; what
    /// another one had begun to send is given up, for that leader may be gone for good.
    pub(crate) fn accept(&mut self, from: NodeId, target: SnapshotFile, now_ms: u64) -> Accepted {
        if let Some(incoming) = &mut self.incoming {
            if incoming.target.checksum == target.checksum {
                if incoming.from != from {
                    incoming.from = from;
                    incoming.asking.begin_anew();
                }
                return Accepted::Receiving;
            }
            let moving = incoming.asking.silent_ms(now_ms) < SNAPSHOT_STALL_MS;
            if moving && incoming.from == from && incoming.target.index >= target.index {
                return Accepted::Receiving;
            }
        }
        if now_ms < self.rest_until_ms {
            return Accepted::Resting;
        }
        self.incoming = None;
        let file = match self.store.begin_incoming() {
            Ok(file) => file,
            Err(error) => {
                self.give_up_and_rest(now_ms);
                return Accepted::Failed(error);
            }
        };
        let asking = Asking::new(target.size_bytes, now_ms);
        self.incoming = Some(Incoming { from, target, file, asking });
        Accepted::Receiving
    }

    /// What to ask for now, and whom.
    pub(crate) fn take_want(&mut self, now_ms: u64) -> Option<(NodeId, Payload)> {
        let incoming = self.incoming.as_mut()?;
        let (offset, len) = match incoming.asking.ask(now_ms) {
            Ask::Nothing => return None,
            Ask::StillHere => (incoming.asking.received(), 0),
            Ask::For { offset, len } => (offset, len),
        };
        let want = Payload::SnapshotWant {
            id: SnapshotId {
                index: incoming.target.index,
                term: incoming.target.term,
                checksum: incoming.target.checksum,
            },
            offset,
            len: u32::try_from(len).unwrap_or(0),
        };
        Some((incoming.from, want))
    }

    /// A chunk arrived. Only the very next bytes of the snapshot that is being received count.
    pub(crate) fn receive(&mut self, from: NodeId, chunk: &Chunk, now_ms: u64) -> Received {
        let Some(incoming) = self.incoming.as_mut() else {
            return Received::Ignored;
        };
        let fits = incoming.from == from
            && incoming.target.checksum == chunk.id.checksum
            && incoming.asking.received() == chunk.offset
            && !chunk.bytes.is_empty()
            && chunk.offset + chunk.bytes.len() as u64 <= incoming.target.size_bytes;
        if !fits {
            let is_copy = incoming.from == from
                && incoming.target.checksum == chunk.id.checksum
                && chunk.offset < incoming.asking.received();
            if is_copy {
                incoming.asking.came_again(now_ms);
            }
            return Received::Ignored;
        }
        if let Err(error) = incoming.file.append(&chunk.bytes) {
            self.give_up_and_rest(now_ms);
            return Received::Failed(ReceiveError::Io(error));
        }
        incoming.asking.came(chunk.bytes.len() as u64, now_ms);
        if !incoming.asking.is_complete() {
            return Received::Partly;
        }
        let Some(Incoming { file, target, .. }) = self.incoming.take() else {
            return Received::Ignored;
        };
        match self.store.finish_incoming(file, &target, self.site) {
            Ok(loaded) => Received::Complete(Box::new(loaded)),
            Err(error) => {
                if matches!(error, ReceiveError::NotAsPromised(_)) {
                    // The next one is another file: no reason to rest.
                    self.give_up();
                } else {
                    self.give_up_and_rest(now_ms);
                }
                Received::Failed(error)
            }
        }
    }

    /// Gives up what is being received when the log has overtaken it or no more of it comes.
    pub(crate) fn give_up_if_needless(&mut self, commit: u64, now_ms: u64) {
        let needless = self.incoming.as_ref().is_some_and(|incoming| {
            let stalled = incoming.asking.silent_ms(now_ms) >= SNAPSHOT_STALL_MS;
            incoming.target.index <= commit || stalled
        });
        if needless {
            self.give_up();
        }
    }

    fn give_up(&mut self) {
        self.incoming = None;
        self.store.drop_incoming();
    }

    fn give_up_and_rest(&mut self, now_ms: u64) {
        self.give_up();
        self.rest_until_ms = now_ms.saturating_add(SNAPSHOT_REFUSED_REST_MS);
    }

    /// Whether a snapshot is being received.
    pub(crate) fn is_receiving(&self) -> bool {
        self.incoming.is_some()
    }

    pub(crate) fn store(&self) -> &SnapshotStore<D> {
        &self.store
    }
}

#[cfg(test)]
impl<D: Disk> Transfer<D> {
    /// Bytes of the snapshot that is being received.
    pub(crate) fn received_bytes(&self) -> u64 {
        self.incoming.as_ref().map_or(0, |incoming| incoming.asking.received())
    }
}

#[cfg(test)]
mod tests;
