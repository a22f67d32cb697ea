//! `<base>/bridge/devices`: everything that the bridge knows, as one retained message.

use std::collections::BTreeMap;
use std::sync::Arc;

use fleet_state::{Limits, Object, Value};

use super::super::super::topic;

/// Bytes of the list: some hundred devices with all that they expose.
pub(crate) const LIST_BYTES_MAX: usize = 6 * 1024 * 1024;
/// Devices of one bridge. Zigbee itself ends earlier.
const DEVICES_MAX: usize = 4_096;
const DEPTH_MAX: usize = 32;

/// A device as its bridge describes it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct BridgeDevice {
    /// What it is called now.
    pub(crate) name: Arc<str>,
    /// It listens now and then only.
    pub(crate) sleepy: bool,
    /// It is not spoken with, by the bridge's own settings or because its joining goes on.
    pub(crate) out_of_use: bool,
    /// Who made it and what it is.
    pub(crate) model: Option<String>,
    /// What it can do, as `features` of the preset.
    pub(crate) exposes: Vec<Value>,
}

/// Reads the list, by `ieee_address`.
///
/// Entries that lack an address, or a name that can stand in a topic, are left out: they can't be spoken with.
///
/// # Errors
/// Why it is no list of devices.
pub(crate) fn read_devices(payload: &[u8]) -> Result<BTreeMap<Arc<str>, BridgeDevice>, String> {
    let limits = Limits { size_bytes_max: LIST_BYTES_MAX, depth_max: DEPTH_MAX };
    let value = Value::parse(payload, limits).map_err(|error| error.to_string())?;
    let Value::List(list) = value else {
        return Err(format!("a list is expected, this is {}", value.kind()));
    };
    if list.len() > DEVICES_MAX {
        return Err(format!("{} devices, the limit is {DEVICES_MAX}", list.len()));
    }
    Ok(list.iter().filter_map(Value::as_map).filter_map(device).collect())
}

fn device(entry: &Object) -> Option<(Arc<str>, BridgeDevice)> {
    let text =
        |object: &Object, key: &str| object.get(key).and_then(Value::as_text).map(str::to_owned);
    let flag = |key: &str| match entry.get(key) {
        Some(Value::Bool(flag)) => Some(*flag),
        _ => None,
    };
    let kind = text(entry, "type").unwrap_or_default();
    if kind == "Coordinator" {
        return None;
    }
    let address = text(entry, "ieee_address")?;
    let name = text(entry, "friendly_name")?;
    // It stands in topics, and one that can't be subscribed to would cost all the others theirs.
    topic::check("friendly_name", &name).ok()?;
    let definition = entry.get("definition").and_then(Value::as_map);
    let model = definition.and_then(|definition| {
        let vendor = text(definition, "vendor")?;
        let model = text(definition, "model")?;
        Some(format!("{vendor} {model}"))
    });
    let exposes = match definition.and_then(|definition| definition.get("exposes")) {
        Some(Value::List(exposes)) => exposes.clone(),
        _ => Vec::new(),
    };
    // Newer bridges say interview_state, older ones the two flags.
    let joined = match text(entry, "interview_state") {
        Some(state) => state == "SUCCESSFUL",
        None => flag("interview_completed").unwrap_or(true),
    };
    let battery = text(entry, "power_source").is_some_and(|source| source == "Battery");
    let device = BridgeDevice {
        name: Arc::from(name),
        sleepy: kind == "EndDevice" && battery,
        out_of_use: flag("disabled").unwrap_or(false) || !joined,
        model,
        exposes,
    };
    Some((Arc::from(address), device))
}
