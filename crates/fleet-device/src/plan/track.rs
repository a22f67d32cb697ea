//! How far one property got toward one wish, and what the device said of it.

use fleet_state::{Revision, Stage as Told, Value};

use super::{GivenUp, Orders, Trouble, TroubleCode, Wish};
use crate::{Access, Handed, Quality};

/// Pause before something is tried again, for the first time; it doubles.
pub(super) const RETRY_MS_FIRST: u64 = 250;
/// The longest such pause.
pub(super) const RETRY_MS_MAX: u64 = 60_000;

/// What was enforced counts as at peace when the device stayed as wished for so long: the next
/// difference is a new one, and no more of the same fight.
const PEACE_MS: u64 = 60_000;

/// The pause before the next try after `tries`.
pub(super) fn pause_ms(tries: u32) -> u64 {
    pause_within(tries, RETRY_MS_MAX)
}

/// The same, with another bound.
pub(super) fn pause_within(tries: u32, pause_ms_max: u64) -> u64 {
    RETRY_MS_FIRST.saturating_mul(1 << tries.saturating_sub(1).min(16)).min(pause_ms_max)
}

/// What the device said of a property last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Said {
    pub value: Value,
    /// When it was heard.
    pub at_ms: u64,
    pub quality: Quality,
    /// Somebody kept it.
    pub retained: bool,
}

impl Said {
    /// Whether it proves anything.
    pub(super) fn is_proof(&self) -> bool {
        self.quality == Quality::Good && !self.retained
    }
}

/// Something that was handed over in this session.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct HandOver {
    pub how: Handed,
    /// When the first byte may have left.
    pub began_ms: u64,
    /// When it was done.
    pub ended_ms: u64,
}

/// The way of one property toward one wish.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Track {
    /// The wish.
    pub revision: Revision,
    /// The local write that it is, when it is one.
    pub local: Option<u64>,
    /// When this owner met it.
    pub met_ms: u64,
    /// It was there already when this session began, so nobody here knows how old it is.
    pub old: bool,
    /// Nobody hears what becomes of it.
    pub write_only: bool,
    /// What was said before this moment may have been changed by a hand-over of an earlier wish.
    pub proof_from_ms: u64,
    /// It was as wished once in this session.
    pub seen: bool,
    /// The furthest stage.
    pub stage: Stage,
    /// That it is verified stands in the marks of the log alone, which pass over what was given
    /// up: the device has not shown it in this session.
    pub by_marks: bool,
    /// The last hand-over in this session.
    pub handed: Option<HandOver>,
    /// Hand-overs and failures since it first was as wished, and since it last stayed so.
    pub tries: u32,
    /// Since when it has been as wished.
    pub as_wished_since_ms: Option<u64>,
    /// Not before this moment.
    pub next_ms: u64,
    /// A hand-over of it with others failed: it is handed over by itself.
    pub alone: bool,
    /// It may have been handed over without anybody knowing: read before the next try.
    pub doubtful: bool,
    /// Since when a verified property is different.
    pub drift_since_ms: Option<u64>,
    /// It is not tried any more.
    pub over: Option<(TroubleCode, String)>,
    /// The value that was to become the wish and was refused.
    pub not_adopted: Option<Value>,
    /// It waited while the device was away.
    pub waited: bool,
}

/// The stages of a wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Stage {
    Committed,
    Sent,
    Acknowledged,
    Verified,
}

impl Stage {
    /// As the log says it.
    pub(super) fn told(self) -> Told {
        match self {
            Self::Committed => Told::Committed,
            Self::Sent => Told::Sent,
            Self::Acknowledged => Told::Acknowledged,
            Self::Verified => Told::Verified,
        }
    }

    /// As far as a wish got that the log says this of.
    fn of(told: Told) -> Self {
        match told {
            Told::Sent => Self::Sent,
            Told::Acknowledged => Self::Acknowledged,
            Told::Verified => Self::Verified,
            Told::Committed
            | Told::Dispatching
            | Told::Failed
            | Told::Expired
            | Told::Cancelled
            | Told::Superseded
            | Told::Unknown => Self::Committed,
        }
    }
}

impl Track {
    /// A wish met now; how far it got under earlier owners stands in the orders.
    pub(super) fn new(property: &str, wish: &Wish, orders: &Orders, now_ms: u64) -> Self {
        let (revision, marks) = (wish.revision, orders.marks);
        let write_only = orders.profile.access(property) == Some(Access::WriteOnly);
        // That one property of a command can't be known says nothing of the others.
        let given_up = orders.given_up.get(&revision).filter(|given_up| {
            wish.local.is_none() && (write_only || given_up.code != TroubleCode::WriteOnly)
        });
        let stage = if wish.local.is_some() {
            Stage::Committed
        } else if let Some(given_up) = given_up {
            // The marks pass over it.
            Stage::of(given_up.stage)
        } else if revision <= marks.verified {
            Stage::Verified
        } else if revision <= marks.acknowledged {
            Stage::Acknowledged
        } else if revision <= marks.sent {
            Stage::Sent
        } else {
            Stage::Committed
        };
        let mut track = Self {
            revision,
            local: wish.local,
            met_ms: now_ms,
            old: false,
            write_only,
            proof_from_ms: 0,
            seen: false,
            stage,
            by_marks: stage == Stage::Verified,
            handed: None,
            tries: 0,
            as_wished_since_ms: None,
            next_ms: 0,
            alone: false,
            doubtful: false,
            drift_since_ms: None,
            over: None,
            not_adopted: None,
            waited: false,
        };
        if !track.is_verified() && wish.local.is_none() {
            track.take_decisions(property, orders, given_up);
        }
        track
    }

    /// What was decided about it before.
    fn take_decisions(&mut self, property: &str, orders: &Orders, given_up: Option<&GivenUp>) {
        if orders.stood_down.get(property) == Some(&self.revision) {
            let message = "a local write stands before it; wish it again if it still holds";
            self.give_up(TroubleCode::LocalStands, message);
        } else if let Some(given_up) = given_up.filter(|given_up| given_up.code.is_decision()) {
            self.give_up(given_up.code, given_up.message.as_ref());
        }
    }

    /// Whether it is the track of this wish.
    pub(super) fn is_of(&self, wish: &Wish) -> bool {
        match (self.local, wish.local) {
            (None, None) => self.revision == wish.revision,
            (known, local) => known == local,
        }
    }

    /// The wish that it is the track of: its revision, and the local write that it is.
    pub(super) fn wish(&self) -> (Revision, Option<u64>) {
        (self.revision, self.local)
    }

    pub(super) fn is_verified(&self) -> bool {
        self.stage == Stage::Verified
    }

    /// The device has said that it is so.
    pub(super) fn verify(&mut self, now_ms: u64) {
        if !self.is_verified() {
            self.tries = 0;
        }
        self.as_wished_since_ms.get_or_insert(now_ms);
        self.stage = Stage::Verified;
        self.by_marks = false;
        self.seen = true;
        self.next_ms = 0;
        self.doubtful = false;
        self.drift_since_ms = None;
        self.over = None;
        self.not_adopted = None;
        self.waited = false;
    }

    /// It was verified and is different now; gives back since when.
    pub(super) fn drifted(&mut self, now_ms: u64) -> u64 {
        let since_ms = self.as_wished_since_ms.take();
        if since_ms.is_some_and(|since_ms| now_ms.saturating_sub(since_ms) >= PEACE_MS) {
            self.tries = 0;
        }
        *self.drift_since_ms.get_or_insert(now_ms)
    }

    pub(super) fn handed_over(&mut self, hand_over: HandOver) {
        let stage = match hand_over.how {
            Handed::Sent => Stage::Sent,
            Handed::Acknowledged => Stage::Acknowledged,
        };
        self.stage = self.stage.max(stage);
        self.handed = Some(hand_over);
        self.tries = self.tries.saturating_add(1);
        self.doubtful = false;
    }

    pub(super) fn failed(&mut self, may_have_acted: bool, now_ms: u64) {
        self.tries = self.tries.saturating_add(1);
        self.next_ms = now_ms.saturating_add(pause_ms(self.tries));
        self.doubtful |= may_have_acted;
    }

    /// A hand-over of an earlier wish has ended, or isn't waited for any more: what it left is to
    /// be heard from the device.
    pub(super) fn overtaken(&mut self, now_ms: u64) {
        self.proof_from_ms = now_ms;
        self.doubtful = true;
    }

    /// The hand-over that was under way when this wish came was its own: another one had stood in its
    /// place meanwhile, and is over.
    pub(super) fn came_back_to(&mut self) {
        if self.proof_from_ms == u64::MAX {
            self.proof_from_ms = 0;
        }
    }

    /// Whether something of it may be in the device that the device has not spoken of since.
    pub(super) fn is_unheard_of(&self, said: Option<&Said>) -> bool {
        let spoke_since = |handed: HandOver| {
            said.is_some_and(|said| said.is_proof() && said.at_ms > handed.ended_ms)
        };
        let handed = self.handed.is_some_and(|handed| !self.is_verified() || !spoke_since(handed));
        handed || self.doubtful
    }

    /// Whether it is known that it was handed over.
    pub(super) fn has_left(&self) -> bool {
        self.stage >= Stage::Sent
    }

    /// Whether it was handed over and nothing more can be known.
    pub(super) fn is_beyond_knowledge(&self) -> bool {
        self.write_only && matches!(self.stage, Stage::Sent | Stage::Acknowledged)
    }

    /// What keeps it, when it is what later marks may pass over.
    pub(super) fn failure(&self) -> Option<Trouble> {
        let revision = self.revision;
        if let Some((code, message)) = self.over.clone() {
            let stage = match code {
                _ if self.is_verified() => Told::Verified,
                TroubleCode::Unknown => Told::Unknown,
                TroubleCode::Refused
                | TroubleCode::NotVerified
                | TroubleCode::NotEnforced
                | TroubleCode::Discarded
                | TroubleCode::HeldOnReturn
                | TroubleCode::LocalStands
                | TroubleCode::NotAdopted
                | TroubleCode::WriteOnly
                | TroubleCode::Unreachable => Told::Failed,
            };
            return Some(Trouble { code, message, revision, stage });
        }
        let stage = self.stage.told();
        let message = "nobody hears what becomes of it".to_owned();
        let code = TroubleCode::WriteOnly;
        self.is_beyond_knowledge().then_some(Trouble { code, message, revision, stage })
    }

    pub(super) fn give_up(&mut self, code: TroubleCode, message: impl Into<String>) {
        self.over = Some((code, message.into()));
    }
}
