//! What is to be done with one property.

use fleet_state::Value;

use super::TroubleCode;
use super::alike::alike;
use super::orders::{Age, Mode, OnDrift, OnReturn, PropertyPolicy, Ttl, Wish};
use super::track::{HandOver, Said, Track, pause_ms};

/// Hand-overs of a wish that the device doesn't show.
pub(super) const HAND_OVERS_MAX: u32 = 3;
/// Hand-overs of a wish that is enforced, before it is verified and, again, after.
pub(super) const ENFORCEMENTS_MAX: u32 = 5;
/// What was said within this time before a wish is what the device still is.
pub(super) const FRESH_MS: u64 = 5_000;

/// What is to be done with one property.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Verdict {
    /// It is as wished, or nothing more is done about it.
    Rest,
    /// Nothing before this moment, unless the device says something.
    Wait { until_ms: u64 },
    /// Nothing is handed over before this moment, and what the device says decides: it may be
    /// asked meanwhile.
    Settle { until_ms: u64 },
    /// Ask the device.
    Ask,
    /// It has to be claimed in the log first.
    Claim,
    /// Hand it over; not after this moment.
    Write { until_ms: Option<u64> },
    /// What the device says becomes the wish.
    Adopt(Value),
}

/// What a verdict is given on.
pub(super) struct Case<'a> {
    pub wish: &'a Wish,
    pub said: Option<&'a Said>,
    pub policy: PropertyPolicy,
    pub mode: Mode,
    pub on_return: OnReturn,
    /// Whether the device can be asked for it.
    pub can_ask: bool,
    /// Whether it sleeps, and answers no question before it wakes.
    pub sleeps: bool,
    /// When it last answered.
    pub answered_ms: Option<u64>,
    /// When something last ended that may have changed it.
    pub acted_ms: Option<u64>,
    /// When this session began to listen.
    pub began_ms: u64,
    pub now_ms: u64,
}

impl Case<'_> {
    /// Gives the verdict, and notes in the track what it is based on.
    pub(super) fn verdict(&self, track: &mut Track) -> Verdict {
        if track.write_only {
            return self.unheard(track);
        }
        let proof = self.proof(track);
        let as_wished =
            proof.map(|said| alike(&self.wish.value, &said.value, self.policy.tolerance));
        if track.is_verified() {
            return match as_wished {
                Some(true) => {
                    track.verify(self.now_ms);
                    Verdict::Rest
                }
                Some(false) => self.drifted(track),
                None => self.enforced(track),
            };
        }
        // After the hand-over of an earlier wish, what is heard may have waited in a queue since
        // before it: the device is asked.
        let overtook = track.doubtful && track.proof_from_ms > 0;
        // One that sleeps answers when it wakes, and then hears what is kept for it as well.
        let answers = self.can_ask && !self.sleeps;
        let asked = overtook && answers && track.over.is_none();
        let lasts = self.still_holds(track) && !self.is_unsettled(track);
        if as_wished == Some(true) && lasts && !asked {
            track.verify(self.now_ms);
            return Verdict::Rest;
        }
        if track.over.is_some() {
            return Verdict::Rest;
        }
        if self.now_ms < track.next_ms {
            return Verdict::Wait { until_ms: track.next_ms };
        }
        if track.doubtful && answers {
            return Verdict::Ask;
        }
        match track.handed {
            Some(_) => self.handed_over(track, as_wished),
            None if as_wished == Some(true) && self.can_ask && !self.is_unsettled(track) => {
                Verdict::Ask
            }
            None => self.hand_over(track),
        }
    }

    /// What the device said and what counts: after the last hand-over, if there was one.
    fn proof(&self, track: &Track) -> Option<&Said> {
        let said = self.said.filter(|said| said.is_proof())?;
        let since_ms = track.handed.map_or(self.began_ms, |handed| handed.began_ms);
        let since_ms = since_ms.max(track.proof_from_ms);
        (said.at_ms >= since_ms).then_some(said)
    }

    /// It is handed over once in a session, and nothing more is ever known of it.
    fn unheard(&self, track: &mut Track) -> Verdict {
        if track.is_verified() || track.over.is_some() || track.handed.is_some() {
            Verdict::Rest
        } else if self.now_ms < track.next_ms {
            Verdict::Wait { until_ms: track.next_ms }
        } else {
            self.hand_over(track)
        }
    }

    /// The device has never spoken of this property, and didn't when it answered after the
    /// hand-over either. One that it left out once may only be missing for now.
    fn is_unspoken(&self, handed: HandOver) -> bool {
        self.answered_ms.is_some_and(|at_ms| at_ms > handed.ended_ms)
            && !self.said.is_some_and(Said::is_proof)
    }

    /// A value that was said before the wish may have changed without a word, and one that was
    /// said before the end of something that was handed over may have been changed by that.
    fn still_holds(&self, track: &Track) -> bool {
        let Some(said) = self.said else { return false };
        let fresh = self.now_ms.saturating_sub(said.at_ms) <= FRESH_MS;
        let since = self.acted_ms.is_none_or(|acted_ms| said.at_ms > acted_ms);
        track.handed.is_some() || (since && (said.at_ms >= track.met_ms || fresh))
    }

    /// An earlier wish was handed over and the device may still be taking that on, whatever it
    /// shows now: this one is handed over after it.
    fn is_unsettled(&self, track: &Track) -> bool {
        let settled_ms = track.proof_from_ms.saturating_add(self.policy.settle_ms);
        track.handed.is_none() && track.proof_from_ms > 0 && self.now_ms < settled_ms
    }

    /// Whether the device has said nothing since that moment.
    fn was_said_by(&self, moment_ms: u64) -> bool {
        self.said.is_some_and(|said| said.at_ms <= moment_ms)
    }

    /// It was handed over in this session and isn't verified.
    fn handed_over(&self, track: &mut Track, as_wished: Option<bool>) -> Verdict {
        let Some(handed) = track.handed else { return Verdict::Rest };
        let settled_ms = handed.ended_ms.saturating_add(self.policy.settle_ms);
        if self.now_ms < settled_ms {
            return Verdict::Settle { until_ms: settled_ms };
        }
        match as_wished {
            // The hand-over may have got lost. That nothing is said of it proves nothing.
            None if self.can_ask && self.is_unspoken(handed) => {
                if track.tries < self.hand_overs_max() {
                    self.hand_over(track)
                } else {
                    Verdict::Rest
                }
            }
            // Nothing was said since. Who can't be asked may speak later.
            None if self.can_ask => Verdict::Ask,
            None => Verdict::Rest,
            // What was heard before the hand-over had ended may have been said before it began,
            // and waited in a queue: it can confirm, and it is no reason to write again.
            Some(_) if self.can_ask && self.was_said_by(handed.ended_ms) => Verdict::Ask,
            Some(_) if track.tries >= self.hand_overs_max() => {
                let message =
                    format!("the device shows something else after {} hand-overs", track.tries);
                track.give_up(TroubleCode::NotVerified, message);
                track.drift_since_ms.get_or_insert(self.now_ms);
                Verdict::Rest
            }
            Some(_) => self.hand_over(track),
        }
    }

    fn hand_overs_max(&self) -> u32 {
        let enforced = self.mode == Mode::Auto && self.policy.on_drift == OnDrift::Enforce;
        if enforced { ENFORCEMENTS_MAX } else { HAND_OVERS_MAX }
    }

    /// It is handed over, if it may be.
    fn hand_over(&self, track: &mut Track) -> Verdict {
        if track.waited
            && let Some(verdict) = self.kept_back(track)
        {
            return verdict;
        }
        match self.wish.ttl {
            Ttl::Unlimited => Verdict::Write { until_ms: None },
            Ttl::Unclaimed => Verdict::Claim,
            Ttl::Claimed { until_ms } if self.now_ms < until_ms => {
                Verdict::Write { until_ms: Some(until_ms) }
            }
            Ttl::Claimed { .. } | Ttl::ClaimedElsewhere if track.tries == 0 && track.has_left() => {
                self.sent_before(track)
            }
            Ttl::Claimed { .. } if track.tries > 0 => {
                let message = "its time ended before the device showed it";
                track.give_up(TroubleCode::NotVerified, message);
                Verdict::Rest
            }
            Ttl::Claimed { .. } | Ttl::ClaimedElsewhere => {
                let message = "it was claimed for a hand-over that nobody knows the end of, and its time may be over";
                track.give_up(TroubleCode::Unknown, message);
                Verdict::Rest
            }
        }
    }

    /// It was handed over in time, by an earlier session or owner, and its time is over: what the
    /// device says decides, and until it speaks nothing is known but that.
    fn sent_before(&self, track: &mut Track) -> Verdict {
        if track.write_only || !self.said.is_some_and(Said::is_proof) {
            return Verdict::Rest;
        }
        let settled_ms = self.began_ms.saturating_add(self.policy.settle_ms);
        if self.now_ms < settled_ms {
            return Verdict::Settle { until_ms: settled_ms };
        }
        let message = "its time ended before the device showed it";
        track.give_up(TroubleCode::NotVerified, message);
        Verdict::Rest
    }

    /// Why a wish that waited for its device is not handed over now that it is back.
    fn kept_back(&self, track: &mut Track) -> Option<Verdict> {
        let (code, message) = match self.on_return {
            OnReturn::Apply { age_ms_max } => match self.age_ms(track) {
                // An answer of the log tells how late it is at most.
                Ok(None) => return Some(Verdict::Claim),
                Ok(Some(age_ms)) if age_ms <= age_ms_max => return None,
                // What the log said before this wish was heard of tells the age of its answer.
                Ok(Some(_)) if self.was_asked_before(track) => return Some(Verdict::Claim),
                Ok(Some(age_ms)) => {
                    let message = format!(
                        "the device was away, and is back up to {age_ms} ms after it was wished, which is more than {age_ms_max}; wish it again if it still holds"
                    );
                    (TroubleCode::Discarded, message)
                }
                Err(()) => {
                    let message = "the device was away, and nobody knows for how long; wish it again if it still holds";
                    (TroubleCode::Discarded, message.to_owned())
                }
            },
            OnReturn::Discard => {
                let message =
                    "the device was away when it was wished; wish it again if it still holds";
                (TroubleCode::Discarded, message.to_owned())
            }
            OnReturn::Hold => {
                let message =
                    "the device was away when it was wished; it waits until it is wished again";
                (TroubleCode::HeldOnReturn, message.to_owned())
            }
        };
        track.give_up(code, message);
        Some(Verdict::Rest)
    }

    fn was_asked_before(&self, track: &Track) -> bool {
        let asked_ms = match self.wish.age {
            Age::AtMost { at_ms, .. } if self.wish.local.is_none() => Some(at_ms),
            Age::AtMost { .. } | Age::Unasked | Age::Unknown => None,
        };
        asked_ms.is_some_and(|asked_ms| asked_ms < track.met_ms)
    }

    /// How old the wish is at most; nothing while the log has not been asked.
    fn age_ms(&self, track: &Track) -> Result<Option<u64>, ()> {
        match self.wish.age {
            // Local writes are no older than their gateway's session; the log knows nothing of them.
            _ if self.wish.local.is_some() && track.old => Err(()),
            _ if self.wish.local.is_some() => Ok(Some(self.now_ms.saturating_sub(track.met_ms))),
            Age::Unasked => Ok(None),
            Age::Unknown => Err(()),
            Age::AtMost { age_ms, at_ms } => {
                Ok(Some(age_ms.saturating_add(self.now_ms.saturating_sub(at_ms))))
            }
        }
    }

    /// It was verified, and since the last hand-over the device has said nothing.
    fn enforced(&self, track: &Track) -> Verdict {
        match (track.handed, track.drift_since_ms) {
            (Some(handed), Some(_)) if track.over.is_none() => {
                let settled_ms = handed.ended_ms.saturating_add(self.policy.settle_ms);
                if self.now_ms < settled_ms {
                    return Verdict::Settle { until_ms: settled_ms };
                }
                if self.can_ask { Verdict::Ask } else { Verdict::Rest }
            }
            _ => Verdict::Rest,
        }
    }

    /// What was in the device in time is enforced for ever. Of what the marks alone call verified
    /// that is not known: marks pass over a wish that was given up, and an earlier owner may have
    /// given this one up because nobody knew whether its time was over.
    fn enforce(&self, track: &mut Track) -> Verdict {
        if !track.by_marks {
            return Verdict::Write { until_ms: None };
        }
        match self.wish.ttl {
            Ttl::Unlimited => Verdict::Write { until_ms: None },
            Ttl::Unclaimed => Verdict::Claim,
            Ttl::Claimed { until_ms } if self.now_ms < until_ms => {
                Verdict::Write { until_ms: Some(until_ms) }
            }
            Ttl::Claimed { .. } | Ttl::ClaimedElsewhere => {
                let message = "it is different, and whether it was handed over before its time ended is not known";
                track.give_up(TroubleCode::Unknown, message);
                Verdict::Rest
            }
        }
    }

    /// It was verified and is different now.
    fn drifted(&self, track: &mut Track) -> Verdict {
        let since_ms = track.drifted(self.now_ms);
        let shown = self.said.map(|said| &said.value);
        if track.not_adopted.is_some() && track.not_adopted.as_ref() != shown {
            // Another value may be taken.
            track.not_adopted = None;
            track.over = None;
        }
        if track.over.is_some() {
            return Verdict::Rest;
        }
        let again_ms = track.handed.map_or(0, |handed| {
            let settled_ms = handed.ended_ms.saturating_add(self.policy.settle_ms);
            settled_ms.saturating_add(pause_ms(track.tries))
        });
        let ready_ms =
            since_ms.saturating_add(self.policy.settle_ms).max(track.next_ms).max(again_ms);
        let acts = self.mode == Mode::Auto && self.policy.on_drift != OnDrift::Report;
        if acts && self.now_ms < ready_ms {
            return Verdict::Wait { until_ms: ready_ms };
        }
        match self.policy.on_drift {
            // A local write is merged before anything that the device says instead of it.
            OnDrift::Adopt if acts && self.wish.local.is_none() => {
                self.said.map_or(Verdict::Rest, |said| Verdict::Adopt(said.value.clone()))
            }
            OnDrift::Enforce if acts && track.tries >= ENFORCEMENTS_MAX => {
                let message =
                    format!("the device shows something else after {} enforcements", track.tries);
                track.give_up(TroubleCode::NotEnforced, message);
                Verdict::Rest
            }
            OnDrift::Enforce if acts => self.enforce(track),
            OnDrift::Report | OnDrift::Adopt | OnDrift::Enforce => Verdict::Rest,
        }
    }
}
