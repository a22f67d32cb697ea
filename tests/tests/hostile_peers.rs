//! Strangers at the mesh port of a real agent: they fill it with connections, say nothing, say
//! nonsense, or say sense a byte at a time.
//!
//! Those who know the protocol and lack the right, and members that misbehave, are tested beside
//! the mesh itself (`agent/src/mesh/tests`).
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use flotilla_tests::hall::{Hall, HallPlan};
use flotilla_tests::lan::machine::Machine;
use flotilla_tests::wait;

const MESH_PORT: u16 = 4244;
const LIMIT: Duration = Duration::from_secs(60);
/// No flood outlasts its test by more than this.
const FLOOD_MAX: Duration = Duration::from_secs(90);
/// Connections that a stranger holds open at a time: several times what may be under way.
const HELD: usize = 300;
const THREADS: usize = 4;
/// An agent's memory may breathe, and grow by what so many handshakes need.
const GROWTH_BYTES_MAX: u64 = 24 << 20;

/// What a stranger says, by turns.
const SAYINGS: [&[u8]; 4] = [
    b"",
    b"GET / HTTP/1.1\r\nHost: gateway\r\n\r\n",
    b"\x13/multistream/1.0.0\n\x07/noise\n\xff\xff\xff\xff\xff\xff\xff\xff",
    b"\xff\xff\xff\xff\xff\xff\xff\xff\x7f\x00\x00\x00",
];

/// Connects again and again until told to stop; counts what was made.
fn flood(at: Ipv4Addr, stop: &AtomicBool, made: &AtomicUsize) {
    let begun = Instant::now();
    let address = SocketAddr::from((at, MESH_PORT));
    let mut held: Vec<TcpStream> = Vec::new();
    let mut turn = 0;
    while !stop.load(Ordering::Relaxed) && begun.elapsed() < FLOOD_MAX {
        if held.len() >= HELD / THREADS {
            let mut oldest = held.remove(0);
            // Whatever it has to say: a byte of it, and away.
            let _ = oldest.set_read_timeout(Some(Duration::from_millis(1)));
            let _ = oldest.read(&mut [0; 1]);
        }
        if let Ok(mut stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            let _ = stream.write_all(SAYINGS[turn % SAYINGS.len()]);
            made.fetch_add(1, Ordering::Relaxed);
            turn += 1;
            held.push(stream);
        }
    }
}

/// Does something while the mesh port of this address is flooded from that machine; gives how many
/// connections were made meanwhile.
async fn while_flooded(from: &Machine, at: Ipv4Addr, inside: impl Future<Output = ()>) -> usize {
    let (stop, made) = (AtomicBool::new(false), AtomicUsize::new(0));
    let (stop, made) = (&*Box::leak(Box::new(stop)), &*Box::leak(Box::new(made)));
    let floods: Vec<_> = (0..THREADS)
        .map(|_| {
            let from = from.clone();
            std::thread::spawn(move || from.enter(|| flood(at, stop, made)))
        })
        .collect();
    inside.await;
    stop.store(true, Ordering::Relaxed);
    for thread in floods {
        thread.join().expect("a flood ends without a panic");
    }
    made.load(Ordering::Relaxed)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_strangers_is_counted_costs_no_memory_and_keeps_no_member_out() {
    let plan = HallPlan::of(3).without_nats().unhurried();
    let Some(mut hall) = Hall::start_as(plan).await else { return };
    let stranger = hall.lan.add("stranger");
    let leader = hall.await_leader().await;
    let term = hall.await_status(leader).await.term();
    let (flooded, address) = {
        let name = &hall.agents[leader].name;
        (leader, hall.lan.machine(name).address())
    };
    let load = hall.load("flooded", 6);
    load.await_more(50).await;
    let refused_before = hall.agents[flooded].refused("reason=\"handshake\"");
    let before = hall.agents[flooded].process().resident_bytes();
    let member = hall.others(leader)[0];

    // A member that comes back while strangers take every place that they can get.
    hall.agents[member].kill();
    let made = while_flooded(&stranger, address, async {
        load.await_more(30).await;
        hall.agents[member].start();
        hall.await_status(member).await;
        hall.await_meshed().await;
        load.await_more(100).await;
        wait::until_true("what strangers say is refused, and counted", LIMIT, || async {
            hall.agents[flooded].refused("reason=\"handshake\"") > refused_before + 20.0
        })
        .await;
    })
    .await;
    let refused = hall.agents[flooded].refused("reason=\"handshake\"") - refused_before;
    let after = hall.agents[flooded].process().resident_bytes();
    eprintln!(
        "{made} connections, {refused} counted as refused, memory {} to {} MiB",
        before >> 20,
        after >> 20
    );
    assert!(made > HELD, "only {made} connections were made: that is no flood");
    assert!(after < before + GROWTH_BYTES_MAX, "it grew by {} MiB", (after - before) >> 20);
    hall.judge(load).await;
    let status = hall.await_status(leader).await;
    assert_eq!((status.role(), status.term()), ("leader", term), "strangers deposed a leader");
}
