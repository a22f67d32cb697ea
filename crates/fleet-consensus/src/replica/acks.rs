//! Acknowledgements that say nothing new.
//!
//! A leader tells its followers of every commit with an append that holds no entries, and raft
//! acknowledges that like any other, with the index that was acknowledged a moment before. On a
//! busy site this is every second message to the leader, and each wakes a thread to no purpose:
//! an index that a leader has is not news to it. The same acknowledgement is therefore sent
//! once in a while only. It is sent again at all because the first may have got lost; the leader
//! then repeats its entries with the next heartbeat, and is answered.

use fleet_state::NodeId;

use crate::frame::AppendResponse;

/// The same acknowledgement is not repeated within this time: half a heartbeat by default.
const REPEAT_AFTER_MS: u64 = 25;

/// What was acknowledged last.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Acks {
    last: Option<(NodeId, u64, u64)>,
    sent_ms: u64,
}

impl Acks {
    /// Whether this answer, in this term, is worth sending. One that is counts as sent.
    pub(super) fn is_news(
        &mut self,
        to: NodeId,
        term: u64,
        answer: &AppendResponse,
        now_ms: u64,
    ) -> bool {
        if answer.reject.is_some() {
            return true;
        }
        let ack = Some((to, term, answer.index));
        let rested = now_ms.saturating_sub(self.sent_ms) >= REPEAT_AFTER_MS;
        if ack == self.last && !rested {
            return false;
        }
        *self = Self { last: ack, sent_ms: now_ms };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::frame::Reject;

    fn node(id: u64) -> NodeId {
        NodeId::new(id).expect("not zero")
    }

    fn ack(index: u64) -> AppendResponse {
        AppendResponse { index, commit: 0, reject: None }
    }

    #[test]
    fn the_same_acknowledgement_goes_once_in_a_while() {
        let mut acks = Acks::default();
        assert!(acks.is_news(node(1), 2, &ack(7), 100));
        assert!(!acks.is_news(node(1), 2, &ack(7), 101));
        assert!(!acks.is_news(node(1), 2, &ack(7), 99 + REPEAT_AFTER_MS));
        // The first may be lost: a leader that asks again is answered.
        assert!(acks.is_news(node(1), 2, &ack(7), 100 + REPEAT_AFTER_MS));
        assert!(!acks.is_news(node(1), 2, &ack(7), 101 + REPEAT_AFTER_MS));
    }

    #[test]
    fn whatever_is_new_goes_at_once() {
        let mut acks = Acks::default();
        assert!(acks.is_news(node(1), 2, &ack(7), 100));
        assert!(acks.is_news(node(1), 2, &ack(8), 100), "another index");
        assert!(acks.is_news(node(1), 3, &ack(8), 100), "another term");
        assert!(acks.is_news(node(2), 3, &ack(8), 100), "another leader");
        let reject = Reject { hint: 1, log_term: 1, request_snapshot: 0 };
        let rejection = AppendResponse { index: 8, commit: 0, reject: Some(reject) };
        for _ in 0..3 {
            assert!(acks.is_news(node(2), 3, &rejection, 100), "a rejection");
        }
    }
}
