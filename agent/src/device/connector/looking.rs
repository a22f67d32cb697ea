//! Looking along a link, without a session: which devices there are.
//!
//! Looking has a connection of its own, registers nothing and writes nothing to a device. What
//! the owner's session does goes on undisturbed, or does not exist while the link is paused.

use std::path::PathBuf;

use fleet_protocol::look::{Source, Units};
use fleet_state::{Object, SiteName};
use thiserror::Error;
use tokio::time::Instant;

use super::LinkSetup;

/// Where a connector is to look.
#[derive(Clone, Debug)]
pub struct Place {
    /// The link.
    pub link: LinkSetup,
    /// The site.
    pub site: SiteName,
    /// Where credentials are, on this node.
    pub secrets_dir: PathBuf,
    /// Until when somebody waits.
    pub until: Instant,
}

/// Who is to be asked for devices.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Discover {
    /// Who tells.
    pub source: Source,
    /// Where it does, unless it is the usual place.
    pub base: Option<String>,
}

/// Which units are asked, and how fast.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scan {
    /// The units that are left to be asked.
    pub units: Vec<u8>,
    /// Questions a second.
    pub per_second: u32,
}

impl Scan {
    /// The units after one that was asked.
    #[must_use]
    pub fn after(units: &Units, per_second: u32, after: Option<u8>) -> Self {
        let left = units.as_slice().iter().copied();
        let left = left.filter(|unit| after.is_none_or(|after| *unit > after));
        Self { units: left.collect(), per_second }
    }
}

/// A device that could be registered.
#[derive(Clone, Debug, PartialEq)]
pub struct Candidate {
    /// Its address on the link: what stays the same when it is renamed.
    pub address: String,
    /// What people call it.
    pub name: String,
    /// Who made it and what it is.
    pub model: Option<String>,
    /// The settings that it would be registered with.
    pub settings: Object,
    /// What its operator should know, and what could not be read.
    pub warnings: Vec<String>,
}

/// What was found.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Found {
    /// The devices, by address.
    pub candidates: Vec<Candidate>,
    /// Messages that could not be read, and why.
    pub problems: Vec<String>,
}

/// A unit that was asked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AskedUnit {
    /// Its number.
    pub unit: u8,
    /// Whether anything answered.
    pub answers: bool,
    /// Maker, product and version, as far as it says so.
    pub identity: [Option<String>; 3],
    /// What it said instead, or why it is known not to be there.
    pub detail: Option<String>,
}

/// Why nothing can be told.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum LookError {
    /// Links of this kind can't be looked along like that.
    #[error("links of the connector {0} can't be {1}")]
    Unsupported(&'static str, &'static str),
    /// The question is wrong.
    #[error("{0}")]
    Wrong(String),
    /// What is at the other end gives no answer.
    #[error("{0}")]
    Unreachable(String),
}
