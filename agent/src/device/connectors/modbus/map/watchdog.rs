//! What keeps a device armed: a watchdog that stops it when nobody speaks to it any more.
//!
//! ```json
//! {"watchdog": {"arm": {"timeout": 5, "reaction": 2},
//!               "register": "heartbeat", "values": [0, 1], "refresh_ms": 1000}}
//! ```
//!
//! `arm` is put into the device once per connection, before the first refresh, and only where it
//! says something else. Then `register` gets `values`, one after the other and again from the
//! first. All of these registers have the access `action`: nobody can wish them.

use std::sync::Arc;
use std::time::Duration;

use fleet_state::Value;

use crate::device::connector::Refusal;

use super::super::super::settings::Fields;
use super::super::register::{Register, Use};
use super::action::{Registers, no_register};

/// Time between two refreshes, unless said.
const REFRESH_MS: i64 = 1_000;
/// Shortest and longest.
const REFRESHES_MS: std::ops::RangeInclusive<i64> = 100..=60_000;
/// Values that take turns.
const VALUES_MAX: usize = 16;

/// A device's watchdog.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Watchdog {
    /// What it is armed with.
    pub(crate) arm: Vec<(Arc<str>, Value)>,
    /// What is refreshed.
    pub(crate) register: Arc<str>,
    /// With what, in turns; never empty.
    pub(crate) values: Vec<Value>,
    /// How often.
    pub(crate) refresh: Duration,
}

impl Watchdog {
    pub(super) fn parse(fields: Fields<'_>, registers: &Registers) -> Result<Self, Refusal> {
        let name = fields.required_text("register")?;
        let (register, shape) = own(&fields, "register", name, registers)?;
        let mut arm = Vec::new();
        for (name, value) in fields.plain_object("arm")?.into_iter().flat_map(|arm| arm.iter()) {
            let field = format!("arm.{name}");
            let (name, shape) = own(&fields, &field, name, registers)?;
            if name == register {
                return Err(fields.refuse(&field, "it is what is refreshed"));
            }
            shape.check(value).map_err(|problem| fields.refuse(&field, problem))?;
            arm.push((name, value.clone()));
        }
        let values = match fields.get("values") {
            Some(Value::List(values)) if (1..=VALUES_MAX).contains(&values.len()) => values.clone(),
            Some(_) => {
                let problem = format!("a list of 1 to {VALUES_MAX} values is expected");
                return Err(fields.refuse("values", problem).with_hint("as in [0, 1]"));
            }
            None => return Err(fields.missing("values")),
        };
        for value in &values {
            shape.check(value).map_err(|problem| fields.refuse("values", problem))?;
        }
        let refresh_ms = fields.whole("refresh_ms", REFRESHES_MS)?.unwrap_or(REFRESH_MS);
        fields.finish()?;
        let refresh = Duration::from_millis(u64::try_from(refresh_ms).unwrap_or(u64::MAX));
        Ok(Self { arm, register, values, refresh })
    }
}

/// A register that belongs to nobody else.
fn own<'r>(
    fields: &Fields<'_>,
    field: &str,
    name: &str,
    registers: &'r Registers,
) -> Result<(Arc<str>, &'r Register), Refusal> {
    let Some((name, register)) = registers.get_key_value(name) else {
        return Err(no_register(fields, field, name));
    };
    if register.usage != Use::Action {
        return Err(fields
            .refuse(field, format!("{name} is no register of a watchdog's own"))
            .with_hint("give it the access action, so that nobody can wish it"));
    }
    Ok((Arc::clone(name), register))
}
