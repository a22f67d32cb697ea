//! Reads about devices that take more than one record.

use super::FleetState;
use crate::command::CommandKind;
use crate::ids::{DeviceId, LinkId, RequestId, Revision};
use crate::outcome::Answer;
use crate::record::{Entity, Invocation, StageFailure, Watermarks, Wish};
use crate::stage::Stage;
use std::sync::Arc;

/// What is remembered of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CommandFound {
    /// Its request id.
    pub request_id: RequestId,
    /// What it was.
    pub kind: CommandKind,
    /// The link, device or parameter that it was about, when it was about one.
    pub about: Option<Entity>,
    /// What was answered.
    pub answer: Answer,
    /// How far it got toward a device, where it was to get to one and that is still known.
    pub stage: Option<Stage>,
    /// Why it failed, or why nobody knows whether it happened, as the owner of the link told it.
    pub failure: Option<Arc<str>>,
    /// The log time at which it was decided.
    pub log_time_ms: u64,
}

impl FleetState {
    /// How far the wishes of a device got, once something was told of them.
    #[must_use]
    pub fn watermarks(&self, device: &DeviceId) -> Option<&Arc<Watermarks>> {
        self.watermarks.get(device)
    }

    /// How many devices have watermarks.
    #[must_use]
    pub fn watermarks_len(&self) -> usize {
        self.watermarks.len()
    }

    /// The devices of a link, in the order of their ids.
    pub fn devices_of<'a>(
        &'a self,
        link: &'a LinkId,
    ) -> impl Iterator<Item = &'a Arc<crate::record::Device>> {
        self.devices().filter(move |device| device.spec.link.as_ref() == Some(link))
    }

    /// The invocations of a device that nobody has told the end of, in the order of their ids.
    pub fn invocations_open<'a>(
        &'a self,
        device: &DeviceId,
    ) -> impl Iterator<Item = &'a Arc<Invocation>> {
        self.errands.open_of(device).filter_map(|id| self.invocations.get(id))
    }

    /// Whether a wish has a time limit and no owner has claimed it: it must be claimed before it is handed over.
    #[must_use]
    pub fn needs_claim(&self, device: &DeviceId, wish: &Wish) -> bool {
        self.is_pending(device, wish)
    }

    /// How far the command of this revision got with a device, as far as it is remembered.
    ///
    /// The command must have made a wish, which one that only takes properties away does not. What stands behind no wish any more and did not end by itself was superseded. Only the last few ends are
    /// remembered, so of what is older than those nobody can tell any more.
    #[must_use]
    pub fn wish_stage(&self, device: &DeviceId, revision: Revision) -> Option<Stage> {
        let marks = self.watermarks.get(device).map(Arc::as_ref);
        let ends = marks.map_or(&[][..], |marks| marks.ends.as_slice());
        if let Some(end) = ends.iter().find(|end| end.revision == revision) {
            return Some(end.stage);
        }
        if !self.devices.get(device)?.wishes.holds(revision) {
            let forgotten = ends.len() >= crate::limits::WISH_ENDS_MAX
                && ends.iter().all(|end| end.revision > revision);
            return if forgotten { None } else { Some(Stage::Superseded) };
        }
        Some(marks.map_or(Stage::Committed, |marks| stage_of(marks, revision)))
    }

    /// Why a command did not get to its device, may not have, or can get no further; `None` while it is not known to.
    #[must_use]
    pub fn wish_failure(&self, device: &DeviceId, revision: Revision) -> Option<&StageFailure> {
        let stage = self.wish_stage(device, revision)?;
        let failure = self.watermarks.get(device)?.failure_of(revision)?;
        let is_end = matches!(stage, Stage::Failed | Stage::Unknown)
            || (failure.stage == stage && matches!(stage, Stage::Sent | Stage::Acknowledged));
        is_end.then_some(failure)
    }

    /// Whether the owner of a device's link has anything to see to because of the command of this revision.
    pub(crate) fn has_wish_of(
        &self,
        about: Option<&Entity>,
        request: &RequestId,
        revision: Revision,
    ) -> bool {
        let Some(Entity::Device(id)) = about else {
            return false;
        };
        let wished = self.devices.get(id).is_some_and(|device| device.wishes.holds(revision));
        wished || self.invocations.get(request).is_some_and(|known| known.committed == revision)
    }

    /// What is remembered of the command with this request id.
    #[must_use]
    pub fn command_found(&self, id: &RequestId) -> Option<CommandFound> {
        let known = self.dedup.answer(id)?;
        Some(self.remembered(known))
    }

    /// The commands that are remembered, the newest first.
    pub fn commands_found(&self) -> impl Iterator<Item = CommandFound> + '_ {
        self.dedup.iter_back().map(|known| self.remembered(known))
    }

    fn remembered(&self, known: &crate::dedup::Remembered) -> CommandFound {
        CommandFound {
            request_id: known.request_id.clone(),
            kind: known.kind,
            about: known.about.clone(),
            answer: known.answer.clone(),
            stage: self.stage_reached(known),
            failure: self.failure_of(known),
            log_time_ms: known.log_time_ms,
        }
    }

    fn stage_reached(&self, known: &crate::dedup::Remembered) -> Option<Stage> {
        if !matches!(known.answer.outcome, crate::outcome::Outcome::Accepted(_)) {
            return None;
        }
        if !known.wished {
            return None;
        }
        match (known.kind, &known.about) {
            (CommandKind::DeviceInvoke, _) => {
                self.invocations.get(&known.request_id).map(|invocation| invocation.stage)
            }
            (CommandKind::DeviceUpdate | CommandKind::DeviceReplace, Some(Entity::Device(id))) => {
                self.wish_stage(id, known.answer.revision)
            }
            _ => None,
        }
    }

    fn failure_of(&self, known: &crate::dedup::Remembered) -> Option<Arc<str>> {
        self.stage_reached(known)?;
        let Some(Entity::Device(id)) = &known.about else {
            return None;
        };
        let failure = self.wish_failure(id, known.answer.revision)?;
        Some(Arc::clone(&failure.message))
    }
}

fn stage_of(marks: &Watermarks, revision: Revision) -> Stage {
    // Marks pass over what is kept from its device.
    if let Some(failure) = marks.failure_of(revision) {
        failure.stage
    } else if marks.verified >= revision {
        Stage::Verified
    } else if marks.acknowledged >= revision {
        Stage::Acknowledged
    } else if marks.sent >= revision {
        Stage::Sent
    } else if marks.has_claimed(revision) {
        Stage::Dispatching
    } else {
        Stage::Committed
    }
}
