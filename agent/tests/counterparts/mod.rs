//! Programs that we did not write, for the connectors to speak with: a mosquitto, and devices in
//! Python. `make counterparts` fetches them; a test never passes without them.

#![allow(dead_code, unreachable_pub, reason = "shared by several test programs")]

pub mod owner;
pub mod tls;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde_json::{Value as Json, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::net::{TcpListener, TcpStream};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};
use tokio::time::{Instant, interval, timeout};

/// How long anything may take before a test says that it doesn't happen. Not a measure of speed.
pub const LIMIT: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

fn tools() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../.tools")
}

fn fetched(variable: &str, prefix: &str) -> Option<PathBuf> {
    if let Some(chosen) = std::env::var_os(variable) {
        return Some(PathBuf::from(chosen));
    }
    let mut found: Vec<PathBuf> = std::fs::read_dir(tools())
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix))
        .map(|entry| entry.path())
        .filter(|path| path.is_dir())
        .collect();
    found.sort();
    found.pop()
}

fn mosquitto() -> PathBuf {
    let fetched = fetched("FLOTILLA_MOSQUITTO", "mosquitto-");
    let program = fetched.map(|path| if path.is_dir() { path.join("mosquitto") } else { path });
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
    program
        .or_else(|| {
            std::env::split_paths(&folders)
                .chain(system)
                .map(|folder| folder.join("mosquitto"))
                .find(|path| path.is_file())
        })
        .expect("there is no mosquitto: run `make counterparts`, or set FLOTILLA_MOSQUITTO")
}

fn packages() -> PathBuf {
    fetched("FLOTILLA_COUNTERPARTS", "counterparts-")
        .expect("paho-mqtt and pymodbus are not there: run `make counterparts`")
}

/// A free port of the loopback, as far as that can be known.
pub async fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

/// Waits until something listens on a port, or the program behind it has ended.
pub async fn until_listening(port: u16, program: &mut Child) -> bool {
    let deadline = Instant::now() + LIMIT;
    let mut polls = interval(POLL);
    while Instant::now() < deadline {
        if TcpStream::connect(("127.0.0.1", port)).await.is_ok() {
            return true;
        }
        if program.try_wait().unwrap().is_some() {
            return false;
        }
        polls.tick().await;
    }
    panic!("nothing listens on port {port} after {LIMIT:?}");
}

/// A broker. It keeps its port over restarts.
pub struct Broker {
    pub port: u16,
    folder: tempfile::TempDir,
    extra: String,
    child: Child,
}

impl Broker {
    /// A broker that lets everybody in.
    pub async fn start() -> Self {
        Self::start_with("allow_anonymous true").await
    }

    /// A broker with these lines in its configuration.
    pub async fn start_with(extra: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        loop {
            let port = free_port().await;
            let mut child = Self::spawn(folder.path(), port, extra);
            // Somebody else may have taken the port meanwhile.
            if until_listening(port, &mut child).await {
                return Self { port, folder, extra: extra.to_owned(), child };
            }
        }
    }

    fn spawn(folder: &Path, port: u16, extra: &str) -> Child {
        let config = folder.join("mosquitto.conf");
        let text = format!("listener {port} 127.0.0.1\npersistence false\n{extra}\n");
        std::fs::write(&config, text).unwrap();
        Command::new(mosquitto())
            .arg("-c")
            .arg(&config)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .unwrap()
    }

    pub async fn kill(&mut self) {
        self.child.kill().await.unwrap();
    }

    pub async fn restart(&mut self) {
        self.child = Self::spawn(self.folder.path(), self.port, &self.extra);
        assert!(until_listening(self.port, &mut self.child).await, "the broker ended");
    }
}

/// A program in Python that says what it sees, one JSON object per line.
pub struct Device {
    _child: Child,
    stdin: ChildStdin,
    lines: Lines<BufReader<ChildStdout>>,
    /// Everything it has said so far.
    pub journal: Vec<Json>,
}

impl Device {
    /// Starts a script of `tests/counterparts` and waits until it is ready.
    pub async fn start(script: &str, arguments: &[&str]) -> Self {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/counterparts").join(script);
        let mut child = Command::new("python3")
            .arg(path)
            .args(arguments)
            .env("PYTHONPATH", packages())
            .env("PYTHONUNBUFFERED", "1")
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap();
        let stdin = child.stdin.take().unwrap();
        let lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut device = Self { _child: child, stdin, lines, journal: Vec::new() };
        device.until("it is ready", |entry| entry["ready"] == true).await;
        device
    }

    /// An MQTT device.
    pub async fn mqtt(port: u16, kind: &str, name: &str) -> Self {
        Self::start("mqtt_device.py", &[&port.to_string(), kind, name]).await
    }

    /// Tells it something, and waits until it has done it.
    pub async fn tell(&mut self, command: Json) {
        self.stdin.write_all(format!("{command}\n").as_bytes()).await.unwrap();
        self.until("it does what a test says", |entry| entry["done"] == true).await;
    }

    /// Makes it say something on a topic.
    pub async fn publish(&mut self, topic: &str, payload: &str) {
        self.tell(json!({"publish": {"topic": topic, "payload": payload, "qos": 1}})).await;
    }

    /// Waits for an entry of its journal that comes from now on.
    pub async fn until(&mut self, what: &str, wanted: impl Fn(&Json) -> bool) -> Json {
        let found = timeout(LIMIT, async {
            loop {
                let line = self.lines.next_line().await.unwrap().expect("the device has ended");
                let entry: Json = serde_json::from_str(&line).unwrap();
                self.journal.push(entry.clone());
                if wanted(&entry) {
                    return entry;
                }
            }
        });
        found.await.unwrap_or_else(|_| panic!("not within {LIMIT:?}: {what}; {:?}", self.journal))
    }

    /// Waits for an entry of its journal that stands there already or is to come.
    pub async fn has(&mut self, what: &str, wanted: impl Fn(&Json) -> bool) {
        if self.count(&wanted) == 0 {
            self.until(what, wanted).await;
        }
    }

    /// How often something stands in its journal, as far as that has been read.
    pub fn count(&self, wanted: impl Fn(&Json) -> bool) -> usize {
        self.journal.iter().filter(|entry| wanted(entry)).count()
    }
}

/// Values as pairs, for comparison in tests.
pub fn values(object: &fleet_state::Object) -> BTreeMap<String, String> {
    object.iter().map(|(key, value)| (key.to_string(), value.to_json())).collect()
}
