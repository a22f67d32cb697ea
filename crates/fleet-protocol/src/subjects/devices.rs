//! The subjects over which devices that speak NATS are served: `flotilla.<site>.device.<id>.<word>`.
//!
//! The id stands before the word, so that a device may be given everything below its own id and
//! nothing else: `flotilla.home.device.hall2.lamp-1.>`.

use fleet_state::DeviceId;
use fleet_state::limits::ID_TOKENS_MAX;

use super::Subjects;

/// What a message of or to a device is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DeviceWord {
    /// To the device: values that it shall take on.
    Set,
    /// To the device: do something once.
    Invoke,
    /// To the device: what are you?
    Get,
    /// Of the device: what it is.
    Reported,
    /// Of the device, or of whoever knows: whether it can be reached.
    Availability,
}

impl DeviceWord {
    /// All of them.
    pub const ALL: [Self; 5] =
        [Self::Set, Self::Invoke, Self::Get, Self::Reported, Self::Availability];

    /// The last part of the subject.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Set => "set",
            Self::Invoke => "invoke",
            Self::Get => "get",
            Self::Reported => "reported",
            Self::Availability => "availability",
        }
    }
}

/// Headers of messages to devices.
pub mod device_headers {
    /// The epoch of the link: a device that remembers the highest can refuse a former owner.
    pub const EPOCH: &str = "Flotilla-Epoch";
    /// Grows with every message in an epoch.
    pub const SEQUENCE: &str = "Flotilla-Sequence";
    /// The revision of the newest value.
    pub const REVISION: &str = "Flotilla-Revision";
    /// Milliseconds after which the message must not be acted on any more.
    pub const EXPIRES_IN_MS: &str = "Flotilla-Expires-In-Ms";
    /// The same as a moment, in milliseconds since 1970: a message that was kept on its way shows
    /// by it that it is too old.
    pub const EXPIRES_AT_MS: &str = "Flotilla-Expires-At-Ms";
    /// The request that a one-shot came from.
    pub const REQUEST_ID: &str = "Flotilla-Request-Id";
}

impl Subjects {
    /// A message to or of a device.
    #[must_use]
    pub fn device(&self, id: &DeviceId, word: DeviceWord) -> String {
        format!("{}device.{id}.{}", self.prefix, word.as_str())
    }

    /// Everything that devices say. What is said to them is left out: an agent that listened
    /// there would be taken by the server for a device that is there.
    #[must_use]
    pub fn devices_said(&self) -> Vec<String> {
        let said = [DeviceWord::Reported, DeviceWord::Availability];
        let ids = (1..=ID_TOKENS_MAX).map(|tokens| vec!["*"; tokens].join("."));
        ids.flat_map(|id| said.map(|word| format!("{}device.{id}.{}", self.prefix, word.as_str())))
            .collect()
    }

    /// Which device a subject is about, and what the message is; `None` for others.
    #[must_use]
    pub fn parse_device(&self, subject: &str) -> Option<(DeviceId, DeviceWord)> {
        let rest = subject.strip_prefix(&self.prefix)?.strip_prefix("device.")?;
        let (id, word) = rest.rsplit_once('.')?;
        let word = DeviceWord::ALL.into_iter().find(|known| known.as_str() == word)?;
        Some((id.parse().ok()?, word))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_built_is_read_and_nothing_else() {
        let site = "home".parse().unwrap_or_else(|_| unreachable!("a name"));
        let subjects = Subjects::new(&site);
        let id: DeviceId = "hall2.lamp-1".parse().unwrap_or_else(|_| unreachable!("an id"));
        for word in DeviceWord::ALL {
            let subject = subjects.device(&id, word);
            assert_eq!(subjects.parse_device(&subject), Some((id.clone(), word)), "{subject}");
        }
        for other in
            ["flotilla.home.device.set", "flotilla.home.device.a.b", "flotilla.b.device.a.set", ""]
        {
            assert_eq!(subjects.parse_device(other), None, "{other}");
        }
    }
}
