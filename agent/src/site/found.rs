//! Founding a site.

use std::sync::Arc;

use anyhow::{Context as _, bail};
use ed25519_dalek::{Signer as _, SigningKey};
use fleet_consensus::{Founding, ReplicaConfig, replica};
use fleet_protocol::JoinToken;
use fleet_state::credential::{credential_message, token_key};
use fleet_state::{
    FoundingMember, FoundingParams, FoundingToken, NodeId, NodeKeys, NodeName, SiteName, SiteUid,
    TokenId,
};

use super::parts::{parts, random, wall_ms};
use crate::config::MeshConfig;
use crate::storage::{DataDir, NodeFile, store_site_key};

/// What a site is founded with.
#[derive(Debug)]
pub struct FoundRequest {
    /// The site's name.
    pub site: SiteName,
    /// This gateway's name.
    pub name: NodeName,
    /// How many gateways shall vote.
    pub voters: u8,
    /// How many may join with the first token.
    pub token_uses: u32,
    /// How long the first token is valid.
    pub token_ttl_ms: u64,
    /// The NATS servers that go into the token.
    pub nats_urls: Vec<String>,
    /// The settings of the mesh, for where this gateway will be found on it.
    pub mesh: MeshConfig,
}

/// How founding ended.
#[derive(Debug)]
pub enum Founded {
    /// The site was made; this token lets others join.
    New {
        /// To be shown once.
        token: String,
    },
    /// The directory belongs to this site already; nothing was done.
    Already(NodeFile),
}

/// The first member of a new site, and the site's key.
pub(super) struct Founder {
    pub(super) uid: SiteUid,
    pub(super) site_key: SigningKey,
    pub(super) member: FoundingMember,
}

impl Founder {
    /// A site key and uid from fresh random bytes, and this gateway certified by it.
    pub(super) fn new(node: NodeId, name: &NodeName, keys: NodeKeys) -> anyhow::Result<Self> {
        let uid = SiteUid::from_bytes(random()?);
        let site_key = SigningKey::from_bytes(&random()?);
        let message = credential_message(uid, node, name, &keys);
        let credential = site_key.sign(&message).to_bytes();
        let member = FoundingMember { name: name.clone(), keys, credential };
        Ok(Self { uid, site_key, member })
    }

    pub(super) fn public_key(&self) -> [u8; 32] {
        self.site_key.verifying_key().to_bytes()
    }

    /// The node file of the founder; written last.
    pub(super) fn node_file(&self, site: &SiteName, node: NodeId) -> NodeFile {
        NodeFile {
            site: site.clone(),
            uid: self.uid,
            site_public_key: self.public_key(),
            node,
            name: self.member.name.clone(),
            credential: self.member.credential,
            boot: 0,
        }
    }
}

/// Makes a site in `dir`.
///
/// # Errors
/// When the directory belongs to another site, or can't be written.
pub fn found(dir: &DataDir, request: &FoundRequest) -> anyhow::Result<Founded> {
    if let Some(node) = dir.node()? {
        if node.site == request.site {
            return Ok(Founded::Already(node));
        }
        bail!(
            "{} belongs to {} of site {} already; give the new site a directory of its own (--data-dir)",
            dir.path().display(),
            node.name,
            node.site
        );
    }
    check_voters(request.voters)?;
    dir.put_unfinished_aside()?;
    let identity = dir.identity_or_create(&random()?)?;
    let node = NodeId::FOUNDER;
    let founder = Founder::new(node, &request.name, identity.keys())?;
    let (secret, token) = (random()?, TokenId::from_bytes(random()?));
    let params = FoundingParams {
        site: request.site.clone(),
        uid: founder.uid,
        site_public_key: founder.public_key(),
        member: founder.member.clone(),
        voters: request.voters,
        feature_level: fleet_state::limits::FEATURE_LEVEL,
        token: Some(FoundingToken {
            id: token,
            key: token_key(&secret),
            ttl_ms: request.token_ttl_ms,
            uses: request.token_uses,
            note: Arc::from("made by init"),
        }),
        wall_time_ms: wall_ms(),
    };
    write(dir, &founder, node, &Founding::new(params))?;
    let token = JoinToken {
        site: request.site.clone(),
        uid: founder.uid,
        site_public_key: founder.public_key(),
        token,
        secret,
        nats_urls: request.nats_urls.clone(),
        mesh: crate::mesh::places(&request.mesh, identity.sign_key()),
    };
    Ok(Founded::New { token: token.encode()? })
}

/// Log, snapshot and site key, then the node file.
pub(super) fn write(
    dir: &DataDir,
    founder: &Founder,
    node: NodeId,
    founding: &Founding,
) -> anyhow::Result<()> {
    let file = founder.node_file(founding.state.site(), node);
    let config = ReplicaConfig::new(node, founder.uid);
    let parts = parts(dir, &file, config)?;
    replica::found(&parts, founding).context("the first files could not be written")?;
    store_site_key(dir.path(), &founder.site_key.to_bytes())
        .context("the site key could not be written")?;
    dir.write_node(&file)?;
    Ok(())
}

pub(super) fn check_voters(voters: u8) -> anyhow::Result<()> {
    if voters.is_multiple_of(2) || voters > 7 {
        bail!(
            "--voters {voters}: it must be 1, 3, 5 or 7; an even number survives no more failures than the odd one below it"
        );
    }
    Ok(())
}
