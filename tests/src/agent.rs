//! One agent: a data directory, and sometimes a process.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::cli::{self, Finished};
use crate::lan::machine::Machine;
use crate::process::Process;
use crate::{programs, wait};

/// Longest time that a drain may take, and a little.
pub const STOP_LIMIT: Duration = Duration::from_secs(20);
/// How long it may take until a running agent serves over HTTP.
pub const SERVE_LIMIT: Duration = Duration::from_secs(20);

/// A node of a site, on its own data directory.
#[derive(Debug)]
pub struct Agent {
    /// The name it joined with.
    pub name: String,
    data_dir: PathBuf,
    config: PathBuf,
    log: PathBuf,
    environment: Vec<(String, String)>,
    machine: Option<Machine>,
    process: Option<Process>,
}

impl Agent {
    /// Prepares the folder and the configuration; starts nothing.
    ///
    /// `config` is TOML; the NATS address stands in it, so that every way of starting
    /// the agent finds it.
    pub fn prepare(workplace: &Path, name: &str, config: &str) -> Self {
        let path = workplace.join(format!("{name}.toml"));
        write_private(&path, config).expect("the workplace is writable");
        Self {
            name: name.to_owned(),
            data_dir: workplace.join(name),
            config: path,
            log: workplace.join(format!("{name}.log")),
            environment: Vec::new(),
            machine: None,
            process: None,
        }
    }

    /// Replaces its configuration; counts from its next start.
    pub fn set_config(&self, config: &str) {
        std::fs::write(&self.config, config).expect("the workplace is writable");
    }

    /// Adds a variable to its environment; counts from its next start.
    pub fn set_environment(&mut self, name: &str, value: &str) {
        self.environment.push((name.to_owned(), value.to_owned()));
    }

    /// Takes it to a machine with an address of its own; counts from its next start.
    pub fn move_to(&mut self, machine: Machine) {
        self.machine = Some(machine);
    }

    /// Where its log, snapshots and keys are.
    pub fn data_dir(&self) -> &Path {
        &self.data_dir
    }

    /// A command of the agent's program with this agent's directory and configuration.
    pub fn command(&self, arguments: &[&str]) -> Command {
        let program = programs::agent();
        let mut command = match &self.machine {
            None => Command::new(program),
            Some(machine) => machine.command(program),
        };
        for (name, _) in std::env::vars_os() {
            if name.to_string_lossy().starts_with("FLOTILLA_") {
                command.env_remove(name);
            }
        }
        // Journals of simulated links lie beside the data directories of their site.
        if let Some(workplace) = self.data_dir.parent() {
            command.env("FLOTILLA_DEVICES_SIMULATED_DIR", workplace);
        }
        command.envs(self.environment.iter().map(|(name, value)| (name, value)));
        command.args(arguments);
        command.arg("--data-dir").arg(&self.data_dir).arg("--config").arg(&self.config);
        command
    }

    /// Runs a command of the agent's program to its end.
    pub fn run_once(&self, arguments: &[&str]) -> Finished {
        cli::run(self.command(arguments), "")
    }

    /// Makes a site of which this is the first node; gives the join token.
    pub fn init(&self, site: &str, voters: u8) -> String {
        let voters = voters.to_string();
        let arguments = ["init", "--site", site, "--name", &self.name, "--voters", &voters];
        self.run_once(&arguments).expect_code(0).stdout.trim().to_owned()
    }

    /// Starts the agent on its directory.
    pub fn start(&mut self) {
        let command = self.command(&["run"]);
        self.launch(command);
    }

    /// The same as the child of another program, such as a tracer, which ends as the agent does.
    pub fn start_under(&mut self, program: &Path, arguments: &[String]) {
        let own = self.command(&["run"]);
        let mut command = Command::new(program);
        command.args(arguments).arg(own.get_program()).args(own.get_args());
        for (name, value) in own.get_envs() {
            match value {
                Some(value) => command.env(name, value),
                None => command.env_remove(name),
            };
        }
        self.launch(command);
    }

    /// Joins a site on an empty directory with a token, and starts.
    ///
    /// # Panics
    /// If the site does not let it in.
    pub fn join(&mut self, token: &str) {
        let name = self.name.clone();
        self.run_once(&["join", token, "--only", "--name", &name]).expect_code(0);
        self.start();
    }

    fn launch(&mut self, mut command: Command) {
        assert!(self.process.is_none(), "{} runs already", self.name);
        self.process = Some(Process::start(&self.name, &mut command, &self.log));
    }

    /// The running process.
    ///
    /// # Panics
    /// If it was stopped.
    pub fn process(&mut self) -> &mut Process {
        let name = &self.name;
        self.process.as_mut().unwrap_or_else(|| panic!("{name} is not running"))
    }

    /// Whether it was started and not stopped by the test.
    pub fn is_started(&self) -> bool {
        self.process.is_some()
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill();
        }
    }

    /// SIGTERM; it must drain and exit with 0.
    ///
    /// # Panics
    /// If it does not, or takes longer than [`STOP_LIMIT`].
    pub async fn stop(&mut self) {
        let mut process = self.process.take().expect("only a running agent is stopped");
        let status = process.terminate(STOP_LIMIT).await;
        assert_eq!(status.code(), Some(0), "{} after SIGTERM: {}", self.name, process.output());
    }

    /// SIGSTOP.
    pub fn pause(&mut self) {
        self.process().pause();
    }

    /// SIGCONT.
    pub fn resume(&mut self) {
        self.process().resume();
    }

    /// Removes everything it has on disk.
    pub fn wipe(&mut self) {
        assert!(self.process.is_none(), "{} must be stopped before it is wiped", self.name);
        std::fs::remove_dir_all(&self.data_dir).expect("the data directory can be removed");
    }

    /// The sum of a counter over its labels, read from `/metrics`; 0 if it was never counted.
    ///
    /// # Panics
    /// If the agent's log does not say where it serves them, or nothing is served there.
    pub fn counter(&self, name: &str) -> f64 {
        let of_name =
            |line: &str| line.strip_prefix(name).is_some_and(|rest| rest.starts_with(['{', ' ']));
        self.sum_of(of_name)
    }

    /// How much it has refused with this label, such as `surface="commands"`.
    ///
    /// # Panics
    /// As [`Agent::counter`].
    pub fn refused(&self, label: &str) -> f64 {
        self.sum_of(|line| line.starts_with("flotilla_refused_total") && line.contains(label))
    }

    fn sum_of(&self, wanted: impl Fn(&str) -> bool) -> f64 {
        let page = self.get("/metrics");
        let values = page.lines().filter(|line| wanted(line));
        let values = values.filter_map(|line| line.rsplit(' ').next());
        values.filter_map(|value| value.parse::<f64>().ok()).sum()
    }

    /// What it serves over HTTP at this path, with the head of the reply.
    ///
    /// # Panics
    /// If nothing is served within [`SERVE_LIMIT`] where the agent's log says.
    pub fn get(&self, path: &str) -> String {
        let what = format!("{} serves {path}", self.name);
        wait::until_blocking(&what, SERVE_LIMIT, || {
            // One that was just started says where a moment later.
            let log = self.log();
            let marked = log.rsplit("health and metrics are served address=").next();
            let address = marked.and_then(|rest| rest.split_whitespace().next())?;
            // The loopback of its machine is not the loopback of this one.
            match &self.machine {
                None => get(address, path),
                Some(machine) => machine.enter(|| get(address, path)),
            }
        })
    }

    /// Everything it has logged, over all its starts.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

/// Writes a file that may hold a password.
pub(crate) fn write_private(path: &Path, text: &str) -> std::io::Result<()> {
    use std::io::Write as _;
    use std::os::unix::fs::OpenOptionsExt as _;
    let mut options = std::fs::OpenOptions::new();
    options
        .write(true)
        .create(true)
        .truncate(true)
        .mode(0o600)
        .open(path)?
        .write_all(text.as_bytes())
}

/// One HTTP request over a connection of its own; `None` if nobody takes one.
fn get(address: &str, path: &str) -> Option<String> {
    use std::io::{Read as _, Write as _};
    let mut stream = std::net::TcpStream::connect(address).ok()?;
    stream.set_read_timeout(Some(STOP_LIMIT)).expect("a limit can be set");
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("the agent takes a request");
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("the agent answers with text");
    Some(text)
}
