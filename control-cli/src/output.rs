//! What is printed: data on standard output, as a table for people or as JSON or YAML for programs;
//! everything else on standard error.
//!
//! What comes from the site is shown escaped, so that no name or address can drive a terminal.

mod document;
mod table;

use std::io::Write as _;

use anyhow::{Context as _, Result};
use clap::ValueEnum;
use fleet_protocol::Json;
use serde::Serialize;

pub(crate) use table::{Table, cell, lasted, tame, time};

/// In which form data is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Form {
    /// For people.
    Table,
    /// For programs.
    Json,
    /// For people and programs.
    Yaml,
    /// For graphviz; of a graph only.
    Dot,
}

impl Form {
    /// Prints data: as a table made by `table`, or as a document.
    pub(crate) fn print<T: Serialize + ?Sized>(
        self,
        data: &T,
        table: impl FnOnce() -> Table,
    ) -> Result<()> {
        match self {
            // What is no graph is refused before; a table is the next best.
            Self::Table | Self::Dot => put(&table().to_string()),
            Self::Json | Self::Yaml => put(&self.document(data)?),
        }
    }

    /// Data as a document.
    fn document<T: Serialize + ?Sized>(self, data: &T) -> Result<String> {
        let text = serde_json::to_vec(data).context("the data cannot be written as JSON")?;
        let Json(value) = Json::parse(&text).context("the data is not JSON")?;
        Ok(match self {
            Self::Yaml => document::yaml(&value),
            Self::Json | Self::Table | Self::Dot => document::json(&value),
        })
    }

    /// Prints one piece of a sequence that goes on: a line, or a document of its own.
    pub(crate) fn print_next<T: Serialize + ?Sized>(
        self,
        data: &T,
        line: impl FnOnce() -> String,
    ) -> Result<()> {
        match self {
            Self::Table | Self::Dot => put(&format!("{}\n", line())),
            Self::Json => {
                let text =
                    serde_json::to_string(data).context("the data cannot be written as JSON")?;
                put(&document::tamed(format!("{text}\n")))
            }
            Self::Yaml => put(&format!("---\n{}", self.document(data)?)),
        }
    }
}

/// Writes to standard output.
pub(crate) fn put(text: &str) -> Result<()> {
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())
        .and_then(|()| out.flush())
        .context("standard output cannot be written")
}

/// Says something on standard error. Nobody may be listening there, which is no reason to fail.
pub(crate) fn say(text: &str) {
    let _ = writeln!(std::io::stderr().lock(), "{text}");
}
