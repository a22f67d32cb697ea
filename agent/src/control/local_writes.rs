//! Local writes, as far as they are control's business: who may, what is checked, what is told.
//!
//! Taken only while no leader is known, for a device that is wired to this gateway and may be
//! written to as far as this gateway knows; and only from the socket of this machine, which the
//! door has seen to. What happens then is `device::local`'s.

use std::sync::Arc;
use std::time::Duration;

use fleet_consensus::View;
use fleet_protocol::limits::PARTITION_BYTES_MAX;
use fleet_protocol::local::{
    self, LocalStage, LocalTarget, LocalTold, LocalWriteBody, NodePartition,
};
use fleet_protocol::reply::{self, ReplyMessage};
use fleet_protocol::{ErrorCode, Failure, Noun, Options, WaitFor, event};
use fleet_state::{Device, Link, Object, Placement, RequestId, Revision};
use tokio::sync::broadcast::error::RecvError;
use tokio::time::Instant;

use crate::device::local::{ALONE_AFTER_MS, Draft, LocalOp, LocalRefusal, LocalWrite};
use crate::device::{device_setup, link_setup};

use super::desk::Desk;
use super::events::wall_time_ms;
use super::judge::leaderless_ms;
use super::membership::Membership;
use super::nats_door::NatsDoor;

/// An answer leaves so long before the deadline.
const ANSWER_BEFORE: Duration = Duration::from_millis(50);

/// A local write as it came.
#[derive(Clone, Copy, Debug)]
pub struct LocalCommand<'a> {
    /// What is commanded.
    pub target: &'a LocalTarget,
    /// Names and values of its headers.
    pub headers: &'a [(&'a str, &'a str)],
    /// Its bytes.
    pub payload: &'a [u8],
}

/// Takes a local write, and answers it.
pub(super) async fn take(desk: &Desk, command: LocalCommand<'_>) -> ReplyMessage {
    let at = Instant::now();
    let options = match Options::parse(command.headers.iter().copied()) {
        Ok(options) => options,
        Err(failure) => return refused(desk, None, &failure),
    };
    let request_id = options.request_id.clone().unwrap_or_else(|| desk.next_request_id());
    match write(desk, command, &options, &request_id).await {
        Ok(write) => {
            let deadline = at + Duration::from_millis(options.timeout_ms());
            let (stage, detail) = reached(desk, &write, options.wait(), deadline).await;
            local::done(&request_id, write.number, stage, &detail)
        }
        Err(failure) => refused(desk, Some(&request_id), &failure),
    }
}

fn refused(desk: &Desk, request_id: Option<&RequestId>, failure: &Failure) -> ReplyMessage {
    desk.metrics.refuse("local", failure.code.as_str());
    reply::failed(request_id, failure)
}

async fn write(
    desk: &Desk,
    command: LocalCommand<'_>,
    options: &Options,
    request_id: &RequestId,
) -> Result<Arc<LocalWrite>, Failure> {
    local::check_options(options)?;
    let values = local::values(command.target, command.payload, request_id)?;
    let _permit = desk.lanes.commands.admit().ok_or_else(|| {
        Failure::new(ErrorCode::Busy, "this agent is working on as many commands as it may")
    })?;
    let view = desk.handle.view();
    check_alone(desk, &view)?;
    let (device, link) = wired(desk, &view, command.target)?;
    if let Some(why) = device.blocked() {
        let what = format!("device {} {why}, as far as this gateway knows", device.id);
        return Err(Failure::new(ErrorCode::Blocked, what));
    }
    if link.paused {
        let what = format!("link {} is paused, as far as this gateway knows", link.id);
        return Err(Failure::new(ErrorCode::Blocked, what));
    }
    let op = match command.target {
        LocalTarget::Update(_) => {
            check_values(desk, &device, &link, &values)?;
            LocalOp::Update
        }
        LocalTarget::Stop(_) => {
            let action = device.spec.policy.stop_action.clone().ok_or_else(|| {
                let what = format!("the policy of device {} names no stop_action", device.id);
                Failure::new(ErrorCode::Unsupported, what)
                    .with_hint("Name one when the device is registered: {\"stop_action\":…}.")
            })?;
            LocalOp::Stop { action }
        }
    };
    let known =
        |property: &str| device.wishes.get(property).map_or(Revision::NONE, |wish| wish.revision);
    let draft = Draft {
        device: device.id.clone(),
        op,
        values: values
            .iter()
            .map(|(property, value)| (Arc::clone(property), value.clone(), known(property)))
            .collect(),
        actor: options.actor.as_deref().map(Arc::from),
        request_id: request_id.clone(),
        wall_ms: wall_time_ms(),
    };
    desk.local.write(draft).await.map_err(|refusal| {
        let code = match &refusal {
            LocalRefusal::RequestIdReused => ErrorCode::RequestIdReused,
            LocalRefusal::TooMany { .. } => ErrorCode::LimitReached,
            LocalRefusal::Disk { .. } => ErrorCode::Internal,
            LocalRefusal::Stands => ErrorCode::Blocked,
            LocalRefusal::Stopping => ErrorCode::Stopping,
        };
        Failure::new(code, refusal.to_string())
    })
}

/// Refuses while the normal way works, or may work in a moment.
fn check_alone(desk: &Desk, view: &View) -> Result<(), Failure> {
    if Membership::of(view) != Membership::Member {
        let what = "this gateway was removed from the site, or is being removed";
        return Err(Failure::new(ErrorCode::Denied, what));
    }
    if let Some(leader) = view.standing.leader {
        let what =
            format!("the site has a leader, node {leader}, so a command goes the normal way");
        return Err(Failure::new(ErrorCode::HasLeader, what));
    }
    let alone_ms = leaderless_ms(desk);
    if alone_ms < ALONE_AFTER_MS {
        let what = format!(
            "no leader is known for {alone_ms} ms, and one may be elected: local writes are taken after {ALONE_AFTER_MS} ms"
        );
        return Err(Failure::new(ErrorCode::NoLeader, what)
            .with_hint("Send it again a little later, or without --local."));
    }
    Ok(())
}

/// The device and its link, when no other node may own that.
fn wired(
    desk: &Desk,
    view: &View,
    target: &LocalTarget,
) -> Result<(Arc<Device>, Arc<Link>), Failure> {
    let id = target.device();
    let device = view.state.device(id).cloned().ok_or_else(|| {
        let what = format!("this gateway knows no device {id}");
        Failure::new(ErrorCode::NotFound, what).about(Noun::Device)
    })?;
    let link = device.spec.link.as_ref().and_then(|link| view.state.link(link)).cloned();
    let link = link.ok_or_else(|| {
        Failure::new(ErrorCode::LinkNotFound, format!("device {id} is on no link"))
    })?;
    let name = &desk.facts.name;
    let denied = |what: String| Err(Failure::new(ErrorCode::Denied, what));
    match &link.spec.placement {
        Placement::On(wired) if wired != name => denied(format!(
            "link {} of device {id} is wired to {wired}, and this is {name}; do it there",
            link.id
        )),
        Placement::Any { .. } => denied(format!(
            "another node may own link {} of device {id}, and may do so now; only devices of a link that is wired to this gateway can be written locally",
            link.id
        )),
        Placement::On(_) if link.owner.is_some_and(|owner| owner != desk.facts.id) => denied(
            format!("another node owned link {} when this gateway last heard of it", link.id),
        ),
        Placement::On(_) => Ok((device, link)),
    }
}

/// Refuses what could never be desired of the device.
fn check_values(desk: &Desk, device: &Device, link: &Link, values: &Object) -> Result<(), Failure> {
    if let Some(model) = &device.spec.model {
        let wanted = device.desired().merge_patch(values);
        model.check(&wanted).map_err(|violation| {
            Failure::new(ErrorCode::Schema, format!("{violation}; see the device's model"))
        })?;
    }
    let profile = desk.connectors.get(&link.spec.connector).and_then(|connector| {
        connector.check_device(
            &link_setup(&link.id, &link.spec),
            &device_setup(&device.id, &device.spec),
        )
    });
    let profile = profile.map_err(|refusal| Failure::malformed(refusal.to_string()))?;
    let writable = |property: &str| profile.access(property).is_some_and(|a| a.is_writable());
    match values.iter().find(|(property, _)| !writable(property)) {
        Some((property, _)) => {
            let what = format!("{property:?} of device {} can't be written", device.id);
            Err(Failure::malformed(what))
        }
        None => Ok(()),
    }
}

/// Waits until a write got as far as is wanted, and tells how far it got.
async fn reached(
    desk: &Desk,
    write: &LocalWrite,
    wait: WaitFor,
    deadline: Instant,
) -> (LocalStage, String) {
    let number = write.number;
    let mut books = desk.local.watch();
    let met = books
        .wait_for(|book| book.get(number).is_none_or(|write| write.stage.meets(wait).is_some()));
    let until = deadline.checked_sub(ANSWER_BEFORE).unwrap_or(deadline);
    // Both ends lead to the same look.
    let _in_time = tokio::time::timeout_at(until, met).await.is_ok();
    let book = desk.local.book();
    let write = book.get(number).map_or(write, Arc::as_ref);
    (write.stage, write.detail.to_string())
}

/// What this node did while no majority could be reached.
pub(super) fn report(desk: &Desk) -> NodePartition {
    let book = desk.local.book();
    let leaderless_ms = desk.handle.view().standing.leader.is_none().then(|| leaderless_ms(desk));
    let mut writes: Vec<LocalWriteBody> = Vec::new();
    let (mut size_bytes, mut more) = (0, false);
    for write in book.newest_first() {
        let body = write.body();
        size_bytes += size_of_body(&body);
        if size_bytes > PARTITION_BYTES_MAX {
            more = true;
            break;
        }
        writes.push(body);
    }
    NodePartition {
        node: desk.facts.id.get(),
        name: desk.facts.name.to_string(),
        leaderless_ms,
        open: book.open().count(),
        writes,
        more,
        trouble: book.trouble().map(str::to_owned),
    }
}

fn size_of_body(body: &LocalWriteBody) -> usize {
    // Text and numbers only: writing them can't fail.
    serde_json::to_vec(body).map_or(0, |bytes| bytes.len())
}

/// What an operator should know of it.
pub(super) fn troubles(desk: &Desk) -> Vec<String> {
    let book = desk.local.book();
    let open = book.open().count();
    let waits = (open > 0)
        .then(|| format!("{open} local writes are not merged yet (flotilla partition report)"));
    waits.into_iter().chain(book.trouble().map(str::to_owned)).collect()
}

/// Tells every local write that came or got further. While NATS is away it waits there.
pub(super) async fn tell(desk: Arc<Desk>, nats: Arc<NatsDoor>) {
    let mut told = desk.local.follow();
    loop {
        let write = match told.recv().await {
            Ok(write) => write,
            Err(RecvError::Lagged(missed)) => {
                tracing::debug!(missed, "events of local writes were left out");
                continue;
            }
            // The keeper has ended; the process is ending.
            Err(RecvError::Closed) => return std::future::pending().await,
        };
        let subject = desk.subjects.local_event(&write.device);
        let told = LocalTold { node: desk.facts.id.get(), write: write.body() };
        let message = ReplyMessage { headers: Vec::new(), payload: event::local_write(&told) };
        nats.publish(subject.into(), message).await;
        desk.metrics.events.inc();
    }
}
