//! What is in a frame, of every kind that there is.

use bytes::Bytes;
use fleet_consensus::frame::{
    Append, AppendResponse, Ballot, BallotAnswer, Beat, ConfChange, EntryPayload, LogEntry,
    MessageKind, Payload, RaftMessage, RefuseReason, Reject, SnapshotEnd, SnapshotId,
    SnapshotOffer, SnapshotRef,
};

use super::kind;
use super::wire::{entries, hello, node};

pub(super) fn payloads() -> Vec<Vec<u8>> {
    let ids = vec!["request-1".parse().ok(), "request-2".parse().ok()];
    let refused = Payload::ProposeRefused {
        request_ids: ids.into_iter().flatten().collect(),
        reason: RefuseReason::Busy,
        leader: Some(node(3)),
    };
    let id = SnapshotId { index: 7, term: 3, checksum: [6; 32] };
    let bytes = Bytes::from_static(b"a part of a file");
    let all = [
        hello(),
        refused,
        Payload::ReadWant { ids: vec![1, 2, 3] },
        Payload::ReadGrant { ids: vec![1, 2, 3], index: 9 },
        Payload::ReadRefused { ids: vec![1] },
        Payload::Propose(vec![Bytes::from_static(b"a proposal")]),
        Payload::SnapshotWant { id, offset: 16, len: 4_096 },
        Payload::SnapshotChunk { id, offset: 16, total: 900, bytes: bytes.clone() },
        Payload::SnapshotDone { index: 7, end: SnapshotEnd::Declined },
        Payload::SiteKeyWant,
        Payload::SiteKeyGrant { key: [8; 32] },
        Payload::Digest { index: 64, digest: [1; 32] },
        Payload::TransferWant { to: Some(node(2)) },
        Payload::Observed { bytes },
        Payload::LogTimeWant { asked_ms: 5, feature_level: 2 },
        Payload::LogTimeTold { asked_ms: 5, log_ms: 6 },
        Payload::Raft(messages()),
    ];
    let each = messages().into_iter().map(|message| Payload::Raft(vec![message]));
    all.into_iter().chain(each).map(|payload| write(&payload)).collect()
}

/// One of each kind.
fn messages() -> Vec<RaftMessage> {
    let contents = entries().into_iter().map(|bytes| EntryPayload::Normal(bytes.into()));
    let others = [
        EntryPayload::Empty,
        EntryPayload::ConfChange(ConfChange::AddLearner(node(4))),
        EntryPayload::ConfChange(ConfChange::Remove(node(3))),
    ];
    let log = (8..).zip(others.into_iter().chain(contents));
    let entries = log.map(|(index, payload)| LogEntry { index, term: 3, payload }).collect();
    let ballot =
        Ballot { index: 7, log_term: 3, commit: 6, commit_term: 3, priority: 0, transfer: false };
    let granted = BallotAnswer { reject: false, commit: 0, commit_term: 0 };
    let reject = Reject { hint: 6, log_term: 2, request_snapshot: 0 };
    let beat = Beat { commit: 6, context: Bytes::from_static(b"12345678") };
    let offer = SnapshotOffer {
        index: 7,
        term: 3,
        voters: vec![node(1), node(2), node(3)],
        learners: vec![node(4)],
        file: SnapshotRef { size_bytes: 900, checksum: [6; 32] },
    };
    let kinds = [
        MessageKind::Append(Append { index: 7, log_term: 3, commit: 6, entries }),
        MessageKind::AppendResponse(AppendResponse { index: 7, commit: 6, reject: None }),
        MessageKind::AppendResponse(AppendResponse { index: 7, commit: 6, reject: Some(reject) }),
        MessageKind::Vote(Ballot { transfer: true, ..ballot }),
        MessageKind::VoteResponse(granted),
        MessageKind::PreVote(ballot),
        MessageKind::PreVoteResponse(BallotAnswer { reject: true, commit: 6, commit_term: 3 }),
        MessageKind::Heartbeat(beat.clone()),
        MessageKind::HeartbeatResponse(beat),
        MessageKind::Snapshot(offer),
        MessageKind::TimeoutNow,
    ];
    let message = |kind| RaftMessage { from: node(1), to: node(2), term: 4, kind };
    kinds.into_iter().map(message).collect()
}

fn write(payload: &Payload) -> Vec<u8> {
    let mut writer = fleet_state::Writer::new();
    payload.write(&mut writer);
    writer.as_slice().to_vec()
}

/// What was read is written and read as the same.
pub(super) fn payload(bytes: &[u8]) -> String {
    let read = |bytes: &[u8]| Payload::read(&Bytes::copy_from_slice(bytes), node(1), node(2));
    match read(bytes) {
        Ok(payload) => {
            assert_eq!(read(&write(&payload)).as_ref(), Ok(&payload), "it came back otherwise");
            word(&payload)
        }
        Err(error) => kind(&error),
    }
}

/// Its name, and which messages of raft come first.
fn word(payload: &Payload) -> String {
    let Payload::Raft(messages) = payload else { return payload.as_str().to_owned() };
    let kinds: Vec<&str> = messages.iter().take(3).map(|message| message.kind.as_str()).collect();
    kinds.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_is_read() {
        for bytes in payloads() {
            let read = Payload::read(&Bytes::from(bytes.clone()), node(1), node(2));
            assert!(read.is_ok(), "{read:?} of {bytes:?}");
        }
    }
}
