//! The programs that lay and break networks, if this machine has them and may use them.

use std::path::PathBuf;
use std::process::{Command, Output};

use crate::programs;

/// What was found.
#[derive(Debug)]
pub(super) struct Tools {
    /// The program that tells the switch what to throw away.
    pub(super) nft: PathBuf,
}

impl Tools {
    /// Looks for everything, and tries it: a container may have the programs and not the right.
    pub(super) fn find() -> Result<Self, String> {
        if !rustix::process::geteuid().is_root() {
            return Err("only root may make them".to_owned());
        }
        for program in ["ip", "tc", "nsenter"] {
            if programs::on_path(program).is_none() {
                return Err(format!("there is no `{program}`"));
            }
        }
        let nft = programs::nft().ok_or("there is no `nft`; run `make fault-tools`")?;
        attempt(Command::new("unshare").args(["--net", "true"]))?;
        attempt(Command::new("unshare").arg("--net").arg(&nft).args(["list", "ruleset"]))?;
        Ok(Self { nft })
    }
}

/// Runs a short command; why it did not succeed.
pub(super) fn attempt(command: &mut Command) -> Result<(), String> {
    let done = command.output().map_err(|error| format!("{command:?}: {error}"))?;
    if done.status.success() { Ok(()) } else { Err(format!("{command:?}: {}", said(&done))) }
}

fn said(done: &Output) -> String {
    String::from_utf8_lossy(&done.stderr).trim().to_owned()
}

/// Runs a short command and gives its output.
///
/// # Panics
/// If it fails: a network that is not as a test believes would let every scenario pass.
pub(super) fn run(mut command: Command) -> String {
    let done = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    assert!(done.status.success(), "{command:?}: {}", said(&done));
    String::from_utf8_lossy(&done.stdout).into_owned()
}
