//! Which questions read a set of registers.
//!
//! A question costs a round trip, whatever it asks for, so neighbours are read together: up to
//! the group's `block_max`, and over gaps of up to `gap_max` that nobody needs. Registers are
//! never split over two questions: half a number from before a change and half from after it is
//! a third number.

use std::sync::Arc;

use super::map::Group;
use super::register::{Place, Register, Table};

/// One question: a run of addresses, and the registers in it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Block {
    /// The table.
    pub(crate) table: Table,
    /// The first address.
    pub(crate) address: u16,
    /// How many.
    pub(crate) count: u16,
    /// The registers in it.
    pub(crate) members: Vec<Arc<str>>,
}

impl Block {
    /// What people are told when the device refuses to tell it.
    pub(crate) fn refused(&self, why: &impl std::fmt::Display) -> String {
        let Self { table, address, count, members } = self;
        format!("{table:?} {address}+{count} ({}): {why}", members.join(", "))
    }
}

/// The questions for these registers.
pub(crate) fn blocks<'a>(
    registers: impl Iterator<Item = (&'a Arc<str>, &'a Register)>,
    group: Group,
) -> Vec<Block> {
    let mut places: Vec<(Place, &Arc<str>)> =
        registers.map(|(name, register)| (register.read_from, name)).collect();
    places.sort_by_key(|(place, _)| (place.table, place.address, place.bit));
    let mut blocks: Vec<Block> = Vec::new();
    for (place, name) in places {
        let end = u32::from(place.address) + u32::from(place.count);
        let joined = blocks.last_mut().filter(|last| {
            let last_end = u32::from(last.address) + u32::from(last.count);
            last.table == place.table
                && u32::from(place.address) <= last_end + u32::from(group.gap_max)
                && end - u32::from(last.address) <= u32::from(group.block_max)
        });
        match joined {
            Some(last) => {
                let count = end.saturating_sub(u32::from(last.address));
                last.count = last.count.max(u16::try_from(count).unwrap_or(last.count));
                last.members.push(Arc::clone(name));
            }
            None => blocks.push(Block {
                table: place.table,
                address: place.address,
                count: place.count,
                members: vec![Arc::clone(name)],
            }),
        }
    }
    blocks
}

#[cfg(test)]
mod tests {
    use super::super::map::Map;
    use super::super::map::tests::setup;
    use super::*;
    use proptest::prelude::*;

    fn read(registers: &[(u16, &str)], group: Group) -> Vec<(u16, u16, usize)> {
        let all: Vec<_> = registers
            .iter()
            .map(|(address, kind)| {
                format!(r#""r{address}": {{"table": "holding", "address": {address}, "type": "{kind}"}}"#)
            })
            .collect();
        let settings = format!(r#"{{"registers": {{{}}}}}"#, all.join(","));
        let map = Map::parse(&setup("d", "1", &settings)).unwrap();
        let found = blocks(map.registers.iter(), group);
        found.iter().map(|block| (block.address, block.count, block.members.len())).collect()
    }

    #[test]
    fn neighbours_are_read_together() {
        let group = Group { block_max: 10, gap_max: 2, ..Group::default() };
        assert_eq!(read(&[(0, "u16"), (1, "u16")], group), [(0, 2, 2)]);
        assert_eq!(read(&[(0, "u16"), (3, "u16")], group), [(0, 4, 2)]);
        assert_eq!(read(&[(0, "u16"), (4, "u16")], group), [(0, 1, 1), (4, 1, 1)]);
        assert_eq!(read(&[(0, "u32"), (2, "u64"), (6, "u64")], group), [(0, 10, 3)]);
        assert_eq!(
            read(&[(0, "u32"), (2, "u64"), (6, "u64"), (10, "u16")], group),
            [(0, 10, 3), (10, 1, 1)]
        );
    }

    proptest! {
        /// Every register is in exactly one question, whole, and no question is too long.
        #[test]
        fn every_register_is_read_once(
            addresses in proptest::collection::btree_set(0_u16..2_000, 1..60),
            block_max in 2_u16..125,
            gap_max in 0_u16..20,
        ) {
            let wanted: Vec<_> = addresses.iter().map(|address| (address * 2, "u32")).collect();
            let group = Group { block_max, gap_max, ..Group::default() };
            let found = read(&wanted, group);
            prop_assert_eq!(found.iter().map(|(_, _, members)| members).sum::<usize>(), wanted.len());
            for (address, count, _) in &found {
                prop_assert!(*count <= block_max && *count >= 2, "{} {}", address, count);
            }
            for (address, _) in &wanted {
                let holding = found.iter().filter(|(from, count, _)| {
                    from <= address && address + 2 <= from + count
                });
                prop_assert_eq!(holding.count(), 1);
            }
        }
    }
}
