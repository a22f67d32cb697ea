//! From the records of the state to the words of connectors.

use std::sync::Arc;

use fleet_state::{DeviceId, DeviceSpec, LinkId, LinkSpec, Value};

use super::connector::{DeviceSetup, LinkSetup};

/// The setting that names what a device is, where a connector has presets.
const MODEL_SETTING: &str = "model";

/// What a link's connector is told.
pub(crate) fn link_setup(id: &LinkId, spec: &LinkSpec) -> LinkSetup {
    LinkSetup {
        id: id.clone(),
        address: Arc::clone(&spec.address),
        settings: spec.settings.clone(),
    }
}

/// What a device's connector is told.
pub(crate) fn device_setup(id: &DeviceId, spec: &DeviceSpec) -> DeviceSetup {
    let model = spec.settings.get(MODEL_SETTING).and_then(Value::as_text);
    DeviceSetup {
        id: id.clone(),
        address: Arc::clone(&spec.address),
        model: model.map(Arc::from),
        settings: spec.settings.clone(),
    }
}
