//! Law: cutting ranges gives what a map of single pages gives.

use std::collections::BTreeMap;

use proptest::prelude::*;

use crate::{
    cost::Cost,
    heap::{
        mappings::{Maker, Mappings, Range},
        sites::Slot,
    },
};

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
