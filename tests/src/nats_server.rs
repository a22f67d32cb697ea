//! A real nats-server, on a free port of the loopback or on a machine with an address of its own.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use rustix::process::Signal;

use crate::lan::machine::Machine;
use crate::process::Process;
use crate::{programs, wait};

const START_LIMIT: Duration = Duration::from_secs(20);

/// A server process. It keeps its port over restarts.
#[derive(Debug)]
pub struct NatsServer {
    program: PathBuf,
    folder: PathBuf,
    config: Option<PathBuf>,
    environment: Vec<(String, String)>,
    address: &'static str,
    port: u16,
    machine: Option<Machine>,
    process: Option<Process>,
}

impl NatsServer {
    /// Starts a server without a configuration: no users, 1 MiB payloads.
    pub fn start(workplace: &Path) -> Self {
        let mut server = Self::prepare(workplace);
        server.run();
        server
    }

    /// Starts another server than the one that all tests use.
    pub fn start_program(workplace: &Path, program: &Path) -> Self {
        let mut server = Self::prepare(workplace);
        server.program = program.to_path_buf();
        server.run();
        server
    }

    /// Starts a server on another address of this machine than the loopback.
    pub fn start_at(workplace: &Path, address: &'static str) -> Self {
        let mut server = Self::prepare(workplace);
        server.address = address;
        server.run();
        server
    }

    /// Starts a server with the given configuration text (address and port are ours).
    pub fn start_with(workplace: &Path, config: &str) -> Self {
        let path = workplace.join("nats.conf");
        fs::write(&path, config).expect("the workplace is writable");
        Self::start_with_environment(workplace, &path, &[])
    }

    /// Starts a server from a configuration file (address and port are ours) that takes
    /// values from these environment variables.
    pub fn start_with_environment(
        workplace: &Path,
        config: &Path,
        environment: &[(String, String)],
    ) -> Self {
        let mut server = Self::prepare(workplace);
        server.config = Some(config.to_path_buf());
        server.environment = environment.to_vec();
        server.run();
        server
    }

    fn prepare(workplace: &Path) -> Self {
        let folder = workplace.join("nats");
        fs::create_dir_all(&folder).expect("the workplace is writable");
        Self {
            program: programs::nats_server(),
            folder,
            config: None,
            environment: Vec::new(),
            address: "127.0.0.1",
            port: 0,
            machine: None,
            process: None,
        }
    }

    /// Starts a server on a machine with an address of its own, with this configuration text.
    pub fn start_on(machine: Machine, workplace: &Path, config: &str) -> Self {
        let path = workplace.join("nats.conf");
        fs::write(&path, config).expect("the workplace is writable");
        let mut server = Self::prepare(workplace);
        server.config = Some(path);
        server.machine = Some(machine);
        server.run();
        server
    }

    fn address(&self) -> String {
        let address = self.machine.as_ref().map(|machine| machine.address().to_string());
        address.unwrap_or_else(|| self.address.to_owned())
    }

    /// The address for clients, without credentials.
    pub fn url(&self) -> String {
        format!("nats://{}:{}", self.address(), self.port)
    }

    /// The port it listens on.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGSTOP: connections stay open and nothing moves.
    pub fn pause(&self) {
        self.running().pause();
    }

    /// SIGCONT.
    pub fn resume(&self) {
        self.running().resume();
    }

    /// SIGUSR2: it tells its clients that it will go, and goes after a while.
    pub fn begin_lame_duck(&self) {
        self.running().signal(Signal::USR2);
    }

    /// Starts again on the same port, after [`NatsServer::kill`] or instead of it.
    pub fn restart(&mut self) {
        self.kill();
        self.run();
    }

    /// Everything the server has logged.
    pub fn log(&self) -> String {
        fs::read_to_string(self.folder.join("nats-server.log")).unwrap_or_default()
    }

    fn running(&self) -> &Process {
        self.process.as_ref().expect("the nats-server was killed and not restarted")
    }

    fn run(&mut self) {
        let port = if self.port == 0 { "-1".to_owned() } else { self.port.to_string() };
        let mut command = match &self.machine {
            None => Command::new(&self.program),
            Some(machine) => machine.command(self.program.clone()),
        };
        command.args(["-a", &self.address(), "-p", &port, "--ports_file_dir"]).arg(&self.folder);
        if let Some(config) = &self.config {
            command.arg("-c").arg(config);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        let log = self.folder.join("nats-server.log");
        let mut process = Process::start("nats-server", &mut command, &log);
        let id = process.id();
        let folder = self.folder.clone();
        // The server writes this file once it listens; that makes ports free of races.
        self.port = wait::until_blocking("nats-server listens", START_LIMIT, || {
            let ended = process.ended();
            assert!(ended.is_none(), "nats-server ended ({ended:?}): {}", process.output());
            port_in(&folder, id)
        });
        self.process = Some(process);
    }
}

/// The port in `nats-server_<pid>.ports`, as soon as the file is whole.
fn port_in(folder: &Path, id: u32) -> Option<u16> {
    let entries = fs::read_dir(folder).ok()?.flatten();
    let ending = format!("_{id}.ports");
    let file =
        entries.map(|entry| entry.path()).find(|path| path.to_string_lossy().ends_with(&ending))?;
    let text = fs::read_to_string(file).ok()?;
    let ports: serde_json::Value = serde_json::from_str(&text).ok()?;
    let url = ports.get("nats")?.get(0)?.as_str()?;
    url.rsplit(':').next()?.parse().ok()
}
