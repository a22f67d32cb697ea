//! The bytes of records: what snapshots hold and digests are made of.

use super::{Entity, Link, Member, Param, Role, Token};
use crate::codec::{DecodeError, Reader, Writer};
use crate::command::{decode_keys, decode_link_spec, encode_keys};
use crate::ids::{RequestId, TokenId};
use crate::limits::{NOTE_BYTES_MAX, TOKEN_USES_MAX};
use crate::value::Value;

impl Link {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.text(self.id.as_str());
        self.spec.encode(writer);
        writer.option(self.owner.as_ref(), |writer, node| writer.u64(node.get()));
        writer.u64(self.epoch);
        writer.bool(self.unleased);
        writer.bool(self.releasing);
        writer.option(self.wanted.as_ref(), |writer, node| writer.u64(node.get()));
        writer.bool(self.paused);
        writer.revision(self.registered);
        writer.revision(self.revision);
        writer.u64(self.changed_wall_ms);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: reader.id()?,
            spec: decode_link_spec(reader)?,
            owner: reader.option(Reader::node)?,
            epoch: reader.u64()?,
            unleased: reader.bool()?,
            releasing: reader.bool()?,
            wanted: reader.option(Reader::node)?,
            paused: reader.bool()?,
            registered: reader.revision()?,
            revision: reader.revision()?,
            changed_wall_ms: reader.u64()?,
        })
    }
}

impl Param {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.text(self.key.as_str());
        self.value.encode(writer);
        writer.revision(self.created);
        writer.revision(self.revision);
        writer.u64(self.changed_wall_ms);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            key: reader.id()?,
            value: Value::decode(reader)?,
            created: reader.revision()?,
            revision: reader.revision()?,
            changed_wall_ms: reader.u64()?,
        })
    }
}

impl Role {
    fn number(self) -> u8 {
        match self {
            Role::Joining => 1,
            Role::Learner => 2,
            Role::Voter => 3,
            Role::Removed => 4,
        }
    }

    fn from_number(number: u8) -> Result<Self, DecodeError> {
        [Role::Joining, Role::Learner, Role::Voter, Role::Removed]
            .into_iter()
            .find(|role| role.number() == number)
            .ok_or(DecodeError::UnknownKind { what: "a role", found: u64::from(number) })
    }
}

impl Member {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.u64(self.id.get());
        writer.text(self.name.as_str());
        encode_keys(&self.keys, writer);
        writer.option(self.credential.as_ref(), |writer, credential| writer.fixed(credential));
        writer.u8(self.role.number());
        writer.bool(self.wanted_voter);
        writer.bool(self.leaving);
        writer.bool(self.draining);
        writer.labels(&self.labels);
        writer.u16(self.feature_level);
        writer.revision(self.joined);
        writer.revision(self.revision);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: reader.node()?,
            name: reader.id()?,
            keys: decode_keys(reader)?,
            credential: reader.option(Reader::fixed)?,
            role: Role::from_number(reader.u8()?)?,
            wanted_voter: reader.bool()?,
            leaving: reader.bool()?,
            draining: reader.bool()?,
            labels: reader.labels()?,
            feature_level: reader.u16()?,
            joined: reader.revision()?,
            revision: reader.revision()?,
        })
    }
}

impl Token {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.fixed(self.id.as_bytes());
        writer.fixed(&self.key);
        writer.text(&self.note);
        writer.revision(self.created);
        writer.revision(self.revision);
        writer.u64(self.expires_log_ms);
        writer.u64(self.expires_wall_ms);
        writer.u32(self.uses_left);
        writer.count(self.used_by.len());
        self.used_by.iter().for_each(|node| writer.u64(node.get()));
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: TokenId::from_bytes(reader.fixed()?),
            key: reader.fixed()?,
            note: reader.shared(NOTE_BYTES_MAX)?,
            created: reader.revision()?,
            revision: reader.revision()?,
            expires_log_ms: reader.u64()?,
            expires_wall_ms: reader.u64()?,
            uses_left: reader.u32()?,
            used_by: {
                let count = reader.count(TOKEN_USES_MAX as usize)?;
                (0..count).map(|_| reader.node()).collect::<Result<_, _>>()?
            },
        })
    }
}

impl Entity {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        match self {
            Entity::Link(id) => {
                writer.u8(1);
                writer.text(id.as_str());
            }
            Entity::Device(id) => {
                writer.u8(2);
                writer.text(id.as_str());
            }
            Entity::Param(key) => {
                writer.u8(3);
                writer.text(key.as_str());
            }
            Entity::Member(id) => {
                writer.u8(4);
                writer.u64(id.get());
            }
            Entity::Token(id) => {
                writer.u8(5);
                writer.fixed(id.as_bytes());
            }
            Entity::Watermarks(device) => {
                writer.u8(6);
                writer.text(device.as_str());
            }
            Entity::Invocation { device, id } => {
                writer.u8(7);
                writer.text(device.as_str());
                id.encode(writer);
            }
        }
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(match reader.u8()? {
            1 => Entity::Link(reader.id()?),
            2 => Entity::Device(reader.id()?),
            3 => Entity::Param(reader.id()?),
            4 => Entity::Member(reader.node()?),
            5 => Entity::Token(TokenId::from_bytes(reader.fixed()?)),
            6 => Entity::Watermarks(reader.id()?),
            7 => Entity::Invocation { device: reader.id()?, id: RequestId::decode(reader)? },
            found => {
                return Err(DecodeError::UnknownKind {
                    what: "an entity",
                    found: u64::from(found),
                });
            }
        })
    }
}
