//! All local writes that are kept, and what they mean for devices. Pure: it neither writes to disk
//! nor looks at a clock.
//!
//! Every change is computed first, as the writes that it touches, so that the keeper can write it
//! down before it takes effect ([`Book::put`]).

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use fleet_protocol::local::{LocalEnd, LocalStage};
use fleet_state::{DeviceId, RequestId, Revision, Value};

use super::LocalRefusal;
use super::write::{Ended, LocalOp, LocalWrite, Part};

/// Local writes with something that is not ended, of those that somebody asked for.
pub(super) const OPEN_MAX: usize = 256;
/// The same, of those that policies asked for: a device has one at most, and each must get it.
pub(super) const CONTROL_LOSS_OPEN_MAX: usize = 1_024;
/// Local writes that are kept, so that `partition report` can show them.
pub(super) const KEPT_MAX: usize = 512;

/// A local write as it is asked for.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft {
    /// The device.
    pub device: DeviceId,
    /// What is commanded.
    pub op: LocalOp,
    /// Values with the wish that is known for each; none for a stop.
    pub values: Vec<(Arc<str>, Value, Revision)>,
    /// Who is said to have asked for it.
    pub actor: Option<Arc<str>>,
    /// Its request id.
    pub request_id: RequestId,
    /// When it came, for display.
    pub wall_ms: u64,
}

/// Parts of local writes that are about to be handed over.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(in crate::device) struct Begin(Vec<(u64, Option<Arc<str>>)>);

/// Whether parts of local writes may be handed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::device) enum Begun {
    /// They begin, and that is on disk.
    Begins,
    /// Some of it is not to be handed over any more: a newer write stands there, or it has begun
    /// before and may begin only once.
    Overtaken,
    /// It can't be written down.
    NotOnDisk,
}

impl Begin {
    /// Values, with the numbers of their writes.
    pub(in crate::device) fn values(parts: impl Iterator<Item = (u64, Arc<str>)>) -> Self {
        Self(parts.map(|(number, property)| (number, Some(property))).collect())
    }

    /// A stop.
    pub(in crate::device) fn stop(number: u64) -> Self {
        Self(vec![(number, None)])
    }

    /// Whether there is nothing.
    pub(in crate::device) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The numbers of the writes, each once.
    pub(in crate::device) fn numbers(&self) -> BTreeSet<u64> {
        self.0.iter().map(|(number, _)| *number).collect()
    }
}

/// What local writes mean for one device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overlay {
    /// Values that hold until they are merged.
    pub wishes: BTreeMap<Arc<str>, LocalWish>,
    /// It was stopped locally: nothing else is handed to it until that is merged.
    pub stopped: bool,
    /// A stop that was not handed over yet.
    pub stop: Option<LocalStop>,
    /// Wishes that a local write stands before: they wait until somebody wishes anew.
    pub stood_down: BTreeMap<Arc<str>, Revision>,
}

/// A value that was written locally.
#[derive(Clone, Debug, PartialEq)]
pub struct LocalWish {
    /// The number of the write.
    pub number: u64,
    /// The value.
    pub value: Value,
    /// The wish that was known when it was written.
    pub known: Revision,
}

/// A stop that is to be handed over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LocalStop {
    /// The number of the write.
    pub number: u64,
    /// The action.
    pub action: Arc<str>,
    /// The request id that goes with it.
    pub request_id: RequestId,
}

/// The local writes that are kept.
#[derive(Clone, Debug, Default)]
pub struct Book {
    writes: BTreeMap<u64, Arc<LocalWrite>>,
    overlays: BTreeMap<DeviceId, Arc<Overlay>>,
    last: u64,
    /// Writes up to this number can be merged: a majority was reached after them.
    returned: u64,
    /// Why nothing can be written locally, or what is missing here.
    pub(super) trouble: Option<Arc<str>>,
}

impl Book {
    /// The book of what was found on disk. A stop that a former process had not handed over is too
    /// old to be handed over now; one that it was about to hand over ended nobody knows how. Both
    /// are given as they stand from now on, to be put.
    pub(super) fn of(writes: Vec<LocalWrite>) -> (Self, Vec<LocalWrite>) {
        let mut book = Self::default();
        book.put(writes);
        let ended = book.writes.values().filter(|write| is_stop(write)).filter_map(|write| {
            let (stage, detail) = match write.stage {
                LocalStage::Local => (LocalStage::Expired, "the agent was restarted before"),
                LocalStage::Dispatching => (LocalStage::Unknown, "the agent was restarted then"),
                LocalStage::Sent
                | LocalStage::Acknowledged
                | LocalStage::Verified
                | LocalStage::Failed
                | LocalStage::Expired
                | LocalStage::Superseded
                | LocalStage::Unknown => return None,
            };
            Some(LocalWrite { stage, detail: Arc::from(detail), ..write.as_ref().clone() })
        });
        let ended = ended.collect();
        (book, ended)
    }

    /// All that are kept, the newest first.
    pub fn newest_first(&self) -> impl Iterator<Item = &Arc<LocalWrite>> {
        self.writes.values().rev()
    }

    /// All that are kept, the oldest first.
    pub(super) fn oldest_first(&self) -> impl Iterator<Item = &Arc<LocalWrite>> {
        self.writes.values()
    }

    /// The writes with something that is not ended.
    pub fn open(&self) -> impl Iterator<Item = &Arc<LocalWrite>> {
        self.writes.values().filter(|write| write.is_open())
    }

    /// The one of this number.
    #[must_use]
    pub fn get(&self, number: u64) -> Option<&Arc<LocalWrite>> {
        self.writes.get(&number)
    }

    /// What it means for a device; `None` when it means nothing.
    #[must_use]
    pub fn overlay(&self, device: &DeviceId) -> Option<&Arc<Overlay>> {
        self.overlays.get(device)
    }

    /// Every device that it means something for.
    pub(crate) fn devices(&self) -> impl Iterator<Item = &DeviceId> {
        self.overlays.keys()
    }

    /// Why nothing can be written locally, or what is missing here.
    #[must_use]
    pub fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// The write that this request asked for.
    #[must_use]
    pub fn of_request(&self, id: &RequestId) -> Option<&Arc<LocalWrite>> {
        self.writes.values().find(|write| write.request_id == *id)
    }

    /// The newest number, and the newest that can be merged.
    pub(super) fn numbers(&self) -> (u64, u64) {
        (self.last, self.returned)
    }

    /// A majority was reached after the writes up to this number.
    pub(super) fn returned(&mut self, number: u64) {
        self.returned = self.returned.max(number);
    }

    /// What of a device can be merged now: its open writes, the oldest first.
    pub(crate) fn to_merge(&self, device: &DeviceId) -> Vec<Arc<LocalWrite>> {
        if !self.overlays.contains_key(device) {
            return Vec::new();
        }
        let due = |write: &&Arc<LocalWrite>| write.device == *device && write.is_open();
        self.writes.range(..=self.returned).map(|(_, write)| write).filter(due).cloned().collect()
    }

    /// The writes that a draft makes: itself, last, and those whose place it takes.
    ///
    /// # Errors
    /// As many are open as may be; or a policy asked for it, and somebody's own word stands there.
    pub(super) fn drafted(&self, draft: Draft) -> Result<Vec<LocalWrite>, LocalRefusal> {
        let of_policy = draft.op == LocalOp::OnControlLoss;
        let draft = if of_policy { self.left_to_policy(draft)? } else { draft };
        let Draft { device, op, values, actor, request_id, wall_ms } = draft;
        let named: BTreeSet<&Arc<str>> = values.iter().map(|(property, ..)| property).collect();
        let is_stop = matches!(op, LocalOp::Stop { .. });
        let mut touched = Vec::new();
        for write in self.open().filter(|write| write.device == device) {
            let mut after = write.as_ref().clone();
            let replaced = |part: &&mut Part| {
                // A stop takes the place of all values; a value takes the place of a stop.
                let same = part.property.as_ref().is_none_or(|property| named.contains(property));
                part.end.is_none() && (is_stop || same)
            };
            for part in after.parts.iter_mut().filter(replaced) {
                part.end = Some(Ended::plain(LocalEnd::Superseded, wall_ms));
            }
            if !after.is_open() && !after.stage.is_final() {
                after.stage = superseded(after.stage);
            }
            if after != **write {
                touched.push(after);
            }
        }
        let same_kind = |write: &LocalWrite| (write.op == LocalOp::OnControlLoss) == of_policy;
        let open_max = if of_policy { CONTROL_LOSS_OPEN_MAX } else { OPEN_MAX };
        let closes = touched.iter().filter(|write| !write.is_open() && same_kind(write)).count();
        let open = self.open().filter(|write| same_kind(write)).count();
        if open.saturating_sub(closes) >= open_max {
            return Err(LocalRefusal::TooMany { open_max });
        }
        let value = |(property, value, known): (Arc<str>, Value, Revision)| Part {
            property: Some(property),
            value: Some(value),
            known,
            end: None,
        };
        let mut parts: Vec<Part> = values.into_iter().map(value).collect();
        if is_stop {
            parts.push(Part { property: None, value: None, known: Revision::NONE, end: None });
        }
        touched.push(LocalWrite {
            number: self.last + 1,
            device,
            op,
            actor,
            request_id,
            wall_ms,
            stage: LocalStage::Local,
            detail: Arc::from(""),
            parts,
        });
        Ok(touched)
    }

    /// What of a policy's values nobody has spoken against: whoever looked before it was asked for
    /// may have missed what came between.
    fn left_to_policy(&self, draft: Draft) -> Result<Draft, LocalRefusal> {
        let Some(overlay) = self.overlay(&draft.device) else { return Ok(draft) };
        let mut draft = draft;
        draft.values.retain(|(property, ..)| !overlay.wishes.contains_key(property));
        if overlay.stopped || draft.values.is_empty() {
            return Err(LocalRefusal::Stands);
        }
        Ok(draft)
    }

    /// The writes that are not begun yet, of parts that begin to be handed over now; `None` when
    /// one of the parts is not to be handed over any more.
    pub(super) fn begins(&self, begin: &Begin) -> Option<Vec<LocalWrite>> {
        let stands = |(number, property): &(u64, Option<Arc<str>>)| {
            let open = |part: &Part| part.property == *property && part.end.is_none();
            let write = self.writes.get(number).filter(|write| write.parts.iter().any(open));
            // A stop begins once; values may be handed over again.
            write.is_some_and(|write| property.is_some() || write.stage == LocalStage::Local)
        };
        if !begin.0.iter().all(stands) {
            return None;
        }
        let waits = |write: &&Arc<LocalWrite>| write.stage == LocalStage::Local;
        let numbers = begin.numbers();
        let writes = numbers.iter().filter_map(|number| self.writes.get(number)).filter(waits);
        let begun = |write: &Arc<LocalWrite>| LocalWrite {
            stage: LocalStage::Dispatching,
            ..write.as_ref().clone()
        };
        Some(writes.map(begun).collect())
    }

    /// A write that got to another stage; `None` when that is no news.
    pub(super) fn reached(
        &self,
        number: u64,
        stage: LocalStage,
        detail: &Arc<str>,
    ) -> Option<LocalWrite> {
        let write = self.writes.get(&number)?;
        let same = write.stage == stage && write.detail == *detail;
        (!same && write.stage != LocalStage::Superseded).then(|| LocalWrite {
            stage,
            detail: Arc::clone(detail),
            ..write.as_ref().clone()
        })
    }

    /// Writes of which parts ended.
    pub(super) fn ended(&self, ends: Vec<(u64, Option<Arc<str>>, Ended)>) -> Vec<LocalWrite> {
        let mut touched: BTreeMap<u64, LocalWrite> = BTreeMap::new();
        for (number, property, ended) in ends {
            let Some(known) = self.writes.get(&number) else { continue };
            let write = touched.entry(number).or_insert_with(|| known.as_ref().clone());
            let open = |part: &&mut Part| part.property == property && part.end.is_none();
            if let Some(part) = write.parts.iter_mut().find(open) {
                part.end = Some(ended);
            }
        }
        touched.into_values().collect()
    }

    /// Takes writes as they stand now, and forgets what is too much.
    pub(super) fn put(&mut self, writes: Vec<LocalWrite>) {
        for write in writes {
            self.last = self.last.max(write.number);
            self.writes.insert(write.number, Arc::new(write));
        }
        while self.writes.len() > KEPT_MAX {
            let oldest = self.writes.values().find(|write| !write.is_open());
            let Some(oldest) = oldest.map(|write| write.number) else { break };
            self.writes.remove(&oldest);
        }
        self.overlays = overlays(self.writes.values());
    }
}

fn is_stop(write: &LocalWrite) -> bool {
    matches!(write.op, LocalOp::Stop { .. })
}

/// A write that is replaced before the device can have had it never happened; otherwise it did.
fn superseded(stage: LocalStage) -> LocalStage {
    if stage == LocalStage::Local { LocalStage::Superseded } else { stage }
}

fn overlays<'a>(
    writes: impl Iterator<Item = &'a Arc<LocalWrite>>,
) -> BTreeMap<DeviceId, Arc<Overlay>> {
    let mut overlays: BTreeMap<DeviceId, Overlay> = BTreeMap::new();
    for write in writes {
        let overlay = overlays.entry(write.device.clone()).or_default();
        for part in &write.parts {
            lay(overlay, write, part);
        }
    }
    let counts = |overlay: &Overlay| *overlay != Overlay::default();
    overlays
        .into_iter()
        .filter(|(_, overlay)| counts(overlay))
        .map(|(device, overlay)| (device, Arc::new(overlay)))
        .collect()
}

/// Adds what one part means; later parts count more.
fn lay(overlay: &mut Overlay, write: &LocalWrite, part: &Part) {
    match (&part.property, &part.value, &part.end) {
        (Some(property), Some(value), None) => {
            overlay.stood_down.remove(property);
            let wish = LocalWish { number: write.number, value: value.clone(), known: part.known };
            overlay.wishes.insert(Arc::clone(property), wish);
        }
        (Some(property), _, Some(ended)) => match (ended.end, ended.revision) {
            (LocalEnd::Kept, Some(revision)) => {
                overlay.stood_down.insert(Arc::clone(property), revision);
            }
            // It changed nothing, so what was kept before stays.
            (LocalEnd::NotWritten | LocalEnd::Superseded, _) => {}
            _ => {
                overlay.stood_down.remove(property);
            }
        },
        (None, _, None) => {
            overlay.stopped = true;
            if let (LocalOp::Stop { action }, LocalStage::Local) = (&write.op, write.stage) {
                overlay.stop = Some(LocalStop {
                    number: write.number,
                    action: Arc::clone(action),
                    request_id: write.request_id.clone(),
                });
            }
        }
        (Some(_), None, None) | (None, _, Some(_)) => {}
    }
}

#[cfg(test)]
mod tests;
