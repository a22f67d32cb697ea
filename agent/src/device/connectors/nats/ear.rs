//! What is heard of devices that speak NATS, and of others who speak to them.

use std::collections::BTreeMap;
use std::sync::Arc;

use async_nats::{Client, Message, Subscriber};
use fleet_protocol::Subjects;
use fleet_protocol::subjects::DeviceWord;
use fleet_state::{DeviceId, Object};
use futures_util::StreamExt;
use futures_util::stream::{AbortHandle, BoxStream, SelectAll, abortable, select_all};
use tokio::sync::watch;

use super::{Manners, object};
use crate::device::connector::{Availability, Observation, Quality, Reports};

/// Words of availability are shorter than this.
const AVAILABILITY_BYTES_MAX: usize = 64;

/// What is listened for.
pub(super) struct Ear {
    client: Client,
    subjects: Subjects,
    devices: watch::Receiver<Arc<BTreeMap<DeviceId, Manners>>>,
    /// Devices whose commands are listened along to, and how that is ended.
    along: BTreeMap<DeviceId, AbortHandle>,
    unreadable: u64,
}

type Messages = SelectAll<BoxStream<'static, Message>>;

impl Ear {
    pub(super) fn new(
        client: Client,
        subjects: Subjects,
        devices: watch::Receiver<Arc<BTreeMap<DeviceId, Manners>>>,
    ) -> Self {
        Self { client, subjects, devices, along: BTreeMap::new(), unreadable: 0 }
    }

    /// Reports what devices say, and what others tell them, until the subscriptions end.
    pub(super) async fn hear(mut self, said: Vec<Subscriber>, reports: Reports) {
        let mut messages: Messages = select_all(said.into_iter().map(StreamExt::boxed));
        self.devices.mark_changed();
        loop {
            tokio::select! {
                Ok(()) = self.devices.changed() => self.listen_along(&mut messages).await,
                message = messages.next() => match message {
                    Some(message) => self.on_message(&message, &reports).await,
                    None => return,
                },
            }
        }
    }

    /// Listens along to what the devices of the link are told, and no other.
    async fn listen_along(&mut self, messages: &mut Messages) {
        let devices = Arc::clone(&self.devices.borrow_and_update());
        let watched = |device: &DeviceId| devices.get(device).is_some_and(|known| known.watch);
        self.along.retain(|device, along| {
            let stays = watched(device);
            if !stays {
                along.abort();
            }
            stays
        });
        for device in devices.keys().filter(|device| watched(device)) {
            if self.along.contains_key(device) {
                continue;
            }
            let subject = self.subjects.device(device, DeviceWord::Set);
            // Without a subscription its writes of others are not heard, and all else goes on.
            let Ok(told) = self.client.subscribe(subject).await else { continue };
            let (told, along) = abortable(told);
            messages.push(told.boxed());
            self.along.insert(device.clone(), along);
        }
    }

    async fn on_message(&mut self, message: &Message, reports: &Reports) {
        let Some((device, word)) = self.subjects.parse_device(message.subject.as_str()) else {
            return;
        };
        if !self.devices.borrow().contains_key(&device) {
            return;
        }
        let Some(observation) = heard(device, word, &message.payload) else { return };
        if observation.quality == Quality::Bad {
            // Said at the 1st, 2nd, 4th, … time, so that a flood of it is no flood of the log.
            self.unreadable = self.unreadable.saturating_add(1);
            if self.unreadable.is_power_of_two() {
                let (device, count) = (&observation.device, self.unreadable);
                tracing::warn!(%device, count, "a device reports what can't be read");
            }
        }
        reports.send(observation).await;
    }
}

/// What a message tells of its device. A report that can't be read tells that it can't.
fn heard(device: DeviceId, word: DeviceWord, payload: &[u8]) -> Option<Observation> {
    match word {
        DeviceWord::Reported => Some(match object(payload) {
            Some(values) => Observation::fresh(device, values),
            None => {
                Observation { quality: Quality::Bad, ..Observation::fresh(device, Object::new()) }
            }
        }),
        DeviceWord::Availability => Some(Observation::availability(device, availability(payload)?)),
        DeviceWord::Set => Some(Observation {
            quality: Quality::Uncertain,
            foreign_write: true,
            ..Observation::fresh(device, object(payload).unwrap_or_default())
        }),
        DeviceWord::Invoke | DeviceWord::Get => None,
    }
}

fn availability(payload: &[u8]) -> Option<Availability> {
    if payload.len() > AVAILABILITY_BYTES_MAX {
        return None;
    }
    let text = std::str::from_utf8(payload).ok()?.trim().trim_matches('"');
    match text {
        "online" => Some(Availability::Online),
        "offline" => Some(Availability::Offline),
        "asleep" => Some(Availability::Asleep),
        "unknown" => Some(Availability::Unknown),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_report_that_cannot_be_read_is_told_as_bad() {
        let device: DeviceId = "door".parse().unwrap();
        let told = |word, payload: &str| heard(device.clone(), word, payload.as_bytes());
        let bad = told(DeviceWord::Reported, "{").unwrap();
        assert_eq!((bad.quality, bad.values.is_empty()), (Quality::Bad, true));
        let good = told(DeviceWord::Reported, r#"{"on":true}"#).unwrap();
        assert_eq!((good.quality, good.values.is_empty()), (Quality::Good, false));
        assert_eq!(told(DeviceWord::Availability, "?"), None);
    }

    #[test]
    fn what_somebody_else_tells_a_device_is_no_report() {
        let told = |word| heard("door".parse().unwrap(), word, br#"{"on":true}"#);
        let seen = told(DeviceWord::Set).unwrap();
        assert!(seen.foreign_write && seen.quality == Quality::Uncertain);
        assert_eq!(seen.values.to_json(), r#"{"on":true}"#);
        assert_eq!((told(DeviceWord::Invoke), told(DeviceWord::Get)), (None, None));
    }
}
