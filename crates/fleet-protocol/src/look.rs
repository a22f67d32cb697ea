//! Looking along a link: which devices a broker knows of, which units of a bus answer.
//!
//! Only the owner of a link can tell, because it stands where the link is and has its secrets. So
//! any agent takes the question, as a query, and passes it on to the owner, which is asked as a
//! node. Nothing is registered by looking, and nothing is written to a device.
//!
//! Answers come in pages that go on by key. Nothing is held between pages: each looks again, so
//! a page is worth its time only for what it holds itself.

use fleet_state::{LinkId, Object, Revision, Value};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    Consistency, Failure, Json, command,
    fields::Fields,
    limits::{
        PAGE_BYTES_MAX, PAGE_ITEMS_MAX, SCAN_PER_SECOND_DEFAULT, SCAN_PER_SECOND_MAX,
        TIMEOUT_MS_MAX,
    },
    operation::spelled,
    query::{ReadMark, page_limit},
    reply::{self, ReplyMessage},
    suggest,
};

/// The highest address of a unit on a bus.
const UNIT_MAX: u8 = 247;
/// What an endpoint without a bus behind it is called.
const UNIT_ALONE: u8 = 255;

spelled! {
    /// How one looks along a link.
    LookVerb {
        /// What a bridge, or devices themselves, have told a broker.
        Discover = "discover",
        /// Which units of a bus answer.
        Scan = "scan",
    }
}

spelled! {
    /// Who tells of devices.
    Source {
        /// A Zigbee2MQTT bridge.
        Zigbee2Mqtt = "zigbee2mqtt",
        /// Devices that announce themselves in Home Assistant's way.
        HomeAssistant = "homeassistant",
    }
}

/// What is looked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Look {
    /// The devices that a source tells of.
    Discover {
        /// Who tells.
        source: Source,
        /// The topic below which it does, unless it is the usual one.
        base: Option<String>,
    },
    /// The units that answer.
    Scan {
        /// Which are asked.
        units: Units,
        /// How many questions a second.
        per_second: u32,
    },
}

impl Look {
    /// Its verb.
    #[must_use]
    pub fn verb(&self) -> LookVerb {
        match self {
            Self::Discover { .. } => LookVerb::Discover,
            Self::Scan { .. } => LookVerb::Scan,
        }
    }
}

/// Which units of a bus: in their order, each once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Units(Vec<u8>);

impl Units {
    /// The units.
    #[must_use]
    pub fn as_slice(&self) -> &[u8] {
        &self.0
    }
}

impl std::str::FromStr for Units {
    type Err = String;

    /// `1-10,17,255`.
    fn from_str(text: &str) -> Result<Self, String> {
        let mut units = std::collections::BTreeSet::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            match (unit(first), unit(last)) {
                (Some(first), Some(last)) if first <= last => {
                    units.extend((first..=last).filter(|unit| is_unit(*unit)));
                }
                _ => {
                    return Err(format!(
                        "\"{}\" names no units; units are 1 to {UNIT_MAX}, and {UNIT_ALONE}, as in 1-10,17",
                        part.chars().take(32).flat_map(char::escape_debug).collect::<String>()
                    ));
                }
            }
        }
        Ok(Self(units.into_iter().collect()))
    }
}

impl std::fmt::Display for Units {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let mut rest = self.0.as_slice();
        while let Some(first) = rest.first() {
            let run =
                rest.iter().zip(*first..=u8::MAX).take_while(|(unit, next)| *unit == next).count();
            let last = rest.get(run.saturating_sub(1)).unwrap_or(first);
            let comma = if rest.len() == self.0.len() { "" } else { "," };
            match first == last {
                true => write!(f, "{comma}{first}")?,
                false => write!(f, "{comma}{first}-{last}")?,
            }
            rest = rest.get(run..).unwrap_or_default();
        }
        Ok(())
    }
}

fn unit(text: &str) -> Option<u8> {
    text.parse().ok().filter(|unit| is_unit(*unit))
}

fn is_unit(unit: u8) -> bool {
    (1..=UNIT_MAX).contains(&unit) || unit == UNIT_ALONE
}

/// One page of looking along a link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookRequest {
    /// The link.
    pub link: LinkId,
    /// What is looked for.
    pub look: Look,
    /// Most items.
    pub limit: u32,
    /// Only what comes after this one.
    pub after: Option<String>,
}

/// The same as a query, which any agent takes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LookQuery {
    /// What is asked.
    pub request: LookRequest,
    /// How fresh the knowledge of who owns the link must be.
    pub consistency: Consistency,
}

/// The same as a question to the node that owns the link.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NodeLook {
    /// What is asked.
    pub request: LookRequest,
    /// How long the node may take.
    pub within_ms: u64,
    /// How long its answer may be.
    pub size_bytes_max: usize,
}

impl LookRequest {
    /// All that is looked for, from the beginning.
    #[must_use]
    pub fn new(link: LinkId, look: Look) -> Self {
        Self { link, look, limit: PAGE_ITEMS_MAX, after: None }
    }

    pub(crate) fn parse(link: LinkId, verb: LookVerb, payload: &[u8]) -> Result<Self, Failure> {
        let body = command::options_json(payload)?;
        Self::from_fields(link, verb, &Fields::of("the request", &body, known(verb))?)
    }

    fn from_fields(link: LinkId, verb: LookVerb, fields: &Fields<'_>) -> Result<Self, Failure> {
        let look = match verb {
            LookVerb::Discover => {
                let word = fields.text("source")?.ok_or_else(|| fields.missing("source"))?;
                let source = Source::from_name(word).ok_or_else(|| {
                    let known = || Source::ALL.iter().map(|source| source.as_str());
                    let like = suggest::did_you_mean(word, known());
                    let known = known().collect::<Vec<_>>().join(" or ");
                    fields.wrong("source", &format!("must be {known}{like}"))
                })?;
                Look::Discover { source, base: fields.text("base")?.map(str::to_owned) }
            }
            LookVerb::Scan => {
                let units = fields.text("units")?.ok_or_else(|| fields.missing("units"))?;
                let units = units.parse().map_err(|why: String| fields.wrong("units", &why))?;
                let rate = fields.whole_from("per_second", 1, u64::from(SCAN_PER_SECOND_MAX))?;
                let rate = rate.and_then(|rate| u32::try_from(rate).ok());
                Look::Scan { units, per_second: rate.unwrap_or(SCAN_PER_SECOND_DEFAULT) }
            }
        };
        let after = fields.text("after")?.map(str::to_owned);
        Ok(Self { link, look, limit: page_limit(fields)?, after })
    }

    fn body(&self) -> Object {
        let mut body = Object::new();
        match &self.look {
            Look::Discover { source, base } => {
                body.insert("source", source.as_str());
                if let Some(base) = base {
                    body.insert("base", base.as_str());
                }
            }
            Look::Scan { units, per_second } => {
                body.insert("units", units.to_string());
                body.insert("per_second", u64::from(*per_second));
            }
        }
        body.insert("limit", u64::from(self.limit));
        if let Some(after) = &self.after {
            body.insert("after", after.as_str());
        }
        body
    }

    /// The payload that asks for this.
    #[must_use]
    pub fn to_payload(&self) -> Vec<u8> {
        self.body().to_json().into_bytes()
    }
}

fn known(verb: LookVerb) -> &'static [&'static str] {
    match verb {
        LookVerb::Discover => &["source", "base", "limit", "after"],
        LookVerb::Scan => &["units", "per_second", "limit", "after"],
    }
}

impl NodeLook {
    pub(crate) fn parse(body: &Value) -> Result<Self, Failure> {
        let mut names = vec!["link", "look", "within_ms", "size_bytes_max"];
        names.extend(LookVerb::ALL.iter().flat_map(|verb| known(*verb)));
        let fields = Fields::of("the request", body, &names)?;
        let link = fields.required_id("link")?;
        let word = fields.text("look")?.ok_or_else(|| fields.missing("look"))?;
        let verb = LookVerb::from_name(word)
            .ok_or_else(|| fields.wrong("look", "must be discover or scan"))?;
        let bytes = u64::try_from(PAGE_BYTES_MAX).unwrap_or(u64::MAX);
        let size = fields.whole_from("size_bytes_max", 1, bytes)?.unwrap_or(bytes);
        Ok(Self {
            request: LookRequest::from_fields(link, verb, &fields)?,
            within_ms: fields.whole_from("within_ms", 1, TIMEOUT_MS_MAX)?.unwrap_or(TIMEOUT_MS_MAX),
            size_bytes_max: usize::try_from(size).unwrap_or(PAGE_BYTES_MAX),
        })
    }

    pub(crate) fn to_payload(&self) -> Vec<u8> {
        let mut body = self.request.body();
        body.insert("link", self.request.link.as_str());
        body.insert("look", self.request.look.verb().as_str());
        body.insert("within_ms", self.within_ms);
        body.insert("size_bytes_max", u64::try_from(self.size_bytes_max).unwrap_or(u64::MAX));
        body.to_json().into_bytes()
    }
}

/// A device that could be registered.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct CandidateBody {
    /// Its address on the link: what stays the same when it is renamed.
    pub address: String,
    /// What people call it.
    pub name: String,
    /// Who made it and what it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The settings that it would be registered with.
    pub settings: Json,
    /// What its operator should know, and what could not be read.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<String>,
}

/// A unit of a bus that was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitBody {
    /// Its number.
    pub unit: u8,
    /// Whether anything answered.
    pub answers: bool,
    /// Who made it, as it says itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vendor: Option<String>,
    /// What it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub product: Option<String>,
    /// Its version.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<String>,
    /// What it said instead of who it is, or why it is known not to be there.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
}

/// One page of what was found, as the owner of the link tells it.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Looked<T> {
    /// The name of the owner.
    pub node: String,
    /// What was found, in the order of its keys: addresses, or units.
    pub items: Vec<T>,
    /// What could not be read, and why; on the first page only.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub problems: Vec<String>,
    /// Where the next page begins; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

#[derive(Serialize)]
struct LookedOut<'a> {
    ok: bool,
    request_id: &'a str,
    consistency: &'static str,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
    #[serde(flatten)]
    looked: &'a Looked<Box<RawValue>>,
}

/// The answer to a query: what the owner told, and at what revision the owner was known.
#[must_use]
pub fn answer(
    request_id: &fleet_state::RequestId,
    mark: ReadMark,
    looked: &Looked<Box<RawValue>>,
) -> ReplyMessage {
    reply::message(&LookedOut {
        ok: true,
        request_id: &request_id.to_string(),
        consistency: mark.consistency.as_str(),
        revision: Revision::get(mark.revision),
        age_ms: mark.age_ms,
        looked,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn units_are_named_in_runs_and_read_back() {
        for (text, shown, count) in [
            ("1-10", "1-10", 10),
            ("17", "17", 1),
            ("3,1,2,2,9", "1-3,9", 4),
            ("1-255", "1-247,255", 248),
            ("255", "255", 1),
        ] {
            let units: Units = text.parse().unwrap();
            assert_eq!((units.to_string().as_str(), units.as_slice().len()), (shown, count));
            assert_eq!(units.to_string().parse(), Ok(units));
        }
        for bad in ["", "0", "248", "256", "3-1", "1-", "a", "1-10-20", " 1", "-1", "1,,2"] {
            assert!(bad.parse::<Units>().is_err(), "{bad:?}");
        }
    }

    #[test]
    fn a_question_says_the_same_to_the_owner() {
        let link: LinkId = "hall2.bus".parse().unwrap();
        let mut scan = LookRequest::new(
            link.clone(),
            Look::Scan { units: "1-10".parse().unwrap(), per_second: 5 },
        );
        scan.after = Some("4".to_owned());
        let source = Source::HomeAssistant;
        let discover =
            LookRequest::new(link.clone(), Look::Discover { source, base: Some("ha".to_owned()) });
        for request in [scan, discover] {
            let verb = request.look.verb();
            let read = LookRequest::parse(link.clone(), verb, &request.to_payload());
            assert_eq!(read.as_ref(), Ok(&request));
            let asked = NodeLook { request, within_ms: 3_000, size_bytes_max: 60_000 };
            let body = command::options_json(&asked.to_payload()).unwrap();
            assert_eq!(NodeLook::parse(&body), Ok(asked));
        }
    }

    #[test]
    fn what_is_asked_wrongly_is_named() {
        let link: LinkId = "bus".parse().unwrap();
        for (verb, payload, word) in [
            (LookVerb::Discover, "{}", "source"),
            (LookVerb::Discover, r#"{"source":"zigbee"}"#, "zigbee2mqtt"),
            (LookVerb::Discover, r#"{"source":"homeassistant","units":"1"}"#, "units"),
            (LookVerb::Scan, "{}", "units"),
            (LookVerb::Scan, r#"{"units":"0"}"#, "1 to 247"),
            (LookVerb::Scan, r#"{"units":"1","per_second":0}"#, "per_second"),
            (LookVerb::Scan, r#"{"units":"1","limit":0}"#, "limit"),
        ] {
            let failure = LookRequest::parse(link.clone(), verb, payload.as_bytes()).unwrap_err();
            assert!(failure.message.contains(word), "{payload}: {failure}");
        }
    }
}
