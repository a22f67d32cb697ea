//! What a run that was killed has left: its namespaces, and the programs in them.
//!
//! The names of all namespaces of ours begin with the id and the start time of the process that
//! made them. One whose process is gone belongs to nobody, and neither does what runs inside.

use std::process::Command;
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

const OURS: &str = "flotilla-";
const END_LIMIT: Duration = Duration::from_secs(10);

/// What the names of all namespaces of a process begin with.
pub(super) fn prefix_of(process: u32) -> String {
    format!("{OURS}{process}-{}-", started(process).unwrap_or_default())
}

/// When a process was started, in ticks since the machine was; ids are used again.
fn started(process: u32) -> Option<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    // The name in front may hold anything, also a bracket. The start is the 22nd field of all.
    stat.rsplit(')').next()?.split_whitespace().nth(19)?.parse().ok()
}

/// Whether the process that made a namespace of this name is gone.
fn is_left(name: &str) -> bool {
    let Some(rest) = name.strip_prefix(OURS) else { return false };
    let mut numbers = rest.split('-').map(str::parse::<u64>);
    let (Some(Ok(process)), Some(Ok(start))) = (numbers.next(), numbers.next()) else {
        return false;
    };
    u32::try_from(process).is_ok_and(|process| started(process) != Some(start))
}

/// Removes what former runs have left.
pub(super) fn remove() {
    for name in said(&["netns", "list"]).lines().filter_map(|line| line.split(' ').next()) {
        if !is_left(name) {
            continue;
        }
        for process in processes_in(name) {
            if let Some(process) = Pid::from_raw(process) {
                let _gone = kill_process(process, Signal::KILL);
            }
        }
        let what = format!("what a former run left in {name} has ended");
        wait::until_blocking(&what, END_LIMIT, || processes_in(name).is_empty().then_some(()));
        // Another run may be tidying up as well.
        let _ = Command::new("ip").args(["netns", "del", name]).output();
    }
}

fn processes_in(namespace: &str) -> Vec<i32> {
    let text = said(&["netns", "pids", namespace]);
    text.split_whitespace().filter_map(|id| id.parse().ok()).collect()
}

fn said(arguments: &[&str]) -> String {
    let done = Command::new("ip").args(arguments).output().expect("`ip` was found before");
    String::from_utf8_lossy(&done.stdout).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_belongs_to_nobody_is_left() {
        let mine = prefix_of(std::process::id());
        assert!(!is_left(&format!("{mine}0-n1")));
        // The same id, started at another time.
        let other = format!("{OURS}{}-1-0-n1", std::process::id());
        assert!(is_left(&other));
        assert!(is_left("flotilla-4194399-77-0-switch"), "no process has so high an id");
        for foreign in ["cni-1-2", "flotilla-x-1-0-n1", "flotilla-", "flotilla-7"] {
            assert!(!is_left(foreign), "{foreign}");
        }
    }
}
