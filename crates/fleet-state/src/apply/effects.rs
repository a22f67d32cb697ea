//! Changing records: in their table, in the index, and in the list of changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::ids::{RequestId, Revision};
use crate::outcome::{RejectCode, Rejection};
use crate::record::{Change, Entity};
use crate::state::FleetState;
use crate::table::Stored;

/// Whose command is being carried out.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) request_id: RequestId,
    pub(crate) actor: Option<Arc<str>>,
}

/// The entry that is being applied, and what it changed so far.
#[derive(Debug)]
pub(crate) struct Effects {
    revision: Revision,
    wall_time_ms: u64,
    asked: Option<Asked>,
    changes: Vec<Change>,
}

impl Effects {
    pub(crate) fn new(revision: Revision, wall_time_ms: u64) -> Self {
        Self { revision, wall_time_ms, asked: None, changes: Vec::new() }
    }

    /// Notes whose command is being carried out.
    pub(crate) fn on_behalf_of(&mut self, asked: Asked) {
        self.asked = Some(asked);
    }

    /// The request that is being carried out.
    pub(crate) fn request_id(&self) -> Option<&RequestId> {
        self.asked.as_ref().map(|asked| &asked.request_id)
    }

    /// Who is said to have asked for it.
    pub(crate) fn actor(&self) -> Option<Arc<str>> {
        self.asked.as_ref().and_then(|asked| asked.actor.clone())
    }

    pub(crate) fn revision(&self) -> Revision {
        self.revision
    }

    pub(crate) fn wall_time_ms(&self) -> u64 {
        self.wall_time_ms
    }

    /// How much is in it, to come back to with [`Self::rewind`].
    pub(crate) fn mark(&self) -> usize {
        self.changes.len()
    }

    /// Forgets what came after the mark.
    pub(crate) fn rewind(&mut self, mark: usize) {
        self.changes.truncate(mark);
    }

    /// The changes, each entity once: as it was before the entry and as it is after.
    pub(crate) fn into_changes(self) -> Vec<Change> {
        if self.changes.len() < 2 {
            return self.changes;
        }
        let mut merged: Vec<Change> = Vec::with_capacity(self.changes.len());
        let mut places: BTreeMap<Entity, usize> = BTreeMap::new();
        for change in self.changes {
            let place = places.get(&change.entity).copied();
            match place.and_then(|place| merged.get_mut(place)) {
                Some(first) => first.record = change.record,
                None => {
                    places.insert(change.entity.clone(), merged.len());
                    merged.push(change);
                }
            }
        }
        merged
    }
}

impl FleetState {
    /// Puts a record that carries the revision of the entry.
    pub(crate) fn put<R: Stored>(&mut self, record: R, effects: &mut Effects) {
        let record = Arc::new(record);
        let entity = record.entity();
        let now = record.revision();
        let before = R::table_mut(self).insert(record.clone());
        R::follow(self, before.as_deref(), Some(&record));
        let previous = before.map(|before| before.revision());
        self.index.changed(entity.clone(), previous, now);
        effects.changes.push(Change { entity, previous, record: Some(R::record(record)) });
    }

    /// Deletes a record, and gives it back.
    pub(crate) fn delete<R: Stored>(
        &mut self,
        key: &R::Key,
        effects: &mut Effects,
    ) -> Option<Arc<R>> {
        let before = R::table_mut(self).remove(key)?;
        R::follow(self, Some(&before), None);
        let entity = before.entity();
        if R::TOMBSTONE {
            self.index.deleted(entity.clone(), before.revision(), effects.revision);
        } else {
            self.index.gone(entity.clone(), before.revision());
        }
        effects.changes.push(Change { entity, previous: Some(before.revision()), record: None });
        Some(before)
    }
}

/// Compares the revision of an entity with the one that a precondition names.
pub(crate) fn compare_revision(
    entity: &dyn std::fmt::Display,
    current: Option<Revision>,
    expected: Option<Revision>,
) -> Result<(), Rejection> {
    let Some(expected) = expected else {
        return Ok(());
    };
    let message = match current {
        Some(current) if current == expected => return Ok(()),
        None if expected == Revision::NONE => return Ok(()),
        Some(current) if expected == Revision::NONE => {
            format!(
                "{entity} exists, at revision {current}, and the command wants it not to exist; leave the condition out or name that revision"
            )
        }
        Some(current) => format!(
            "{entity} is at revision {current} and the command expects {expected}; read it again and decide anew"
        ),
        None => {
            format!("{entity} does not exist and the command expects it at revision {expected}")
        }
    };
    Err(Rejection::new(RejectCode::RevisionMismatch, message))
}

/// The rejection of a command for an entity that is not there.
pub(crate) fn not_found(entity: &dyn std::fmt::Display) -> Rejection {
    Rejection::new(RejectCode::NotFound, format!("{entity} does not exist"))
}

/// The rejection of a command for which there is no room.
pub(crate) fn limit_reached(what: &str, limit: usize) -> Rejection {
    let message =
        format!("the site holds {limit} {what} already, which is the limit; delete some first");
    Rejection::new(RejectCode::LimitReached, message)
}
