//! Events for a listener at the local door: what this node applied, as it applied it.
//!
//! Over NATS the leader tells events to everybody; here every node tells what it applies itself,
//! which is the same in the same order, a moment later. A listener that doesn't keep up is told how
//! much it missed and goes on with the present; it closes the gap with a question for changes. Nothing
//! is queued for it but what is being handed over.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use fleet_protocol::event::{self, Tick};
use fleet_protocol::limits::TICK_INTERVAL_MS;
use fleet_protocol::{Area, Noun};
use fleet_state::Change;
use tokio::sync::broadcast::error::RecvError;
use tokio::sync::{OwnedSemaphorePermit, broadcast, watch};
use tokio::time::{Interval, MissedTickBehavior};

use crate::consensus::{AppliedBatch, AppliedItem, Handle};

use super::IntakeState;
use super::desk::Desk;
use super::events::wall_time_ms;

/// Listeners at a time.
pub(super) const LISTENERS_MAX: usize = 128;

/// Which events a listener wants.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Wanted {
    /// Only of this noun.
    pub noun: Option<Noun>,
    /// Only in this area.
    pub area: Option<Area>,
}

impl Wanted {
    fn holds(&self, change: &Change) -> bool {
        let of_noun = self.noun.is_none_or(|noun| noun == Noun::from(&change.entity));
        of_noun && self.area.as_ref().is_none_or(|area| area.contains(&change.entity.id_text()))
    }
}

/// One event.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventTold {
    /// `change`, `tick` or `missed`.
    pub kind: &'static str,
    /// One line of JSON.
    pub payload: Vec<u8>,
}

/// What happens, from the moment it was asked for.
#[derive(Debug)]
pub struct EventFeed {
    handle: Handle,
    applied: broadcast::Receiver<Arc<AppliedBatch>>,
    intake: watch::Receiver<IntakeState>,
    wanted: Wanted,
    ticks: Interval,
    /// The rest of what was applied in one turn.
    queue: VecDeque<EventTold>,
    _permit: OwnedSemaphorePermit,
}

impl EventFeed {
    /// A feed, unless there are as many streams as there may be.
    pub(super) fn open(desk: &Desk, wanted: Wanted) -> Option<Self> {
        // No place in a lane: whoever listens must not keep the agent from stopping.
        let permit = Arc::clone(&desk.listeners).try_acquire_owned().ok()?;
        let mut ticks = tokio::time::interval(Duration::from_millis(TICK_INTERVAL_MS));
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Some(Self {
            handle: desk.handle.clone(),
            applied: desk.handle.subscribe(),
            intake: desk.intake.subscribe(),
            wanted,
            ticks,
            queue: VecDeque::new(),
            _permit: permit,
        })
    }

    /// The next event; `None` once the agent stops.
    pub async fn next(&mut self) -> Option<EventTold> {
        loop {
            if let Some(told) = self.queue.pop_front() {
                return Some(told);
            }
            let happened = tokio::select! {
                batch = self.applied.recv() => Happened::Applied(batch),
                _ = self.ticks.tick() => Happened::Tick,
                () = stopped(&mut self.intake) => return None,
            };
            match happened {
                Happened::Applied(Ok(batch)) => batch.items.iter().for_each(|it| self.put(it)),
                Happened::Applied(Err(RecvError::Lagged(it))) => self.queue.push_back(missed(it)),
                Happened::Applied(Err(RecvError::Closed)) => return None,
                Happened::Tick => self.queue.extend(self.tick()),
            }
        }
    }

    fn put(&mut self, item: &AppliedItem) {
        if !item.changes.iter().any(|change| self.wanted.holds(change)) {
            return;
        }
        match event::change_events(item.revision, item.wall_time_ms, &item.changes) {
            Ok(events) => {
                let told = item.changes.iter().zip(events);
                let told = told.filter(|(change, _)| self.wanted.holds(change));
                let told = told.map(|(_, payload)| EventTold { kind: "change", payload });
                self.queue.extend(told);
            }
            Err(failure) => {
                let revision = item.revision.get();
                tracing::warn!(revision, reason = failure.message, "no events");
            }
        }
    }

    fn tick(&self) -> Option<EventTold> {
        let view = self.handle.view();
        let payload = event::tick(&Tick {
            revision: view.applied.get(),
            term: view.standing.term,
            leader: view.standing.leader?.get(),
            wall_time_ms: wall_time_ms(),
        });
        Some(EventTold { kind: "tick", payload })
    }
}

/// What wakes a feed.
enum Happened {
    Applied(Result<Arc<AppliedBatch>, RecvError>),
    Tick,
}

async fn stopped(intake: &mut watch::Receiver<IntakeState>) {
    let _ = intake.wait_for(|state| *state == IntakeState::Stopped).await;
}

fn missed(batches: u64) -> EventTold {
    EventTold { kind: "missed", payload: format!("{{\"batches\":{batches}}}").into_bytes() }
}
