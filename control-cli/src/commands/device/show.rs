//! Devices as they are shown.

use std::sync::Arc;

use anyhow::Result;
use fleet_protocol::{Noun, QueryTarget, query::PageRequest, record::DeviceBody};
use fleet_state::{DeviceId, Entity, Object, Value};

use super::ListArgs;
use crate::{
    commands::listed,
    output::{Table, time},
    session::Session,
};

pub(super) async fn get(id: DeviceId, session: &Session) -> Result<()> {
    let device: DeviceBody = listed::one(session, QueryTarget::Get(Entity::Device(id))).await?;
    session.form().print(&device, || {
        let mut facts = vec![
            ("id", device.id.clone()),
            ("name", device.name.clone()),
            ("link", device.link.clone().unwrap_or_default()),
            ("address", device.address.clone()),
            ("labels", listed::shown_labels(&device.labels)),
            ("owner", owner(&device)),
            ("fence", observed(&device, "fence")),
            ("mode", device.mode.clone()),
            ("hold", hold(&device)),
            ("availability", observed(&device, "availability")),
            ("desired", device.desired.0.to_json()),
            ("reported", reported(&device)),
            ("drift", drift(&device)),
            ("stage", stage(&device)),
        ];
        for (property, wish) in &device.wishes {
            let stage = wish.stage.as_deref().unwrap_or("committed");
            facts.push(("wish", format!("{property} of revision {} {stage}", wish.revision)));
        }
        let failures = device.watermarks.iter().flat_map(|marks| &marks.failures);
        // What got as far as can be known has not failed.
        for failure in
            failures.filter(|failure| ["failed", "unknown", "verified"].contains(&&*failure.stage))
        {
            let (revision, code, message) = (failure.revision, &failure.code, &failure.message);
            facts.push(("failure", format!("{code} (r{revision}): {message}")));
        }
        facts.push(("local", local(&device)));
        facts.push(("foreign write", foreign_write(&device)));
        for (name, key) in [("note", "note"), ("would write", "would_write")] {
            facts.push((name, observed(&device, key)));
        }
        facts.push(("desired revision", device.desired_revision.to_string()));
        facts.push(("revision", device.revision.to_string()));
        facts.push(("changed", time(device.changed_wall_ms)));
        facts.retain(|(name, text)| !text.is_empty() || !is_only_said(name));
        Table::facts(facts)
    })
}

/// What is left out where there is nothing to say.
fn is_only_said(name: &str) -> bool {
    matches!(
        name,
        "owner"
            | "fence"
            | "hold"
            | "availability"
            | "reported"
            | "drift"
            | "stage"
            | "local"
            | "foreign write"
            | "note"
            | "would write"
    )
}

fn seen<'a>(device: &'a DeviceBody, key: &str) -> Option<&'a Value> {
    device.observed.as_ref()?.0.as_map()?.get(key)
}

/// Something that the owner of its link observed, as text.
fn observed(device: &DeviceBody, key: &str) -> String {
    seen(device, key).map(text).unwrap_or_default()
}

fn text(value: &Value) -> String {
    value.as_text().map_or_else(|| value.to_json(), str::to_owned)
}

fn owner(device: &DeviceBody) -> String {
    match (device.owner, device.epoch) {
        (Some(node), Some(epoch)) => format!("node {node}, epoch {epoch}"),
        (None, Some(_)) => "nobody".to_owned(),
        (_, None) => String::new(),
    }
}

fn hold(device: &DeviceBody) -> String {
    device.hold.as_ref().map_or_else(String::new, |hold| {
        let by = hold.actor.as_ref().map(|actor| format!(" by {actor}")).unwrap_or_default();
        format!("since revision {}{by}: {}", hold.revision, hold.reason)
    })
}

/// How far its newest wish got.
fn stage(device: &DeviceBody) -> String {
    let newest = device.wishes.values().map(|wish| wish.revision).max();
    match (&device.stage, newest) {
        (Some(stage), Some(revision)) => format!("r{revision} {stage}"),
        (stage, _) => stage.clone().unwrap_or_default(),
    }
}

/// What it reported, with what is known of how far that can be trusted, and where it can't be, since when it is known.
fn reported(device: &DeviceBody) -> String {
    let reported = seen(device, "reported").and_then(Value::as_map);
    let one = |(property, told): (&Arc<str>, &Value)| {
        let told = told.as_map()?;
        let quality = told.get("quality").and_then(Value::as_text).filter(|word| *word != "good");
        let heard = told.get("heard_wall_ms").and_then(|heard| heard.to_json().parse().ok());
        let heard = heard.map(|ms| format!(", heard {}", time(ms))).unwrap_or_default();
        let quality = quality.map(|word| format!(" ({word}{heard})")).unwrap_or_default();
        Some(format!("{property}={}{quality}", told.get("value")?.to_json()))
    };
    let told: Vec<String> = reported.into_iter().flat_map(Object::iter).filter_map(one).collect();
    told.join(" ")
}

/// Where it is not as desired, and since when.
fn drift(device: &DeviceBody) -> String {
    let drift = seen(device, "drift").and_then(Value::as_map);
    let one = |(property, told): (&Arc<str>, &Value)| {
        let told = told.as_map()?;
        let part = |key: &str| told.get(key).map(Value::to_json).unwrap_or_default();
        let since = told.get("since_wall_ms").and_then(|since| since.to_json().parse().ok());
        let since = since.map(|ms| format!(" since {}", time(ms))).unwrap_or_default();
        Some(format!("{property} is {}, not {}{since}", part("reported"), part("desired")))
    };
    let told: Vec<String> = drift.into_iter().flat_map(Object::iter).filter_map(one).collect();
    told.join("; ")
}

/// What was written at its gateway without a majority and is not merged yet.
fn local(device: &DeviceBody) -> String {
    let local = seen(device, "local").and_then(Value::as_map);
    let one = |(property, one): (&Arc<str>, &Value)| {
        let one = one.as_map()?;
        let part = |key: &str| one.get(key).map(text).unwrap_or_default();
        let (value, number, stage) = (part("value"), part("local"), part("stage"));
        Some(format!("{property} is {value} by local write {number}, {stage}"))
    };
    let told: Vec<String> = local.into_iter().flat_map(Object::iter).filter_map(one).collect();
    told.join("; ")
}

/// What somebody else wrote to it last, past the site.
fn foreign_write(device: &DeviceBody) -> String {
    let Some(foreign) = seen(device, "foreign_write").and_then(Value::as_map) else {
        return String::new();
    };
    let part = |key: &str| foreign.get(key).map(Value::to_json).unwrap_or_default();
    let heard = part("heard_wall_ms").parse().map(|ms| format!(" at {}", time(ms)));
    let (values, heard) = (part("values"), heard.unwrap_or_default());
    format!("{values}{heard}, {} since it was connected", part("count"))
}

pub(super) async fn list(args: ListArgs, session: &Session) -> Result<()> {
    let target = QueryTarget::List { noun: Noun::Device, area: args.area };
    let labels = listed::label_filter(&args.labels)?;
    let page = PageRequest { labels, drift: args.drift, ..listed::whole_page() };
    let found: Vec<DeviceBody> = listed::all(session, target, page).await?;
    session.form().print(&found, || {
        if args.drift {
            return drifting(&found);
        }
        let mut table = Table::new(&["ID", "NAME", "LINK", "MODE", "REVISION", "STAGE", "DESIRED"]);
        for device in &found {
            let mode = if device.hold.is_some() { "hold" } else { &device.mode };
            table.row([
                device.id.clone(),
                device.name.clone(),
                device.link.clone().unwrap_or_default(),
                mode.to_owned(),
                device.revision.to_string(),
                device.stage.clone().unwrap_or_default(),
                device.desired.0.to_json(),
            ]);
        }
        table
    })
}

fn drifting(found: &[DeviceBody]) -> Table {
    let mut table = Table::new(&["ID", "NAME", "MODE", "STAGE", "DRIFT"]);
    for device in found {
        table.row([
            device.id.clone(),
            device.name.clone(),
            device.mode.clone(),
            device.stage.clone().unwrap_or_default(),
            drift(device),
        ]);
    }
    table
}

#[cfg(test)]
mod tests {
    use fleet_protocol::Json;

    use super::*;

    #[test]
    fn what_the_owner_observed_is_told_in_words() {
        // As the agent's own `tell` writes it.
        let observed = r#"{"foreign_write": {"count": 3, "heard_wall_ms": 4000, "retained": false,
            "values": {"on": true}}, "drift": {"on": {"desired": true, "reported": false,
            "since_wall_ms": 1000}}, "reported": {"level": {"value": 3, "quality": "good",
            "heard_wall_ms": 1000}, "on": {"value": false, "quality": "uncertain"},
            "up": {"value": 1, "quality": "uncertain", "heard_wall_ms": 2000}}}"#;
        let device = r#"{"id": "lamp", "link": null, "address": "", "name": "", "labels": {},
            "model": null, "settings": {}, "policy": {"on_drift": "report", "settle": "0s",
            "tolerance": null, "properties": {}, "on_return": "hold", "on_control_loss": "keep",
            "stop_action": null, "idempotent_actions": []}, "mode": "auto", "hold": null,
            "desired": {}, "wishes": {}, "registered": 1, "desired_revision": 0, "revision": 1,
            "changed_wall_ms": 0}"#;
        let mut device: DeviceBody = serde_json::from_str(device).unwrap();
        assert_eq!((drift(&device), reported(&device)), (String::new(), String::new()));
        device.observed = Some(Json::parse(observed.as_bytes()).unwrap());
        assert_eq!(drift(&device), "on is false, not true since 1970-01-01T00:00:01Z");
        let foreign = r#"{"on":true} at 1970-01-01T00:00:04Z, 3 since it was connected"#;
        assert_eq!(foreign_write(&device), foreign);
        let up = "up=1 (uncertain, heard 1970-01-01T00:00:02Z)";
        assert_eq!(reported(&device), format!("level=3 on=false (uncertain) {up}"));
    }
}
