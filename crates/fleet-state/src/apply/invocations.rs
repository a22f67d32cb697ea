//! One-shot actions: asked for once, handed over at most once, and told what became of them.

use std::sync::Arc;

use super::effects::{Effects, limit_reached};
use super::wishes::blocked;
use super::{ACCEPTED, Decision};
use crate::command::{AgentCommand, Command};
use crate::ids::{DeviceId, LinkId, RequestId, Revision};
use crate::limits::{INVOCATIONS_MAX, INVOCATIONS_OPEN_MAX};
use crate::outcome::{Outcome, RejectCode, Rejection};
use crate::record::{Device, Invocation};
use crate::stage::Stage;
use crate::state::FleetState;

impl FleetState {
    pub(super) fn device_invoke(
        &mut self,
        command: &Command,
        expected: Option<Revision>,
        effects: &mut Effects,
    ) -> Decision {
        let Command::DeviceInvoke { id, action, args, ttl_ms } = command else {
            return Ok(Outcome::Unchanged);
        };
        let Some(request) = effects.request_id().cloned() else {
            return Ok(Outcome::Unchanged);
        };
        let device = self.existing_device(id, expected)?;
        self.check_invokable(&device)?;
        self.make_room_for_invocation(id, &request, effects)?;
        let revision = effects.revision();
        let now = self.counters.log_time_ms;
        let invocation = Invocation {
            id: request,
            device: id.clone(),
            action: action.clone(),
            args: args.clone(),
            actor: effects.actor(),
            deadline_log_ms: ttl_ms.map(|ttl_ms| now.saturating_add(ttl_ms)),
            idempotent: device.spec.policy.idempotent_actions.contains(action),
            stage: Stage::Committed,
            dispatch: None,
            detail: Arc::from(""),
            committed: revision,
            revision,
            changed_wall_ms: effects.wall_time_ms(),
        };
        self.put(invocation, effects);
        Ok(ACCEPTED)
    }

    /// A one-shot that would wait for somebody to end a hold would come as a surprise, so it is refused.
    fn check_invokable(&self, device: &Device) -> Result<(), Rejection> {
        let id = &device.id;
        let link = device.spec.link.as_ref().and_then(|link| self.links.get(link));
        let Some(link) = link else {
            let message =
                format!("device {id} is on no link, so nobody could hand it anything; give it one");
            return Err(Rejection::new(RejectCode::LinkNotFound, message));
        };
        if let Some(why) = device.blocked() {
            return Err(blocked(&format_args!("device {id}"), why));
        }
        if link.paused {
            return Err(blocked(&format_args!("link {} of device {id}", link.id), "is paused"));
        }
        Ok(())
    }

    fn make_room_for_invocation(
        &mut self,
        device: &DeviceId,
        request: &RequestId,
        effects: &mut Effects,
    ) -> Result<(), Rejection> {
        if self.invocations.get(request).is_some() {
            let message =
                "an invocation has this request id already; give every command an id of its own";
            return Err(Rejection::new(RejectCode::RequestIdReused, message));
        }
        if self.errands.open_of(device).count() >= INVOCATIONS_OPEN_MAX {
            let message = format!(
                "{INVOCATIONS_OPEN_MAX} invocations of device {device} are open, which is the limit; wait for \
                 them or cancel some"
            );
            return Err(Rejection::new(RejectCode::LimitReached, message));
        }
        if self.invocations.len() >= INVOCATIONS_MAX {
            let ended = self.errands.oldest_ended();
            let ended = ended.ok_or_else(|| limit_reached("open invocations", INVOCATIONS_MAX))?;
            self.delete::<Invocation>(&ended, effects);
        }
        Ok(())
    }

    pub(super) fn invocation_end(
        &mut self,
        command: &AgentCommand,
        effects: &mut Effects,
    ) -> Decision {
        let AgentCommand::InvocationEnd { link, epoch, id, stage, detail } = command else {
            return Ok(Outcome::Unchanged);
        };
        self.owned_link(link, *epoch)?;
        let before = self.invocations.get(id).cloned().ok_or_else(|| {
            Rejection::new(RejectCode::NotFound, format!("there is no invocation {id}"))
        })?;
        let taken = before
            .dispatch
            .as_ref()
            .is_some_and(|dispatch| dispatch.link == *link && dispatch.epoch == *epoch);
        let allowed = match before.stage {
            // Refused before anything left.
            Stage::Committed => {
                *stage == Stage::Failed && self.device_on(&before.device, link).is_ok()
            }
            Stage::Dispatching | Stage::Sent | Stage::Acknowledged => {
                taken && *stage > before.stage
            }
            Stage::Verified
            | Stage::Failed
            | Stage::Expired
            | Stage::Cancelled
            | Stage::Superseded
            | Stage::Unknown => false,
        };
        if !allowed {
            let message = format!(
                "invocation {id} is {} and can't become {} by this owner",
                before.stage.as_str(),
                stage.as_str()
            );
            return Err(Rejection::new(RejectCode::TooLate, message));
        }
        self.end_invocation(&before, *stage, detail.clone(), effects);
        Ok(ACCEPTED)
    }

    /// Takes back what was asked of a device and has not been handed over.
    pub(super) fn cancel_open(&mut self, device: &DeviceId, why: &str, effects: &mut Effects) {
        let open: Vec<RequestId> = self.errands.open_of(device).cloned().collect();
        for id in open {
            let committed = self.invocations.get(&id).cloned();
            let committed = committed.filter(|invocation| invocation.stage == Stage::Committed);
            if let Some(invocation) = committed {
                self.end_invocation(&invocation, Stage::Cancelled, Arc::from(why), effects);
            }
        }
    }

    /// The owner of a link is gone and said nothing of what it was about to hand over: nobody can know, except where
    /// it does no harm to do it again.
    pub(crate) fn settle_dispatching(&mut self, link: &LinkId, why: &str, effects: &mut Effects) {
        for id in self.errands.dispatching_over(link) {
            self.settle_in_doubt(&id, why, effects);
        }
    }

    /// The same of one device, which its link carries no more: the owner of the link has forgotten it, and would also
    /// if it came back.
    pub(super) fn settle_dispatching_of(
        &mut self,
        device: &DeviceId,
        link: &LinkId,
        why: &str,
        effects: &mut Effects,
    ) {
        let open: Vec<RequestId> = self.errands.open_of(device).cloned().collect();
        for id in open {
            let dispatch = self.invocations.get(&id).and_then(|known| known.dispatch.as_ref());
            if dispatch.is_some_and(|dispatch| dispatch.link == *link) {
                self.settle_in_doubt(&id, why, effects);
            }
        }
    }

    fn settle_in_doubt(&mut self, id: &RequestId, why: &str, effects: &mut Effects) {
        let before = self.invocations.get(id).cloned();
        let Some(before) = before.filter(|before| before.stage == Stage::Dispatching) else {
            return;
        };
        let device = self.devices.get(&before.device);
        let again = before.idempotent && device.is_some_and(|device| device.blocked().is_none());
        if again {
            let invocation = Invocation { dispatch: None, ..before.as_ref().clone() };
            self.end_invocation(&invocation, Stage::Committed, Arc::from(""), effects);
        } else {
            let why = format!("{why} before it was told what became of it");
            self.end_invocation(&before, Stage::Unknown, Arc::from(why), effects);
        }
    }

    /// Puts an invocation at another stage.
    pub(crate) fn end_invocation(
        &mut self,
        before: &Invocation,
        stage: Stage,
        detail: Arc<str>,
        effects: &mut Effects,
    ) {
        let invocation = Invocation {
            stage,
            detail,
            revision: effects.revision(),
            changed_wall_ms: effects.wall_time_ms(),
            ..before.clone()
        };
        self.put(invocation, effects);
    }
}
