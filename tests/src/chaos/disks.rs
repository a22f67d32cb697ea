//! Disks whose syncs fail or take long: the system calls of a running agent are answered with an
//! error, or begin later.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::agent::Agent;
use crate::chaos::proofs::kill_running;
use crate::process::Process;
use crate::{programs, wait};

const LIMIT: Duration = Duration::from_secs(20);
/// The log's files are synced with the first; directories, and what is written as a whole, with the
/// other.
const SYNCS: &str = "fdatasync,fsync";
/// An agent that starts syncs these one after the other, and can't do without any: its directory,
/// its identity, the directory again, that of the snapshots and that of the log.
pub(super) const SYNCS_AT_START: usize = 5;

/// Starts an agent again, and lets this sync of its start fail, counted from 1. An error says why
/// that can't be done on this machine.
pub(super) fn fail_at_start(
    agent: &mut Agent,
    number: usize,
    workplace: &Path,
) -> Result<(), String> {
    let strace = strace()?;
    let log = workplace.join(format!("strace-{}.log", agent.name)).display().to_string();
    let injected = format!("inject=fsync:error=EIO:when={number}");
    // Where nothing may be traced, no agent dies of that.
    let tried = Command::new(&strace).args(["-o", &log, "true"]).output();
    let tried = tried.map_err(|error| error.to_string())?;
    if !tried.status.success() {
        return Err(String::from_utf8_lossy(&tried.stderr).into_owned());
    }
    // The agent stays the child of this test, and the tracer is somebody else's.
    let arguments = ["-D", "-f", "-o", &log, "-e", "trace=fsync", "-e", &injected];
    kill_running(agent);
    agent.start_under(&strace, &arguments.map(str::to_owned));
    Ok(())
}

fn strace() -> Result<PathBuf, String> {
    programs::strace().ok_or_else(|| "there is no strace; run `make fault-tools`".to_owned())
}

/// A tracer that changes the syncs of one process.
#[derive(Debug)]
pub(super) struct Tracer {
    strace: Process,
}

impl Tracer {
    /// The next sync of the process fails; an error says why that can't be done on this machine.
    pub(super) fn failing(process: u32, workplace: &Path) -> Result<Self, String> {
        Self::begin(process, workplace, "error=EIO:when=1")
    }

    /// Every sync of the process begins so much later, or as for [`Tracer::failing`].
    pub(super) fn slowing(process: u32, workplace: &Path, by: Duration) -> Result<Self, String> {
        Self::begin(process, workplace, &format!("delay_enter={}", by.as_micros()))
    }

    fn begin(process: u32, workplace: &Path, injected: &str) -> Result<Self, String> {
        let strace = strace()?;
        let log = workplace.join(format!("strace-{process}.log"));
        // What another tracer of this process has said counts for nothing.
        let _none = std::fs::remove_file(&log);
        let mut command = Command::new(strace);
        command.args(["-f", "-e", &format!("trace={SYNCS}")]);
        command.args(["-e", &format!("inject={SYNCS}:{injected}")]);
        command.args(["-p", &process.to_string()]);
        let mut strace = Process::start("strace", &mut command, &log);
        let attached = wait::until_blocking("strace is at it, or says why not", LIMIT, || {
            if strace.output().contains("attached") {
                return Some(true);
            }
            strace.ended().map(|_| false)
        });
        if attached { Ok(Self { strace }) } else { Err(strace.output()) }
    }

    /// How many syncs began late so far: the proof.
    pub(super) fn delayed(&self) -> usize {
        self.strace.output().matches("(DELAYED)").count()
    }

    /// Lets the process go on as it was.
    pub(super) async fn end(mut self) {
        self.strace.terminate(LIMIT).await;
    }
}
