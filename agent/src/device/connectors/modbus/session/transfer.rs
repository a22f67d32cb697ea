//! Values to and from the registers of one device.

use std::sync::Arc;
use std::time::Duration;

use fleet_state::{Object, Value};
use tokio::time::{Instant, interval, sleep};
use tokio_modbus::ExceptionCode;

use crate::device::connector::{WriteError, WriteErrorKind};

use super::super::blocks::{Block, blocks};
use super::super::bus::Bus;
use super::super::bus_error::BusError;
use super::super::map::{Action, Group, Handshake, Map};
use super::super::register::{BitWrite, Place, Register};

/// How often an acknowledge word is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// Time that is kept for the reset of a command word, out of what the whole may take.
const RESET_WITHIN: Duration = Duration::from_millis(200);

/// Why a one-shot or a write went no further.
pub(super) enum Failure {
    /// It was never sent.
    Refused(WriteErrorKind, String),
    /// The bus said something; `acted`: something had been written before.
    Bus { error: BusError, acted: bool },
    /// Something had been written before, and this was never sent.
    Partly(WriteErrorKind, String),
    /// The device has taken it and not confirmed it.
    Unconfirmed(String),
}

impl Failure {
    /// As the agent is told.
    pub(super) fn told(&self) -> WriteError {
        match self {
            Failure::Refused(kind, message) => {
                WriteError { may_have_acted: false, kind: *kind, message: message.clone() }
            }
            Failure::Bus { error, acted } => {
                let mut told = error.of_write();
                told.may_have_acted |= acted;
                told
            }
            Failure::Partly(kind, message) => {
                WriteError { may_have_acted: true, kind: *kind, message: message.clone() }
            }
            Failure::Unconfirmed(message) => WriteError {
                may_have_acted: true,
                kind: WriteErrorKind::Timeout,
                message: message.clone(),
            },
        }
    }

    pub(super) fn invalid(message: String) -> Self {
        Failure::Refused(WriteErrorKind::Invalid, message)
    }

    /// The same, after something has been written already.
    pub(super) fn after(self, wrote: bool) -> Self {
        match self {
            Failure::Bus { error, acted } => Failure::Bus { error, acted: acted || wrote },
            Failure::Refused(kind, message) if wrote => Failure::Partly(kind, message),
            same @ (Failure::Refused(..) | Failure::Partly(..) | Failure::Unconfirmed(_)) => same,
        }
    }
}

/// Reads one block; values that make no sense are left out and told.
pub(super) async fn read_block(
    bus: &mut Bus,
    map: &Map,
    block: &Block,
) -> Result<(Object, Option<String>), BusError> {
    let mut values = Object::new();
    let mut problem = None;
    let (words, bits) = if block.table.is_bits() {
        (Vec::new(), bus.bits(map.unit, block.table, block.address, block.count).await?)
    } else {
        (bus.words(map.unit, block.table, block.address, block.count).await?, Vec::new())
    };
    for name in &block.members {
        let Some(register) = map.registers.get(name) else { continue };
        match value_in(register, block, &words, &bits) {
            Ok(value) => {
                values.insert(Arc::clone(name), value);
            }
            Err(reason) => problem = Some(format!("{name}: {reason}")),
        }
    }
    Ok((values, problem))
}

fn value_in(
    register: &Register,
    block: &Block,
    words: &[u16],
    bits: &[bool],
) -> Result<Value, String> {
    let Place { address, count, bit, .. } = register.read_from;
    let first = usize::from(address.saturating_sub(block.address));
    let missing = || "the answer doesn't reach so far".to_owned();
    if block.table.is_bits() {
        return bits.get(first).map(|bit| Value::from(*bit)).ok_or_else(missing);
    }
    let own = words.get(first..first + usize::from(count)).ok_or_else(missing)?;
    match bit {
        Some(bit) => {
            let word = own.first().ok_or_else(missing)?;
            Ok(Value::from(word & (1 << bit) != 0))
        }
        None => register.coding.decode(own),
    }
}

/// What was read.
pub(super) struct Heard {
    pub(super) values: Object,
    /// What could not be read, and why.
    pub(super) problem: Option<String>,
    /// Whether there was time for all of it.
    pub(super) complete: bool,
}

/// Reads registers by name. What the device refuses to tell keeps nothing else from being read, and
/// what can't be read any more keeps nothing back that was; it is an error when nothing was read.
pub(super) async fn read_named(
    bus: &mut Bus,
    map: &Map,
    wanted: impl Fn(&str) -> bool,
) -> Result<Heard, BusError> {
    let members =
        map.registers.iter().filter(|(name, register)| register.is_read() && wanted(name));
    let mut values = Object::new();
    let mut problem = None;
    let mut refused = None;
    for block in blocks(members, Group::default()) {
        let (some, wrong) = match read_block(bus, map, &block).await {
            Err(error @ BusError::Exception(_)) if !error.is_absence() => {
                let why = block.refused(&error);
                refused = refused.or(Some(error));
                (Object::new(), Some(why))
            }
            Err(error @ (BusError::Late | BusError::Timeout)) if !values.is_empty() => {
                let unread = block.members.join(", ");
                let problem = Some(format!("{unread} and what comes after: {error}"));
                return Ok(Heard { values, problem, complete: false });
            }
            read => read?,
        };
        for (name, value) in some.iter() {
            values.insert(Arc::clone(name), value.clone());
        }
        problem = problem.or(wrong);
    }
    match refused {
        Some(error) if values.is_empty() => Err(error),
        _ => Ok(Heard { values, problem, complete: true }),
    }
}

/// Writes one value.
pub(super) async fn write_one(
    bus: &mut Bus,
    unit: u8,
    register: &Register,
    value: &Value,
) -> Result<(), Failure> {
    register.check(value).map_err(Failure::invalid)?;
    let done = write_checked(bus, unit, register, value).await?;
    match done {
        // The device's own word that it has it, and needs time.
        Err(BusError::Exception(ExceptionCode::Acknowledge)) => Ok(()),
        Err(error) => Err(Failure::Bus { error, acted: false }),
        Ok(()) => Ok(()),
    }
}

async fn write_checked(
    bus: &mut Bus,
    unit: u8,
    register: &Register,
    value: &Value,
) -> Result<Result<(), BusError>, Failure> {
    let Place { table, address, bit, .. } = register.place;
    let on = matches!(value, Value::Bool(true));
    if table.is_bits() {
        return Ok(bus.write_bit(unit, address, on).await);
    }
    match (bit, register.bit_write) {
        (Some(bit), Some(BitWrite::Mask)) => Ok(bus.write_masked(unit, address, bit, on).await),
        (Some(bit), _) => {
            // Nothing has been written while the word is only read.
            let words = match bus.words(unit, table, address, 1).await {
                Ok(words) => words,
                Err(error) => {
                    let told = error.of_write();
                    return Err(Failure::Refused(told.kind, told.message));
                }
            };
            let mask = 1_u16 << bit.min(15);
            let word = words.first().copied().unwrap_or_default();
            let word = if on { word | mask } else { word & !mask };
            Ok(bus.write_words(unit, address, &[word], register.always_multiple).await)
        }
        (None, _) => {
            let words = register.coding.encode(value).map_err(Failure::invalid)?;
            Ok(bus.write_words(unit, address, &words, register.always_multiple).await)
        }
    }
}

/// Does a one-shot.
pub(super) async fn act(
    bus: &mut Bus,
    map: &Map,
    action: &Action,
    args: &Value,
) -> Result<(), Failure> {
    match action {
        Action::Write(values) => {
            let mut all = Vec::with_capacity(values.len());
            for (name, argument) in values {
                let value = argument.value(args).map_err(Failure::invalid)?;
                let register = register(map, name)?;
                register.check(&value).map_err(|why| Failure::invalid(format!("{name}: {why}")))?;
                all.push((register, value));
            }
            for (place, (register, value)) in all.iter().enumerate() {
                let written = write_one(bus, map.unit, register, value).await;
                written.map_err(|failure| failure.after(place > 0))?;
            }
            Ok(())
        }
        Action::Pulse { register: name, value, reset, width } => {
            let register = register(map, name)?;
            let end = Instant::now() + *width;
            if bus.not_after().is_some_and(|not_after| not_after < end) {
                let message = "its time is too short for the whole pulse".to_owned();
                return Err(Failure::Refused(WriteErrorKind::Timeout, message));
            }
            let begun = write_one(bus, map.unit, register, value).await;
            if begun.as_ref().is_err_and(|failure| !failure.told().may_have_acted) {
                return begun;
            }
            // What was begun is brought to its end, late or not: a start button that stays pressed
            // is worse than one that is let go too late.
            bus.limit(None);
            sleep(*width).await;
            let ended = write_one(bus, map.unit, register, reset).await;
            begun?;
            ended.map_err(|failure| failure.after(true))
        }
        Action::Handshake(handshake) => shake(bus, map, handshake, args).await,
    }
}

/// A command word and the device's acknowledge word.
struct Shake<'a> {
    bus: &'a mut Bus,
    map: &'a Map,
    handshake: &'a Handshake,
    command: &'a Register,
    expected: &'a Value,
}

async fn shake(
    bus: &mut Bus,
    map: &Map,
    handshake: &Handshake,
    args: &Value,
) -> Result<(), Failure> {
    let command = register(map, &handshake.command)?;
    let value = handshake.value.value(args).map_err(Failure::invalid)?;
    command.check(&value).map_err(Failure::invalid)?;
    let expected = handshake.equals.as_ref().unwrap_or(&value);
    let mut shake = Shake { bus, map, handshake, command, expected };
    // 1. An acknowledgement that stands there already would be taken for the one of this command.
    shake.come_to_rest().await?;
    // 2. The command. Where it may have arrived the word is put back, so that the next has an edge.
    let done = match write_one(shake.bus, map.unit, command, &value).await {
        Ok(()) => shake.until(true).await.map_err(|error| Failure::Bus { error, acted: true }),
        Err(failure) if !failure.told().may_have_acted => return Err(failure),
        Err(failure) => Err(failure),
    };
    // 3. Its reset, whatever became of it.
    let reset = shake.reset().await;
    let confirmed = done?;
    reset.map_err(|failure| failure.after(true))?;
    if confirmed {
        return Ok(());
    }
    Err(Failure::Unconfirmed(format!(
        "{} has not become {} within {} ms",
        handshake.acknowledge,
        expected.to_json(),
        handshake.within.as_millis()
    )))
}

impl Shake<'_> {
    /// Sees to it that the acknowledge word says something else than what is waited for. Nothing
    /// is handed over before.
    async fn come_to_rest(&mut self) -> Result<(), Failure> {
        let before = |told: WriteError| {
            Failure::Refused(told.kind, format!("before the command: {}", told.message))
        };
        if !self.says_so().await.map_err(|error| before(error.of_write()))? {
            return Ok(());
        }
        self.reset().await.map_err(|failure| before(failure.told()))?;
        if self.until(false).await.map_err(|error| before(error.of_write()))? {
            return Ok(());
        }
        let message = format!(
            "{} says {} from before, and so couldn't confirm anything",
            self.handshake.acknowledge,
            self.expected.to_json()
        );
        Err(Failure::Refused(WriteErrorKind::Busy, message))
    }

    /// Waits until the acknowledge word says what is waited for, or until it doesn't.
    async fn until(&mut self, so: bool) -> Result<bool, BusError> {
        let mut until = Instant::now() + self.handshake.within;
        if let Some(not_after) = self.bus.not_after() {
            until = until.min(not_after.checked_sub(RESET_WITHIN).unwrap_or(not_after));
        }
        let mut looks = interval(LOOK_EVERY);
        loop {
            looks.tick().await;
            if self.says_so().await? == so {
                return Ok(true);
            }
            if Instant::now() >= until {
                return Ok(false);
            }
        }
    }

    async fn says_so(&mut self) -> Result<bool, BusError> {
        let wanted = |name: &str| name == self.handshake.acknowledge.as_ref();
        let Heard { values, .. } = read_named(self.bus, self.map, wanted).await?;
        Ok(values.get(&self.handshake.acknowledge).is_some_and(|is| same(is, self.expected)))
    }

    async fn reset(&mut self) -> Result<(), Failure> {
        match &self.handshake.reset {
            Some(reset) => write_one(self.bus, self.map.unit, self.command, reset).await,
            None => Ok(()),
        }
    }
}

/// Whether two values are one to a register: 1 and 1.0 are.
pub(super) fn same(one: &Value, other: &Value) -> bool {
    use super::super::super::settings::number_of;
    one == other
        || number_of(one)
            .zip(number_of(other))
            .is_some_and(|(one, other)| one.total_cmp(&other).is_eq())
}

pub(super) fn register<'m>(map: &'m Map, name: &str) -> Result<&'m Register, Failure> {
    let found = map.registers.get(name);
    found.ok_or_else(|| Failure::invalid(format!("there is no register {name}")))
}
