//! The agent as a NATS service: `nats micro ls`, `info`, `stats` and `ping` find it.
//!
//! The protocol is small (ADR-32 of the NATS architecture: three verbs, each on three subjects,
//! answered with one JSON document), and the client library's own version would own the endpoints'
//! subscriptions, which here come and go with the leader. So it is answered here, from the lanes'
//! counters. The service's name carries the site, its metadata the site's uid and the node.

use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};

use async_nats::{Message, Subscriber};
use chrono::{DateTime, SecondsFormat, Utc};
use fleet_protocol::limits::PROTOCOL_VERSION;
use fleet_protocol::reply::ReplyMessage;
use fleet_protocol::reply_subject;
use fleet_protocol::subjects::QUEUE_GROUP;
use futures_util::StreamExt;
use futures_util::stream::select_all;
use serde::Serialize;

use super::IntakeState;
use super::desk::Desk;
use super::lanes::Lane;
use super::nats_door::NatsDoor;

/// Where all NATS services are asked.
const SERVICE_ROOT: &str = "$SRV";
/// Name of the metadata member that tells two sites of one name apart.
pub(super) const UID_MEMBER: &str = "uid";

/// The verbs of the services protocol.
#[derive(Clone, Copy)]
enum Verb {
    Ping,
    Info,
    Stats,
}

#[derive(Serialize)]
struct Head<'a> {
    #[serde(rename = "type")]
    kind: &'static str,
    name: &'a str,
    id: &'a str,
    version: &'static str,
    metadata: &'a BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Info<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    description: String,
    endpoints: Vec<EndpointInfo>,
}

#[derive(Serialize)]
struct EndpointInfo {
    name: &'static str,
    subject: String,
    queue_group: &'static str,
    metadata: BTreeMap<&'static str, String>,
}

#[derive(Serialize)]
struct Stats<'a> {
    #[serde(flatten)]
    head: Head<'a>,
    started: &'a str,
    endpoints: Vec<EndpointStats>,
}

#[derive(Serialize)]
struct EndpointStats {
    name: &'static str,
    subject: String,
    queue_group: &'static str,
    num_requests: u64,
    num_errors: u64,
    last_error: String,
    processing_time: u64,
    average_processing_time: u64,
}

/// What stays the same in all answers.
struct Identity {
    name: String,
    id: String,
    version: &'static str,
    metadata: BTreeMap<&'static str, String>,
    started: String,
}

/// Answers the service's verbs until the process ends.
pub(super) async fn answer(desk: Arc<Desk>, nats: Arc<NatsDoor>) {
    let identity = Identity::of(&desk);
    let mut subscriptions = Vec::new();
    for (verb, word) in [(Verb::Ping, "PING"), (Verb::Info, "INFO"), (Verb::Stats, "STATS")] {
        let all = format!("{SERVICE_ROOT}.{word}");
        let named = format!("{all}.{}", identity.name);
        let one = format!("{named}.{}", identity.id);
        for subject in [all, named, one] {
            match nats.client.subscribe(subject.clone()).await {
                Ok(subscriber) => subscriptions.push(tagged(verb, subscriber)),
                Err(error) => tracing::warn!(subject, %error, "could not subscribe"),
            }
        }
    }
    let mut questions = select_all(subscriptions);
    while let Some((verb, question)) = questions.next().await {
        let Some(to) = question.reply else { continue };
        // Who takes nothing in for good is no instance of the service.
        if *desk.intake.borrow() == IntakeState::Removed {
            continue;
        }
        if reply_subject::check(to.as_str()).is_err() {
            desk.metrics.refuse("service", "reply_subject");
            continue;
        }
        let payload = identity.answer(&desk, verb);
        nats.publish(to, ReplyMessage { headers: Vec::new(), payload }).await;
    }
    // The client is gone; the process is ending.
    std::future::pending::<()>().await;
}

fn tagged(
    verb: Verb,
    subscriber: Subscriber,
) -> std::pin::Pin<Box<dyn futures_util::Stream<Item = (Verb, Message)> + Send>> {
    Box::pin(subscriber.map(move |message| (verb, message)))
}

impl Identity {
    fn of(desk: &Desk) -> Self {
        let facts = &desk.facts;
        let started: DateTime<Utc> = Utc::now();
        Self {
            name: desk.subjects.service_name(),
            // One instance is one start of one node.
            id: format!("{}-{}-{}", facts.name, facts.id, facts.boot),
            version: facts.version,
            metadata: BTreeMap::from([
                ("site", facts.site.to_string()),
                (UID_MEMBER, facts.uid.to_string()),
                ("node", facts.id.to_string()),
                ("node_name", facts.name.to_string()),
                ("protocol", PROTOCOL_VERSION.to_string()),
            ]),
            started: started.to_rfc3339_opts(SecondsFormat::Millis, true),
        }
    }

    fn head(&self, kind: &'static str) -> Head<'_> {
        let Self { name, id, version, metadata, .. } = self;
        Head { kind, name, id, version, metadata }
    }

    fn answer(&self, desk: &Desk, verb: Verb) -> Vec<u8> {
        let endpoints = endpoints(desk);
        let json = match verb {
            Verb::Ping => serde_json::to_vec(&self.head("io.nats.micro.v1.ping_response")),
            Verb::Info => serde_json::to_vec(&Info {
                head: self.head("io.nats.micro.v1.info_response"),
                description: format!("Flotilla control of site {}", desk.facts.site),
                endpoints: endpoints.into_iter().map(EndpointInfo::of).collect(),
            }),
            Verb::Stats => serde_json::to_vec(&Stats {
                head: self.head("io.nats.micro.v1.stats_response"),
                started: &self.started,
                endpoints: endpoints.into_iter().map(EndpointStats::of).collect(),
            }),
        };
        // Text keys and numbers only: writing them can't fail.
        json.unwrap_or_default()
    }
}

/// A lane as the service shows it: its subject, and its queue group if it has one.
type Endpoint<'a> = (&'a Lane, String, &'static str);

fn endpoints(desk: &Desk) -> [Endpoint<'_>; 5] {
    let (lanes, subjects) = (&desk.lanes, &desk.subjects);
    [
        (&lanes.commands, subjects.commands_all(), QUEUE_GROUP),
        (&lanes.query, subjects.queries_all(), QUEUE_GROUP),
        (&lanes.changes, subjects.changes_all(), QUEUE_GROUP),
        (&lanes.admin, subjects.admin_all(), QUEUE_GROUP),
        (&lanes.node, subjects.node_all(&desk.facts.name), ""),
    ]
}

impl EndpointInfo {
    fn of((lane, subject, queue_group): Endpoint<'_>) -> Self {
        Self { name: lane.surface, subject, queue_group, metadata: BTreeMap::new() }
    }
}

impl EndpointStats {
    fn of((lane, subject, queue_group): Endpoint<'_>) -> Self {
        let stats = &lane.stats;
        let requests = stats.requests.load(Ordering::Relaxed);
        let nanos = stats.nanos.load(Ordering::Relaxed);
        Self {
            name: lane.surface,
            subject,
            queue_group,
            num_requests: requests,
            num_errors: stats.errors.load(Ordering::Relaxed),
            last_error: stats.last_error.lock().unwrap_or_else(PoisonError::into_inner).clone(),
            processing_time: nanos,
            average_processing_time: nanos.checked_div(requests).unwrap_or(0),
        }
    }
}
