//! Those who ask to join, and those who pretend to.

use fleet_state::NodeId;
use libp2p::futures::StreamExt as _;
use libp2p::futures::io::AsyncWriteExt as _;
use libp2p::swarm::SwarmEvent;

use super::strangers::{connect_by_hand, drive, peer_of_number};
use super::swarms::{LIMIT, Node, id, key, site_of, until};
use crate::mesh::joiner::{Joiner, JoinerParts};
use crate::mesh::joins::{JoinAsked, JoinQuestion};

fn joiner(number: u64, uid: &str, address: &str) -> Joiner {
    Joiner::start(&JoinerParts {
        sign_key: key(number),
        site: "home".parse().unwrap(),
        uid: uid.parse().unwrap(),
        addresses: vec![address.to_owned()],
        mdns: false,
    })
    .unwrap()
}

const UID: &str = "00112233445566778899aabbccddeeff";

fn to_join() -> JoinQuestion {
    JoinQuestion::Join { request_id: "join.1".to_owned(), body: b"{}".to_vec() }
}

/// Answers the next question and gives what it was.
async fn answer_next(node: &mut Node, payload: &[u8]) -> JoinAsked {
    let ask = tokio::time::timeout(LIMIT, node.joins.recv()).await.unwrap().unwrap();
    ask.answer.send(payload.to_vec()).unwrap();
    ask.asked
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_asks_to_join_and_for_its_own_record_and_nothing_else() {
    let mut node = Node::start(1, site_of(2), &[]);
    let address = node.address().await;
    let mut joiner = joiner(3, UID, &address);
    let join = to_join();
    let (answer, asked) = tokio::join!(joiner.ask(&join), answer_next(&mut node, b"yes"));
    assert_eq!(answer.unwrap(), b"yes");
    assert_eq!(asked, JoinAsked::Join { request_id: "join.1".to_owned(), body: b"{}".to_vec() });
    assert!(joiner.ask(&JoinQuestion::Record).await.is_err(), "it has no record yet");
    assert_eq!(node.refused("join", "denied"), 1);
    assert!(node.connected().is_empty(), "a guest is no node");

    node.set_state(site_of(3));
    until("the node knows its new member", || {
        node.handle.status.borrow().nodes.contains_key(&id(3))
    })
    .await;
    let (answer, asked) = tokio::join!(
        ask_until_answered(&mut joiner, &JoinQuestion::Record),
        answer_next(&mut node, b"r")
    );
    assert_eq!(answer, b"r");
    assert_eq!(asked, JoinAsked::Record(NodeId::new(3).unwrap()));
}

/// A guest that has become a member is sent away once, and comes back.
async fn ask_until_answered(joiner: &mut Joiner, question: &JoinQuestion) -> Vec<u8> {
    let asking = async {
        loop {
            if let Ok(answer) = joiner.ask(question).await {
                return answer;
            }
        }
    };
    tokio::time::timeout(LIMIT, asking).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_know_the_site_never_gets_as_far() {
    let mut node = Node::start(1, site_of(2), &[]);
    let address = node.address().await;
    let mut stranger = joiner(3, "ffffffffffffffffffffffffffffffff", &address);
    assert!(stranger.ask(&to_join()).await.is_err());
    assert!(node.joins.try_recv().is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_guest_that_becomes_a_member_comes_back_as_one() {
    let mut node = Node::start(1, site_of(2), &[]);
    let address = node.nameless_address().await;
    let (mut early, stayed) = connect_by_hand(3, &address).await;
    assert!(stayed, "it is a guest");
    node.set_state(site_of(3));
    let closed = async {
        while !matches!(early.swarm.select_next_some().await, SwarmEvent::ConnectionClosed { .. }) {
        }
    };
    tokio::time::timeout(LIMIT, closed).await.expect("its time as a guest is over");
    let (_member, stayed) = connect_by_hand(3, &address).await;
    assert!(stayed);
    node.await_connected(&[3]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_crowd_at_the_gate_takes_no_place_from_members() {
    let mut node = Node::start(1, site_of(2), &[]);
    let address = node.nameless_address().await;
    let mut crowd = Vec::new();
    let mut inside = 0;
    for number in 100..120 {
        let (stranger, stayed) = connect_by_hand(number, &address).await;
        inside += usize::from(stayed);
        crowd.push(stranger);
    }
    assert!((1..=4).contains(&inside), "{inside} guests at a time");
    assert!(node.refused("mesh", "too_many_guests") >= 15);
    let (_member, stayed) = connect_by_hand(2, &address).await;
    assert!(stayed, "the member's place was taken");
    node.await_connected(&[2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn questions_of_impossible_sizes_and_slow_ones_are_given_up() {
    let mut node = Node::start(1, site_of(2), &[]);
    let address = node.nameless_address().await;
    let (rogue, stayed) = connect_by_hand(2, &address).await;
    assert!(stayed);
    let mut control = rogue.control.clone();
    let protocol = rogue.names.join.clone();
    let _driver = drive(rogue);
    let mut streams = Vec::new();
    for length in [u32::MAX, 9_000] {
        let before = node.refused("join", "malformed");
        let mut stream = control.open_stream(peer_of_number(1), protocol.clone()).await.unwrap();
        stream.write_all(&length.to_be_bytes()).await.unwrap();
        stream.flush().await.unwrap();
        until("it is refused", || node.refused("join", "malformed") > before).await;
        streams.push(stream);
    }
    // Forty that begin and say no more: what is not refused at once is given up when it is late.
    for _ in 0..40 {
        let mut stream = control.open_stream(peer_of_number(1), protocol.clone()).await.unwrap();
        let _refused = stream.write_all(&[0, 0]).await;
        let _refused = stream.flush().await;
        streams.push(stream);
    }
    until("slow ones are given up", || node.refused("join", "slow") >= 2).await;
    assert!(node.joins.try_recv().is_err(), "control heard of none of it");
}
