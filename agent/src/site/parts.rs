//! What a replica is made from, gathered from a data directory.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use ed25519_dalek::SigningKey;
use fleet_consensus::frame::Credential;
use fleet_consensus::{Parts, ReplicaConfig};

use crate::storage::{DataDir, NodeFile, RealDisk};

/// The parts of the node that `file` names.
///
/// # Errors
/// When a file of the directory can't be used.
pub fn parts(
    dir: &DataDir,
    file: &NodeFile,
    config: ReplicaConfig,
) -> anyhow::Result<Parts<RealDisk>> {
    let identity = dir.identity()?;
    let credential = Credential {
        node: file.node,
        name: file.name.clone(),
        keys: identity.keys(),
        signature: file.credential,
    };
    Ok(Parts {
        config,
        site: file.site.clone(),
        site_public_key: file.site_public_key,
        site_key: dir.site_key()?,
        exchange_secret: identity.exchange_secret(),
        boot: file.boot,
        salt: random()?,
        credential: Some(credential),
        log_disk: dir.log_disk()?,
        snapshot_disk: dir.snapshot_disk()?,
    })
}

/// The key of this gateway, which is made when there is none yet.
///
/// # Errors
/// When it can't be read or written.
pub fn key_of(dir: &DataDir) -> anyhow::Result<SigningKey> {
    Ok(dir.identity_or_create(&random()?)?.sign_key().clone())
}

/// Fresh bytes from the system.
///
/// # Errors
/// When the system has none.
pub(super) fn random<const N: usize>() -> anyhow::Result<[u8; N]> {
    let mut bytes = [0; N];
    getrandom::fill(&mut bytes).context("the system gives no random bytes")?;
    Ok(bytes)
}

/// Milliseconds since 1970 by the wall clock; for display.
pub(super) fn wall_ms() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO);
    u64::try_from(since.as_millis()).unwrap_or(u64::MAX)
}
