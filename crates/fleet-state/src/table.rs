//! One section of the state: an ordered map of shared records, the sum of their hashes, and that of their sizes.
//!
//! The map shares structure between clones, so a clone of the state is a few pointers and a change copies the path
//! to one record.

use std::sync::Arc;

use imbl::OrdMap;

use crate::codec::Writer;
use crate::digest::{Section, Sum};
use crate::ids::{DeviceId, LinkId, NodeId, ParamKey, Revision, TokenId};
use crate::record::{Device, Entity, Link, Member, Param, Record, Token};
use crate::state::FleetState;

/// A kind of record that the state holds a table of.
pub(crate) trait Stored: Sized {
    /// What it is found by.
    type Key: Ord + Clone;
    /// Where it counts in the digests.
    const SECTION: Section;

    fn key(&self) -> &Self::Key;
    fn revision(&self) -> Revision;
    fn write(&self, writer: &mut Writer);
    fn entity(key: &Self::Key) -> Entity;
    fn record(shared: Arc<Self>) -> Record;
    fn table_mut(state: &mut FleetState) -> &mut Table<Self>;
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
    ($name:ident, $key:ty, $section:ident, $field:ident, $id:ident) => {
        impl Stored for $name {
            type Key = $key;
            const SECTION: Section = Section::$section;

            fn key(&self) -> &$key {
                &self.$id
            }

            fn revision(&self) -> Revision {
                self.revision
            }

            fn write(&self, writer: &mut Writer) {
                self.encode(writer);
            }

            fn entity(key: &$key) -> Entity {
                Entity::$name(key.clone())
            }

            fn record(shared: Arc<Self>) -> Record {
                Record::$name(shared)
            }

            fn table_mut(state: &mut FleetState) -> &mut Table<Self> {
                &mut state.$field
            }
        }
    };
}

stored!(Link, LinkId, Links, links, id);
stored!(Device, DeviceId, Devices, devices, id);
stored!(Param, ParamKey, Params, params, key);
stored!(Member, NodeId, Members, members, id);
stored!(Token, TokenId, Tokens, tokens, id);
