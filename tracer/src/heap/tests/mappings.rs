//! Mappings, the heap segment and arenas. Law: cutting ranges gives what a map of single pages gives.

use std::collections::BTreeMap;

use expect_test::expect;
use proptest::prelude::*;

use super::check;
use crate::{
    cost::Cost,
    heap::{
        mappings::{Maker, Mappings, Range},
        sites::Slot,
    },
};

#[test]
fn a_nested_mapping_is_growth_of_an_arena() {
    check(
        "
        begin 10 app 0x5000
        stack #1 main
        map   10 0x10000 8KiB #1 nested
        unmap 10 0x11000 4KiB nested
        map   10 0x20000 4KiB #1
        unmap 10 0x1f000 12KiB nested
        remap 10 0x10000 4KiB 0x40000 64KiB #1 nested
        brk   10 0x6000 #1 nested
        brk   10 0x5800 #1 nested
        ",
        expect![[r#"
            10 app: 4096B/1, arena 59392B
              10 mmap mmap: 4096B/1 of 4096B/1, peak 4096B: main
        "#]],
    );
}

#[test]
fn a_mapping_is_live_until_its_last_piece_goes() {
    check(
        "
        begin 10 app
        stack #1 main > whole
        stack #2 main > cut
        stack #3 main > gone
        map   10 0x10000 16KiB #1
        map   10 0x20000 16KiB #2
        map   10 0x30000 16KiB #3
        unmap 10 0x21000 8KiB
        unmap 10 0x30000 4KiB
        unmap 10 0x32000 8KiB
        unmap 10 0x31000 4KiB
        unmap 10 0x70000 4KiB
        ",
        expect![[r#"
            10 app: 24576B/2
              10 mmap mmap: 16384B/1 of 16384B/1, peak 16384B: main > whole
              10 mmap mmap: 8192B/1 of 16384B/1, peak 16384B: main > cut
              10 mmap mmap: 0B/0 of 16384B/1, peak 16384B: main > gone
        "#]],
    );
}

#[test]
fn system_calls_touch_whole_pages() {
    check(
        "
        begin 10 app
        stack #1 main
        map   10 0x10000 5000B #1
        map   10 0x20000 8KiB #1
        unmap 10 0x20000 1B
        ",
        expect![[r#"
            10 app: 12288B/2
              10 mmap mmap: 12288B/2 of 16384B/2, peak 16384B: main
        "#]],
    );
}

#[test]
fn a_mapping_over_another_unmaps_it() {
    check(
        "
        begin 10 app
        stack #1 main > under
        stack #2 main > over
        map   10 0x10000 16KiB #1
        map   10 0x12000 16KiB #2
        ",
        expect![[r#"
            10 app: 24576B/2
              10 mmap mmap: 8192B/1 of 16384B/1, peak 16384B: main > under
              10 mmap mmap: 16384B/1 of 16384B/1, peak 16384B: main > over
        "#]],
    );
}

#[test]
fn a_moved_mapping_belongs_to_the_mover() {
    check(
        "
        begin 10 app
        stack #1 main > map
        stack #2 main > move
        map   10 0x10000 8KiB #1
        remap 10 0x11000 4KiB 0x20000 8KiB #2
        remap 10 0x20000 8KiB 0x20000 4KiB #2
        ",
        expect![[r#"
            10 app: 8192B/2
              10 mmap mmap: 4096B/1 of 8192B/1, peak 8192B: main > map
              10 mmap mremap: 4096B/1 of 12288B/2, peak 8192B: main > move
        "#]],
    );
}

#[test]
fn a_mapping_from_before_counts_from_its_move() {
    check(
        "begin 10 app\n stack #1 main\n remap 10 0x10000 4KiB 0x20000 8KiB #1",
        expect![[r#"
        10 app: 8192B/1
          10 mmap mremap: 8192B/1 of 8192B/1, peak 8192B: main
    "#]],
    );
}

#[test]
fn the_first_known_break_is_the_base() {
    check(
        "
        begin 10 app 0x5000
        begin 11 late
        stack #1 main
        brk   10 0x5100 #1
        brk   10 0x5400 #1
        brk   10 0x5200 #1
        brk   11 0x5000 #1
        brk   11 0x5010 #1
        brk   11 0x4000 #1
        ",
        expect![[r#"
            10 app: 512B/2
            11 late: 0B/0
              10 mmap brk: 512B/2 of 1024B/2, peak 1024B: main
              11 mmap brk: 0B/0 of 16B/1, peak 16B: main
        "#]],
    );
}

fn ranges() -> impl Strategy<Value = (bool, u64, u64)> {
    (any::<bool>(), 0..60_u64, 0..12_u64)
}

proptest! {
    #[test]
    fn pieces_are_the_pages_that_are_left(calls in prop::collection::vec(ranges(), 1..80)) {
        let mut mappings = Mappings::default();
        // Page → number of the call that mapped it, which is also its birth.
        let mut pages = BTreeMap::new();
        for (number, (is_map, start, length)) in calls.into_iter().enumerate() {
            let number = number as u32;
            let range = Range { start, end: start + length };
            let mut freed = BTreeMap::<u32, Cost>::new();
            let covered = mappings.covered_bytes(range);
            mappings.cut(range, |maker, cost| *freed.entry(maker.birth).or_default() += cost);

            let mut expected = BTreeMap::<u32, Cost>::new();
            for page in start..start + length {
                if let Some(owner) = pages.remove(&page) {
                    expected.entry(owner).or_default().bytes += 1;
                }
            }
            for (owner, cost) in &mut expected {
                cost.blocks = i64::from(!pages.values().any(|it| it == owner));
            }
            prop_assert_eq!(covered as i64, expected.values().map(|it| it.bytes).sum::<i64>());
            prop_assert_eq!(freed, expected);

            if is_map && length > 0 {
                mappings.insert(range, Maker { site: Slot(0), birth: number });
                pages.extend((start..start + length).map(|page| (page, number)));
            }
            for page in 0..80 {
                let here = mappings.covered_bytes(Range { start: page, end: page + 1 }) == 1;
                prop_assert_eq!(here, pages.contains_key(&page));
            }
        }
    }
}
