//! What is under way when something changes: registrations, the link, its owner.

use std::sync::Arc;

use fleet_state::{
    Command, DeviceId, DeviceSpec, LinkId, Mode, Object, RequestId, Stage as Reached,
};

use super::hall::{Hall, object};
use super::stage::{KIND, Seen, Stage};
use crate::device::connectors::Connectors;

async fn hall() -> (Hall, Stage) {
    let stage = Stage::new();
    let mut hall = Hall::new(Connectors::default().with(Arc::new(stage.clone())));
    hall.link_of(KIND, "", "{}").await;
    (hall, stage)
}

fn id(text: &str) -> DeviceId {
    text.parse().expect("an id")
}

/// Registers a device with a setting that is always another one.
async fn register(hall: &mut Hall, device: &str, number: u64) {
    let spec = DeviceSpec {
        link: Some("plant".parse().expect("an id")),
        settings: object(&format!(r#"{{"number":{number}}}"#)),
        ..Default::default()
    };
    hall.command(Command::DeviceRegister { id: id(device), spec }).await;
}

/// Whether the session knows a device by that setting.
fn knows(seen: &Seen, device: &str, number: u64) -> bool {
    let wanted = object(&format!(r#"{{"number":{number}}}"#));
    seen.known.get(&id(device)).is_some_and(|setup| setup.settings == wanted)
}

async fn invoke(hall: &mut Hall) -> RequestId {
    let (action, args) = ("blink".into(), Object::new());
    hall.command(Command::DeviceInvoke { id: id("lamp"), action, args, ttl_ms: None }).await;
    hall.last_request()
}

async fn until(hall: &Hall, request: &RequestId, stage: Reached) {
    let is = |view: &fleet_consensus::View| {
        view.state.invocation(request).is_some_and(|known| known.stage == stage)
    };
    hall.until(&format!("{request} is not {stage:?}"), is).await;
}

/// A lamp whose one-shot does not end.
async fn held_one_shot() -> (Hall, Stage, RequestId) {
    let (mut hall, stage) = hall().await;
    hall.device("lamp", Mode::Auto).await;
    stage.change(|seen| seen.hold_invokes = true);
    let request = invoke(&mut hall).await;
    stage.until("it is handed over", |seen| seen.invokes == 1).await;
    (hall, stage, request)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_registered_while_the_link_connects_is_told_to_the_session() {
    let (mut hall, stage) = hall().await;
    stage.change(|seen| seen.hold_connect = true);
    register(&mut hall, "lamp", 1).await;
    // The session is connected with what was known when that began.
    let before = stage.until("it connects", |seen| seen.connects.0 > 0).await.connects;
    if before.1 > 0 {
        // It was connected before it could be held.
        let link = Command::LinkPause { id: "plant".parse().expect("an id"), paused: true };
        hall.command(link).await;
        let link = Command::LinkPause { id: "plant".parse().expect("an id"), paused: false };
        hall.command(link).await;
        stage.until("it connects again", |seen| seen.connects.0 > before.0).await;
    }
    register(&mut hall, "lamp", 2).await;
    register(&mut hall, "door", 3).await;
    stage.change(|seen| seen.hold_connect = false);
    let all = |seen: &Seen| knows(seen, "lamp", 2) && knows(seen, "door", 3);
    stage.until("the session knows both as they are", all).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_is_registered_anew_waits_for_its_call_and_costs_no_room() {
    let (mut hall, stage) = hall().await;
    stage.change(|seen| seen.hold_reads = true);
    register(&mut hall, "lamp", 0).await;
    stage.until("it is read", |seen| seen.reads == 1).await;
    // More often than calls may be under way for a link.
    for number in 1..=70 {
        register(&mut hall, "lamp", number).await;
        stage.until("the session is told", |seen| knows(seen, "lamp", number)).await;
    }
    register(&mut hall, "door", 1).await;
    stage.until("others are served", |seen| seen.reading.contains_key(&id("door"))).await;
    stage.change(|seen| seen.hold_reads = false);
    let again = |seen: &Seen| seen.reads >= 3 && seen.reading.values().all(|reads| *reads == 0);
    let seen = stage.until("it is read with its new setup", again).await;
    assert_eq!(seen.reading_max, 1, "two calls for one device at a time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_one_shot_counts_though_its_device_was_registered_anew() {
    let (mut hall, stage, request) = held_one_shot().await;
    register(&mut hall, "lamp", 1).await;
    stage.until("the session is told", |seen| knows(seen, "lamp", 1)).await;
    stage.change(|seen| seen.hold_invokes = false);
    until(&hall, &request, Reached::Acknowledged).await;
    let next = invoke(&mut hall).await;
    until(&hall, &next, Reached::Acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_end_of_a_one_shot_counts_though_the_new_setup_of_its_device_is_refused() {
    let (mut hall, stage, request) = held_one_shot().await;
    let spec = DeviceSpec {
        link: Some("plant".parse().expect("an id")),
        settings: object(r#"{"refused":true}"#),
        ..Default::default()
    };
    hall.command(Command::DeviceRegister { id: id("lamp"), spec }).await;
    let told = |seen: &Seen| {
        seen.known.get(&id("lamp")).is_some_and(|setup| setup.settings.get("refused").is_some())
    };
    stage.until("the session is told", told).await;
    stage.change(|seen| seen.hold_invokes = false);
    until(&hall, &request, Reached::Acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_shot_that_was_cut_short_by_a_pause_ends_unknown_and_blocks_no_other() {
    let (mut hall, stage, request) = held_one_shot().await;
    let link: LinkId = "plant".parse().expect("an id");
    hall.command(Command::LinkPause { id: link.clone(), paused: true }).await;
    until(&hall, &request, Reached::Unknown).await;
    stage.until("the session is closed in order", |seen| seen.closes == 1).await;
    stage.change(|seen| seen.hold_invokes = false);
    hall.command(Command::LinkPause { id: link, paused: false }).await;
    let next = invoke(&mut hall).await;
    until(&hall, &next, Reached::Acknowledged).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_comes_back_in_the_same_epoch_is_served() {
    let (mut hall, stage, request) = held_one_shot().await;
    let alone = DeviceSpec::default();
    hall.command(Command::DeviceRegister { id: id("lamp"), spec: alone }).await;
    until(&hall, &request, Reached::Unknown).await;
    register(&mut hall, "lamp", 1).await;
    stage.change(|seen| seen.hold_invokes = false);
    let next = invoke(&mut hall).await;
    until(&hall, &next, Reached::Acknowledged).await;
    stage.until("nothing came twice", |seen| seen.invokes == 2).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_may_not_own_a_link_any_more_does_not_go_on_connecting() {
    let (mut hall, stage) = hall().await;
    stage.change(|seen| seen.hold_connect = true);
    let link: LinkId = "plant".parse().expect("an id");
    let before = stage.until("it connects", |seen| seen.connects.0 > 0).await.connects;
    if before.1 > 0 {
        for paused in [true, false] {
            hall.command(Command::LinkPause { id: link.clone(), paused }).await;
        }
        stage.until("it connects again", |seen| seen.connects.0 > before.0).await;
    }
    hall.command(Command::LinkPause { id: link, paused: true }).await;
    let seen = stage.until("connecting is given up", |seen| seen.connects.2 == 1).await;
    assert_eq!(seen.connects.1, before.1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_link_that_is_connecting_keeps_no_other_from_being_given_back() {
    let (mut hall, stage) = hall().await;
    stage.until("it is connected", |seen| seen.connects.1 == 1).await;
    stage.change(|seen| seen.hold_connect = true);
    hall.link_named("other", KIND, "", "{}").await;
    stage.until("the other one connects", |seen| seen.connects.0 == 2).await;
    let epoch = |hall: &Hall, link: &str| {
        let id: LinkId = link.parse().expect("an id");
        hall.handle.view().state.link(&id).map_or(0, |link| link.epoch)
    };
    let before = ["plant", "other"].map(|link| epoch(&hall, link));
    hall.drain().await;
    let after = ["plant", "other"].map(|link| epoch(&hall, link));
    assert!(after[0] > before[0] && after[1] > before[1], "{before:?} {after:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_question_gives_way_to_a_one_shot() {
    let (mut hall, stage) = hall().await;
    stage.change(|seen| seen.hold_reads = true);
    hall.device("lamp", Mode::Auto).await;
    stage.until("it is asked", |seen| seen.reads == 1).await;
    let request = invoke(&mut hall).await;
    until(&hall, &request, Reached::Acknowledged).await;
    // The question is asked again, and the first one is not waited for.
    let seen = stage.until("it is asked again", |seen| seen.reads >= 2).await;
    assert_eq!(seen.reading_max, 1, "two calls for one device at a time");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_that_do_not_answer_leave_room_for_the_others() {
    let (mut hall, stage) = hall().await;
    stage.change(|seen| seen.hold_reads = true);
    for number in 0..70 {
        register(&mut hall, &format!("silent-{number}"), 0).await;
    }
    hall.device("lamp", Mode::Auto).await;
    stage.until("as many are asked as may be", |seen| seen.reads >= 32).await;
    let request = invoke(&mut hall).await;
    until(&hall, &request, Reached::Acknowledged).await;
    let seen = stage.until("it was handed over", |seen| seen.invokes == 1).await;
    let asked = seen.reading.values().sum::<u32>();
    assert!(asked <= 32, "{asked} questions at once");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_connector_that_panics_at_one_device_serves_the_others() {
    let (mut hall, stage) = hall().await;
    let spec = DeviceSpec {
        link: Some("plant".parse().expect("an id")),
        settings: object(r#"{"panics":true}"#),
        ..Default::default()
    };
    hall.command(Command::DeviceRegister { id: id("bad"), spec }).await;
    hall.device("lamp", Mode::Auto).await;
    let request = invoke(&mut hall).await;
    until(&hall, &request, Reached::Acknowledged).await;
    assert_eq!(stage.until("it is connected once", |seen| seen.invokes == 1).await.connects.0, 1);
}
