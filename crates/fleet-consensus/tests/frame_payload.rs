//! The bytes of payloads: one encoding of each, everything bounded, nothing that panics.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

mod frame_support;

use bytes::Bytes;
use fleet_consensus::frame::{
    Append, EntryPayload, LogEntry, MessageKind, Payload, RaftMessage, limits, pack_messages,
    pack_proposals,
};
use fleet_state::codec::{DecodeError, Writer};
use frame_support::{Noise, entry, every_payload, message, node};
use proptest::prelude::*;

fn write(payload: &Payload) -> Bytes {
    let mut writer = Writer::new();
    payload.write(&mut writer);
    writer.into_vec().into()
}

fn read(bytes: &Bytes) -> Result<Payload, DecodeError> {
    Payload::read(bytes, node(1), node(2))
}

#[test]
fn every_payload_survives() {
    for payload in every_payload(1, 2) {
        let bytes = write(&payload);
        assert_eq!(read(&bytes).unwrap(), payload);
        assert!(bytes.len() <= payload.size_bytes_bound(), "{}", payload.as_str());
    }
}

#[test]
fn every_truncation_and_every_extra_byte_is_an_error() {
    for payload in every_payload(1, 2) {
        let bytes = write(&payload);
        for len in 0..bytes.len() {
            assert!(read(&bytes.slice(..len)).is_err(), "{} cut at {len}", payload.as_str());
        }
        let mut longer = bytes.to_vec();
        longer.push(0);
        assert!(read(&longer.into()).is_err());
    }
}

#[test]
fn a_changed_byte_never_panics_and_what_is_read_is_written_the_same() {
    for payload in every_payload(1, 2) {
        let bytes = write(&payload);
        for at in 0..bytes.len() {
            for change in [0x01, 0x80, 0xff] {
                let mut changed = bytes.to_vec();
                changed[at] ^= change;
                let changed = Bytes::from(changed);
                if let Ok(other) = read(&changed) {
                    assert_eq!(write(&other), changed);
                }
            }
        }
    }
}

#[test]
fn an_unknown_kind_is_an_error() {
    for kind in [0, 100, 127, 255] {
        let found = read(&Bytes::from(vec![kind])).unwrap_err();
        assert!(matches!(found, DecodeError::UnknownKind { .. }), "{kind}");
    }
}

#[test]
fn an_unknown_kind_of_raft_message_is_an_error() {
    for kind in [0, 11, 18, 255] {
        // A raft payload of one message of this kind in term 1, and room for any fields.
        let mut bytes = vec![1, 1, kind, 1];
        bytes.extend([0; 40]);
        let found = read(&Bytes::from(bytes)).unwrap_err();
        assert!(
            matches!(found, DecodeError::UnknownKind { what: "a raft message", .. }),
            "{found}"
        );
    }
}

#[test]
fn random_bytes_never_panic() {
    let mut noise = Noise(0x5eed_0001);
    for _ in 0..20_000 {
        let len = noise.below(200) as usize;
        let mut bytes = noise.bytes(len);
        // Half of them begin with a kind that exists, or nothing but the first byte would ever be looked at.
        if let (Some(first), true) = (bytes.first_mut(), noise.below(2) == 0) {
            *first = 1 + noise.below(15) as u8;
        }
        let bytes = Bytes::from(bytes);
        if let Ok(payload) = read(&bytes) {
            assert_eq!(write(&payload), bytes);
        }
    }
}

#[test]
fn counts_that_lie_are_refused_before_anything_is_allocated() {
    // A raft payload, a proposal list, a read list: each says that it holds 2^40 items.
    for kind in [1u8, 2, 4] {
        let mut writer = Writer::new();
        writer.u8(kind);
        writer.u64(1 << 40);
        let found = read(&writer.into_vec().into()).unwrap_err();
        assert!(matches!(found, DecodeError::TooLong { .. }), "{kind}: {found}");
    }
}

#[test]
fn each_limit_is_kept() {
    let too_many = Payload::ReadWant { ids: vec![1; limits::READS_MAX + 1] };
    let context = vec![0; limits::READ_CONTEXT_BYTES_MAX + 1].into();
    let beat = fleet_consensus::frame::Beat { commit: 1, context };
    let long_context = Payload::Raft(vec![message(1, 2, 1, MessageKind::Heartbeat(beat))]);
    let large_entry = entry(1, 1, limits::ENTRY_DATA_BYTES_MAX + 1);
    let append = Append { index: 0, log_term: 0, commit: 0, entries: vec![large_entry] };
    let large_entry = Payload::Raft(vec![message(1, 2, 1, MessageKind::Append(append))]);
    let proposals = Payload::Propose(vec![vec![1; limits::PROPOSAL_BYTES_MAX + 1].into()]);
    let high_term =
        Payload::Raft(vec![message(1, 2, limits::TERM_MAX + 1, MessageKind::TimeoutNow)]);
    for payload in [too_many, long_context, large_entry, proposals, high_term] {
        assert!(read(&write(&payload)).is_err());
    }
}

#[test]
fn a_normal_entry_without_bytes_is_refused() {
    // It would be read back from the log as an empty one; there is one form of each.
    let empty = LogEntry { index: 1, term: 1, payload: EntryPayload::Normal(Bytes::new()) };
    let append = Append { index: 0, log_term: 0, commit: 0, entries: vec![empty] };
    let payload = Payload::Raft(vec![message(1, 2, 1, MessageKind::Append(append))]);
    assert!(read(&write(&payload)).is_err());
}

#[test]
fn what_was_read_shares_the_bytes() {
    let payload = Payload::Propose(vec![vec![7; 5000].into()]);
    let bytes = write(&payload);
    let Payload::Propose(read) = read(&bytes).unwrap() else { unreachable!() };
    let range = bytes.as_ptr() as usize..bytes.as_ptr() as usize + bytes.len();
    assert!(range.contains(&(read[0].as_ptr() as usize)));
}

#[test]
fn the_site_key_is_not_in_debug_output() {
    let text = format!("{:?}", Payload::SiteKeyGrant { key: [171; 32] });
    assert_eq!(text, "site_key_grant");
}

fn append(index: u64, sizes: &[usize]) -> RaftMessage {
    let entries =
        (index + 1..).zip(sizes).map(|(at, size)| entry(at, 2 + at / 50, *size)).collect();
    let kind = MessageKind::Append(Append { index, log_term: 1, commit: 9, entries });
    message(1, 2, 1000, kind)
}

#[test]
fn a_large_append_is_cut_into_appends_that_follow_each_other() {
    let sizes = vec![100_000; 40];
    let payloads = pack_messages(vec![append(7, &sizes)]);
    assert!(payloads.len() > 10);
    let (mut index, mut term) = (7, 1);
    let mut seen = Vec::new();
    for payload in payloads {
        assert!(write(&payload).len() <= limits::PAYLOAD_BYTES_MAX);
        let Payload::Raft(messages) = payload else { unreachable!() };
        for message in messages {
            let MessageKind::Append(part) = message.kind else { unreachable!() };
            assert_eq!((part.index, part.log_term, part.commit), (index, term, 9));
            let last = part.entries.last().unwrap();
            (index, term) = (last.index, last.term);
            seen.extend(part.entries);
        }
    }
    let MessageKind::Append(whole) = append(7, &sizes).kind else { unreachable!() };
    assert_eq!(seen, whole.entries);
}

#[test]
fn small_messages_stay_together_and_in_order() {
    let messages: Vec<_> = (1..100).map(|at| append(at, &[10])).collect();
    let payloads = pack_messages(messages.clone());
    assert_eq!(payloads, vec![Payload::Raft(messages)]);
}

#[test]
fn proposals_are_packed_by_count_and_by_size() {
    let many: Vec<Bytes> = (0..3000).map(|at: u32| at.to_be_bytes().to_vec().into()).collect();
    let packed = pack_proposals(many.clone());
    assert_eq!(packed.len(), 3);
    let large: Vec<Bytes> = (0..6).map(|_| vec![1; limits::PROPOSAL_BYTES_MAX].into()).collect();
    for payload in pack_proposals(large).iter().chain(&packed) {
        assert!(write(payload).len() <= limits::PAYLOAD_BYTES_MAX);
        assert!(read(&write(payload)).is_ok());
    }
    let joined = packed.into_iter().flat_map(|payload| match payload {
        Payload::Propose(part) => part,
        _ => unreachable!(),
    });
    assert!(joined.eq(many));
}

#[test]
fn nothing_is_packed_into_nothing() {
    assert_eq!(pack_messages(Vec::new()), Vec::new());
    assert_eq!(pack_proposals(Vec::new()), Vec::new());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 128, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_append_survives(index in 0u64..1 << 60, commit in 0u64..1 << 60, sizes in prop::collection::vec(0usize..300, 0..40)) {
        let MessageKind::Append(mut made) = append(index, &sizes).kind else { unreachable!() };
        made.commit = commit;
        let payload = Payload::Raft(vec![message(1, 2, 1 << 61, MessageKind::Append(made))]);
        prop_assert_eq!(read(&write(&payload)).unwrap(), payload);
    }

    #[test]
    fn any_reads_survive(ids in prop::collection::vec(any::<u64>(), 0..100), index in 0u64..1 << 62) {
        for payload in [Payload::ReadWant { ids: ids.clone() }, Payload::ReadGrant { ids: ids.clone(), index }] {
            prop_assert_eq!(read(&write(&payload)).unwrap(), payload);
        }
    }

    #[test]
    fn any_proposals_survive(proposals in prop::collection::vec(prop::collection::vec(any::<u8>(), 0..200), 0..50)) {
        let payload = Payload::Propose(proposals.into_iter().map(Bytes::from).collect());
        prop_assert_eq!(read(&write(&payload)).unwrap(), payload);
    }

    #[test]
    fn packing_keeps_every_entry(sizes in prop::collection::vec(0usize..200_000, 0..30)) {
        let mut seen = 0;
        for payload in pack_messages(vec![append(3, &sizes)]) {
            prop_assert!(write(&payload).len() <= limits::PAYLOAD_BYTES_MAX);
            let Payload::Raft(messages) = payload else { unreachable!() };
            for message in messages {
                let MessageKind::Append(part) = message.kind else { unreachable!() };
                seen += part.entries.len();
            }
        }
        prop_assert_eq!(seen, sizes.len());
    }
}
