//! Taking a command back.

use std::sync::Arc;

use super::effects::Effects;
use super::{ACCEPTED, Decision};
use crate::ids::{DeviceId, RequestId, Revision};
use crate::outcome::{RejectCode, Rejection};
use crate::record::{Entity, Wish};
use crate::stage::Stage;
use crate::state::FleetState;

impl FleetState {
    /// Takes back what has not been handed over. Later than that it says so, and nothing changes.
    pub(super) fn command_cancel(
        &mut self,
        request: &RequestId,
        effects: &mut Effects,
    ) -> Decision {
        if let Some(invocation) = self.invocations.get(request).cloned() {
            if invocation.stage != Stage::Committed {
                return Err(too_late(request, invocation.stage.as_str()));
            }
            let by = effects.actor().map_or_else(String::new, |actor| format!("by {actor}"));
            self.end_invocation(&invocation, Stage::Cancelled, Arc::from(by), effects);
            return Ok(ACCEPTED);
        }
        let known =
            self.dedup.answer(request).map(|known| (known.answer.revision, known.about.clone()));
        match known {
            Some((revision, Some(Entity::Device(device)))) => {
                self.cancel_wishes(request, &device, revision, effects)
            }
            Some(_) => {
                Err(too_late(request, "committed, and is not of the kind that waits for a device"))
            }
            None => {
                let message = format!(
                    "no command with the request id {request} is remembered; it may have ended a while ago"
                );
                Err(Rejection::new(RejectCode::NotFound, message))
            }
        }
    }

    fn cancel_wishes(
        &mut self,
        request: &RequestId,
        id: &DeviceId,
        revision: Revision,
        effects: &mut Effects,
    ) -> Decision {
        let device = self.existing_device(id, None)?;
        let of_it = |wish: &Wish| wish.revision == revision;
        if self.roll_back(&device, |wish, _| of_it(wish), Stage::Cancelled, effects) {
            return Ok(ACCEPTED);
        }
        let stage = self.wish_stage(id, revision);
        let limited = device.wishes.iter().any(|(_, wish)| of_it(wish) && wish.ttl.is_some());
        if stage == Some(Stage::Committed) && !limited {
            return Err(too_late(
                request,
                "committed without a time limit; say what should be instead",
            ));
        }
        Err(too_late(request, stage.map_or("over", Stage::as_str)))
    }
}

fn too_late(request: &RequestId, stage: &str) -> Rejection {
    let message = format!("the command {request} can't be taken back any more: it is {stage}");
    Rejection::new(RejectCode::TooLate, message)
}
