//! A network that only one test and its guests are in.
//!
//! It is a network namespace that nobody has given a name, so nothing is left of it when the
//! last process in it has ended, however that came about.

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::fd::AsFd as _;
use std::process::{Child, Command, Stdio};

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::{not_run, programs};

/// This test's own address, where servers listen that guests speak to.
pub const OURS: &str = "10.77.0.1";

const BRIDGE: &str = "guests";

/// The network. Whoever has entered it stays in it.
#[derive(Debug)]
pub struct Wire {
    // Holds the namespace until this thread is in it; it ends with its standard input.
    holder: Child,
}

impl Wire {
    /// Moves this thread, and what it starts from now on, into a fresh network with a bridge.
    /// Says so and gives `None` where guests can't be had.
    pub fn enter() -> Option<Self> {
        match Self::try_enter() {
            Ok(wire) => Some(wire),
            Err(why) => {
                not_run::say(&format!("it needs guest kernels, and {why}"));
                None
            }
        }
    }

    fn try_enter() -> Result<Self, String> {
        if programs::guest_kernel().is_none() {
            return Err("there is none: run deploy/counterparts/fetch-from-debian.py, or set \
                        FLOTILLA_GUEST_KERNEL to a linux.uml"
                .to_owned());
        }
        for needed in ["ip", "setpriv", "unshare", "mkfs.ext4"] {
            if programs::on_path(needed).is_none() {
                return Err(format!("{needed} is not installed"));
            }
        }
        let wire = Self { holder: hold()? };
        let namespace = format!("/proc/{}/ns/net", wire.holder.id());
        let namespace = std::fs::File::open(&namespace).map_err(|it| format!("{it}"))?;
        move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))
            .map_err(|error| format!("this user may not enter a network of its own: {error}"))?;
        ip(&["link", "set", "lo", "up"])?;
        ip(&["link", "add", BRIDGE, "type", "bridge"])?;
        ip(&["address", "add", &format!("{OURS}/24"), "dev", BRIDGE])?;
        ip(&["link", "set", BRIDGE, "up"])?;
        Ok(wire)
    }

    /// Makes the near end of one guest's cable, and gives its name.
    ///
    /// # Panics
    /// If this machine has no tap devices.
    pub fn cable(&self, number: usize) -> String {
        let name = format!("guest{number}");
        let laid = ip(&["tuntap", "add", &name, "mode", "tap"])
            .and_then(|()| ip(&["link", "set", &name, "master", BRIDGE]))
            .and_then(|()| ip(&["link", "set", &name, "up"]));
        laid.unwrap_or_else(|why| panic!("no cable for a guest: {why}"));
        name
    }
}

impl Drop for Wire {
    fn drop(&mut self) {
        let _ = self.holder.kill();
        let _ = self.holder.wait();
    }
}

/// Runs a scenario on a network of its own. Everything that it starts is on it too.
pub fn on_a_wire<F: Future>(scenario: impl FnOnce(Wire) -> F) {
    let Some(wire) = Wire::enter() else { return };
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build();
    runtime.expect("a runtime can be made").block_on(scenario(wire));
}

/// The address of a guest, counted from 1.
pub fn address(number: usize) -> String {
    format!("10.77.0.{}", number + 1)
}

/// A process in a fresh namespace, which waits there.
fn hold() -> Result<Child, String> {
    let mut command = Command::new("unshare");
    let command = command.args(["--net", "cat"]).stdin(Stdio::piped()).stdout(Stdio::piped());
    let mut holder = command.spawn().map_err(|error| format!("unshare: {error}"))?;
    // It is in its namespace as soon as `cat` runs and repeats what it is told.
    let told = holder.stdin.as_mut().is_some_and(|input| input.write_all(b"here\n").is_ok());
    let mut line = String::new();
    if let Some(output) = holder.stdout.as_mut() {
        let _ = BufReader::new(output).read_line(&mut line);
    }
    if told && line == "here\n" {
        return Ok(holder);
    }
    let _ = holder.kill();
    let _ = holder.wait();
    Err("this user may not make a network of its own".to_owned())
}

fn ip(arguments: &[&str]) -> Result<(), String> {
    let shown = || format!("ip {}", arguments.join(" "));
    let program = programs::on_path("ip").ok_or("ip is not installed")?;
    let done = Command::new(program).args(arguments).output();
    let done = done.map_err(|error| format!("{}: {error}", shown()))?;
    if done.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", shown(), String::from_utf8_lossy(&done.stderr).trim()))
}
