//! Who waits for the replica, and in which words they are answered.

use fleet_consensus::{CommandEnd, ReadEnd};
use tokio::sync::oneshot;

use super::handle::{ReadError, Submitted};

/// The token that the replica gives back with an end.
#[derive(Debug)]
pub(super) enum ReplyTo {
    /// Of a command.
    Command(oneshot::Sender<Submitted>),
    /// Of a read barrier.
    Read(oneshot::Sender<Result<(), ReadError>>),
}

/// A caller that has gone away is no error.
fn answer<A>(to: oneshot::Sender<A>, what: A) {
    let _gone = to.send(what);
}

impl ReplyTo {
    pub(super) fn command_ended(self, end: CommandEnd) {
        let Self::Command(to) = self else {
            return;
        };
        answer(
            to,
            match end {
                CommandEnd::Decided(answer) => Submitted::Decided(answer),
                CommandEnd::Busy(why) => Submitted::Busy { why },
                CommandEnd::NoLeader => Submitted::NoLeader,
                CommandEnd::Unknown => Submitted::Unknown,
            },
        );
    }

    pub(super) fn read_ended(self, end: ReadEnd) {
        let Self::Read(to) = self else {
            return;
        };
        answer(
            to,
            match end {
                ReadEnd::Ready => Ok(()),
                ReadEnd::NoLeader => Err(ReadError::NoLeader),
                ReadEnd::Deadline => Err(ReadError::Deadline),
                ReadEnd::Busy => Err(ReadError::Busy),
            },
        );
    }
}
