//! The `flotilla` command, run to its end.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::{programs, wait};

const RUN_LIMIT: Duration = Duration::from_secs(60);

/// The command with its connection and site filled in.
#[derive(Debug, Clone)]
pub struct Cli {
    url: String,
    site: String,
    login: Vec<(&'static str, String)>,
}

/// What a finished command left.
#[derive(Debug, Clone)]
pub struct Finished {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// Data.
    pub stdout: String,
    /// Talk.
    pub stderr: String,
}

impl Finished {
    /// Checks the exit code.
    ///
    /// # Panics
    /// If it is another.
    pub fn expect_code(self, code: i32) -> Self {
        assert_eq!(self.code, Some(code), "stdout: {}\nstderr: {}", self.stdout, self.stderr);
        self
    }

    /// Standard output as JSON.
    ///
    /// # Panics
    /// If it is not JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.stdout)
            .unwrap_or_else(|error| panic!("not JSON ({error}): {}\n{}", self.stdout, self.stderr))
    }
}

impl Cli {
    /// For a site behind a server.
    pub fn new(url: &str, site: &str) -> Self {
        Self { url: url.to_owned(), site: site.to_owned(), login: Vec::new() }
    }

    /// The same, as a user of the server.
    #[must_use]
    pub fn with_login(mut self, user: &str, password: &str, inbox_prefix: &str) -> Self {
        self.login = vec![
            ("FLOTILLA_USER", user.to_owned()),
            ("FLOTILLA_PASSWORD", password.to_owned()),
            ("FLOTILLA_INBOX_PREFIX", inbox_prefix.to_owned()),
        ];
        self
    }

    /// The same, with another variable in its environment.
    #[must_use]
    pub fn with_setting(mut self, name: &'static str, value: String) -> Self {
        self.login.push((name, value));
        self
    }

    /// Runs with these arguments.
    pub fn run(&self, arguments: &[&str]) -> Finished {
        self.run_with(arguments, "")
    }

    /// Runs with something on standard input.
    ///
    /// # Panics
    /// If the command does not end in a minute.
    pub fn run_with(&self, arguments: &[&str], input: &str) -> Finished {
        let mut command = Command::new(programs::cli());
        command.args(arguments).env("NO_COLOR", "1");
        command.env("FLOTILLA_SERVER", &self.url).env("FLOTILLA_SITE", &self.site);
        command.envs(self.login.iter().map(|(name, value)| (name, value)));
        run(command, input)
    }

    /// Runs and reads standard output as JSON; the exit code must be 0.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let mut all = arguments.to_vec();
        all.extend(["-o", "json"]);
        self.run(&all).expect_code(0).json()
    }

    /// A join token for `uses` nodes.
    pub fn token(&self, uses: u32) -> String {
        let uses = uses.to_string();
        let made = self.json(&["token", "create", "--uses", &uses]);
        let token = made.get("token").and_then(Value::as_str);
        token.unwrap_or_else(|| panic!("no token in {made}")).to_owned()
    }
}

/// Runs any program to its end, with a deadline.
///
/// # Panics
/// If it does not start or does not end.
pub fn run(mut command: Command, input: &str) -> Finished {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("{command:?} does not start: {error}"));
    let mut stdin = child.stdin.take().expect("it is piped");
    let input = input.to_owned();
    let feeder = std::thread::spawn(move || {
        // A program that does not read its input closes it; that is no failure.
        let _ = stdin.write_all(input.as_bytes());
    });
    let out = drain(child.stdout.take().expect("it is piped"));
    let err = drain(child.stderr.take().expect("it is piped"));
    let status = wait::until_blocking(&format!("{command:?} ends"), RUN_LIMIT, || {
        child.try_wait().expect("a child can be asked for its state")
    });
    let _ = feeder.join();
    let text = |reader: std::thread::JoinHandle<String>| reader.join().unwrap_or_default();
    Finished { code: status.code(), stdout: text(out), stderr: text(err) }
}

fn drain(mut from: impl std::io::Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
