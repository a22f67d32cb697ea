//! One machine behind the switch: a network namespace with an address.

use std::ffi::OsStr;
use std::fs::File;
use std::net::Ipv4Addr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::lan::tools::{attempt, run};

/// Where `ip netns` keeps its names.
const NAMES: &str = "/run/netns";

/// A machine. Copies are the same machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Machine {
    name: String,
    namespace: String,
    address: Ipv4Addr,
}

impl Machine {
    pub(super) fn new(prefix: &str, name: &str, address: Ipv4Addr) -> Self {
        Self { name: name.to_owned(), namespace: format!("{prefix}{name}"), address }
    }

    /// The same machine with another address.
    pub(super) fn at(&self, address: Ipv4Addr) -> Self {
        Self { address, ..self.clone() }
    }

    /// What it is called on the switch.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its address, which nobody else on the switch has.
    pub fn address(&self) -> Ipv4Addr {
        self.address
    }

    pub(super) fn namespace(&self) -> &str {
        &self.namespace
    }

    fn path(&self) -> PathBuf {
        PathBuf::from(NAMES).join(&self.namespace)
    }

    /// A command that runs this program inside. It replaces itself by the program, so that the
    /// child's process id is the program's.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("nsenter");
        let mut namespace = std::ffi::OsString::from("--net=");
        namespace.push(self.path());
        command.arg(namespace).arg("--").arg(program);
        command
    }

    /// Does something inside: every socket that it opens belongs to this machine.
    ///
    /// It is done on a thread of its own, and so must not leave the opening of sockets to others.
    ///
    /// # Panics
    /// If the machine is gone, or what is done panics.
    pub fn enter<T: Send>(&self, inside: impl FnOnce() -> T + Send) -> T {
        std::thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let namespace = File::open(self.path()).expect("the machine is there");
                let kind = Some(LinkNameSpaceType::Network);
                move_into_link_name_space(namespace.as_fd(), kind).expect("root may go inside");
                inside()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    pub(super) fn make(&self) {
        let mut command = Command::new("ip");
        command.args(["netns", "add", &self.namespace]);
        run(command);
    }

    /// Runs `ip` on it.
    pub(super) fn ip(&self, arguments: &str) {
        let mut command = Command::new("ip");
        command.args(["-n", &self.namespace]).args(arguments.split(' '));
        run(command);
    }

    /// Runs `tc` on it and gives its output.
    pub(super) fn tc(&self, arguments: &str) -> String {
        run(self.tc_command(arguments))
    }

    /// The same where the kernel may not be able to.
    pub(super) fn try_tc(&self, arguments: &str) -> Result<(), String> {
        attempt(&mut self.tc_command(arguments))
    }

    fn tc_command(&self, arguments: &str) -> Command {
        let mut command = Command::new("tc");
        command.args(["-n", &self.namespace]).args(arguments.split(' '));
        command
    }

    /// A number that the system keeps of its interface.
    pub(super) fn count(&self, name: &str) -> u64 {
        // `ip netns exec` shows the files of the namespace, `nsenter` those of its own.
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.namespace, "cat"]);
        command.arg(format!("/sys/class/net/eth0/{name}"));
        let text = run(command);
        text.trim().parse().unwrap_or_else(|_| panic!("{name} of {} is {text:?}", self.name))
    }

    pub(super) fn remove(&self) {
        // It may never have been made, and this may run while a test panics.
        let _ = Command::new("ip").args(["netns", "del", &self.namespace]).output();
    }
}
