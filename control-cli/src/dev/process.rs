//! Processes of a development site: started with a log, ended by id, within a bound.

use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use rustix::process::{Pid, Signal, kill_process, test_kill_process};
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};

use super::programs;

/// How long a process may take to end by itself before it is killed. An agent's own drain is shorter.
pub(crate) const STOP_LIMIT: Duration = Duration::from_secs(15);
const POLL: Duration = Duration::from_millis(50);
/// As much of a log as an error message carries.
const LOG_TAIL_BYTES: usize = 2_000;

/// A process that this one has started.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) name: String,
    pub(crate) pid: u32,
    log: PathBuf,
    child: Child,
}

impl Process {
    /// Starts `command` in a process group of its own, so that a Ctrl-C at the terminal reaches this
    /// program only, which then ends the others in order.
    pub(crate) fn start(name: &str, mut command: Command, log: &Path) -> Result<Self> {
        let out = open_log(log)?;
        let err = out.try_clone().context("a log handle cannot be doubled")?;
        command.stdin(Stdio::null()).stdout(out).stderr(err).process_group(0);
        // Nothing is to outlive this program unless it is left on purpose.
        command.kill_on_drop(true);
        let child = command.spawn().with_context(|| format!("{name} does not start"))?;
        let pid = child.id().with_context(|| format!("{name} ended at once"))?;
        Ok(Self { name: name.to_owned(), pid, log: log.to_path_buf(), child })
    }

    /// Lets it go on when this program ends.
    pub(crate) fn leave(self) {
        // Dropped, it would be killed. This program ends next, and with it what is forgotten here.
        std::mem::forget(self.child);
    }

    /// The exit status, if it has ended.
    pub(crate) fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().ok().flatten()
    }

    /// An error with the end of its log, if it has ended.
    pub(crate) fn ensure_running(&mut self) -> Result<()> {
        match self.ended() {
            None => Ok(()),
            Some(status) => anyhow::bail!(
                "{} ended with {status}; the end of {}:\n{}",
                self.name,
                self.log.display(),
                tail(&self.log)
            ),
        }
    }

    /// SIGTERM, without waiting for its effect.
    pub(crate) fn terminate(&mut self) {
        if self.ended().is_none() {
            // The child has not been waited for, so its id is still its own.
            let _ = send(self.pid, Signal::TERM);
        }
    }

    /// SIGTERM, and SIGKILL if that is not enough. Says whether it ended by itself.
    pub(crate) async fn stop(&mut self) -> bool {
        if self.ended().is_some() {
            return true;
        }
        self.terminate();
        if timeout(STOP_LIMIT, self.child.wait()).await.is_ok() {
            return true;
        }
        let _ = self.child.start_kill();
        let _ = self.child.wait().await;
        false
    }
}

/// Ends processes that an earlier run has left, by id: SIGTERM to all, then SIGKILL to the rest.
/// Gives the ids that had to be killed.
pub(crate) async fn stop_all(pids: &[u32]) -> Vec<u32> {
    for pid in pids {
        let _ = send(*pid, Signal::TERM);
    }
    let begun = Instant::now();
    while begun.elapsed() < STOP_LIMIT && pids.iter().any(|pid| is_alive(*pid)) {
        sleep(POLL).await;
    }
    let left: Vec<u32> = pids.iter().copied().filter(|pid| is_alive(*pid)).collect();
    for pid in &left {
        let _ = send(*pid, Signal::KILL);
    }
    left
}

/// The agents on a data directory: what an earlier run has left there (`on_record`), or somebody has
/// started again by hand. Ids alone would not do, they are reused; nor would the directory alone,
/// which may be an argument of any program.
pub(crate) fn agents_on(data_dir: &Path, on_record: &[u32]) -> Vec<u32> {
    running_with(data_dir, programs::AGENT, on_record)
}

/// The servers on a folder, in the same way.
pub(crate) fn servers_on(folder: &Path, on_record: &[u32]) -> Vec<u32> {
    running_with(folder, programs::NATS_SERVER, on_record)
}

/// The processes with `argument` among their arguments that are on record or run this program.
fn running_with(argument: &Path, program: &str, on_record: &[u32]) -> Vec<u32> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    let pids = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    let is_ours = |pid: u32| on_record.contains(&pid) || runs(pid, program);
    pids.filter(|pid| *pid != std::process::id() && has_argument(*pid, argument) && is_ours(*pid))
        .collect()
}

fn has_argument(pid: u32, argument: &Path) -> bool {
    let Ok(line) = fs::read(format!("/proc/{pid}/cmdline")) else { return false };
    line.split(|byte| *byte == 0).any(|word| word == argument.as_os_str().as_encoded_bytes())
}

/// Whether that is the name of the program that a process runs. One that was replaced since, as by a
/// new build, is still of that name.
fn runs(pid: u32, program: &str) -> bool {
    let Ok(path) = fs::read_link(format!("/proc/{pid}/exe")) else { return false };
    let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    name.strip_suffix(" (deleted)").unwrap_or(&name) == program
}

/// Whether the process is there and has not ended. A zombie, ended and not yet waited for by its
/// parent, is not alive.
fn is_alive(pid: u32) -> bool {
    let Some(id) = id(pid) else { return false };
    if test_kill_process(id).is_err() {
        return false;
    }
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
    state != Some('Z')
}

fn send(pid: u32, signal: Signal) -> Result<()> {
    let id = id(pid).with_context(|| format!("{pid} is no process id"))?;
    kill_process(id, signal).with_context(|| format!("process {pid} takes no signal"))
}

fn id(pid: u32) -> Option<Pid> {
    // 0 would mean the whole process group.
    Pid::from_raw(i32::try_from(pid).ok()?)
}

fn open_log(path: &Path) -> Result<File> {
    File::options()
        .create(true)
        .append(true)
        .open(path)
        .with_context(|| format!("{} cannot be written", path.display()))
}

/// The last lines of a log.
pub(crate) fn tail(log: &Path) -> String {
    let text = fs::read(log).unwrap_or_default();
    let from = text.len().saturating_sub(LOG_TAIL_BYTES);
    String::from_utf8_lossy(text.get(from..).unwrap_or_default()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sleeper(log: &Path) -> Process {
        let mut command = Command::new("sleep");
        command.arg("1000.25");
        Process::start("sleeper", command, log).unwrap()
    }

    #[tokio::test]
    async fn a_process_is_started_found_and_stopped() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = sleeper(&folder.path().join("log"));
        assert!(process.ensure_running().is_ok());
        // A process that was just started shows its arguments a moment later.
        let found = timeout(STOP_LIMIT, async {
            while !running_with(Path::new("1000.25"), "", &[process.pid]).contains(&process.pid) {
                tokio::task::yield_now().await;
            }
        });
        assert!(found.await.is_ok(), "a running process is not found by its argument");
        assert!(!running_with(Path::new("1000.2"), "", &[process.pid]).contains(&process.pid));
        // Its program may be a part of another, such as of coreutils.
        let exe = fs::read_link(format!("/proc/{}/exe", process.pid)).unwrap();
        let program = exe.file_name().unwrap().to_str().unwrap();
        assert!(running_with(Path::new("1000.25"), program, &[]).contains(&process.pid));
        assert!(agents_on(Path::new("1000.25"), &[]).is_empty(), "sleep is no agent");
        assert!(process.stop().await);
        assert!(process.ensure_running().unwrap_err().to_string().contains("sleeper ended"));
        assert!(!is_alive(process.pid));
    }

    #[tokio::test]
    async fn a_left_over_process_is_stopped_by_id() {
        let folder = tempfile::tempdir().unwrap();
        let mut process = sleeper(&folder.path().join("log"));
        assert!(is_alive(process.pid));
        assert_eq!(stop_all(&[process.pid]).await, Vec::<u32>::new());
        assert!(process.stop().await);
    }

    #[tokio::test]
    async fn an_error_carries_the_end_of_the_log() {
        let folder = tempfile::tempdir().unwrap();
        let log = folder.path().join("log");
        let mut command = Command::new("sh");
        command.args(["-c", "echo no disk left >&2; exit 4"]);
        let mut process = Process::start("talker", command, &log).unwrap();
        process.child.wait().await.unwrap();
        let error = process.ensure_running().unwrap_err().to_string();
        assert!(error.contains("no disk left") && error.contains('4'), "{error}");
    }
}
