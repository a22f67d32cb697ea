//! A new site from a snapshot of another one: the way back when a majority is lost for good.
//!
//! The new site keeps links, devices and parameters with their revisions, and goes on counting
//! after the snapshot's index. It has a new uid, a new site key and one member, under a node id
//! that the former site never gave; members of the former site are strangers to it.

use std::fs::File;
use std::io::BufReader;
use std::path::PathBuf;

use anyhow::{Context as _, bail};
use fleet_consensus::Founding;
use fleet_log::Position;
use fleet_state::{FoundingParams, NodeId, NodeName, SiteName, decode_snapshot};

use super::found::{Founder, check_voters, write};
use super::parts::{random, wall_ms};
use crate::storage::DataDir;

/// Largest state that is unpacked.
const STATE_BYTES_MAX: u64 = 2 * 1024 * 1024 * 1024;

/// What to restore.
#[derive(Debug)]
pub struct RestoreRequest {
    /// The snapshot file.
    pub file: PathBuf,
    /// The new site's name.
    pub site: SiteName,
    /// This gateway's name.
    pub name: NodeName,
    /// How many gateways shall vote.
    pub voters: u8,
}

/// What was restored.
#[derive(Debug)]
pub struct Restored {
    /// The site that the snapshot was of.
    pub former_site: SiteName,
    /// Index of the last entry in it.
    pub index: u64,
    /// This gateway's node id in the new site.
    pub node: NodeId,
    /// Devices in it.
    pub devices: usize,
    /// Parameters in it.
    pub params: usize,
}

/// Makes a site in `dir` from a snapshot file.
///
/// # Errors
/// When the file is no whole snapshot, or the directory belongs to a site.
pub fn restore(dir: &DataDir, request: &RestoreRequest) -> anyhow::Result<Restored> {
    if let Some(node) = dir.node()? {
        bail!(
            "{} belongs to {} of site {} already; restore into a directory of its own (--data-dir)",
            dir.path().display(),
            node.name,
            node.site
        );
    }
    check_voters(request.voters)?;
    let shown = request.file.display();
    let file = File::open(&request.file).with_context(|| format!("cannot read {shown}"))?;
    let (meta, state) = decode_snapshot(&mut BufReader::new(file), STATE_BYTES_MAX)
        .with_context(|| format!("{shown} is not a usable snapshot; take another copy"))?;
    dir.put_unfinished_aside()?;
    let identity = dir.identity_or_create(&random()?)?;
    let node = state.next_node();
    let founder = Founder::new(node, &request.name, identity.keys())?;
    let state = state.restore_as(FoundingParams {
        site: request.site.clone(),
        uid: founder.uid,
        site_public_key: founder.public_key(),
        member: founder.member.clone(),
        voters: request.voters,
        feature_level: fleet_state::limits::FEATURE_LEVEL,
        token: None,
        wall_time_ms: wall_ms(),
    });
    let restored = Restored {
        former_site: meta.site,
        index: meta.index,
        node,
        devices: state.devices_len(),
        params: state.params_len(),
    };
    let at = Position {
        index: meta.index.saturating_add(1).max(state.last_applied().get()),
        term: meta.term.saturating_add(1),
    };
    write(dir, &founder, node, &Founding { state, at })?;
    Ok(restored)
}
