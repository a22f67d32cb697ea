//! Members find each other and carry frames.

use bytes::Bytes;
use fleet_consensus::frame::{Class, Path};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::swarms::{Node, id, site_of, until, without};
use crate::mesh::presence::Life;
use crate::transport::FRAME_BYTES_MAX;

/// Nodes 1 to `count`, of which each knows only the one before.
async fn chain(count: u64) -> Vec<Node> {
    let mut nodes: Vec<Node> = Vec::new();
    for number in 1..=count {
        let bootstrap = match nodes.last_mut() {
            Some(before) => vec![before.nameless_address().await],
            None => Vec::new(),
        };
        nodes.push(Node::start(number, site_of(count), &bootstrap));
    }
    nodes
}

fn others(count: u64, me: u64) -> Vec<u64> {
    (1..=count).filter(|node| *node != me).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn five_of_which_each_knows_one_other_find_all() {
    let nodes = chain(5).await;
    for node in &nodes {
        node.await_connected(&others(5, node.number)).await;
    }
    // Presence: everybody hears of everybody, with what it said of itself.
    for node in &nodes {
        until(&format!("node {} sees all alive", node.number), || {
            let status = node.handle.status.borrow().clone();
            status.nodes.len() == 4
                && status.nodes.values().all(|seen| {
                    seen.life == Life::Alive && seen.beat.is_some() && seen.rtt.is_some()
                })
        })
        .await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_was_found_is_found_again_without_a_hint() {
    let mut nodes = chain(3).await;
    for node in &nodes {
        node.await_connected(&others(3, node.number)).await;
    }
    let file = nodes[2].dir.path().join("mesh-peers.json");
    let third = crate::mesh::identity::peer_of(&super::swarms::key(1).verifying_key().to_bytes());
    until("node 3 has written down where node 1 is", || {
        let text = std::fs::read_to_string(&file).unwrap_or_default();
        text.contains(&third.unwrap().to_string())
    })
    .await;
    let gone = nodes.pop().unwrap();
    let text = std::fs::read_to_string(&file).unwrap();
    drop(gone);
    nodes[0].await_connected(&[2]).await;
    let (mut again, event_loop) = super::swarms::prepare(3, &[]);
    drop(event_loop);
    std::fs::write(again.dir.path().join("mesh-peers.json"), text).unwrap();
    let (handle, crate::mesh::MeshOut { events, .. }, event_loop) =
        crate::mesh::new(crate::mesh::MeshParts {
            config: super::swarms::config(&[]),
            site: "home".parse().unwrap(),
            uid: "00112233445566778899aabbccddeeff".parse().unwrap(),
            node: id(3),
            boot: 2,
            sign_key: super::swarms::key(3),
            data_dir: again.dir.path().to_owned(),
            inbox: crate::transport::inbox().0,
            clock: crate::consensus::MonotonicClock::start(),
            metrics: again.metrics.clone(),
        })
        .unwrap();
    (again.handle, again.events) = (handle, events);
    again.run(event_loop, site_of(3));
    again.await_connected(&[1, 2]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn frames_arrive_in_the_order_of_their_class() {
    let mut nodes = chain(2).await;
    nodes[0].await_connected(&[2]).await;
    nodes[1].await_connected(&[1]).await;
    for (class, size) in [(Class::Urgent, 10), (Class::Normal, 5_000), (Class::Bulk, 250_000)] {
        for number in 0..20u8 {
            assert_eq!(nodes[0].send(2, class, vec![number; size]), 0);
        }
        for number in 0..20u8 {
            let inbound = nodes[1].receive().await;
            assert_eq!(inbound.path, Path::Mesh);
            assert_eq!((inbound.frame.len(), inbound.frame[0]), (size, number), "{class:?}");
        }
    }
    // Up to the largest frame there is.
    nodes[1].send(1, Class::Bulk, vec![7; FRAME_BYTES_MAX]);
    assert_eq!(nodes[0].receive().await.frame.len(), FRAME_BYTES_MAX);
}

/// A port in front of another one, at a machine that is slow to clear away an ended process: when
/// the first connection has ended, the next ones are taken in and dropped, and only then is the
/// port closed. Gives where it is, and what becomes how many were dropped.
async fn slow_to_close(behind: &str, dropped_max: usize) -> (String, JoinHandle<usize>) {
    let port = behind.split('/').nth(4).and_then(|port| port.parse::<u16>().ok()).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let front = listener.local_addr().unwrap().port();
    let task = tokio::spawn(async move {
        let (mut inside, _) = listener.accept().await.unwrap();
        let mut outside = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
        let _ended = tokio::io::copy_bidirectional(&mut inside, &mut outside).await;
        let mut dropped = 0;
        while dropped < dropped_max {
            drop(listener.accept().await.unwrap());
            dropped += 1;
        }
        dropped
    });
    (behind.replace(&format!("/tcp/{port}"), &format!("/tcp/{front}")), task)
}

/// More attempts than the regular ones of a second.
#[tokio::test(flavor = "multi_thread")]
async fn that_a_process_is_gone_is_noticed_while_its_machine_is_still_clearing_away() {
    let mut gone = Node::start(2, site_of(2), &[]);
    let (front, dropped) = slow_to_close(&gone.address().await, 4).await;
    let node = Node::start(1, site_of(2), &[front]);
    node.await_connected(&[2]).await;
    gone.await_connected(&[1]).await;
    drop(gone);
    until("it is known", || node.handle.crashed.borrow().contains_key(&id(2))).await;
    assert_eq!(dropped.await.unwrap(), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_whose_process_is_gone_is_known_to_be() {
    let mut nodes = chain(3).await;
    for node in &nodes {
        node.await_connected(&others(3, node.number)).await;
    }
    let crashed = |node: &Node| -> Vec<u64> {
        node.handle.crashed.borrow().keys().map(|node| node.get()).collect()
    };
    assert!(nodes.iter().all(|node| crashed(node).is_empty()));
    // Its end closes its sockets, as that of a process does.
    drop(nodes.pop());
    for node in &nodes {
        until("the others know", || crashed(node) == [3]).await;
        assert_eq!(node.connected().len(), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_removed_member_is_cut_off() {
    let nodes = chain(3).await;
    for node in &nodes {
        node.await_connected(&others(3, node.number)).await;
    }
    // The two that stay apply the removal; the removed one never hears of it.
    for node in &nodes[..2] {
        node.set_state(without(site_of(3), 3));
    }
    nodes[0].await_connected(&[2]).await;
    nodes[1].await_connected(&[1]).await;
    nodes[2].await_connected(&[]).await;
    until("its attempts to come back are refused", || {
        nodes[0].refused("mesh", "not_a_member") + nodes[1].refused("mesh", "not_a_member") > 2
    })
    .await;
    assert_eq!(nodes[0].connected(), [2]);
    until("its presence is forgotten", || {
        !nodes[0].handle.status.borrow().nodes.contains_key(&id(3))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_joiner_without_records_is_reached_and_then_keeps_to_the_members() {
    let mut nodes = chain(2).await;
    nodes[0].await_connected(&[2]).await;
    let bootstrap = format!("/ip4/127.0.0.1/tcp/{}", port_of(&nodes[0]).await);
    for node in &nodes {
        node.set_state(site_of(3));
    }
    let blank = fleet_state::FleetState::blank(
        "home".parse().unwrap(),
        "00112233445566778899aabbccddeeff".parse().unwrap(),
        [0; 32],
    );
    let mut joiner = Node::start(3, blank, &[bootstrap]);
    // It can be written to, and it can answer, before it has a single record.
    joiner.await_connected(&[1, 2]).await;
    nodes[0].await_connected(&[2, 3]).await;
    nodes[0].send(3, Class::Normal, Bytes::from_static(b"log"));
    assert_eq!(&joiner.receive().await.frame[..], b"log");
    joiner.send(1, Class::Normal, Bytes::from_static(b"thanks"));
    assert_eq!(&nodes[0].receive().await.frame[..], b"thanks");
    joiner.set_state(site_of(3));
    until("it has taken in the records", || joiner.handle.status.borrow().nodes.len() == 2).await;
    assert_eq!(joiner.connected(), [1, 2]);
}

async fn port_of(node: &Node) -> String {
    let address = || node.handle.status.borrow().listening.first().cloned();
    until("the status says where it listens", || address().is_some()).await;
    address().unwrap().split('/').nth(4).unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn bulk_keeps_to_its_rate_and_holds_nobody_up() {
    let mut nodes = chain(2).await;
    nodes[0].await_connected(&[2]).await;
    nodes[1].await_connected(&[1]).await;
    let begun = std::time::Instant::now();
    // Three seconds of the rate, less what may go at once.
    for number in 0..12u8 {
        assert_eq!(nodes[0].send(2, Class::Bulk, vec![number; 256 * 1024]), 0);
    }
    assert_eq!(nodes[0].send(2, Class::Urgent, vec![99; 10]), 0);
    let mut bulk = 0;
    let mut urgent_after = None;
    while bulk < 12 {
        match nodes[1].receive().await.frame.len() {
            10 => urgent_after = Some(bulk),
            _ => bulk += 1,
        }
    }
    let took = begun.elapsed();
    assert!(took.as_millis() >= 2_500, "3 MiB at 1 MiB a second came within {took:?}");
    assert!(urgent_after.is_some_and(|bulk| bulk < 12), "what is urgent waits for no bulk");
}
