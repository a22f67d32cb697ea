//! The bodies of administration: members, voters, tokens, leadership, snapshots.
//!
//! What changes the replicated state becomes a [`Command`] and takes the way of every command. The
//! rest is an [`AdminRequest`], which the agent that receives it carries out or hands to the leader.

use std::sync::Arc;

use fleet_state::{
    Command, JoinRequest, NodeId, NodeKeys, Value,
    limits::{NOTE_BYTES_MAX, TOKEN_USES_MAX, VOTERS_MAX},
};
use serde::{Deserialize, Serialize};

use crate::{
    AdminOp, Failure, command, duration,
    fields::Fields,
    limits::{TOKEN_TTL_MS_DEFAULT, TOKEN_TTL_MS_MAX, TOKEN_TTL_MS_MIN},
};

/// Administration that is not a command of the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AdminRequest {
    /// Hand the leadership over, to this member or to whichever is best.
    LeaderTransfer {
        /// The wanted leader.
        to: Option<NodeId>,
    },
    /// Take a snapshot of everything that was committed when it was asked for.
    SnapshotTake,
    /// Tell which snapshots there are.
    SnapshotInfo,
}

/// What an administrative request turned out to be.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Parsed {
    Command(Command),
    Request(AdminRequest),
}

/// The reply to `leader.transfer`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeaderTransferred {
    /// The node that leads now.
    pub leader: u64,
}

/// A snapshot that a node holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotFacts {
    /// Last entry it contains.
    pub index: u64,
    /// That entry's term.
    pub term: u64,
    /// Size of the file.
    pub size_bytes: u64,
}

/// The reply to `snapshot.take` and `snapshot.info`; newest first.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshots {
    /// Name of the node that holds them, to be asked for their bytes.
    pub node: String,
    /// What it holds; after `snapshot.take` the new one alone.
    pub snapshots: Vec<SnapshotFacts>,
}

pub(crate) fn parse(op: AdminOp, payload: &[u8]) -> Result<Parsed, Failure> {
    let body = command::options_json(payload)?;
    let fields = |known: &[&str]| Fields::of("the request", &body, known);
    Ok(match op {
        AdminOp::MemberJoin => Parsed::Command(join(&body)?),
        AdminOp::MemberRemove => {
            Parsed::Command(Command::MemberRemove { node: node(&fields(&["node"])?)? })
        }
        AdminOp::MemberPromote => {
            Parsed::Command(Command::MemberPromote { node: node(&fields(&["node"])?)? })
        }
        AdminOp::MemberDrain | AdminOp::MemberResume => {
            let (node, drain) = (node(&fields(&["node"])?)?, op == AdminOp::MemberDrain);
            Parsed::Command(Command::NodeDrain { node, drain })
        }
        AdminOp::MemberLabel => Parsed::Command(member_label(&body)?),
        AdminOp::VotersSet => Parsed::Command(set_voters(&fields(&["voters"])?)?),
        AdminOp::TokenCreate => Parsed::Command(token_create(&body)?),
        AdminOp::TokenRevoke => {
            Parsed::Command(Command::TokenRevoke { id: fields(&["id"])?.required_id("id")? })
        }
        AdminOp::LeaderTransfer => Parsed::Request(AdminRequest::LeaderTransfer {
            to: optional_node(&fields(&["node"])?)?,
        }),
        AdminOp::SnapshotTake => {
            fields(&[]).map(|_| Parsed::Request(AdminRequest::SnapshotTake))?
        }
        AdminOp::SnapshotInfo => {
            fields(&[]).map(|_| Parsed::Request(AdminRequest::SnapshotInfo))?
        }
    })
}

fn optional_node(fields: &Fields<'_>) -> Result<Option<NodeId>, Failure> {
    fields
        .whole("node", u64::MAX)?
        .map(|number| {
            NodeId::new(number).ok_or_else(|| fields.wrong("node", "a node id is 1 or more"))
        })
        .transpose()
}

fn node(fields: &Fields<'_>) -> Result<NodeId, Failure> {
    optional_node(fields)?.ok_or_else(|| fields.missing("node"))
}

fn join(body: &Value) -> Result<Command, Failure> {
    let fields = Fields::of(
        "the join request",
        body,
        &["token", "name", "sign_key", "exchange_key", "proof"],
    )?;
    Ok(Command::Join(JoinRequest {
        token: fields.required_id("token")?,
        name: fields.required_id("name")?,
        keys: NodeKeys {
            sign: fields.required_bytes("sign_key")?,
            exchange: fields.required_bytes("exchange_key")?,
        },
        proof: fields.required_bytes("proof")?,
    }))
}

fn member_label(body: &Value) -> Result<Command, Failure> {
    let fields = Fields::of("the request", body, &["node", "labels"])?;
    Ok(Command::MemberLabel { node: node(&fields)?, labels: fields.texts_or_null("labels")? })
}

fn set_voters(fields: &Fields<'_>) -> Result<Command, Failure> {
    let wanted = fields.whole("voters", u64::MAX)?.ok_or_else(|| fields.missing("voters"))?;
    let voters =
        u8::try_from(wanted).ok().filter(|voters| voters % 2 == 1 && *voters <= VOTERS_MAX);
    let voters = voters.ok_or_else(|| {
        fields
            .wrong("voters", &format!("{wanted} is not an odd number from 1 to {VOTERS_MAX}"))
            .with_hint(
                "An even number of voters survives no more failures than the odd number below it.",
            )
    })?;
    Ok(Command::SetVoters { voters })
}

fn token_create(body: &Value) -> Result<Command, Failure> {
    let fields = Fields::of("the token", body, &["id", "key", "ttl", "uses", "note"])?;
    let ttl_ms = match fields.text("ttl")? {
        None => TOKEN_TTL_MS_DEFAULT,
        Some(text) => duration::parse_ms(text, TOKEN_TTL_MS_MIN, TOKEN_TTL_MS_MAX)
            .map_err(|error| fields.wrong("ttl", &error.to_string()))?,
    };
    let uses = fields.whole_from("uses", 1, u64::from(TOKEN_USES_MAX))?;
    let uses = uses.and_then(|uses| u32::try_from(uses).ok()).unwrap_or(1);
    let note: Arc<str> = fields.text_up_to("note", NOTE_BYTES_MAX)?;
    Ok(Command::TokenCreate {
        id: fields.required_id("id")?,
        key: fields.required_bytes("key")?,
        ttl_ms,
        uses,
        note,
    })
}

#[cfg(test)]
mod tests;
