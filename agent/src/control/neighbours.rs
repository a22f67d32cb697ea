//! Watching for another site under the same name on the same NATS server.
//!
//! Two sites of one name (a restored snapshot beside its original, say) would share one queue
//! group, and each command would go to either of them. Agents tell their site's uid in the service
//! registration; whoever hears another uid under its own name leaves intake, says so in the log
//! and in its status, and comes back when it hears no more of the other site.

use std::sync::Arc;
use std::time::Duration;

use fleet_protocol::subjects::SERVICE_PING;
use fleet_state::SiteUid;
use futures_util::StreamExt;
use serde::Deserialize;
use tokio::time::MissedTickBehavior;

use super::desk::Desk;
use super::nats_door::NatsDoor;
use super::service::UID_MEMBER;

/// How often agents of this name are asked for.
const ROUND_INTERVAL: Duration = Duration::from_secs(5);
/// How long answers are waited for.
const ROUND_WAIT: Duration = Duration::from_secs(1);
/// Answers looked at in one round.
const ANSWERS_MAX: usize = 256;
/// Rounds without a foreign answer after which the other site counts as gone.
const QUIET_ROUNDS: u32 = 3;

#[derive(Deserialize)]
struct Answer {
    name: String,
    #[serde(default)]
    metadata: std::collections::BTreeMap<String, String>,
}

/// Asks in rounds, and notes what was heard.
pub(super) async fn watch(desk: Arc<Desk>, nats: Arc<NatsDoor>) {
    let mut rounds = tokio::time::interval(ROUND_INTERVAL);
    rounds.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut quiet = 0;
    loop {
        rounds.tick().await;
        if !nats.is_connected() {
            continue;
        }
        match foreign_uid(&desk, &nats).await {
            Some(uid) => {
                quiet = 0;
                if !desk.foreign.send_replace(true) {
                    tracing::error!(
                        site = %desk.facts.site, uid = %desk.facts.uid, foreign_uid = %uid,
                        "another site answers under the same name on this NATS server; no requests are taken in until it is gone: stop or rename one of the two"
                    );
                }
            }
            None if quiet < QUIET_ROUNDS => quiet += 1,
            None => {
                if desk.foreign.send_replace(false) {
                    tracing::info!("the other site of the same name is gone");
                }
            }
        }
    }
}

/// The uid of another site under this name, if one answers.
async fn foreign_uid(desk: &Desk, nats: &Arc<NatsDoor>) -> Option<SiteUid> {
    let name = desk.subjects.service_name();
    let inbox = nats.client.new_inbox();
    let mut answers = nats.client.subscribe(inbox.clone()).await.ok()?;
    let question = format!("{SERVICE_PING}.{name}");
    let asked = nats.client.publish_with_reply(question, inbox, Vec::new().into());
    tokio::time::timeout(ROUND_WAIT, asked).await.ok()?.ok()?;
    let found = async {
        let mut looked_at = 0;
        while let Some(answer) = answers.next().await {
            looked_at += 1;
            let uid = uid_of(&answer.payload, &name);
            if looked_at > ANSWERS_MAX || uid.is_some_and(|uid| uid != desk.facts.uid) {
                return uid.filter(|uid| *uid != desk.facts.uid);
            }
        }
        None
    };
    tokio::time::timeout(ROUND_WAIT, found).await.ok().flatten()
}

/// The site uid in a ping's answer; `None` for what isn't one of ours.
fn uid_of(payload: &[u8], name: &str) -> Option<SiteUid> {
    let answer: Answer = serde_json::from_slice(payload).ok()?;
    if answer.name != name {
        return None;
    }
    answer.metadata.get(UID_MEMBER)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_answers_of_the_same_name_with_a_uid_count() {
        let uid = "00112233445566778899aabbccddeeff";
        let answer = |name: &str, uid: &str| {
            format!(r#"{{"type":"x","name":"{name}","id":"1","metadata":{{"uid":"{uid}"}}}}"#)
        };
        let heard =
            |text: &str| uid_of(text.as_bytes(), "flotilla-home").map(|uid| uid.to_string());
        assert_eq!(heard(&answer("flotilla-home", uid)).as_deref(), Some(uid));
        for other in [
            answer("flotilla-home2", uid),
            answer("flotilla-home", "zz"),
            r#"{"name":"flotilla-home"}"#.to_owned(),
            r#"{"name":"flotilla-home","metadata":null}"#.to_owned(),
            "[]".to_owned(),
            String::new(),
        ] {
            assert_eq!(heard(&other), None, "{other}");
        }
    }
}
