//! What a seal vouches for, and what is refused.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

mod frame_support;

use std::collections::HashSet;

use fleet_consensus::frame::{
    Class, FrameCodec, IdentityError, KeyError, Path, Payload, Refused, Route, SealError, limits,
};
use fleet_state::SiteUid;
use frame_support::{
    Noise, WIDE, acquainted, at, codec, every_payload, greet, hello, identity, keys, message, node,
    open, route, seal, try_seal,
};

#[test]
fn every_payload_arrives_with_its_sender() {
    let (mut one, mut two) = acquainted(1, 2);
    for payload in every_payload(1, 2) {
        let frame = seal(&mut one, 2, &payload);
        let opened = open(&mut two, &frame).unwrap().unwrap();
        assert_eq!((opened.from, opened.boot, opened.arrival.class), (node(1), 1, Class::Normal));
        assert_eq!(opened.payload, payload);
    }
}

#[test]
fn every_truncation_and_every_extra_byte_is_refused() {
    let (mut one, mut two) = acquainted(1, 2);
    one.set_credential(frame_support::credential(1));
    for now_ms in [0, 10_000] {
        // The later frame carries a credential as well.
        let frame = one.seal(route(2), &Payload::SiteKeyWant, now_ms).unwrap().remove(0);
        for len in 0..frame.len() {
            assert!(open(&mut two, &frame[..len]).is_err(), "cut at {len}");
        }
        let mut longer = frame.to_vec();
        longer.push(0);
        assert_eq!(open(&mut two, &longer), Err(Refused::BadSeal));
        assert!(open(&mut two, &frame).unwrap().is_some(), "none of that changed anything");
    }
}

#[test]
fn every_flipped_bit_is_refused() {
    let (mut one, mut two) = acquainted(1, 2);
    one.set_credential(frame_support::credential(1));
    for now_ms in [0, 10_000] {
        let frame =
            one.seal(route(2), &Payload::ReadWant { ids: vec![1, 2] }, now_ms).unwrap().remove(0);
        for bit in 0..frame.len() * 8 {
            let mut flipped = frame.to_vec();
            flipped[bit / 8] ^= 1 << (bit % 8);
            assert!(open(&mut two, &flipped).is_err(), "bit {bit}");
        }
        assert!(open(&mut two, &frame).unwrap().is_some(), "none of that changed anything");
    }
}

#[test]
fn random_bytes_never_panic_and_are_never_taken() {
    let (mut one, mut two) = acquainted(1, 2);
    let frame = seal(&mut one, 2, &Payload::SiteKeyWant);
    let mut noise = Noise(0x5eed_0002);
    for _ in 0..20_000 {
        let len = noise.below(300) as usize;
        let mut bytes = noise.bytes(len);
        // Mostly with the beginning of a true frame, so that the later checks are reached.
        let kept = (noise.below(frame.len() as u64) as usize).min(bytes.len());
        bytes[..kept].copy_from_slice(&frame[..kept]);
        assert!(open(&mut two, &bytes).is_err());
    }
    assert!(open(&mut two, &frame).unwrap().is_some());
}

#[test]
fn a_replay_is_refused_and_so_is_what_was_overtaken() {
    let (mut one, mut two) = acquainted(1, 2);
    let first = seal(&mut one, 2, &Payload::SiteKeyWant);
    let second = seal(&mut one, 2, &Payload::SiteKeyWant);
    let third = seal(&mut one, 2, &Payload::SiteKeyWant);
    assert!(open(&mut two, &second).unwrap().is_some());
    assert_eq!(open(&mut two, &second), Err(Refused::Replay));
    assert_eq!(open(&mut two, &first), Err(Refused::Replay));
    assert!(open(&mut two, &third).unwrap().is_some(), "a gap is no reason to refuse");
}

#[test]
fn ways_and_classes_are_ordered_apart() {
    let (mut one, mut two) = acquainted(1, 2);
    let mut frames = Vec::new();
    for path in [Path::Nats, Path::Mesh] {
        for class in [Class::Urgent, Class::Normal, Class::Bulk] {
            let route = Route { path, class, ..route(2) };
            frames.push((path, one.seal(route, &Payload::SiteKeyWant, 0).unwrap().remove(0)));
        }
    }
    for (path, frame) in frames.iter().rev() {
        assert!(two.open(frame, *path, 0).unwrap().is_some());
    }
    for (path, frame) in &frames {
        assert_eq!(two.open(frame, *path, 0), Err(Refused::Replay));
    }
}

#[test]
fn what_the_sender_does_not_hear_is_told_and_sealed() {
    let (mut one, mut two) = acquainted(1, 2);
    for path in [Path::Nats, Path::Mesh] {
        for unheard in [None, Some(Path::Nats), Some(Path::Mesh)] {
            let route = Route { path, unheard, ..route(2) };
            let frame = one.seal(route, &Payload::SiteKeyWant, 0).unwrap().remove(0);
            let arrival = two.open(&frame, path, 0).unwrap().unwrap().arrival;
            assert_eq!((arrival.path, arrival.unheard), (path, unheard));
        }
    }
}

#[test]
fn a_frame_that_came_by_another_way_is_refused() {
    let (mut one, mut two) = acquainted(1, 2);
    let frame = seal(&mut one, 2, &Payload::SiteKeyWant);
    assert_eq!(two.open(&frame, Path::Mesh, 0), Err(Refused::WrongPath));
    assert!(open(&mut two, &frame).is_ok());
}

#[test]
fn a_frame_for_another_node_or_of_another_site_is_refused() {
    let (mut one, _) = acquainted(1, 2);
    let mut three = codec(3, 1, &[1, 2]);
    let frame = seal(&mut one, 2, &hello(1));
    assert_eq!(open(&mut three, &frame), Err(Refused::NotForMe));

    let mut elsewhere = identity(2, 1);
    elsewhere.site = SiteUid::from_bytes([8; 16]);
    let mut elsewhere = FrameCodec::new(elsewhere).unwrap();
    elsewhere.upsert(node(1), &keys(1)).unwrap();
    assert_eq!(open(&mut elsewhere, &frame), Err(Refused::WrongSite));
}

#[test]
fn the_site_is_part_of_the_key() {
    // Same nodes, same keys, another site: even with the site in the header changed, the seal doesn't hold.
    let (mut one, _) = acquainted(1, 2);
    let mut frame = seal(&mut one, 2, &hello(1)).to_vec();
    let mut elsewhere = identity(2, 1);
    elsewhere.site = SiteUid::from_bytes([8; 16]);
    let mut elsewhere = FrameCodec::new(elsewhere).unwrap();
    elsewhere.upsert(node(1), &keys(1)).unwrap();
    frame[at::SITE].copy_from_slice(&[8; 16]);
    assert_eq!(open(&mut elsewhere, &frame), Err(Refused::BadSeal));
}

#[test]
fn a_frame_can_not_be_sent_back_to_its_maker() {
    let (mut one, mut two) = acquainted(1, 2);
    let mut frame = seal(&mut one, 2, &Payload::SiteKeyWant).to_vec();
    let (from, to) = (frame[at::FROM].to_vec(), frame[at::TO].to_vec());
    frame[at::FROM].copy_from_slice(&to);
    frame[at::TO].copy_from_slice(&from);
    assert_eq!(open(&mut one, &frame), Err(Refused::BadSeal));
    frame[at::FROM].copy_from_slice(&from);
    assert_eq!(open(&mut one, &frame), Err(Refused::FromMyself));
    assert_eq!(open(&mut two, &frame), Err(Refused::NotForMe));
}

#[test]
fn a_forged_sender_is_refused() {
    let (mut one, _) = acquainted(1, 2);
    let mut two = codec(2, 1, &[1, 3]);
    let mut frame = seal(&mut one, 2, &hello(1)).to_vec();
    frame[at::FROM].copy_from_slice(&3u64.to_be_bytes());
    assert_eq!(open(&mut two, &frame), Err(Refused::BadSeal));
}

#[test]
fn a_removed_member_is_refused_for_ever() {
    let (mut one, mut two) = acquainted(1, 2);
    let frame = seal(&mut one, 2, &Payload::SiteKeyWant);
    two.remove(node(1));
    assert_eq!(open(&mut two, &frame), Err(Refused::Removed));
    assert_eq!(two.upsert(node(1), &keys(1)), Err(KeyError::Removed(node(1))));
    assert_eq!(open(&mut two, &frame), Err(Refused::Removed));
    assert_eq!(try_seal(&mut two, 1, &hello(1)), Err(SealError::Removed(node(1))));
    // Nor does it come back by its credential, which the site did sign once.
    one.set_credential(frame_support::credential(1));
    let shown = one.seal(route(2), &hello(1), 60_000).unwrap().remove(0);
    assert_eq!(open(&mut two, &shown), Err(Refused::Removed));
}

#[test]
fn a_restarted_sender_replaces_its_earlier_start() {
    let (mut one, mut two) = acquainted(1, 2);
    let old = seal(&mut one, 2, &Payload::SiteKeyWant);
    let mut again = codec(1, 2, &[2]);
    greet(&mut again, 1, &mut two, 2);
    let new = seal(&mut again, 2, &Payload::SiteKeyWant);
    assert!(open(&mut two, &new).unwrap().is_some());
    assert_eq!(open(&mut two, &old), Err(Refused::StaleBoot));
    assert_eq!(two.boot_of(node(1)), Some(2));
}

#[test]
fn a_copied_data_directory_is_noticed() {
    let (_, mut two) = acquainted(1, 2);
    let mut clone = identity(1, 1);
    clone.salt = [99; 8];
    let mut clone = FrameCodec::new(clone).unwrap();
    clone.upsert(node(2), &keys(2)).unwrap();
    let frame = seal(&mut clone, 2, &hello(1));
    assert_eq!(open(&mut two, &frame), Err(Refused::BootReused));
}

#[test]
fn a_header_can_not_promise_more_than_the_limit() {
    let (mut one, mut two) = acquainted(1, 2);
    let mut frame = seal(&mut one, 2, &Payload::SiteKeyWant).to_vec();
    frame[at::TOTAL].copy_from_slice(&u32::MAX.to_be_bytes());
    assert_eq!(open(&mut two, &frame), Err(Refused::TooLarge));
}

#[test]
fn other_bytes_are_told_apart_from_cut_ones() {
    let (mut one, mut two) = acquainted(1, 2);
    assert_eq!(open(&mut two, b""), Err(Refused::Truncated));
    assert_eq!(open(&mut two, b"GET / HTTP/1.1"), Err(Refused::NotAFrame));
    let mut newer = seal(&mut one, 2, &Payload::SiteKeyWant).to_vec();
    newer[3] = 2;
    assert_eq!(open(&mut two, &newer), Err(Refused::NotAFrame));
}

#[test]
fn what_can_not_be_sealed_is_said_and_uses_no_sequence() {
    let (mut one, mut two) = acquainted(1, 2);
    let large = Payload::Propose(vec![vec![1; limits::PROPOSAL_BYTES_MAX].into(); 5]);
    assert!(matches!(try_seal(&mut one, 2, &large), Err(SealError::TooLarge(_))));
    assert_eq!(try_seal(&mut one, 9, &hello(1)), Err(SealError::UnknownReceiver(node(9))));
    let narrow = Route { frame_bytes_max: 512, ..route(2) };
    assert_eq!(one.seal(narrow, &hello(1), 0), Err(SealError::WayTooNarrow(512)));
    for (from, to) in [(1, 3), (3, 2)] {
        let stray = message(from, to, 1, fleet_consensus::frame::MessageKind::TimeoutNow);
        assert_eq!(
            try_seal(&mut one, 2, &Payload::Raft(vec![stray])),
            Err(SealError::Misaddressed)
        );
    }
    let frame = seal(&mut one, 2, &Payload::SiteKeyWant);
    assert_eq!(frame[at::SEQUENCE], 2u64.to_be_bytes(), "the greeting had the first");
    assert!(open(&mut two, &frame).is_ok());
}

#[test]
fn an_identity_must_make_sense() {
    for boot in [0, limits::BOOT_MAX + 1] {
        let made = FrameCodec::new(identity(1, 1).with_boot(boot));
        assert_eq!(made.err(), Some(IdentityError::Boot(boot)));
    }
    let mut weak = identity(1, 1);
    weak.site_public_key = [0; 32];
    assert_eq!(FrameCodec::new(weak).err(), Some(IdentityError::SiteKey));
}

trait WithBoot {
    fn with_boot(self, boot: u64) -> Self;
}

impl WithBoot for fleet_consensus::frame::FrameIdentity {
    fn with_boot(mut self, boot: u64) -> Self {
        self.boot = boot;
        self
    }
}

#[test]
fn keys_that_protect_nothing_are_refused() {
    let mut one = codec(1, 1, &[]);
    let mut low = keys(2);
    low.exchange = [0; 32];
    assert_eq!(one.upsert(node(2), &low), Err(KeyError::WeakKey(node(2))));
    assert_eq!(one.upsert(node(1), &keys(1)), Err(KeyError::Myself(node(1))));
}

#[test]
fn no_header_comes_twice_even_when_a_member_is_forgotten_and_comes_back() {
    let mut one = codec(1, 1, &[2]);
    let mut seen = HashSet::new();
    for round in 0..4 {
        // Other keys in between make the keyring forget what it had for node 2.
        one.upsert(node(2), &keys(if round % 2 == 0 { 2 } else { 77 })).unwrap();
        for _ in 0..10 {
            let frame = seal(&mut one, 2, &hello(1));
            assert!(seen.insert(frame[at::SEQUENCE].to_vec()), "a sequence was used twice");
        }
    }
}

#[test]
fn a_payload_that_can_not_be_read_is_refused_once() {
    // A proposal that is larger than a reader takes, in a payload that is not.
    let (mut one, mut two) = acquainted(1, 2);
    let odd = Payload::Propose(vec![vec![0; limits::PROPOSAL_BYTES_MAX + 1].into()]);
    let frame = one.seal(Route { frame_bytes_max: WIDE, ..route(2) }, &odd, 0).unwrap().remove(0);
    assert_eq!(open(&mut two, &frame), Err(Refused::Malformed));
    assert_eq!(open(&mut two, &frame), Err(Refused::Replay));
}

#[test]
fn the_bytes_of_version_one_are_fixed() {
    // A change here breaks talk with every node that is not updated yet: it needs a new version, not a new constant.
    let mut one = codec(1, 1, &[2]);
    one.set_credential(frame_support::credential(1));
    let frame = seal(&mut one, 2, &hello(1));
    let hex: String = frame.iter().map(|byte| format!("{byte:02x}")).collect();
    assert_eq!(hex, GOLDEN);
}

const GOLDEN: &str = "464c4601070707070707070707070707070707070000000000000001000000000000000200000000\
    00000001000000000000000001030303030303030001000000000000000100000001000000030106\
    676174652d31520d2199e0a24c6461317e7c3f22e486396fcb260003e929d5c0d38a666a02bb9349\
    6fe21aad2d5560b532e340f9faa0214bccfd3a3632da92163cdab529bb4d7c841693b6335e53655f\
    78ccb139a5ef9b5b8c252c74e13027e051a62df8b1596f236bbdc04e3ba2a29fd48691d682492384\
    712d42ec2a6ae86a36c763c14f00ad4319a099f92334428e61bea8f17a8865db25";
