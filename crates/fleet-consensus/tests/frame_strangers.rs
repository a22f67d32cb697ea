//! How nodes come to know each other: credentials, greetings, restarts of either side.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

mod frame_support;

use ed25519_dalek::SigningKey;
use fleet_consensus::frame::{FrameCodec, Path, Payload, Refused, limits};
use fleet_state::SiteUid;
use frame_support::{
    acquainted, at, codec, credential, credential_by, greet, hello, identity, keys, node, open,
    route, seal, site_key, try_seal,
};

fn with_credential(id: u64, boot: u64, others: &[u64]) -> FrameCodec {
    let mut codec = codec(id, boot, others);
    codec.set_credential(credential(id));
    codec
}

#[test]
fn a_stranger_without_a_credential_is_refused() {
    let mut one = codec(1, 1, &[2]);
    let mut two = codec(2, 1, &[]);
    let frame = seal(&mut one, 2, &hello(1));
    assert_eq!(open(&mut two, &frame), Err(Refused::UnknownSender));
    assert!(!two.knows(node(1)));
}

#[test]
fn a_stranger_whose_credential_the_site_signed_is_let_in_and_can_be_answered() {
    let mut one = with_credential(1, 1, &[2]);
    let mut two = with_credential(2, 1, &[]);
    let frame = seal(&mut one, 2, &hello(1));
    assert!(open(&mut two, &frame).unwrap().is_some());
    assert!(two.knows(node(1)));
    assert_eq!(two.take_greetings(0), vec![node(1)]);
    let back = seal(&mut two, 1, &hello(1));
    assert!(open(&mut one, &back).unwrap().is_some());
    let frame = seal(&mut one, 2, &Payload::SiteKeyWant);
    assert!(open(&mut two, &frame).unwrap().is_some());
    // Its record comes with the log, and nothing of what was heard is lost.
    two.upsert(node(1), &keys(1)).unwrap();
    assert_eq!(open(&mut two, &frame), Err(Refused::Replay));
}

#[test]
fn a_credential_that_the_site_did_not_sign_is_refused() {
    let other_key = SigningKey::from_bytes(&[1; 32]);
    let other_site = SiteUid::from_bytes([1; 16]);
    let mut renamed = credential(1);
    renamed.name = "gate-9".parse().unwrap();
    let mut other_keys = credential(1);
    other_keys.keys = keys(3);
    let bad = [
        credential_by(&other_key, frame_support::site(), 1),
        credential_by(&site_key(), other_site, 1),
        renamed,
        other_keys,
    ];
    for shown in bad {
        let mut one = codec(1, 1, &[2]);
        one.set_credential(shown);
        let mut two = codec(2, 1, &[]);
        let frame = seal(&mut one, 2, &hello(1));
        assert_eq!(open(&mut two, &frame), Err(Refused::BadCredential));
        assert!(!two.knows(node(1)));
    }
}

#[test]
fn a_copied_credential_is_worth_nothing_without_its_key() {
    // Everybody at the server can read a credential. Node 3 shows that of node 1.
    let mut thief = identity(3, 1);
    thief.me = node(1);
    thief.credential = Some(credential(1));
    let mut thief = FrameCodec::new(thief).unwrap();
    thief.upsert(node(2), &keys(2)).unwrap();
    let mut two = codec(2, 1, &[]);
    let frame = seal(&mut thief, 2, &hello(1));
    assert_eq!(open(&mut two, &frame), Err(Refused::BadSeal));
    assert!(!two.knows(node(1)), "nothing is kept before the seal was verified");
}

#[test]
fn a_known_member_is_opened_under_its_record_whatever_it_shows() {
    let mut one = codec(1, 1, &[2]);
    one.set_credential(credential_by(&SigningKey::from_bytes(&[1; 32]), frame_support::site(), 1));
    let mut two = codec(2, 1, &[1]);
    let frame = seal(&mut one, 2, &hello(1));
    assert!(open(&mut two, &frame).unwrap().is_some());
}

#[test]
fn the_credential_is_shown_until_the_other_side_is_heard_and_again_after_silence() {
    let mut one = with_credential(1, 1, &[2]);
    let mut two = with_credential(2, 1, &[1]);
    let shows = |one: &mut FrameCodec, now_ms| {
        let frame = one.seal(route(2), &hello(1), now_ms).unwrap().remove(0);
        (frame[at::HAS_CREDENTIAL] == 1, frame)
    };
    assert!(shows(&mut one, 0).0);
    greet(&mut one, 1, &mut two, 2);
    let (shown, frame) = shows(&mut one, 500);
    assert!(!shown);
    open(&mut two, &frame).unwrap();
    assert!(shows(&mut one, limits::CREDENTIAL_QUIET_MS + 1).0);
}

#[test]
fn strangers_can_not_make_a_node_check_signatures_all_day() {
    let mut two = codec(2, 1, &[]);
    let mut one = codec(1, 1, &[2]);
    one.set_credential(credential_by(&SigningKey::from_bytes(&[1; 32]), frame_support::site(), 1));
    let frame = seal(&mut one, 2, &hello(1));
    let mut checked = 0;
    for _ in 0..1_000 {
        checked += u32::from(two.open(&frame, Path::Nats, 100) == Err(Refused::BadCredential));
    }
    assert_eq!(checked, limits::CREDENTIAL_CHECKS_PER_SECOND);
    assert_eq!(two.open(&frame, Path::Nats, 1_100), Err(Refused::BadCredential));
}

#[test]
fn the_table_of_strangers_is_bounded_and_makes_place_for_new_ones() {
    let mut two = codec(2, 1, &[]);
    let limit = limits::PROVISIONAL_MAX as u64;
    let frame_of = |id: u64| {
        let mut one = with_credential(id, 1, &[2]);
        seal(&mut one, 2, &hello(1))
    };
    // Spread over time, so that the bound on checks is not what is seen.
    for id in 0..limit {
        let now_ms = id * 100;
        assert!(two.open(&frame_of(10 + id), Path::Nats, now_ms).unwrap().is_some());
    }
    let now_ms = limit * 100;
    assert_eq!(two.open(&frame_of(5_000), Path::Nats, now_ms), Err(Refused::TooManyStrangers));
    let later = now_ms + limits::PROVISIONAL_IDLE_MS;
    assert!(two.open(&frame_of(5_000), Path::Nats, later).unwrap().is_some());
    assert!(!two.knows(node(10)), "the one that was silent for longest is gone");
    assert!(two.knows(node(11)));
}

#[test]
fn new_members_are_greeted_once_and_both_sides_then_take_everything() {
    let mut one = codec(1, 1, &[2, 3]);
    let mut two = codec(2, 1, &[1]);
    assert_eq!(one.take_greetings(0), vec![node(2), node(3)]);
    assert_eq!(one.take_greetings(10_000), vec![]);
    // No way took one of them.
    one.greeting_failed(node(3));
    assert_eq!(one.take_greetings(10), vec![]);
    assert_eq!(one.take_greetings(10_000), vec![node(3)]);
    assert_eq!(one.take_greetings(15_000), vec![]);
    let there = seal(&mut one, 2, &hello(1));
    assert!(open(&mut two, &there).unwrap().is_some());
    assert_eq!(two.take_greetings(0), vec![node(1)]);
    let back = seal(&mut two, 1, &hello(1));
    assert!(open(&mut one, &back).unwrap().is_some());
    assert_eq!(
        one.take_greetings(20_000),
        vec![],
        "the answer was sealed for this start; the talk is over"
    );
    let frame = seal(&mut two, 1, &Payload::SiteKeyWant);
    assert!(open(&mut one, &frame).unwrap().is_some());
}

#[test]
fn what_was_sealed_for_an_earlier_start_of_the_receiver_is_refused() {
    let (mut one, two) = acquainted(1, 2);
    // The grant of a read is what a server would like to keep: to a fresh start it would mean a stale answer.
    let grant = Payload::ReadGrant { ids: vec![1], index: 5 };
    let kept = seal(&mut one, 2, &grant);
    drop(two);
    let mut again = codec(2, 2, &[1]);
    again.take_greetings(0);
    assert_eq!(open(&mut again, &kept), Err(Refused::NotFresh));
    // The sender is greeted, learns of the new start, and says it anew.
    assert_eq!(again.take_greetings(1_000), vec![node(1)]);
    let greeting = seal(&mut again, 1, &hello(2));
    assert!(open(&mut one, &greeting).unwrap().is_some());
    let anew = seal(&mut one, 2, &grant);
    assert_eq!(open(&mut again, &anew).unwrap().unwrap().payload, grant);
    assert_eq!(open(&mut again, &kept), Err(Refused::Replay));
}

#[test]
fn greetings_to_one_node_keep_their_distance() {
    let (mut one, _) = acquainted(1, 2);
    let mut again = codec(2, 2, &[1]);
    assert_eq!(again.take_greetings(0), vec![node(1)]);
    let mut sent = 0;
    for now_ms in 1..=10 * limits::GREETING_GAP_MS {
        let frame = seal(&mut one, 2, &Payload::SiteKeyWant);
        assert_eq!(again.open(&frame, Path::Nats, now_ms), Err(Refused::NotFresh));
        sent += again.take_greetings(now_ms).len();
    }
    assert_eq!(sent, 10);
}

#[test]
fn a_node_that_starts_anew_is_heard_again_after_one_greeting_each_way() {
    let (mut one, _) = acquainted(1, 2);
    for boot in 2..10 {
        let mut again = codec(2, boot, &[1]);
        for node in again.take_greetings(0) {
            let frame = seal(&mut again, node.get(), &hello(boot));
            open(&mut one, &frame).unwrap();
        }
        let answer = seal(&mut one, 2, &Payload::SiteKeyWant);
        assert!(open(&mut again, &answer).unwrap().is_some(), "the greeting told the new start");
        let frame = seal(&mut again, 1, &Payload::SiteKeyWant);
        assert!(open(&mut one, &frame).unwrap().is_some());
    }
}

#[test]
fn nothing_can_be_sealed_for_a_stranger() {
    let mut one = codec(1, 1, &[]);
    assert!(try_seal(&mut one, 2, &hello(1)).is_err());
}

#[test]
fn what_was_heard_is_told() {
    let (_, mut two) = acquainted(1, 2);
    let mut one = codec(1, 5, &[2]);
    assert_eq!(two.boot_of(node(1)), Some(1));
    let frame = seal(&mut one, 2, &hello(5));
    two.open(&frame, Path::Nats, 77).unwrap();
    assert_eq!((two.boot_of(node(1)), two.heard_ms(node(1))), (Some(5), Some(77)));
    assert_eq!((two.boot_of(node(8)), two.heard_ms(node(8))), (None, None));
}

#[test]
fn a_node_that_was_set_back_to_an_older_copy_is_told_by_the_first_genuine_frame() {
    let mut one = codec(1, 1, &[2]);
    let mut later = codec(2, 7, &[1]);
    let frame = seal(&mut later, 1, &hello(7));
    open(&mut one, &frame).unwrap();
    // The copy is of before: its counter stands at 5, and it starts as 6.
    let mut set_back = codec(2, 6, &[1]);
    let frame = seal(&mut one, 2, &Payload::SiteKeyWant);
    assert_eq!(open(&mut set_back, &frame), Err(Refused::RolledBack));
    // Nobody but a member can make it believe so.
    let mut forged = frame.to_vec();
    let last = forged.len() - 1;
    forged[last] ^= 1;
    assert_eq!(open(&mut set_back, &forged), Err(Refused::BadSeal));
}
