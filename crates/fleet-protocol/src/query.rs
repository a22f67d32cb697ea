//! Queries: reading links, devices, parameters, members, tokens and the site.
//!
//! A list comes in pages, in the order of ids. A page continues after the last id of the one before
//! (`after`), so nothing is held for it on the agent and any agent can give the next one. Each page
//! tells the revision it was read at; pages of one list may have different ones, and a client that
//! wants a picture of one moment reads again from where the first page's revision left off, with
//! `changes`.
//!
//! A page ends at its item limit or at the number of bytes that fit in one message, whichever is
//! first; a client looks at `next`, never at the number of items.

mod commands;
mod page;
mod select;
mod told;

use std::{collections::BTreeMap, fmt::Debug, sync::Arc};

use fleet_state::{Device, DeviceId, LinkId, NodeId, RequestId, Revision};
use serde::{Deserialize, Serialize};

pub use select::answer;
pub use told::{SILENT_MS_MAX, Told, doubt_reported, why_unowned};

use crate::{
    Consistency, ErrorCode, Failure, Noun, QueryTarget, command,
    fields::Fields,
    limits::{FILTER_LABELS_MAX, PAGE_ITEMS_DEFAULT, PAGE_ITEMS_MAX},
};

/// A query, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Query {
    /// What is asked for.
    pub target: QueryTarget,
    /// How fresh the answer must be.
    pub consistency: Consistency,
    /// Which part of a list.
    pub page: PageRequest,
}

/// Which part of a list is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PageRequest {
    /// Most items.
    pub limit: u32,
    /// Only ids after this one.
    pub after: Option<String>,
    /// Only things with all these labels (links and devices).
    pub labels: BTreeMap<Arc<str>, Arc<str>>,
    /// Only what is known not to be what it should be (devices).
    pub drift: bool,
}

impl Default for PageRequest {
    fn default() -> Self {
        Self { limit: PAGE_ITEMS_DEFAULT, after: None, labels: BTreeMap::new(), drift: false }
    }
}

/// At what point of the log an answer was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReadMark {
    /// How fresh the read was.
    pub consistency: Consistency,
    /// Last entry it saw.
    pub revision: Revision,
    /// For a stale read: how long ago this node was last known to be up to date.
    pub age_ms: Option<u64>,
}

/// What an agent adds from outside of the replicated state.
#[derive(Debug, Clone, Copy)]
pub struct ReadContext<'a> {
    /// The request that is answered.
    pub request_id: &'a RequestId,
    /// At what point.
    pub mark: ReadMark,
    /// The leader this node knows.
    pub leader: Option<NodeId>,
    /// This node's term.
    pub term: u64,
    /// Most bytes of items on a page; see [`crate::limits::PAGE_BYTES_MAX`].
    pub page_bytes_max: usize,
    /// What this node knows of devices beside the replicated state.
    pub observed: Option<&'a dyn ObservedDevices>,
}

impl ReadContext<'_> {
    /// Whether a device is known not to be what it should be.
    fn drifts(&self, device: &Device) -> bool {
        let told = self.observed.and_then(|known| known.observed(&device.id));
        told.is_some_and(|told| {
            let is_of_its_link = told.link.is_none() || told.link == device.spec.link;
            is_of_its_link && told.body.get("drift").is_some()
        })
    }
}

/// What is known of devices and not agreed on: what they report, and how they stand.
pub trait ObservedDevices: Debug + Sync {
    /// What is known of a device; `None` when nothing is. A member `drift` is there when the device is
    /// not what it should be.
    fn observed(&self, device: &DeviceId) -> Option<Told>;

    /// What is known of a link: `state`, `epoch`, and why it is not connected. `None` when nothing is.
    fn observed_link(&self, link: &LinkId) -> Option<Told>;

    /// For how long a node has told nothing of what it observes; it tells itself all the time.
    fn silent_ms(&self, node: NodeId) -> u64;
}

/// One item, as a client reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Item<T> {
    /// How fresh: `linearizable` or `stale`.
    pub consistency: String,
    /// Last entry the answer saw.
    pub revision: u64,
    /// For a stale read: how long ago the node was last known to be up to date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// The thing.
    pub item: T,
}

/// One page of a list, as a client reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Page<T> {
    /// How fresh: `linearizable` or `stale`.
    pub consistency: String,
    /// Last entry the page saw.
    pub revision: u64,
    /// For a stale read: how long ago the node was last known to be up to date.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub age_ms: Option<u64>,
    /// The things, in the order of their ids.
    pub items: Vec<T>,
    /// Where the next page begins; absent on the last one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

impl Query {
    pub(crate) fn parse(
        target: QueryTarget,
        consistency: Consistency,
        payload: &[u8],
    ) -> Result<Self, Failure> {
        let body = command::options_json(payload)?;
        let page = match &target {
            QueryTarget::Site | QueryTarget::Get(_) | QueryTarget::Command(_) => {
                Fields::of("the request", &body, &[])?;
                PageRequest::default()
            }
            QueryTarget::List { noun, .. } => PageRequest::parse(*noun, &body)?,
        };
        Ok(Self { target, consistency, page })
    }
}

/// A page goes on after an id; of commands, below a revision.
fn check_after(noun: Noun, after: &str) -> Result<(), String> {
    if noun == Noun::Command {
        let revision = after.parse::<u64>().map(drop);
        return revision.map_err(|_| "must be a revision, as a page gave it".to_owned());
    }
    crate::target::entity(noun, after).map(drop)
}

impl PageRequest {
    fn parse(noun: Noun, body: &fleet_state::Value) -> Result<Self, Failure> {
        let known: &[&str] = match noun {
            Noun::Device => &["limit", "after", "labels", "drift"],
            Noun::Link => &["limit", "after", "labels"],
            Noun::Param
            | Noun::Member
            | Noun::Token
            | Noun::Watermarks
            | Noun::Invocation
            | Noun::Command
            | Noun::Site => &["limit", "after"],
        };
        let fields = Fields::of("the request", body, known)?;
        let after = fields.text("after")?;
        if let Some(after) = after {
            check_after(noun, after).map_err(|why| fields.wrong("after", &why))?;
        }
        let labels = fields.texts("labels")?;
        if labels.len() > FILTER_LABELS_MAX {
            let wrong = fields.wrong(
                "labels",
                &format!("{} are named; at most {FILTER_LABELS_MAX} can be", labels.len()),
            );
            return Err(Failure { code: ErrorCode::TooLarge, ..wrong });
        }
        Ok(Self {
            limit: page_limit(&fields)?,
            after: after.map(str::to_owned),
            labels,
            drift: fields.flag("drift")?,
        })
    }

    /// The payload that asks for this.
    #[must_use]
    pub fn to_payload(&self) -> Vec<u8> {
        let mut body = fleet_state::Object::new();
        body.insert("limit", u64::from(self.limit));
        if let Some(after) = &self.after {
            body.insert("after", after.as_str());
        }
        if self.drift {
            body.insert("drift", true);
        }
        if !self.labels.is_empty() {
            let mut labels = fleet_state::Object::new();
            for (key, value) in &self.labels {
                labels.insert(key.clone(), value.as_ref());
            }
            body.insert("labels", labels);
        }
        fleet_state::Value::Map(body).to_json().into_bytes()
    }
}

/// The `limit` field of a page, within its bounds.
pub(crate) fn page_limit(fields: &Fields<'_>) -> Result<u32, Failure> {
    let limit = fields.whole_from("limit", 1, u64::from(PAGE_ITEMS_MAX))?;
    Ok(limit.and_then(|limit| u32::try_from(limit).ok()).unwrap_or(PAGE_ITEMS_DEFAULT))
}
