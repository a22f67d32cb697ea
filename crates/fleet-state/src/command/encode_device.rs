//! The bytes of what a device is and of how it is treated.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{DeviceSpec, DriftPolicy, Mode, OnControlLoss, OnDrift, OnReturn, Policy};
use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{
    ACTION_BYTES_MAX, ADDRESS_BYTES_MAX, IDEMPOTENT_ACTIONS_MAX, NAME_BYTES_MAX,
    POLICY_PROPERTIES_MAX, PROPERTY_BYTES_MAX,
};
use crate::schema::Schema;
use crate::value::{Finite, Object, Value};

impl DeviceSpec {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.option(self.link.as_ref(), |writer, link| writer.text(link.as_str()));
        writer.text(&self.address);
        writer.text(&self.name);
        writer.labels(&self.labels);
        writer.option(self.model.as_ref(), |writer, model| model.source().encode(writer));
        self.settings.encode(writer);
        self.policy.encode(writer);
    }
}

pub(crate) fn decode_device_spec(reader: &mut Reader<'_>) -> Result<DeviceSpec, DecodeError> {
    Ok(DeviceSpec {
        link: reader.option(Reader::id)?,
        address: reader.shared(ADDRESS_BYTES_MAX)?,
        name: reader.shared(NAME_BYTES_MAX)?,
        labels: reader.labels()?,
        model: reader.option(|reader| {
            let source = Value::decode(reader)?;
            Schema::from_value(source).map_err(|_| DecodeError::Invalid { what: "a device model" })
        })?,
        settings: Object::decode(reader)?,
        policy: Arc::new(Policy::decode(reader)?),
    })
}

pub(super) fn encode_ttl(ttl_ms: Option<u64>, writer: &mut Writer) {
    writer.option(ttl_ms.as_ref(), |writer, ttl_ms| writer.u64(*ttl_ms));
}

pub(super) fn decode_ttl(reader: &mut Reader<'_>) -> Result<Option<u64>, DecodeError> {
    reader.option(Reader::u64)
}

fn unknown(what: &'static str, found: u8) -> DecodeError {
    DecodeError::UnknownKind { what, found: u64::from(found) }
}

impl Mode {
    fn number(self) -> u8 {
        match self {
            Mode::Observe => 1,
            Mode::Manual => 2,
            Mode::Auto => 3,
        }
    }

    pub(crate) fn encode(self, writer: &mut Writer) {
        writer.u8(self.number());
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let found = reader.u8()?;
        let mode = Self::ALL.into_iter().find(|mode| mode.number() == found);
        mode.ok_or(unknown("a mode", found))
    }
}

impl Policy {
    fn encode(&self, writer: &mut Writer) {
        self.drift.encode(writer);
        writer.count(self.properties.len());
        for (property, drift) in &self.properties {
            writer.text(property);
            drift.encode(writer);
        }
        match self.on_return {
            OnReturn::Hold => writer.u8(1),
            OnReturn::Apply { age_ms_max } => {
                writer.u8(2);
                writer.u64(age_ms_max);
            }
            OnReturn::Discard => writer.u8(3),
        }
        match &self.on_control_loss {
            OnControlLoss::Keep => writer.u8(1),
            OnControlLoss::Values(values) => {
                writer.u8(2);
                values.encode(writer);
            }
        }
        writer.option(self.stop_action.as_ref(), |writer, action| writer.text(action));
        writer.count(self.idempotent_actions.len());
        self.idempotent_actions.iter().for_each(|action| writer.text(action));
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            drift: DriftPolicy::decode(reader)?,
            properties: decode_properties(reader)?,
            on_return: match reader.u8()? {
                1 => OnReturn::Hold,
                2 => OnReturn::Apply { age_ms_max: reader.u64()? },
                3 => OnReturn::Discard,
                found => return Err(unknown("what happens on return", found)),
            },
            on_control_loss: match reader.u8()? {
                1 => OnControlLoss::Keep,
                2 => OnControlLoss::Values(Object::decode(reader)?),
                found => return Err(unknown("what happens on loss of control", found)),
            },
            stop_action: reader.option(|reader| reader.shared(ACTION_BYTES_MAX))?,
            idempotent_actions: decode_actions(reader)?,
        })
    }
}

fn decode_properties(
    reader: &mut Reader<'_>,
) -> Result<BTreeMap<Arc<str>, DriftPolicy>, DecodeError> {
    let mut properties = BTreeMap::new();
    for _ in 0..reader.count(POLICY_PROPERTIES_MAX)? {
        let property: Arc<str> = reader.shared(PROPERTY_BYTES_MAX)?;
        if properties.last_key_value().is_some_and(|(before, _)| *before >= property) {
            return Err(DecodeError::Invalid { what: "the order of properties" });
        }
        properties.insert(property, DriftPolicy::decode(reader)?);
    }
    Ok(properties)
}

fn decode_actions(reader: &mut Reader<'_>) -> Result<BTreeSet<Arc<str>>, DecodeError> {
    let mut actions = BTreeSet::new();
    for _ in 0..reader.count(IDEMPOTENT_ACTIONS_MAX)? {
        let action: Arc<str> = reader.shared(ACTION_BYTES_MAX)?;
        if actions.last().is_some_and(|before| *before >= action) {
            return Err(DecodeError::Invalid { what: "the order of actions" });
        }
        actions.insert(action);
    }
    Ok(actions)
}

impl OnDrift {
    fn number(self) -> u8 {
        match self {
            OnDrift::Report => 1,
            OnDrift::Adopt => 2,
            OnDrift::Enforce => 3,
        }
    }
}

impl DriftPolicy {
    fn encode(&self, writer: &mut Writer) {
        writer.u8(self.on_drift.number());
        writer.u64(self.settle_ms);
        writer.option(self.tolerance.as_ref(), |writer, number| {
            Value::F64(*number).encode(writer);
        });
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let found = reader.u8()?;
        let on_drift = OnDrift::ALL.into_iter().find(|on_drift| on_drift.number() == found);
        Ok(Self {
            on_drift: on_drift.ok_or(unknown("what happens on drift", found))?,
            settle_ms: reader.u64()?,
            tolerance: reader.option(decode_tolerance)?,
        })
    }
}

fn decode_tolerance(reader: &mut Reader<'_>) -> Result<Finite, DecodeError> {
    if let Value::F64(number) = Value::decode(reader)? {
        Ok(number)
    } else {
        Err(DecodeError::Invalid { what: "a tolerance" })
    }
}
