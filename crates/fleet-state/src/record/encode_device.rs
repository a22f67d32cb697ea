//! The bytes of devices, their watermarks, and invocations.

use std::sync::Arc;

use super::{
    Device, Dispatch, Former, Hold, Invocation, StageFailure, Ttl, Watermarks, Wish, WishEnd,
    Wishes,
};
use crate::codec::{DecodeError, Reader, Writer};
use crate::command::{Mode, decode_device_spec};
use crate::ids::{RequestId, Revision};
use crate::limits::{
    ACTION_BYTES_MAX, ACTOR_BYTES_MAX, DETAIL_BYTES_MAX, FAILURE_CODE_BYTES_MAX, FAILURES_MAX,
    PROPERTY_BYTES_MAX, REASON_BYTES_MAX, WISH_ENDS_MAX, WISHES_MAX,
};
use crate::stage::Stage;
use crate::value::{Object, Value};

impl Device {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.text(self.id.as_str());
        self.spec.encode(writer);
        self.mode.encode(writer);
        writer.option(self.hold.as_ref(), |writer, hold| hold.encode(writer));
        self.wishes.encode(writer);
        writer.revision(self.registered);
        writer.revision(self.desired_revision);
        writer.revision(self.revision);
        writer.u64(self.changed_wall_ms);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: reader.id()?,
            spec: decode_device_spec(reader)?,
            mode: Mode::decode(reader)?,
            hold: reader.option(Hold::decode)?,
            wishes: Wishes::decode(reader)?,
            registered: reader.revision()?,
            desired_revision: reader.revision()?,
            revision: reader.revision()?,
            changed_wall_ms: reader.u64()?,
        })
    }
}

impl Hold {
    fn encode(&self, writer: &mut Writer) {
        writer.text(&self.reason);
        writer.option(self.actor.as_ref(), |writer, actor| writer.text(actor));
        writer.revision(self.revision);
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            reason: reader.shared(REASON_BYTES_MAX)?,
            actor: reader.option(|reader| reader.shared(ACTOR_BYTES_MAX))?,
            revision: reader.revision()?,
        })
    }
}

impl Wishes {
    fn encode(&self, writer: &mut Writer) {
        writer.count(self.0.len());
        for (property, wish) in &self.0 {
            writer.text(property);
            wish.value.encode(writer);
            writer.revision(wish.revision);
            writer.u64(wish.wished_log_ms);
            writer.option(wish.ttl.as_ref(), |writer, ttl| {
                writer.u64(ttl.deadline_log_ms);
                writer.option(ttl.previous.as_ref(), |writer, former| {
                    former.value.encode(writer);
                    writer.revision(former.revision);
                    writer.u64(former.wished_log_ms);
                });
            });
        }
    }

    fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        let mut wishes = Self::default();
        for _ in 0..reader.count(WISHES_MAX)? {
            let property: Arc<str> = reader.shared(PROPERTY_BYTES_MAX)?;
            if wishes.0.last_key_value().is_some_and(|(before, _)| *before >= property) {
                return Err(DecodeError::Invalid { what: "the order of properties" });
            }
            let value = Value::decode(reader)?;
            let revision = reader.revision()?;
            let wished_log_ms = reader.u64()?;
            let ttl = reader.option(|reader| {
                let deadline_log_ms = reader.u64()?;
                let previous = reader.option(|reader| {
                    Ok(Former {
                        value: Value::decode(reader)?,
                        revision: reader.revision()?,
                        wished_log_ms: reader.u64()?,
                    })
                })?;
                Ok(Ttl { deadline_log_ms, previous })
            })?;
            wishes.insert(property, Wish { value, revision, wished_log_ms, ttl });
        }
        Ok(wishes)
    }
}

pub(crate) fn encode_failure(failure: &StageFailure, writer: &mut Writer) {
    writer.revision(failure.revision);
    failure.stage.encode(writer);
    writer.text(&failure.code);
    writer.text(&failure.message);
}

pub(crate) fn decode_failure(reader: &mut Reader<'_>) -> Result<StageFailure, DecodeError> {
    Ok(StageFailure {
        revision: reader.revision()?,
        stage: Stage::decode(reader)?,
        code: reader.shared(FAILURE_CODE_BYTES_MAX)?,
        message: reader.shared(DETAIL_BYTES_MAX)?,
    })
}

impl Watermarks {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        writer.text(self.device.as_str());
        writer.revision(self.sent);
        writer.revision(self.acknowledged);
        writer.revision(self.verified);
        writer.count(self.failures.len());
        self.failures.iter().for_each(|failure| encode_failure(failure, writer));
        writer.count(self.claimed.len());
        self.claimed.iter().for_each(|revision| writer.revision(*revision));
        writer.count(self.ends.len());
        for end in &self.ends {
            writer.revision(end.revision);
            end.stage.encode(writer);
        }
        writer.revision(self.revision);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            device: reader.id()?,
            sent: reader.revision()?,
            acknowledged: reader.revision()?,
            verified: reader.revision()?,
            failures: decode_failures(reader)?,
            claimed: decode_claimed(reader)?,
            ends: {
                let count = reader.count(WISH_ENDS_MAX)?;
                let end = |reader: &mut Reader<'_>| {
                    Ok(WishEnd { revision: reader.revision()?, stage: Stage::decode(reader)? })
                };
                (0..count).map(|_| end(reader)).collect::<Result<_, _>>()?
            },
            revision: reader.revision()?,
        })
    }
}

fn decode_failures(reader: &mut Reader<'_>) -> Result<Vec<StageFailure>, DecodeError> {
    let count = reader.count(FAILURES_MAX)?;
    let failures = (0..count).map(|_| decode_failure(reader)).collect::<Result<Vec<_>, _>>()?;
    if failures.is_sorted_by(|one, next| one.revision < next.revision) {
        Ok(failures)
    } else {
        Err(DecodeError::Invalid { what: "the order of failures" })
    }
}

fn decode_claimed(reader: &mut Reader<'_>) -> Result<Vec<Revision>, DecodeError> {
    let count = reader.count(WISHES_MAX)?;
    let claimed = (0..count).map(|_| reader.revision()).collect::<Result<Vec<_>, _>>()?;
    if claimed.is_sorted_by(|one, next| one < next) {
        Ok(claimed)
    } else {
        Err(DecodeError::Invalid { what: "the order of claims" })
    }
}

impl Invocation {
    pub(crate) fn encode(&self, writer: &mut Writer) {
        self.id.encode(writer);
        writer.text(self.device.as_str());
        writer.text(&self.action);
        self.args.encode(writer);
        writer.option(self.actor.as_ref(), |writer, actor| writer.text(actor));
        writer.option(self.deadline_log_ms.as_ref(), |writer, deadline| writer.u64(*deadline));
        writer.bool(self.idempotent);
        self.stage.encode(writer);
        writer.option(self.dispatch.as_ref(), |writer, dispatch| {
            writer.text(dispatch.link.as_str());
            writer.u64(dispatch.node.get());
            writer.u64(dispatch.epoch);
        });
        writer.text(&self.detail);
        writer.revision(self.committed);
        writer.revision(self.revision);
        writer.u64(self.changed_wall_ms);
    }

    pub(crate) fn decode(reader: &mut Reader<'_>) -> Result<Self, DecodeError> {
        Ok(Self {
            id: RequestId::decode(reader)?,
            device: reader.id()?,
            action: reader.shared(ACTION_BYTES_MAX)?,
            args: Object::decode(reader)?,
            actor: reader.option(|reader| reader.shared(ACTOR_BYTES_MAX))?,
            deadline_log_ms: reader.option(Reader::u64)?,
            idempotent: reader.bool()?,
            stage: Stage::decode(reader)?,
            dispatch: reader.option(|reader| {
                Ok(Dispatch { link: reader.id()?, node: reader.node()?, epoch: reader.u64()? })
            })?,
            detail: reader.shared(DETAIL_BYTES_MAX)?,
            committed: reader.revision()?,
            revision: reader.revision()?,
            changed_wall_ms: reader.u64()?,
        })
    }
}
