//! Samples of the page faults that made memory resident: each stands for several, until its page goes away.

use std::collections::BTreeMap;

use super::{
    mappings::{Maker, Range},
    sites::Slot,
    tally,
};

/// The pages of x86.
const PAGE_BYTES: u64 = 4096;

/// One fault in `every` was seen, and this is one of them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) maker: Maker,
    page_bytes: u64,
    every: u32,
}

impl Sample {
    pub(super) fn new(site: Slot, birth: u32, page_bytes: u64, every: u32) -> Self {
        Self { maker: Maker { site, birth }, page_bytes, every: every.max(1) }
    }

    /// What it stands for. Its block is the sample itself.
    pub(super) fn tally(self) -> tally::Sample {
        tally::Sample::one_of(self.every, self.page_bytes)
    }
}

/// By the address of the page.
#[derive(Clone, Debug, Default)]
pub(super) struct Residents(BTreeMap<u64, Sample>);

impl Residents {
    /// Returns the sample of the page that was there before: it has gone without our notice.
    pub(super) fn insert(&mut self, address: u64, sample: Sample) -> Option<Sample> {
        self.0.insert(address / PAGE_BYTES * PAGE_BYTES, sample)
    }

    /// Takes out what lies in `range`, with the addresses.
    pub(super) fn take(&mut self, range: Range) -> Vec<(u64, Sample)> {
        let within = self.0.range(range.start..range.end.max(range.start));
        let taken: Vec<_> = within.map(|(address, it)| (*address, *it)).collect();
        for (address, _) in &taken {
            self.0.remove(address);
        }
        taken
    }
}
