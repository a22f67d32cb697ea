//! Changes since a revision: first what is new, then what becomes new.
//!
//! An agent does not keep every change. It keeps, per thing, the newest record or the mark of its
//! deletion, ordered by revision; a client that was away hears the newest state of each thing that
//! changed, once. Marks of deletions are bounded: below the floor the answer is `compacted`, and the
//! client reads everything again.
//!
//! A reply is a [`ChangesPage`]. Several changes may share one revision (a batch), so a page ends
//! with a cursor of revision and thing; the next page continues there. With `"stream": true` the
//! agent keeps sending pages as changes are applied, and an empty one each second, until the
//! request's timeout; then a page of kind `end`. Pages of one stream are numbered from 1: a client
//! that misses a number, or hears nothing for a few seconds, asks again from its cursor and has lost
//! nothing. Nothing of a stream outlives its agent.

use fleet_state::{Change, Entity, FleetState, RequestId, Revision};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{
    ChangesTarget, ErrorCode, Failure, Json, Noun, command,
    fields::Fields,
    operation::spelled,
    query::page_limit,
    record::record_json,
    reply::{self, ReplyMessage},
    target::entity,
};

spelled! {
    /// What a page of changes is.
    PageKind {
        /// Changes, or none when nothing happened.
        Page = "page",
        /// The last page of a stream.
        End = "end",
    }
}

/// A question for changes, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ChangesRequest {
    /// Which changes.
    pub target: ChangesTarget,
    /// Continue after this thing within the revision asked for.
    pub after: Option<Entity>,
    /// Most changes on a page.
    pub limit: u32,
    /// Keep sending.
    pub stream: bool,
}

/// A point in the order of changes: everything up to here was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cursor {
    /// This revision.
    pub revision: Revision,
    /// And within it this thing; `None` when all of the revision was told.
    pub after: Option<Entity>,
}

/// A page before it is written.
#[derive(Debug)]
pub struct BuiltPage {
    changes: Vec<Box<RawValue>>,
    /// Where the next page begins.
    pub next: Cursor,
    /// Whether there is more already.
    pub more: bool,
}

impl BuiltPage {
    /// Whether there is nothing on it.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

/// One change, as events and pages show it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangeBody {
    /// What changed: `device`, `param`, `link`, `member`, `token`.
    pub noun: String,
    /// Its id.
    pub id: String,
    /// The revision of the change.
    pub revision: u64,
    /// The revision the thing had before; absent when it is new or when it is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub previous: Option<u64>,
    /// Whether it is gone.
    pub deleted: bool,
    /// What it is now; absent when it is gone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub record: Option<Json>,
}

/// A page of changes, as a client reads it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChangesPage {
    /// `page` or `end`.
    pub kind: String,
    /// Number of the page in its stream, from 1.
    pub sequence: u64,
    /// The changes, in the order of their revisions.
    pub changes: Vec<ChangeBody>,
    /// Ask for changes since this revision next.
    pub revision: u64,
    /// And after this thing within it, as `<noun>.<id>`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// Whether there is more already.
    pub more: bool,
}

#[derive(Serialize)]
struct PageOut<'a> {
    ok: bool,
    request_id: &'a str,
    kind: &'static str,
    sequence: u64,
    changes: &'a [Box<RawValue>],
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<String>,
    more: bool,
}

#[derive(Serialize)]
struct ChangeOut<'a> {
    noun: &'static str,
    id: &'a str,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    previous: Option<u64>,
    deleted: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    record: Option<&'a RawValue>,
}

impl ChangesRequest {
    pub(crate) fn parse(target: ChangesTarget, payload: &[u8]) -> Result<Self, Failure> {
        let body = command::options_json(payload)?;
        let fields = Fields::of("the request", &body, &["after", "limit", "stream"])?;
        let after = fields.text("after")?.map(parse_after).transpose();
        let after = after.map_err(|why| fields.wrong("after", &why))?;
        Ok(Self { target, after, limit: page_limit(&fields)?, stream: fields.flag("stream")? })
    }

    /// The payload that asks for this.
    #[must_use]
    pub fn to_payload(&self) -> Vec<u8> {
        let mut body = fleet_state::Object::new();
        body.insert("limit", u64::from(self.limit));
        body.insert("stream", self.stream);
        if let Some(after) = &self.after {
            body.insert("after", after_text(after));
        }
        fleet_state::Value::Map(body).to_json().into_bytes()
    }

    /// Where the first page begins.
    #[must_use]
    pub fn cursor(&self) -> Cursor {
        Cursor { revision: self.target.since, after: self.after.clone() }
    }

    fn wants(&self, thing: &Entity) -> bool {
        let noun = self.target.noun.is_none_or(|noun| noun == Noun::from(thing));
        noun && self
            .target
            .area
            .as_ref()
            .is_none_or(|area| area.contains(&crate::target::id_text(thing)))
    }
}

/// Reads `<noun>.<id>`.
pub fn parse_after(text: &str) -> Result<Entity, String> {
    let (noun, id) = text.split_once('.').unwrap_or((text, ""));
    let noun =
        Noun::from_name(noun).ok_or_else(|| "must be <noun>.<id>, as a page gave it".to_owned())?;
    entity(noun, id)
}

fn after_text(thing: &Entity) -> String {
    format!("{}.{}", Noun::from(thing), crate::target::id_text(thing))
}

/// Checks that the site has come to the revision that is asked from.
///
/// One that it never reached comes from another site of this name, or from before a restore. Waiting for it
/// would keep back every change until then.
pub fn check_since(cursor: &Cursor, newest: Revision) -> Result<(), Failure> {
    if cursor.revision <= newest {
        return Ok(());
    }
    Err(Failure::new(
        ErrorCode::RevisionAhead,
        format!(
            "the site is at revision {newest}; asked for were changes since {}",
            cursor.revision
        ),
    ))
}

/// The page of changes that follows a cursor, from one view of the state.
pub fn page(
    request: &ChangesRequest,
    cursor: &Cursor,
    state: &FleetState,
    page_bytes_max: usize,
) -> Result<BuiltPage, Failure> {
    // A cursor inside a revision needs that revision's changes again.
    let since = match cursor.after {
        Some(_) => Revision::new(cursor.revision.get().saturating_sub(1)),
        None => cursor.revision,
    };
    let told = (cursor.revision, cursor.after.as_ref());
    let changes = state.changes_since(since).map_err(|compacted| {
        Failure::new(
            ErrorCode::Compacted,
            format!(
                "changes are kept since revision {}; asked for was {}",
                compacted.floor.get(),
                since.get()
            ),
        )
    })?;
    let mut page = BuiltPage { changes: Vec::new(), next: cursor.clone(), more: false };
    let mut bytes = 0usize;
    for (revision, change) in changes {
        if (revision, Some(&change.entity)) <= told && cursor.after.is_some()
            || !request.wants(&change.entity)
        {
            continue;
        }
        let text = change_json(revision, &change)?;
        let size = text.get().len().saturating_add(1);
        let full = page.changes.len() >= usize::try_from(request.limit).unwrap_or(usize::MAX)
            || bytes.saturating_add(size) > page_bytes_max;
        if full && !page.changes.is_empty() {
            page.more = true;
            return Ok(page);
        }
        bytes = bytes.saturating_add(size);
        page.changes.push(text);
        page.next = Cursor { revision, after: Some(change.entity) };
    }
    // All was told: also what the filter left out, so the cursor moves on with the log.
    page.next = Cursor { revision: state.last_applied().max(cursor.revision), after: None };
    Ok(page)
}

/// Writes a page.
#[must_use]
pub fn page_message(
    request_id: &RequestId,
    kind: PageKind,
    sequence: u64,
    page: &BuiltPage,
) -> ReplyMessage {
    reply::message(&PageOut {
        ok: true,
        request_id: &request_id.to_string(),
        kind: kind.as_str(),
        sequence,
        changes: &page.changes,
        revision: page.next.revision.get(),
        after: page.next.after.as_ref().map(after_text),
        more: page.more,
    })
}

/// A change as raw JSON.
pub(crate) fn change_json(revision: Revision, change: &Change) -> Result<Box<RawValue>, Failure> {
    let internal = |error: serde_json::Error| {
        Failure::new(ErrorCode::Internal, format!("a change could not be written: {error}"))
    };
    let record = change.record.as_ref().map(record_json).transpose().map_err(internal)?;
    let record = record.map(RawValue::from_string).transpose().map_err(internal)?;
    let out = ChangeOut {
        noun: Noun::from(&change.entity).as_str(),
        id: &crate::target::id_text(&change.entity),
        revision: revision.get(),
        previous: change.previous.map(Revision::get),
        deleted: record.is_none(),
        record: record.as_deref(),
    };
    serde_json::value::to_raw_value(&out).map_err(internal)
}
