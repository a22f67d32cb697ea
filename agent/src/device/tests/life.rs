//! The whole life of a command.

use fleet_state::{Command, Mode, Object, Stage, Value};

use super::hall::{Hall, object};
use crate::device::connectors::Connectors;
use crate::device::connectors::nats::NatsConnector;

fn connectors() -> Connectors {
    // Where a hall's journal is, among others.
    let dir = std::env::temp_dir();
    Connectors::all(NatsConnector::new(None), dir.join("no-registers"), Some(dir))
}

async fn hall_with_lamp(settings: &str) -> Hall {
    let mut hall = Hall::new(connectors());
    hall.link(settings).await;
    hall.device("lamp", Mode::Auto).await;
    hall
}

fn text(body: &Object, key: &str) -> Option<String> {
    body.get(key).and_then(Value::as_text).map(ToOwned::to_owned)
}

fn reported(body: &Object, property: &str) -> Option<Value> {
    let reported = body.get("reported")?.as_map()?.get(property)?;
    reported.as_map()?.get("value").cloned()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lamp_is_set_and_verified() {
    let mut hall = hall_with_lamp("{}").await;
    let revision = hall.set("lamp", r#"{"on":true}"#, None).await;
    hall.until_verified("lamp", revision).await;
    let writes = hall.done("lamp", "write");
    assert_eq!(writes.len(), 1);
    assert_eq!(writes[0].get("values"), Some(&Value::Map(object(r#"{"on":true}"#))));
    assert_eq!(writes[0].get("revision"), Some(&Value::from(revision.get())));
    hall.until_observed("lamp", |body| {
        text(body, "availability").as_deref() == Some("online")
            && reported(body, "on") == Some(Value::Bool(true))
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_one_shot_is_handed_over_once() {
    let mut hall = hall_with_lamp("{}").await;
    let invoke = Command::DeviceInvoke {
        id: "lamp".parse().expect("an id"),
        action: "blink".into(),
        args: object(r#"{"times":3}"#),
        ttl_ms: Some(60_000),
    };
    hall.command(invoke).await;
    let request = hall.last_request();
    hall.until("it did not end", |view| {
        view.state.invocation(&request).is_some_and(|i| i.stage == Stage::Acknowledged)
    })
    .await;
    assert_eq!(hall.done("lamp", "invoke").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_begins_a_new_epoch_and_repeats_no_one_shot() {
    let mut hall = hall_with_lamp(r#"{"latency_ms":300}"#).await;
    let first = hall.set("lamp", r#"{"on":true}"#, None).await;
    hall.until_verified("lamp", first).await;
    let invoke = Command::DeviceInvoke {
        id: "lamp".parse().expect("an id"),
        action: "blink".into(),
        args: Object::new(),
        ttl_ms: Some(60_000),
    };
    hall.command(invoke).await;
    let request = hall.last_request();
    hall.until("it was not taken", |view| {
        view.state.invocation(&request).is_some_and(|i| i.stage == Stage::Dispatching)
    })
    .await;
    hall.crash();
    hall.start();
    hall.until("its end is not known", |view| {
        view.state.invocation(&request).is_some_and(|i| i.stage == Stage::Unknown)
    })
    .await;
    // The new epoch serves the lamp, and nothing was repeated.
    let second = hall.set("lamp", r#"{"on":false}"#, None).await;
    hall.until_verified("lamp", second).await;
    assert!(hall.done("lamp", "invoke").len() <= 1);
    let epochs: Vec<Value> =
        hall.done("lamp", "write").iter().filter_map(|line| line.get("epoch").cloned()).collect();
    assert_eq!(epochs.len(), 2);
    assert_ne!(epochs[0], epochs[1]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_expired_wish_never_happened() {
    let mut hall = hall_with_lamp("{}").await;
    let first = hall.set("lamp", r#"{"on":false}"#, None).await;
    hall.until_verified("lamp", first).await;
    hall.happens(r#"{"device":"lamp","did":"availability","availability":"offline"}"#);
    hall.until_observed("lamp", |body| text(body, "availability").as_deref() == Some("offline"))
        .await;
    let late = hall.set("lamp", r#"{"on":true}"#, Some(300)).await;
    let id = "lamp".parse().expect("an id");
    hall.until("it did not expire", |view| {
        view.state.wish_stage(&id, late) == Some(Stage::Expired)
    })
    .await;
    hall.happens(r#"{"device":"lamp","did":"availability","availability":"online"}"#);
    hall.until_observed("lamp", |body| text(body, "availability").as_deref() == Some("online"))
        .await;
    // A later command shows that everything before it has been looked at.
    let next = hall.set("lamp", r#"{"dim":5}"#, None).await;
    hall.until_verified("lamp", next).await;
    let on = |line: &Object| line.get("values").and_then(Value::as_map)?.get("on").cloned();
    let told: Vec<Value> = hall.done("lamp", "write").iter().filter_map(on).collect();
    assert!(!told.contains(&Value::Bool(true)), "{told:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn in_mode_observe_nothing_is_written_and_what_would_be_is_shown() {
    let mut hall = Hall::new(connectors());
    hall.link("{}").await;
    hall.device("lamp", Mode::Observe).await;
    hall.set("lamp", r#"{"on":true}"#, None).await;
    let would = Value::Map(object(r#"{"on":true}"#));
    hall.until_observed("lamp", |body| body.get("would_write") == Some(&would)).await;
    assert!(hall.done("lamp", "write").is_empty());
    let auto = Command::DeviceMode { id: "lamp".parse().expect("an id"), mode: Mode::Auto };
    hall.command(auto).await;
    let revision = hall.set("lamp", r#"{"on":true}"#, None).await;
    hall.until_verified("lamp", revision).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_stops_in_order_gives_its_links_back() {
    let mut hall = hall_with_lamp("{}").await;
    let revision = hall.set("lamp", r#"{"on":true}"#, None).await;
    hall.until_verified("lamp", revision).await;
    let link = "plant".parse().expect("an id");
    let epoch = hall.handle.view().state.link(&link).map_or(0, |link| link.epoch);
    hall.drain().await;
    let after = hall.handle.view().state.link(&link).map_or(0, |link| link.epoch);
    assert!(after > epoch, "{after} > {epoch}");
}
