//! The table of blocks against a map that is told the same, and what it takes.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{
    estimate::Rate,
    event::POOL_BLOCK,
    heap::{
        sites::{MAX_SITES, Slot},
        table::{Block, Entry, LAST_BIRTH, Refused, Table},
    },
};

#[derive(Clone, Debug)]
enum Step {
    Insert(u64, Entry),
    Remove(u64),
    /// So many blocks side by side come, or go.
    InsertMany(u64),
    RemoveMany(u64),
    Settle,
}

fn block() -> impl Strategy<Value = Entry> {
    let sizes = prop_oneof![0..100_u64, (1 << 24) - 3..(1 << 24) + 3_u64, Just(i64::MAX as u64)];
    let births = prop_oneof![0..3_u32, Just(LAST_BIRTH)];
    let sites = prop_oneof![0..3_u32, Just(MAX_SITES as u32 - 1)];
    (sizes, sites, births, any::<bool>()).prop_map(|(size_bytes, site, birth, reused)| {
        Entry::Block(Block { size_bytes, site: Slot(site), birth, reused, rate: Rate::of_shift(birth % 16) })
    })
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let address = || {
        prop_oneof![
            8 => 1..40_u64,
            2 => (1..40_u64).prop_map(|it| it | POOL_BLOCK),
            1 => (1_u64 << 47) - 20..1 << 47,
        ]
    };
    let entry = prop_oneof![8 => block(), 1 => Just(Entry::Enclosed)];
    let step = prop_oneof![
        20 => (address(), entry).prop_map(|(address, entry)| Step::Insert(address, entry)),
        16 => address().prop_map(Step::Remove),
        1 => (1..40_000_u64).prop_map(Step::InsertMany),
        2 => (1..40_000_u64).prop_map(Step::RemoveMany),
        3 => Just(Step::Settle),
    ];
    prop::collection::vec(step, 1..100)
}

fn side_by_side(count: u64) -> impl Iterator<Item = u64> {
    (0..count).map(|it| 0x5555_0000_0000 + it * 32)
}

fn small(address: u64) -> Entry {
    Entry::Block(Block {
        size_bytes: address & 0xffff,
        site: Slot(1),
        birth: 2,
        reused: false,
        rate: Rate::EXACT,
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 20, ..ProptestConfig::default() })]

    #[test]
    fn it_agrees_with_a_map(steps in steps()) {
        let (mut table, mut map) = (Table::default(), BTreeMap::new());
        for step in steps {
            match step {
                Step::Insert(address, entry) => {
                    prop_assert_eq!(table.insert(address, entry, &mut { usize::MAX }), Ok(map.insert(address, entry)));
                }
                Step::Remove(address) => prop_assert_eq!(table.remove(address), map.remove(&address)),
                Step::InsertMany(count) => for address in side_by_side(count) {
                    prop_assert_eq!(table.insert(address, small(address), &mut { usize::MAX }), Ok(map.insert(address, small(address))));
                },
                Step::RemoveMany(count) => for address in side_by_side(count) {
                    prop_assert_eq!(table.remove(address), map.remove(&address));
                },
                Step::Settle => table.settle(),
            }
        }
        for (address, entry) in &map {
            let block = match entry {
                Entry::Block(block) => Some(*block),
                Entry::Enclosed => None,
            };
            prop_assert_eq!(table.block(*address), block);
        }
        let found: BTreeMap<u64, Entry> = table.blocks().map(|(at, it)| (at, Entry::Block(it))).collect();
        map.retain(|_, it| *it != Entry::Enclosed);
        prop_assert_eq!(found, map);
    }
}

#[test]
fn it_takes_23_bytes_a_block_at_most() {
    let mut table = Table::default();
    for (count, address) in side_by_side(400_000).enumerate() {
        table.insert(address, small(address), &mut { usize::MAX }).unwrap();
        if count > 100_000 && count % 1000 == 0 {
            let bytes = table.bytes() as f64 / count as f64;
            assert!((20.0..23.0).contains(&bytes), "{bytes} bytes for each of {count}");
        }
    }
    for address in side_by_side(400_000) {
        assert_eq!(table.remove(address), Some(small(address)));
    }
    table.settle();
    assert!(table.bytes() < 1000, "{} bytes for no block", table.bytes());
}

#[test]
fn it_takes_no_more_than_it_may() {
    for may in [0, 1000, 100_000, 5_000_000] {
        let (mut table, mut room, mut refused) = (Table::default(), may, 0);
        for address in side_by_side(400_000) {
            match table.insert(address, small(address), &mut room) {
                Ok(old) => assert_eq!(old, None),
                Err(why) => {
                    assert_eq!(why, Refused::NoRoom);
                    refused += 1;
                }
            }
            assert!(table.bytes() <= may, "{} of {may} bytes", table.bytes());
        }
        let kept: Vec<(u64, Block)> = table.blocks().collect();
        assert_eq!(kept.len() + refused, 400_000);
        // What has a place can be replaced, and gives its place to another.
        if let Some((address, block)) = kept.first() {
            let entry = Entry::Block(*block);
            assert_eq!(table.insert(*address, entry, &mut room), Ok(Some(entry)));
            assert_eq!(table.remove(*address), Some(entry));
            assert_eq!(table.insert(*address, entry, &mut room), Ok(None));
        }
    }
}

#[test]
fn no_address_is_no_place() {
    for address in [0, POOL_BLOCK, 1 << 47, u64::MAX] {
        let mut table = Table::default();
        assert_eq!(table.insert(address, small(16), &mut { usize::MAX }), Err(Refused::NoAddress));
        assert_eq!((table.remove(address), table.block(address)), (None, None));
        assert_eq!(table.blocks().count(), 0);
    }
}
