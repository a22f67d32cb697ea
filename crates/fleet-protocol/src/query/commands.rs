//! What is remembered of commands: answers for a while, and invocations for longer.

use std::sync::Arc;

use fleet_state::{CommandFound, FleetState, Invocation, RequestId};
use serde_json::value::RawValue;

use super::{PageRequest, page::PageBuilder, select::raw};
use crate::{Area, ErrorCode, Failure, Noun, record::CommandBody};

/// What is remembered of one command.
pub(super) fn one(id: &RequestId, state: &FleetState) -> Result<Box<RawValue>, Failure> {
    let (found, invocation) = (state.command_found(id), state.invocation(id));
    let body = match (&found, invocation) {
        (Some(found), invocation) => CommandBody::of(found, invocation.map(Arc::as_ref)),
        (None, Some(invocation)) => CommandBody::from(invocation.as_ref()),
        (None, None) => {
            let message = format!("no command with the request id {id} is remembered");
            return Err(Failure::new(ErrorCode::NotFound, message).about(Noun::Command));
        }
    };
    raw(&body)
}

/// One line of the list, by the revision that decided it.
enum Line<'a> {
    Found(CommandFound),
    Invoked(&'a Arc<Invocation>),
}

impl Line<'_> {
    fn revision(&self) -> u64 {
        match self {
            Self::Found(found) => found.answer.revision.get(),
            Self::Invoked(invocation) => invocation.committed.get(),
        }
    }

    fn body(&self, state: &FleetState) -> CommandBody {
        match self {
            Self::Found(found) => {
                CommandBody::of(found, state.invocation(&found.request_id).map(Arc::as_ref))
            }
            Self::Invoked(invocation) => CommandBody::from(invocation.as_ref()),
        }
    }
}

/// The newest first; a page goes on below the revision of the last one.
pub(super) fn fill(
    builder: &mut PageBuilder<'_>,
    area: Option<&Area>,
    page: &PageRequest,
    state: &FleetState,
) -> Result<(), Failure> {
    let below = page.after.as_ref().and_then(|after| after.parse().ok()).unwrap_or(u64::MAX);
    let mut invoked: Vec<&Arc<Invocation>> = state.invocations().collect();
    invoked.sort_by_key(|invocation| std::cmp::Reverse(invocation.committed));
    // Whose answer is remembered still is told with it.
    let invoked = invoked.into_iter().filter(|one| state.command_found(&one.id).is_none());
    let mut invoked = invoked.map(Line::Invoked).peekable();
    let mut found = state.commands_found().map(Line::Found).peekable();
    let lines = std::iter::from_fn(|| match (found.peek(), invoked.peek()) {
        (Some(one), Some(other)) if one.revision() < other.revision() => invoked.next(),
        (None, _) => invoked.next(),
        _ => found.next(),
    });
    for line in lines.filter(|line| line.revision() < below) {
        let body = line.body(state);
        if area.is_some_and(|area| !body.id.as_ref().is_some_and(|id| area.contains(id))) {
            continue;
        }
        if !builder.take(line.revision().to_string(), raw(&body)?) {
            break;
        }
    }
    Ok(())
}
