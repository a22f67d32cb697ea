//! Answers queries from one view of the state.

use std::{collections::BTreeMap, sync::Arc};

use fleet_state::{Device, Entity, FleetState, Record, Role};
use serde::Serialize;
use serde_json::value::RawValue;

use super::{
    PageRequest, Query, ReadContext, commands,
    page::{PageBuilder, Start},
    told,
};
use crate::{
    Area, ErrorCode, Failure, Noun, QueryTarget, hex,
    record::{DeviceBody, LinkBody, SiteBody, record_json},
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
            Ok(item(context, shown(&record, state, context)?))
        }
        QueryTarget::Command(id) => Ok(item(context, commands::one(id, state)?)),
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
        | Noun::Command
        | Noun::Site) => noun.as_str(),
    };
    Failure::new(ErrorCode::NotFound, format!("{noun} {} does not exist", entity.id_text()))
        .about(about)
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
        feature_level: state.feature_level(),
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

fn list(
    noun: Noun,
    area: Option<&Area>,
    page: &PageRequest,
    state: &FleetState,
    context: &ReadContext<'_>,
) -> Result<ReplyMessage, Failure> {
    let mut builder = PageBuilder::new(area, page, context.page_bytes_max);
    let show = |record: &Record| shown(record, state, context);
    match noun {
        Noun::Link => {
            let start = Start::of(area, page);
            let links = start.walk(|id| state.link(id), |after| state.links_after(after));
            builder.fill(links.cloned().map(Record::Link), show)?;
        }
        Noun::Device => {
            let start = Start::of(area, page);
            let devices = start.walk(|id| state.device(id), |after| state.devices_after(after));
            let drifted = |device: &&Arc<Device>| !page.drift || context.drifts(device);
            builder.fill(devices.filter(drifted).cloned().map(Record::Device), show)?;
        }
        Noun::Param => {
            let start = Start::of(area, page);
            let params = start.walk(|key| state.param(key), |after| state.params_after(after));
            builder.fill(params.cloned().map(Record::Param), show)?;
        }
        Noun::Member => {
            let start = Start::of(None, page);
            let members = start.walk(|_| None, |after| state.members_after(after));
            let live = members.filter(|member| member.is_live());
            builder.fill(live.cloned().map(Record::Member), show)?;
        }
        Noun::Token => {
            let start = Start::of(None, page);
            let tokens = start.walk(|_| None, |after| state.tokens_after(after));
            builder.fill(tokens.cloned().map(Record::Token), show)?;
        }
        Noun::Command => commands::fill(&mut builder, area, page, state)?,
        Noun::Watermarks | Noun::Invocation => {
            return Err(Failure::malformed(format!("{noun} can't be listed; ask for device.get")));
        }
        Noun::Site => return Err(Failure::malformed("there is one site; ask for site.get")),
    }
    let (items, next) = builder.finish();
    Ok(reply::message(&PageOut {
        ok: true,
        request_id: &context.request_id.to_string(),
        consistency: context.mark.consistency.as_str(),
        revision: context.mark.revision.get(),
        age_ms: context.mark.age_ms,
        items,
        next,
    }))
}

/// A record as a query shows it: with what the state and the agent know beside it.
fn shown(
    record: &Record,
    state: &FleetState,
    context: &ReadContext<'_>,
) -> Result<Box<RawValue>, Failure> {
    match record {
        Record::Device(device) => {
            let mut body = DeviceBody::within(device, state);
            let observed = told::of_device(device, state, context);
            body.observed = observed.map(crate::Json::from);
            raw(&body)
        }
        Record::Link(link) => {
            let mut body = LinkBody::from(Arc::as_ref(link));
            body.observed = told::of_link(link, state, context).map(crate::Json::from);
            raw(&body)
        }
        Record::Param(_)
        | Record::Member(_)
        | Record::Token(_)
        | Record::Watermarks(_)
        | Record::Invocation(_) => {
            record_json(record).and_then(RawValue::from_string).map_err(|error| unwritable(&error))
        }
    }
}

/// A body as raw JSON.
pub(super) fn raw<T: Serialize>(body: &T) -> Result<Box<RawValue>, Failure> {
    serde_json::value::to_raw_value(body).map_err(|error| unwritable(&error))
}

fn unwritable(error: &serde_json::Error) -> Failure {
    Failure::new(ErrorCode::Internal, format!("a record could not be written: {error}"))
}
