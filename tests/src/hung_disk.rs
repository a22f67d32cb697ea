//! A disk that hangs: syncs of one agent don't return until a test lets them go.
//!
//! A small library in front of the system's own makes the agent wait in `fdatasync`, as it would
//! wait for a disk; nothing else of the agent is touched. It is compiled by the C compiler that
//! links Rust programs.

use std::path::{Path, PathBuf};
use std::process::Command;

use crate::agent::Agent;

/// Waits as long as the file is there that `HUNG_DISK` names.
const SOURCE: &str = "
#include <poll.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>
int fdatasync(int fd) {
    const char *hung = getenv(\"HUNG_DISK\");
    while (hung && access(hung, F_OK) == 0)
        poll(0, 0, 5);
    return (int)syscall(SYS_fdatasync, fd);
}
";

/// The disk of one agent.
#[derive(Debug)]
pub struct HungDisk {
    hung: PathBuf,
}

impl HungDisk {
    /// Puts an agent's syncs into the hands of the test, from its next start on.
    ///
    /// # Panics
    /// If the library can't be made.
    pub fn under(agent: &mut Agent, workplace: &Path) -> Self {
        let (source, library) = (workplace.join("hung_disk.c"), workplace.join("hung_disk.so"));
        std::fs::write(&source, SOURCE).expect("the workplace is writable");
        let mut command = Command::new("cc");
        command.args(["-shared", "-fPIC", "-o"]).arg(&library).arg(&source);
        let made = command.output().expect("there is a C compiler where Rust links");
        assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
        let hung = workplace.join(format!("{}-hangs", agent.name));
        agent.set_environment("LD_PRELOAD", &library.to_string_lossy());
        agent.set_environment("HUNG_DISK", &hung.to_string_lossy());
        Self { hung }
    }

    /// From now on no sync returns.
    ///
    /// # Panics
    /// If the workplace is not writable.
    pub fn hang(&self) {
        std::fs::write(&self.hung, "").expect("the workplace is writable");
    }

    /// Lets all go on.
    ///
    /// # Panics
    /// If it does not hang.
    pub fn let_go(&self) {
        std::fs::remove_file(&self.hung).expect("it hangs");
    }
}

impl Drop for HungDisk {
    fn drop(&mut self) {
        // An agent that is asked to stop has to be able to.
        let _ = std::fs::remove_file(&self.hung);
    }
}
