//! Messages between our closed types and `raft`'s open one.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

mod frame_support;

use fleet_consensus::frame::{
    ConfChange, EntryError, EntryPayload, LogEntry, MessageError, MessageKind, RaftMessage,
    SnapshotRef, log_entry_to_raft,
};
use frame_support::{conf_entry, entry, every_message, message, node};
use raft::eraftpb::{ConfState, Entry, EntryType, Message, MessageType, Snapshot};
use raft::{Config, RawNode, storage::MemStorage};

fn logger() -> slog::Logger {
    slog::Logger::root(slog::Discard, slog::o!())
}

#[test]
fn every_message_survives_the_way_through_raft() {
    for message in every_message(1, 2) {
        let there = message.clone().into_raft();
        assert_eq!(RaftMessage::from_raft(there.clone()).unwrap(), message);
        // And the other way: nothing that raft reads is lost.
        assert_eq!(RaftMessage::from_raft(there.clone()).unwrap().into_raft(), there);
    }
}

#[test]
fn every_message_that_never_leaves_a_node_is_refused() {
    let local = [
        MessageType::MsgHup,
        MessageType::MsgBeat,
        MessageType::MsgPropose,
        MessageType::MsgUnreachable,
        MessageType::MsgSnapStatus,
        MessageType::MsgCheckQuorum,
        MessageType::MsgTransferLeader,
        MessageType::MsgReadIndex,
        MessageType::MsgReadIndexResp,
    ];
    for kind in local {
        let mut message = Message { from: 1, to: 2, ..Default::default() };
        message.set_msg_type(kind);
        let refused = RaftMessage::from_raft(message).unwrap_err();
        assert_eq!(refused, MessageError::LocalType(kind as i32));
    }
}

#[test]
fn a_message_without_sender_or_receiver_is_refused() {
    for (from, to) in [(0, 2), (1, 0)] {
        let mut message = Message { from, to, ..Default::default() };
        message.set_msg_type(MessageType::MsgHeartbeat);
        assert_eq!(RaftMessage::from_raft(message), Err(MessageError::NoNode));
    }
}

#[test]
fn a_joint_configuration_is_refused() {
    let mut snapshot =
        Snapshot { data: SnapshotRef::default().encode().into(), ..Default::default() };
    snapshot.mut_metadata().index = 5;
    let joint = ConfState { voters: vec![1], voters_outgoing: vec![2], ..Default::default() };
    snapshot.mut_metadata().set_conf_state(joint);
    let mut message = Message { from: 1, to: 2, ..Default::default() };
    message.set_msg_type(MessageType::MsgSnapshot);
    message.set_snapshot(snapshot);
    assert_eq!(RaftMessage::from_raft(message), Err(MessageError::ConfState(5)));
}

#[test]
fn entries_with_a_hole_are_refused() {
    let mut there = every_message(1, 2).remove(0).into_raft();
    let mut entries = there.take_entries();
    entries.remove(1);
    there.set_entries(entries);
    assert_eq!(RaftMessage::from_raft(there), Err(MessageError::NotContiguous(7)));
}

#[test]
fn an_entry_of_the_joint_kind_is_refused() {
    let mut made = Entry { index: 3, ..Default::default() };
    made.set_entry_type(EntryType::EntryConfChangeV2);
    let expected = EntryError::Kind { index: 3, kind: EntryType::EntryConfChangeV2 as i32 };
    assert_eq!(LogEntry::from_raft(made), Err(expected));
}

#[test]
fn a_change_whose_two_forms_differ_is_refused() {
    let honest = conf_entry(3, 1, ConfChange::AddVoter(node(4))).into_raft();
    let other = conf_entry(3, 1, ConfChange::AddVoter(node(5))).into_raft();
    let mut mixed = honest.clone();
    mixed.context = other.context.clone();
    assert_eq!(LogEntry::from_raft(mixed), Err(EntryError::ConfChange { index: 3 }));
    let mut bare = honest;
    bare.context.clear();
    assert_eq!(LogEntry::from_raft(bare), Err(EntryError::ConfChange { index: 3 }));
}

#[test]
fn our_protobuf_form_of_a_change_is_the_one_that_raft_writes_and_reads() {
    let storage = MemStorage::new_with_conf_state((vec![1], vec![2]));
    let mut raw = RawNode::new(&Config::new(1), storage, &logger()).unwrap();
    raw.campaign().unwrap();
    settle(&mut raw);
    // The voter comes last: from then on nothing commits without it.
    for change in [
        ConfChange::AddLearner(node(300)),
        ConfChange::Remove(node(u64::from(u32::MAX) + 5)),
        ConfChange::AddVoter(node(2)),
    ] {
        // The library's own encoding, with our context: accepted only when both are equal byte for byte.
        raw.propose_conf_change(change.encode(), change.to_raft()).unwrap();
        let made = settle(&mut raw);
        let read = LogEntry::from_raft(made.last().unwrap().clone()).unwrap();
        assert_eq!(read.payload, EntryPayload::ConfChange(change));
        assert_eq!(read.into_raft(), *made.last().unwrap());
        raw.apply_conf_change(&change.to_raft()).unwrap();
    }
}

/// Handles what is ready on a node that is alone, and gives what was committed.
fn settle(raw: &mut RawNode<MemStorage>) -> Vec<Entry> {
    let mut committed = Vec::new();
    while raw.has_ready() {
        let mut ready = raw.ready();
        raw.mut_store().wl().append(ready.entries()).unwrap();
        committed.extend(ready.take_committed_entries());
        let mut light = raw.advance(ready);
        committed.extend(light.take_committed_entries());
        raw.advance_apply();
    }
    committed
}

#[test]
fn entries_survive_the_disk() {
    let entries = [
        entry(5, 2, 0),
        entry(6, 2, 100),
        conf_entry(7, 3, ConfChange::AddLearner(node(9))),
        conf_entry(8, 3, ConfChange::Remove(node(1))),
    ];
    for entry in entries {
        let (kind, data) = entry.clone().into_disk();
        let back = LogEntry::from_disk(entry.index, entry.term, kind, data.clone()).unwrap();
        assert_eq!(back, entry);
        let on_disk = fleet_log::LogEntry { index: entry.index, term: entry.term, kind, data };
        assert_eq!(log_entry_to_raft(on_disk).unwrap(), entry.into_raft());
    }
}

#[test]
fn what_the_disk_should_not_hold_is_an_error() {
    for (kind, data) in [
        (2, &b""[..]),
        (255, b"x"),
        (1, b""),
        (1, b"\x01\x00"),
        (1, b"\x01\x05\x00"),
        (1, b"\x04\x05"),
    ] {
        let read = LogEntry::from_disk(9, 1, kind, data.to_vec().into());
        assert!(matches!(read, Err(EntryError::Decode { index: 9, .. })), "{kind} {data:?}");
    }
}

#[test]
fn data_is_shared_and_not_copied() {
    let one = entry(5, 2, 1000);
    let EntryPayload::Normal(data) = &one.payload else { unreachable!() };
    let before = data.as_ptr();
    let raft = one.clone().into_raft();
    assert_eq!(raft.data.as_ptr(), before);
    let (_, on_disk) = LogEntry::from_raft(raft).unwrap().into_disk();
    assert_eq!(on_disk.as_ptr(), before);
}

#[test]
fn size_bounds_are_never_too_small() {
    use fleet_consensus::frame::Payload;
    use fleet_state::codec::Writer;
    for message in every_message(1, 2) {
        let bound = message.size_bytes_bound();
        let mut writer = Writer::new();
        Payload::Raft(vec![message]).write(&mut writer);
        assert!(writer.len() <= bound + 2, "{} > {bound}", writer.len());
    }
    let huge = message(1, 2, u64::MAX, MessageKind::TimeoutNow);
    assert!(huge.size_bytes_bound() > 11);
}
