//! What is heard of devices.

use fleet_state::{DeviceId, Object};

/// Something heard of a device.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// Which.
    pub device: DeviceId,
    /// What it said; properties that it didn't speak of are left out.
    pub values: Object,
    /// Whether it can be reached, where that was said.
    pub availability: Option<Availability>,
    /// How far the values can be trusted.
    pub quality: Quality,
    /// When the source says that it was so, in milliseconds since 1970.
    pub source_ms: Option<u64>,
    /// Somebody kept it and it may be old: it verifies nothing.
    pub retained: bool,
    /// Not a report at all: somebody else wrote these values to the device.
    pub foreign_write: bool,
}

impl Observation {
    /// Values said just now by the device itself.
    #[must_use]
    pub fn fresh(device: DeviceId, values: Object) -> Self {
        Self {
            device,
            values,
            availability: None,
            quality: Quality::Good,
            source_ms: None,
            retained: false,
            foreign_write: false,
        }
    }

    /// A device came or went.
    #[must_use]
    pub fn availability(device: DeviceId, availability: Availability) -> Self {
        Self { availability: Some(availability), ..Self::fresh(device, Object::new()) }
    }
}

/// How far a value can be trusted, as in OPC UA.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Quality {
    /// It is what the device says.
    Good,
    /// It was so, and may not be any more.
    #[default]
    Uncertain,
    /// It can't be used.
    Bad,
}

impl Quality {
    /// The word of replies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Quality::Good => "good",
            Quality::Uncertain => "uncertain",
            Quality::Bad => "bad",
        }
    }
}

/// Whether a device can be reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Availability {
    /// It answers.
    Online,
    /// It is known to be away.
    Offline,
    /// It listens now and then only: a write may wait for it.
    Asleep,
    /// Nobody knows.
    #[default]
    Unknown,
}

impl Availability {
    /// The word of replies.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Availability::Online => "online",
            Availability::Offline => "offline",
            Availability::Asleep => "asleep",
            Availability::Unknown => "unknown",
        }
    }
}
