//! What is known of devices and links beside the replicated state, and how far it still holds.
//!
//! What somebody told once stays known when the teller is gone. So the state is asked whether the
//! teller still is who could know, and this node for how long it has heard nothing of it.

use std::sync::Arc;

use fleet_state::{Device, FleetState, Link, LinkId, NodeId, Object, Value};

use super::ReadContext;

/// A node that tells nothing for longer is not believed any more. Everybody tells everything that it
/// observes every half minute, and one such round may get lost.
pub const SILENT_MS_MAX: u64 = 75_000;

/// What a node told of a device or a link.
#[derive(Debug, Clone, PartialEq)]
pub struct Told {
    /// As it is shown.
    pub body: Object,
    /// Over which link it was observed; `None` when an agent told it that does not say so yet.
    pub link: Option<LinkId>,
    /// In which epoch of that link.
    pub epoch: u64,
}

/// How a device stands, in doubt where nobody could say otherwise; nothing of what was heard over
/// another link than its own.
pub(super) fn of_device(
    device: &Device,
    state: &FleetState,
    context: &ReadContext<'_>,
) -> Option<Object> {
    let on = device.spec.link.as_ref()?;
    let told = context.observed.and_then(|known| known.observed(&device.id))?;
    if told.link.is_some_and(|link| link != *on) {
        return None;
    }
    let mut body = told.body;
    if let Some(why) = doubt(state.link(on)?.as_ref(), told.epoch, state, context) {
        let note = body.get("note").and_then(Value::as_text);
        let note = note.filter(|note| !note.is_empty() && *note != why);
        let note = note.map_or_else(|| why.clone(), |note| format!("{why}; {note}"));
        body.insert("availability", "unknown");
        body.insert("note", note);
        doubt_reported(&mut body);
    }
    Some(body)
}

/// How a link stands: what its present owner says; without one, why there is none, where that is known.
pub(super) fn of_link(
    link: &Link,
    state: &FleetState,
    context: &ReadContext<'_>,
) -> Option<Object> {
    let said = |state: &str, detail: &str| {
        let mut body = Object::new();
        body.insert("state", state);
        body.insert("detail", detail);
        Some(body)
    };
    let Some(owner) = link.owner else { return said("unowned", why_unowned(link, state)) };
    let told = context.observed.and_then(|known| known.observed_link(&link.id));
    // What a former owner said of it says nothing of now.
    match told.filter(|told| told.epoch == link.epoch) {
        Some(told) => match silent(owner, "its owner", context) {
            Some(why) => said("unknown", &why),
            None => Some(told.body),
        },
        None => silent(owner, "its owner", context).and_then(|_| {
            let why = format!("its owner, node {owner}, has told nothing of it yet");
            said("unknown", &why)
        }),
    }
}

/// Why no node owns a link that has no owner.
#[must_use]
pub fn why_unowned(link: &Link, state: &FleetState) -> &'static str {
    if state.members().any(|member| member.is_live() && link.spec.placement.fits(member)) {
        "one that fits its placement will take it"
    } else {
        "no member fits its placement; change that, or the labels of a member"
    }
}

/// Why what was told of a link's devices in an epoch may not be so any more.
fn doubt(link: &Link, epoch: u64, state: &FleetState, context: &ReadContext<'_>) -> Option<String> {
    let Some(owner) = link.owner else {
        return Some(format!("no node owns its link: {}", why_unowned(link, state)));
    };
    if link.paused {
        return Some("its link is paused".to_owned());
    }
    if epoch < link.epoch {
        return Some("its link has another owner now, which has told nothing of it yet".to_owned());
    }
    silent(owner, "its gateway", context)
}

/// That a node has told nothing for too long.
fn silent(node: NodeId, who: &str, context: &ReadContext<'_>) -> Option<String> {
    let silent_ms = context.observed.map(|known| known.silent_ms(node))?;
    let seconds = silent_ms / 1_000;
    (silent_ms > SILENT_MS_MAX)
        .then(|| format!("{who}, node {node}, has told nothing for {seconds} s"))
}

/// What was reported may not be so any more: of good quality it is no longer.
pub fn doubt_reported(body: &mut Object) {
    let Some(Value::Map(reported)) = body.get("reported") else { return };
    let mut doubted = Object::new();
    for (property, told) in reported.iter() {
        let mut told = told.clone();
        if let Value::Map(told) = &mut told
            && told.get("quality").and_then(Value::as_text) == Some("good")
        {
            told.insert("quality", "uncertain");
        }
        doubted.insert(Arc::clone(property), told);
    }
    body.insert("reported", doubted);
}
