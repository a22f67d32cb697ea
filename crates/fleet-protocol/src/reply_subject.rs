//! Where an agent lets itself be told to send a reply.
//!
//! A request carries the subject its answer is published to, with the *agent's* rights. Without a
//! guard, anybody who may ask a question could have an agent publish to subjects that only agents
//! may use: a frame subject, another command, a server's own subjects.

use thiserror::Error;

use crate::{limits::REPLY_SUBJECT_BYTES_MAX, subjects::SUBJECT_ROOT};

/// Why a reply subject is not answered to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
pub enum ReplySubjectError {
    /// Below `flotilla`, or below a subject of the server's own.
    #[error("the reply subject is one that agents or the server use themselves; use an inbox")]
    Reserved,
    /// Too long, empty, or not a subject that can be published to.
    #[error("the reply subject is not one that can be published to; use an inbox")]
    Form,
}

/// Refuses a reply subject that an agent must not publish to.
pub fn check(reply: &str) -> Result<(), ReplySubjectError> {
    if reply.is_empty() || reply.len() > REPLY_SUBJECT_BYTES_MAX {
        return Err(ReplySubjectError::Form);
    }
    let mut tokens = reply.split('.');
    let first = tokens.next().unwrap_or("");
    // Subjects match by exact case, but a proxy in between might not.
    if first.eq_ignore_ascii_case(SUBJECT_ROOT) || first.starts_with('$') {
        return Err(ReplySubjectError::Reserved);
    }
    let publishable = |token: &str| {
        !token.is_empty()
            && token.bytes().all(|byte| byte.is_ascii_graphic() && byte != b'*' && byte != b'>')
    };
    if reply.split('.').all(publishable) { Ok(()) } else { Err(ReplySubjectError::Form) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn inboxes_are_fine() {
        for reply in ["_INBOX.abc.1", "_INBOX_home.x", "my.answers", "flotilla-2.x", "a"] {
            assert_eq!(check(reply), Ok(()), "{reply}");
        }
    }

    #[test]
    fn nobody_speaks_with_an_agents_rights() {
        let reserved = [
            "flotilla",
            "flotilla.home.raft.1",
            "Flotilla.home.control.admin.member.remove",
            "$JS.API.x",
            "$SYS.x",
            "$",
        ];
        for reply in reserved {
            assert_eq!(check(reply), Err(ReplySubjectError::Reserved), "{reply}");
        }
    }

    #[test]
    fn what_cannot_be_published_to() {
        let long = "a".repeat(REPLY_SUBJECT_BYTES_MAX + 1);
        for reply in
            ["", ".", "a.", ".a", "a..b", "a.*", "a.>", "a b", "a\n", "ä", "a\0", long.as_str()]
        {
            assert_eq!(check(reply), Err(ReplySubjectError::Form), "{reply}");
        }
    }
}
