//! Where the programs of a development site are.

use std::env;
use std::path::{Path, PathBuf};

use anyhow::{Result, bail, ensure};

/// The name of the agent's program.
pub(super) const AGENT: &str = "flotilla-agent";
/// The name of the server's program.
pub(super) const NATS_SERVER: &str = "nats-server";

/// The agent: `--agent-bin`, beside this program, or on PATH.
pub(crate) fn agent(chosen: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = chosen {
        ensure!(path.is_file(), "--agent-bin names {}, which is no file", path.display());
        return Ok(path.to_path_buf());
    }
    let own = env::current_exe().ok().and_then(|path| Some(path.parent()?.join(AGENT)));
    if let Some(path) = own.filter(|path| path.is_file()).or_else(|| on_path(AGENT)) {
        return Ok(path);
    }
    bail!(
        "there is no {AGENT} beside this program or on PATH; build it, or name it with --agent-bin"
    )
}

/// The NATS server: `--nats-server` or its environment variable, on PATH, or the one that the
/// sources fetch into `.tools` (looked for upwards from here and from this program).
pub(crate) fn nats_server(chosen: Option<&Path>) -> Result<PathBuf> {
    if let Some(path) = chosen {
        ensure!(path.is_file(), "--nats-server names {}, which is no file", path.display());
        return Ok(path.to_path_buf());
    }
    if let Some(path) = on_path(NATS_SERVER).or_else(fetched) {
        return Ok(path);
    }
    bail!(
        "there is no {NATS_SERVER} on PATH; install it (2.9.10 or newer), run `make nats` in the \
         sources, or name one with --nats-server or FLOTILLA_NATS_SERVER"
    )
}

fn on_path(name: &str) -> Option<PathBuf> {
    let folders = env::var_os("PATH")?;
    env::split_paths(&folders).map(|folder| folder.join(name)).find(|path| path.is_file())
}

fn fetched() -> Option<PathBuf> {
    let starts = [env::current_dir().ok(), env::current_exe().ok()];
    starts.iter().flatten().flat_map(|start| start.ancestors()).find_map(fetched_below)
}

fn fetched_below(folder: &Path) -> Option<PathBuf> {
    let entries = folder.join(".tools").read_dir().ok()?.flatten();
    let mut found: Vec<PathBuf> =
        entries.map(|entry| entry.path().join(NATS_SERVER)).filter(|path| path.is_file()).collect();
    found.sort();
    found.pop()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_named_program_must_be_there() {
        let missing = Path::new("/nowhere/at/all");
        assert!(agent(Some(missing)).unwrap_err().to_string().contains("--agent-bin"));
        assert!(nats_server(Some(missing)).unwrap_err().to_string().contains("--nats-server"));
    }

    #[test]
    fn a_fetched_server_is_found_in_its_folder() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(fetched_below(folder.path()), None);
        let home = folder.path().join(".tools/nats-server-1.2.3");
        std::fs::create_dir_all(&home).unwrap();
        std::fs::write(home.join(NATS_SERVER), "").unwrap();
        assert_eq!(fetched_below(folder.path()), Some(home.join(NATS_SERVER)));
    }
}
