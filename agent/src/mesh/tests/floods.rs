//! Members that ask, or say, as much as they can.

use std::collections::VecDeque;
use std::time::Duration;

use bytes::Bytes;
use fleet_consensus::frame::Class;
use libp2p::futures::io::AsyncWriteExt as _;
use libp2p::{Stream, StreamProtocol};
use libp2p_stream::Control;
use tokio::task::JoinSet;

use super::strangers::{connect_by_hand, drive, peer_of_number};
use super::swarms::{GROWTH_BYTES_MAX, LIMIT, Node, id, resident_bytes, site_of, until};
use crate::mesh::asks::{Question, Told};

/// Streams of a flood, and how many of them it keeps open.
const FLOOD: usize = 400;
const HELD: usize = 40;

/// A node, an honest member, and what is needed to open streams as member 2.
struct Scene {
    node: Node,
    honest: Node,
    control: Control,
    names: crate::mesh::behaviour::Names,
    _driver: JoinSet<()>,
}

impl Scene {
    async fn set() -> Self {
        let mut node = Node::start(1, site_of(3), &[]);
        let address = node.address().await;
        let honest = Node::start(3, site_of(3), std::slice::from_ref(&address));
        let bare = address.split("/p2p/").next().unwrap().to_owned();
        let (rogue, stayed) = connect_by_hand(2, &bare).await;
        assert!(stayed);
        let (control, names) = (rogue.control.clone(), rogue.names.clone());
        let driver = drive(rogue);
        node.await_connected(&[2, 3]).await;
        honest.await_connected(&[1]).await;
        Self { node, honest, control, names, _driver: driver }
    }

    async fn open(&mut self, protocol: &StreamProtocol) -> Stream {
        self.control.open_stream(peer_of_number(1), protocol.clone()).await.unwrap()
    }

    /// Opens streams that say no more than the beginning of what they want, waits until most were
    /// refused for this reason, and checks that they cost no memory. Gives those that are still held.
    async fn flood(
        &mut self,
        protocol: &StreamProtocol,
        (surface, reason): (&'static str, &'static str),
    ) -> VecDeque<Stream> {
        let mut held = VecDeque::new();
        let mut before = None;
        for number in 0..FLOOD {
            let mut stream = self.open(protocol).await;
            let _refused = stream.write_all(&[0]).await;
            let _refused = stream.flush().await;
            held.push_back(stream);
            if held.len() > HELD {
                // One of the later ones: those that were taken in stay.
                held.remove(HELD / 2);
            }
            if number == HELD {
                before = Some(resident_bytes());
            }
        }
        let node = &self.node;
        until("those beyond its places are counted", || node.refused(surface, reason) > 100).await;
        let (before, after) = (before.unwrap(), resident_bytes());
        assert!(after < before + GROWTH_BYTES_MAX, "it grew by {} KiB", (after - before) >> 10);
        held
    }
}

/// Each says the first byte of a frame, and nothing more for as long as anybody listens.
#[tokio::test(flavor = "multi_thread")]
async fn slow_streams_of_a_member_are_counted_and_take_no_place_but_its_own() {
    let mut scene = Scene::set().await;
    let urgent = scene.names.urgent.clone();
    let held = scene.flood(&urgent, ("mesh", "too_many_streams")).await;
    scene.honest.send(1, Class::Urgent, vec![3; 9]);
    assert_eq!(&scene.node.receive().await.frame[..], [3; 9], "an honest one is heard");
    // They are let go, and the places are free again.
    drop(held);
    let deadline = tokio::time::Instant::now() + LIMIT;
    while scene.node.inbox.try_recv().is_err() {
        assert!(tokio::time::Instant::now() < deadline, "its own places never came back");
        let mut stream = scene.open(&urgent).await;
        let _refused = stream.write_all(&[0, 0, 0, 1, 2]).await;
        let _refused = stream.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_questions_is_counted_and_takes_no_place_but_its_own() {
    let mut scene = Scene::set().await;
    let said = |question: Question| async move {
        Some(Told { payload: question.payload, ..Told::default() })
    };
    let _answering = tokio::spawn(scene.node.handle.answer(said).unwrap());
    let asks = scene.names.asks.clone();
    let held = scene.flood(&asks, ("ask", "too_many")).await;
    let question = Question { verb: "say".to_owned(), payload: Bytes::from_static(b"it") };
    let told = scene.honest.handle.ask(id(1), &question).await.expect("an honest one is answered");
    assert_eq!(&told.payload[..], b"it");
    drop(held);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_echoes_is_counted_and_takes_no_place_but_its_own() {
    let mut scene = Scene::set().await;
    let echo = scene.names.echo.clone();
    let held = scene.flood(&echo, ("echo", "too_many")).await;
    scene.honest.handle.ping(id(1)).await.expect("an honest one hears its echo");
    drop(held);
}

/// Bytes of a frame of a flood, and how many frames are written at once.
const FRAME_BYTES: u8 = 10;
const AT_ONCE: usize = 1_000;

/// Many small frames.
fn frames() -> Vec<u8> {
    let frame = [&[0, 0, 0, FRAME_BYTES][..], &[2; FRAME_BYTES as usize]].concat();
    frame.repeat(AT_ONCE)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_frames_is_counted_and_an_honest_one_is_heard_in_it() {
    let mut scene = Scene::set().await;
    let urgent = scene.names.urgent.clone();
    let mut stream = scene.open(&urgent).await;
    // As much as is read, for as long as this test takes.
    let mut flood = JoinSet::new();
    flood.spawn(async move {
        let frames = frames();
        while stream.write_all(&frames).await.is_ok() && stream.flush().await.is_ok() {}
    });
    // Nobody looks at frames: as many as have a place wait, the others are counted.
    let node = &scene.node;
    until("they are counted", || node.refused("frame", "inbox_full") > 1).await;
    let before = resident_bytes();
    until("they are counted on", || node.refused("frame", "inbox_full") > 20_000).await;
    let after = resident_bytes();
    assert!(after < before + GROWTH_BYTES_MAX, "it grew by {} KiB", (after - before) >> 10);
    // Somebody does again.
    let honest = [3; 9];
    let deadline = tokio::time::Instant::now() + LIMIT;
    let mut again = tokio::time::interval(Duration::from_millis(50));
    let mut flooded = 0;
    loop {
        assert!(tokio::time::Instant::now() < deadline, "not heard among {flooded} others");
        tokio::select! {
            inbound = scene.node.inbox.recv() => {
                if inbound.unwrap().frame[..] == honest {
                    break;
                }
                flooded += 1;
            }
            _ = again.tick() => {
                scene.honest.send(1, Class::Urgent, honest.to_vec());
            }
        }
    }
    assert!(flooded > 1_000, "only {flooded} frames of the flood were in its way");
    assert!(flood.try_join_next().is_none(), "the flood has ended by itself");
    scene.honest.handle.ping(id(1)).await.expect("an honest one hears its echo");
}
