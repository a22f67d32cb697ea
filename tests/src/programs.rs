//! Where the programs under test are.

use std::path::PathBuf;

/// The folder that `flotilla` and `flotilla-agent` were built into: beside this test's
/// own folder, or what `FLOTILLA_BIN_DIR` says.
fn folder() -> PathBuf {
    if let Some(chosen) = std::env::var_os("FLOTILLA_BIN_DIR") {
        return PathBuf::from(chosen);
    }
    let test = std::env::current_exe().expect("a running test has a path");
    let deps = test.parent().expect("a program lies in a folder");
    deps.parent().expect("cargo puts tests into <profile>/deps").to_path_buf()
}

fn find(name: &str) -> PathBuf {
    let path = folder().join(name);
    assert!(
        path.is_file(),
        "{} is not built; run `cargo build --workspace --bins` (`make test` does), or set \
         FLOTILLA_BIN_DIR to the folder that holds it",
        path.display()
    );
    path
}

/// The agent's program.
pub fn agent() -> PathBuf {
    find("flotilla-agent")
}

/// The command line's program.
pub fn cli() -> PathBuf {
    find("flotilla")
}

/// A nats-server: `FLOTILLA_NATS_SERVER`, the fetched one, or the one on PATH.
///
/// # Panics
/// If there is none. A test of real parts never passes without them.
pub fn nats_server() -> PathBuf {
    if let Some(chosen) = std::env::var_os("FLOTILLA_NATS_SERVER") {
        let path = PathBuf::from(chosen);
        assert!(path.is_file(), "FLOTILLA_NATS_SERVER names {}, which is no file", path.display());
        return path;
    }
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools");
    let mut fetched: Vec<PathBuf> = std::fs::read_dir(tools)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("nats-server"))
        .filter(|path| path.is_file())
        .collect();
    fetched.sort();
    fetched.pop().or_else(|| on_path("nats-server")).unwrap_or_else(|| {
        panic!("there is no nats-server: run `make nats`, or set FLOTILLA_NATS_SERVER to one")
    })
}

/// A mosquitto: `FLOTILLA_MOSQUITTO`, the built one, or the one on PATH.
///
/// # Panics
/// If there is none.
pub fn mosquitto() -> PathBuf {
    if let Some(chosen) = std::env::var_os("FLOTILLA_MOSQUITTO") {
        return PathBuf::from(chosen);
    }
    let built = tool("mosquitto-").map(|folder| folder.join("mosquitto"));
    built.or_else(|| on_path("mosquitto")).unwrap_or_else(|| {
        panic!("there is no mosquitto: run `make counterparts`, or set FLOTILLA_MOSQUITTO to one")
    })
}

/// The Python packages of devices that speak MQTT and Modbus: `FLOTILLA_COUNTERPARTS`, or the
/// fetched ones.
///
/// # Panics
/// If there are none.
pub fn counterparts() -> PathBuf {
    let chosen = std::env::var_os("FLOTILLA_COUNTERPARTS").map(PathBuf::from);
    chosen
        .or_else(|| tool("counterparts-"))
        .unwrap_or_else(|| panic!("paho-mqtt and pymodbus are not there: run `make counterparts`"))
}

/// The program that tells a bridge what to throw away: `FLOTILLA_NFT`, the fetched one, or the one
/// on PATH; `None` if there is none.
pub fn nft() -> Option<PathBuf> {
    fault_tool("FLOTILLA_NFT", "nft").or_else(|| on_path("nft"))
}

/// The tracer that answers system calls with errors: `FLOTILLA_STRACE`, or one as for [`nft`].
pub fn strace() -> Option<PathBuf> {
    fault_tool("FLOTILLA_STRACE", "strace").or_else(|| on_path("strace"))
}

/// The library that moves a wall clock: `FLOTILLA_FAKETIME`, or the fetched one.
pub fn faketime() -> Option<PathBuf> {
    fault_tool("FLOTILLA_FAKETIME", "libfaketime.so.1")
}

/// A program that breaks things, named by a variable or fetched.
fn fault_tool(variable: &str, name: &str) -> Option<PathBuf> {
    let chosen = std::env::var_os(variable).map(PathBuf::from);
    let fetched = || tool("fault-tools-").map(|folder| folder.join(name));
    chosen.or_else(fetched).filter(|path| path.is_file())
}

/// A guest kernel (user-mode-linux): `FLOTILLA_GUEST_KERNEL`, the fetched one, or the one on
/// PATH.
pub fn guest_kernel() -> Option<PathBuf> {
    debian("FLOTILLA_GUEST_KERNEL", "user-mode-linux_", "usr/bin/linux.uml", "linux.uml")
}

/// An etcd: `FLOTILLA_ETCD`, the fetched one, or the one on PATH.
pub fn etcd() -> Option<PathBuf> {
    debian("FLOTILLA_ETCD", "etcd-server_", "usr/bin/etcd", "etcd")
}

/// Debian's nats-server, which is older than the one that all tests use:
/// `FLOTILLA_DEBIAN_NATS_SERVER`, or the fetched one.
pub fn older_nats_server() -> Option<PathBuf> {
    // Not one on PATH: nobody knows how old that is.
    debian("FLOTILLA_DEBIAN_NATS_SERVER", "nats-server_", "usr/sbin/nats-server", "")
}

/// What a package of Debian holds that was fetched into a folder.
fn debian(variable: &str, package: &str, inside: &str, name: &str) -> Option<PathBuf> {
    if let Some(chosen) = std::env::var_os(variable) {
        let path = PathBuf::from(chosen);
        assert!(path.is_file(), "{variable} names {}, which is no file", path.display());
        return Some(path);
    }
    let fetched = tool(package).map(|folder| folder.join(inside));
    fetched.filter(|path| path.is_file()).or_else(|| on_path(name))
}

/// The folder of a fetched tool.
fn tool(prefix: &str) -> Option<PathBuf> {
    let tools = concat!(env!("CARGO_MANIFEST_DIR"), "/../.tools");
    let entries = std::fs::read_dir(tools).ok()?.flatten();
    let named = entries.filter(|entry| entry.file_name().to_string_lossy().starts_with(prefix));
    named.map(|entry| entry.path()).filter(|path| path.is_dir()).max()
}

/// A program on PATH.
pub fn on_path(program: &str) -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    let mut folders: Vec<PathBuf> = std::env::split_paths(&folders).collect();
    // Where Debian puts servers, and tools of root, on the path of root only.
    folders.extend(["/usr/sbin", "/sbin"].map(PathBuf::from));
    folders.into_iter().map(|folder| folder.join(program)).find(|it| it.is_file())
}
