//! Members that lie about others, and floods of what gossip says to itself.

use std::time::Duration;

use ed25519_dalek::Signer as _;
use fleet_consensus::NodeRole;
use libp2p::StreamProtocol;
use libp2p::futures::StreamExt as _;
use libp2p::futures::io::AsyncWriteExt as _;
use libp2p_stream::Control;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::strangers::{connect_by_hand, drive, peer_of_number};
use super::swarms::{GROWTH_BYTES_MAX, LIMIT, Node, id, key, resident_bytes, site_of, until};
use crate::mesh::EventLoop;
use crate::mesh::presence::{Beat, Life};

const GOSSIP: StreamProtocol = StreamProtocol::new("/flotilla/home/gossip/1.1.0");
const TOPIC: &str = "flotilla/home/presence/1";

fn lie(sequence: u64) -> Beat {
    Beat {
        node: id(3),
        boot: 9,
        sequence,
        role: NodeRole::Leader,
        term: 99,
        applied: 9,
        on_nats: true,
        mesh_nodes: 2,
        load_permille: 1,
    }
}

/// Tells all who listen, again and again, until it shows.
async fn tell_until(rogue: &mut EventLoop, what: impl Fn(u64) -> Beat, shows: impl Fn() -> bool) {
    let deadline = Instant::now() + LIMIT;
    let mut again = tokio::time::interval(Duration::from_millis(200));
    let mut sequence = 0;
    while !shows() {
        assert!(Instant::now() < deadline, "nobody heard it, {sequence} times");
        tokio::select! {
            _ = rogue.swarm.select_next_some() => {}
            _ = again.tick() => {
                sequence += 1;
                let topic = rogue.names.presence.clone();
                let gossip = &mut rogue.swarm.behaviour_mut().members.gossip;
                // Before the other one has said what it wants to hear there is nobody to tell.
                let _nobody = gossip.publish(topic, what(sequence).encode());
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_that_speaks_for_another_is_refused() {
    let mut node = Node::start(1, site_of(3), &[]);
    let address = node.nameless_address().await;
    let (mut rogue, stayed) = connect_by_hand(2, &address).await;
    assert!(stayed);
    tell_until(&mut rogue, lie, || node.refused("presence", "not_the_author") > 0).await;
    let status = node.handle.status.borrow().clone();
    let seen = status.nodes.get(&id(3));
    assert!(seen.is_none_or(|seen| seen.beat.is_none()), "it was believed: {seen:?}");
}

/// A field of protobuf with these bytes.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    let mut out = vec![number << 3 | 2];
    out.extend(varint(bytes.len()));
    out.extend(bytes);
    out
}

fn varint(mut value: usize) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(u8::try_from(value & 0x7f).unwrap() | 0x80);
        value >>= 7;
    }
    out.push(u8::try_from(value).unwrap());
    out
}

/// One message of gossip about itself: join and leave the topic, and one that does not exist.
fn grafts_and_prunes() -> Vec<u8> {
    let mut control = Vec::new();
    for topic in [TOPIC, "somewhere/else"] {
        for _ in 0..10 {
            control.extend(field(3, &field(1, topic.as_bytes())));
            control.extend(field(4, &field(1, topic.as_bytes())));
        }
    }
    let rpc = field(3, &control);
    [varint(rpc.len()), rpc].concat()
}

/// Messages of a flood.
const FLOOD: usize = 4_000;

/// Writes to a stream for as long as the other end reads.
async fn is_taken(stream: &mut libp2p::Stream, bytes: &[u8]) -> bool {
    let written = async {
        stream.write_all(bytes).await?;
        stream.flush().await
    };
    matches!(tokio::time::timeout(Duration::from_secs(2), written).await, Ok(Ok(())))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_grafts_and_prunes_is_counted_and_costs_no_memory() {
    let mut node = Node::start(1, site_of(3), &[]);
    let address = node.address().await;
    let honest = Node::start(3, site_of(3), std::slice::from_ref(&address));
    let bare = address.split("/p2p/").next().unwrap().to_owned();
    let (rogue, stayed) = connect_by_hand(2, &bare).await;
    assert!(stayed);
    let mut control = rogue.control.clone();
    let _driver = drive(rogue);
    let flood = grafts_and_prunes();
    let (mut written, mut before) = (0, None);
    let deadline = Instant::now() + LIMIT;
    while written < FLOOD {
        assert!(Instant::now() < deadline, "only {written} messages of the flood were taken");
        let opened = control.open_stream(peer_of_number(1), GOSSIP).await;
        let mut stream = opened.expect("members stay connected");
        // One that is not read any more is left for a new one.
        while written < FLOOD && is_taken(&mut stream, &flood).await {
            written += 1;
            if written == FLOOD / 10 {
                // What such a peer costs at most stands by now.
                before = Some(resident_bytes());
            }
        }
    }
    until("its gossip is ignored", || node.refused("presence", "ignored_peer") > 0).await;
    let (before, after) = (before.unwrap(), resident_bytes());
    assert!(after < before + GROWTH_BYTES_MAX, "it grew by {} KiB", (after - before) >> 10);
    // Those who keep to the rules are heard as ever.
    let sequence = |node: &Node| {
        let status = node.handle.status.borrow().clone();
        status.nodes.get(&id(3)).and_then(|seen| seen.beat).map(|beat| beat.sequence)
    };
    let heard = sequence(&node);
    until("the honest one is heard again", || sequence(&node) > heard).await;
    assert!(honest.connected().contains(&1));
}

#[tokio::test(flavor = "multi_thread")]
async fn messages_that_come_together_are_taken_apart() {
    let mut node = Node::start(1, site_of(3), &[]);
    let address = node.nameless_address().await;
    let (rogue, stayed) = connect_by_hand(2, &address).await;
    assert!(stayed);
    let mut control = rogue.control.clone();
    let _driver = drive(rogue);
    // Small ones, sixty in one piece; that they were read shows in what is thought of their sender.
    let small = |field_of: u8| {
        let rpc = field(3, &field(field_of, &field(1, TOPIC.as_bytes())));
        [varint(rpc.len()), rpc].concat()
    };
    let together: Vec<u8> = (0..30).flat_map(|_| [small(3), small(4)].concat()).collect();
    let mut stream = control.open_stream(peer_of_number(1), GOSSIP).await.unwrap();
    stream.write_all(&together).await.unwrap();
    stream.flush().await.unwrap();
    until("all of them are read", || node.refused("presence", "ignored_peer") > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn whatever_a_member_tells_of_itself_changes_nothing_but_what_is_shown() {
    let mut node = Node::start(1, site_of(2), &[]);
    let state = node.view.borrow().clone();
    let address = node.nameless_address().await;
    let (mut rogue, stayed) = connect_by_hand(2, &address).await;
    assert!(stayed);
    // A leader of the last term there is, which has applied everything.
    let claim = |sequence| Beat {
        node: id(2),
        boot: u64::MAX,
        sequence,
        role: NodeRole::Leader,
        term: u64::MAX,
        applied: u64::MAX,
        on_nats: true,
        mesh_nodes: u32::MAX,
        load_permille: u32::MAX,
    };
    let shown = |node: &Node| {
        let status = node.handle.status.borrow().clone();
        status.nodes.get(&id(2)).and_then(|seen| seen.beat)
    };
    let heard = || shown(&node).is_some_and(|beat| beat.sequence >= 3);
    tell_until(&mut rogue, claim, heard).await;
    assert_eq!(shown(&node).map(|beat| (beat.term, beat.applied)), Some((u64::MAX, u64::MAX)));
    // It is shown to people. What the replica has of the mesh is frames and who crashed.
    assert!(node.inbox.try_recv().is_err(), "gossip made a frame");
    assert!(node.handle.crashed.borrow().is_empty(), "gossip made a crash");
    assert!(std::sync::Arc::ptr_eq(&state, &node.view.borrow()), "gossip made a state");
}

/// A message in the name of node 3, as far as its author signs it.
fn unsigned(sequence: u64, data: &[u8]) -> Vec<u8> {
    let mut message = field(1, &peer_of_number(3).to_bytes());
    message.extend(field(2, data));
    message.extend(field(3, &sequence.to_be_bytes()));
    message.extend(field(4, TOPIC.as_bytes()));
    message
}

/// The same with a signature, as it travels.
fn with_signature(mut message: Vec<u8>, signature: &[u8; 64]) -> Vec<u8> {
    message.extend(field(5, signature));
    let rpc = field(2, &message);
    [varint(rpc.len()), rpc].concat()
}

/// A message that node 3 did sign.
fn signed(sequence: u64, data: &[u8]) -> Vec<u8> {
    let message = unsigned(sequence, data);
    let signature = key(3).sign(&[b"libp2p-pubsub:", &message[..]].concat());
    with_signature(message, &signature.to_bytes())
}

/// One with a signature that nobody made.
fn forged(sequence: u64) -> Vec<u8> {
    with_signature(unsigned(sequence, &lie(sequence).encode()), &[7; 64])
}

/// A node that has heard node 3, and member 2 under the test's hand.
async fn one_that_has_heard_of_another() -> (Node, Node, Control, JoinSet<()>) {
    let mut node = Node::start(1, site_of(3), &[]);
    let address = node.address().await;
    let honest = Node::start(3, site_of(3), std::slice::from_ref(&address));
    let bare = address.split("/p2p/").next().unwrap().to_owned();
    let (rogue, stayed) = connect_by_hand(2, &bare).await;
    assert!(stayed);
    let control = rogue.control.clone();
    let driver = drive(rogue);
    until("the honest one is heard", || heard_of_third(&node).is_some_and(|it| it.sequence > 1))
        .await;
    (node, honest, control, driver)
}

fn heard_of_third(node: &Node) -> Option<Beat> {
    let status = node.handle.status.borrow().clone();
    status.nodes.get(&id(3)).and_then(|seen| seen.beat)
}

/// Writes to a stream of gossip with node 1; one that was closed is opened anew.
async fn tell(control: &mut Control, bytes: &[u8]) {
    let mut stream = control.open_stream(peer_of_number(1), GOSSIP).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    stream.flush().await.unwrap();
    // What was written is read even so; and nobody may have two such streams for long.
    let _closed = stream.close().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_another_member_said_long_ago_is_counted_and_changes_nothing() {
    let (node, honest, mut control, _driver) = one_that_has_heard_of_another().await;
    let last = heard_of_third(&node).unwrap();
    drop(honest);
    let life = || node.handle.status.borrow().nodes.get(&id(3)).map(|seen| seen.life);
    until("it is gone", || life() == Some(Life::Suspect)).await;
    let last = heard_of_third(&node).unwrap_or(last);
    // The real thing: its own words and signatures, from its start before this one and from this.
    let mut old = Vec::new();
    for term in 0..10 {
        let before = Beat { boot: 0, sequence: 9, term, ..last };
        let this = Beat { sequence: 1, term: term + 50, ..last };
        old.extend([before, this].map(|beat| signed(beat.term, &beat.encode())).concat());
    }
    tell(&mut control, &old).await;
    until("they are counted", || node.refused("presence", "old") >= 20).await;
    assert_eq!(heard_of_third(&node), Some(last), "the past is shown");
    assert_ne!(life(), Some(Life::Alive), "a node that is gone was made to look alive");
    // Newer words of the same hand are taken: it is not for the way they came that they were not.
    let newer = Beat { boot: last.boot + 1, sequence: 1, ..last };
    tell(&mut control, &signed(1_000, &newer.encode())).await;
    until("news are heard from anybody", || heard_of_third(&node) == Some(newer)).await;
    assert_eq!(node.refused("presence", "ignored_peer"), 0, "who passes on is innocent");
}

#[tokio::test(flavor = "multi_thread")]
async fn gossip_of_impossible_sizes_is_refused_unread_and_its_sender_ignored() {
    let (node, honest, mut control, _driver) = one_that_has_heard_of_another().await;
    let last = heard_of_third(&node).unwrap();
    // Signed and all, and with more behind it than any message has.
    let large = |sequence: u64| {
        let beat = Beat { boot: last.boot + 1, sequence, ..last };
        signed(sequence, &[beat.encode(), vec![0; 1_000]].concat())
    };
    let together: Vec<u8> = (1..=4).flat_map(large).collect();
    tell(&mut control, &together).await;
    until("its sender is ignored", || node.refused("presence", "ignored_peer") > 0).await;
    assert_eq!(node.refused("presence", "malformed"), 0, "they were taken apart");
    // Far beyond what is read at all: its stream ends.
    let before = resident_bytes();
    let mut stream = control.open_stream(peer_of_number(1), GOSSIP).await.unwrap();
    let huge = [varint(64 << 20), vec![0x12; 1 << 20]].concat();
    assert!(!is_taken(&mut stream, &huge).await, "a message of 64 MiB was read");
    let after = resident_bytes();
    assert!(after < before + GROWTH_BYTES_MAX, "it grew by {} KiB", (after - before) >> 10);
    let heard = heard_of_third(&node).unwrap();
    assert_eq!(heard.boot, last.boot, "it was believed");
    until("the honest one is heard again", || {
        heard_of_third(&node).is_some_and(|beat| beat.sequence > heard.sequence)
    })
    .await;
    assert!(honest.connected().contains(&1));
}

#[tokio::test(flavor = "multi_thread")]
async fn floods_and_forged_signatures_change_nothing_for_the_others() {
    let mut node = Node::start(1, site_of(4), &[]);
    let address = node.address().await;
    let bare = address.split("/p2p/").next().unwrap().to_owned();
    let (rogue, stayed) = connect_by_hand(2, &bare).await;
    assert!(stayed);
    let mut control = rogue.control.clone();
    let _driver = drive(rogue);
    let mut written = 0;
    for round in 0..50u64 {
        // A stream that was closed for what it carried is opened anew.
        let Ok(mut stream) = control.open_stream(peer_of_number(1), GOSSIP).await else { break };
        for message in 0..40 {
            let bytes =
                if message % 4 == 0 { forged(round * 40 + message) } else { grafts_and_prunes() };
            if stream.write_all(&bytes).await.is_err() {
                break;
            }
            written += 1;
        }
        let _closed = stream.flush().await;
    }
    assert!(written >= 40, "only {written} messages of the flood were written");
    until("its gossip is ignored", || node.refused("presence", "ignored_peer") > 0).await;
    // An honest one is heard as ever, and the one that was spoken for was not.
    let honest = Node::start(4, site_of(4), std::slice::from_ref(&address));
    until("the honest one is alive", || {
        let status = node.handle.status.borrow().clone();
        let seen = status.nodes.get(&id(4));
        seen.is_some_and(|seen| seen.life == Life::Alive && seen.beat.is_some())
    })
    .await;
    let status = node.handle.status.borrow().clone();
    let seen = status.nodes.get(&id(3));
    assert!(seen.is_none_or(|seen| seen.beat.is_none()), "it was believed: {seen:?}");
    assert!(honest.connected().contains(&1));
}
