//! The nats-server of a development site: core NATS on the loopback, nothing kept on disk.

use std::fs;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use tokio::process::Command;
use tokio::time::{Instant, sleep};

use super::process::Process;

const START_LIMIT: Duration = Duration::from_secs(20);
const POLL: Duration = Duration::from_millis(20);

/// What the server writes once it listens.
#[derive(Debug, Deserialize)]
struct Ports {
    nats: Vec<String>,
}

/// Starts the server and waits until it listens; gives its port. `wanted` is the port it had before:
/// it gets it again if nobody else has it, and else a free one.
pub(crate) async fn start(
    program: &Path,
    folder: &Path,
    log: &Path,
    wanted: Option<u16>,
) -> Result<(Process, u16)> {
    fs::create_dir_all(folder).with_context(|| format!("{} cannot be made", folder.display()))?;
    let port =
        wanted.filter(|port| is_free(*port)).map_or("-1".to_owned(), |port| port.to_string());
    let mut command = Command::new(program);
    command.args(["-a", "127.0.0.1", "-p", &port, "--ports_file_dir"]).arg(folder);
    let mut process = Process::start("nats-server", command, log)?;
    let begun = Instant::now();
    loop {
        process.ensure_running()?;
        if let Some(port) = port_of(folder, process.pid) {
            return Ok((process, port));
        }
        ensure!(begun.elapsed() < START_LIMIT, "nats-server does not listen after {START_LIMIT:?}");
        sleep(POLL).await;
    }
}

/// The address for clients.
pub(crate) fn url(port: u16) -> String {
    format!("nats://127.0.0.1:{port}")
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}

/// The port in `nats-server_<pid>.ports`, as soon as that file is whole.
fn port_of(folder: &Path, pid: u32) -> Option<u16> {
    let ending = format!("_{pid}.ports");
    let is_ours = |path: &PathBuf| path.to_string_lossy().ends_with(&ending);
    let file = folder.read_dir().ok()?.flatten().map(|entry| entry.path()).find(is_ours)?;
    let ports: Ports = serde_json::from_str(&fs::read_to_string(file).ok()?).ok()?;
    ports.nats.first()?.rsplit(':').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_port_is_read_once_the_file_is_whole() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(port_of(folder.path(), 7), None);
        let file = folder.path().join("nats-server_7.ports");
        fs::write(&file, "{\"nats\":[\"nats://127.0").unwrap();
        assert_eq!(port_of(folder.path(), 7), None);
        fs::write(&file, "{\"nats\":[\"nats://127.0.0.1:40123\"]}").unwrap();
        assert_eq!(port_of(folder.path(), 7), Some(40123));
        assert_eq!(port_of(folder.path(), 77), None);
    }

    #[test]
    fn a_taken_port_is_not_free() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        assert!(!is_free(taken.local_addr().unwrap().port()));
    }
}
