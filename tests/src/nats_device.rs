//! A device that speaks NATS: a client that knows nothing of ours but the subjects and headers that
//! `docs/protocol.md` spells, with a journal of everything it was told.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_nats::Message;
use futures_util::StreamExt;
use serde_json::{Map, Value, json};
use tokio::task::JoinHandle;

use crate::bare::BareClient;
use crate::site::Site;
use crate::wait;

/// Until a device has left: its last message is done with.
const LEAVE_LIMIT: Duration = Duration::from_secs(10);

/// What a device did with what it was told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Deed {
    /// What it was told.
    Done,
    /// It said no.
    Refused,
    /// Nothing, and it gave no answer.
    Nothing,
    /// It said no to something older than what it has heard already.
    Older,
    /// Nothing, for its time was over.
    Late,
}

/// One message to a device.
#[derive(Debug, Clone)]
pub struct Told {
    /// `set`, `invoke` or `get`.
    pub word: String,
    /// The payload.
    pub body: Value,
    /// `Flotilla-Epoch` and `Flotilla-Sequence`.
    pub order: Option<(u64, u64)>,
    /// `Flotilla-Revision`.
    pub revision: Option<u64>,
    /// `Flotilla-Request-Id`.
    pub request_id: Option<String>,
    /// `Flotilla-Expires-In-Ms`.
    pub expires_in_ms: Option<u64>,
    /// Whether somebody waits for an answer.
    pub is_asked: bool,
    /// What became of it.
    pub deed: Deed,
}

/// How a device treats what it is told.
#[derive(Debug, Clone, Default)]
pub struct Manners {
    /// It says no to everything, with this reason.
    pub refuses: Option<String>,
    /// It does nothing and answers nothing.
    pub is_silent: bool,
    /// It doesn't tell by itself what it is.
    pub is_quiet: bool,
    /// It says no to what is older than the newest that it has heard.
    pub fences: bool,
}

#[derive(Debug, Default)]
struct Memory {
    manners: Manners,
    values: Map<String, Value>,
    newest: (u64, u64),
    journal: Vec<Told>,
}

/// The device.
#[derive(Debug)]
pub struct NatsDevice {
    id: String,
    client: BareClient,
    memory: Arc<Mutex<Memory>>,
    listening: Option<JoinHandle<()>>,
}

impl NatsDevice {
    /// Connects a device to a site's server; it listens and says that it is there.
    pub async fn start(site: &Site, id: &str, manners: Manners) -> Self {
        let client = BareClient::connect(&site.nats.url(), site.name()).await;
        let memory = Arc::new(Mutex::new(Memory { manners, ..Memory::default() }));
        let mut device = Self { id: id.to_owned(), client, memory, listening: None };
        device.come().await;
        device
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        self.memory.lock().expect("nobody panics with it")
    }

    /// Begins to listen, and says that it is there and what it is.
    ///
    /// # Panics
    /// If it is there already.
    pub async fn come(&mut self) {
        assert!(self.listening.is_none(), "{} is there already", self.id);
        let subject = self.client.subject(&format!("device.{}.*", self.id));
        let mut messages = self.client.raw().subscribe(subject).await.expect("a subscription");
        self.client.settle().await;
        let (client, memory, id) = (self.client.clone(), Arc::clone(&self.memory), self.id.clone());
        self.listening = Some(tokio::spawn(async move {
            while let Some(message) = messages.next().await {
                hear(&client, &memory, &id, &message).await;
            }
        }));
        self.says("availability", "online").await;
        self.report().await;
    }

    /// Says a word of availability and listens no more: to the server nobody is there.
    pub async fn leave(&mut self, last_word: Option<&str>) {
        if let Some(word) = last_word {
            self.says("availability", word).await;
        }
        let listening = self.listening.take().expect("only who is there leaves");
        listening.abort();
        wait::until_true("the device has left", LEAVE_LIMIT, || async { listening.is_finished() })
            .await;
        self.client.settle().await;
    }

    /// Says what it is.
    pub async fn report(&self) {
        let values = Value::Object(self.memory().values.clone());
        self.says("reported", &values.to_string()).await;
    }

    /// Somebody turns it by hand, and it says so.
    pub async fn turn(&self, values: &Value) {
        take_on(&mut self.memory().values, values);
        self.report().await;
    }

    /// Says something of itself.
    pub async fn says(&self, word: &str, payload: &str) {
        self.client.publish(&format!("device.{}.{word}", self.id), payload.to_owned()).await;
    }

    /// Changes how it treats what it is told.
    pub fn behave(&self, manners: Manners) {
        self.memory().manners = manners;
    }

    /// What it is.
    pub fn values(&self) -> Value {
        Value::Object(self.memory().values.clone())
    }

    /// Everything it was told, in this order.
    pub fn journal(&self) -> Vec<Told> {
        self.memory().journal.clone()
    }

    /// What it was told with this word.
    pub fn told(&self, word: &str) -> Vec<Told> {
        self.journal().into_iter().filter(|told| told.word == word).collect()
    }
}

impl Drop for NatsDevice {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
    }
}

fn take_on(values: &mut Map<String, Value>, patch: &Value) {
    if let Some(patch) = patch.as_object() {
        values.extend(patch.clone());
    }
}

fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// Takes a message as a device does: judges it, does it, answers and reports.
async fn hear(client: &BareClient, memory: &Mutex<Memory>, id: &str, message: &Message) {
    let Some(word) = message.subject.rsplit('.').next() else { return };
    if !["set", "invoke", "get"].contains(&word) {
        return;
    }
    let (answer, report) = judge(&mut memory.lock().expect("nobody panics with it"), word, message);
    // Where the connection is lost meanwhile nobody hears it, as with a real one.
    if let (Some(reply), Some(answer)) = (&message.reply, answer) {
        let _ = client.raw().publish(reply.clone(), answer.into()).await;
    }
    if let Some(report) = report {
        let subject = client.subject(&format!("device.{id}.reported"));
        let _ = client.raw().publish(subject, report.to_string().into()).await;
    }
    let _ = client.raw().flush().await;
}

/// The answer to a message and the report after it, if there are any.
fn judge(memory: &mut Memory, word: &str, message: &Message) -> (Option<String>, Option<Value>) {
    let header = |name: &str| Some(message.headers.as_ref()?.get(name)?.as_str().to_owned());
    let number = |name: &str| header(name)?.parse::<u64>().ok();
    let body = serde_json::from_slice(&message.payload).unwrap_or(Value::Null);
    let order = number("Flotilla-Epoch").zip(number("Flotilla-Sequence"));
    let manners = memory.manners.clone();
    let deed = if number("Flotilla-Expires-At-Ms").is_some_and(|at_ms| at_ms <= wall_ms()) {
        Deed::Late
    } else if manners.fences && order.is_some_and(|order| order < memory.newest) {
        Deed::Older
    } else if manners.is_silent {
        Deed::Nothing
    } else if manners.refuses.is_some() {
        Deed::Refused
    } else {
        Deed::Done
    };
    memory.newest = memory.newest.max(order.unwrap_or_default());
    memory.journal.push(Told {
        word: word.to_owned(),
        body: body.clone(),
        order,
        revision: number("Flotilla-Revision"),
        request_id: header("Flotilla-Request-Id"),
        expires_in_ms: number("Flotilla-Expires-In-Ms"),
        is_asked: message.reply.is_some(),
        deed,
    });
    let no = |why: &str| Some(json!({"ok": false, "error": why}).to_string());
    match deed {
        Deed::Nothing | Deed::Late => (None, None),
        Deed::Older => (no("I have heard something newer"), None),
        Deed::Refused => (no(manners.refuses.as_deref().unwrap_or_default()), None),
        Deed::Done if word == "get" => {
            (Some(Value::Object(memory.values.clone()).to_string()), None)
        }
        Deed::Done => {
            if word == "set" {
                take_on(&mut memory.values, &body);
            }
            let report = Value::Object(memory.values.clone());
            (Some(String::new()), (!manners.is_quiet && word == "set").then_some(report))
        }
    }
}
