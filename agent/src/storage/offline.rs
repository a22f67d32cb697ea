//! `flotilla-agent store check|dump`: looks at a data directory while no agent uses it.
//!
//! Nothing is changed, not even by a sync: whoever looks at a damaged directory wants to keep it
//! as it is. Texts that came from elsewhere are printed escaped.

use std::error::Error;
use std::io::{self, Write};
use std::path::Path;

use fleet_log::{Disk as _, DumpItem, DumpRecord, LogIdentity, Report};
use fleet_state::{Entry, SnapshotMeta, decode_snapshot};

use super::data_dir::{DataDir, DataDirError};
use super::disk::RealDisk;
use super::identity::Identity;
use super::node_file::NodeFile;
use super::secret_file::load_site_key;

/// Largest state that a snapshot is unpacked to.
const STATE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;
/// How much of an entry is printed.
const PRINTED_CHARS_MAX: usize = 240;

/// What a check came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Health {
    /// All is as it was written.
    Sound,
    /// The node can start, and would say something: an unfinished write would be cut, or a
    /// snapshot is damaged beside a good one.
    Doubtful,
    /// The node can't start with this.
    Damaged,
}

/// Why nothing could be looked at.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// The directory can't be used.
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    /// The log can't be listed.
    #[error(transparent)]
    Log(#[from] fleet_log::OpenError),
    /// The report can't be written, or a directory not be read.
    #[error("the report could not be written")]
    Io(#[from] io::Error),
}

/// Reads everything in a data directory and writes what it finds, a line for each thing.
///
/// # Errors
/// When the directory is in use or can't be read; what is found damaged is no error.
pub fn check(path: &Path, out: &mut dyn Write) -> Result<Health, OfflineError> {
    let dir = DataDir::take_to_look(path)?;
    let mut checkup = Checkup { out, health: Health::Sound };
    let node = checkup.node(&dir)?;
    let log = checkup.log(&dir, node.as_ref())?;
    let newest = checkup.snapshots(&dir, node.as_ref())?;
    checkup.together(log.as_ref(), newest.as_ref())?;
    let verdict = match checkup.health {
        Health::Sound => "sound",
        Health::Doubtful => "usable, with the doubts above",
        Health::Damaged => "damaged: this node must not vote with it; let it join anew",
    };
    writeln!(checkup.out, "result: {verdict}")?;
    Ok(checkup.health)
}

/// Writes every record of the log in the order in which it was written, a line for each.
///
/// # Errors
/// When the directory is in use or can't be read.
pub fn dump(path: &Path, out: &mut dyn Write) -> Result<(), OfflineError> {
    let dir = DataDir::take_to_look(path)?;
    for item in fleet_log::dump(RealDisk::to_look_at(&dir.log_path())?)? {
        match item {
            DumpItem::Segment { file, identity, next_index } => writeln!(
                out,
                "{file}: site {}, node {}, next entry {next_index}",
                super::secret_file::hex(&identity.site_uid),
                identity.node
            )?,
            DumpItem::Record(record) => print_record(out, &record)?,
            DumpItem::Damage { file, offset, size_bytes, what } => {
                writeln!(out, "{file} {offset}: DAMAGED, {size_bytes} bytes: {what}")?;
            }
            DumpItem::Unreadable { file, what } => writeln!(out, "{file}: UNREADABLE: {what}")?,
            other => writeln!(out, "{other:?}")?,
        }
    }
    out.flush()?;
    Ok(())
}

fn print_record(out: &mut dyn Write, record: &DumpRecord) -> io::Result<()> {
    let DumpRecord { file, offset, batch, kind, index, term, .. } = record;
    write!(out, "{file} {offset}: batch {batch} {kind} ")?;
    match *kind {
        "entry" => {
            let (kind, size) = (record.entry_kind, record.payload.len());
            let text = describe_entry(&record.payload);
            writeln!(out, "index {index} term {term} kind {kind}, {size} bytes: {text}")
        }
        "hard_state" => {
            let vote = record.payload.first_chunk().map_or(0, |vote| u64::from_le_bytes(*vote));
            writeln!(out, "term {term} vote {vote} commit {index}")
        }
        "seal" | "mark" => writeln!(out),
        _ => writeln!(out, "index {index} term {term}"),
    }
}

fn describe_entry(payload: &[u8]) -> String {
    if payload.is_empty() {
        return "empty".to_owned();
    }
    let text = match Entry::decode(payload) {
        Ok(entry) => format!("{:?}", entry.body),
        Err(_) => super::secret_file::hex(payload),
    };
    text.chars().take(PRINTED_CHARS_MAX).collect()
}

/// An error and what caused it, in one line.
fn explain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// A check under way.
struct Checkup<'a> {
    out: &'a mut dyn Write,
    health: Health,
}

impl Checkup<'_> {
    fn found(&mut self, health: Health, what: &str, text: &str) -> io::Result<()> {
        self.health = self.health.max(health);
        let mark = match health {
            Health::Sound => "ok",
            Health::Doubtful => "DOUBTFUL",
            Health::Damaged => "DAMAGED",
        };
        writeln!(self.out, "{what}: {mark}: {text}")
    }

    fn node(&mut self, dir: &DataDir) -> io::Result<Option<NodeFile>> {
        let node = match NodeFile::load(dir.path()) {
            Ok(node) => {
                let NodeFile { site, site_uid, node: id, name, boot, .. } = &node;
                let text = format!("node {id} ({name}) of site {site} ({site_uid}), start {boot}");
                self.found(Health::Sound, "node", &text)?;
                Some(node)
            }
            Err(error) => {
                self.found(Health::Damaged, "node", &explain(&error))?;
                None
            }
        };
        match Identity::load(dir.path()) {
            Ok(_) => self.found(Health::Sound, "identity", "can be read")?,
            Err(error) => self.found(Health::Damaged, "identity", &explain(&error))?,
        }
        match load_site_key(dir.path()) {
            Ok(Some(_)) => self.found(Health::Sound, "site key", "can be read")?,
            Ok(None) => self.found(Health::Sound, "site key", "not kept on this node")?,
            Err(error) => self.found(Health::Damaged, "site key", &explain(&error))?,
        }
        Ok(node)
    }

    fn log(&mut self, dir: &DataDir, node: Option<&NodeFile>) -> io::Result<Option<Report>> {
        let checked = RealDisk::to_look_at(&dir.log_path())
            .map_err(|source| fleet_log::OpenError::Storage {
                action: "open the directory",
                file: String::new(),
                source,
            })
            .and_then(|disk| {
                let identity = match node {
                    Some(node) => LogIdentity {
                        site_uid: *node.site_uid.as_bytes(),
                        node: node.node.get(),
                    },
                    None => fleet_log::identify(&disk)?,
                };
                fleet_log::check(&disk, identity)
            });
        let report = match checked {
            Ok(report) => report,
            Err(error) => {
                self.found(Health::Damaged, "log", &explain(&error))?;
                return Ok(None);
            }
        };
        for segment in &report.segments {
            let fleet_log::SegmentReport { file, size_bytes, used_bytes, records, .. } = segment;
            let text = format!("{used_bytes} of {size_bytes} bytes used, {records} records");
            self.found(Health::Sound, file, &text)?;
        }
        if let Some(cut) = &report.cut {
            let text = format!("{} at byte {}, {}", cut.file, cut.offset, cut.reason);
            self.found(Health::Doubtful, "log", &text)?;
        }
        let hard = report.hard_state;
        let text = format!(
            "entries {} to {} of term {}; term {}, vote {}, commit {}",
            report.start.index + 1,
            report.last.index,
            report.last.term,
            hard.term,
            hard.vote,
            hard.commit
        );
        self.found(Health::Sound, "log", &text)?;
        Ok(Some(report))
    }

    /// Reads all snapshots; returns the newest good one.
    fn snapshots(
        &mut self,
        dir: &DataDir,
        node: Option<&NodeFile>,
    ) -> io::Result<Option<SnapshotMeta>> {
        let disk = match RealDisk::to_look_at(&dir.snapshot_path()) {
            Ok(disk) => disk,
            Err(error) => {
                self.found(Health::Damaged, "snapshots", &explain(&error))?;
                return Ok(None);
            }
        };
        let mut names = disk.list()?;
        names.retain(|name| Path::new(name).extension().is_some_and(|ext| ext == "flt"));
        names.sort_unstable();
        let mut newest: Option<SnapshotMeta> = None;
        for name in names {
            let read = std::fs::File::open(dir.snapshot_path().join(&name))
                .map_err(fleet_state::SnapshotError::from)
                .and_then(|file| decode_snapshot(&mut io::BufReader::new(file), STATE_BYTES_MAX));
            let what = name.escape_debug().to_string();
            match read {
                Ok((meta, _)) if node.is_some_and(|node| node.site_uid != meta.uid) => {
                    let text = format!("it is of another site, {} ({})", meta.site, meta.uid);
                    self.found(Health::Damaged, &what, &text)?;
                }
                Ok((meta, state)) => {
                    let digest = state.digests().combined();
                    let text = format!("index {} term {}, {digest}", meta.index, meta.term);
                    self.found(Health::Sound, &what, &text)?;
                    if newest.as_ref().is_none_or(|newest| newest.index < meta.index) {
                        newest = Some(meta);
                    }
                }
                Err(error) => self.found(Health::Doubtful, &what, &explain(&error))?,
            }
        }
        Ok(newest)
    }

    /// Whether log and snapshot fit together.
    fn together(&mut self, log: Option<&Report>, newest: Option<&SnapshotMeta>) -> io::Result<()> {
        let Some(log) = log else { return Ok(()) };
        let snapshot = newest.map_or(0, |meta| meta.index);
        if log.start.index > snapshot {
            let text = format!(
                "the log begins after entry {}, the newest good snapshot ends at {snapshot}",
                log.start.index
            );
            self.found(Health::Damaged, "log and snapshots", &text)?;
        }
        Ok(())
    }
}
