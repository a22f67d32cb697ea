//! Waiting until a command has got to where its sender wants it.
//!
//! How far a command got is in the replicated state, as the owner of its device's link tells it,
//! so any agent can wait for it in its own view. A wait ends when the stage is reached, when it
//! can't be reached any more, or shortly before the request's deadline; the answer says
//! committed and the stage so far in each case.

use std::time::Duration;

use fleet_consensus::View;
use fleet_protocol::query::why_unowned;
use fleet_protocol::{CommandTarget, WaitFor};
use fleet_state::{DeviceId, Object, RequestId, Revision, Stage, Value};
use tokio::time::Instant;

use super::desk::Desk;

/// An answer leaves so long before the deadline, or it would come when nobody waits any more.
const ANSWER_BEFORE: Duration = Duration::from_millis(50);

/// A command that is on its way to a device.
#[derive(Clone, Debug)]
pub(super) struct OnItsWay {
    pub device: DeviceId,
    pub request_id: RequestId,
    /// Where the log decided it.
    pub revision: Revision,
    pub invokes: bool,
}

impl OnItsWay {
    /// What a command about `target` is to wait for; `None` when no device ever hears of it.
    pub(super) fn of(
        target: &CommandTarget,
        request_id: &RequestId,
        revision: Revision,
    ) -> Option<Self> {
        #[expect(clippy::wildcard_enum_match_arm, reason = "no device hears of the others")]
        let (device, invokes) = match target {
            CommandTarget::DeviceUpdate(id) | CommandTarget::DeviceReplace(id) => (id, false),
            CommandTarget::DeviceInvoke(id) => (id, true),
            _ => return None,
        };
        let (device, request_id) = (device.clone(), request_id.clone());
        Some(Self { device, request_id, revision, invokes })
    }

    /// How far it got.
    pub(super) fn stage(&self, view: &View) -> Stage {
        let stage = if self.invokes {
            view.state.invocation(&self.request_id).map(|invocation| invocation.stage)
        } else {
            view.state.wish_stage(&self.device, self.revision)
        };
        stage.unwrap_or(Stage::Committed)
    }

    /// Waits, and tells how far it got, with the reason when that is not far enough.
    pub(super) async fn reached(
        &self,
        desk: &Desk,
        wait: WaitFor,
        deadline: Instant,
    ) -> (Stage, Option<String>) {
        let mut views = desk.handle.watch_view();
        let decided = views.wait_for(|view| {
            let ends = || self.kept(view).is_some() || self.is_as_far_as_can_be(view);
            wait.met_by(self.stage(view)).is_some() || ends()
        });
        let until = deadline.checked_sub(ANSWER_BEFORE).unwrap_or(deadline);
        // Both ends lead to the same look.
        let _in_time = tokio::time::timeout_at(until, decided).await.is_ok();
        let view = desk.handle.view();
        let stage = self.stage(&view);
        let reached = wait.met_by(stage) == Some(true);
        (stage, if reached { None } else { self.reason(desk, &view, stage) })
    }

    /// Why nobody hands anything to its device, when nobody does.
    fn kept(&self, view: &View) -> Option<String> {
        let why = match view.state.device(&self.device) {
            None => "is not registered",
            Some(device) if device.spec.link.is_none() => "has no link",
            // What was held, or only observed, after the command may have got it before that.
            Some(device) if device.revision > self.revision => return None,
            Some(device) => match device.blocked() {
                Some(why) => why,
                None => {
                    let link = view.state.link(device.spec.link.as_ref()?)?;
                    // What was paused after the command may have got it before that.
                    let since = link.paused && link.revision <= self.revision;
                    return since
                        .then(|| "its link is paused, so nothing is handed to it".to_owned());
                }
            },
        };
        Some(format!("the device {why}, so nothing is handed to it"))
    }

    /// Whether it got to where nobody can know any more of it.
    fn is_as_far_as_can_be(&self, view: &View) -> bool {
        let got = matches!(self.stage(view), Stage::Sent | Stage::Acknowledged);
        got && !self.invokes && view.state.wish_failure(&self.device, self.revision).is_some()
    }

    /// What is the matter with its link, which says more than what was last heard of the device.
    fn of_link(&self, view: &View) -> Option<String> {
        let device = view.state.device(&self.device)?;
        let link = view.state.link(device.spec.link.as_ref()?)?;
        if link.paused {
            return Some("its link is paused".to_owned());
        }
        let why = why_unowned(link, &view.state);
        link.owner.is_none().then(|| format!("no node owns its link: {why}"))
    }

    fn reason(&self, desk: &Desk, view: &View, stage: Stage) -> Option<String> {
        let kept = if stage.is_final() { None } else { self.kept(view) };
        if kept.is_some() {
            return kept;
        }
        let told = if self.invokes {
            view.state.invocation(&self.request_id).map(|invocation| invocation.detail.to_string())
        } else {
            let failure = view.state.wish_failure(&self.device, self.revision);
            failure.map(|failure| failure.message.to_string())
        };
        let told = told.filter(|told| !told.is_empty());
        let of_link = || if stage.is_final() { None } else { self.of_link(view) };
        told.or_else(of_link).or_else(|| {
            let known = desk.observed.device(&self.device)?;
            let text =
                |body: &Object, key| body.get(key).and_then(Value::as_text).map(ToOwned::to_owned);
            text(&known.body, "note").or_else(|| {
                Some(format!("the owner of its link says: {}", text(&known.body, "why")?))
            })
        })
    }
}
