//! Where a device stands: how far its wishes got, what keeps them, what is different.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_state::{Revision, Stage as Told};

use super::course::Course;
use super::track::{Stage, Track};
use super::{
    Drift, GivenUp, LocalReached, LocalStanding, Marks, Orders, Trouble, TroubleCode, alike,
};

/// Failed hand-overs after which people are told.
const FAILURES_QUIET: u32 = 3;

impl Course {
    /// The highest revisions that every wish up to them has reached, without those given up and
    /// those that can never get so far: [`Course::failures`] names them.
    ///
    /// While a local write stands before a wish, nobody can say of that wish how far it got.
    pub(super) fn marks(&self, orders: &Orders) -> Marks {
        if orders.has_local() {
            return orders.marks;
        }
        let passed_over = |track: &&Track| track.failure().is_some();
        let mark = |stage: Stage, told: Revision| {
            let short = || self.tracks.values().filter(move |track| track.stage < stage);
            let coming_back = || coming_back(orders, told);
            if short().next().is_none() && coming_back().next().is_none() {
                return orders.desired_revision;
            }
            // What is passed over keeps only its own revision back.
            let first = short().filter(|track| !passed_over(track)).map(|track| track.revision);
            let first = first.chain(coming_back()).min();
            self.tracks
                .values()
                .filter(|track| track.stage >= stage)
                .map(|track| track.revision)
                .filter(|revision| first.is_none_or(|first| *revision < first))
                .filter(|revision| !short().any(|track| track.revision == *revision))
                .max()
                .unwrap_or(Revision::NONE)
        };
        let marks = Marks {
            sent: mark(Stage::Sent, orders.marks.sent),
            acknowledged: mark(Stage::Acknowledged, orders.marks.acknowledged),
            verified: mark(Stage::Verified, orders.marks.verified),
        };
        marks.max(orders.marks)
    }

    pub(super) fn trouble(&self, orders: &Orders) -> Option<Trouble> {
        let of_log = || self.tracks.values().filter(|track| track.local.is_none());
        let over = of_log().filter(|track| track.over.is_some()).filter_map(Track::failure);
        let over = over.max_by_key(|trouble| trouble.revision);
        let failing = |track: &&Track| {
            !track.is_verified() && track.handed.is_none() && track.tries >= FAILURES_QUIET
        };
        over.or_else(|| {
            let track = of_log().filter(failing).max_by_key(|t| t.revision)?;
            let message = format!("{} hand-overs failed; it is tried again", track.tries);
            let (code, revision) = (TroubleCode::Unreachable, track.revision);
            let trouble = Trouble { code, message, revision, stage: track.stage.told() };
            orders.allows_writing().then_some(trouble)
        })
    }

    /// Wishes that the marks pass over, with what keeps them, in the order of their revisions. Of
    /// the properties of one, the one that is worst off speaks for it.
    pub(super) fn failures(&self) -> Vec<Trouble> {
        let mut failures: BTreeMap<Revision, Trouble> = BTreeMap::new();
        let worth = |trouble: &Trouble| {
            let Trouble { stage, .. } = *trouble;
            (stage != Told::Failed, stage != Told::Unknown, stage)
        };
        let of_log = || self.tracks.values().filter(|track| track.local.is_none());
        // That nobody hears of a part says nothing of a command of which more is to be heard.
        let is_open = |track: &Track| !track.is_verified() && track.failure().is_none();
        let open: BTreeSet<Revision> =
            of_log().filter(|track| is_open(track)).map(|track| track.revision).collect();
        let counts = |trouble: &Trouble| {
            trouble.code != TroubleCode::WriteOnly || !open.contains(&trouble.revision)
        };
        for trouble in of_log().filter_map(Track::failure).filter(counts) {
            let known = failures.get(&trouble.revision);
            if known.is_none_or(|known| worth(&trouble) < worth(known)) {
                failures.insert(trouble.revision, trouble);
            }
        }
        failures.into_values().collect()
    }

    /// Wishes that the log says something keeps, and that nothing keeps any more.
    pub(super) fn overcome(&self, orders: &Orders) -> Vec<Revision> {
        if orders.has_local() {
            return Vec::new();
        }
        let is_over = |revision: Revision, given_up: &GivenUp| {
            let mut of = self.tracks.values().filter(|track| track.revision == revision).peekable();
            of.peek().is_some()
                && of.all(|track| match (track.failure(), given_up.stage) {
                    (Some(_), _) => false,
                    (None, Told::Verified) => track.seen && track.drift_since_ms.is_none(),
                    (None, _) => track.seen || track.handed.is_some(),
                })
        };
        let known = orders.given_up.iter().filter(|(revision, known)| is_over(**revision, known));
        known.map(|(revision, _)| *revision).collect()
    }

    /// How far local writes got: as far as the property that is furthest behind.
    pub(super) fn local(&self) -> Vec<LocalStanding> {
        let mut standings: BTreeMap<u64, LocalStanding> = BTreeMap::new();
        for track in self.tracks.values() {
            let Some(number) = track.local else { continue };
            let reached = match track.stage {
                Stage::Committed => None,
                Stage::Sent => Some(LocalReached::Sent),
                Stage::Acknowledged => Some(LocalReached::Acknowledged),
                Stage::Verified => Some(LocalReached::Verified),
            };
            let standing =
                standings.entry(number).or_insert(LocalStanding { number, reached, trouble: None });
            standing.reached = standing.reached.min(reached);
            standing.trouble = standing.trouble.take().or_else(|| track.over.clone());
        }
        standings.into_values().collect()
    }

    pub(super) fn drift(&mut self, orders: &Orders, now_ms: u64) -> Vec<Drift> {
        let mut drift = Vec::new();
        for (property, wish) in &orders.wishes {
            let (Some(track), Some(said)) =
                (self.tracks.get_mut(property), self.said.get(property))
            else {
                continue;
            };
            let tolerance = orders.policy_of(property).tolerance;
            let counts = track.is_verified() || track.over.is_some() || !orders.allows_writing();
            if alike(&wish.value, &said.value, tolerance) || !counts {
                continue;
            }
            drift.push(Drift {
                property: Arc::clone(property),
                wished: wish.value.clone(),
                said: said.value.clone(),
                since_ms: *track.drift_since_ms.get_or_insert(now_ms),
            });
        }
        drift
    }
}

/// Wishes above a mark that come back when those in their place are not claimed in time: marks
/// that had passed them would tell of them what never was.
fn coming_back(orders: &Orders, mark: Revision) -> impl Iterator<Item = Revision> {
    let before = orders.wishes.values().filter_map(|wish| wish.before);
    before.filter(move |before| *before > mark && !orders.given_up.contains_key(before))
}
