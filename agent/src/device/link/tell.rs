//! What is told: stages to the log, in coalesced entries, and what is observed to the table.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleet_state::{
    AgentCommand, DeviceId, Object, Outcome, Revision, StageFailure, StageItem, Value, limits,
};
use tokio::time::Instant;

use super::LinkTask;
use super::slot::Slot;
use super::work::Work;
use crate::consensus::Submitted;
use crate::device::connector::{Availability, Quality};
use crate::device::observed::{BODY_BYTES_MAX, Observed};
use crate::device::plan::{Plan, Trouble, TroubleCode};

/// How long the log may take for an entry of stages.
const STAGES_WITHIN: Duration = Duration::from_secs(3);
/// Pause after stages that the log didn't take.
const STAGES_PAUSE_MS: u64 = 250;
/// Times are shown in steps of this, so that an unchanged device is not told all the time.
const HEARD_STEP_MS: u64 = 1_000;

/// Wall time for display; 0 on a clock before 1970.
pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}

/// As much of a text as the log takes, on one line.
pub(super) fn short(text: &str) -> Arc<str> {
    let mut short = String::new();
    for c in text.chars().map(|c| if c.is_control() { ' ' } else { c }) {
        if short.len() + c.len_utf8() > limits::DETAIL_BYTES_MAX {
            break;
        }
        short.push(c);
    }
    Arc::from(short)
}

/// Shows on the devices of a link that is not connected why that is so.
pub(super) fn problem(task: &mut LinkTask, problem: &str) {
    let view = task.parts.handle.view();
    let devices: Vec<DeviceId> =
        view.state.devices_of(&task.id).map(|device| device.id.clone()).collect();
    for device in devices {
        let known = task.parts.observed.get(&device);
        let mut body = known.map_or_else(Object::new, |known| known.body.as_ref().clone());
        body.insert("availability", Availability::Unknown.as_str());
        body.insert("problem", short(problem).as_ref());
        show(task, &device, Arc::new(body));
    }
}

fn show(task: &mut LinkTask, device: &DeviceId, body: Arc<Object>) {
    let sequence = task.next_sequence();
    let observed = Observed { node: task.parts.node, epoch: task.epoch, sequence, body };
    task.parts.observed.put_own(device.clone(), observed);
}

impl Work<'_> {
    /// Notes how far the wishes of a device got, if that is news.
    pub(super) fn note_stages(&mut self, id: &DeviceId, plan: &Plan) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let trouble = plan.trouble.clone().filter(is_told);
        let known = slot.orders.marks;
        let news = plan.marks.max(known) != known && slot.told.0 != plan.marks;
        if !news && slot.told.1 == trouble {
            return;
        }
        slot.told = (plan.marks, trouble.clone());
        let item = StageItem {
            device: id.clone(),
            sent: plan.marks.sent,
            acknowledged: plan.marks.acknowledged,
            verified: plan.marks.verified,
            failure: trouble.map(|trouble| StageFailure {
                revision: trouble.revision,
                code: Arc::from(trouble.code.as_str()),
                message: short(&trouble.message),
            }),
        };
        self.to_tell.insert(id.clone(), item);
    }

    /// Tells what was noted, in one entry at a time: what comes meanwhile goes with the next.
    pub(super) fn tell_stages(&mut self, now_ms: u64) {
        if self.telling || self.to_tell.is_empty() || now_ms < self.tell_next_ms {
            return;
        }
        let mut items = Vec::new();
        while items.len() < limits::REPORT_ITEMS_MAX
            && let Some((_, item)) = self.to_tell.pop_first()
        {
            items.push(item);
        }
        let (link, epoch) = (self.link.id.clone(), self.task.epoch);
        let command = AgentCommand::Stages { link, epoch, items: items.clone() };
        self.telling = true;
        self.calls.tell(command, items, Instant::now() + STAGES_WITHIN);
    }

    pub(super) fn stages_told(&mut self, items: Vec<StageItem>, end: Submitted, now_ms: u64) {
        self.telling = false;
        match end {
            Submitted::Decided(answer) => {
                if let Outcome::Rejected(rejection) = &answer.outcome {
                    tracing::warn!(link = %self.link.id, code = rejection.code.as_str(), "stages were refused");
                }
            }
            Submitted::Busy { .. }
            | Submitted::NoLeader
            | Submitted::Unknown
            | Submitted::Stopping => {
                // Marks only rise, so telling them twice does no harm; newer ones stay.
                for item in items {
                    self.to_tell.entry(item.device.clone()).or_insert(item);
                }
                self.tell_next_ms = now_ms.saturating_add(STAGES_PAUSE_MS);
            }
        }
    }

    /// Shows how a device stands, if that is news.
    pub(super) fn show(&mut self, id: &DeviceId, plan: Option<&Plan>) {
        let offset_ms = wall_ms().saturating_sub(self.task.now_ms());
        let offset_ms = *self.wall_offset_ms.get_or_insert(offset_ms);
        let Some(slot) = self.slots.get_mut(id) else { return };
        let mut body = body(slot, plan, offset_ms);
        if Value::Map(body.clone()).to_json().len() > BODY_BYTES_MAX {
            body.remove("reported");
            body.insert("problem", "what the device reports is too long to be shown");
        }
        if slot.shown.as_deref() == Some(&body) {
            return;
        }
        let drifting = |body: &Object| i64::from(body.get("drift").is_some());
        let before = slot.shown.as_deref().map_or(0, drifting);
        self.task.parts.metrics.drifting.inc_by(drifting(&body) - before);
        let body = Arc::new(body);
        slot.shown = Some(Arc::clone(&body));
        show(self.task, id, body);
    }
}

/// Troubles that speak for a wish for good; one that may end by itself is only shown.
fn is_told(trouble: &Trouble) -> bool {
    match trouble.code {
        TroubleCode::Refused
        | TroubleCode::NotVerified
        | TroubleCode::NotEnforced
        | TroubleCode::Discarded
        | TroubleCode::HeldOnReturn
        | TroubleCode::Unknown => true,
        TroubleCode::Unreachable => false,
    }
}

fn body(slot: &Slot, plan: Option<&Plan>, offset_ms: u64) -> Object {
    let mut body = Object::new();
    let profile = &slot.orders.profile;
    if let Some(refusal) = &slot.refusal {
        body.insert("problem", refusal.to_string());
        return body;
    }
    let (mut reported, mut quality, mut heard_ms) = (Object::new(), Object::new(), 0);
    for (property, value, said) in slot.course.reported() {
        reported.insert(Arc::clone(property), value.clone());
        if said.quality != Quality::Good || said.retained {
            quality.insert(Arc::clone(property), said.quality.max(Quality::Uncertain).as_str());
        }
        heard_ms = heard_ms.max(said.at_ms);
    }
    body.insert("availability", slot.course.availability().as_str());
    body.insert("fence", profile.fence.as_str());
    if !reported.is_empty() {
        body.insert("reported", reported);
        let wall_ms = heard_ms.saturating_add(offset_ms);
        body.insert("heard_ms", wall_ms - wall_ms % HEARD_STEP_MS);
    }
    if !quality.is_empty() {
        body.insert("quality", quality);
    }
    if !profile.warnings.is_empty() {
        let warnings: Vec<Value> =
            profile.warnings.iter().map(|warning| Value::from(warning.as_str())).collect();
        body.insert("warnings", warnings);
    }
    if let Some(source_ms) = slot.source_ms {
        body.insert("source_ms", source_ms);
    }
    if let Some(plan) = plan {
        plan_body(&mut body, slot, plan, offset_ms);
    }
    body
}

fn plan_body(body: &mut Object, slot: &Slot, plan: &Plan, offset_ms: u64) {
    body.insert("why", plan.why.as_str());
    if !plan.would_write.is_empty() {
        body.insert("would_write", plan.would_write.clone());
    }
    if let Some(error) = &slot.last_error {
        body.insert("last_error", short(error).as_ref());
    }
    if let Some(trouble) = &plan.trouble {
        let mut told = Object::new();
        told.insert("code", trouble.code.as_str());
        told.insert("message", trouble.message.as_str());
        told.insert("revision", revision(trouble.revision));
        body.insert("trouble", told);
    }
    let drift = plan.drift.iter().map(|drift| {
        let mut told = Object::new();
        told.insert("property", drift.property.as_ref());
        told.insert("desired", drift.wished.clone());
        told.insert("reported", drift.said.clone());
        told.insert("since_ms", drift.since_ms.saturating_add(offset_ms));
        Value::Map(told)
    });
    let drift: Vec<Value> = drift.collect();
    if !drift.is_empty() {
        body.insert("drift", drift);
    }
}

fn revision(revision: Revision) -> u64 {
    revision.get()
}
