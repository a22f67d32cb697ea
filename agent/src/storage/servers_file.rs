//! The NATS servers that this node was made with.
//!
//! `init`, `join` and `restore` write them down, so that a later `run` finds the site without a
//! configuration. They are a hint of the weakest kind: whatever the configuration says counts
//! instead, a file that can't be read is no obstacle, and it never holds a password. A site that does
//! without NATS is remembered as such.

use std::io;
use std::path::Path;

use super::durable;

/// The file, one server a line.
const SERVERS_FILE: &str = "nats-servers";
/// What stands in it where there are none on purpose.
const WITHOUT: &str = "# without NATS";
/// Servers that are kept, and the longest address of one in bytes.
const SERVERS_MAX: usize = 32;
const SERVER_BYTES_MAX: usize = 1_024;

/// Writes the servers down; an empty list says that this node does without NATS.
///
/// # Errors
/// When the file can't be written; the one before is then still there.
pub fn remember_servers(data_dir: &Path, servers: &[String]) -> io::Result<()> {
    if servers.is_empty() {
        return durable::replace(data_dir, SERVERS_FILE, format!("{WITHOUT}\n").as_bytes());
    }
    let usable = servers.iter().filter(|server| is_usable(server)).take(SERVERS_MAX);
    let text: String = usable.flat_map(|server| [server.as_str(), "\n"]).collect();
    durable::replace(data_dir, SERVERS_FILE, text.as_bytes())
}

/// The servers that were written down, an empty list where the node does without NATS; `None` where
/// nothing was, or nothing that makes sense.
#[must_use]
pub fn remembered_servers(data_dir: &Path) -> Option<Vec<String>> {
    match durable::read_small(&data_dir.join(SERVERS_FILE)) {
        Ok(bytes) => {
            let text = String::from_utf8_lossy(&bytes);
            if text.lines().next() == Some(WITHOUT) {
                return Some(Vec::new());
            }
            let lines = text.lines().map(str::trim).filter(|line| is_usable(line));
            let servers: Vec<String> = lines.take(SERVERS_MAX).map(str::to_owned).collect();
            (!servers.is_empty()).then_some(servers)
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => {
            tracing::warn!(%error, file = SERVERS_FILE, "the servers of this node can't be read");
            None
        }
    }
}

/// What may be a server, and tells no secret.
fn is_usable(server: &str) -> bool {
    !server.is_empty()
        && server.len() <= SERVER_BYTES_MAX
        && !server.contains('@')
        && !server.chars().any(|c| c.is_control() || c.is_whitespace())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_come_back_and_secrets_are_not_written() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(remembered_servers(dir.path()), None);
        let servers = ["tls://a:4222", "nats://me:secret@b:4222", "nats://c d"].map(str::to_owned);
        remember_servers(dir.path(), &servers).unwrap();
        assert_eq!(remembered_servers(dir.path()), Some(vec!["tls://a:4222".to_owned()]));
        let text = std::fs::read_to_string(dir.path().join(SERVERS_FILE)).unwrap();
        assert!(!text.contains("secret"));
        remember_servers(dir.path(), &[]).unwrap();
        assert_eq!(remembered_servers(dir.path()), Some(Vec::new()), "without NATS, on purpose");
    }

    #[test]
    fn a_bad_file_is_no_obstacle() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join(SERVERS_FILE);
        for bytes in [&b"\xff\xfe\0"[..], b"", b"\n\n", &[b'x'; 70_000]] {
            std::fs::write(&path, bytes).unwrap();
            assert_eq!(remembered_servers(dir.path()), None);
        }
        std::fs::remove_file(&path).unwrap();
        std::fs::create_dir(&path).unwrap();
        assert_eq!(remembered_servers(dir.path()), None);
    }
}
