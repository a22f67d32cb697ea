//! What agents may say themselves.

use super::{Invalid, at_most, check_text, check_value, check_wishes, malformed};
use crate::command::{AgentCommand, StageItem};
use crate::limits::{
    DETAIL_BYTES_MAX, FAILURE_CODE_BYTES_MAX, FAILURES_MAX, REPORT_ITEMS_MAX, WISHES_MAX,
};
use crate::record::StageFailure;
use crate::stage::Stage;
use crate::value::Object;

pub(super) fn check_agents(command: &AgentCommand) -> Result<(), Invalid> {
    match command {
        AgentCommand::LinkAssign { .. } | AgentCommand::LinkRelease { .. } => Ok(()),
        AgentCommand::Stages { items, .. } => {
            check_count(items.len())?;
            items.iter().try_for_each(check_stage)
        }
        AgentCommand::Claim { items, .. } => check_count(items.len()),
        AgentCommand::InvocationEnd { stage, detail, .. } => {
            let told =
                [Stage::Sent, Stage::Acknowledged, Stage::Verified, Stage::Failed, Stage::Unknown];
            if !told.contains(stage) {
                return Err(malformed(format!(
                    "no owner can say that something is {}",
                    stage.as_str()
                )));
            }
            check_text("the detail", detail, DETAIL_BYTES_MAX)
        }
        AgentCommand::Adopt { property, value, .. } => {
            check_value(value)?;
            check_wishes(&Object::from_iter([(property.clone(), value.clone())]))
        }
    }
}

fn check_count(count: usize) -> Result<(), Invalid> {
    if count == 0 {
        return Err(malformed("there is nothing in it"));
    }
    at_most("the report", count, REPORT_ITEMS_MAX, "items")
}

fn check_stage(item: &StageItem) -> Result<(), Invalid> {
    at_most("the report", item.failures.len(), WISHES_MAX, "failures of one device")?;
    at_most("the report", item.overcome.len(), FAILURES_MAX, "failures that are over")?;
    item.failures.iter().try_for_each(check_failure)
}

fn check_failure(failure: &StageFailure) -> Result<(), Invalid> {
    let told = [Stage::Sent, Stage::Acknowledged, Stage::Verified, Stage::Failed, Stage::Unknown];
    if !told.contains(&failure.stage) {
        let stage = failure.stage.as_str();
        return Err(malformed(format!("no owner can say that a wish is {stage}")));
    }
    check_text("the failure's code", &failure.code, FAILURE_CODE_BYTES_MAX)?;
    check_text("the failure's message", &failure.message, DETAIL_BYTES_MAX)
}
