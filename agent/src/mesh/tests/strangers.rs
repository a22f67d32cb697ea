//! Those who may not come in, and those who misbehave inside.

use std::time::Duration;

use fleet_consensus::frame::Class;
use libp2p::futures::StreamExt as _;
use libp2p::futures::io::AsyncWriteExt as _;
use libp2p::swarm::SwarmEvent;
use libp2p::swarm::dial_opts::DialOpts;
use tokio::task::JoinSet;

use super::swarms::{Node, prepare, site_of, until};
use crate::mesh::identity::peer_of;

/// A swarm of ours under the test's own hand, with the key of this number.
#[expect(clippy::wildcard_enum_match_arm, reason = "the library adds events at will")]
pub(super) async fn connect_by_hand(number: u64, address: &str) -> (crate::mesh::EventLoop, bool) {
    let (node, mut rogue) = prepare(number, &[address.to_owned()]);
    drop(node);
    let address: libp2p::Multiaddr = address.parse().unwrap();
    rogue.swarm.dial(DialOpts::unknown_peer_id().address(address).build()).unwrap();
    let mut connected = false;
    // Long enough for the other end to change its mind.
    let mut deadline = tokio::time::Instant::now() + Duration::from_secs(5);
    while let Ok(event) = tokio::time::timeout_at(deadline, rogue.swarm.select_next_some()).await {
        match event {
            SwarmEvent::ConnectionEstablished { .. } => {
                connected = true;
                deadline = tokio::time::Instant::now() + Duration::from_millis(500);
            }
            SwarmEvent::ConnectionClosed { .. } | SwarmEvent::OutgoingConnectionError { .. } => {
                return (rogue, false);
            }
            _ => {}
        }
    }
    (rogue, connected)
}

/// Runs a swarm, until what this gives back is dropped.
pub(super) fn drive(mut rogue: crate::mesh::EventLoop) -> JoinSet<()> {
    let mut driver = JoinSet::new();
    driver.spawn(async move {
        loop {
            rogue.swarm.select_next_some().await;
        }
    });
    driver
}

pub(super) fn peer_of_number(number: u64) -> libp2p::PeerId {
    peer_of(&super::swarms::key(number).verifying_key().to_bytes()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unknown_key_is_refused() {
    let mut node = Node::start(1, site_of(3), &[]);
    let address = node.nameless_address().await;
    let (rogue, _) = connect_by_hand(77, &address).await;
    assert!(node.connected().is_empty(), "a stranger is no node");
    // It is a guest: whatever it opens but a question has nobody behind it.
    let mut control = rogue.control.clone();
    let names = rogue.names.clone();
    let driver = drive(rogue);
    for protocol in [names.urgent, names.echo, names.asks] {
        let opened = control.open_stream(peer_of_number(1), protocol).await;
        assert!(opened.is_err(), "a stream was opened");
    }
    drop(driver);
    let (_member, stayed) = connect_by_hand(2, &address).await;
    assert!(stayed, "a member was not let in");
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_of_impossible_sizes_end_their_stream() {
    let mut node = Node::start(1, site_of(2), &[]);
    let address = node.nameless_address().await;
    let (rogue, stayed) = connect_by_hand(2, &address).await;
    assert!(stayed);
    let mut control = rogue.control.clone();
    let protocol = rogue.names.urgent.clone();
    let _driver = drive(rogue);
    for length in [u32::MAX, 0, 2_000_000] {
        let before = node.refused("mesh", "frame_size");
        let mut stream = control.open_stream(peer_of_number(1), protocol.clone()).await.unwrap();
        stream.write_all(&length.to_be_bytes()).await.unwrap();
        stream.write_all(&[1; 1_000]).await.unwrap();
        stream.flush().await.unwrap();
        until("it is refused", || node.refused("mesh", "frame_size") > before).await;
    }
    // An honest frame still passes, and more streams than anybody needs do not.
    let mut streams = Vec::new();
    for _ in 0..20 {
        streams.push(control.open_stream(peer_of_number(1), protocol.clone()).await.unwrap());
        let stream = streams.last_mut().unwrap();
        let _refused = stream.write_all(&[0, 0, 0, 2, 5, 5]).await;
        let _refused = stream.flush().await;
    }
    assert_eq!(&node.receive().await.frame[..], [5, 5]);
    until("streams are bounded", || node.refused("mesh", "too_many_streams") > 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_does_not_read_holds_nobody_up() {
    let mut node = Node::start(1, site_of(3), &[]);
    let address = node.address().await;
    let mut honest = Node::start(2, site_of(3), std::slice::from_ref(&address));
    let bare = address.split("/p2p/").next().unwrap().to_owned();
    let (deaf, stayed) = connect_by_hand(3, &bare).await;
    assert!(stayed);
    // Its swarm runs; its streams are taken in and never read.
    let _driver = drive(deaf);
    node.await_connected(&[2, 3]).await;
    let mut dropped = 0_u64;
    for round in 0..200u32 {
        dropped += node.send(3, Class::Normal, vec![0; 200_000]) as u64;
        let started = std::time::Instant::now();
        node.send(2, Class::Urgent, round.to_be_bytes().to_vec());
        let frame = honest.receive().await.frame;
        assert_eq!(frame[..], round.to_be_bytes());
        assert!(started.elapsed() < Duration::from_secs(2), "{:?}", started.elapsed());
    }
    // By a queue that is full, or by a writer that gets no stream for what waits.
    dropped += node.dropped_unwritten();
    assert!(dropped > 50, "the queue is bounded, and the oldest go: {dropped}");
}
