//! What tracing costs: calls times what a call costs, which is its traps, as calibrated, and our programs, as the kernel
//! measures them where they run.

use crate::{
    kernel::{Prices, Runs},
    live::tally::Calls,
};

/// Runs without which their mean says little.
const LEAST_RUNS: u64 = 200;

/// What traps and programs take from the caches of who meets them is in neither figure: a loop of malloc and free became slower
/// by 9 to 18 % more than their sum, with much and with little work in between.
const BESIDES: f64 = 1.15;

/// What our programs take for each call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Means {
    alloc_ns: f64,
    free_ns: f64,
    /// Probes that are met for each call that is reported: some calls fail, others lie inside of another.
    begins_per_alloc: f64,
    begins_per_free: f64,
}

impl Default for Means {
    /// As measured on one virtual machine, with some twenty frames on the stack.
    fn default() -> Self {
        Self { alloc_ns: 450.0, free_ns: 150.0, begins_per_alloc: 1.0, begins_per_free: 1.0 }
    }
}

impl Means {
    /// Learns from `runs`, which were those of so many reported calls. `others` meet the same probes: how often they do is
    /// not known. False if it was too little.
    pub(super) fn learn(&mut self, runs: Runs, allocs: u64, frees: u64, others: bool) -> bool {
        let (is_alloc, is_free) = (allocs >= LEAST_RUNS, frees >= LEAST_RUNS);
        let met = |begins: u64, calls: u64| {
            if others { 1.0 } else { (begins as f64 / calls as f64).clamp(1.0, 10.0) }
        };
        if is_alloc {
            self.alloc_ns = runs.alloc_ns as f64 / allocs as f64;
            self.begins_per_alloc = met(runs.calls, allocs);
        }
        if is_free {
            self.free_ns = runs.free_ns as f64 / frees as f64;
            self.begins_per_free = met(runs.frees, frees);
        }
        is_alloc || is_free
    }

    /// CPU time that tracing took for some calls.
    pub(super) fn cost_ns(&self, prices: &Prices, calls: &Calls) -> f64 {
        let alloc = |via| prices.alloc_ns(via) * self.begins_per_alloc + self.alloc_ns;
        let allocs: f64 = calls.allocs().map(|(via, count)| count as f64 * alloc(via)).sum();
        let free = prices.free_ns() * self.begins_per_free + self.free_ns;
        (allocs + calls.frees as f64 * free) * BESIDES
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{kernel::Prices, live::tally::Tally, script};

    fn calls() -> Calls {
        let mut tally = Tally::default();
        let script = "begin 10 app\n stack #1 main\n alloc 10 0x1000 64B #1\n free 10 0x1000";
        script::parse(script).iter().for_each(|it| {
            tally.count(it);
        });
        tally.take().into_values().next().unwrap_or_default()
    }

    #[test]
    fn a_call_costs_its_traps_and_our_programs() {
        let runs = Runs { calls: 1000, alloc_ns: 600_000, frees: 2000, free_ns: 100_000 };
        let mut means = Means::default();
        assert!(means.learn(runs, 1000, 1000, false));
        let prices = Prices::default();
        let traps = prices.alloc_ns(crate::event::Via::Malloc) + 2.0 * prices.free_ns();
        assert_eq!(means.cost_ns(&prices, &calls()), (traps + 600.0 + 100.0) * BESIDES);
    }

    #[test]
    fn others_do_not_make_it_dearer() {
        let runs = Runs { calls: 9000, alloc_ns: 600_000, frees: 9000, free_ns: 100_000 };
        let mut means = Means::default();
        assert!(means.learn(runs, 1000, 1000, true));
        assert_eq!((means.begins_per_alloc, means.begins_per_free), (1.0, 1.0));
    }

    #[test]
    fn too_little_teaches_nothing() {
        let mut means = Means::default();
        assert!(!means.learn(Runs::default(), 100, 0, false));
        assert_eq!(means, Means::default());
    }
}
