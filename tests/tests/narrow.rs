//! A cable that carries 64 kbit/s: heartbeats get through beside what is large, and what is large
//! gets through in the end.
#![allow(
    clippy::panic,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::wildcard_enum_match_arm,
    reason = "this whole file is a test"
)]

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use flotilla_tests::hall::{Hall, HallPlan};
use flotilla_tests::load::Load;
use flotilla_tests::site::READY_LIMIT;
use flotilla_tests::wait;
use serde_json::json;

/// What the cable carries, and how long it holds what it can't.
const KBIT_PER_S: u32 = 64;
const HELD_MS: u32 = 1_000;
/// Heartbeats every half second and elections after two to seven, as a site with such a cable needs
/// them, or they alone would fill much of it; and snapshots often.
const PATIENT: &str = "[raft]\ntick_ms = 250\nsnapshot_every_entries = 100\n[mesh]\nmdns = false\n";
/// Letters that do not compress well: about 150 kB of a snapshot, which is twenty seconds.
const VALUES: usize = 24;
const VALUE_BYTES: usize = 8_000;
const LIMIT: Duration = Duration::from_secs(180);
/// While that lasts, a command every half second or so.
const LOOKS_PER_COMMAND: u64 = 16;
/// Who has caught up is behind by what is on its way.
const COMMANDS_LATE_MAX: u64 = 8;

/// Letters that look random, the same for the same seed.
fn noise(seed: usize) -> String {
    let mut state = (seed as u64 + 1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let letter = |_| {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        char::from(letters[usize::try_from(state % 64).unwrap()])
    };
    (0..VALUE_BYTES).map(letter).collect()
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a minute: 64 kbit/s take their time"]
async fn over_the_mesh_alone_a_narrow_cable_delays_no_heartbeat_and_carries_a_snapshot() {
    let plan = HallPlan::of(3).without_nats().configured(PATIENT);
    let Some(mut hall) = Hall::start_as(plan).await else { return };
    let leader = hall.await_leader().await;
    let away = hall.others(leader)[0];
    let had = hall.await_status(away).await.applied();
    hall.agents[away].kill();
    for number in 0..VALUES {
        let (key, id) = (format!("fill.k{number}"), format!("fill-{number}"));
        let value = json!(noise(number));
        wait::until_true(&format!("{key} is set"), READY_LIMIT, || async {
            hall.door(leader).set_param(&key, &value, &id).await.is_ok()
        })
        .await;
    }
    let doors: Vec<_> = hall.others(away).into_iter().map(|index| hall.door(index)).collect();
    let load = Load::start_through(&doors, "before", 8);
    wait::until_true("the leader has forgotten what the other needs", READY_LIMIT, || async {
        hall.status(leader).await.is_some_and(|status| status.first_index() > had + 1)
    })
    .await;
    load.finish().await;

    let name = hall.agents[away].name.clone();
    if !hall.lan.narrow(&name, KBIT_PER_S, HELD_MS) {
        return;
    }
    let begun = Instant::now();
    let term = hall.await_status(leader).await.term();
    hall.agents[away].start();
    wait::until_true("it follows", READY_LIMIT, || async {
        let status = hall.status(away).await;
        status.is_some_and(|it| it.leader().is_some() && it.term() == term)
    })
    .await;
    // From here on it hears its leader all the time, whatever else is on the cable, and the others
    // go on: a few commands a second, for a log that grows faster than the cable carries can't be
    // caught up with.
    let looks = AtomicU64::new(0);
    wait::until_true("the snapshot has come, and what was written since", LIMIT, || async {
        let look = looks.fetch_add(1, Ordering::Relaxed);
        if look.is_multiple_of(LOOKS_PER_COMMAND) {
            let id = format!("meanwhile-{look}");
            let done = hall.door(leader).set_param("meanwhile", &json!(look), &id).await;
            assert!(done.is_ok(), "the others stand still: {done:?}");
        }
        let (led, followed) = (hall.status(leader).await, hall.status(away).await);
        let (Some(led), Some(followed)) = (led, followed) else { return false };
        assert_eq!((led.role(), led.term()), ("leader", term), "a healthy leader was deposed");
        assert!(followed.leader().is_some(), "heartbeats came too late: {:?}", followed.0);
        assert_eq!(followed.term(), term, "it has campaigned");
        followed.snapshot_index() > had && followed.applied() + COMMANDS_LATE_MAX >= led.applied()
    })
    .await;
    eprintln!("it has caught up within {:?}", begun.elapsed());
    let held = hall.lan.widen(&name);
    eprintln!("{held} packets had to wait for the cable, or were thrown away");
    let load = hall.load("after", 6);
    load.await_more(50).await;
    hall.judge(load).await;
    let status = hall.await_status(leader).await;
    assert_eq!((status.role(), status.term()), ("leader", term), "a healthy leader was deposed");
}
