//! `flotilla snapshot`: the whole site in a file.

use std::{
    fs::{self, File},
    io::{BufReader, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};
use clap::Subcommand;
use fleet_state::{SnapshotError, SnapshotMeta, decode_snapshot, read_snapshot_meta};
use serde::Serialize;

use crate::{
    exit::{Exit, Stop},
    file::display,
    output::{Table, say, time},
    session::Session,
};

/// Largest state that `inspect` unpacks to look into.
const STATE_BYTES_MAX: u64 = 4 * 1024 * 1024 * 1024;

/// Snapshots
#[derive(Debug, Subcommand)]
pub(crate) enum SnapshotCommand {
    /// Save everything that is committed now, checked
    Save {
        /// Where to
        file: PathBuf,
        /// Replace the file if it exists
        #[arg(long)]
        force: bool,
    },
    /// Check a snapshot file and show what it holds
    Inspect {
        /// The file
        file: PathBuf,
    },
}

#[derive(Debug, Serialize)]
struct Saved {
    file: String,
    site: String,
    uid: String,
    index: u64,
    size_bytes: u64,
    node: String,
}

#[derive(Debug, Serialize)]
struct Inspected {
    site: String,
    uid: String,
    index: u64,
    term: u64,
    wall_time_ms: u64,
    voters: Vec<u64>,
    learners: Vec<u64>,
    links: usize,
    devices: usize,
    params: usize,
    members: usize,
    digests: std::collections::BTreeMap<String, String>,
}

pub(crate) async fn run(command: SnapshotCommand, session: &Session) -> Result<()> {
    match command {
        SnapshotCommand::Save { file, force } => save(&file, force, session).await,
        SnapshotCommand::Inspect { file } => inspect(&file, session),
    }
}

async fn save(path: &Path, force: bool, session: &Session) -> Result<()> {
    if path.exists() && !force {
        return Err(Stop::usage(format!("{} exists already", display(path)))
            .with_hint("Choose another name, or replace it with --force.")
            .into());
    }
    let client = session.client().await?;
    let folder =
        path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    // Beside its place, so that the rename cannot cross file systems; removed unless it is kept.
    let partial = tempfile::Builder::new()
        .prefix(".flotilla-snapshot-")
        .tempfile_in(folder)
        .with_context(|| format!("{} cannot be written to", display(folder)))?;
    let mut out = BufWriter::new(partial.as_file());
    let downloaded = client.download_snapshot(&mut out).await?;
    out.flush().context("the snapshot cannot be written")?;
    drop(out);
    partial.as_file().sync_all().context("the snapshot cannot be written")?;
    let meta = check(partial.path()).map_err(|error| {
        Stop::new(Exit::Failed, format!("what came over is not a whole snapshot: {error}"))
    })?;
    partial.persist(path).with_context(|| format!("{} cannot be written", display(path)))?;
    File::open(folder)
        .and_then(|folder| folder.sync_all())
        .context("the folder cannot be synced")?;
    let saved = Saved {
        file: path.display().to_string(),
        site: meta.site.to_string(),
        uid: meta.uid.to_string(),
        index: meta.index,
        size_bytes: downloaded.size_bytes,
        node: downloaded.node.to_string(),
    };
    session.form().print(&saved, || {
        Table::facts([
            ("file", saved.file.clone()),
            ("site", saved.site.clone()),
            ("revision", saved.index.to_string()),
            ("bytes", saved.size_bytes.to_string()),
            ("from", saved.node.clone()),
        ])
    })?;
    say(
        "It holds join tokens' keys and members' public keys; keep it where only operators can read it.",
    );
    Ok(())
}

fn check(path: &Path) -> Result<SnapshotMeta, SnapshotError> {
    read_snapshot_meta(&mut BufReader::new(File::open(path)?))
}

fn inspect(path: &Path, session: &Session) -> Result<()> {
    let refused = |error: &SnapshotError| {
        let stop = Stop::new(Exit::Failed, format!("{}: {error}", display(path)));
        stop.with_hint("Use another copy, or save a new one: flotilla snapshot save FILE")
    };
    let metadata = fs::metadata(path).map_err(|error| unreadable(path, &error))?;
    if !metadata.is_file() {
        return Err(Stop::usage(format!("{} is not a file", display(path))).into());
    }
    let open = || File::open(path).map(BufReader::new).map_err(|error| unreadable(path, &error));
    let (meta, state) =
        decode_snapshot(&mut open()?, STATE_BYTES_MAX).map_err(|error| refused(&error))?;
    let digests = state.digests();
    let sections = digests.sections().into_iter().chain([("combined", digests.combined())]);
    let inspected = Inspected {
        site: meta.site.to_string(),
        uid: meta.uid.to_string(),
        index: meta.index,
        term: meta.term,
        wall_time_ms: meta.wall_time_ms,
        voters: meta.voters.iter().map(|node| node.get()).collect(),
        learners: meta.learners.iter().map(|node| node.get()).collect(),
        links: state.links_len(),
        devices: state.devices_len(),
        params: state.params_len(),
        members: state.members().filter(|member| member.is_live()).count(),
        digests: sections.map(|(name, digest)| (name.to_owned(), digest.to_string())).collect(),
    };
    session.form().print(&inspected, || {
        Table::facts([
            ("site", format!("{} {}", inspected.site, inspected.uid)),
            ("revision", format!("{} of term {}", inspected.index, inspected.term)),
            ("time", time(inspected.wall_time_ms)),
            (
                "holds",
                format!(
                    "{} devices, {} parameters, {} links",
                    inspected.devices, inspected.params, inspected.links
                ),
            ),
            ("members", format!("{}, of which {} vote", inspected.members, inspected.voters.len())),
            ("digest", inspected.digests.get("combined").cloned().unwrap_or_default()),
        ])
    })
}

fn unreadable(path: &Path, error: &std::io::Error) -> Stop {
    let exit =
        if error.kind() == std::io::ErrorKind::NotFound { Exit::NotFound } else { Exit::Failed };
    Stop::new(exit, format!("{} cannot be read: {error}", display(path)))
}
