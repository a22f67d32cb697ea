//! Answers that say nothing new.
//!
//! A leader tells its followers of every commit with an append that holds no entries, and raft
//! acknowledges that like any other, with the index that was acknowledged a moment before. On a
//! busy site this is every second message to the leader, and each wakes a thread to no purpose:
//! an index that a leader has is not news to it. Likewise a heartbeat comes by every way that
//! works, and each copy would be answered by every way. The same answer is therefore sent
//! once in a while only. It is sent again at all because the first may have got lost; the leader
//! then repeats its entries with the next heartbeat, and is answered.

use fleet_state::NodeId;

use crate::frame::{Beat, MessageKind, RaftMessage};

/// The same answer is not repeated within this time: half a heartbeat by default.
const REPEAT_AFTER_MS: u64 = 25;

/// What was answered last.
#[derive(Clone, Debug, Default)]
pub(super) struct Acks {
    entries: Last<u64>,
    beats: Last<Beat>,
}

/// The last answer of a kind: to whom, in which term, what, and when.
#[derive(Clone, Debug)]
struct Last<A>(Option<(NodeId, u64, A, u64)>);

impl<A> Default for Last<A> {
    fn default() -> Self {
        Self(None)
    }
}

impl<A: Clone + PartialEq> Last<A> {
    fn is_news(&mut self, to: NodeId, term: u64, answer: &A, now_ms: u64) -> bool {
        let repeats = self.0.as_ref().is_some_and(|(last_to, last_term, last, sent_ms)| {
            (*last_to, *last_term) == (to, term)
                && last == answer
                && now_ms.saturating_sub(*sent_ms) < REPEAT_AFTER_MS
        });
        if !repeats {
            self.0 = Some((to, term, answer.clone(), now_ms));
        }
        !repeats
    }
}

impl Acks {
    /// Whether this message is worth sending. An answer that is counts as sent.
    pub(super) fn is_news(&mut self, message: &RaftMessage, now_ms: u64) -> bool {
        let (to, term) = (message.to, message.term);
        if let MessageKind::AppendResponse(answer) = &message.kind {
            return answer.reject.is_some()
                || self.entries.is_news(to, term, &answer.index, now_ms);
        }
        if let MessageKind::HeartbeatResponse(answer) = &message.kind {
            return self.beats.is_news(to, term, answer, now_ms);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;

    use super::*;
    use crate::frame::{AppendResponse, Reject};

    fn message(to: u64, term: u64, kind: MessageKind) -> RaftMessage {
        let node = |id| NodeId::new(id).expect("not zero");
        RaftMessage { from: node(9), to: node(to), term, kind }
    }

    fn ack(index: u64) -> MessageKind {
        MessageKind::AppendResponse(AppendResponse { index, commit: 0, reject: None })
    }

    fn beat(commit: u64, context: &'static [u8]) -> MessageKind {
        let context = Bytes::from_static(context);
        MessageKind::HeartbeatResponse(Beat { commit, context })
    }

    #[test]
    fn the_same_answer_goes_once_in_a_while() {
        for kind in [ack(7), beat(7, b""), beat(7, b"read")] {
            let mut acks = Acks::default();
            let answer = message(1, 2, kind);
            assert!(acks.is_news(&answer, 100));
            assert!(!acks.is_news(&answer, 101));
            assert!(!acks.is_news(&answer, 99 + REPEAT_AFTER_MS));
            // The first may be lost: a leader that asks again is answered.
            assert!(acks.is_news(&answer, 100 + REPEAT_AFTER_MS));
            assert!(!acks.is_news(&answer, 101 + REPEAT_AFTER_MS));
        }
    }

    #[test]
    fn whatever_is_new_goes_at_once() {
        let mut acks = Acks::default();
        for (to, term, kind, what) in [
            (1, 2, ack(7), "the first"),
            (1, 2, ack(8), "another index"),
            (1, 3, ack(8), "another term"),
            (2, 3, ack(8), "another leader"),
            (2, 3, beat(8, b""), "another kind"),
            (2, 3, beat(9, b""), "another commit"),
            (2, 3, beat(9, b"read"), "a read"),
            (2, 3, beat(9, b"next"), "another read"),
            (1, 3, beat(9, b"next"), "another leader's heartbeat"),
            (1, 4, beat(9, b"next"), "a heartbeat of another term"),
        ] {
            assert!(acks.is_news(&message(to, term, kind), 100), "{what}");
        }
        let reject = Reject { hint: 1, log_term: 1, request_snapshot: 0 };
        let rejection = AppendResponse { index: 8, commit: 0, reject: Some(reject) };
        let rejection = message(2, 3, MessageKind::AppendResponse(rejection));
        for _ in 0..3 {
            assert!(acks.is_news(&rejection, 100), "a rejection");
        }
    }
}
