//! Whom a joiner asks: agents of the site over NATS, over the mesh, or whichever answers.
//!
//! The question is the same on both ways and so is the answer. Over NATS a stranger may be the
//! one who answers, over the mesh only a peer that the token names or that knows the site's uid;
//! in both cases what is answered is checked against the site key in the token.

use std::time::Duration;

use anyhow::anyhow;
use async_nats::HeaderMap;
use bytes::Bytes;
use fleet_protocol::{AdminOp, HeaderName, QueryTarget, Subjects};
use fleet_state::{Entity, NodeId, SiteName};

use super::join::Attempt;
use crate::mesh::{JoinQuestion, Joiner};
use crate::nats::{Connection, LinkState};

/// How long one request may take.
const REQUEST_MAX: Duration = Duration::from_secs(5);

/// The ways to the agents of a site.
#[derive(Debug)]
pub struct Contacts {
    /// A connection to a NATS server.
    pub nats: Option<Connection>,
    /// A mesh of the joiner's own.
    pub mesh: Option<Joiner>,
}

/// What is asked.
pub(super) enum Asking {
    /// To become a member.
    Join {
        /// The request id, the same on every attempt.
        run: String,
        /// The body.
        body: Vec<u8>,
    },
    /// For the record of the member that one has become.
    Record(NodeId),
}

impl Contacts {
    /// Asks until one way gives an answer; NATS first, if it is there.
    pub(super) async fn ask(&mut self, site: &SiteName, asking: &Asking) -> Result<Bytes, Attempt> {
        let mut failed: Vec<String> = Vec::new();
        if let Some(nats) = &self.nats {
            let connected = *nats.state.borrow() == LinkState::Connected;
            // Without another way it is worth waiting for.
            if connected || self.mesh.is_none() {
                match ask_nats(nats, site, asking).await {
                    Ok(answer) => return Ok(answer),
                    Err(error) => failed.push(error),
                }
            } else {
                failed.push("no NATS server answers".to_owned());
            }
        }
        if let Some(mesh) = &mut self.mesh {
            let question = match asking {
                Asking::Join { run, body } => {
                    JoinQuestion::Join { request_id: run.clone(), body: body.clone() }
                }
                Asking::Record(_) => JoinQuestion::Record,
            };
            match mesh.ask(&question).await {
                Ok(answer) => return Ok(answer.into()),
                Err(error) => failed.push(error.to_string()),
            }
        }
        Err(Attempt::Again(anyhow!(failed.join("; "))))
    }
}

async fn ask_nats(nats: &Connection, site: &SiteName, asking: &Asking) -> Result<Bytes, String> {
    let subjects = Subjects::new(site);
    let mut headers = HeaderMap::new();
    let (subject, body) = match asking {
        Asking::Join { run, body } => {
            headers.insert(HeaderName::RequestId.as_str(), run.as_str());
            (subjects.admin(AdminOp::MemberJoin), body.clone())
        }
        Asking::Record(node) => {
            (subjects.query(&QueryTarget::Get(Entity::Member(*node))), Vec::new())
        }
    };
    let asked = nats.client.request_with_headers(subject, headers, body.into());
    match tokio::time::timeout(REQUEST_MAX, asked).await {
        Ok(Ok(message)) => Ok(message.payload),
        Ok(Err(error)) => Err(format!("no agent of the site answers on NATS: {error}")),
        Err(_) => Err("no agent of the site answers on NATS".to_owned()),
    }
}
