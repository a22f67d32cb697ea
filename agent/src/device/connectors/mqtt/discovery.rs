//! Which devices there are on a broker, as far as they or their bridge say so.
//!
//! [`from_bridge`] reads what Zigbee2MQTT knows, [`from_announcements`] what devices publish for
//! Home Assistant. Both are pure, and give [`Candidate`]s: what would be registered, nothing is
//! registered by looking. `discover` fetches the messages that the broker keeps, over a
//! connection of its own, so that the session of the link's owner goes on undisturbed.

use std::collections::BTreeMap;
use std::time::Duration;

use fleet_protocol::look::Source;
use fleet_state::{Limits, Object, Value};
use tokio::time::{Instant, timeout_at};

use crate::device::connector::{
    Candidate, ConnectError, Discover, Found, LookError, Place, Refusal,
};

use super::link::Broker;
use super::presets::homeassistant::{self, MESSAGES_MAX};
use super::presets::zigbee2mqtt::{self, features_of, read_devices};
use super::session::id_of;
use super::wire::{Opening, Wire, WireEvent};
use super::{credentials, topic};

/// How long a broker may take to hand out what it keeps.
const COLLECT_WITHIN: Duration = Duration::from_secs(10);
/// After so long without another message, that was all.
const QUIET_AFTER: Duration = Duration::from_millis(700);
/// Bytes of all messages together.
const COLLECTED_BYTES_MAX: usize = 32 * 1024 * 1024;
/// The prefix of announcements unless another is said.
const ANNOUNCED: &str = "homeassistant";

/// What is asked, and below which topic.
struct Wanted {
    source: Source,
    base: String,
}

impl Wanted {
    fn of(discover: Discover) -> Self {
        let Discover { source, base } = discover;
        let default = match source {
            Source::Zigbee2Mqtt => zigbee2mqtt::BASE,
            Source::HomeAssistant => ANNOUNCED,
        };
        Self { source, base: base.unwrap_or_else(|| default.to_owned()) }
    }

    fn topics(&self) -> Vec<String> {
        let base = &self.base;
        match self.source {
            Source::Zigbee2Mqtt => {
                vec![format!("{base}/bridge/info"), format!("{base}/bridge/devices")]
            }
            Source::HomeAssistant => {
                vec![format!("{base}/+/+/config"), format!("{base}/+/+/+/config")]
            }
        }
    }

    /// What the messages tell.
    fn read(&self, messages: &BTreeMap<String, bytes::Bytes>) -> Result<Found, LookError> {
        let Self { source, base } = self;
        match source {
            Source::Zigbee2Mqtt => {
                let message = |name: &str| messages.get(&format!("{base}/bridge/{name}"));
                let devices = message("devices").ok_or_else(|| {
                    LookError::Unreachable(format!(
                        "there is nothing on {base}/bridge/devices; is the base right?"
                    ))
                })?;
                let info = message("info").map(AsRef::as_ref);
                from_bridge(base, devices, info).map_err(LookError::Unreachable)
            }
            Source::HomeAssistant => Ok(from_announcements(
                messages.iter().map(|(topic, payload)| (topic.as_str(), payload.as_ref())),
            )),
        }
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

/// Asks the broker of a link for the devices that a source tells of. Nothing is published, and
/// the owner of the link is not disturbed.
pub(super) async fn discover(place: Place, discover: Discover) -> Result<Found, LookError> {
    let wanted = Wanted::of(discover);
    let wrong = |refusal: Refusal| LookError::Wrong(refusal.to_string());
    topic::check("base", &wanted.base).map_err(wrong)?;
    // Who only looks has nothing to leave behind.
    let broker = Broker { will: None, ..Broker::parse(&place.link).map_err(wrong)? };
    let unreachable = |error: ConnectError| LookError::Unreachable(error.message);
    let login = credentials::login(&place.secrets_dir, &broker).map_err(unreachable)?;
    let certificates = match &broker.tls {
        Some(tls) => credentials::certificates(&place.secrets_dir, tls).map_err(unreachable)?,
        None => credentials::Certificates::default(),
    };
    let client_id = format!("{}:discover", id_of(&place.site, &place.link.id));
    let opening = Opening { broker, client_id, login, certificates };
    let messages = collect(opening, &wanted.topics()).await.map_err(unreachable)?;
    wanted.read(&messages)
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
    if let Some(topic) = subscribed.map_err(ConnectError::new)?.first() {
        let problem = format!("the broker refuses to tell of {topic}; see its access list");
        return Err(ConnectError::new(problem));
    }
    wire.close().await;
    Ok(messages)
}
