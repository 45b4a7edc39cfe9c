//! Samples of the page faults that made memory resident: each stands for several, until its page goes away.

use std::collections::BTreeMap;

use super::{
    mappings::{Maker, Range},
    sites::Slot,
};
use crate::cost::Cost;

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
    pub(super) fn cost(self) -> Cost {
        Cost::block(self.page_bytes * u64::from(self.every))
    }

    /// Of an estimate that adds up samples which were each taken with probability 1/every (Horvitz and Thompson 1952), in
    /// square pages.
    pub(super) fn variance(self) -> u64 {
        let (pages, every) = (self.page_bytes / PAGE_BYTES, u64::from(self.every));
        pages * pages * every * (every - 1)
    }
}

/// Two standard errors, in bytes: the truth lies within them nineteen times of twenty.
pub(super) fn error_bytes(variance: u64) -> i64 {
    (2.0 * (variance as f64).sqrt() * PAGE_BYTES as f64).ceil() as i64
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
