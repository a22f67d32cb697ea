//! Which devices there are on a broker, as far as they or their bridge say so.
//!
//! [`from_bridge`] reads what Zigbee2MQTT knows, [`from_announcements`] what devices publish for
//! Home Assistant. Both are pure, and give [`Candidate`]s: what would be registered, nothing is
//! registered by looking. [`MqttConnector::discover`] fetches the messages that the broker keeps,
//! over a connection of its own, so that the session of the link's owner goes on undisturbed.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_state::{Limits, Object, Value};
use tokio::time::{Instant, timeout_at};

use crate::device::connector::{Connect, ConnectError};

use super::link::Broker;
use super::presets::homeassistant::{self, MESSAGES_MAX};
use super::presets::zigbee2mqtt::{self, features_of, read_devices};
use super::wire::{Opening, Wire, WireEvent};
use super::{MqttConnector, credentials, topic};

/// How long a broker may take to hand out what it keeps.
const COLLECT_WITHIN: Duration = Duration::from_secs(10);
/// After so long without another message, that was all.
const QUIET_AFTER: Duration = Duration::from_millis(700);
/// Bytes of all messages together.
const COLLECTED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The prefix of announcements unless another is said.
const ANNOUNCED: &str = "homeassistant";

/// A device that could be registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its address on the link: what stays the same when it is renamed.
    pub address: String,
    /// What people call it.
    pub name: String,
    /// Who made it and what it is.
    pub model: Option<String>,
    /// The settings that it would be registered with.
    pub settings: Object,
    /// What its operator should know, and what could not be read.
    pub warnings: Vec<String>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The devices, by address.
    pub candidates: Vec<Candidate>,
    /// Messages that could not be read, and why.
    pub problems: Vec<String>,
}

/// Who tells of devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// The Zigbee2MQTT bridge with this base topic.
    Zigbee2Mqtt(String),
    /// Devices that announce themselves below this prefix.
    HomeAssistant(String),
}

impl Source {
    /// The source of this word, with the topic that it uses unless another is said.
    #[must_use]
    pub fn named(word: &str, base: Option<&str>) -> Option<Self> {
        let base = |default: &str| base.unwrap_or(default).to_owned();
        match word {
            "zigbee2mqtt" => Some(Source::Zigbee2Mqtt(base(zigbee2mqtt::BASE))),
            "homeassistant" => Some(Source::HomeAssistant(base(ANNOUNCED))),
            _ => None,
        }
    }

    fn topics(&self) -> Vec<String> {
        match self {
            Source::Zigbee2Mqtt(base) => {
                vec![format!("{base}/bridge/info"), format!("{base}/bridge/devices")]
            }
            Source::HomeAssistant(prefix) => {
                vec![format!("{prefix}/+/+/config"), format!("{prefix}/+/+/+/config")]
            }
        }
    }

    fn base(&self) -> &str {
        let (Source::Zigbee2Mqtt(base) | Source::HomeAssistant(base)) = self;
        base
    }
}

/// The devices of a Zigbee2MQTT bridge, from its `bridge/devices` and, where it is known, its
/// `bridge/info`. Devices that it doesn't speak with (disabled, not yet interviewed) are left out.
///
/// # Errors
/// Why the list can't be read.
pub fn from_bridge(base: &str, devices: &[u8], info: Option<&[u8]>) -> Result<Found, String> {
    let checked = info.is_none_or(checks_availability);
    let mut found = Found::default();
    for (address, device) in read_devices(devices)? {
        if device.out_of_use {
            found.problems.push(format!("{}: the bridge doesn't use it (yet)", device.name));
            continue;
        }
        let mut settings = Object::new();
        settings.insert("preset", "zigbee2mqtt");
        settings.insert("features", features_of(&device.exposes));
        if base != zigbee2mqtt::BASE {
            settings.insert("base", base);
        }
        let mut warnings = Vec::new();
        if device.sleepy {
            settings.insert("sleepy", true);
            warnings.push("it sleeps: give commands a TTL of hours".to_owned());
        }
        if !checked {
            settings.insert("availability", false);
            warnings.push(
                "the bridge doesn't check whether devices are there; switch its availability on"
                    .to_owned(),
            );
        }
        if device.exposes.is_empty() {
            found.problems.push(format!("{}: the bridge doesn't know what it is", device.name));
            continue;
        }
        found.candidates.push(Candidate {
            address: address.to_string(),
            name: device.name.to_string(),
            model: device.model,
            settings,
            warnings,
        });
    }
    Ok(found)
}

/// The devices that announce themselves, from the messages below the prefix of announcements.
pub fn from_announcements<'a>(messages: impl Iterator<Item = (&'a str, &'a [u8])>) -> Found {
    let (candidates, problems) = homeassistant::read(messages);
    Found { candidates, problems }
}

/// Whether a bridge looks after its devices' availability.
fn checks_availability(info: &[u8]) -> bool {
    let limits = Limits { size_bytes_max: zigbee2mqtt::LIST_BYTES_MAX, depth_max: 32 };
    let Ok(Value::Map(info)) = Value::parse(info, limits) else {
        return true;
    };
    let config = info.get("config").and_then(Value::as_map);
    match config.and_then(|config| config.get("availability")) {
        Some(Value::Bool(on)) => *on,
        // Version 2 says so within, version 1 by having the object at all.
        Some(Value::Map(object)) => object.get("enabled") != Some(&Value::Bool(false)),
        _ => false,
    }
}

impl MqttConnector {
    /// Asks the broker of a link for the devices that a source tells of. Nothing is published,
    /// and the owner of the link is not disturbed.
    ///
    /// # Errors
    /// The broker can't be connected to, or nothing there is what the source says.
    pub async fn discover(&self, connect: Connect, source: &Source) -> Result<Found, ConnectError> {
        let failed = |problem: String| ConnectError::new(problem);
        topic::check("base", source.base()).map_err(|refusal| failed(refusal.to_string()))?;
        let broker = Broker::parse(&connect.link).map_err(|refusal| failed(refusal.to_string()))?;
        let login = credentials::login(&connect.secrets_dir, &broker)?;
        let certificates = match &broker.tls {
            Some(tls) => credentials::certificates(&connect.secrets_dir, tls)?,
            None => credentials::Certificates::default(),
        };
        let client_id = format!("flotilla-{}-{}-discover", connect.site, connect.link.id);
        let opening = Opening { broker, client_id, login, certificates };
        let messages = collect(opening, &source.topics()).await?;
        match source {
            Source::Zigbee2Mqtt(base) => {
                let message = |name: &str| messages.get(&format!("{base}/bridge/{name}"));
                let devices = message("devices").ok_or_else(|| {
                    failed(format!("there is nothing on {base}/bridge/devices; is the base right?"))
                })?;
                let info = message("info").map(AsRef::as_ref);
                from_bridge(base, devices, info).map_err(failed)
            }
            Source::HomeAssistant(_) => Ok(from_announcements(
                messages.iter().map(|(topic, payload)| (topic.as_str(), payload.as_ref())),
            )),
        }
    }
}

/// What a broker keeps on these topics.
async fn collect(
    opening: Opening,
    topics: &[String],
) -> Result<BTreeMap<String, bytes::Bytes>, ConnectError> {
    let (wire, mut events) = Wire::open(opening).await?;
    let client = wire.client().clone();
    let topics = topics.to_vec();
    let subscribing = tokio::spawn(async move { client.subscribe(&topics).await });
    let end = Instant::now() + COLLECT_WITHIN;
    let mut quiet = Instant::now() + QUIET_AFTER;
    let (mut messages, mut bytes) = (BTreeMap::new(), 0);
    while let Ok(event) = timeout_at(quiet.min(end), events.recv()).await {
        match event {
            Some(WireEvent::Message(message)) => {
                bytes += message.payload.len();
                if bytes > COLLECTED_BYTES_MAX || messages.len() >= MESSAGES_MAX {
                    return Err(ConnectError::new("the broker keeps more than can be looked at"));
                }
                messages.insert(message.topic, message.payload);
                quiet = Instant::now() + QUIET_AFTER;
            }
            Some(WireEvent::Closed(_)) | None => {
                return Err(ConnectError::new("the connection to the broker was lost"));
            }
        }
    }
    let subscribed = subscribing.await.map_err(|error| ConnectError::new(error.to_string()))?;
    subscribed.map_err(ConnectError::new)?;
    wire.close().await;
    Ok(messages)
}
