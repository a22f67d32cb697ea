//! Batches: all or nothing.

use super::effects::Effects;
use super::{ACCEPTED, Decision};
use crate::command::BatchItem;
use crate::outcome::{Outcome, Rejection};
use crate::seeded;
use crate::state::FleetState;

impl FleetState {
    /// Carries out the commands in turn on a clone of the state, which takes its place when all were accepted.
    pub(super) fn batch(&mut self, items: &[BatchItem], effects: &mut Effects) -> Decision {
        let mark = effects.mark();
        let mut attempt = self.clone();
        let mut changed = false;
        for (position, item) in items.iter().enumerate() {
            match attempt.decide(&item.command, item.if_revision, effects) {
                Ok(Outcome::Accepted(_)) => changed = true,
                Ok(Outcome::Unchanged) => {}
                Ok(Outcome::Rejected(rejection)) | Err(rejection) => {
                    effects.rewind(mark);
                    if seeded::on("batch-done-in-part") {
                        *self = attempt;
                    }
                    let message =
                        format!("item {} of the batch: {}", position + 1, rejection.message);
                    return Err(Rejection::new(rejection.code, message));
                }
            }
        }
        *self = attempt;
        Ok(if changed { ACCEPTED } else { Outcome::Unchanged })
    }
}
