//! The folder of one test: removed when it passes, kept and named when it fails.

use std::path::{Path, PathBuf};

use tempfile::TempDir;

/// A fresh folder.
#[derive(Debug)]
pub struct Workplace {
    folder: Option<TempDir>,
}

impl Workplace {
    /// Makes a folder below the system's one for temporary files.
    pub fn new() -> Self {
        let folder = tempfile::Builder::new().prefix("flotilla-test-").tempdir();
        Self { folder: Some(folder.expect("a temporary folder can be made")) }
    }

    /// Its path.
    pub fn path(&self) -> &Path {
        self.folder.as_ref().expect("only drop takes the folder").path()
    }

    /// A path inside.
    pub fn join(&self, name: &str) -> PathBuf {
        self.path().join(name)
    }
}

impl Default for Workplace {
    fn default() -> Self {
        Self::new()
    }
}

impl Drop for Workplace {
    fn drop(&mut self) {
        let keep = std::thread::panicking() || std::env::var_os("FLOTILLA_KEEP").is_some();
        if let Some(folder) = self.folder.take()
            && keep
        {
            eprintln!("the files of this test are kept in {}", folder.keep().display());
        }
    }
}
