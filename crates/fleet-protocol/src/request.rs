//! Turns a message into a request: subject, headers and payload in, one typed value out.
//!
//! Everything a user can send passes through [`parse`], once. What comes out is checked: ids are
//! ids, sizes are within their bounds, options fit the operation. Inside the agent nothing looks at
//! text again. What is refused here never reached the log, so it changed nothing and is remembered
//! by nobody.
//!
//! The payload *is* the value where there is one (`param.set`, `device.update`, `device.replace`),
//! so that `nats req` with a plain JSON document does what it says. Options ride in headers.
//!
//! Randomness comes in as an argument: a request without an id of its own gets `fallback_id`.

use fleet_state::{NodeName, Proposal, RequestId};

use crate::{
    AdminOp, CommandTarget, Failure, Inbound, NodeVerb, Noun, Options, Subjects, WaitFor,
    admin::{self, AdminRequest},
    changes::ChangesRequest,
    command,
    headers::HeaderName,
    limits::REQUEST_BYTES_MAX,
    look::{LookQuery, LookRequest},
    node::NodeRequest,
    query::Query,
};

/// A message as it came, without its headers.
#[derive(Debug, Clone, Copy)]
pub struct Incoming<'a> {
    /// The subject it was published to.
    pub subject: &'a str,
    /// Its bytes.
    pub payload: &'a [u8],
}

/// A request, checked.
#[derive(Debug, Clone, PartialEq)]
pub struct Request {
    /// The client's request id, or the one made for it.
    pub request_id: RequestId,
    /// How long the client waits.
    pub timeout_ms: u64,
    /// W3C trace context.
    pub traceparent: Option<String>,
    /// What is asked for.
    pub action: Action,
}

/// What is asked for.
#[derive(Debug, Clone, PartialEq)]
pub enum Action {
    /// Something that goes through the log.
    Command(CommandRequest),
    /// A read.
    Query(Query),
    /// A question that the owner of a link answers.
    Look(LookQuery),
    /// Changes since a revision.
    Changes(ChangesRequest),
    /// Administration that does not go through the log as a command.
    Admin(AdminRequest),
    /// Something about the node that receives it.
    Node(NodeRequest),
}

/// Something that goes through the log.
#[derive(Debug, Clone, PartialEq)]
pub struct CommandRequest {
    /// What is proposed.
    pub proposal: Proposal,
    /// The stage to wait for before the answer.
    pub wait: WaitFor,
    /// What it is about; `None` for administration.
    pub target: Option<CommandTarget>,
    /// What kind of thing it is about, if one.
    pub noun: Option<Noun>,
}

/// A refusal, with the request id when that much could be read.
#[derive(Debug, Clone, PartialEq)]
pub struct Refused {
    /// The client's request id, if its headers could be read.
    pub request_id: Option<RequestId>,
    /// Why.
    pub failure: Failure,
}

/// Understands a message that an agent received.
///
/// `this_node` is the receiving agent: messages to another node are refused.
pub fn parse<'h>(
    subjects: &Subjects,
    this_node: &NodeName,
    incoming: Incoming<'_>,
    headers: impl IntoIterator<Item = (&'h str, &'h str)>,
    fallback_id: RequestId,
) -> Result<Request, Refused> {
    let refused = |request_id: Option<RequestId>| move |failure| Refused { request_id, failure };
    let options = Options::parse(headers).map_err(refused(None))?;
    let given_id = options.request_id.clone();
    let request_id = given_id.clone().unwrap_or(fallback_id);
    action(subjects, this_node, incoming, &options, &request_id)
        .map(|action| Request {
            request_id,
            timeout_ms: options.timeout_ms(),
            traceparent: options.traceparent.clone(),
            action,
        })
        .map_err(refused(given_id))
}

fn action(
    subjects: &Subjects,
    this_node: &NodeName,
    incoming: Incoming<'_>,
    options: &Options,
    request_id: &RequestId,
) -> Result<Action, Failure> {
    let payload = incoming.payload;
    if payload.len() > REQUEST_BYTES_MAX {
        return Err(Failure::new(
            crate::ErrorCode::TooLarge,
            format!(
                "the payload is {} bytes long; at most {REQUEST_BYTES_MAX} are allowed",
                payload.len()
            ),
        ));
    }
    let inbound = subjects.parse(incoming.subject).map_err(|error| {
        Failure::malformed(error.to_string()).with_hint("docs/protocol.md lists the subjects.")
    })?;
    check_options(&inbound, options)?;
    let propose = |command, target: Option<CommandTarget>, noun: Option<Noun>| {
        let proposal = Proposal {
            request_id: request_id.clone(),
            if_revision: options.if_revision,
            actor: options.actor.as_deref().map(Into::into),
            command,
        };
        command::check(&proposal)?;
        Ok(Action::Command(CommandRequest { proposal, wait: options.wait(), target, noun }))
    };
    match inbound {
        Inbound::Command(target) => {
            let noun = target.entity().as_ref().map(Noun::from);
            propose(command::parse(&target, payload, options.ttl_ms)?, Some(target), noun)
        }
        Inbound::Admin(op) => match admin::parse(op, payload)? {
            admin::Parsed::Command(command) => propose(command, None, op.noun()),
            admin::Parsed::Request(request) => Ok(Action::Admin(request)),
        },
        Inbound::Query(target) => {
            Query::parse(target, options.consistency(), payload).map(Action::Query)
        }
        Inbound::Look(link, verb) => {
            let request = LookRequest::parse(link, verb, payload)?;
            Ok(Action::Look(LookQuery { request, consistency: options.consistency() }))
        }
        Inbound::Changes(target) => ChangesRequest::parse(target, payload).map(Action::Changes),
        Inbound::Node(node, verb) if node == *this_node => node_request(verb, payload),
        Inbound::All(verb) => node_request(verb, payload),
        Inbound::Node(node, _) => {
            Err(Failure::malformed(format!("the request is for node {node}; this is {this_node}")))
        }
        Inbound::Raft(_) => {
            Err(Failure::malformed("raft subjects are for sealed frames between agents"))
        }
    }
}

fn node_request(verb: NodeVerb, payload: &[u8]) -> Result<Action, Failure> {
    NodeRequest::parse(verb, payload).map(Action::Node)
}

/// An option that an operation would not look at is refused: its sender counts on it.
fn check_options(inbound: &Inbound, options: &Options) -> Result<(), Failure> {
    let idle = |header: HeaderName, hint: &str| {
        Err(Failure::malformed(format!("header {header} has no meaning for this request"))
            .with_hint(hint))
    };
    let (is_command, is_write) = match inbound {
        Inbound::Command(target) => (target.entity().is_some(), true),
        Inbound::Admin(op) => (false, !matches!(op, AdminOp::SnapshotTake | AdminOp::SnapshotInfo)),
        Inbound::Query(_)
        | Inbound::Look(..)
        | Inbound::Changes(_)
        | Inbound::Node(..)
        | Inbound::All(_)
        | Inbound::Raft(_) => (false, false),
    };
    if options.if_revision.is_some() && !is_command {
        return idle(
            HeaderName::IfRevision,
            "Only commands on one thing take it; a batch takes if_revision per item.",
        );
    }
    let limited = matches!(inbound, Inbound::Command(target) if target.op().takes_ttl());
    if options.ttl_ms.is_some() && !limited {
        return idle(
            HeaderName::Ttl,
            "Only device.update, device.replace and device.invoke take it; a desired state without it stays until it is changed.",
        );
    }
    if options.wait.is_some() && !is_write {
        return idle(HeaderName::Wait, "Only commands take it.");
    }
    if options.consistency.is_some() && !matches!(inbound, Inbound::Query(_) | Inbound::Look(..)) {
        return idle(HeaderName::Consistency, "Only queries take it.");
    }
    Ok(())
}

#[cfg(test)]
mod tests;
