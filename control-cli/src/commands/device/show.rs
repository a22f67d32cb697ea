//! Devices as they are shown.

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
            ("reported", observed(&device, "reported")),
            ("drift", drift(&device)),
            ("stage", stage(&device)),
        ];
        for (property, wish) in &device.wishes {
            let stage = wish.stage.as_deref().unwrap_or("committed");
            facts.push(("wish", format!("{property} of revision {} {stage}", wish.revision)));
        }
        if let Some(failure) = device.watermarks.as_ref().and_then(|marks| marks.failure.as_ref()) {
            facts.push(("failure", format!("{}: {}", failure.code, failure.message)));
        }
        for (name, key) in
            [("note", "problem"), ("note", "last_error"), ("would write", "would_write")]
        {
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

/// Where it is not as desired, and since when.
fn drift(device: &DeviceBody) -> String {
    let Some(Value::List(drift)) = seen(device, "drift") else {
        return String::new();
    };
    let one = |one: &Object| {
        let part = |key: &str| one.get(key).map(text).unwrap_or_default();
        let since = one.get("since_ms").and_then(|since| since.to_json().parse().ok()).map(time);
        format!(
            "{} is {}, not {}, since {}",
            part("property"),
            part("reported"),
            part("desired"),
            since.unwrap_or_else(|| "before".to_owned())
        )
    };
    let told: Vec<String> = drift.iter().filter_map(Value::as_map).map(one).collect();
    told.join("; ")
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
