//! What changed when: the newest revision of every record, and a bounded memory of deletions.
//!
//! It answers "what changed since revision r" without a history: each living record stands once, at its newest
//! revision, and each deleted one once, as a tombstone. When more is deleted than is remembered, the oldest
//! tombstones go and the **floor** rises: a reader from below it might miss a deletion and has to start over.
//!
//! The part about living records follows from the records themselves and is rebuilt when a snapshot is read.

use imbl::{OrdMap, OrdSet};

use crate::codec::Writer;
use crate::digest::{Section, Sum};
use crate::ids::Revision;
use crate::limits::TOMBSTONES_MAX;
use crate::record::Entity;

type Stamp = (Revision, Entity);

#[derive(Clone, Default)]
pub(crate) struct Index {
    live: OrdSet<Stamp>,
    dead: OrdMap<Entity, Revision>,
    dead_by_revision: OrdSet<Stamp>,
    floor: Revision,
    sum: Sum,
}

fn tombstone_bytes(entity: &Entity, revision: Revision) -> Writer {
    let mut writer = Writer::with_capacity(64);
    entity.encode(&mut writer);
    writer.revision(revision);
    writer
}

impl Index {
    pub(crate) fn floor(&self) -> Revision {
        self.floor
    }

    pub(crate) fn set_floor(&mut self, floor: Revision) {
        self.floor = floor;
    }

    pub(crate) fn sum(&self) -> Sum {
        self.sum
    }

    pub(crate) fn tombstones_len(&self) -> usize {
        self.dead.len()
    }

    /// Tombstones in the order of their entities.
    pub(crate) fn tombstones(&self) -> impl Iterator<Item = (&Entity, Revision)> {
        self.dead.iter().map(|(entity, revision)| (entity, *revision))
    }

    /// A record came to be, or moved to a newer revision.
    pub(crate) fn changed(&mut self, entity: Entity, before: Option<Revision>, now: Revision) {
        let entity = match before {
            Some(before) => {
                let stamp = (before, entity);
                self.live.remove(&stamp);
                stamp.1
            }
            None => {
                self.forget(&entity);
                entity
            }
        };
        self.live.insert((now, entity));
    }

    /// A record went, and nobody needs to remember it.
    pub(crate) fn gone(&mut self, entity: Entity, before: Revision) {
        self.live.remove(&(before, entity));
    }

    /// A record was deleted.
    pub(crate) fn deleted(&mut self, entity: Entity, before: Revision, now: Revision) {
        let stamp = (before, entity);
        self.live.remove(&stamp);
        self.bury(stamp.1, now);
        if self.dead.len() > TOMBSTONES_MAX
            && let Some((revision, entity)) = self.dead_by_revision.get_min().cloned()
        {
            self.forget(&entity);
            self.floor = self.floor.max(revision);
        }
    }

    /// Adds a tombstone.
    pub(crate) fn bury(&mut self, entity: Entity, now: Revision) {
        self.forget(&entity);
        self.sum.add(Section::Tombstones, tombstone_bytes(&entity, now).as_slice());
        self.dead.insert(entity.clone(), now);
        self.dead_by_revision.insert((now, entity));
    }

    fn forget(&mut self, entity: &Entity) {
        if let Some(revision) = self.dead.remove(entity) {
            self.sum.subtract(Section::Tombstones, tombstone_bytes(entity, revision).as_slice());
            self.dead_by_revision.remove(&(revision, entity.clone()));
        }
    }

    /// Everything newer than a revision, by revision: the entity, and whether it lives.
    pub(crate) fn since(
        &self,
        revision: Revision,
    ) -> impl Iterator<Item = (Revision, &Entity, bool)> {
        let from = (Revision::new(revision.get().saturating_add(1)), Entity::lowest());
        let mut live = self.live.range(from.clone()..).peekable();
        let mut dead = self.dead_by_revision.range(from..).peekable();
        std::iter::from_fn(move || {
            let live_first = match (live.peek(), dead.peek()) {
                (Some(live), Some(dead)) => live < dead,
                (live, _) => live.is_some(),
            };
            let stamp = if live_first { live.next() } else { dead.next() };
            stamp.map(|(revision, entity)| (*revision, entity, live_first))
        })
    }
}
