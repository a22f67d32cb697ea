//! Disks whose syncs fail: the system call of a running agent is answered with an error.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use crate::process::Process;
use crate::{programs, wait};

const LIMIT: Duration = Duration::from_secs(20);

/// A tracer that makes the next sync of one process fail.
#[derive(Debug)]
pub(super) struct SyncError {
    _tracer: Process,
}

impl SyncError {
    /// Begins; an error says why it can't be done on this machine.
    pub(super) fn begin(process: u32, workplace: &Path) -> Result<Self, String> {
        let strace = programs::strace().ok_or("there is no strace; run `make fault-tools`")?;
        let log = workplace.join(format!("strace-{process}.log"));
        let mut command = Command::new(strace);
        command.args(["-f", "-e", "trace=fdatasync", "-e", "inject=fdatasync:error=EIO:when=1"]);
        command.args(["-p", &process.to_string()]);
        let mut tracer = Process::start("strace", &mut command, &log);
        let attached = wait::until_blocking("strace is at it, or says why not", LIMIT, || {
            if tracer.output().contains("attached") {
                return Some(true);
            }
            tracer.ended().map(|_| false)
        });
        if attached { Ok(Self { _tracer: tracer }) } else { Err(tracer.output()) }
    }
}
