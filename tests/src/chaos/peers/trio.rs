//! Three servers, each on a machine of its own.

use std::path::{Path, PathBuf};

use crate::lan::Lan;
use crate::lan::machine::Machine;
use crate::process::Process;
use crate::workplace::Workplace;

/// How many there are.
pub const SERVERS: usize = 3;

/// Servers of one store, and the network between them.
#[derive(Debug)]
pub struct Trio {
    servers: Vec<Server>,
    /// After the processes, so that they are gone before it.
    pub lan: Lan,
    workplace: Workplace,
}

#[derive(Debug)]
struct Server {
    machine: Machine,
    program: PathBuf,
    arguments: Vec<String>,
    log: PathBuf,
    process: Option<Process>,
}

impl Trio {
    /// A network with three machines, on which nothing runs yet; `None` where that can't be, said
    /// loudly.
    pub fn lay() -> Option<(Self, Vec<Machine>)> {
        let mut lan = Lan::lay()?;
        let machines = (1..=SERVERS).map(|number| lan.add(&format!("p{number}"))).collect();
        let workplace = Workplace::new();
        Some((Self { servers: Vec::new(), lan, workplace }, machines))
    }

    /// The folder of this test.
    pub fn folder(&self) -> &Path {
        self.workplace.path()
    }

    /// Starts a server on the next machine, and again with the same arguments after each kill.
    pub fn add(&mut self, machine: Machine, program: &Path, arguments: Vec<String>) {
        let log = self.workplace.join(&format!("{}.log", machine.name()));
        let program = program.to_path_buf();
        self.servers.push(Server { machine, program, arguments, log, process: None });
        self.start(self.servers.len() - 1);
    }

    /// The names of all machines with servers.
    pub fn names(&self) -> Vec<String> {
        self.servers.iter().map(|server| server.machine.name().to_owned()).collect()
    }

    /// Starts a server that does not run.
    pub fn start(&mut self, index: usize) {
        let server = &mut self.servers[index];
        let mut command = server.machine.command(&server.program);
        command.args(&server.arguments);
        let name = server.machine.name();
        assert!(server.process.is_none(), "{name} runs already");
        server.process = Some(Process::start(name, &mut command, &server.log));
    }

    /// SIGKILL to a server that runs.
    ///
    /// # Panics
    /// If it has ended by itself.
    pub fn kill(&mut self, index: usize) {
        self.running(index).kill();
        self.servers[index].process = None;
    }

    /// SIGSTOP to a server that runs.
    ///
    /// # Panics
    /// If it has ended by itself.
    pub fn pause(&mut self, index: usize) {
        self.running(index).pause();
    }

    /// SIGCONT.
    ///
    /// # Panics
    /// If it has ended.
    pub fn resume(&mut self, index: usize) {
        self.running(index).resume();
    }

    fn running(&mut self, index: usize) -> &mut Process {
        let server = &mut self.servers[index];
        let name = server.machine.name();
        let process = server.process.as_mut().unwrap_or_else(|| panic!("{name} is not running"));
        let ended = process.ended();
        assert!(ended.is_none(), "{name} has ended by itself: {ended:?}");
        process
    }
}
