//! What becomes of a local value once a majority is reached again. Pure.
//!
//! It is what drift of that property leads to anyway: a local write is a hand on the device.
//! Except that a wish which this gateway did not know of is never replaced by it.

use fleet_device::plan::alike;
use fleet_protocol::local::{LocalEnd, LocalStage};
use fleet_state::{OnDrift, Revision, Wish};

use super::write::{LocalWrite, Part};

/// What a value is merged with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Merging<'a> {
    /// What the site wants of the property now.
    pub wish: Option<&'a Wish>,
    /// What drift leads to.
    pub on_drift: OnDrift,
    /// How far a number may be off.
    pub tolerance: f64,
    /// The device may be written to and follows its policy: mode auto, and no hold.
    pub acts: bool,
}

/// What becomes of a value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    /// This, at once.
    End(LocalEnd),
    /// It is proposed in the place of the wish of this revision; if another one stands there by
    /// then, that one is written.
    Adopt(Revision),
}

/// What becomes of one value of a local write.
#[must_use]
pub(crate) fn fate(write: &LocalWrite, part: &Part, merging: Merging<'_>) -> Fate {
    let was_handed = match write.stage {
        LocalStage::Local | LocalStage::Failed | LocalStage::Expired | LocalStage::Superseded => {
            false
        }
        LocalStage::Dispatching
        | LocalStage::Sent
        | LocalStage::Acknowledged
        | LocalStage::Verified
        | LocalStage::Unknown => true,
    };
    let Some(value) = part.value.as_ref().filter(|_| was_handed) else {
        return Fate::End(LocalEnd::NotWritten);
    };
    let Some(wish) = merging.wish else {
        return Fate::End(LocalEnd::Unmanaged);
    };
    if alike(&wish.value, value, merging.tolerance) {
        return Fate::End(LocalEnd::Agreed);
    }
    match merging.on_drift {
        OnDrift::Enforce if merging.acts => Fate::End(LocalEnd::Overruled),
        OnDrift::Adopt if merging.acts && wish.revision == part.known => Fate::Adopt(part.known),
        OnDrift::Adopt if merging.acts => Fate::End(LocalEnd::Overruled),
        OnDrift::Report | OnDrift::Adopt | OnDrift::Enforce => Fate::End(LocalEnd::Kept),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use fleet_state::Value;

    use super::super::write::LocalOp;
    use super::*;

    const KNOWN: u64 = 5;

    fn written(stage: LocalStage) -> LocalWrite {
        LocalWrite {
            number: 1,
            device: "lamp".parse().unwrap(),
            op: LocalOp::Update,
            actor: None,
            request_id: "r".parse().unwrap(),
            wall_ms: 0,
            stage,
            detail: Arc::from(""),
            parts: vec![Part {
                property: Some(Arc::from("level")),
                value: Some(Value::from(3_i64)),
                known: Revision::new(KNOWN),
                end: None,
            }],
        }
    }

    fn wish(level: i64, revision: u64) -> Wish {
        let (value, revision) = (Value::from(level), Revision::new(revision));
        Wish { value, revision, wished_log_ms: 0, ttl: None }
    }

    fn fate_of(stage: LocalStage, wish: Option<&Wish>, on_drift: OnDrift, acts: bool) -> Fate {
        let write = written(stage);
        fate(&write, &write.parts[0], Merging { wish, on_drift, tolerance: 0.0, acts })
    }

    #[test]
    fn each_policy_decides_for_itself() {
        let (old, new) = (wish(7, KNOWN), wish(7, KNOWN + 1));
        let done = LocalStage::Verified;
        let end = Fate::End;
        for (wish, on_drift, acts, expected) in [
            (&old, OnDrift::Report, true, end(LocalEnd::Kept)),
            (&new, OnDrift::Report, true, end(LocalEnd::Kept)),
            (&old, OnDrift::Enforce, true, end(LocalEnd::Overruled)),
            (&new, OnDrift::Enforce, true, end(LocalEnd::Overruled)),
            (&old, OnDrift::Adopt, true, Fate::Adopt(Revision::new(KNOWN))),
            // Somebody wanted something meanwhile that this gateway did not know of.
            (&new, OnDrift::Adopt, true, end(LocalEnd::Overruled)),
            // In mode manual, or on hold, nothing is done about drift.
            (&old, OnDrift::Enforce, false, end(LocalEnd::Kept)),
            (&old, OnDrift::Adopt, false, end(LocalEnd::Kept)),
        ] {
            assert_eq!(fate_of(done, Some(wish), on_drift, acts), expected, "{on_drift:?} {acts}");
        }
    }

    #[test]
    fn what_is_wanted_anyway_and_what_nobody_wants_need_no_policy() {
        let same = wish(3, KNOWN + 9);
        for on_drift in OnDrift::ALL {
            let fate = fate_of(LocalStage::Sent, Some(&same), on_drift, true);
            assert_eq!(fate, Fate::End(LocalEnd::Agreed));
            let fate = fate_of(LocalStage::Sent, None, on_drift, true);
            assert_eq!(fate, Fate::End(LocalEnd::Unmanaged));
        }
    }

    #[test]
    fn what_never_got_to_the_device_changes_nothing_and_what_may_have_counts() {
        let other = wish(7, KNOWN);
        for stage in [LocalStage::Local, LocalStage::Failed, LocalStage::Expired] {
            let fate = fate_of(stage, Some(&other), OnDrift::Adopt, true);
            assert_eq!(fate, Fate::End(LocalEnd::NotWritten));
        }
        let fate = fate_of(LocalStage::Unknown, Some(&other), OnDrift::Report, true);
        assert_eq!(fate, Fate::End(LocalEnd::Kept));
    }
}
