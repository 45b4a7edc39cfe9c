//! Blocks that were sampled by bytes, and stand for others.

use super::{SECOND, apply, check, heap};
use expect_test::expect;
use proptest::prelude::*;

use crate::{
    cost::Cost,
    estimate::Rate,
    event::{Event, ProcessId, StackKey, Via},
    interval::SampleState,
};

#[test]
fn a_small_block_stands_for_many() {
    check(
        "
        begin 10 app
        stack #1 main > small
        stack #2 main > large
        alloc 10 0x1000 64B #1 rate 12
        alloc 10 0x2000 1MiB #2 rate 12
        ",
        expect![[r#"
            10 app: 1052704B/66
              10 heap malloc: 4128B/65 of 4128B/65, peak 4128B: main > small
              10 heap malloc: 1048576B/1 of 1048576B/1, peak 1048576B: main > large
        "#]],
    );
}

#[test]
fn what_was_seen_exactly_stays_exact_when_the_rate_changes() {
    let mut heap = heap();
    apply(
        &mut heap,
        "
        begin 10 app
        stack #1 main
        alloc 10 0x1000 100B #1
        alloc 10 0x2000 100B #1 rate 20
        alloc 10 0x3000 100B #1
        free  10 0x2000
        free  10 0x4000
        ",
    );
    let interval = heap.interval(SECOND);
    let site = &interval.sites[0];
    assert_eq!(site.live(), Cost { bytes: 200, blocks: 2 });
    let SampleState { rate_bytes, unseen_bytes, live_error, .. } = site.samples;
    assert_eq!((rate_bytes, unseen_bytes, live_error), (1 << 20, 0, Cost::default()));
    assert_eq!(site.samples.allocated_error.bytes, 2 << 20);
    let process = &interval.processes[0];
    assert_eq!((process.unknown_frees, process.unsampled_frees), (0, 1));
}

#[test]
fn a_realloc_gives_the_old_block_up_though_the_new_one_is_not_sampled() {
    check(
        "
        begin 10 app
        stack #1 main
        alloc   10 0x1000 100B #1 rate 20
        realloc 10 0x1000 0x0 0B #1
        free    10 0x2000
        ",
        expect![[r#"
            10 app: 0B/0, 1 unsampled frees
              10 heap malloc: 0B/0 of 1048626B/10486, peak 1048626B: main
        "#]],
    );
}

#[test]
fn a_child_is_sampled_as_its_parent_was() {
    check(
        "
        begin 10 app
        stack #1 main
        alloc 10 0x1000 64B #1 rate 12
        fork  10 11
        free  11 0x1000
        free  11 0x2000
        ",
        expect![[r#"
            10 app: 4128B/65
            11 app: 0B/0, 1 unsampled frees
              10 heap malloc: 4128B/65 of 4128B/65, peak 4128B: main
              11 heap malloc: 0B/0 of 4128B/65, peak 4128B: main
        "#]],
    );
}

proptest! {
    /// Blocks of any sizes and rates, some of them freed: sums agree, cohorts add up to what is live, and when all is
    /// freed nothing is left, of the errors neither.
    #[test]
    fn live_is_allocated_less_freed(
        blocks in prop::collection::vec((0..1_u64 << 30, 0..32_u32, any::<bool>(), any::<bool>()), 1..60)
    ) {
        let mut heap = heap();
        apply(&mut heap, "begin 10 app\n stack #1 main");
        let (process, stack, via) = (ProcessId(10), StackKey(1), Via::Malloc);
        let mut time_ns = SECOND;
        let mut interval = None;
        for (address, &(size_bytes, shift, _, ends)) in (1..).zip(&blocks) {
            let rate = Rate::of_shift(shift);
            heap.apply(&Event::Alloc { process, time_ns, via, address, size_bytes, stack, rate });
            if ends {
                interval = heap.interval(time_ns).sites.pop().or(interval);
            }
            time_ns += SECOND;
        }
        let free = |heap: &mut crate::heap::Heap, address| {
            heap.apply(&Event::Free { process, time_ns, address, thread: 0 });
        };
        for (address, _) in (1..).zip(&blocks).filter(|(_, it)| it.2) {
            free(&mut heap, address);
        }
        interval = heap.interval(time_ns).sites.pop().or(interval);
        let site = interval.expect("a site");
        prop_assert_eq!(site.cohorts.iter().map(|it| it.live).sum::<Cost>(), site.live());
        prop_assert!(site.cohorts.iter().all(|it| it.live.bytes >= 0 && it.live.blocks >= 0));
        let kept: f64 = blocks.iter().filter(|it| !it.2).map(|it| match Rate::of_shift(it.1) {
            Rate::EXACT => it.0 as f64,
            rate => rate.weight(it.0).bytes,
        }).sum();
        prop_assert!((site.live().bytes as f64 - kept).abs() <= blocks.len() as f64, "{kept} {site:?}");
        for (address, _) in (1..).zip(&blocks).filter(|(_, it)| !it.2) {
            free(&mut heap, address);
        }
        let end = heap.interval(time_ns).sites.pop().unwrap_or(site);
        prop_assert_eq!(end.live(), Cost::default());
        prop_assert_eq!((end.samples.unseen_bytes, end.samples.live_error), (0, Cost::default()));
        prop_assert!(end.cohorts.is_empty());
    }
}
