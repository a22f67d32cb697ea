//! A node that must not vote again says so on its own disk.
//!
//! Some faults a restart can't mend: entries that this node had acknowledged are gone, its disk
//! was set back, its state differs from everybody else's. Whatever restarts the process would
//! bring back a node that votes with amnesia, so the reason is written down, durably, and every
//! start on this directory ends with it.

use std::io;
use std::path::Path;

use super::durable;

/// The file with the reason.
pub const QUARANTINE_FILE: &str = "quarantine";

/// Writes the reason; from now on no agent starts on this directory.
///
/// # Errors
/// When it can't be written durably.
pub fn set(data_dir: &Path, reason: &str) -> io::Result<()> {
    durable::replace(data_dir, QUARANTINE_FILE, format!("{reason}\n").as_bytes())
}

/// The reason, if the directory is in quarantine. A file that can't be read counts as one.
#[must_use]
pub fn reason(data_dir: &Path) -> Option<String> {
    match durable::read_small(&data_dir.join(QUARANTINE_FILE)) {
        Ok(text) => Some(String::from_utf8_lossy(&text).trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => Some(format!("the file {QUARANTINE_FILE} can't be read: {error}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_stays() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(reason(dir.path()), None);
        set(dir.path(), "this node has lost part of its log").unwrap();
        assert_eq!(reason(dir.path()).unwrap(), "this node has lost part of its log");
    }
}
