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
    fetched.pop().or_else(on_path).unwrap_or_else(|| {
        panic!("there is no nats-server: run `make nats`, or set FLOTILLA_NATS_SERVER to one")
    })
}

fn on_path() -> Option<PathBuf> {
    let folders = std::env::var_os("PATH")?;
    std::env::split_paths(&folders).map(|folder| folder.join("nats-server")).find(|it| it.is_file())
}
