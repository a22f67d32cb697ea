//! Disks whose syncs fail or take long: the system calls of a running agent are answered with an
//! error, or begin later.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::Process;
use crate::{programs, wait};

const LIMIT: Duration = Duration::from_secs(20);
/// The log's files are synced with the first, directories and what is written as a whole with both.
const SYNCS: &str = "fdatasync,fsync";

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
        let strace = programs::strace().ok_or("there is no strace; run `make fault-tools`")?;
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
