//! Simulated devices: each does what it is told, says what it is, and keeps a journal.
//!
//! The journal is what judges look at: what arrived, from whom, in which epoch, and when. A device
//! may be away, act and lose its answer, or take no part at all for a while.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_device::{
    Access, Fence, Handed, Profile, Quality, ReadErrorKind, Reading, WriteError, WriteErrorKind,
};
use fleet_state::{DeviceId, Object, RequestId, Revision, Value};

use crate::keeper::{Answer, Ask, What};

/// What a device is doing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Manner {
    /// It hears and answers.
    #[default]
    Well,
    /// It is away, and whoever asks is told so.
    Away,
    /// It acts, and its answers are lost.
    Mute,
    /// It hears nothing.
    Deaf,
}

/// A device.
#[derive(Debug, Default)]
pub struct SimDevice {
    values: Object,
    /// All that each property ever was, as text.
    been: BTreeMap<Arc<str>, BTreeSet<String>>,
    /// What it is doing.
    pub manner: Manner,
    invoked: BTreeSet<RequestId>,
    /// The newest wish that arrived for each property, in which epoch.
    newest: BTreeMap<Arc<str>, (u64, Revision)>,
    writes: u64,
}

/// Something arrived that must not have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// A one-shot that it had before.
    Twice(RequestId),
    /// A wish older than one before it under the same owner.
    Older(Arc<str>, Revision, Revision),
}

/// All devices.
#[derive(Debug, Default)]
pub struct Field {
    devices: BTreeMap<DeviceId, SimDevice>,
}

impl Field {
    /// A device, which is there as soon as somebody speaks with it.
    pub fn device(&mut self, id: &DeviceId) -> &mut SimDevice {
        self.devices.entry(id.clone()).or_default()
    }

    /// All devices that were spoken with.
    pub fn devices(&self) -> impl Iterator<Item = (&DeviceId, &SimDevice)> {
        self.devices.iter()
    }

    /// Whether a property of a device ever had this value.
    #[must_use]
    pub fn has_been(&self, device: &DeviceId, property: &str, value: &Value) -> bool {
        let been = self.devices.get(device).and_then(|device| device.been.get(property));
        been.is_some_and(|been| been.contains(&value.to_string()))
    }

    /// What a property of a device is.
    #[must_use]
    pub fn value(&self, device: &DeviceId, property: &str) -> Option<&Value> {
        self.devices.get(device)?.values.get(property)
    }

    /// All devices are well again.
    pub fn heal(&mut self) {
        self.devices.values_mut().for_each(|device| device.manner = Manner::Well);
    }

    /// (writes that arrived, one-shots that arrived).
    #[must_use]
    pub fn counts(&self) -> (u64, u64) {
        let writes = self.devices.values().map(|device| device.writes).sum();
        (writes, self.devices.values().map(|device| device.invoked.len() as u64).sum())
    }
}

impl SimDevice {
    /// What it is.
    #[must_use]
    pub fn values(&self) -> &Object {
        &self.values
    }

    /// Whether a one-shot arrived.
    #[must_use]
    pub fn has_done(&self, request: &RequestId) -> bool {
        self.invoked.contains(request)
    }

    /// Somebody at the device changes a value by hand.
    pub fn turn_by_hand(&mut self, property: &str, value: Value) {
        self.become_so(&Arc::from(property), value);
    }

    fn become_so(&mut self, property: &Arc<str>, value: Value) {
        self.been.entry(Arc::clone(property)).or_default().insert(value.to_string());
        self.values.insert(Arc::clone(property), value);
    }

    /// Something arrives. `None`: no answer comes back.
    ///
    /// # Errors
    /// It must not have arrived.
    pub fn take(&mut self, ask: &Ask) -> Result<Option<Answer>, Wrong> {
        match self.manner {
            Manner::Away => return Ok(Some(away(&ask.what))),
            Manner::Deaf => return Ok(None),
            Manner::Well | Manner::Mute => {}
        }
        let answer = match &ask.what {
            What::Read => {
                let (values, quality) = (self.values.clone(), Quality::Good);
                Answer::Read(Ok(Reading {
                    values,
                    quality,
                    source_ms: None,
                    problem: None,
                    complete: true,
                }))
            }
            What::Write(parts) => {
                self.writes += 1;
                for (property, value, revision) in parts {
                    self.write(property, value, (ask.epoch, *revision))?;
                }
                Answer::Handed(Ok(Handed::Acknowledged))
            }
            What::Invoke(request) => {
                if !self.invoked.insert(request.clone()) {
                    return Err(Wrong::Twice(request.clone()));
                }
                Answer::Handed(Ok(Handed::Acknowledged))
            }
        };
        Ok((self.manner == Manner::Well).then_some(answer))
    }

    fn write(
        &mut self,
        property: &Arc<str>,
        value: &Value,
        now: (u64, Revision),
    ) -> Result<(), Wrong> {
        let before = self.newest.insert(Arc::clone(property), now);
        self.become_so(property, value.clone());
        match before {
            Some((epoch, revision)) if epoch == now.0 && revision > now.1 => {
                Err(Wrong::Older(Arc::clone(property), now.1, revision))
            }
            Some(_) | None => Ok(()),
        }
    }
}

fn away(what: &What) -> Answer {
    match what {
        What::Read => Answer::Read(Err(ReadErrorKind::Offline)),
        What::Write(_) | What::Invoke(_) => Answer::Handed(Err(WriteError {
            may_have_acted: false,
            kind: WriteErrorKind::Offline,
            message: "the device is away".to_owned(),
        })),
    }
}

/// What can be done with a simulated device: everything.
#[must_use]
pub fn profile() -> Profile {
    Profile {
        properties: BTreeMap::new(),
        others: Some(Access::Desired),
        actions: None,
        fence: Fence::Lease,
        warnings: Vec::new(),
    }
}
