//! Answers queries from one view of the state.

use std::{collections::BTreeMap, sync::Arc};

use fleet_state::{
    DeviceId, Entity, FleetState, LinkId, NodeId, ParamKey, Record, Role, TokenId, Value,
};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{PageRequest, Query, ReadContext};
use crate::{
    Area, ErrorCode, Failure, Noun, QueryTarget, hex,
    record::{SiteBody, record_json},
    reply::{self, ReplyMessage},
};

#[derive(Serialize)]
struct ItemOut<'a, T> {
    ok: bool,
    request_id: &'a str,
    consistency: &'static str,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
    item: T,
}

#[derive(Serialize)]
struct PageOut<'a> {
    ok: bool,
    request_id: &'a str,
    consistency: &'static str,
    revision: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    age_ms: Option<u64>,
    items: Vec<Box<RawValue>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    next: Option<String>,
}

/// Answers a query from a view.
pub fn answer(
    query: &Query,
    state: &FleetState,
    context: &ReadContext<'_>,
) -> Result<ReplyMessage, Failure> {
    match &query.target {
        QueryTarget::Site => Ok(item(context, site(state, context))),
        QueryTarget::Get(entity) => {
            let record = state.record(entity).ok_or_else(|| not_found(entity))?;
            Ok(item(context, shown(&record, context)?))
        }
        QueryTarget::List { noun, area } => list(*noun, area.as_ref(), &query.page, state, context),
    }
}

fn item<T: Serialize>(context: &ReadContext<'_>, item: T) -> ReplyMessage {
    reply::message(&ItemOut {
        ok: true,
        request_id: &context.request_id.to_string(),
        consistency: context.mark.consistency.as_str(),
        revision: context.mark.revision.get(),
        age_ms: context.mark.age_ms,
        item,
    })
}

fn not_found(entity: &Entity) -> Failure {
    // The word people use, as the log's own rejections do.
    let about = Noun::from(entity);
    let noun = match about {
        Noun::Param => "parameter",
        noun @ (Noun::Link
        | Noun::Device
        | Noun::Member
        | Noun::Token
        | Noun::Watermarks
        | Noun::Invocation
        | Noun::Site) => noun.as_str(),
    };
    Failure::new(ErrorCode::NotFound, format!("{noun} {} does not exist", entity.id_text()))
        .about(about)
}

/// A record as it is shown: a device with what is known of it and not agreed on.
fn shown(record: &Record, context: &ReadContext<'_>) -> Result<Box<RawValue>, Failure> {
    let raw = raw(record)?;
    let Record::Device(device) = record else { return Ok(raw) };
    let Some(observed) = context.observed.and_then(|known| known.observed(&device.id)) else {
        return Ok(raw);
    };
    let object = raw.get().strip_suffix('}').unwrap_or(raw.get());
    let text = format!("{object},\"observed\":{}}}", Value::Map(observed).to_json());
    RawValue::from_string(text).map_err(|error| {
        Failure::new(ErrorCode::Internal, format!("a device could not be written: {error}"))
    })
}

/// A record as raw JSON.
pub(crate) fn raw(record: &Record) -> Result<Box<RawValue>, Failure> {
    record_json(record).and_then(RawValue::from_string).map_err(|error| {
        Failure::new(ErrorCode::Internal, format!("a record could not be written: {error}"))
    })
}

fn site(state: &FleetState, context: &ReadContext<'_>) -> SiteBody {
    let present = || state.members().filter(|member| member.is_live());
    SiteBody {
        site: state.site().to_string(),
        uid: state.uid().to_string(),
        site_public_key: hex::encode(state.site_public_key()),
        voters_wanted: state.voters_wanted(),
        voters: present().filter(|member| member.role == Role::Voter).count(),
        members: present().count(),
        leader: context.leader.map(|node| node.get()),
        term: context.term,
        links: state.links_len(),
        devices: state.devices_len(),
        params: state.params_len(),
        digests: digests(state),
        wall_time_ms: state.wall_time_ms(),
    }
}

fn digests(state: &FleetState) -> BTreeMap<String, String> {
    let digests = state.digests();
    let sections = digests.sections().into_iter().chain([("combined", digests.combined())]);
    sections.map(|(name, digest)| (name.to_owned(), digest.to_string())).collect()
}

fn id_text(record: &Record) -> String {
    match record {
        Record::Link(link) => link.id.to_string(),
        Record::Device(device) => device.id.to_string(),
        Record::Param(param) => param.key.to_string(),
        Record::Member(member) => member.id.to_string(),
        Record::Token(token) => token.id.to_string(),
        Record::Watermarks(marks) => marks.device.to_string(),
        Record::Invocation(invocation) => invocation.id.to_string(),
    }
}

fn list(
    noun: Noun,
    area: Option<&Area>,
    page: &PageRequest,
    state: &FleetState,
    context: &ReadContext<'_>,
) -> Result<ReplyMessage, Failure> {
    let mut builder = PageBuilder::new(area, page, context);
    match noun {
        Noun::Link => {
            let start = Start::<LinkId>::of(area, page);
            let exact = start.exact().and_then(|id| state.link(id));
            builder.fill(
                exact
                    .into_iter()
                    .chain(state.links_after(start.after()))
                    .cloned()
                    .map(Record::Link),
            )?;
        }
        Noun::Device => {
            let start = Start::<DeviceId>::of(area, page);
            let exact = start.exact().and_then(|id| state.device(id));
            builder.fill(
                exact
                    .into_iter()
                    .chain(state.devices_after(start.after()))
                    .cloned()
                    .map(Record::Device),
            )?;
        }
        Noun::Param => {
            let start = Start::<ParamKey>::of(area, page);
            let exact = start.exact().and_then(|key| state.param(key));
            builder.fill(
                exact
                    .into_iter()
                    .chain(state.params_after(start.after()))
                    .cloned()
                    .map(Record::Param),
            )?;
        }
        Noun::Member => {
            let start = Start::<NodeId>::of(None, page);
            let members = state.members_after(start.after()).filter(|member| member.is_live());
            builder.fill(members.cloned().map(Record::Member))?;
        }
        Noun::Token => {
            let start = Start::<TokenId>::of(None, page);
            builder.fill(state.tokens_after(start.after()).cloned().map(Record::Token))?;
        }
        Noun::Watermarks | Noun::Invocation => {
            return Err(Failure::malformed(format!("{noun} can't be listed; ask for device.get")));
        }
        Noun::Site => return Err(Failure::malformed("there is one site; ask for site.get")),
    }
    Ok(reply::message(&PageOut {
        ok: true,
        request_id: &context.request_id.to_string(),
        consistency: context.mark.consistency.as_str(),
        revision: context.mark.revision.get(),
        age_ms: context.mark.age_ms,
        items: builder.items,
        next: builder.next,
    }))
}

/// Where a walk in the order of ids begins: after an id, or at an area's own.
enum Start<K> {
    Beginning,
    At(K),
    After(K),
}

impl<K: std::str::FromStr + Ord> Start<K> {
    fn of(area: Option<&Area>, page: &PageRequest) -> Self {
        let area: Option<K> = area.and_then(|area| area.as_ref().parse().ok());
        let after: Option<K> = page.after.as_deref().and_then(|after| after.parse().ok());
        match (area, after) {
            (None, None) => Self::Beginning,
            (Some(area), None) => Self::At(area),
            (Some(area), Some(after)) if after < area => Self::At(area),
            (_, Some(after)) => Self::After(after),
        }
    }

    fn exact(&self) -> Option<&K> {
        match self {
            Self::At(id) => Some(id),
            Self::Beginning | Self::After(_) => None,
        }
    }

    fn after(&self) -> Option<&K> {
        match self {
            Self::Beginning => None,
            Self::At(id) | Self::After(id) => Some(id),
        }
    }
}

/// Collects items until one of the page's bounds is met.
struct PageBuilder<'a> {
    context: &'a ReadContext<'a>,
    area: Option<&'a Area>,
    page: &'a PageRequest,
    bytes_max: usize,
    bytes: usize,
    items: Vec<Box<RawValue>>,
    next: Option<String>,
}

impl<'a> PageBuilder<'a> {
    fn new(area: Option<&'a Area>, page: &'a PageRequest, context: &'a ReadContext<'a>) -> Self {
        let bytes_max = context.page_bytes_max;
        Self { context, area, page, bytes_max, bytes: 0, items: Vec::new(), next: None }
    }

    fn fill(&mut self, records: impl Iterator<Item = Record>) -> Result<(), Failure> {
        let mut last = String::new();
        for record in records {
            let id = id_text(&record);
            if let Some(area) = self.area {
                if area.is_before(&id) {
                    break;
                }
                if !area.contains(&id) {
                    continue;
                }
            }
            if !self.labelled(&record) {
                continue;
            }
            let text = shown(&record, self.context)?;
            let size = text.get().len().saturating_add(1);
            let full = self.items.len() >= usize::try_from(self.page.limit).unwrap_or(usize::MAX)
                || self.bytes.saturating_add(size) > self.bytes_max;
            // At least one item, however large: a page that cannot move would be asked for again for ever.
            if full && !self.items.is_empty() {
                self.next = Some(last);
                return Ok(());
            }
            self.bytes = self.bytes.saturating_add(size);
            self.items.push(text);
            last = id;
        }
        Ok(())
    }

    fn labelled(&self, record: &Record) -> bool {
        let labels = match record {
            Record::Link(link) => &link.spec.labels,
            Record::Device(device) => &device.spec.labels,
            Record::Param(_)
            | Record::Member(_)
            | Record::Token(_)
            | Record::Watermarks(_)
            | Record::Invocation(_) => return true,
        };
        self.page
            .labels
            .iter()
            .all(|(key, value)| labels.get(key).map(Arc::as_ref) == Some(value.as_ref()))
    }
}
