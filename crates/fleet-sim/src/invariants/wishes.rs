//! What is told of wishes is true: what the log calls acknowledged or verified was in the device.
//!
//! The look is taken when the log tells something new of a device, and asks its journal whether it
//! ever was so. Whether it still is so nobody can promise: a hand may have turned it since.

use fleet_state::{Change, FleetState, Record, Stage};

use super::Violation;
use crate::field::Field;

/// An entry was committed, gave `state` and changed this.
///
/// # Errors
/// It tells of a wish what never happened.
pub fn check_wishes(
    state: &FleetState,
    changes: &[Change],
    field: &Field,
) -> Result<(), Violation> {
    let told = changes.iter().filter_map(|change| match &change.record {
        Some(Record::Watermarks(marks)) => state.device(&marks.device),
        Some(
            Record::Link(_)
            | Record::Device(_)
            | Record::Param(_)
            | Record::Member(_)
            | Record::Token(_)
            | Record::Invocation(_),
        )
        | None => None,
    });
    for device in told {
        for (property, wish) in device.wishes.iter() {
            let stage = state.wish_stage(&device.id, wish.revision);
            if !matches!(stage, Some(Stage::Acknowledged | Stage::Verified)) {
                continue;
            }
            if !field.has_been(&device.id, property, &wish.value) {
                let what = format!(
                    "{property} of {} is told to be {} since r{} ({stage:?}), and never was",
                    device.id, wish.value, wish.revision
                );
                return Err(Violation::new("what is told of wishes is true", what));
            }
        }
    }
    Ok(())
}
