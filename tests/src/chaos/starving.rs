//! An agent that gets little of the processor, by a control group of its own.

use std::path::{Path, PathBuf};

/// Of every 100 ms so many, in microseconds.
const QUOTA_US: u32 = 5_000;
const PERIOD_US: u32 = 100_000;

/// A group with one process, which goes back and takes the group away on drop.
#[derive(Debug)]
pub(super) struct Starved {
    group: PathBuf,
    back: PathBuf,
    process: u32,
}

impl Starved {
    /// Begins; an error says why it can't be done on this machine.
    pub(super) fn begin(process: u32) -> Result<Self, String> {
        let first = Path::new("/sys/fs/cgroup/cpu");
        let second = Path::new("/sys/fs/cgroup");
        let (root, is_first) = if first.join("cpu.cfs_quota_us").is_file() || first.is_dir() {
            (first, true)
        } else {
            (second, false)
        };
        let group = root.join(format!("flotilla-chaos-{process}"));
        let told = |error: std::io::Error| format!("{}: {error}", group.display());
        std::fs::create_dir(&group).map_err(told)?;
        let starved = Self { group: group.clone(), back: root.join("cgroup.procs"), process };
        let write = |file: &str, text: String| std::fs::write(group.join(file), text);
        if is_first {
            write("cpu.cfs_period_us", PERIOD_US.to_string()).map_err(told)?;
            write("cpu.cfs_quota_us", QUOTA_US.to_string()).map_err(told)?;
        } else {
            write("cpu.max", format!("{QUOTA_US} {PERIOD_US}")).map_err(told)?;
        }
        write("cgroup.procs", process.to_string()).map_err(told)?;
        Ok(starved)
    }

    /// In how many periods it had to wait: the proof.
    pub(super) fn throttled(&self) -> u64 {
        let text = std::fs::read_to_string(self.group.join("cpu.stat")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("nr_throttled "));
        line.and_then(|count| count.trim().parse().ok()).unwrap_or_default()
    }
}

impl Drop for Starved {
    fn drop(&mut self) {
        // It may have ended meanwhile, and then the group is empty.
        let _ = std::fs::write(&self.back, self.process.to_string());
        let _ = std::fs::remove_dir(&self.group);
    }
}
