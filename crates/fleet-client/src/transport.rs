//! The two ways to a site: over NATS, and through the door of one agent.
//!
//! Everything above speaks of subjects, headers and payloads, which are the same on both ways; what
//! differs is here: how an attempt is made and what its failure says about whether the request was
//! taken, how several answers come, how much fits. A NATS server stands between the client and any
//! agent of the site, and may lose a message without telling. The door is one agent's: a request that
//! could not be handed over was certainly not taken, and one whose connection broke perhaps was.

use std::{collections::BTreeSet, time::Duration};

use async_nats::{HeaderMap, Request, RequestErrorKind, Subscriber};
use bytes::Bytes;
use fleet_protocol::limits::PAGE_BYTES_MAX;
use fleet_state::SiteName;
use futures_util::StreamExt;

use crate::{
    ClientError, ConnectConfig, ConnectError,
    connect::Violations,
    door::{Door, Place, Sse},
    leader_way::LeaderWay,
    site,
};

/// How long an attempt over NATS may be silent before another is sent beside it.
const NATS_PATIENCE: Duration = Duration::from_millis(500);
/// At a door nothing is lost without a word, so another attempt would only be more to do.
const DOOR_PATIENCE: Duration = Duration::from_secs(60);

/// What it means when nobody listens on NATS.
const NOBODY_THERE: &str = "no agent of the site takes such requests on this NATS server; it may have no leader, or no majority of its agents is up";

/// A connection, and what is known beside it.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    way: Way,
    leader_way: LeaderWay,
    /// Server URLs without secrets, for messages.
    pub(crate) servers: Vec<String>,
}

#[derive(Debug, Clone)]
enum Way {
    Nats { nats: async_nats::Client, violations: Violations },
    Door(Door),
}

/// A request as it is sent, apart from its subject.
#[derive(Debug, Clone, Default)]
pub(crate) struct Sent {
    pub(crate) headers: Vec<(&'static str, String)>,
    pub(crate) payload: Bytes,
}

/// One answer, its headers by their names in small letters.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Heard {
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) payload: Bytes,
}

impl Heard {
    /// The number in a header.
    pub(crate) fn number(&self, name: &str) -> Option<u64> {
        let found = self.headers.iter().find(|(held, _)| held.eq_ignore_ascii_case(name));
        found?.1.parse().ok()
    }
}

/// Why an attempt brought no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Unheard {
    /// Nobody was there to take it.
    NobodyThere,
    /// It may have been taken.
    PerhapsTaken(String),
}

/// Several answers to one request.
#[derive(Debug)]
pub(crate) enum Answers {
    Nats(Subscriber),
    Door(Sse),
}

/// The next of several answers.
#[derive(Debug)]
pub(crate) enum Next {
    /// An answer.
    Heard(Bytes),
    /// Nobody listens there.
    NobodyThere,
    /// There are no more, or the connection is lost; whoever wants more asks again.
    Ended,
}

impl Answers {
    /// The next answer.
    pub(crate) async fn next(&mut self) -> Next {
        match self {
            Self::Nats(subscriber) => match subscriber.next().await {
                Some(message) if message.status.is_some() => Next::NobodyThere,
                Some(message) => Next::Heard(message.payload),
                None => Next::Ended,
            },
            Self::Door(events) => events.next().await.map_or(Next::Ended, Next::Heard),
        }
    }
}

fn nats_failed(error: &dyn std::fmt::Display) -> ClientError {
    ClientError::Nats(error.to_string())
}

impl Connection {
    pub(crate) fn of_nats(
        nats: async_nats::Client,
        violations: Violations,
        servers: Vec<String>,
    ) -> Self {
        Self { way: Way::Nats { nats, violations }, leader_way: LeaderWay::new(), servers }
    }

    pub(crate) async fn open_door(
        place: Place,
        config: &ConnectConfig,
    ) -> Result<Self, ConnectError> {
        let servers = vec![place.to_string()];
        let door = Door::open(place, config.timeout).await?;
        let leader_way = LeaderWay::new();
        // A door is one agent's, whoever leads.
        leader_way.close();
        Ok(Self { way: Way::Door(door), leader_way, servers })
    }

    /// The way to the leader alone.
    pub(crate) fn leader_way(&self) -> &LeaderWay {
        &self.leader_way
    }

    /// How long an attempt may be silent before another is sent.
    pub(crate) fn patience(&self) -> Duration {
        match &self.way {
            Way::Nats { .. } => NATS_PATIENCE,
            Way::Door(_) => DOOR_PATIENCE,
        }
    }

    /// What the server said of its permissions, if it forbade `subject`.
    pub(crate) fn denied(&self, subject: &str) -> Option<String> {
        match &self.way {
            Way::Nats { violations, .. } => violations.about(subject),
            Way::Door(_) => None,
        }
    }

    /// What it means when nobody takes a request.
    pub(crate) fn nobody_there(&self) -> String {
        match &self.way {
            Way::Nats { .. } => NOBODY_THERE.to_owned(),
            Way::Door(door) => door.nobody_there(),
        }
    }

    /// The largest payload that comes over.
    pub(crate) fn payload_bytes_max(&self) -> usize {
        match &self.way {
            Way::Nats { nats, .. } => nats.max_payload(),
            Way::Door(_) => PAGE_BYTES_MAX,
        }
    }

    /// NATS servers that others may use to reach the site.
    pub(crate) fn nats_urls(&self) -> &[String] {
        match &self.way {
            Way::Nats { .. } => &self.servers,
            Way::Door(door) => &door.facts().nats_urls,
        }
    }

    /// The site at the other end, where only one can be there.
    pub(crate) fn only_site(&self) -> Option<SiteName> {
        match &self.way {
            Way::Nats { .. } => None,
            Way::Door(door) => Some(door.site().clone()),
        }
    }

    /// The sites that answer.
    pub(crate) async fn sites(&self) -> Result<BTreeSet<SiteName>, ClientError> {
        match &self.way {
            Way::Nats { nats, violations } => site::sites(nats, violations).await,
            Way::Door(door) => Ok(BTreeSet::from([door.site().clone()])),
        }
    }

    /// Makes one attempt and waits for its answer, for as long as the caller does.
    ///
    /// # Errors
    /// When it can't be sent at all.
    pub(crate) async fn ask(
        &self,
        subject: &str,
        sent: Sent,
    ) -> Result<Result<Heard, Unheard>, ClientError> {
        match &self.way {
            Way::Nats { nats, .. } => ask_nats(nats, subject, sent).await,
            Way::Door(door) => door.ask(subject, sent).await,
        }
    }

    /// Makes one attempt at the leader alone. Who may not speak to it doesn't try again.
    ///
    /// # Errors
    /// When it can't be sent at all.
    pub(crate) async fn ask_leader(
        &self,
        subject: &str,
        sent: Sent,
    ) -> Result<Result<Heard, Unheard>, ClientError> {
        match &self.way {
            Way::Nats { nats, violations } => tokio::select! {
                heard = ask_nats(nats, subject, sent) => heard,
                () = violations.told_about(subject) => {
                    self.leader_way.close();
                    // What may not be sent was not taken; what may not be answered perhaps was.
                    let unsent = violations.about(subject).as_deref() == Some(subject);
                    Ok(Err(match unsent {
                        true => Unheard::NobodyThere,
                        false => Unheard::PerhapsTaken("its answer may not be heard".to_owned()),
                    }))
                }
            },
            Way::Door(_) => Ok(Err(Unheard::NobodyThere)),
        }
    }

    /// Makes one attempt at a path of an agent's door that no subject says.
    ///
    /// # Errors
    /// When it can't be sent at all, or there is no door.
    pub(crate) async fn ask_path(
        &self,
        path: &str,
        sent: Sent,
    ) -> Result<Result<Heard, Unheard>, ClientError> {
        match &self.way {
            Way::Door(door) => door.ask_path(path, sent).await,
            Way::Nats { .. } => Err(ClientError::Local(
                "a local write goes through the door of the gateway itself, not over NATS"
                    .to_owned(),
            )),
        }
    }

    /// Makes one attempt that several answers may come to.
    ///
    /// # Errors
    /// When it can't be sent at all, or nobody is there.
    pub(crate) async fn ask_for_many(
        &self,
        subject: &str,
        sent: Sent,
    ) -> Result<Answers, ClientError> {
        match &self.way {
            Way::Nats { nats, .. } => {
                let inbox = nats.new_inbox();
                let answers =
                    nats.subscribe(inbox.clone()).await.map_err(|error| nats_failed(&error))?;
                let headers = header_map(sent.headers);
                nats.publish_with_reply_and_headers(
                    subject.to_owned(),
                    inbox,
                    headers,
                    sent.payload,
                )
                .await
                .map_err(|error| nats_failed(&error))?;
                Ok(Answers::Nats(answers))
            }
            Way::Door(door) => Ok(Answers::Door(door.ask_for_many(subject, sent).await?)),
        }
    }
}

async fn ask_nats(
    nats: &async_nats::Client,
    subject: &str,
    sent: Sent,
) -> Result<Result<Heard, Unheard>, ClientError> {
    let size_bytes = sent.payload.len();
    let request =
        Request::new().payload(sent.payload).headers(header_map(sent.headers)).timeout(None);
    let error = match nats.send_request(subject.to_owned(), request).await {
        Ok(message) => return Ok(Ok(heard(message))),
        Err(error) => error,
    };
    match error.kind() {
        RequestErrorKind::NoResponders => Ok(Err(Unheard::NobodyThere)),
        RequestErrorKind::TimedOut => Ok(Err(Unheard::PerhapsTaken("no answer came".to_owned()))),
        RequestErrorKind::Other => {
            Ok(Err(Unheard::PerhapsTaken(format!("the connection failed: {error}"))))
        }
        RequestErrorKind::MaxPayloadExceeded => Err(ClientError::TooLarge(format!(
            "the request has {size_bytes} bytes and the NATS server takes {}",
            nats.max_payload()
        ))),
        RequestErrorKind::InvalidSubject => {
            Err(ClientError::Local(format!("the request cannot be sent: {error}")))
        }
    }
}

fn header_map(pairs: Vec<(&'static str, String)>) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in pairs {
        headers.insert(name, value);
    }
    headers
}

fn heard(message: async_nats::Message) -> Heard {
    let headers = message.headers.iter().flat_map(|headers| headers.iter());
    let headers = headers.filter_map(|(name, values)| {
        let name: &str = name.as_ref();
        Some((name.to_owned(), values.first()?.as_str().to_owned()))
    });
    Heard { headers: headers.collect(), payload: message.payload }
}
