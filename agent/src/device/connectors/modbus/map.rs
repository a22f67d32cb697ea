//! A device's register map: its registers, how often they are read, and its actions.
//!
//! ```toml
//! word_order = "big"
//! [groups.fast]
//! interval_ms = 500
//! [registers.speed]
//! table = "holding"
//! address = 100
//! type = "u16"
//! scale = 0.1
//! access = "read_write"
//! group = "fast"
//! [actions.start.pulse]
//! register = "start"
//! width_ms = 200
//! ```
//!
//! The map is the device's settings, as JSON, or as one TOML text in `map_toml`. All of it is
//! checked here, purely, when the device is registered: unknown fields, places that two registers
//! claim, groups and registers that don't exist, constants that a register can't hold.

mod action;
mod watchdog;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleet_state::{Finite, Object, Value};

use crate::device::connector::{Access, DeviceSetup, Fence, Profile, Refusal};

use super::super::settings::{Fields, shown};
use super::register::{Orders, Register, Use};
pub(crate) use action::{Action, Handshake};
pub(crate) use watchdog::Watchdog;

/// The group of registers that name none.
pub(crate) const DEFAULT_GROUP: &str = "default";
/// Registers of one device.
const REGISTERS_MAX: usize = 1_000;
/// Bytes of a map as TOML.
const TOML_BYTES_MAX: usize = 32 * 1024;
/// Words that one question may ask for; the protocol allows 125, and 2,000 bits.
const BLOCK_MAX: i64 = 125;

/// How often registers are read, and how many at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Group {
    /// Time between two readings.
    pub(crate) interval: Duration,
    /// Words or bits in one question.
    pub(crate) block_max: u16,
    /// Words or bits that nobody needs and that are read along rather than asked around.
    pub(crate) gap_max: u16,
}

impl Default for Group {
    fn default() -> Self {
        Self { interval: Duration::from_secs(1), block_max: 100, gap_max: 4 }
    }
}

/// A device's map.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Map {
    /// The unit that it answers as.
    pub(crate) unit: u8,
    /// Its registers.
    pub(crate) registers: BTreeMap<Arc<str>, Register>,
    /// Its poll groups.
    pub(crate) groups: BTreeMap<String, Group>,
    /// Its one-shots.
    pub(crate) actions: BTreeMap<Arc<str>, Action>,
    /// What keeps it armed.
    pub(crate) watchdog: Option<Watchdog>,
}

impl Map {
    /// Reads a device's address and settings.
    ///
    /// # Errors
    /// What is wrong, in which field.
    pub(crate) fn parse(device: &DeviceSetup) -> Result<Self, Refusal> {
        let unit = unit(&device.address)?;
        let outer = Fields::new("settings", &device.settings);
        let written = match outer.text("map_toml")? {
            None => None,
            Some(text) => {
                outer.finish()?;
                Some(from_toml(text)?)
            }
        };
        let (path, settings) = match &written {
            Some(settings) => ("settings.map_toml", settings),
            None => ("settings", &device.settings),
        };
        let fields = Fields::new(path, settings);
        let orders = Orders::parse(&fields, Orders::default())?;
        let mut map = Self {
            unit,
            registers: BTreeMap::new(),
            groups: BTreeMap::from([(DEFAULT_GROUP.to_owned(), Group::default())]),
            actions: BTreeMap::new(),
            watchdog: None,
        };
        for (name, group) in fields.named("groups")? {
            map.groups.insert(name.to_owned(), group_of(group)?);
        }
        for (name, register) in fields.named("registers")? {
            map.registers.insert(Arc::from(name), Register::parse(register, orders)?);
        }
        map.check_registers(&fields)?;
        for (name, action) in fields.named("actions")? {
            map.actions.insert(Arc::from(name), Action::parse(action, &map.registers)?);
        }
        if let Some(watchdog) = fields.object("watchdog")? {
            map.watchdog = Some(Watchdog::parse(watchdog, &map.registers)?);
        }
        fields.finish()?;
        Ok(map)
    }

    fn check_registers(&self, fields: &Fields<'_>) -> Result<(), Refusal> {
        if self.registers.is_empty() {
            return Err(fields.missing("registers"));
        }
        if self.registers.len() > REGISTERS_MAX {
            let problem = format!("{} of them, the limit is {REGISTERS_MAX}", self.registers.len());
            return Err(fields.refuse("registers", problem));
        }
        let mut before: Vec<(&Arc<str>, &Register)> = Vec::new();
        for (name, register) in &self.registers {
            let field = format!("registers.{name}");
            if !self.groups.contains_key(&register.group) {
                let problem = format!("there is no group {}", shown(&register.group));
                return Err(fields.refuse(&format!("{field}.group"), problem));
            }
            let rival = before.iter().find(|(_, other)| {
                register.place.overlaps(&other.place)
                    || register.read_from.overlaps(&other.read_from)
                    || register.place.overlaps(&other.read_from)
                    || register.read_from.overlaps(&other.place)
            });
            if let Some((other, _)) = rival {
                let problem = format!("it overlaps with {other}");
                return Err(fields
                    .refuse(&format!("{field}.address"), problem)
                    .with_hint("one place has one meaning; a status word is declared bit by bit"));
            }
            before.push((name, register));
        }
        Ok(())
    }

    /// What can be done with the device.
    pub(crate) fn profile(&self) -> Profile {
        let access = |register: &Register| match register.usage {
            Use::Read => Some(Access::Readable),
            Use::Write => Some(Access::WriteOnly),
            Use::ReadWrite => Some(Access::Desired),
            Use::Action => None,
        };
        let mut warnings = Vec::new();
        for (name, register) in &self.registers {
            if register.bit_write == Some(super::register::BitWrite::ReadModifyWrite) {
                warnings.push(format!(
                    "{name} is written by reading its word and writing it back: what the device \
                     changes in between is lost"
                ));
            }
            if let Some(budget) = register.writes_per_day {
                warnings.push(format!("{name} wears out: {budget} writes a day at most"));
            }
        }
        Profile {
            properties: self
                .registers
                .iter()
                .filter_map(|(name, register)| Some((Arc::clone(name), access(register)?)))
                .collect(),
            others: None,
            actions: Some(self.actions.keys().cloned().collect()),
            fence: Fence::Lease,
            warnings,
        }
    }
}

/// The unit number: 1 to 247, or 255 for a device that is no gateway.
fn unit(address: &str) -> Result<u8, Refusal> {
    let unit = address.parse::<u8>().ok().filter(|unit| (1..=247).contains(unit) || *unit == 255);
    unit.ok_or_else(|| {
        Refusal::new("address", format!("{} is no unit", shown(address)))
            .with_hint("1 to 247, or 255 where there is one device at the link's address")
    })
}

fn group_of(fields: Fields<'_>) -> Result<Group, Refusal> {
    let default = Group::default();
    let number = |field, range, default: u16| {
        let found = fields.whole(field, range)?;
        Ok(found.and_then(|found| u16::try_from(found).ok()).unwrap_or(default))
    };
    let interval = fields.whole("interval_ms", 50..=86_400_000)?;
    let interval = interval.and_then(|interval| u64::try_from(interval).ok());
    let group = Group {
        interval: interval.map_or(default.interval, Duration::from_millis),
        block_max: number("block_max", 1..=BLOCK_MAX, default.block_max)?,
        gap_max: number("gap_max", 0..=BLOCK_MAX, default.gap_max)?,
    };
    fields.finish()?;
    Ok(group)
}

fn from_toml(text: &str) -> Result<Object, Refusal> {
    let refuse = |problem: String| Refusal::new("settings.map_toml", problem);
    if text.len() > TOML_BYTES_MAX {
        let problem = format!("it has {} bytes, the limit is {TOML_BYTES_MAX}", text.len());
        return Err(refuse(problem));
    }
    let table: toml::Table =
        toml::from_str(text).map_err(|error| refuse(error.message().to_owned()))?;
    let object =
        table.into_iter().map(|(key, value)| Ok((Arc::from(key), from_toml_value(value)?)));
    object.collect::<Result<Object, String>>().map_err(refuse)
}

fn from_toml_value(value: toml::Value) -> Result<Value, String> {
    Ok(match value {
        toml::Value::String(text) => Value::from(text),
        toml::Value::Integer(number) => Value::from(number),
        toml::Value::Float(number) => {
            Value::F64(Finite::new(number).ok_or_else(|| format!("{number} is no number here"))?)
        }
        toml::Value::Boolean(flag) => Value::from(flag),
        toml::Value::Datetime(date) => return Err(format!("{date}: dates have no use here")),
        toml::Value::Array(list) => {
            Value::List(list.into_iter().map(from_toml_value).collect::<Result<_, _>>()?)
        }
        toml::Value::Table(table) => {
            let members = table.into_iter();
            let members = members.map(|(key, value)| Ok((Arc::from(key), from_toml_value(value)?)));
            Value::Map(members.collect::<Result<Object, String>>()?)
        }
    })
}

#[cfg(test)]
pub(crate) mod tests;
