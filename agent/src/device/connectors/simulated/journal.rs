//! The file of a simulated link: lines that are appended, and what they say of the devices.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use fleet_state::{DeviceId, Limits, Object, Value};
use tokio::fs::{File, OpenOptions};
use tokio::io::{AsyncReadExt, AsyncSeekExt, AsyncWriteExt};

use super::super::super::connector::Availability;

/// A journal that has grown beyond this is not written any more.
const JOURNAL_BYTES_MAX: u64 = 256 * 1024 * 1024;
/// Bytes read at a time.
const READ_BYTES: usize = 64 * 1024;
/// The longest line that is looked at.
const LINE_BYTES_MAX: usize = 256 * 1024;

/// What a line of the journal changes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Line {
    pub device: DeviceId,
    pub values: Object,
    pub availability: Option<Availability>,
}

/// A device, as the lines about it make it.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Simulation {
    pub values: Object,
    pub away: bool,
}

/// A journal that is read up to some point.
#[derive(Debug)]
pub(super) struct Journal {
    path: PathBuf,
    /// How far it was read, always at the end of a line.
    read_bytes: u64,
    rest: Vec<u8>,
    pub devices: BTreeMap<DeviceId, Simulation>,
    /// Devices that lines were read about and that nobody has been told of.
    pub touched: BTreeSet<DeviceId>,
}

impl Journal {
    /// Opens the journal, which is made if there is none, and reads it.
    pub(super) async fn open(path: &Path) -> io::Result<Self> {
        OpenOptions::new().create(true).append(true).open(path).await?;
        let mut journal = Self {
            path: path.to_owned(),
            read_bytes: 0,
            rest: Vec::new(),
            devices: BTreeMap::new(),
            touched: BTreeSet::new(),
        };
        journal.read_on().await?;
        Ok(journal)
    }

    /// Reads what was appended since.
    pub(super) async fn read_on(&mut self) -> io::Result<()> {
        let mut file = File::open(&self.path).await?;
        let len_bytes = file.metadata().await?.len();
        if len_bytes <= self.read_bytes {
            return Ok(());
        }
        file.seek(io::SeekFrom::Start(self.read_bytes)).await?;
        let mut buffer = vec![0; READ_BYTES];
        loop {
            let count = file.read(&mut buffer).await?;
            if count == 0 {
                return Ok(());
            }
            self.read_bytes += count as u64;
            self.rest.extend_from_slice(buffer.get(..count).unwrap_or_default());
            self.take_lines();
        }
    }

    fn take_lines(&mut self) {
        while let Some(end) = self.rest.iter().position(|byte| *byte == b'\n') {
            let line: Vec<u8> = self.rest.drain(..=end).collect();
            if let Some(line) = parse(&line) {
                self.take(&line);
            }
        }
        if self.rest.len() > LINE_BYTES_MAX {
            self.rest.clear();
        }
    }

    fn take(&mut self, line: &Line) {
        self.touched.insert(line.device.clone());
        let device = self.devices.entry(line.device.clone()).or_default();
        for (key, value) in line.values.iter() {
            device.values.insert(Arc::clone(key), value.clone());
        }
        if let Some(availability) = line.availability {
            device.away = availability == Availability::Offline;
        }
    }
}

/// Appends a line. Short lines are appended whole, whoever else appends.
pub(super) async fn append(path: &Path, line: &Object) -> io::Result<()> {
    let mut file = OpenOptions::new().append(true).open(path).await?;
    if file.metadata().await?.len() > JOURNAL_BYTES_MAX {
        return Err(io::Error::other("the journal has grown too long; begin a new one"));
    }
    let mut bytes = Value::Map(line.clone()).to_json().into_bytes();
    bytes.push(b'\n');
    file.write_all(&bytes).await?;
    file.flush().await
}

/// What a line says; `None` for one that isn't ours, such as one that is being written by hand.
fn parse(line: &[u8]) -> Option<Line> {
    let limits = Limits { size_bytes_max: LINE_BYTES_MAX, ..Limits::default() };
    let value = Value::parse(line, limits).ok()?;
    let object = value.as_map()?;
    let values = object.get("values").and_then(Value::as_map).cloned().unwrap_or_default();
    let availability = match object.get("availability").and_then(Value::as_text) {
        Some("online") => Some(Availability::Online),
        Some("offline") => Some(Availability::Offline),
        Some("asleep") => Some(Availability::Asleep),
        Some(_) | None => None,
    };
    Some(Line { device: object.get("device")?.as_text()?.parse().ok()?, values, availability })
}
