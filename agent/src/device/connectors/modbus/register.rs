//! One register of a device: where it is, what it holds, what may be done with it.
//!
//! ```json
//! {"speed": {"table": "holding", "address": 100, "type": "u16", "scale": 0.1, "unit": "Hz",
//!            "access": "read_write", "min": 0, "max": 50, "read_from": {"address": 110}},
//!  "running": {"table": "holding", "address": 0, "bit": 3, "access": "read_write",
//!              "bit_write": "mask"},
//!  "limit": {"table": "holding", "address": 30, "type": "u16", "access": "read_write",
//!            "nonvolatile": {"writes_per_day": 24}}}
//! ```
//!
//! Addresses count from 0, as on the wire: what a manual calls 40001 is `holding` 0. A number like
//! that is refused with this hint. A bit of a word is written with function 22 (`mask`) or by
//! reading the word and writing it back (`read_modify_write`), which has to be said, because a
//! device that changes the word in between loses its change.

use fleet_state::Value;

use crate::device::connector::Refusal;

use super::super::settings::{Fields, number_of, shown};
use super::codec::{Coding, Kind};

/// Words of a text.
const TEXT_WORDS_MAX: i64 = 64;
/// Writes per day that a register with limited life may ask for.
const BUDGET_MAX: i64 = 10_000;
/// The last address of a table.
const ADDRESS_MAX: i64 = 65_535;

/// The four tables of Modbus.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Table {
    /// Bits that can be read and written.
    Coil,
    /// Bits that can be read.
    Discrete,
    /// Words that can be read and written.
    Holding,
    /// Words that can be read.
    Input,
}

impl Table {
    /// The names of settings.
    pub(crate) const NAMES: [&'static str; 4] = ["coil", "discrete", "holding", "input"];

    fn named(place: usize) -> Self {
        match place {
            0 => Table::Coil,
            1 => Table::Discrete,
            2 => Table::Holding,
            _ => Table::Input,
        }
    }

    /// Whether it holds bits.
    pub(crate) fn is_bits(self) -> bool {
        matches!(self, Table::Coil | Table::Discrete)
    }

    /// Whether it can be written.
    fn is_writable(self) -> bool {
        matches!(self, Table::Coil | Table::Holding)
    }
}

/// A place in a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    /// Which table.
    pub(crate) table: Table,
    /// The first address, from 0.
    pub(crate) address: u16,
    /// How many addresses.
    pub(crate) count: u16,
    /// The bit of the word, where it is one.
    pub(crate) bit: Option<u8>,
}

impl Place {
    /// Whether two share something that both would mean.
    pub(crate) fn overlaps(&self, other: &Self) -> bool {
        let apart = |one: &Self, other: &Self| {
            u32::from(one.address) + u32::from(one.count) <= u32::from(other.address)
        };
        if self.table != other.table || apart(self, other) || apart(other, self) {
            return false;
        }
        match (self.bit, other.bit) {
            (Some(one), Some(other)) => one == other,
            _ => true,
        }
    }
}

/// What may be done with a register.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// It is read.
    Read,
    /// It is written and can't be read.
    Write,
    /// Both.
    ReadWrite,
    /// It belongs to an action.
    Action,
}

/// How a bit of a word is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum BitWrite {
    /// Function 22.
    Mask,
    /// The word is read and written back.
    ReadModifyWrite,
}

/// One register.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Register {
    /// Where it is written, and read unless `read_from` says otherwise.
    pub(crate) place: Place,
    /// Where it is read.
    pub(crate) read_from: Place,
    /// How its value lies there.
    pub(crate) coding: Coding,
    /// What may be done.
    pub(crate) usage: Use,
    /// How it is written, if it is a bit of a word.
    pub(crate) bit_write: Option<BitWrite>,
    /// Even one word is written with function 16.
    pub(crate) always_multiple: bool,
    /// Bounds of what may be written.
    pub(crate) min: Option<f64>,
    /// Bounds of what may be written.
    pub(crate) max: Option<f64>,
    /// It is reported when it has changed by this much.
    pub(crate) deadband: f64,
    /// The poll group.
    pub(crate) group: String,
    /// It wears out: how often it may be written per day.
    pub(crate) writes_per_day: Option<u32>,
}

/// What registers are unless they say otherwise.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Orders {
    /// The least significant word comes first.
    pub(crate) low_word_first: bool,
    /// The bytes of each word are swapped.
    pub(crate) bytes_swapped: bool,
}

impl Orders {
    /// Reads `word_order` and `byte_order`, or takes what is the case around.
    pub(crate) fn parse(fields: &Fields<'_>, around: Self) -> Result<Self, Refusal> {
        let little = |field, around| {
            let word = fields.word(field, &["big", "little"])?;
            Ok(word.map_or(around, |place| place == 1))
        };
        Ok(Self {
            low_word_first: little("word_order", around.low_word_first)?,
            bytes_swapped: little("byte_order", around.bytes_swapped)?,
        })
    }
}

impl Register {
    /// Reads one register's settings.
    ///
    /// # Errors
    /// What is wrong, in which field.
    pub(crate) fn parse(fields: Fields<'_>, orders: Orders) -> Result<Self, Refusal> {
        let table = fields.word("table", &Table::NAMES)?.map(Table::named);
        let table = table.ok_or_else(|| fields.missing("table"))?;
        let bit = fields.whole("bit", 0..=15)?.and_then(|bit| u8::try_from(bit).ok());
        let kind = kind(&fields, table, bit)?;
        let place = place(&fields, table, kind, bit)?;
        let usage = usage(&fields, table)?;
        let orders = Orders::parse(&fields, orders)?;
        let register = Self {
            place,
            read_from: read_from(&fields, place)?,
            coding: coding(&fields, kind, orders)?,
            usage,
            bit_write: bit_write(&fields, bit, usage)?,
            always_multiple: fields.word("write_with", &["single", "multiple"])? == Some(1),
            min: fields.number("min")?,
            max: fields.number("max")?,
            deadband: fields.number("deadband")?.unwrap_or(0.0),
            group: fields.text("group")?.unwrap_or(super::map::DEFAULT_GROUP).to_owned(),
            writes_per_day: budget(&fields, usage)?,
        };
        let _shown_to_people_only = fields.text("unit")?;
        register.check_bounds(&fields)?;
        fields.finish()?;
        Ok(register)
    }

    fn check_bounds(&self, fields: &Fields<'_>) -> Result<(), Refusal> {
        if let (Some(min), Some(max)) = (self.min, self.max)
            && min > max
        {
            return Err(fields.refuse("min", "it is above max"));
        }
        if self.deadband < 0.0 || !self.deadband.is_finite() {
            return Err(fields.refuse("deadband", "it is below 0"));
        }
        Ok(())
    }

    /// Whether a value may be written.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn check(&self, value: &Value) -> Result<(), String> {
        if self.coding.kind == Kind::Bit {
            let right = matches!(value, Value::Bool(_));
            return if right {
                Ok(())
            } else {
                Err(format!("{} is no bool", shown(&value.to_json())))
            };
        }
        if let Some(number) = number_of(value) {
            let low = self.min.filter(|min| number < *min);
            let high = self.max.filter(|max| number > *max);
            if let Some(limit) = low.or(high) {
                return Err(format!("{number} is beyond the limit {limit}"));
            }
        }
        self.coding.encode(value).map(|_| ())
    }

    /// Whether it is read.
    pub(crate) fn is_read(&self) -> bool {
        matches!(self.usage, Use::Read | Use::ReadWrite)
    }

    /// Whether it may be written as a desired state.
    pub(crate) fn is_written(&self) -> bool {
        matches!(self.usage, Use::Write | Use::ReadWrite)
    }
}

fn kind(fields: &Fields<'_>, table: Table, bit: Option<u8>) -> Result<Kind, Refusal> {
    let length = fields.whole("length", 1..=TEXT_WORDS_MAX)?;
    let named = fields.word("type", &Kind::NAMES)?;
    let is_bit = table.is_bits() || bit.is_some();
    if table.is_bits() && bit.is_some() {
        return Err(fields.refuse("bit", "the table holds bits already"));
    }
    match named {
        None | Some(0) if is_bit => Ok(Kind::Bit),
        None => Err(fields.missing("type")),
        Some(0) => Err(fields.refuse("type", "a word is no bool").with_hint("say which bit it is")),
        Some(_) if is_bit => Err(fields.refuse("type", "a bit is a bool")),
        Some(place) => {
            let text = place + 1 == Kind::NAMES.len();
            match (text, length) {
                (true, None) => Err(fields.missing("length").with_hint("of the text, in words")),
                (false, Some(_)) => Err(fields.refuse("length", "only a text has one")),
                (_, length) => {
                    let words = length.and_then(|length| u8::try_from(length).ok()).unwrap_or(1);
                    Ok(Kind::named(place, words))
                }
            }
        }
    }
}

fn place(fields: &Fields<'_>, table: Table, kind: Kind, bit: Option<u8>) -> Result<Place, Refusal> {
    let address = fields.whole("address", 0..=i64::MAX)?;
    let address = address.ok_or_else(|| fields.missing("address"))?;
    if address > ADDRESS_MAX {
        let problem = format!("{address} is above {ADDRESS_MAX}");
        return Err(fields.refuse("address", problem).with_hint(
            "addresses count from 0 within their table: what a manual calls 400101 is holding 100",
        ));
    }
    let count = kind.words();
    let address = u16::try_from(address).unwrap_or(u16::MAX);
    if u32::from(address) + u32::from(count) > 65_536 {
        return Err(fields.refuse("address", "the value would reach beyond the table"));
    }
    Ok(Place { table, address, count, bit })
}

fn usage(fields: &Fields<'_>, table: Table) -> Result<Use, Refusal> {
    let words = ["read", "write", "read_write", "action"];
    let usage = match fields.word("access", &words)? {
        None | Some(0) => Use::Read,
        Some(1) => Use::Write,
        Some(2) => Use::ReadWrite,
        Some(_) => Use::Action,
    };
    if usage != Use::Read && !table.is_writable() {
        let name = Table::NAMES.get(table as usize).copied().unwrap_or_default();
        return Err(fields.refuse("access", format!("the table {} can be read only", shown(name))));
    }
    Ok(usage)
}

fn read_from(fields: &Fields<'_>, place: Place) -> Result<Place, Refusal> {
    let Some(other) = fields.object("read_from")? else {
        return Ok(place);
    };
    let table = other.word("table", &Table::NAMES)?.map_or(place.table, Table::named);
    if table.is_bits() != place.table.is_bits() {
        return Err(other.refuse("table", "bits are not read from words, nor words from bits"));
    }
    let address = other.whole("address", 0..=ADDRESS_MAX - i64::from(place.count) + 1)?;
    let address = address.ok_or_else(|| other.missing("address"))?;
    other.finish()?;
    Ok(Place { table, address: u16::try_from(address).unwrap_or(u16::MAX), ..place })
}

fn coding(fields: &Fields<'_>, kind: Kind, orders: Orders) -> Result<Coding, Refusal> {
    let scale = fields.number("scale")?;
    let offset = fields.number("offset")?;
    if (scale.is_some() || offset.is_some()) && !kind.is_number() {
        return Err(fields.refuse("scale", "only a number is scaled"));
    }
    let scale = scale.unwrap_or(1.0);
    if scale == 0.0 || !scale.is_normal() {
        return Err(fields.refuse("scale", "every value would be the same"));
    }
    Ok(Coding {
        kind,
        low_word_first: orders.low_word_first,
        bytes_swapped: orders.bytes_swapped,
        scale,
        offset: offset.unwrap_or(0.0),
    })
}

fn bit_write(
    fields: &Fields<'_>,
    bit: Option<u8>,
    usage: Use,
) -> Result<Option<BitWrite>, Refusal> {
    let said = fields.word("bit_write", &["mask", "read_modify_write"])?;
    match (bit, said) {
        (None, Some(_)) => Err(fields.refuse("bit_write", "this is no bit of a word")),
        (Some(_), None) if usage != Use::Read => Err(fields
            .missing("bit_write")
            .with_hint("mask, if the device knows function 22; else read_modify_write")),
        (_, None) => Ok(None),
        (_, Some(0)) => Ok(Some(BitWrite::Mask)),
        (_, Some(_)) => Ok(Some(BitWrite::ReadModifyWrite)),
    }
}

fn budget(fields: &Fields<'_>, usage: Use) -> Result<Option<u32>, Refusal> {
    let Some(nonvolatile) = fields.object("nonvolatile")? else {
        return Ok(None);
    };
    let writes = nonvolatile.whole("writes_per_day", 1..=BUDGET_MAX)?;
    let writes = writes.ok_or_else(|| nonvolatile.missing("writes_per_day"))?;
    if usage != Use::ReadWrite {
        return Err(fields.refuse("nonvolatile", "it has to be readable and writable").with_hint(
            "such a register is written only when it differs, so it has to be read first",
        ));
    }
    nonvolatile.finish()?;
    Ok(u32::try_from(writes).ok())
}
