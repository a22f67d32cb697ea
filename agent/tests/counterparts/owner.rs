//! What the agent is to a session: it connects, writes, asks, and takes the reports.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use fleet_state::{Limits, Object, Revision, Value};
use flotilla_agent::device::connector::{
    Availability, Connect, ConnectError, Connector, DeviceSetup, Handed, Invoke, LinkSetup,
    MayWrite, Observation, Read, ReadErrorKind, Reading, Reports, Session, Write, WriteError,
};
use tokio::sync::mpsc;
use tokio::time::{Instant, timeout};

use super::LIMIT;

pub fn object(json: &str) -> Object {
    let value = Value::parse(json.as_bytes(), Limits::default()).unwrap();
    value.as_map().unwrap().clone()
}

pub fn device(id: &str, address: &str, settings: &str) -> DeviceSetup {
    let (id, address) = (id.parse().unwrap(), Arc::from(address));
    DeviceSetup { id, address, model: None, settings: object(settings) }
}

/// A link's session and what it reports.
pub struct Owner {
    pub session: Box<dyn Session>,
    pub reports: mpsc::Receiver<Observation>,
    sequence: u64,
}

impl Owner {
    /// Checks the registrations as the agent does, and connects.
    pub async fn connect(
        connector: &dyn Connector,
        (address, settings): (&str, &str),
        devices: Vec<DeviceSetup>,
        secrets: &Path,
    ) -> Result<Self, ConnectError> {
        let (reports, received) = Reports::new(64);
        let link = LinkSetup {
            id: "home.link".parse().unwrap(),
            address: Arc::from(address),
            settings: object(settings),
        };
        connector.check_link(&link).unwrap();
        for device in &devices {
            connector.check_device(&link, device).unwrap();
        }
        let connect = Connect {
            link,
            devices,
            epoch: 1,
            site: "home".parse().unwrap(),
            secrets_dir: secrets.to_owned(),
            reports,
            may_write: MayWrite::new(|_| Some(Instant::now() + LIMIT)),
        };
        let session = connector.connect(connect).await?;
        Ok(Self { session, reports: received, sequence: 0 })
    }

    pub async fn write(&mut self, id: &str, values: &str) -> Result<Handed, WriteError> {
        self.write_until(id, values, None).await
    }

    pub async fn write_until(
        &mut self,
        id: &str,
        values: &str,
        expires: Option<Instant>,
    ) -> Result<Handed, WriteError> {
        let write = Write { expires, ..self.next_write(id, values) };
        timeout(LIMIT, self.session.write(&write)).await.expect("a write ends")
    }

    /// A write that nobody has handed over yet.
    pub fn next_write(&mut self, id: &str, values: &str) -> Write {
        self.sequence += 1;
        Write {
            device: id.parse().unwrap(),
            values: object(values),
            revision: Revision::new(7),
            epoch: 1,
            sequence: self.sequence,
            deadline: Instant::now() + LIMIT,
            expires: None,
        }
    }

    /// A one-shot without arguments.
    pub async fn invoke(&mut self, id: &str, action: &str) -> Result<Handed, WriteError> {
        self.invoke_with(id, action, Value::Null).await
    }

    pub async fn invoke_with(
        &mut self,
        id: &str,
        action: &str,
        args: Value,
    ) -> Result<Handed, WriteError> {
        self.sequence += 1;
        let invoke = Invoke {
            device: id.parse().unwrap(),
            action: Arc::from(action),
            args,
            request_id: "one".parse().unwrap(),
            epoch: 1,
            sequence: self.sequence,
            deadline: Instant::now() + LIMIT,
            expires: None,
        };
        timeout(LIMIT, self.session.invoke(&invoke)).await.expect("a one-shot ends")
    }

    pub async fn read(&self, id: &str, within: Duration) -> Result<Object, ReadErrorKind> {
        self.reading(id, within).await.map(|reading| reading.values)
    }

    /// The same, with all that goes with the values.
    pub async fn reading(&self, id: &str, within: Duration) -> Result<Reading, ReadErrorKind> {
        let read = Read {
            device: id.parse().unwrap(),
            properties: None,
            deadline: Instant::now() + within,
        };
        let answer = timeout(LIMIT, self.session.read(&read)).await.expect("a question ends");
        answer.map_err(|error| error.kind)
    }

    pub async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&Observation) -> bool,
    ) -> Observation {
        let mut seen = Vec::new();
        let found = timeout(LIMIT, async {
            loop {
                let report = self.reports.recv().await.expect("the session reports");
                if wanted(&report) {
                    return report;
                }
                seen.push(report);
            }
        });
        found.await.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}; heard {seen:?}"))
    }

    pub async fn until_online(&mut self, id: &str) {
        self.until("it is online", |seen| {
            seen.device.as_ref() == id && seen.availability == Some(Availability::Online)
        })
        .await;
    }
}
