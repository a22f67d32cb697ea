//! `dev.json`: what runs where.
//!
//! Scripts read it, so its fields are a promise: `site`, `nats_url` and `nats_pid`, which are null on
//! a site without NATS, and `agents`, each with `name`, `node_id`, `pid`, `data_dir` and `socket`, its local door.

use std::fs;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// The name of the file.
pub(crate) const FILE_NAME: &str = "dev.json";
/// A file larger than this was not written by us.
const BYTES_MAX: u64 = 64 * 1024;

/// A development site that runs, or ran.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Manifest {
    pub(crate) site: String,
    /// Absent on a site without NATS.
    pub(crate) nats_url: Option<String>,
    pub(crate) nats_pid: Option<u32>,
    pub(crate) agents: Vec<AgentEntry>,
}

/// One agent of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AgentEntry {
    pub(crate) name: String,
    pub(crate) node_id: u64,
    pub(crate) pid: u32,
    pub(crate) data_dir: PathBuf,
    /// Absent in a file of an earlier version.
    #[serde(default)]
    pub(crate) socket: PathBuf,
}

impl Manifest {
    /// Reads the file of the site below `root`; `None` if there is none.
    pub(crate) fn read(root: &Path) -> Result<Option<Self>> {
        let path = root.join(FILE_NAME);
        let size_bytes = match fs::metadata(&path) {
            Ok(metadata) => metadata.len(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => {
                return Err(error).with_context(|| format!("{} is unreadable", path.display()));
            }
        };
        anyhow::ensure!(
            size_bytes <= BYTES_MAX,
            "{} has {size_bytes} bytes and is none of ours; remove it",
            path.display()
        );
        let text = fs::read_to_string(&path)
            .with_context(|| format!("{} is unreadable", path.display()))?;
        let manifest = serde_json::from_str(&text).with_context(|| {
            format!("{} is damaged; stop the site's processes and remove the file", path.display())
        })?;
        Ok(Some(manifest))
    }

    /// Writes the file in one step: a script sees the old one or the new one.
    pub(crate) fn write(&self, root: &Path) -> Result<()> {
        let path = root.join(FILE_NAME);
        let fresh = root.join(format!("{FILE_NAME}.new"));
        let text = serde_json::to_string_pretty(self).context("dev.json cannot be made")?;
        let written = fs::File::create(&fresh)
            .and_then(|mut file| writeln!(file, "{text}"))
            .and_then(|()| fs::rename(&fresh, &path));
        written.with_context(|| format!("{} cannot be written", path.display()))
    }

    /// Removes the file, once nothing of the site runs.
    pub(crate) fn remove(root: &Path) -> Result<()> {
        match fs::remove_file(root.join(FILE_NAME)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("{FILE_NAME} cannot be removed"))
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest() -> Manifest {
        Manifest {
            site: "home".to_owned(),
            nats_url: Some("nats://127.0.0.1:4222".to_owned()),
            nats_pid: Some(7),
            agents: vec![AgentEntry {
                name: "n1".to_owned(),
                node_id: 1,
                pid: 8,
                data_dir: PathBuf::from("/x/n1"),
                socket: PathBuf::from("/x/n1/door.sock"),
            }],
        }
    }

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), None);
        manifest().write(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), Some(manifest()));
        Manifest::remove(folder.path()).unwrap();
        Manifest::remove(folder.path()).unwrap();
        assert_eq!(Manifest::read(folder.path()).unwrap(), None);
    }

    #[test]
    fn the_fields_that_scripts_read_keep_their_names() {
        let json = serde_json::to_value(manifest()).unwrap();
        assert_eq!(
            json,
            serde_json::json!({
                "site": "home", "nats_url": "nats://127.0.0.1:4222", "nats_pid": 7,
                "agents": [{"name": "n1", "node_id": 1, "pid": 8, "data_dir": "/x/n1",
                            "socket": "/x/n1/door.sock"}],
            })
        );
    }

    #[test]
    fn a_damaged_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join(FILE_NAME), "{").unwrap();
        let error = Manifest::read(folder.path()).unwrap_err().to_string();
        assert!(error.contains(FILE_NAME) && error.contains("damaged"), "{error}");
    }
}
