//! The socket file: for its owner only, and never in place of something else.

use std::fs::{self, File, Permissions};
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream};
use std::path::{Path, PathBuf};

use tokio::net::UnixListener;

/// Who may connect: the user the agent runs as, and root.
const MODE: u32 = 0o600;
/// What the system takes as the address of a socket, with its end; longer paths take a detour.
const ADDRESS_BYTES_MAX: usize = 100;

/// A socket of ours on the disk; dropping it removes it, unless another stands there by now.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    inode: (u64, u64),
}

impl SocketFile {
    /// Listens at `path`. A socket where nobody listens any more is replaced, everything else there
    /// is left alone.
    ///
    /// It is made beside its place, closed to others, and then moved: at no moment can anybody
    /// else connect.
    pub(super) fn bind(path: &Path) -> Result<(UnixListener, Self), String> {
        check_place(path)?;
        let mut new = path.as_os_str().to_owned();
        new.push(".new");
        let new = PathBuf::from(new);
        let text = |error: io::Error| error.to_string();
        match fs::remove_file(&new) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(format!("{} can't be removed: {error}", new.display())),
        }
        let listener = at(&new, |address| StdListener::bind(address)).map_err(text)?;
        fs::set_permissions(&new, Permissions::from_mode(MODE)).map_err(text)?;
        fs::rename(&new, path).map_err(text)?;
        let found = fs::symlink_metadata(path).map_err(text)?;
        listener.set_nonblocking(true).map_err(text)?;
        let listener = UnixListener::from_std(listener).map_err(text)?;
        Ok((listener, Self { path: path.to_owned(), inode: (found.dev(), found.ino()) }))
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        let found = fs::symlink_metadata(&self.path).map(|found| (found.dev(), found.ino()));
        if found.is_ok_and(|inode| inode == self.inode) {
            // A socket that stays is stale, and the next start replaces it.
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Checks that nothing stands at `path` but perhaps a socket that nobody listens at.
fn check_place(path: &Path) -> Result<(), String> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if !found.file_type().is_socket() {
        return Err("there is something that is no socket, and it is not replaced".to_owned());
    }
    match at(path, |address| UnixStream::connect(address)) {
        Ok(_) => Err("another process listens there".to_owned()),
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => Ok(()),
        Err(error) => Err(format!("it can't be told whether somebody listens there: {error}")),
    }
}

/// Calls `with` with an address that the system takes for `path`, however long that is.
fn at<T>(path: &Path, with: impl FnOnce(&Path) -> io::Result<T>) -> io::Result<T> {
    if path.as_os_str().len() < ADDRESS_BYTES_MAX {
        return with(path);
    }
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        return with(path);
    };
    // The folder by its number is short, and stays the same folder while it is open.
    let folder = File::open(folder)?;
    with(&Path::new("/proc/self/fd").join(folder.as_raw_fd().to_string()).join(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::symlink_metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[tokio::test]
    async fn a_stale_socket_is_replaced_and_a_live_one_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door.sock");
        drop(StdListener::bind(&path).unwrap());
        assert!(path.exists(), "what a crash leaves");
        let (_listener, file) = SocketFile::bind(&path).unwrap();
        assert_eq!(mode(&path), MODE);
        assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1);
        assert!(SocketFile::bind(&path).unwrap_err().contains("another process"));
        drop(file);
        assert!(!path.exists());
    }

    #[tokio::test]
    async fn nothing_else_is_replaced() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("door.sock");
        fs::write(&path, "mine").unwrap();
        assert!(SocketFile::bind(&path).unwrap_err().contains("no socket"));
        assert_eq!(fs::read_to_string(&path).unwrap(), "mine");
        let link = folder.path().join("link");
        std::os::unix::fs::symlink("/nowhere", &link).unwrap();
        assert!(SocketFile::bind(&link).unwrap_err().contains("no socket"));
        assert!(SocketFile::bind(&folder.path().join("absent/door.sock")).is_err());
    }

    #[tokio::test]
    async fn a_long_path_works_and_another_ones_socket_stays() {
        let folder = tempfile::tempdir().unwrap();
        let deep = folder.path().join("a".repeat(90)).join("b".repeat(90));
        fs::create_dir_all(&deep).unwrap();
        let path = deep.join("door.sock");
        let (_listener, file) = SocketFile::bind(&path).unwrap();
        assert!(at(&path, |address| UnixStream::connect(address)).is_ok());
        fs::remove_file(&path).unwrap();
        fs::write(&path, "another").unwrap();
        drop(file);
        assert!(path.exists());
    }
}
