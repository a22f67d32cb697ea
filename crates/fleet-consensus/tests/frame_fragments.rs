//! Payloads in several pieces: out of order, lost, mixed, late, too many.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::wildcard_enum_match_arm
)]

mod frame_support;

use bytes::Bytes;
use fleet_consensus::frame::{Class, FrameCodec, Path, Payload, Refused, Route, limits};
use frame_support::{Noise, acquainted, at, codec, greet, node, route};

const NARROW: usize = 64 * 1024;

fn narrow(class: Class) -> Route {
    Route { class, frame_bytes_max: NARROW, ..route(2) }
}

fn large(fill: u8) -> Payload {
    Payload::Propose(vec![vec![fill; 250_000].into(), vec![fill; 250_000].into()])
}

fn pieces(from: &mut FrameCodec, fill: u8) -> Vec<Bytes> {
    let pieces = from.seal(narrow(Class::Normal), &large(fill), 0).unwrap();
    assert_eq!(pieces.len(), 8);
    assert!(pieces.iter().all(|piece| piece.len() <= NARROW));
    pieces
}

fn take(two: &mut FrameCodec, piece: &[u8], now_ms: u64) -> Result<Option<Payload>, Refused> {
    Ok(two.open(piece, Path::Nats, now_ms)?.map(|opened| opened.payload))
}

#[test]
fn a_large_payload_fits_through_a_way_of_64_kilobytes() {
    let (mut one, mut two) = acquainted(1, 2);
    let pieces = pieces(&mut one, 5);
    for piece in &pieces[..7] {
        assert_eq!(take(&mut two, piece, 0), Ok(None));
    }
    assert_eq!(take(&mut two, &pieces[7], 0), Ok(Some(large(5))));
    for piece in &pieces {
        assert_eq!(take(&mut two, piece, 0), Err(Refused::Replay));
    }
}

#[test]
fn the_largest_payload_fits_through_the_narrowest_way() {
    let (mut one, mut two) = acquainted(1, 2);
    one.set_credential(frame_support::credential(1));
    let payload = Payload::Propose(vec![vec![1; limits::PROPOSAL_BYTES_MAX - 16].into(); 4]);
    let route = Route { frame_bytes_max: limits::FRAGMENT_BYTES_MIN, ..route(2) };
    // At a time when the credential takes its part of each piece.
    let pieces = one.seal(route, &payload, 5_000).unwrap();
    assert!(pieces.len() <= limits::FRAGMENTS_MAX);
    let last = pieces.iter().map(|piece| take(&mut two, piece, 5_000).unwrap()).last().unwrap();
    assert_eq!(last, Some(payload));
}

#[test]
fn pieces_come_in_any_order() {
    let mut noise = Noise(0x5eed_0003);
    let (mut one, mut two) = acquainted(1, 2);
    for round in 0..20 {
        let mut pieces = pieces(&mut one, round);
        for at in (1..pieces.len()).rev() {
            pieces.swap(at, noise.below(at as u64 + 1) as usize);
        }
        let mut whole = None;
        for piece in &pieces {
            assert_eq!(whole, None);
            whole = take(&mut two, piece, 0).unwrap();
        }
        assert_eq!(whole, Some(large(round)));
    }
}

#[test]
fn a_piece_that_comes_twice_is_refused_the_second_time() {
    let (mut one, mut two) = acquainted(1, 2);
    let pieces = pieces(&mut one, 1);
    assert_eq!(take(&mut two, &pieces[3], 0), Ok(None));
    assert_eq!(take(&mut two, &pieces[3], 0), Err(Refused::Replay));
}

#[test]
fn a_lost_piece_loses_the_payload_and_no_other() {
    let (mut one, mut two) = acquainted(1, 2);
    for piece in &pieces(&mut one, 1)[1..] {
        assert_eq!(take(&mut two, piece, 0), Ok(None));
    }
    let next = pieces(&mut one, 2);
    let last = next.iter().map(|piece| take(&mut two, piece, 0).unwrap()).last().unwrap();
    assert_eq!(last, Some(large(2)));
}

#[test]
fn a_newer_payload_takes_the_place_of_an_unfinished_one() {
    let (mut one, mut two) = acquainted(1, 2);
    let (old, new) = (pieces(&mut one, 1), pieces(&mut one, 2));
    for (old, new) in old.iter().zip(&new).take(7) {
        let _ = take(&mut two, old, 0);
        assert_eq!(take(&mut two, new, 0), Ok(None));
    }
    assert_eq!(take(&mut two, &old[7], 0), Err(Refused::Replay));
    assert_eq!(take(&mut two, &new[7], 0), Ok(Some(large(2))));
}

#[test]
fn classes_are_put_together_apart() {
    let (mut one, mut two) = acquainted(1, 2);
    let normal = one.seal(narrow(Class::Normal), &large(1), 0).unwrap();
    let bulk = one.seal(narrow(Class::Bulk), &large(2), 0).unwrap();
    let mut whole = Vec::new();
    for (a, b) in normal.iter().zip(&bulk) {
        whole.extend(take(&mut two, b, 0).unwrap());
        whole.extend(take(&mut two, a, 0).unwrap());
    }
    assert_eq!(whole, vec![large(2), large(1)]);
}

#[test]
fn pieces_of_different_payloads_are_never_joined() {
    // The seal covers sequence and number of the piece, so a server can't mix them; here are their neighbours.
    let (mut one, mut two) = acquainted(1, 2);
    let (a, b) = (pieces(&mut one, 1), pieces(&mut one, 2));
    let mut mixed = a[0].to_vec();
    mixed[at::SEQUENCE].copy_from_slice(&b[0][at::SEQUENCE]);
    assert_eq!(take(&mut two, &mixed, 0), Err(Refused::BadSeal));
    let mut moved = a[0].to_vec();
    moved[at::FRAGMENT].copy_from_slice(&1u16.to_be_bytes());
    assert_eq!(take(&mut two, &moved, 0), Err(Refused::BadSeal));
}

#[test]
fn an_unfinished_payload_is_dropped_after_a_while() {
    let (mut one, mut two) = acquainted(1, 2);
    let pieces = pieces(&mut one, 1);
    for piece in &pieces[..7] {
        assert_eq!(take(&mut two, piece, 1_000), Ok(None));
    }
    let late = 1_000 + limits::REASSEMBLY_TIMEOUT_MS + 1;
    assert_eq!(take(&mut two, &pieces[7], late), Err(Refused::Replay));
}

#[test]
fn one_sender_can_not_make_a_node_keep_more_than_its_share() {
    // Unfinished payloads of almost a megabyte, one for each way and class.
    let (mut one, mut two) = acquainted(1, 2);
    let payload = Payload::Propose(vec![vec![1; limits::PROPOSAL_BYTES_MAX - 64].into(); 4]);
    let mut full = 0;
    for path in [Path::Nats, Path::Mesh] {
        for class in [Class::Normal, Class::Bulk] {
            let pieces = one.seal(Route { path, ..narrow(class) }, &payload, 0).unwrap();
            for piece in &pieces[1..] {
                match two.open(piece, path, 0) {
                    Ok(opened) => assert_eq!(opened, None),
                    Err(refused) => {
                        assert!(matches!(refused, Refused::ReassemblyFull | Refused::Replay));
                        full += 1;
                    }
                }
            }
        }
    }
    assert!(full > 0);
    // It goes on when something smaller comes.
    let small = one.seal(route(2), &Payload::SiteKeyWant, 0).unwrap();
    assert_eq!(take(&mut two, &small[0], 0), Ok(Some(Payload::SiteKeyWant)));
}

#[test]
fn all_senders_together_can_not_either() {
    let senders = 3..9u64;
    let mut two = codec(2, 1, &senders.clone().collect::<Vec<_>>());
    let payload = Payload::Propose(vec![vec![1; limits::PROPOSAL_BYTES_MAX - 64].into(); 4]);
    let mut refused = 0;
    for id in senders {
        let mut one = codec(id, 1, &[2]);
        greet(&mut one, id, &mut two, 2);
        for class in [Class::Normal, Class::Bulk] {
            for piece in &one.seal(narrow(class), &payload, 0).unwrap()[1..] {
                let opened = two.open(piece, Path::Nats, 0);
                refused += usize::from(opened == Err(Refused::ReassemblyFull));
            }
        }
        assert_eq!(two.boot_of(node(id)), Some(1));
    }
    assert!(refused > 0);
}

#[test]
fn random_changes_to_pieces_never_panic() {
    let mut noise = Noise(0x5eed_0004);
    let (mut one, mut two) = acquainted(1, 2);
    let pieces = pieces(&mut one, 9);
    for _ in 0..2_000 {
        let piece = &pieces[noise.below(8) as usize];
        let mut changed = piece[..200].to_vec();
        let at = noise.below(100) as usize;
        changed[at] ^= 1 + noise.below(255) as u8;
        assert!(take(&mut two, &changed, 0).is_err());
    }
    let last = pieces.iter().map(|piece| take(&mut two, piece, 0).unwrap()).last().unwrap();
    assert_eq!(last, Some(large(9)));
}
