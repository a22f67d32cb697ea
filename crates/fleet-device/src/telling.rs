//! What the log is told of how far the wishes of a device got.

use std::sync::Arc;

use fleet_state::{DeviceId, StageFailure, StageItem};

use crate::plan::{Orders, Plan, Trouble};

/// What the log doesn't know yet, if there is anything: how far the wishes got, and what keeps
/// those that the marks pass over. The two go together, or a wish that was given up would count
/// as verified for as long as only the marks are known.
#[must_use]
pub fn stage_news(device: &DeviceId, plan: &Plan, orders: &Orders) -> Option<StageItem> {
    let is_known = |trouble: &Trouble| {
        let known = orders.given_up.get(&trouble.revision);
        known.is_some_and(|known| (known.code, known.stage) == (trouble.code, trouble.stage))
    };
    let failures = plan.failures.iter().filter(|trouble| !is_known(trouble));
    let item = StageItem {
        device: device.clone(),
        sent: plan.marks.sent,
        acknowledged: plan.marks.acknowledged,
        verified: plan.marks.verified,
        failures: failures
            .map(|trouble| StageFailure {
                revision: trouble.revision,
                stage: trouble.stage,
                code: Arc::from(trouble.code.as_str()),
                message: Arc::from(trouble.message.as_str()),
            })
            .collect(),
        overcome: plan.overcome.clone(),
    };
    let raised = plan.marks.max(orders.marks) != orders.marks;
    let news = raised || !item.failures.is_empty() || !item.overcome.is_empty();
    news.then_some(item)
}
