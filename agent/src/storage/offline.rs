//! `flotilla-agent store check|dump`: looks at a data directory while no agent uses it.
//!
//! Nothing is changed, not even by a sync: whoever looks at a damaged directory wants to keep it
//! as it is. Texts that came from elsewhere are printed escaped.

use std::error::Error;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

use fleet_log::{Disk as _, DumpItem, DumpRecord, LogIdentity, Report};
use fleet_state::{Entry, SnapshotMeta, decode_snapshot};

use crate::cli::Store;
use crate::config::{self, Sources};

use super::data_dir::{DataDir, DataDirError};
use super::disk::RealDisk;
use super::identity::Identity;
use super::node_file::NodeFile;
use super::quarantine;
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
    /// The configuration does not say which directory.
    #[error(transparent)]
    Config(#[from] config::ConfigError),
    /// Something in it is damaged.
    #[error("{} is damaged; the report says where", path.display())]
    Damaged {
        /// The directory.
        path: PathBuf,
    },
    /// The log can't be listed.
    #[error(transparent)]
    Log(#[from] fleet_log::OpenError),
    /// The report can't be written, or a directory not be read.
    #[error("the report could not be written")]
    Io(#[from] io::Error),
}

/// Carries `store check` or `store dump` out, on standard output.
///
/// # Errors
/// When nothing could be looked at, or what was looked at is damaged; as the caller has it.
pub fn carry_out<E: From<OfflineError>>(command: &Store) -> Result<(), E> {
    match print(command) {
        // Whoever reads the output has seen enough.
        Err(OfflineError::Io(error)) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        done => Ok(done?),
    }
}

fn print(command: &Store) -> Result<(), OfflineError> {
    let (Store::Check(run) | Store::Dump(run)) = command;
    let sources = Sources::from_process(run.settings.config.clone(), run.settings.flags(None));
    let path = config::load(&sources)?.config.node.data_dir;
    let mut out = io::BufWriter::new(io::stdout().lock());
    let health = match command {
        Store::Check(_) => check(&path, &mut out)?,
        Store::Dump(_) => {
            dump(&path, &mut out)?;
            Health::Sound
        }
    };
    out.flush()?;
    match health {
        Health::Sound | Health::Doubtful => Ok(()),
        Health::Damaged => Err(OfflineError::Damaged { path }),
    }
}

/// Reads everything in a data directory and writes what it finds, a line for each thing.
///
/// # Errors
/// When the directory is in use or can't be read; what is found damaged is no error.
pub fn check(path: &Path, out: &mut dyn Write) -> Result<Health, OfflineError> {
    let dir = DataDir::open_to_look(path)?;
    let mut checkup = Checkup { out, health: Health::Sound };
    let node = checkup.node(&dir)?;
    checkup.quarantine(path)?;
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
    let dir = DataDir::open_to_look(path)?;
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
                let NodeFile { site, uid, node: id, name, boot, .. } = &node;
                let text = format!("node {id} ({name}) of site {site} ({uid}), start {boot}");
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

    fn quarantine(&mut self, path: &Path) -> io::Result<()> {
        match quarantine::reason(path) {
            Some(reason) => self.found(Health::Damaged, "quarantine", &reason),
            None => Ok(()),
        }
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
                    Some(node) => {
                        LogIdentity { site_uid: *node.uid.as_bytes(), node: node.node.get() }
                    }
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
        let held = match report.entries {
            0 => format!("no entries after {}", report.start.index),
            _ => format!(
                "entries {} to {} of term {}",
                report.start.index + 1,
                report.last.index,
                report.last.term
            ),
        };
        let text =
            format!("{held}; term {}, vote {}, commit {}", hard.term, hard.vote, hard.commit);
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
                Ok((meta, _)) if node.is_some_and(|node| node.uid != meta.uid) => {
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

#[cfg(test)]
mod tests {
    use super::*;
    use fleet_log::{HardState, Log, LogConfig, LogEntry, Position};

    const IDENTITY: LogIdentity = LogIdentity { site_uid: [0x11; 16], node: 3 };

    /// A data directory with a little log and no snapshot.
    fn node_dir() -> tempfile::TempDir {
        let dir = tempfile::tempdir().unwrap();
        let data = DataDir::open(dir.path()).unwrap();
        data.identity_or_create(&[1; 32]).unwrap();
        let config = LogConfig { segment_bytes: 4096, cache_bytes: 0 };
        let (start, hard) = (Position::default(), HardState::default());
        let disk = data.log_disk().unwrap();
        let mut log = Log::create(disk, IDENTITY, config, start, hard).unwrap();
        for index in 1..=3 {
            log.append(&[LogEntry { index, term: 1, kind: 0, data: "hello".into() }]).unwrap();
            log.set_hard_state(HardState { term: 1, vote: 3, commit: index - 1 }).unwrap();
            log.sync().unwrap();
        }
        let node = NodeFile {
            site: "home".parse().unwrap(),
            uid: "11111111111111111111111111111111".parse().unwrap(),
            site_public_key: [7; 32],
            node: fleet_state::NodeId::new(3).unwrap(),
            name: "gw-3".parse().unwrap(),
            credential: [9; 64],
            boot: 5,
        };
        data.write_node(&node).unwrap();
        dir
    }

    fn checked(dir: &Path) -> (Health, String) {
        let mut out = Vec::new();
        let health = check(dir, &mut out).unwrap();
        (health, String::from_utf8(out).unwrap())
    }

    fn flip(path: &Path, at: usize) {
        let mut bytes = std::fs::read(path).unwrap();
        bytes[at] ^= 1;
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_sound_directory_is_described() {
        let dir = node_dir();
        let (health, text) = checked(dir.path());
        assert_eq!(health, Health::Sound, "{text}");
        for part in ["node 3 (gw-3) of site home", "start 5", "entries 1 to 3", "commit 2"] {
            assert!(text.contains(part), "{part} is missing in {text}");
        }
        let mut out = Vec::new();
        dump(dir.path(), &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(text.contains("entry index 3 term 1 kind 0, 5 bytes: 68656c6c6f"), "{text}");
        assert!(text.contains("hard_state term 1 vote 3 commit 2"), "{text}");
    }

    #[test]
    fn looking_leaves_every_byte_as_it_is() {
        let dir = node_dir();
        flip(&dir.path().join("log/0000000001.seg"), 600);
        std::fs::write(dir.path().join("snapshots/snap-1-1.flt"), "rubbish").unwrap();
        let all = |path: &Path| -> Vec<(PathBuf, Vec<u8>)> {
            let mut files = Vec::new();
            for sub in [".", "log", "snapshots"] {
                for entry in std::fs::read_dir(path.join(sub)).unwrap() {
                    let path = entry.unwrap().path();
                    if path.is_file() {
                        files.push((path.clone(), std::fs::read(path).unwrap()));
                    }
                }
            }
            files.sort();
            files
        };
        let before = all(dir.path());
        let (health, text) = checked(dir.path());
        assert_eq!(health, Health::Damaged, "{text}");
        assert!(text.contains("snap-1-1.flt: DOUBTFUL"), "{text}");
        dump(dir.path(), &mut Vec::new()).unwrap();
        assert_eq!(all(dir.path()), before);
    }

    #[test]
    fn damage_is_found_and_named() {
        for (file, at, expected) in [
            ("node.json", 30, "node: DAMAGED"),
            ("identity.key", 40, "identity: DAMAGED"),
            ("log/0000000001.seg", 20, "log: DAMAGED"),
            ("log/0000000001.seg", 600, "log: DAMAGED"),
        ] {
            let dir = node_dir();
            flip(&dir.path().join(file), at);
            let (health, text) = checked(dir.path());
            assert_eq!(health, Health::Damaged, "{file}: {text}");
            assert!(text.contains(expected), "{file}: {text}");
        }
        let dir = node_dir();
        quarantine::set(dir.path(), "this node has lost part of its log").unwrap();
        let (health, text) = checked(dir.path());
        assert_eq!(health, Health::Damaged, "{text}");
        assert!(text.contains("quarantine: DAMAGED: this node has lost"), "{text}");
        let dir = node_dir();
        std::fs::remove_dir_all(dir.path().join("log")).unwrap();
        assert_eq!(checked(dir.path()).0, Health::Damaged);
    }

    #[test]
    fn a_directory_in_use_is_not_looked_at() {
        let dir = node_dir();
        let held = DataDir::open(dir.path()).unwrap();
        let error = check(dir.path(), &mut Vec::new()).unwrap_err();
        assert!(error.to_string().contains("in use"), "{error}");
        drop(held);
        assert!(check(&dir.path().join("missing"), &mut Vec::new()).is_err());
    }
}
