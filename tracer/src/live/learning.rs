//! What calls cost here: the traps as calibrated, and our programs as the kernel counts them, now and then.

use super::{
    expense::{Means, Seen},
    spent::Costs,
    tally::Calls,
};
use crate::{
    estimate::Rate,
    kernel::{Kernel, Prices, Runs},
};

/// How often the kernel counts how long our programs take, until it has counted enough.
const COUNT_NS: u64 = 1_000_000_000;

/// Prices and means of a run.
pub(super) struct Learning {
    prices: Prices,
    means: Means,
    /// Runs when the kernel began to count, and the calls that were reported since.
    since: Option<Runs>,
    seen: Seen,
    next_ns: u64,
}

impl Learning {
    pub(super) fn new(kernel: &Kernel) -> Self {
        let (prices, means) = (kernel.prices(), Means::default());
        Self { prices, means, since: None, seen: Seen::default(), next_ns: 0 }
    }

    /// Calls that were reported.
    pub(super) fn see(&mut self, calls: &Calls) {
        self.seen.add(calls);
    }

    /// What they cost, by their weights and by the frees.
    pub(super) fn costs(&self, calls: &Calls, rate: Rate) -> [Costs; 2] {
        self.means.costs(&self.prices, calls, rate)
    }

    /// Learns how long our programs take. To be called every now and then.
    pub(super) fn count_runs(&mut self, now_ns: u64, kernel: &mut Kernel) {
        self.prices = kernel.prices();
        if let Some(since) = self.since {
            let runs = kernel.runs().since(since);
            if self.means.learn(runs, self.seen, kernel.is_met_by_others()) {
                log::debug!("learned {:?} from {:?} and {runs:?}", self.means, self.seen);
                self.since = None;
                self.next_ns = now_ns + COUNT_NS;
                kernel.count_runs(false);
            }
        } else if now_ns >= self.next_ns {
            self.begin(now_ns, kernel);
        }
    }

    /// Has nothing counted for now.
    pub(super) fn pause(&mut self, kernel: &mut Kernel) {
        if self.since.take().is_some() {
            kernel.count_runs(false);
        }
        self.next_ns = 0;
    }

    fn begin(&mut self, now_ns: u64, kernel: &mut Kernel) {
        kernel.count_runs(true);
        // If it does not count, the means of another machine have to do.
        self.since = kernel.counts_runs().then(|| kernel.runs());
        self.next_ns = now_ns + COUNT_NS;
        self.seen = Seen::default();
    }
}
