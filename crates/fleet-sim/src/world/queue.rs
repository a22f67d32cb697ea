//! What will happen, by time and then by the order in which it was decided.

use std::collections::BTreeMap;

/// Events to come.
pub(super) struct Queue<E> {
    events: BTreeMap<(u64, u64), E>,
    made: u64,
}

impl<E> Default for Queue<E> {
    fn default() -> Self {
        Self { events: BTreeMap::new(), made: 0 }
    }
}

impl<E> Queue<E> {
    pub(super) fn push(&mut self, at_ms: u64, event: E) {
        self.made += 1;
        self.events.insert((at_ms, self.made), event);
    }

    pub(super) fn pop(&mut self) -> Option<E> {
        self.events.pop_first().map(|(_, event)| event)
    }

    pub(super) fn next_ms(&self) -> Option<u64> {
        self.events.first_key_value().map(|((at_ms, _), _)| *at_ms)
    }

    pub(super) fn len(&self) -> usize {
        self.events.len()
    }
}
