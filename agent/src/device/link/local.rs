//! Local writes, as far as they are the business of a link's task: handed over, stopped, merged.

use std::sync::Arc;

use fleet_device::plan::{LocalReached, LocalStanding, Plan, TroubleCode};
use fleet_protocol::local::{LocalEnd, LocalStage};
use fleet_state::{
    AgentCommand, Command, Device, DeviceId, LinkId, Mode, Object, Outcome, Proposal, Revision,
};
use tokio::time::Instant;

use super::calls::{Begins, CallEnd, guarded, in_doubt};
use super::look::{LOG_PAUSE_MS, LOG_WITHIN};
use super::tell::{short, wall_ms};
use super::work::Work;
use crate::consensus::{Handle, Submitted};
use crate::device::connector::{Handed, Invoke, WriteError};
use crate::device::local::merge::{Fate, Merging, fate};
use crate::device::local::{Begin, Begun, Ended, LocalWrite, Part};

/// Pause before it is tried again to write down that a stop begins.
const STOP_PAUSE_MS: u64 = 250;

/// A local value, or a stop, on its way to an end.
struct Due {
    number: u64,
    property: Option<Arc<str>>,
    ended: Ended,
    ask: Ask,
}

/// What the log is asked for first.
enum Ask {
    Nothing,
    Own(AgentCommand),
    Hold(Proposal),
}

impl Work<'_> {
    /// Begins what local writes ask for beside values: a stop, or being merged.
    pub(super) fn see_to_local(
        &mut self,
        id: &DeviceId,
        until_ms: Option<u64>,
        now_ms: u64,
    ) -> Option<u64> {
        if !Arc::ptr_eq(&self.book, &self.task.parts.local.book()) {
            // What a call has just led to counts.
            self.take_local();
        }
        let slot = self.slots.get(id)?;
        if let (Some(stop), Some(until_ms)) =
            (slot.overlay.as_ref().and_then(|overlay| overlay.stop.as_ref()), until_ms)
        {
            let again_ms = slot.stop_next_ms.filter(|(number, _)| *number == stop.number);
            return match again_ms {
                // It could not be written down that it begins, and perhaps never can.
                Some((_, again_ms)) if now_ms < again_ms => {
                    self.agenda.insert((again_ms, id.clone()));
                    None
                }
                Some(_) | None => self.stop(id, until_ms, now_ms),
            };
        }
        if self.task.is_alone() {
            return None;
        }
        let due = self.book.to_merge(id);
        if due.is_empty() {
            return None;
        }
        if now_ms < slot.merge_next_ms {
            self.agenda.insert((slot.merge_next_ms, id.clone()));
            return None;
        }
        self.merge(id, &due, now_ms)
    }

    /// Hands a stop over: once, when it is on disk that it begins.
    fn stop(&mut self, id: &DeviceId, lease_ms: u64, now_ms: u64) -> Option<u64> {
        let slot = self.slots.get(id)?;
        let stop = slot.overlay.as_ref()?.stop.clone()?;
        let actions = slot.orders.profile.actions.as_ref();
        let known = actions.is_none_or(|actions| actions.contains(&stop.action));
        let deadline = self.deadline([lease_ms, u64::MAX], now_ms);
        let invoke = Invoke {
            device: id.clone(),
            action: Arc::clone(&stop.action),
            args: Object::new().into(),
            request_id: stop.request_id.clone(),
            epoch: self.told_epoch(id),
            sequence: self.task.next_sequence(),
            deadline,
            expires: None,
        };
        let (session, local) = (Arc::clone(&self.calls.session), self.task.parts.local.clone());
        let metrics = self.task.parts.metrics.clone();
        let number = stop.number;
        let again_ms = now_ms.saturating_add(STOP_PAUSE_MS);
        self.slots.get_mut(id)?.stop_next_ms = Some((number, again_ms));
        Some(self.calls.call(id, async move {
            // Another number says that it began before: then it is never handed over again.
            if local.begin(Begin::stop(number)).await != Begun::Begins {
                return CallEnd::Local;
            }
            let ended = if known {
                let ended = guarded(deadline, async { session.invoke(&invoke).await }).await;
                ended.unwrap_or_else(in_doubt)
            } else {
                Err(no_such_action())
            };
            metrics.count_invocation(super::look::word(&ended));
            let (stage, detail) = stopped(&ended);
            local.reached(number, stage, short(&detail)).await;
            CallEnd::Local
        }))
    }

    /// Merges what was written locally with what the site wants now.
    fn merge(&mut self, id: &DeviceId, due: &[Arc<LocalWrite>], now_ms: u64) -> Option<u64> {
        let view = self.task.parts.handle.view();
        let device = view.state.device(id)?;
        let (link, epoch) = (self.link.id.clone(), self.task.epoch);
        let node = self.task.parts.node.get();
        let open = |write: &Arc<LocalWrite>| {
            let parts = write.parts.iter().filter(|part| part.end.is_none()).cloned();
            parts.map(|part| (Arc::clone(write), part)).collect::<Vec<_>>()
        };
        let ends: Vec<Due> = due
            .iter()
            .flat_map(open)
            .filter_map(|(write, part)| match &part.property {
                Some(_) => Some(due_value(device, &write, &part, (&link, epoch))),
                None => due_stop(&write, node),
            })
            .collect();
        self.slots.get_mut(id)?.merge_next_ms = now_ms.saturating_add(LOG_PAUSE_MS);
        let (handle, local) = (self.task.parts.handle.clone(), self.task.parts.local.clone());
        let device = id.clone();
        Some(self.calls.call(id, async move {
            let mut ended = Vec::new();
            for due in ends {
                let (number, property) = (due.number, due.property.clone());
                if let Some(end) = decided(&handle, due).await {
                    tracing::info!(%device, number, end = end.end.as_str(), "a local write is merged");
                    ended.push((number, property, end));
                }
            }
            // Without an answer the keeper is gone, and the process is ending.
            let _merged = local.end(ended).await;
            CallEnd::Local
        }))
    }

    /// The local writes among these values, which are about to be handed over.
    pub(super) fn begins(&self, id: &DeviceId, values: &Object) -> Begins {
        let wishes = self.slots.get(id).map(|slot| &slot.orders.wishes);
        let local = |property: &Arc<str>| wishes?.get(property)?.local;
        let parts = values.iter().filter_map(|(property, _)| Some((local(property)?, property)));
        let begin = Begin::values(parts.map(|(number, property)| (number, Arc::clone(property))));
        Begins { local: self.task.parts.local.clone(), begin }
    }

    /// A hand-over failed before anything left: local writes among the values wait again.
    pub(super) fn note_untouched(&mut self, id: &DeviceId, values: &Object, error: &WriteError) {
        let numbers = self.begins(id, values).begin.numbers();
        let Some(slot) = self.slots.get_mut(id).filter(|_| !error.may_have_acted) else { return };
        for number in numbers.into_iter().filter(|number| slot.course.is_untouched(*number)) {
            let detail = short(&error.message);
            // Without room it counts as perhaps handed over, which is the careful side.
            let _told = self.task.parts.local.reach(number, LocalStage::Local, detail);
            slot.local_told.remove(&number);
        }
    }

    /// Tells the keeper how far local writes got, if that is news.
    pub(super) fn note_local(&mut self, id: &DeviceId, plan: &Plan) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        for standing in &plan.local {
            let Some((stage, detail)) = stage_of(standing) else { continue };
            let told = (stage, short(&detail));
            if slot.local_told.get(&standing.number) == Some(&told) {
                continue;
            }
            // Without room it is told when the device is looked at again.
            if self.task.parts.local.reach(standing.number, stage, Arc::clone(&told.1)) {
                slot.local_told.insert(standing.number, told);
            }
        }
    }
}

fn stage_of(standing: &LocalStanding) -> Option<(LocalStage, String)> {
    let reached = standing.reached.map(|reached| match reached {
        LocalReached::Sent => LocalStage::Sent,
        LocalReached::Acknowledged => LocalStage::Acknowledged,
        LocalReached::Verified => LocalStage::Verified,
    });
    match &standing.trouble {
        None => reached.map(|stage| (stage, String::new())),
        Some((
            TroubleCode::Refused | TroubleCode::Discarded | TroubleCode::HeldOnReturn,
            message,
        )) => Some((LocalStage::Failed, message.clone())),
        Some((
            TroubleCode::NotVerified
            | TroubleCode::NotEnforced
            | TroubleCode::Unknown
            | TroubleCode::LocalStands
            | TroubleCode::NotAdopted
            | TroubleCode::WriteOnly
            | TroubleCode::Unreachable,
            message,
        )) => Some((reached.unwrap_or(LocalStage::Unknown), message.clone())),
    }
}

fn no_such_action() -> WriteError {
    WriteError {
        may_have_acted: false,
        kind: crate::device::connector::WriteErrorKind::Invalid,
        message: "the device has no such action".to_owned(),
    }
}

fn stopped(ended: &Result<Handed, WriteError>) -> (LocalStage, String) {
    match ended {
        Ok(Handed::Sent) => (LocalStage::Sent, String::new()),
        Ok(Handed::Acknowledged) => (LocalStage::Acknowledged, String::new()),
        Err(error) if error.may_have_acted => (LocalStage::Unknown, error.message.clone()),
        Err(error) => (LocalStage::Failed, error.message.clone()),
    }
}

/// What becomes of a value.
fn due_value(
    device: &Device,
    write: &LocalWrite,
    part: &Part,
    (link, epoch): (&LinkId, u64),
) -> Due {
    let property = part.property.clone().unwrap_or_default();
    let wish = device.wishes.get(&property);
    let rule = device.spec.policy.of(&property);
    let merging = Merging {
        wish,
        on_drift: rule.on_drift,
        tolerance: rule.tolerance.map_or(0.0, |tolerance| tolerance.get()),
        acts: device.mode == Mode::Auto && device.hold.is_none(),
    };
    let ended = |end| Ended {
        end,
        wall_ms: wall_ms(),
        committed: wish.map(|wish| wish.value.clone()),
        revision: wish.map(|wish| wish.revision),
    };
    let (ended, ask) = match fate(write, part, merging) {
        Fate::End(end) => (ended(end), Ask::Nothing),
        Fate::Adopt(seen_revision) => {
            let adopt = AgentCommand::Adopt {
                link: link.clone(),
                epoch,
                device: device.id.clone(),
                property: Arc::clone(&property),
                value: part.value.clone().unwrap_or(fleet_state::Value::Null),
                seen_revision,
            };
            (ended(LocalEnd::Adopted), Ask::Own(adopt))
        }
    };
    Due { number: write.number, property: Some(property), ended, ask }
}

/// A device that was stopped is put on hold in the log, before anything may set it in motion.
fn due_stop(write: &LocalWrite, node: u64) -> Option<Due> {
    let LocalWrite { number, wall_ms: at_ms, .. } = write;
    let ended = Ended::plain(LocalEnd::Held, wall_ms());
    let request_id = format!("local-hold-{node}-{number}-{at_ms}").parse().ok()?;
    let reason = Arc::from("stopped at its gateway without a majority");
    let command = Command::DeviceHold { id: write.device.clone(), reason };
    let proposal = Proposal { request_id, if_revision: None, actor: write.actor.clone(), command };
    Some(Due { number: *number, property: None, ended, ask: Ask::Hold(proposal) })
}

/// The end, once the log has decided what has to be asked; `None` when it has not.
async fn decided(handle: &Handle, due: Due) -> Option<Ended> {
    let deadline = Instant::now() + LOG_WITHIN;
    let (end, refused) = match due.ask {
        Ask::Nothing => return Some(due.ended),
        Ask::Own(command) => (handle.submit_own(command, deadline).await, LocalEnd::Overruled),
        Ask::Hold(proposal) => (handle.submit(proposal, deadline).await, LocalEnd::Gone),
    };
    let Submitted::Decided(answer) = end else { return None };
    let end = match answer.outcome {
        Outcome::Accepted(_) | Outcome::Unchanged => due.ended.end,
        // A newer wish stands there by now, or the device is gone.
        Outcome::Rejected(_) => refused,
    };
    let revision = if end == LocalEnd::Overruled {
        due.ended.revision
    } else {
        Some(answer.revision).filter(|revision| *revision != Revision::NONE)
    };
    Some(Ended { end, revision, ..due.ended })
}
