//! The binary form: a tag byte and the content. One value has one encoding, and only that one is read.

use std::sync::Arc;

use super::{Finite, Object, Value};
use crate::codec::{DecodeError, Reader, Writer};
use crate::limits::{ENTRY_BYTES_MAX, VALUE_DEPTH_MAX};

const NULL: u8 = 0;
const FALSE: u8 = 1;
const TRUE: u8 = 2;
const I64: u8 = 3;
const U64: u8 = 4;
const F64: u8 = 5;
const TEXT: u8 = 6;
const LIST: u8 = 7;
const MAP: u8 = 8;

impl Value {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        match self {
            Value::Null => writer.u8(NULL),
            Value::Bool(false) => writer.u8(FALSE),
            Value::Bool(true) => writer.u8(TRUE),
            Value::I64(number) => {
                writer.u8(I64);
                writer.i64(*number);
            }
            Value::U64(number) => {
                writer.u8(U64);
                writer.u64(*number);
            }
            Value::F64(number) => {
                writer.u8(F64);
                writer.fixed(&number.get().to_bits().to_le_bytes());
            }
            Value::Text(text) => {
                writer.u8(TEXT);
                writer.text(text);
            }
            Value::List(list) => {
                writer.u8(LIST);
                writer.count(list.len());
                list.iter().for_each(|value| value.encode(writer));
            }
            Value::Map(object) => {
                writer.u8(MAP);
                object.encode(writer);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_within(reader, VALUE_DEPTH_MAX)
    }

    fn decode_within(reader: &mut Reader<'_>, depth_left: usize) -> Result<Self, DecodeError> {
        match reader.u8()? {
            NULL => Ok(Value::Null),
            FALSE => Ok(Value::Bool(false)),
            TRUE => Ok(Value::Bool(true)),
            I64 => reader.i64().map(Value::I64),
            U64 => match reader.u64()? {
                number if i64::try_from(number).is_ok() => Err(DecodeError::Integer),
                number => Ok(Value::U64(number)),
            },
            F64 => decode_float(reader).map(Value::F64),
            TEXT => Ok(Value::Text(Arc::from(reader.text(ENTRY_BYTES_MAX)?))),
            LIST => {
                let depth_left = descend(depth_left)?;
                let count = reader.count(ENTRY_BYTES_MAX)?;
                let items = (0..count).map(|_| Self::decode_within(reader, depth_left));
                items.collect::<Result<Vec<_>, _>>().map(Value::List)
            }
            MAP => Object::decode_within(reader, descend(depth_left)?).map(Value::Map),
            found => Err(DecodeError::UnknownKind { what: "a value", found: u64::from(found) }),
        }
    }
}

fn descend(depth_left: usize) -> Result<usize, DecodeError> {
    depth_left.checked_sub(1).ok_or(DecodeError::Invalid { what: "the depth of a value" })
}

fn decode_float(reader: &mut Reader<'_>) -> Result<Finite, DecodeError> {
    let bits = u64::from_le_bytes(reader.fixed()?);
    let finite = Finite::new(f64::from_bits(bits)).filter(|finite| finite.get().to_bits() == bits);
    finite.ok_or(DecodeError::Invalid { what: "a float" })
}

impl Object {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.count(self.len());
        for (key, value) in self.iter() {
            writer.text(key);
            value.encode(writer);
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Self::decode_within(reader, descend(VALUE_DEPTH_MAX)?)
    }

    fn decode_within(reader: &mut Reader<'_>, depth_left: usize) -> Result<Self, DecodeError> {
        let count = reader.count(ENTRY_BYTES_MAX)?;
        let mut members: Vec<(Arc<str>, Value)> = Vec::new();
        for _ in 0..count {
            let key = reader.text(ENTRY_BYTES_MAX)?;
            if members.last().is_some_and(|(before, _)| before.as_ref() >= key) {
                return Err(DecodeError::Invalid { what: "the order of an object's keys" });
            }
            members.push((Arc::from(key), Value::decode_within(reader, depth_left)?));
        }
        Ok(members.into_iter().collect())
    }
}
