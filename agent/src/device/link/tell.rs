//! What is told: stages to the log, in coalesced entries, and what is observed to the table.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fleet_device::plan::Plan;
use fleet_device::since::DriftSince;
use fleet_device::telling::stage_news;
use fleet_protocol::query::doubt_reported;
use fleet_state::{AgentCommand, DeviceId, Entity, Object, Outcome, StageItem, Value, limits};
use tokio::time::Instant;

use super::LinkTask;
use super::slot::Slot;
use super::work::Work;
use crate::consensus::Submitted;
use crate::device::connector::{Availability, Quality};
use crate::device::local::Book;
use crate::device::observed::{BODY_BYTES_MAX, Observed};
use crate::device::publish::present_link;

/// How long the log may take for an entry of stages.
const STAGES_WITHIN: Duration = Duration::from_secs(3);
/// Pause after stages that the log didn't take.
const STAGES_PAUSE_MS: u64 = 250;
/// Times are shown in steps of this, so that an unchanged device is not told all the time.
const HEARD_STEP_MS: u64 = 1_000;

/// Wall time for display; 0 on a clock before 1970.
pub(in crate::device) fn wall_ms() -> u64 {
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

/// Shows why a link is not connected, on it and on its devices.
pub(super) fn problem(task: &mut LinkTask, problem: &str, pause_ms: u64) {
    let mut body = Object::new();
    body.insert("state", "failed");
    body.insert("detail", short(problem).as_ref());
    body.insert("next_try_wall_ms", wall_ms().saturating_add(pause_ms));
    show(task, Entity::Link(task.id.clone()), Arc::new(body));
    doubt_devices(task, &format!("its link is not connected: {}", short(problem)));
}

/// Says of all devices of a link that nobody knows how they stand now, and why.
fn doubt_devices(task: &mut LinkTask, note: &str) {
    let view = task.parts.handle.view();
    let devices: Vec<DeviceId> =
        view.state.devices_of(&task.id).map(|device| device.id.clone()).collect();
    for device in devices {
        let known = task.parts.observed.device(&device);
        let known = known.filter(|known| known.link.as_ref().is_none_or(|link| *link == task.id));
        let mut body = known.map_or_else(Object::new, |known| known.body.as_ref().clone());
        let availability = body.get("availability").and_then(Value::as_text);
        // That it was away is what the next owner has to know.
        if availability != Some(Availability::Offline.as_str()) {
            body.insert("availability", Availability::Unknown.as_str());
        }
        doubt_reported(&mut body);
        body.insert("note", note);
        show(task, Entity::Device(device), Arc::new(body));
    }
}

/// Shows the state of a link; says whether it was news.
pub(super) fn state(task: &mut LinkTask, state: &str) -> bool {
    let mut body = Object::new();
    body.insert("state", state);
    let known = task.parts.observed.link(&task.id);
    let is_news = known.is_none_or(|known| *known.body != body || known.epoch != task.epoch);
    if is_news {
        show(task, Entity::Link(task.id.clone()), Arc::new(body));
    }
    is_news
}

/// Shows that nothing is done with a link now, and that nobody knows how its devices stand.
pub(super) fn idle(task: &mut LinkTask, paused: bool) {
    let (word, note) = if paused {
        ("paused", "its link is paused")
    } else {
        ("no_lease", "its gateway may not use its link: it has no lease")
    };
    if state(task, word) {
        doubt_devices(task, note);
    }
}

fn show(task: &mut LinkTask, of: Entity, body: Arc<Object>) {
    let sequence = task.next_sequence();
    let (node, link) = (task.parts.node, Some(task.id.clone()));
    let observed = Observed { node, link, epoch: task.epoch, sequence, body };
    let present = present_link(&task.parts.handle.view().state, &of);
    task.parts.observed.put_own(of, observed, present.as_ref());
}

impl Work<'_> {
    /// Notes how far the wishes of a device got, if that is news.
    pub(super) fn note_stages(&mut self, id: &DeviceId, plan: &Plan) {
        self.note_local(id, plan);
        // Whoever runs alone knows nothing of how far the wishes of the log got.
        let Some(slot) = self.slots.get_mut(id).filter(|_| !self.task.is_alone()) else { return };
        let mut news = stage_news(id, plan, &slot.orders);
        for failure in news.iter_mut().flat_map(|news| &mut news.failures) {
            failure.message = short(&failure.message);
        }
        if slot.told == news {
            return;
        }
        slot.told.clone_from(&news);
        self.to_tell.extend(news.map(|news| (id.clone(), news)));
    }

    /// Tells what was noted, in one entry at a time: what comes meanwhile goes with the next.
    pub(super) fn tell_stages(&mut self, now_ms: u64) {
        if self.telling || self.to_tell.is_empty() || now_ms < self.tell_next_ms {
            return;
        }
        let mut items = Vec::new();
        let mut parts = 0;
        while let Some(entry) = self.to_tell.first_entry() {
            // Each part has a text of its own at most; an entry has room for so many of them.
            parts += 1 + entry.get().failures.len() + entry.get().overcome.len();
            if parts > limits::REPORT_ITEMS_MAX && !items.is_empty() {
                break;
            }
            items.push(entry.remove());
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
        let Some(memory) = self.task.memory.get_mut(id) else { return };
        if let Some(plan) = plan {
            let (course, orders) = (&slot.course, &slot.orders);
            let is_over = |property: &str, wished: &Value| {
                let tolerance = orders.policy_of(property).tolerance;
                let wish = orders.wishes.get(property);
                wish.is_none_or(|wish| wish.value != *wished)
                    || course.says(property, wished, tolerance)
            };
            memory.drift_since.follow(&plan.drift, offset_ms, is_over);
        }
        let mut body = body(slot, plan, &memory.drift_since, offset_ms);
        let local = local_body(slot, &self.book);
        if !local.is_empty() {
            body.insert("local", local);
        }
        if Value::Map(body.clone()).to_json().len() > BODY_BYTES_MAX {
            body.remove("reported");
            body.insert("note", "what the device reports is too long to be shown");
        }
        if slot.shown.as_deref() == Some(&body) {
            return;
        }
        let before = slot.drifting();
        let body = Arc::new(body);
        slot.shown = Some(Arc::clone(&body));
        self.task.parts.metrics.drifting.inc_by(slot.drifting() - before);
        show(self.task, Entity::Device(id.clone()), body);
    }
}

fn body(slot: &Slot, plan: Option<&Plan>, since: &DriftSince, offset_ms: u64) -> Object {
    let mut body = Object::new();
    let profile = &slot.orders.profile;
    body.insert("fence", profile.fence.as_str());
    body.insert("availability", slot.course.availability().as_str());
    let mut reported = Object::new();
    for (property, value, said) in slot.course.reported() {
        let old = said.retained || slot.course.availability() == Availability::Offline;
        let quality = if old { said.quality.max(Quality::Uncertain) } else { said.quality };
        let heard_ms = said.at_ms.saturating_add(offset_ms);
        let mut told = Object::new();
        told.insert("value", value.clone());
        told.insert("quality", quality.as_str());
        told.insert("heard_wall_ms", heard_ms - heard_ms % HEARD_STEP_MS);
        if let Some(source_ms) = slot.source_ms {
            told.insert("source_wall_ms", source_ms);
        }
        reported.insert(Arc::clone(property), told);
    }
    if !reported.is_empty() {
        body.insert("reported", reported);
    }
    let drift = plan.map(|plan| drift_body(plan, since)).unwrap_or_default();
    if !drift.is_empty() {
        body.insert("drift", drift);
    }
    if let Some(foreign) = &slot.foreign.shown {
        body.insert("foreign_write", foreign.as_ref().clone());
    }
    let would_write = plan.map(|plan| &plan.would_write).filter(|would| !would.is_empty());
    if let Some(would_write) = would_write {
        body.insert("would_write", would_write.clone());
    }
    body.insert("why", plan.map_or("refused", |plan| plan.why.as_str()));
    let notes = notes(slot, plan);
    if !notes.is_empty() {
        body.insert("note", notes);
    }
    body
}

/// What was written locally and is not merged yet.
fn local_body(slot: &Slot, book: &Book) -> Object {
    let wishes = slot.overlay.iter().flat_map(|overlay| &overlay.wishes);
    let told = wishes.map(|(property, wish)| {
        let mut told = Object::new();
        told.insert("value", wish.value.clone());
        told.insert("local", wish.number);
        if let Some(write) = book.get(wish.number) {
            told.insert("stage", write.stage.as_str());
        }
        (Arc::clone(property), Value::Map(told))
    });
    told.collect()
}

fn drift_body(plan: &Plan, since: &DriftSince) -> Object {
    let drift = plan.drift.iter().map(|drift| {
        let mut told = Object::new();
        told.insert("desired", drift.wished.clone());
        told.insert("reported", drift.said.clone());
        told.insert("since_wall_ms", since.of(&drift.property).unwrap_or_default());
        (Arc::clone(&drift.property), Value::Map(told))
    });
    drift.collect()
}

/// What stands in the way, and what an operator should know.
fn notes(slot: &Slot, plan: Option<&Plan>) -> String {
    let refusal = slot.refusal.as_ref().map(ToString::to_string);
    let trouble = plan.and_then(|plan| plan.trouble.as_ref()).map(|trouble| {
        format!("{} (r{}): {}", trouble.code.as_str(), trouble.revision, trouble.message)
    });
    let error = slot.last_error.as_ref().map(|error| format!("last error: {error}"));
    let unread = slot.last_read_error.as_ref();
    let unread = unread.map(|error| format!("when it was asked last: {error}"));
    let warnings = slot.orders.profile.warnings.iter().cloned();
    let said = slot.course.note().map(ToOwned::to_owned);
    let notes =
        refusal.into_iter().chain(trouble).chain(error).chain(unread).chain(said).chain(warnings);
    let notes: Vec<String> = notes.collect();
    short(&notes.join("; ")).as_ref().to_owned()
}
