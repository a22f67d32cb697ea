//! Files that hold one secret of 32 bytes.
//!
//! One line of text: what it is, the secret in hex, and the beginning of its SHA-256, so that a
//! changed character is an error and not another identity. Readable by their owner only; a file
//! that others can read is refused, because the secret must then be taken for known.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

use sha2::{Digest as _, Sha256};

use super::durable::{read_small, replace};

pub(super) const SITE_KEY_FILE: &str = "site.key";
const SITE_KEY_LABEL: &str = "flotilla-site-key-1";
const CHECK_BYTES: usize = 8;

/// Why a secret could not be read or written.
#[derive(Debug, thiserror::Error)]
pub enum SecretError {
    /// There is none.
    #[error("{} does not exist", path.display())]
    Missing {
        /// The file.
        path: PathBuf,
    },
    /// Others can read it.
    #[error(
        "{} has mode {mode:03o}: others may have read the secret in it. If not, run \
         `chmod 600` on it; if in doubt, remove this node from the site and let it join anew",
        path.display()
    )]
    TooWide {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It is not what was written.
    #[error(
        "{} is damaged: it does not hold what was written; put back a copy, or let this node \
         join anew",
        path.display()
    )]
    Damaged {
        /// The file.
        path: PathBuf,
    },
    /// There is one already, with another secret.
    #[error("{} exists and holds another secret; it is never replaced", path.display())]
    Exists {
        /// The file.
        path: PathBuf,
    },
    /// The system refused.
    #[error("{} can't be used", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
}

/// Keeps the site's secret key in the data directory. Does nothing if it is there already.
///
/// # Errors
/// When another one is there, or it can't be written.
pub fn store_site_key(data_dir: &Path, key: &[u8; 32]) -> io::Result<()> {
    store(data_dir, SITE_KEY_FILE, SITE_KEY_LABEL, key).map_err(|error| match error {
        SecretError::Io { source, .. } => source,
        SecretError::Missing { .. }
        | SecretError::TooWide { .. }
        | SecretError::Damaged { .. }
        | SecretError::Exists { .. } => io::Error::other(error),
    })
}

/// The site's secret key, if this node holds it.
///
/// # Errors
/// When the file is damaged, readable by others, or can't be read.
pub fn load_site_key(data_dir: &Path) -> Result<Option<[u8; 32]>, SecretError> {
    match load(data_dir, SITE_KEY_FILE, SITE_KEY_LABEL) {
        Ok(key) => Ok(Some(key)),
        Err(SecretError::Missing { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

/// Writes a secret; one that is there stays.
pub(super) fn store(
    dir: &Path,
    name: &str,
    label: &str,
    secret: &[u8; 32],
) -> Result<(), SecretError> {
    let path = dir.join(name);
    match load(dir, name, label) {
        Ok(there) if there == *secret => return Ok(()),
        Ok(_) => return Err(SecretError::Exists { path }),
        Err(SecretError::Missing { .. }) => {}
        Err(error) => return Err(error),
    }
    let line = format!("{label} {} {}\n", hex(secret), hex(&check(label, secret)));
    replace(dir, name, line.as_bytes()).map_err(|source| SecretError::Io { path, source })
}

/// Reads a secret.
pub(super) fn load(dir: &Path, name: &str, label: &str) -> Result<[u8; 32], SecretError> {
    let path = dir.join(name);
    let fault = |source: io::Error| {
        let path = path.clone();
        if source.kind() == io::ErrorKind::NotFound {
            SecretError::Missing { path }
        } else {
            SecretError::Io { path, source }
        }
    };
    let bytes = read_small(&path).map_err(fault)?;
    let mode = fs::metadata(&path).map_err(fault)?.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        return Err(SecretError::TooWide { path, mode });
    }
    parse(&bytes, label).ok_or(SecretError::Damaged { path })
}

fn parse(bytes: &[u8], label: &str) -> Option<[u8; 32]> {
    let line = std::str::from_utf8(bytes).ok()?.strip_suffix('\n')?;
    let mut parts = line.split(' ');
    let known = parts.next()? == label;
    let secret: [u8; 32] = unhex(parts.next()?)?;
    let check_found: [u8; CHECK_BYTES] = unhex(parts.next()?)?;
    let whole = known && parts.next().is_none() && check_found == check(label, &secret);
    whole.then_some(secret)
}

fn check(label: &str, secret: &[u8; 32]) -> [u8; CHECK_BYTES] {
    let digest = Sha256::new().chain_update(label).chain_update(secret).finalize();
    let mut check = [0; CHECK_BYTES];
    check.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    check
}

/// Bytes as lower-case hex.
pub(super) fn hex(bytes: &[u8]) -> String {
    use std::fmt::Write as _;
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut text, byte| {
        // Writing to a String cannot fail.
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Bytes from lower-case hex, in exactly one spelling.
pub(super) fn unhex<const N: usize>(text: &str) -> Option<[u8; N]> {
    let digit = |c: u8| match c {
        b'0'..=b'9' => Some(c - b'0'),
        b'a'..=b'f' => Some(c - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = text.as_bytes().as_chunks::<2>();
    if pairs.len() != N || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; N];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chmod(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_site_key_comes_back_and_is_never_replaced() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(load_site_key(dir.path()).unwrap(), None);
        store_site_key(dir.path(), &[5; 32]).unwrap();
        store_site_key(dir.path(), &[5; 32]).unwrap();
        let error = store_site_key(dir.path(), &[6; 32]).unwrap_err();
        assert!(error.to_string().contains("another secret"), "{error}");
        assert_eq!(load_site_key(dir.path()).unwrap(), Some([5; 32]));
    }

    #[test]
    fn every_changed_byte_is_found() {
        let dir = tempfile::tempdir().unwrap();
        store_site_key(dir.path(), &[0xab; 32]).unwrap();
        let path = dir.path().join(SITE_KEY_FILE);
        let good = fs::read(&path).unwrap();
        for at in 0..good.len() {
            for mask in [1, 0x20, 0x80] {
                let mut bad = good.clone();
                bad[at] ^= mask;
                assert_eq!(parse(&bad, SITE_KEY_LABEL), None, "byte {at}, mask {mask}");
            }
            assert_eq!(parse(&good[..at], SITE_KEY_LABEL), None, "cut at {at}");
        }
        fs::write(&path, &good[1..]).unwrap();
        assert!(matches!(load_site_key(dir.path()), Err(SecretError::Damaged { .. })));
        // A damaged one is not replaced either.
        store_site_key(dir.path(), &[0xab; 32]).unwrap_err();
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        store_site_key(dir.path(), &[1; 32]).unwrap();
        let path = dir.path().join(SITE_KEY_FILE);
        for mode in [0o640, 0o604, 0o644, 0o660] {
            chmod(&path, mode);
            let error = load_site_key(dir.path()).unwrap_err();
            assert!(error.to_string().contains(&format!("mode {mode:03o}")), "{error}");
        }
        chmod(&path, 0o400);
        assert_eq!(load_site_key(dir.path()).unwrap(), Some([1; 32]));
    }

    #[test]
    fn hex_has_one_spelling() {
        assert_eq!(unhex::<2>("00ff"), Some([0, 255]));
        for bad in ["00f", "00fff", "00FF", "0 ff", "", "+1+2"] {
            assert_eq!(unhex::<2>(bad), None, "{bad}");
        }
    }
}
