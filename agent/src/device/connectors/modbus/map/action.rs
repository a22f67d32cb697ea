//! One-shots of a device that has registers only.
//!
//! - `write`: values into registers, once;
//! - `pulse`: a value, and after a while its reset, as start buttons want it;
//! - `handshake`: a command word, then waiting until the device has put the same into its
//!   acknowledge word, then the command word's reset: the way drives and presses confirm.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use fleet_state::{Object, Value};

use crate::device::connector::{ANSWER_MS_MAX, Refusal};

use super::super::super::settings::{Fields, shown};
use super::super::codec::Kind;
use super::super::register::Register;

/// Longest pulse: other devices of the link wait meanwhile, and the whole of it has to fit into
/// what is left of a lease, which is a second and a half at most times.
const WIDTH_MS_MAX: i64 = 1_000;
/// Time of a call that the questions before and after the wait for an acknowledge word take.
const QUESTIONS_MS: u64 = 1_000;
/// Longest wait for an acknowledge word: nobody waits longer for an answer.
const WITHIN_MS_MAX: i64 = (ANSWER_MS_MAX - QUESTIONS_MS).cast_signed();

/// A one-shot.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Action {
    /// Values into registers.
    Write(Vec<(Arc<str>, Argument)>),
    /// A value and its reset.
    Pulse { register: Arc<str>, value: Value, reset: Value, width: Duration },
    /// A command and the device's word that it has it.
    Handshake(Handshake),
}

/// A command word and its acknowledge word.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Handshake {
    /// The command word.
    pub(crate) command: Arc<str>,
    /// What it says.
    pub(crate) value: Argument,
    /// The acknowledge word.
    pub(crate) acknowledge: Arc<str>,
    /// What it says then, unless it is the command.
    pub(crate) equals: Option<Value>,
    /// What the command word says afterwards.
    pub(crate) reset: Option<Value>,
    /// How long that may take.
    pub(crate) within: Duration,
}

/// A value that an action writes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Argument {
    /// Always this.
    Constant(Value),
    /// What the caller says under this name.
    Named(Arc<str>),
}

impl Argument {
    /// The value, given what the caller said.
    ///
    /// # Errors
    /// The caller didn't say it.
    pub(crate) fn value(&self, args: &Value) -> Result<Value, String> {
        match self {
            Argument::Constant(value) => Ok(value.clone()),
            Argument::Named(name) => {
                let said = args.as_map().and_then(|args| args.get(name));
                said.cloned().ok_or_else(|| format!("the argument {name} is missing"))
            }
        }
    }
}

pub(super) type Registers = BTreeMap<Arc<str>, Register>;

impl Action {
    pub(super) fn parse(fields: Fields<'_>, registers: &Registers) -> Result<Self, Refusal> {
        let write = fields.plain_object("write")?;
        let pulse = fields.object("pulse")?;
        let handshake = fields.object("handshake")?;
        let action = match (write, pulse, handshake) {
            (Some(values), None, None) => writes(&fields, values, registers)?,
            (None, Some(pulse), None) => pulses(pulse, registers)?,
            (None, None, Some(handshake)) => shakes(handshake, registers)?,
            _ => {
                return Err(fields.refuse("write", "an action is one of write, pulse, handshake"));
            }
        };
        fields.finish()?;
        Ok(action)
    }
}

fn writes(fields: &Fields<'_>, values: &Object, registers: &Registers) -> Result<Action, Refusal> {
    let mut all = Vec::new();
    for (name, value) in values.iter() {
        let (name, register) = known(fields, &format!("write.{name}"), name, registers)?;
        let value = argument(fields, "write", value, register)?;
        all.push((name, value));
    }
    if all.is_empty() {
        return Err(fields.refuse("write", "it writes nothing"));
    }
    Ok(Action::Write(all))
}

fn pulses(fields: Fields<'_>, registers: &Registers) -> Result<Action, Refusal> {
    let name = fields.required_text("register")?;
    let (register, shape) = known(&fields, "register", name, registers)?;
    let (on, off) = if shape.coding.kind == Kind::Bit {
        (Value::from(true), Value::from(false))
    } else {
        (Value::from(1_i64), Value::from(0_i64))
    };
    let value = constant(&fields, "value", on, shape)?;
    let reset = constant(&fields, "reset", off, shape)?;
    let width = fields.whole("width_ms", 10..=WIDTH_MS_MAX)?.unwrap_or(200);
    fields.finish()?;
    Ok(Action::Pulse { register, value, reset, width: millis(width) })
}

fn shakes(fields: Fields<'_>, registers: &Registers) -> Result<Action, Refusal> {
    let (command, shape) = known(&fields, "command", fields.required_text("command")?, registers)?;
    let value = fields.get("value").ok_or_else(|| fields.missing("value"))?;
    let value = argument(&fields, "value", value, shape)?;
    let acknowledge = fields.required_text("acknowledge")?;
    let (acknowledge, answer) = match registers.get_key_value(acknowledge) {
        Some((name, answer)) => (Arc::clone(name), answer),
        None => return Err(no_register(&fields, "acknowledge", acknowledge)),
    };
    let optional = |field, shape: &Register| match fields.get(field) {
        None => Ok(None),
        Some(value) => constant(&fields, field, value.clone(), shape).map(Some),
    };
    let equals = optional("equals", answer)?;
    let reset = optional("reset", shape)?;
    let within = fields.whole("within_ms", 50..=WITHIN_MS_MAX)?.unwrap_or(2_000);
    fields.finish()?;
    let within = millis(within);
    Ok(Action::Handshake(Handshake { command, value, acknowledge, equals, reset, within }))
}

fn known<'r>(
    fields: &Fields<'_>,
    field: &str,
    name: &str,
    registers: &'r Registers,
) -> Result<(Arc<str>, &'r Register), Refusal> {
    let Some((name, register)) = registers.get_key_value(name) else {
        return Err(no_register(fields, field, name));
    };
    if register.usage == super::Use::Read {
        return Err(fields
            .refuse(field, format!("{name} can be read only"))
            .with_hint("a register that only actions write has the access action"));
    }
    Ok((Arc::clone(name), register))
}

pub(super) fn no_register(fields: &Fields<'_>, field: &str, name: &str) -> Refusal {
    fields.refuse(field, format!("there is no register {}", shown(name)))
}

/// `{"arg": "name"}`, or a constant that the register can hold.
fn argument(
    fields: &Fields<'_>,
    field: &'static str,
    value: &Value,
    register: &Register,
) -> Result<Argument, Refusal> {
    let name = value.as_map().and_then(|object| object.get("arg")).and_then(Value::as_text);
    match name {
        Some(name) => Ok(Argument::Named(Arc::from(name))),
        None => register
            .check(value)
            .map(|()| Argument::Constant(value.clone()))
            .map_err(|problem| fields.refuse(field, problem)),
    }
}

fn constant(
    fields: &Fields<'_>,
    field: &'static str,
    default: Value,
    register: &Register,
) -> Result<Value, Refusal> {
    let value = fields.get(field).cloned().unwrap_or(default);
    register.check(&value).map_err(|problem| fields.refuse(field, problem))?;
    Ok(value)
}

fn millis(number: i64) -> Duration {
    Duration::from_millis(u64::try_from(number).unwrap_or(0))
}
