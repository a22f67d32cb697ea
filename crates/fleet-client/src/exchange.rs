//! One request and its attempts: sent again with the same request id until there is an answer or the
//! deadline is over.
//!
//! Core NATS delivers at most once, and an agent may die with a request in its hands. So an attempt
//! that hears nothing for a while is followed by another, and the first answer of any of them
//! counts; the site carries a request id out at most once. What must be kept apart is *certainly not
//! taken* (nobody listened; busy; no leader; stopping) and *perhaps taken* (no answer; unknown): once
//! one attempt was perhaps taken, nothing but an answer from the log may end in anything but unknown.

use std::time::Duration;

use bytes::Bytes;
use fleet_protocol::{
    ErrorCode, Options,
    duration::format_ms,
    limits::{TIMEOUT_MS_MAX, TIMEOUT_MS_MIN},
    reply::Failed,
};
use futures_util::{StreamExt, stream::FuturesUnordered};
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use crate::{
    ClientError,
    leader_way::{LEADER_PATIENCE, REST_LEADERLESS, REST_SILENT},
    transport::{Connection, Sent, Unheard},
};

/// How often the patience with a silent attempt may grow to its double.
const PATIENCE_GROWTH: u32 = 2;
/// Pause after an attempt that was certainly not taken; doubled with each.
const PAUSE_MS: u64 = 25;
const PAUSE_MS_MAX: u64 = 400;
/// How much longer than the agent we wait, so that its own word is heard.
const GRACE: Duration = Duration::from_millis(250);

/// Why an attempt was certainly not taken.
const NOBODY_THERE: &str = "nobody was there to take it";

/// A request that is to be answered.
#[derive(Debug)]
pub(crate) struct Exchange<'a> {
    pub(crate) subject: &'a str,
    /// Where the first attempt goes instead, while the way to the leader is open.
    pub(crate) leader: Option<&'a str>,
    pub(crate) payload: Bytes,
    pub(crate) options: &'a Options,
    pub(crate) deadline: Instant,
}

/// How it ended.
#[derive(Debug)]
pub(crate) enum Ended {
    /// An answer that stands.
    Answered(Bytes, u32),
    /// Perhaps taken, and no answer that stands.
    Unknown(String),
    /// Certainly not taken by anybody.
    NotTaken(String),
    /// Certainly not taken, because nobody listens there.
    NobodyThere,
}

/// What one attempt came to.
enum Attempt {
    Answered(Bytes),
    NotTaken(String),
    NobodyThere,
    PerhapsTaken(String),
}

#[derive(Deserialize)]
struct Envelope {
    ok: bool,
}

impl Exchange<'_> {
    /// Sends, and sends again, until it ended.
    pub(crate) async fn run(&self, connection: &Connection) -> Result<Ended, ClientError> {
        let denied = || connection.denied(self.subject);
        let leader = self.leader.filter(|_| connection.leader_way().is_open());
        let (first, then) = (leader.map(|_| LEADER_PATIENCE), connection.patience());
        let patience = Patience { first: first.unwrap_or(then), then };
        let mut to_leader = Some(leader).into_iter();
        let attempt = || {
            let to = to_leader.next();
            if leader.is_some() && to.is_none() {
                // It had its chance, and there is still something to ask for.
                connection.leader_way().rest(REST_SILENT);
            }
            self.attempt(connection, to.flatten())
        };
        settle(self.deadline, patience, attempt, denied).await
    }

    /// Sends, and sends again only what was certainly not taken.
    pub(crate) async fn run_patiently(
        &self,
        connection: &Connection,
    ) -> Result<Ended, ClientError> {
        let denied = || connection.denied(self.subject);
        let patience = Patience::even(Duration::from_millis(TIMEOUT_MS_MAX));
        settle(self.deadline, patience, || self.attempt(connection, None), denied).await
    }

    async fn attempt(
        &self,
        connection: &Connection,
        leader: Option<&str>,
    ) -> Result<Attempt, ClientError> {
        let sent = || Sent { headers: self.headers(), payload: self.payload.clone() };
        if let Some(leader) = leader {
            match connection.ask_leader(leader, sent()).await? {
                Ok(heard) => return Ok(classify(heard.payload)),
                Err(Unheard::PerhapsTaken(why)) => return Ok(Attempt::PerhapsTaken(why)),
                Err(Unheard::NobodyThere) => connection.leader_way().rest(REST_LEADERLESS),
            }
        }
        Ok(match connection.ask(self.subject, sent()).await? {
            Ok(heard) => classify(heard.payload),
            Err(Unheard::NobodyThere) => Attempt::NobodyThere,
            Err(Unheard::PerhapsTaken(why)) => Attempt::PerhapsTaken(why),
        })
    }

    fn headers(&self) -> Vec<(&'static str, String)> {
        let mut headers = self.options.to_headers();
        let left = self.deadline.saturating_duration_since(Instant::now()).as_millis();
        let left = u64::try_from(left).unwrap_or(u64::MAX).clamp(TIMEOUT_MS_MIN, TIMEOUT_MS_MAX);
        headers.push((fleet_protocol::HeaderName::Timeout.as_str(), format_ms(left)));
        headers
    }
}

/// How long an attempt may be silent before another is sent beside it.
#[derive(Debug, Clone, Copy)]
struct Patience {
    /// With the first.
    first: Duration,
    /// With the second; it grows to [`PATIENCE_GROWTH`] doubles of that.
    then: Duration,
}

impl Patience {
    const fn even(patience: Duration) -> Self {
        Self { first: patience, then: patience }
    }
}

/// Makes attempts until one of them has the last word or the deadline is over. `denied` names the
/// subject, once the server forbade it.
async fn settle<F, A>(
    deadline: Instant,
    patience: Patience,
    mut attempt: impl FnMut() -> F,
    denied: A,
) -> Result<Ended, ClientError>
where
    F: Future<Output = Result<Attempt, ClientError>>,
    A: Fn() -> Option<String>,
{
    let mut attempts = FuturesUnordered::new();
    let mut sent = 0u32;
    let mut perhaps_taken = false;
    let mut nobody_there = false;
    let mut why = "no answer came".to_owned();
    let patience_max = patience.then.saturating_mul(1 << PATIENCE_GROWTH);
    let Patience { first: mut patience, then } = patience;
    let mut pause_ms = PAUSE_MS;
    loop {
        attempts.push(attempt());
        sent = sent.saturating_add(1);
        let mut send_again = Instant::now() + patience;
        patience = patience.saturating_mul(2).clamp(then, patience_max);
        // Wait for answers of all attempts until it is time for the next one.
        while let Some(ended) = next(&mut attempts, send_again.min(deadline + GRACE)).await {
            let ended = ended?;
            nobody_there = matches!(ended, Attempt::NobodyThere);
            match ended {
                Attempt::Answered(payload) if final_word(&payload, perhaps_taken) => {
                    return Ok(Ended::Answered(payload, sent));
                }
                Attempt::Answered(payload) => why = message_of(&payload),
                Attempt::NotTaken(reason) => why = reason,
                Attempt::NobodyThere => why = NOBODY_THERE.to_owned(),
                Attempt::PerhapsTaken(reason) => {
                    perhaps_taken = true;
                    why = reason;
                }
            }
            send_again = send_again.min(Instant::now() + Duration::from_millis(pause_ms));
            pause_ms = pause_ms.saturating_mul(2).min(PAUSE_MS_MAX);
        }
        if !attempts.is_empty() {
            perhaps_taken = true;
            if let Some(subject) = denied() {
                return Err(ClientError::Denied { subject });
            }
        }
        if Instant::now() >= deadline {
            return Ok(match (perhaps_taken, nobody_there) {
                (true, _) => Ended::Unknown(why),
                (false, true) => Ended::NobodyThere,
                (false, false) => Ended::NotTaken(why),
            });
        }
    }
}

/// The next attempt to end, or `None` when `until` is reached first.
async fn next<F: Future>(attempts: &mut FuturesUnordered<F>, until: Instant) -> Option<F::Output> {
    if attempts.is_empty() {
        // Every attempt has ended; what is left is the pause before the next.
        sleep_until(until).await;
        return None;
    }
    tokio::select! {
        biased;
        ended = attempts.next() => ended,
        () = sleep_until(until) => None,
    }
}

fn classify(payload: Bytes) -> Attempt {
    let Ok(envelope) = serde_json::from_slice::<Envelope>(&payload) else {
        // Binary pieces of snapshots are not JSON; their reader judges them.
        return Attempt::Answered(payload);
    };
    if envelope.ok {
        return Attempt::Answered(payload);
    }
    let Ok(failed) = serde_json::from_slice::<Failed>(&payload) else {
        return Attempt::Answered(payload);
    };
    if failed.revision.is_some() || !failed.error.retryable {
        return Attempt::Answered(payload);
    }
    match failed.error.code() {
        Some(
            ErrorCode::Busy | ErrorCode::NoLeader | ErrorCode::Unreachable | ErrorCode::Stopping,
        ) => Attempt::NotTaken(failed.error.message),
        _ => Attempt::PerhapsTaken(failed.error.message),
    }
}

/// Whether an answer ends the matter: one from the log always, a refusal only when no attempt before
/// it was perhaps taken.
fn final_word(payload: &[u8], perhaps_taken: bool) -> bool {
    if !perhaps_taken {
        return true;
    }
    match serde_json::from_slice::<Failed>(payload) {
        Ok(failed) => failed.revision.is_some(),
        Err(_) => true,
    }
}

fn message_of(payload: &[u8]) -> String {
    serde_json::from_slice::<Failed>(payload)
        .map_or_else(|_| "the answer was not understood".to_owned(), |failed| failed.error.message)
}

#[cfg(test)]
mod tests;
