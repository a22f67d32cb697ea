//! Secrets: text that is never shown, and the files that hold them.

use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

/// Largest secret file in bytes; a credentials file with its JWT is a few kilobytes.
const SECRET_BYTES_MAX: u64 = 64 * 1024;
/// Permission bit "others may read".
const OTHERS_READ: u32 = 0o004;

/// A text that `Debug` and `Display` don't show.
#[derive(Clone, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Wraps a secret text.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The text itself, for handing it to the server.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(hidden)")
    }
}

/// Why a file with a secret isn't used; displayed as what is wrong and what to do.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SecretFileError {
    #[error("{path} can't be read: {reason}; check the path and its permissions")]
    Unreadable { path: String, reason: String },
    #[error("{path} can be read by every user of this machine; run `chmod o-rwx {path}`")]
    Exposed { path: String },
    #[error("{path} has more than {SECRET_BYTES_MAX} bytes; check that this is the right file")]
    TooLarge { path: String },
    #[error("{path} is empty; put the secret into it")]
    Empty { path: String },
}

/// Checks that a secret file exists, is a file, and isn't open to everybody.
pub(crate) fn check_file(path: &Path) -> Result<(), SecretFileError> {
    let shown = || path.display().to_string();
    let unreadable = |error: std::io::Error| SecretFileError::Unreadable {
        path: shown(),
        reason: error.to_string(),
    };
    let metadata = std::fs::metadata(path).map_err(unreadable)?;
    if !metadata.is_file() {
        let reason = "it is not a file".to_owned();
        return Err(SecretFileError::Unreadable { path: shown(), reason });
    }
    if metadata.permissions().mode() & OTHERS_READ != 0 {
        return Err(SecretFileError::Exposed { path: shown() });
    }
    Ok(())
}

/// Reads a secret file, without the white space around it.
pub(crate) fn read_file(path: &Path) -> Result<Secret, SecretFileError> {
    check_file(path)?;
    let shown = || path.display().to_string();
    let mut text = String::new();
    File::open(path)
        .and_then(|file| file.take(SECRET_BYTES_MAX + 1).read_to_string(&mut text))
        .map_err(|error| SecretFileError::Unreadable {
            path: shown(),
            reason: error.to_string(),
        })?;
    if text.len() as u64 > SECRET_BYTES_MAX {
        return Err(SecretFileError::TooLarge { path: shown() });
    }
    let text = text.trim();
    if text.is_empty() {
        return Err(SecretFileError::Empty { path: shown() });
    }
    Ok(Secret::new(text))
}
