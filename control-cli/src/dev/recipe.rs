//! `recipe.json`: what a development site with `--data` is made of, so that it can be started again.
//!
//! `dev.json` is there only while the site runs; this file stays.

use std::fs;
use std::io;
use std::path::Path;

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

use super::plan::Earlier;

const FILE_NAME: &str = "recipe.json";

/// What must be the same at the next start.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Recipe {
    pub(crate) site: String,
    pub(crate) agents: u8,
    /// The port that nats-server had; it gets it again if it is free. None where the site does
    /// without.
    pub(crate) nats_port: Option<u16>,
}

impl Recipe {
    /// Reads the recipe of the site below `root`; `None` if there is none.
    pub(crate) fn read(root: &Path) -> Result<Option<Self>> {
        let path = root.join(FILE_NAME);
        match fs::read_to_string(&path) {
            Ok(text) => serde_json::from_str(&text)
                .map(Some)
                .with_context(|| format!("{} is damaged; use another --data", path.display())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("{} is unreadable", path.display())),
        }
    }

    /// What it says about the site's plan.
    pub(crate) fn earlier(&self) -> Result<Earlier> {
        let site = self.site.parse().context("recipe.json is damaged; use another --data")?;
        Ok(Earlier { site, agents: self.agents })
    }

    /// Writes it.
    pub(crate) fn write(&self, root: &Path) -> Result<()> {
        let path = root.join(FILE_NAME);
        let text = serde_json::to_string_pretty(self).context("a recipe cannot be made")?;
        fs::write(&path, text).with_context(|| format!("{} cannot be written", path.display()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(Recipe::read(folder.path()).unwrap(), None);
        let recipe = Recipe { site: "home".to_owned(), agents: 3, nats_port: Some(4222) };
        recipe.write(folder.path()).unwrap();
        assert_eq!(Recipe::read(folder.path()).unwrap(), Some(recipe));
        fs::write(folder.path().join(FILE_NAME), "?").unwrap();
        assert!(Recipe::read(folder.path()).unwrap_err().to_string().contains("damaged"));
    }
}
