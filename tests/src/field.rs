//! What there is in a hall: a real MQTT broker, and devices that don't know our code.

use std::fs;
use std::io::Write as _;
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

use serde_json::Value;

use crate::process::Process;
use crate::{programs, wait};

const START_LIMIT: Duration = Duration::from_secs(20);
const SAY_LIMIT: Duration = Duration::from_secs(30);
/// Until a house has played thirty days.
const PLAY_LIMIT: Duration = Duration::from_secs(120);

/// A mosquitto on the loopback. It keeps its port when it is started again, and nothing else.
#[derive(Debug)]
pub struct Broker {
    port: u16,
    config: PathBuf,
    log: PathBuf,
    process: Process,
}

impl Broker {
    /// Starts a broker that lets everybody in.
    pub fn start(workplace: &Path) -> Self {
        Self::start_with(workplace, "mosquitto", "allow_anonymous true")
    }

    /// Starts a broker that lets nobody in.
    pub fn start_closed(workplace: &Path) -> Self {
        Self::start_with(workplace, "closed", "allow_anonymous false")
    }

    fn start_with(workplace: &Path, name: &str, lines: &str) -> Self {
        let config = workplace.join(format!("{name}.conf"));
        loop {
            let port = free_port();
            let text = format!("listener {port} 127.0.0.1\n{lines}\n");
            fs::write(&config, text).expect("the workplace is writable");
            let log = workplace.join(format!("{name}.log"));
            // Somebody else may have taken the port meanwhile; then another one is tried.
            if let Some(process) = listening(&config, &log, port) {
                return Self { port, config, log, process };
            }
        }
    }

    /// SIGKILL: what it kept is lost with it.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again after it was killed.
    ///
    /// # Panics
    /// If somebody else has taken its port meanwhile.
    pub fn start_again(&mut self) {
        let process = listening(&self.config, &self.log, self.port);
        self.process = process.expect("its port is still free");
    }

    /// The address that links are registered with.
    pub fn address(&self) -> String {
        format!("mqtt://127.0.0.1:{}", self.port)
    }

    /// How often a client has been let in under this identifier.
    pub fn sessions(&self, client: &str) -> usize {
        let let_in = format!(" as {client} (");
        self.process.output().lines().filter(|line| line.contains(&let_in)).count()
    }
}

/// A mosquitto that listens; `None` when it has ended instead.
fn listening(config: &Path, log: &Path, port: u16) -> Option<Process> {
    let mut command = Command::new(programs::mosquitto());
    command.arg("-c").arg(config);
    let mut process = Process::start("mosquitto", &mut command, log);
    let listens = wait::until_blocking("mosquitto listens", START_LIMIT, || {
        if process.ended().is_some() {
            return Some(false);
        }
        TcpStream::connect(("127.0.0.1", port)).is_ok().then_some(true)
    });
    listens.then_some(process)
}

/// A device in Python, with a journal of everything it has heard.
#[derive(Debug)]
pub struct FieldDevice {
    child: Child,
    stdin: ChildStdin,
    journal: PathBuf,
}

impl FieldDevice {
    /// Starts a plug with Tasmota's topics and waits until it is there.
    pub fn plug(workplace: &Path, broker: &Broker, name: &str) -> Self {
        let port = broker.port.to_string();
        Self::start(workplace, name, &["mqtt_device.py", &port, "plug", name])
    }

    /// Starts a tank, whose level is set, asked for and reported, and waits until it is there.
    pub fn tank(workplace: &Path, broker: &Broker, name: &str) -> Self {
        let port = broker.port.to_string();
        Self::start(workplace, name, &["mqtt_device.py", &port, "tank", name])
    }

    /// Starts a tank that speaks MQTT 5 and for which the broker keeps messages while it is away.
    pub fn kept_tank(workplace: &Path, broker: &Broker, name: &str) -> Self {
        let port = broker.port.to_string();
        Self::start(workplace, name, &["mqtt_device.py", &port, "tank", name, "5"])
    }

    /// Starts somebody else on the broker, who says what a test says.
    pub fn stranger(workplace: &Path, broker: &Broker) -> Self {
        let port = broker.port.to_string();
        Self::start(workplace, "stranger", &["mqtt_device.py", &port, "mute", "stranger"])
    }

    /// Starts a Zigbee2MQTT bridge with one lamp of this name.
    pub fn lamp(workplace: &Path, broker: &Broker, name: &str) -> Self {
        let port = broker.port.to_string();
        Self::start(workplace, "lamp", &["mqtt_device.py", &port, "lamp", name])
    }

    /// Starts a house of 150 Zigbee devices behind a bridge.
    pub fn zigbee_house(workplace: &Path, broker: &Broker) -> Self {
        Self::start(workplace, "house", &["zigbee_house.py", &broker.port.to_string()])
    }

    /// Starts a drive that speaks Modbus, and tells its address.
    pub fn drive(workplace: &Path, name: &str) -> (Self, String) {
        let address = format!("tcp://127.0.0.1:{}", free_port());
        (Self::drive_at(workplace, name, &address), address)
    }

    /// Starts a drive at an address where one was before. It knows nothing of what that one was told;
    /// under the same name its journal goes on.
    ///
    /// # Panics
    /// If the address has no port.
    pub fn drive_at(workplace: &Path, name: &str, address: &str) -> Self {
        let (_, port) = address.rsplit_once(':').expect("an address ends in a port");
        Self::start(workplace, name, &["modbus_device.py", port, "socket"])
    }

    fn start(workplace: &Path, name: &str, arguments: &[&str]) -> Self {
        let scripts = concat!(env!("CARGO_MANIFEST_DIR"), "/../agent/tests/counterparts");
        let journal = workplace.join(format!("{name}.journal"));
        // One that goes on has said so before.
        let is_ready = |entry: &Value| entry["ready"] == true;
        let before = entries(&journal).into_iter().filter(is_ready).count();
        let out = fs::OpenOptions::new().create(true).append(true).open(&journal);
        let mut child = Command::new("python3")
            .args(arguments)
            .current_dir(scripts)
            .env("PYTHONPATH", programs::counterparts())
            .env("PYTHONDONTWRITEBYTECODE", "1")
            .stdin(Stdio::piped())
            .stdout(out.expect("the workplace is writable"))
            .spawn()
            .expect("there is a python3");
        let stdin = child.stdin.take().expect("its input is a pipe");
        let device = Self { child, stdin, journal };
        wait::until_blocking("it is ready", SAY_LIMIT, || {
            (device.count(is_ready) > before).then_some(())
        });
        device
    }

    /// Tells it something and waits until it has done it.
    pub fn tell(&mut self, command: &Value) {
        self.tell_within(command, SAY_LIMIT);
    }

    /// Lets a house play so many days in fast motion; gives how many reports that made.
    pub fn play(&mut self, days: u64, reports_per_day: u64) -> u64 {
        let command = serde_json::json!({"days": days, "reports_per_day": reports_per_day});
        let done = self.tell_within(&command, PLAY_LIMIT);
        done.get("reports").and_then(Value::as_u64).expect("a number of reports")
    }

    fn tell_within(&mut self, command: &Value, limit: Duration) -> Value {
        let done = |device: &Self| {
            let entries = device.journal().into_iter();
            entries.filter(|entry| entry["done"] == true).collect::<Vec<Value>>()
        };
        let before = done(self).len();
        writeln!(self.stdin, "{command}").expect("the device listens");
        wait::until_blocking("the device does what a test says", limit, || {
            done(self).into_iter().nth(before)
        })
    }

    /// Everything it has said so far.
    pub fn journal(&self) -> Vec<Value> {
        entries(&self.journal)
    }

    /// How often something stands in its journal.
    pub fn count(&self, wanted: impl Fn(&Value) -> bool) -> usize {
        self.journal().iter().filter(|entry| wanted(entry)).count()
    }

    /// How often it was told this.
    pub fn told(&self, payload: &str) -> usize {
        self.count(|entry| entry["payload"] == payload)
    }

    /// SIGKILL: its last will is published.
    pub fn kill(mut self) {
        self.end();
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Drop for FieldDevice {
    fn drop(&mut self) {
        self.end();
    }
}

/// The entries of a journal.
fn entries(journal: &Path) -> Vec<Value> {
    let text = fs::read_to_string(journal).unwrap_or_default();
    // The last line may be half written.
    text.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

/// A free port of the loopback, as far as that can be known.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("the loopback has a free port");
    listener.local_addr().expect("a listener has an address").port()
}
