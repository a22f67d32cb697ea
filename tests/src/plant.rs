//! Simulated devices, seen from outside: a link whose journal this test reads.

use std::collections::BTreeSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use crate::bare::{Answer, Reply};
use crate::site::Site;
use crate::wait;

/// Until a device has taken on what it was told, on a busy machine.
pub const DEVICE_LIMIT: Duration = Duration::from_secs(30);

/// A simulated link and the file that its devices live in.
#[derive(Debug, Clone)]
pub struct Plant {
    /// The link.
    pub link: String,
    journal: PathBuf,
}

impl Plant {
    /// Registers a link that any agent may own.
    pub async fn register(site: &Site, link: &str, settings: &Value) -> Self {
        Self::register_on(site, link, &json!("any"), settings).await
    }

    /// Registers a link that is placed so.
    pub async fn register_on(site: &Site, link: &str, placement: &Value, settings: &Value) -> Self {
        let journal = site.workplace().join(&format!("{link}.journal"));
        let body = json!({
            "connector": "simulated", "address": journal.display().to_string(),
            "placement": placement, "settings": settings,
        });
        let subject = format!("control.commands.link.register.{link}");
        site.client.request(&subject, body.to_string()).await.accepted();
        Self { link: link.to_owned(), journal }
    }

    /// Registers a device on it.
    pub async fn device(&self, site: &Site, id: &str, mode: &str, policy: &Value) {
        let body = json!({"link": self.link, "policy": policy});
        let subject = format!("control.commands.device.register.{id}");
        site.client.request(&subject, body.to_string()).await.accepted();
        let subject = format!("control.commands.device.mode.{id}");
        site.client.request(&subject, json!(mode).to_string()).await.accepted();
    }

    /// The link as the site has it.
    pub async fn record(&self, site: &Site) -> Option<Value> {
        let subject = format!("control.query.link.get.{}", self.link);
        match site.client.hasty().request(&subject, "").await {
            Answer::Reply(reply) if reply.is_ok() => Some(reply.at("/item").clone()),
            _ => None,
        }
    }

    /// Waits until another node than these owns the link; gives the index of its agent.
    pub async fn owner_but(&self, site: &Site, not: &[usize]) -> usize {
        wait::until("another node owns the link", DEVICE_LIMIT, || async {
            let owner = self.record(site).await?.get("owner")?.as_u64()?;
            let index = usize::try_from(owner).ok()?.checked_sub(1)?;
            (!not.contains(&index)).then_some(index)
        })
        .await
    }

    /// Every line of the journal.
    pub fn lines(&self) -> Vec<Value> {
        let text = std::fs::read_to_string(&self.journal).unwrap_or_default();
        text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
    }

    /// What was done to a device: `write`, `invoke` and the like.
    pub fn done(&self, id: &str, did: &str) -> Vec<Value> {
        let of = |line: &Value| line["device"] == json!(id) && line["did"] == json!(did);
        self.lines().into_iter().filter(of).collect()
    }

    /// Whether everything that was handed over to a device grew in epoch and sequence, and the
    /// epoch also from one device to the next. (Hand-overs to different devices overtake each other.)
    pub fn is_in_order(&self) -> bool {
        let mut epoch = 0;
        let mut newest = std::collections::BTreeMap::new();
        self.lines().iter().all(|line| {
            let (Some(now), Some(sequence)) = (line["epoch"].as_u64(), line["sequence"].as_u64())
            else {
                return true;
            };
            let before = newest.insert(line["device"].to_string(), (now, sequence));
            let grows = before.is_none_or(|before| before < (now, sequence)) && epoch <= now;
            epoch = now;
            grows
        })
    }

    /// Something happens to a device without us.
    pub fn happens(&self, line: &Value) {
        let mut file = std::fs::OpenOptions::new()
            .append(true)
            .create(true)
            .open(&self.journal)
            .expect("the journal can be written");
        writeln!(file, "{line}").expect("the journal can be written");
    }

    /// Checks what must hold whatever happened: no one-shot twice; what the owners handed over
    /// only grows in epoch and sequence; no older value after a newer one.
    ///
    /// # Panics
    /// If it does not hold.
    pub fn check(&self) {
        let mut one_shots = BTreeSet::new();
        let mut last = (0, 0);
        let mut newest = std::collections::BTreeMap::new();
        for line in self.lines().iter().filter(|line| line.get("epoch").is_some()) {
            let number = |key: &str| line[key].as_u64().unwrap_or(0);
            let device = line["device"].as_str().unwrap_or_default().to_owned();
            if let Some(id) = line.get("request_id").and_then(Value::as_str) {
                assert!(one_shots.insert(id.to_owned()), "a one-shot came twice: {line}");
            }
            assert!(number("epoch") >= last.0, "an earlier owner wrote after a later one: {line}");
            last = (number("epoch"), number("sequence"));
            let values = line.get("values").and_then(Value::as_object);
            if let Some(values) = values.filter(|_| line["did"] == json!("write")) {
                for (property, value) in values {
                    // A value is never wanted again in these tests once another one was.
                    let history: &mut Vec<Value> =
                        newest.entry((device.clone(), property.clone())).or_default();
                    if history.last() != Some(value) {
                        assert!(!history.contains(value), "an older value after a newer: {line}");
                        history.push(value.clone());
                    }
                }
            }
        }
    }
}

/// Sets a device and waits for a stage.
pub async fn set(site: &Site, id: &str, patch: &Value, headers: &[(&str, &str)]) -> Reply {
    let subject = format!("control.commands.device.update.{id}");
    site.client.request_with(&subject, headers, patch.to_string()).await.accepted()
}

/// Sets a device and waits until that is verified, whoever owns its link and leads. Asked again it
/// is the same request, which an agent that slept meanwhile may still pass on.
pub async fn set_verified(site: &Site, id: &str, patch: &Value) {
    static REQUESTS: AtomicU64 = AtomicU64::new(0);
    let client = site.client.hasty();
    let request_id = format!("set-verified-{}", REQUESTS.fetch_add(1, Ordering::Relaxed));
    let revision = wait::until("the site takes the command", DEVICE_LIMIT, || async {
        let subject = format!("control.commands.device.update.{id}");
        let headers = [("Flotilla-Request-Id", request_id.as_str())];
        match client.request_with(&subject, &headers, patch.to_string()).await {
            Answer::Reply(reply) if reply.is_ok() => reply.revision(),
            _ => None,
        }
    })
    .await;
    let what = format!("{id} is verified at {revision}");
    wait::until_true(&what, DEVICE_LIMIT, || async {
        let subject = format!("control.query.device.get.{id}");
        let Answer::Reply(reply) = client.request(&subject, "").await else { return false };
        reply.0.pointer("/item/watermarks/verified").and_then(Value::as_u64) >= Some(revision)
    })
    .await;
}
