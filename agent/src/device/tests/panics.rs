//! A connector that panics: on its own link that is said, counted and tried again later; every
//! other link and the log go on.

use std::sync::Arc;
use std::time::Duration;

use fleet_state::{
    Command, DeviceId, DeviceSpec, LinkId, Mode, Object, Revision, Stage as Reached, Value,
};

use super::hall::Hall;
use super::stage::{KIND, Stage};
use crate::device::connectors::Connectors;
use crate::device::connectors::nats::NatsConnector;

/// How long anything may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// The pause after a first failure; it doubles.
const PAUSE_FIRST: Duration = Duration::from_millis(200);

/// A hall with a lamp at the connector that panics, and a door at a link beside it.
async fn hall() -> (Hall, Stage) {
    let stage = Stage::new();
    let dir = std::env::temp_dir();
    let all = Connectors::all(NatsConnector::new(None), dir.join("no-registers"), Some(dir));
    let mut hall = Hall::new(all.with(Arc::new(stage.clone())));
    hall.link_of(KIND, "", "{}").await;
    hall.device("lamp", Mode::Auto).await;
    let journal = hall.journal().display().to_string();
    hall.link_named("beside", "simulated", &journal, "{}").await;
    let spec = DeviceSpec { link: Some("beside".parse().expect("an id")), ..DeviceSpec::default() };
    let id: DeviceId = "door".parse().expect("an id");
    hall.command(Command::DeviceRegister { id: id.clone(), spec }).await;
    hall.command(Command::DeviceMode { id, mode: Mode::Auto }).await;
    stage.until("the lamp is asked", |seen| seen.reads > 0).await;
    (hall, stage)
}

/// What is shown of the link that panics.
async fn until_link(hall: &Hall, what: &str, wanted: impl Fn(&Object) -> bool) -> Arc<Object> {
    let link: LinkId = "plant".parse().expect("an id");
    let mut followed = hall.observed.follow();
    let wait = async {
        loop {
            if let Some(known) = hall.observed.link(&link).filter(|known| wanted(&known.body)) {
                return known.body;
            }
            let _next = followed.recv().await;
        }
    };
    let found = tokio::time::timeout(PATIENCE, wait).await;
    found.unwrap_or_else(|_elapsed| unreachable!("{what}: {:?}", hall.observed.link(&link)))
}

fn says(body: &Object, key: &str, text: &str) -> bool {
    body.get(key).and_then(Value::as_text).is_some_and(|said| said.contains(text))
}

/// The door is opened, or closed, and verified: its link and the log go on.
async fn use_door(hall: &mut Hall, open: bool) -> Revision {
    let revision = hall.set("door", &format!(r#"{{"open":{open}}}"#), None).await;
    hall.until_verified("door", revision).await;
    revision
}

async fn invoke(hall: &mut Hall, end: Reached) {
    let (id, action) = ("lamp".parse().expect("an id"), "blink".into());
    hall.command(Command::DeviceInvoke { id, action, args: Object::new(), ttl_ms: None }).await;
    let request = hall.last_request();
    hall.until("the one-shot doesn't end", |view| {
        view.state.invocation(&request).is_some_and(|known| known.stage == end)
    })
    .await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_session_that_panics_is_said_counted_and_tried_again_and_harms_nobody_else() {
    let (mut hall, stage) = hall().await;
    for panics in ["closed", "devices_changed", "connect"] {
        let failures = hall.metrics.link_failures.get();
        let attempts = stage.until("it is there", |_| true).await.connecting.len();
        stage.change(|seen| seen.panics = [panics, "close"].into());
        // Some of it happens at the beginning of a session only.
        for paused in [true, false] {
            let id = "plant".parse().expect("an id");
            hall.command(Command::LinkPause { id, paused }).await;
        }
        let seen = until_link(&hall, "it is said", |body| says(body, "state", "failed")).await;
        assert!(says(&seen, "detail", "panicked"), "{seen:?}");
        assert!(seen.get("next_try_wall_ms").is_some(), "{seen:?}");
        use_door(&mut hall, true).await;
        let tried = stage.until("it is tried again", |seen| seen.connecting.len() > attempts + 2);
        let tried = tried.await.connecting;
        // The pauses grow.
        let [.., before, last] = tried.as_slice() else { unreachable!("{tried:?}") };
        assert!(last.duration_since(*before) >= 2 * PAUSE_FIRST, "tried at once: {tried:?}");
        assert!(hall.metrics.link_failures.get() >= failures + 2);
        use_door(&mut hall, false).await;
        // And it is served again once it has come to its senses.
        stage.change(|seen| seen.panics.clear());
        until_link(&hall, "it is connected", |body| says(body, "state", "connected")).await;
        invoke(&mut hall, Reached::Acknowledged).await;
    }
    assert_eq!(hall.done("door", "write").len(), 6);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_call_that_panics_may_have_acted_and_the_link_goes_on() {
    let (mut hall, stage) = hall().await;
    let connects = stage.until("it is there", |_| true).await.connects.0;
    stage.change(|seen| seen.panics = ["invoke"].into());
    invoke(&mut hall, Reached::Unknown).await;
    stage.change(|seen| seen.panics = ["read", "write"].into());
    hall.set("lamp", r#"{"on":true}"#, None).await;
    hall.until_observed("lamp", |body| says(body, "note", "the connector panicked")).await;
    use_door(&mut hall, true).await;
    stage.change(|seen| seen.panics.clear());
    invoke(&mut hall, Reached::Acknowledged).await;
    let seen = stage.until("it is there", |_| true).await;
    assert_eq!(seen.connects.0, connects, "a call that panics costs no connection");
    assert_eq!(seen.invokes, 2, "each one-shot was handed over once");
}
