//! A device's absence: how it is noticed, and what its end means for what waited.

use super::course::{Course, FirstRead, READ_MS_MAX};
use crate::Availability;

/// A device that gave no answer for longer was away.
const SILENT_MS_MAX: u64 = 30_000;
/// As many tries as make the pause the longest one.
const SILENT_TRIES: u32 = 16;

/// What is known of a device's absence when a session begins.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Away {
    /// Since when it has given no answer.
    pub since_ms: Option<u64>,
    /// It was said to be away.
    pub is_offline: bool,
}

impl Course {
    /// Nothing is known but that the device has been away since then, or was when it was last told of.
    #[must_use]
    pub fn resumed(away: Away, now_ms: u64) -> Self {
        let mut course = Self::new(now_ms);
        course.silent_since_ms = away.since_ms;
        if away.is_offline {
            course.availability = Availability::Offline;
            course.is_hearsay = true;
        }
        course
    }

    /// What the next session is to know of its absence.
    #[must_use]
    pub fn away(&self) -> Away {
        let is_offline = self.availability == Availability::Offline;
        Away { since_ms: self.silent_since_ms, is_offline }
    }

    /// It gave no answer, or is said to be away.
    pub(super) fn kept_silent(&mut self, now_ms: u64) {
        if self.availability == Availability::Asleep {
            // It is there, and listens now and then.
            return;
        }
        let since_ms = *self.silent_since_ms.get_or_insert(now_ms);
        let long = now_ms.saturating_sub(since_ms) > SILENT_MS_MAX;
        if long && self.by_word && self.availability == Availability::Online {
            self.availability = Availability::Unknown;
        }
        if long && self.first_read == FirstRead::Done {
            // What waits for it is not handed over before it is known to be back.
            let at_ms = now_ms.saturating_add(READ_MS_MAX);
            self.first_read = FirstRead::Due { at_ms, tries: SILENT_TRIES };
        }
    }

    /// It is there. What waited while it was silent for long is treated as after any absence.
    pub(super) fn is_there(&mut self, now_ms: u64) {
        let since_ms = self.silent_since_ms.take();
        if since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) > SILENT_MS_MAX) {
            self.returned();
        }
    }

    /// It was away, and is back.
    pub(super) fn returned(&mut self) {
        if !self.writing {
            return;
        }
        for track in self.tracks.values_mut().filter(|track| !track.is_verified()) {
            track.waited = true;
            track.next_ms = 0;
        }
    }
}
