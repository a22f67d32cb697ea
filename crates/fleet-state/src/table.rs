//! One section of the state: an ordered map of shared records, the sum of their hashes, and that of their sizes.
//!
//! The map shares structure between clones, so a clone of the state is a few pointers and a change copies the path
//! to one record.

use std::sync::Arc;

use imbl::OrdMap;

use crate::codec::Writer;
use crate::digest::{Section, Sum};
use crate::ids::{DeviceId, LinkId, NodeId, ParamKey, RequestId, Revision, TokenId};
use crate::record::{Device, Entity, Invocation, Link, Member, Param, Record, Token, Watermarks};
use crate::state::FleetState;

/// A kind of record that the state holds a table of.
pub(crate) trait Stored: Sized {
    /// What it is found by.
    type Key: Ord + Clone;
    /// Where it counts in the digests.
    const SECTION: Section;
    /// Whether its deletion is remembered. What goes with something else, or goes because nobody needs it any more,
    /// would only push out the memory of what somebody deleted.
    const TOMBSTONE: bool;

    fn key(&self) -> &Self::Key;
    fn revision(&self) -> Revision;
    fn write(&self, writer: &mut Writer);
    fn entity(&self) -> Entity;
    fn record(shared: Arc<Self>) -> Record;
    fn table_mut(state: &mut FleetState) -> &mut Table<Self>;
    /// Brings up to date what follows from the records.
    fn follow(state: &mut FleetState, before: Option<&Self>, after: Option<&Self>);
}

/// Records by key, the sum of their hashes, and how many bytes they take as a snapshot writes them.
pub(crate) struct Table<R: Stored> {
    records: OrdMap<R::Key, Arc<R>>,
    sum: Sum,
    size_bytes: u64,
}

impl<R: Stored> Clone for Table<R> {
    fn clone(&self) -> Self {
        Self { records: self.records.clone(), sum: self.sum, size_bytes: self.size_bytes }
    }
}

impl<R: Stored> Default for Table<R> {
    fn default() -> Self {
        Self { records: OrdMap::new(), sum: Sum::default(), size_bytes: 0 }
    }
}

impl<R: Stored> Table<R> {
    pub(crate) fn get(&self, key: &R::Key) -> Option<&Arc<R>> {
        self.records.get(key)
    }

    pub(crate) fn len(&self) -> usize {
        self.records.len()
    }

    pub(crate) fn sum(&self) -> Sum {
        self.sum
    }

    pub(crate) fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = &Arc<R>> {
        self.records.values()
    }

    /// The records after a key, or all.
    pub(crate) fn after(&self, key: Option<&R::Key>) -> impl Iterator<Item = &Arc<R>> {
        use std::ops::Bound::{Excluded, Unbounded};
        let from = key.map_or(Unbounded, Excluded);
        self.records.range::<_, R::Key>((from, Unbounded)).map(|(_, record)| record)
    }

    pub(crate) fn last(&self) -> Option<&Arc<R>> {
        self.records.get_max().map(|(_, record)| record)
    }

    pub(crate) fn insert(&mut self, record: Arc<R>) -> Option<Arc<R>> {
        let mut writer = Writer::with_capacity(256);
        record.write(&mut writer);
        self.sum.add(R::SECTION, writer.as_slice());
        self.size_bytes = self.size_bytes.saturating_add(writer.len() as u64);
        let before = self.records.insert(record.key().clone(), record);
        if let Some(before) = &before {
            writer.clear();
            before.write(&mut writer);
            self.sum.subtract(R::SECTION, writer.as_slice());
            self.size_bytes = self.size_bytes.saturating_sub(writer.len() as u64);
        }
        before
    }

    pub(crate) fn remove(&mut self, key: &R::Key) -> Option<Arc<R>> {
        let before = self.records.remove(key)?;
        let mut writer = Writer::with_capacity(256);
        before.write(&mut writer);
        self.sum.subtract(R::SECTION, writer.as_slice());
        self.size_bytes = self.size_bytes.saturating_sub(writer.len() as u64);
        Some(before)
    }
}

macro_rules! stored {
    ($name:ident, $key:ty, $section:ident, $field:ident, $id:ident, $tombstone:literal, $entity:expr, $follow:expr) => {
        impl Stored for $name {
            type Key = $key;
            const SECTION: Section = Section::$section;
            const TOMBSTONE: bool = $tombstone;

            fn key(&self) -> &$key {
                &self.$id
            }

            fn revision(&self) -> Revision {
                self.revision
            }

            fn write(&self, writer: &mut Writer) {
                self.encode(writer);
            }

            fn entity(&self) -> Entity {
                let entity: fn(&Self) -> Entity = $entity;
                entity(self)
            }

            fn record(shared: Arc<Self>) -> Record {
                Record::$name(shared)
            }

            fn table_mut(state: &mut FleetState) -> &mut Table<Self> {
                &mut state.$field
            }

            fn follow(state: &mut FleetState, before: Option<&Self>, after: Option<&Self>) {
                let follow: fn(&mut FleetState, Option<&Self>, Option<&Self>) = $follow;
                follow(state, before, after);
            }
        }
    };
}

stored!(Link, LinkId, Links, links, id, true, |link| Entity::Link(link.id.clone()), |_, _, _| {});
stored!(
    Device,
    DeviceId,
    Devices,
    devices,
    id,
    true,
    |device| Entity::Device(device.id.clone()),
    |state, before, after| {
        if let Some(device) = after.or(before) {
            state.reckon_wishes_due(&device.id);
        }
    }
);
stored!(
    Param,
    ParamKey,
    Params,
    params,
    key,
    true,
    |param| Entity::Param(param.key.clone()),
    |_, _, _| {}
);
stored!(
    Member,
    NodeId,
    Members,
    members,
    id,
    true,
    |member| Entity::Member(member.id),
    |_, _, _| {}
);
stored!(Token, TokenId, Tokens, tokens, id, true, |token| Entity::Token(token.id), |_, _, _| {});
stored!(
    Watermarks,
    DeviceId,
    Watermarks,
    watermarks,
    device,
    false,
    |watermarks| Entity::Watermarks(watermarks.device.clone()),
    |state, before, after| {
        if let Some(watermarks) = after.or(before) {
            state.reckon_wishes_due(&watermarks.device);
        }
    }
);
stored!(
    Invocation,
    RequestId,
    Invocations,
    invocations,
    id,
    false,
    |invocation| Entity::Invocation {
        device: invocation.device.clone(),
        id: invocation.id.clone()
    },
    |state, before, after| state.follow_invocation(before, after)
);
