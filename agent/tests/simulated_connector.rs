//! The connector `simulated`: what each of its settings does, as the journal and the owner see it.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "this whole file is a test"
)]

mod counterparts;

use std::io::Write as _;
use std::path::Path;
use std::time::{Duration, Instant};

use counterparts::owner::{Owner, device, object};
use counterparts::{LIMIT, values};
use flotilla_agent::device::connector::{
    Access, Availability, Connector, Handed, LinkSetup, ReadErrorKind, WriteErrorKind,
};
use flotilla_agent::device::connectors::simulated::Simulated;
use serde_json::{Value as Json, json};

const LINK: &str = "plant.journal";

/// A lamp on a simulated link with these settings.
struct Plant {
    folder: tempfile::TempDir,
    owner: Owner,
}

impl Plant {
    async fn new(settings: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let simulated = Simulated::new(Some(folder.path().to_owned()));
        let devices = vec![device("lamp", "", "{}")];
        let nowhere = Path::new("/nowhere");
        let owner = Owner::connect(&simulated, (LINK, settings), devices, nowhere).await.unwrap();
        Self { folder, owner }
    }

    /// What the journal says that was done, of one kind.
    fn done(&self, did: &str) -> Vec<Json> {
        let text = std::fs::read_to_string(self.folder.path().join(LINK)).unwrap();
        let lines = text.lines().map(|line| serde_json::from_str::<Json>(line).unwrap());
        lines.filter(|line| line["did"] == did).collect()
    }

    /// What somebody else does to the lamp.
    fn happens(&self, line: &Json) {
        let mut file =
            std::fs::OpenOptions::new().append(true).open(self.folder.path().join(LINK)).unwrap();
        writeln!(file, "{line}").unwrap();
    }

    async fn until_available(&mut self, availability: Availability) {
        self.owner
            .until(availability.as_str(), |seen| seen.availability == Some(availability))
            .await;
    }

    /// Writes so often; gives which of them came to the lamp.
    async fn arrived(&mut self, times: usize) -> Vec<bool> {
        let mut all = Vec::new();
        for _ in 0..times {
            let before = self.done("write").len();
            let handed = self.owner.write("lamp", r#"{"on":true}"#).await.unwrap();
            let arrived = self.done("write").len() > before;
            // Who has lost it can't say that it has it.
            assert_eq!(handed == Handed::Acknowledged, arrived);
            all.push(arrived);
        }
        all
    }
}

#[tokio::test]
async fn without_settings_it_does_what_it_is_told_and_says_so() {
    let mut plant = Plant::new("{}").await;
    plant.until_available(Availability::Online).await;
    assert_eq!(plant.owner.write("lamp", r#"{"on":true}"#).await, Ok(Handed::Acknowledged));
    plant.owner.until("its own word", |seen| seen.values == object(r#"{"on":true}"#)).await;
    assert_eq!(values(&plant.owner.read("lamp", LIMIT).await.unwrap())["on"], "true");
    assert_eq!(plant.owner.invoke("lamp", "blink").await, Ok(Handed::Acknowledged));
    let done = plant.done("invoke");
    assert_eq!(
        (done.len(), &done[0]["action"], &done[0]["request_id"]),
        (1, &json!("blink"), &json!("one"))
    );
}

#[tokio::test]
async fn latency_is_waited_for_and_nothing_arrives_after_its_time() {
    let latency = Duration::from_millis(100);
    let mut plant = Plant::new(r#"{"latency_ms": 100}"#).await;
    let began = Instant::now();
    assert_eq!(plant.owner.write("lamp", r#"{"on":true}"#).await, Ok(Handed::Acknowledged));
    assert!(began.elapsed() >= latency, "a write took {:?}", began.elapsed());
    let began = Instant::now();
    plant.owner.read("lamp", LIMIT).await.unwrap();
    assert!(began.elapsed() >= latency, "a question took {:?}", began.elapsed());
    let mut late = plant.owner.next_write("lamp", r#"{"on":false}"#);
    late.deadline = tokio::time::Instant::now() + latency / 2;
    assert!(plant.owner.session.write(&late).await.is_err());
    assert_eq!(plant.done("write").len(), 1, "the second came too late");
}

#[tokio::test]
async fn what_is_lost_is_only_sent_and_what_is_refused_never_happened() {
    let mut plant = Plant::new(r#"{"loss": 1}"#).await;
    assert_eq!(plant.owner.write("lamp", r#"{"on":true}"#).await, Ok(Handed::Sent));
    assert_eq!(plant.owner.invoke("lamp", "blink").await, Ok(Handed::Sent));
    assert_eq!((plant.done("write").len(), plant.done("invoke").len()), (0, 0));

    let mut plant = Plant::new(r#"{"refusal": 1.0}"#).await;
    let written = plant.owner.write("lamp", r#"{"on":true}"#).await;
    for error in [written.unwrap_err(), plant.owner.invoke("lamp", "blink").await.unwrap_err()] {
        assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Refused, false), "{error}");
    }
    assert_eq!((plant.done("write").len(), plant.done("invoke").len()), (0, 0));
}

#[tokio::test]
async fn one_that_drifts_takes_a_write_and_does_something_else() {
    let mut plant = Plant::new(r#"{"drift": 1}"#).await;
    assert_eq!(plant.owner.write("lamp", r#"{"on":true}"#).await, Ok(Handed::Acknowledged));
    assert_eq!(plant.done("write")[0]["values"], json!({"on": true}));
    assert_eq!(values(&plant.owner.read("lamp", LIMIT).await.unwrap())["on"], "null");
}

#[tokio::test]
async fn a_seed_decides_which_ones_are_lost() {
    let mut rows = Vec::new();
    for seed in [7, 7, 8] {
        let mut plant = Plant::new(&format!(r#"{{"loss": 0.5, "seed": {seed}}}"#)).await;
        rows.push(plant.arrived(40).await);
    }
    assert_eq!(rows[0], rows[1], "the same seed");
    assert_ne!(rows[0], rows[2], "another one");
    for row in &rows {
        let arrived = row.iter().filter(|arrived| **arrived).count();
        assert!((8..=32).contains(&arrived), "about half of 40: {arrived}");
    }
}

#[tokio::test]
async fn what_it_tells_can_be_switched_off() {
    let mut plant = Plant::new(r#"{"readable": false}"#).await;
    assert_eq!(plant.owner.read("lamp", LIMIT).await, Err(ReadErrorKind::Unsupported));
    plant.owner.write("lamp", r#"{"on":true}"#).await.unwrap();
    plant.owner.until("it reports", |seen| seen.values == object(r#"{"on":true}"#)).await;

    let mut plant = Plant::new(r#"{"reports": false}"#).await;
    plant.owner.write("lamp", r#"{"on":true}"#).await.unwrap();
    plant.happens(&json!({"device": "lamp", "did": "availability", "availability": "offline"}));
    let is_away = Some(Availability::Offline);
    plant
        .owner
        .until("it is away", |seen| {
            assert!(seen.values.is_empty(), "it reports: {}", seen.values.to_json());
            seen.availability == is_away
        })
        .await;

    let mut plant = Plant::new(r#"{"acknowledges": false}"#).await;
    assert_eq!(plant.owner.write("lamp", r#"{"on":true}"#).await, Ok(Handed::Sent));
    assert_eq!(plant.done("write").len(), 1, "it has come all the same");
}

#[tokio::test]
async fn one_that_died_takes_nothing_until_it_is_there_again() {
    let mut plant = Plant::new("{}").await;
    assert_eq!(plant.owner.invoke("lamp", "die").await, Ok(Handed::Acknowledged));
    plant.until_available(Availability::Offline).await;
    let error = plant.owner.write("lamp", r#"{"on":true}"#).await.unwrap_err();
    assert_eq!((error.kind, error.may_have_acted), (WriteErrorKind::Offline, false), "{error}");
    assert_eq!(plant.owner.read("lamp", LIMIT).await, Err(ReadErrorKind::Offline));
    assert_eq!(plant.done("write").len(), 0);
    plant.happens(&json!({"device": "lamp", "did": "availability", "availability": "online"}));
    plant.until_available(Availability::Online).await;
    assert_eq!(plant.owner.write("lamp", r#"{"on":true}"#).await, Ok(Handed::Acknowledged));
}

#[tokio::test]
async fn a_local_hand_is_seen() {
    let mut plant = Plant::new("{}").await;
    plant.owner.write("lamp", r#"{"on":true,"dim":5}"#).await.unwrap();
    plant.happens(&json!({"device": "lamp", "did": "hand", "values": {"on": false}}));
    let both = object(r#"{"on":false,"dim":5}"#);
    plant.owner.until("the hand", |seen| seen.values == both).await;
    assert_eq!(plant.owner.read("lamp", LIMIT).await.unwrap(), both);
    // Half a line is none, and a line of another form says nothing.
    plant.happens(&json!({"device": "LAMP !", "values": {"on": true}}));
    plant.happens(&json!([1, 2]));
    assert_eq!(plant.owner.read("lamp", LIMIT).await.unwrap(), both);
}

#[test]
fn settings_that_make_no_sense_are_refused_by_their_name() {
    let simulated = Simulated::new(Some("/var/tmp/plant".into()));
    let link = |settings: &str| LinkSetup {
        id: "plant".parse().unwrap(),
        address: LINK.into(),
        settings: object(settings),
    };
    for (settings, field) in [
        (r#"{"latency_ms": -1}"#, "settings.latency_ms"),
        (r#"{"latency_ms": 86400000}"#, "settings.latency_ms"),
        (r#"{"latency_ms": "long"}"#, "settings.latency_ms"),
        (r#"{"seed": 0.5}"#, "settings.seed"),
        (r#"{"loss": 1.1}"#, "settings.loss"),
        (r#"{"refusal": -0.1}"#, "settings.refusal"),
        (r#"{"drift": true}"#, "settings.drift"),
        (r#"{"readable": 1}"#, "settings.readable"),
        (r#"{"reports": null}"#, "settings.reports"),
        (r#"{"acknowledges": "no"}"#, "settings.acknowledges"),
        (r#"{"lossy": 0.5}"#, "settings.lossy"),
    ] {
        let refusal = simulated.check_link(&link(settings)).unwrap_err();
        assert_eq!(refusal.field, field, "{settings}");
        assert!(refusal.hint.is_some(), "{settings}");
    }
    // What can neither be asked nor reports can be written to, and never verified.
    for (settings, access) in [
        ("{}", Access::Desired),
        (r#"{"readable": false}"#, Access::Desired),
        (r#"{"readable": false, "reports": false}"#, Access::WriteOnly),
    ] {
        let profile = simulated.check_device(&link(settings), &device("lamp", "", "{}")).unwrap();
        assert_eq!(profile.others, Some(access), "{settings}");
    }
    let refusal = simulated.check_device(&link("{}"), &device("lamp", "", r#"{"loss": 1}"#));
    assert_eq!(refusal.unwrap_err().field, "settings.loss");
}
