//! What is left of budgets, on disk: a small file for each device.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use fleet_state::{DeviceId, LinkId};
use serde::{Deserialize, Serialize};

use crate::storage::{read_small, replace};

const FORMAT: u32 = 1;

/// The folder.
#[derive(Debug)]
pub(super) struct Kept {
    dir: PathBuf,
    /// Held while a file is written.
    writing: Mutex<()>,
}

/// What is left of a register's budget.
pub(super) struct Left {
    pub(super) link: LinkId,
    pub(super) register: Arc<str>,
    pub(super) left: f64,
}

/// A device as it was left.
pub(super) struct Was {
    pub(super) left: Vec<Left>,
    /// How long ago, by the wall clock; nothing, if that was put back.
    pub(super) since: Duration,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    format: u32,
    at_ms: u64,
    /// Link, register, writes.
    left: Vec<(String, String, f64)>,
}

impl Kept {
    pub(super) fn new(dir: PathBuf) -> Self {
        Self { dir, writing: Mutex::new(()) }
    }

    /// All devices. Those that must have refilled since are forgotten.
    pub(super) fn read(&self, now_ms: u64, refilled_after: Duration) -> Vec<(DeviceId, Was)> {
        let Ok(files) = fs::read_dir(&self.dir) else { return Vec::new() };
        let mut read = Vec::new();
        for path in files.filter_map(|file| Some(file.ok()?.path())) {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            let Some(device) = name.strip_suffix(".json") else { continue };
            let was = match read_one(&path, now_ms) {
                Ok(was) if was.since >= refilled_after => {
                    // What stays is read, and forgotten, another time.
                    let _stays = fs::remove_file(&path);
                    continue;
                }
                Ok(was) => device.parse().ok().map(|device| (device, was)),
                Err(problem) => {
                    tracing::warn!(file = %path.display(), %problem, "how often registers were written is not known, and counts as never");
                    None
                }
            };
            read.extend(was);
        }
        read
    }

    /// Writes a device's file. A disk that takes nothing is no reason to leave a device as it is.
    pub(super) fn write(&self, device: &DeviceId, at_ms: u64, look: impl FnOnce() -> Vec<Left>) {
        let _writing = self.writing.lock().unwrap_or_else(PoisonError::into_inner);
        let left = look()
            .into_iter()
            .map(|it| (it.link.to_string(), it.register.to_string(), it.left))
            .collect();
        let file = File { format: FORMAT, at_ms, left };
        let written = fs::create_dir_all(&self.dir)
            .and_then(|()| Ok(serde_json::to_vec(&file)?))
            .and_then(|bytes| replace(&self.dir, &format!("{device}.json"), &bytes));
        if let Err(error) = written {
            tracing::warn!(%device, %error, "how often registers were written is not on disk; a start of the agent forgets it");
        }
    }
}

fn read_one(path: &Path, now_ms: u64) -> Result<Was, String> {
    let bytes = read_small(path).map_err(|error| error.to_string())?;
    let file: File = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
    if file.format != FORMAT {
        return Err(format!("its format is {}, not {FORMAT}", file.format));
    }
    let left = file.left.into_iter().map(|(link, register, left)| {
        let link = link.parse().map_err(|error| format!("{error}"))?;
        Ok(Left { link, register: Arc::from(register), left: left.max(0.0) })
    });
    let left = left.collect::<Result<_, String>>()?;
    Ok(Was { left, since: Duration::from_millis(now_ms.saturating_sub(file.at_ms)) })
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    fn left() -> Vec<Left> {
        vec![Left { link: "bus".parse().unwrap(), register: Arc::from("limit"), left: 2.5 }]
    }

    fn kept(dir: &tempfile::TempDir) -> Kept {
        Kept::new(dir.path().join("wear"))
    }

    #[test]
    fn what_was_left_is_found_with_its_age() {
        let dir = tempfile::tempdir().unwrap();
        kept(&dir).write(&"hall.drive".parse().unwrap(), 10_000, left);
        let read = kept(&dir).read(11_000, DAY);
        let [(device, was)] = &read[..] else { panic!("one") };
        assert_eq!((device.as_str(), was.since), ("hall.drive", Duration::from_secs(1)));
        assert_eq!((was.left[0].link.as_str(), &*was.left[0].register), ("bus", "limit"));
        assert!((was.left[0].left - 2.5).abs() < f64::EPSILON);
        // A clock that was put back refills nothing.
        assert_eq!(kept(&dir).read(9_000, DAY)[0].1.since, Duration::ZERO);
    }

    #[test]
    fn what_must_be_full_again_is_forgotten() {
        let dir = tempfile::tempdir().unwrap();
        kept(&dir).write(&"d".parse().unwrap(), 1, left);
        assert!(kept(&dir).read(1 + 86_400_000, DAY).is_empty());
        assert_eq!(fs::read_dir(dir.path().join("wear")).unwrap().count(), 0);
    }

    #[test]
    fn garbage_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        kept(&dir).write(&"good".parse().unwrap(), 1, left);
        for (name, text) in [
            ("bad.json", "{"),
            ("other.json", r#"{"format": 2, "at_ms": 1, "left": []}"#),
            ("id.json", r#"{"format": 1, "at_ms": 1, "left": [["A b", "x", 1.0]]}"#),
            ("A name.json", r#"{"format": 1, "at_ms": 1, "left": []}"#),
            ("notes.txt", "mine"),
        ] {
            fs::write(dir.path().join("wear").join(name), text).unwrap();
        }
        let read = kept(&dir).read(2, DAY);
        assert_eq!(read.iter().map(|(id, _)| id.as_str()).collect::<Vec<_>>(), ["good"]);
    }
}
