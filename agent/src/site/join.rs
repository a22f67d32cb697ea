//! Joining a site with a token.
//!
//! The joiner's keys are on disk before it asks, and asking again with the same keys gives the
//! same node id without using the token again, until the site counts the node among its learners;
//! all attempts of one run bear one request id, so within a run a lost answer is always given again.
//! A join that was cut off in between is refused, and the refusal says how to begin anew, because
//! who has no files can't tell whether it ever spoke under that id. The token's secret stays here: what
//! is sent is a proof made with it.
//! What comes back is checked against the site key in the token, so a stranger who answers in the
//! site's name gets nowhere.

use std::time::Duration;

use anyhow::{Context as _, bail};
use ed25519_dalek::VerifyingKey;
use fleet_consensus::frame::Credential;
use fleet_consensus::{ReplicaConfig, replica};
use fleet_protocol::JoinToken;
use fleet_protocol::hex;
use fleet_protocol::record::MemberBody;
use fleet_protocol::reply::{self, Committed, Failed};
use fleet_state::credential::{join_message, join_proof, token_key};
use fleet_state::{NodeId, NodeKeys, NodeName};
use serde::Deserialize;
use tokio::time::Instant;

use super::contacts::{Asking, Contacts};
use super::parts::{parts, random};
use crate::storage::{DataDir, NodeFile};

/// Time between two attempts.
const ATTEMPT_EVERY: Duration = Duration::from_millis(500);

/// What to join with.
#[derive(Debug)]
pub struct JoinRequest {
    /// The token.
    pub token: JoinToken,
    /// This gateway's name.
    pub name: NodeName,
    /// When to give up.
    pub deadline: Instant,
}

/// How joining ended.
#[derive(Debug)]
pub enum Joined {
    /// This gateway is a member now.
    New(NodeFile),
    /// The directory belongs to this site already; nothing was done.
    Already(NodeFile),
}

/// Joins the site of the token.
///
/// # Errors
/// When the directory belongs to another site, the site refuses, or nobody answers in time.
pub async fn join(
    dir: &DataDir,
    mut contacts: Contacts,
    request: &JoinRequest,
) -> anyhow::Result<Joined> {
    let token = &request.token;
    if let Some(node) = dir.node()? {
        if node.uid == token.uid {
            return Ok(Joined::Already(node));
        }
        bail!(
            "{} belongs to {} of site {} already; join with a directory of its own (--data-dir)",
            dir.path().display(),
            node.name,
            node.site
        );
    }
    let keys = dir.identity_or_create(&random()?)?.keys();
    let run = format!("join.{}", hex::encode(&random::<16>()?));
    let node =
        ask_until(request, async || ask_to_join(&mut contacts, request, &keys, &run).await).await?;
    let credential =
        ask_until(request, async || ask_for_credential(&mut contacts, request, node, &keys).await)
            .await?;
    dir.put_unfinished_aside()?;
    let file = NodeFile {
        site: token.site.clone(),
        uid: token.uid,
        site_public_key: token.site_public_key,
        node,
        name: request.name.clone(),
        credential,
        boot: 0,
    };
    let parts = parts(dir, &file, ReplicaConfig::new(node, token.uid))?;
    replica::join(&parts).context("the first files could not be written")?;
    crate::mesh::remember(dir.path(), &token.mesh);
    dir.write_node(&file)?;
    Ok(Joined::New(file))
}

/// An attempt that failed, and whether another may go better.
pub(super) enum Attempt {
    Again(anyhow::Error),
    Final(anyhow::Error),
}

async fn ask_until<T>(
    request: &JoinRequest,
    mut ask: impl AsyncFnMut() -> Result<T, Attempt>,
) -> anyhow::Result<T> {
    loop {
        let error = match ask().await {
            Ok(answer) => return Ok(answer),
            Err(Attempt::Final(error)) => return Err(error),
            Err(Attempt::Again(error)) => error,
        };
        if Instant::now() + ATTEMPT_EVERY >= request.deadline {
            return Err(error.context(format!(
                "site {} could not be joined in time; the same command goes on where this one stopped",
                request.token.site
            )));
        }
        tracing::info!(reason = %error, "not joined yet; trying again");
        tokio::time::sleep(ATTEMPT_EVERY).await;
    }
}

#[derive(serde::Serialize)]
struct JoinBody {
    token: String,
    name: String,
    sign_key: String,
    exchange_key: String,
    proof: String,
}

async fn ask_to_join(
    contacts: &mut Contacts,
    request: &JoinRequest,
    keys: &NodeKeys,
    run: &str,
) -> Result<NodeId, Attempt> {
    let token = &request.token;
    let message = join_message(token.token, &request.name, keys);
    let body = JoinBody {
        token: token.token.to_string(),
        name: request.name.to_string(),
        sign_key: hex::encode(&keys.sign),
        exchange_key: hex::encode(&keys.exchange),
        proof: hex::encode(&join_proof(&token_key(&token.secret), &message)),
    };
    let body = serde_json::to_vec(&body).map_err(|e| Attempt::Final(e.into()))?;
    let asking = Asking::Join { run: run.to_owned(), body };
    let payload = contacts.ask(&token.site, &asking).await?;
    let committed: Committed = read(reply::read(&payload))?;
    let node = committed.node.and_then(NodeId::new);
    node.ok_or_else(|| Attempt::Again(anyhow::anyhow!("the answer names no node id")))
}

async fn ask_for_credential(
    contacts: &mut Contacts,
    request: &JoinRequest,
    node: NodeId,
    keys: &NodeKeys,
) -> Result<[u8; 64], Attempt> {
    let token = &request.token;
    let payload = contacts.ask(&token.site, &Asking::Record(node)).await?;
    let member: ItemOf<MemberBody> = read(reply::read(&payload))?;
    let Some(signature) = member.item.credential.as_deref().and_then(hex::decode) else {
        return Err(Attempt::Again(anyhow::anyhow!(
            "the leader has not certified this gateway yet"
        )));
    };
    let credential = Credential { node, name: request.name.clone(), keys: *keys, signature };
    let site_key = VerifyingKey::from_bytes(&token.site_public_key)
        .map_err(|e| Attempt::Final(anyhow::Error::from(e).context("the token's site key")))?;
    if !credential.is_signed_by(&site_key, token.uid) {
        return Err(Attempt::Final(anyhow::anyhow!(
            "whoever answers as site {} does not hold the key of the site that the token is of; look for another site of this name on the same network or NATS server",
            token.site
        )));
    }
    Ok(signature)
}

#[derive(Deserialize)]
struct ItemOf<T> {
    item: T,
}

fn read<T>(reply: Result<Result<T, Failed>, reply::ReplyError>) -> Result<T, Attempt> {
    match reply {
        Ok(Ok(good)) => Ok(good),
        Ok(Err(failed)) => {
            let error = failed.error;
            let text = anyhow::anyhow!("{} ({}). {}", error.message, error.code, error.hint);
            // `unknown` is no end: the same keys ask again without using the token again.
            if error.retryable || error.code == "unknown" {
                Err(Attempt::Again(text))
            } else {
                Err(Attempt::Final(text))
            }
        }
        Err(error) => Err(Attempt::Final(error.into())),
    }
}
