//! What an interval says, and how births become cohorts.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::{SECOND, apply, heap};
use crate::{
    cost::Cost,
    estimate::Rate,
    event::{Event, ProcessId, StackKey, Via},
    heap::cohorts::{Cohorts, MAX_COHORTS},
    interval::SiteState,
};

#[test]
fn an_interval_says_only_what_changed() {
    let mut heap = heap();
    apply(&mut heap, "begin 10 app\n stack #1 a\n stack #2 b\n alloc 10 0x1 1B #1\n alloc 10 0x2 1B #2");
    let first = heap.interval(SECOND);
    assert_eq!((first.stacks.len(), first.sites.len(), first.processes.len()), (2, 2, 1));
    apply(&mut heap, "stack #1 a\n free 10 0x2");
    let second = heap.interval(2 * SECOND);
    assert_eq!((second.stacks.len(), second.sites.len(), second.processes.len()), (0, 1, 1));
    assert_eq!(second.sites[0].id, first.sites[1].id);
    let third = heap.interval(3 * SECOND);
    assert_eq!((third.stacks.len(), third.sites.len(), third.processes.len()), (0, 0, 1));
}

/// One block each interval for `intervals`; the site at the end.
fn one_block_each(intervals: u64) -> SiteState {
    let mut heap = heap();
    apply(&mut heap, "begin 10 app\n stack #1 main");
    let mut last = None;
    for second in 0..intervals {
        heap.apply(&Event::Alloc {
            process: ProcessId(10),
            time_ns: second * SECOND,
            via: Via::Malloc,
            address: second + 1,
            size_bytes: 1,
            stack: StackKey(1),
            rate: Rate::EXACT,
        });
        last = heap.interval((second + 1) * SECOND).sites.pop();
    }
    last.expect("an interval")
}

#[test]
fn cohorts_are_births_by_interval() {
    let cohorts = one_block_each(3).cohorts;
    let spans: Vec<_> = cohorts.iter().map(|it| (it.from_ns, it.to_ns, it.live.bytes)).collect();
    let span = |second: u64| (second * SECOND, (second + 1) * SECOND, 1);
    assert_eq!(spans, [span(0), span(1), span(2)]);
}

#[test]
fn old_cohorts_are_at_most_as_wide_as_they_are_old() {
    let site = one_block_each(100_000);
    assert!(site.cohorts.len() <= MAX_COHORTS);
    assert_eq!(site.cohorts.iter().map(|it| it.live).sum::<Cost>(), site.live());
    for pair in site.cohorts.windows(2) {
        assert_eq!(pair[0].to_ns, pair[1].from_ns);
    }
    for it in &site.cohorts {
        let age_ns = 100_000 * SECOND - it.to_ns;
        assert!(it.to_ns - it.from_ns <= age_ns.max(SECOND), "{it:?} is {age_ns} old");
    }
}

#[test]
fn a_large_table_shrinks_when_it_empties() {
    let mut heap = heap();
    apply(&mut heap, "begin 10 app\n stack #1 main");
    let (process, stack, via, rate) = (ProcessId(10), StackKey(1), Via::Malloc, Rate::EXACT);
    for address in 1..=500_000 {
        heap.apply(&Event::Alloc { process, time_ns: 0, via, address, size_bytes: 1, stack, rate });
    }
    let full = heap.table_bytes();
    for address in 1..=490_000 {
        heap.apply(&Event::Free { process, time_ns: 0, address, thread: 0 });
    }
    assert_eq!(heap.table_bytes(), full);
    heap.interval(SECOND);
    assert!(heap.table_bytes() * 16 <= full);
    assert_eq!(heap.live().blocks, 10_000);
}

proptest! {
    /// Births mostly in order, sometimes not, and frees of any block that lives.
    #[test]
    fn merging_keeps_every_sum(
        steps in prop::collection::vec((0..3_u32, 0..400_u32, any::<bool>(), any::<prop::sample::Index>()), 1..400),
    ) {
        let (mut cohorts, mut blocks, mut now) = (Cohorts::default(), Vec::new(), 0);
        for (wait, back, is_free, which) in steps {
            now += wait * wait;
            if is_free && !blocks.is_empty() && blocks.len() > 60 {
                let (birth, cost) = blocks.swap_remove(which.index(blocks.len()));
                cohorts.remove(birth, cost);
            } else {
                let birth = if back < 40 { now - now.min(back) } else { now };
                let cost = Cost::block(u64::from(back));
                blocks.push((birth, cost));
                cohorts.add(birth, cost);
            }
            let all: Vec<_> = cohorts.iter().collect();
            prop_assert!(all.len() <= MAX_COHORTS);
            prop_assert!(all.windows(2).all(|pair| pair[0].last < pair[1].first));
            let mut sums = BTreeMap::<u32, Cost>::new();
            for &(birth, cost) in &blocks {
                let cohort = all.iter().find(|it| (it.first..=it.last).contains(&birth));
                *sums.entry(cohort.expect("a cohort of that birth").first).or_default() += cost;
            }
            prop_assert_eq!(sums, all.iter().map(|it| (it.first, it.live)).collect());
        }
    }
}
