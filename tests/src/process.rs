//! A child process that is signalled by its id and never outlives its test.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// Until a process that was told to has stopped.
const PAUSE_LIMIT: Duration = Duration::from_secs(10);

/// One running program. Its output is appended to a log file.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    log: PathBuf,
}

impl Process {
    /// Starts `command`; standard output and standard error go to `log`.
    pub fn start(name: &str, command: &mut Command, log: &Path) -> Self {
        let out = open_log(log);
        let err = out.try_clone().expect("a file handle can be doubled");
        let child = command
            .stdin(Stdio::null())
            .stdout(out)
            .stderr(err)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} does not start: {error}"));
        Self { name: name.to_owned(), child, log: log.to_path_buf() }
    }

    /// The process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Its resident memory.
    ///
    /// # Panics
    /// If it has ended.
    pub fn resident_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.id()));
        let status = status.expect("a running process has a status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
        let kib = line.and_then(|rest| rest.split_whitespace().next()?.parse::<u64>().ok());
        kib.unwrap_or_else(|| panic!("{} has no memory: it has ended", self.name)) * 1024
    }

    /// Everything it has written so far.
    pub fn output(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// Sends a signal.
    pub fn signal(&self, signal: Signal) {
        // The child is not waited for elsewhere, so its id cannot belong to another.
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal)
            .unwrap_or_else(|error| panic!("{} takes no {signal:?}: {error}", self.name));
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// SIGSTOP: the process stands still and keeps its connections. Every thread of it has
    /// stopped when this returns; one on another processor may go on for a moment.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
        wait::until_blocking(&format!("{} stands still", self.name), PAUSE_LIMIT, || {
            self.has_stopped().then_some(())
        });
    }

    fn has_stopped(&self) -> bool {
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.id()));
        let mut tasks = tasks.expect("a child that was not waited for has tasks").flatten();
        tasks.all(|task| {
            let stat = std::fs::read_to_string(task.path().join("stat")).unwrap_or_default();
            // The name in front may hold anything, also a bracket.
            let state = stat.rsplit(')').next().and_then(|rest| rest.trim_start().chars().next());
            state.is_none_or(|state| state == 'T')
        })
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    /// The exit status, if it has ended.
    pub fn ended(&mut self) -> Option<ExitStatus> {
        self.child.try_wait().expect("a child can be asked for its state")
    }

    /// SIGTERM, and its exit status.
    ///
    /// # Panics
    /// If it has not ended within `limit`.
    pub async fn terminate(&mut self, limit: Duration) -> ExitStatus {
        self.signal(Signal::TERM);
        self.wait(limit).await
    }

    /// Its exit status, once it has ended by itself.
    ///
    /// # Panics
    /// If it has not ended within `limit`.
    pub async fn wait(&mut self, limit: Duration) -> ExitStatus {
        let what = format!("{} ends", self.name);
        let child = &mut self.child;
        wait::until(&what, limit, || {
            let state = child.try_wait().expect("a child can be asked for its state");
            async move { state }
        })
        .await
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            let output = self.output();
            let from = output.len().saturating_sub(4_000);
            let tail = output.get(from..).unwrap_or(&output);
            eprintln!("--- the end of what {} wrote ---\n{tail}", self.name);
        }
    }
}

fn open_log(path: &Path) -> File {
    OpenOptions::new()
        .create(true)
        .append(true)
        .open(path)
        .unwrap_or_else(|error| panic!("{} cannot be written: {error}", path.display()))
}
