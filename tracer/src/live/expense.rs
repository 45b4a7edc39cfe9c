//! What tracing costs: calls times what a call costs, which is its traps, as calibrated, and our programs, as the kernel
//! measures them where they run.

use super::{spent::Costs, tally::Calls};
use crate::{
    estimate::Rate,
    event::Via,
    kernel::{Prices, Runs},
};

/// Runs without which their mean says little.
const LEAST_RUNS: u64 = 200;

/// Of so many allocations one is reported at most where what the others take is learned.
const LEAST_PASSED: f64 = 10.0;

/// What traps and programs take from the caches of who meets them is in neither figure: a loop of malloc and free became slower
/// by 9 to 18 % more than their sum, with much and with little work in between.
const BESIDES: f64 = 1.15;

/// What our programs take for an allocation that is passed over, as measured on one virtual machine; and the least that a run
/// was seen to take.
const PASSED_NS: f64 = 150.0;
const LEAST_PASSED_NS: f64 = 20.0;

/// What our programs take for each call.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Means {
    alloc_ns: f64,
    /// For an allocation that is passed over.
    passed_ns: f64,
    free_ns: f64,
    /// Probes that are met for each call that is reported: some calls fail, others lie inside of another.
    begins_per_alloc: f64,
    begins_per_free: f64,
}

impl Default for Means {
    /// As measured on one virtual machine, with some twenty frames on the stack.
    fn default() -> Self {
        Self {
            alloc_ns: 450.0,
            passed_ns: PASSED_NS,
            free_ns: 150.0,
            begins_per_alloc: 1.0,
            begins_per_free: 1.0,
        }
    }
}

/// Calls during some runs.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Seen {
    /// Allocations that were reported, and how many they stand for.
    pub(super) reported: u64,
    pub(super) allocs: f64,
    pub(super) frees: u64,
}

impl Seen {
    pub(super) fn add(&mut self, calls: &Calls) {
        self.reported += calls.reported;
        self.allocs += calls.all_allocs();
        self.frees += calls.frees;
    }
}

impl Means {
    /// Learns from `runs`, which were those of the calls that were `seen`. `others` meet the same probes: how often they do is
    /// not known. False if it was too little.
    pub(super) fn learn(&mut self, runs: Runs, seen: Seen, others: bool) -> bool {
        let Seen { reported, allocs, frees } = seen;
        let met = |begins: u64, calls: u64| {
            if others { 1.0 } else { (begins as f64 / calls as f64).clamp(1.0, 10.0) }
        };
        // Of sampled ones the frees say better how many there were, unless the kernel does.
        let all = if others { allocs.max(frees as f64) } else { runs.calls as f64 };
        let is_sampled = allocs > LEAST_PASSED * reported as f64;
        let is_alloc = if is_sampled { all as u64 >= LEAST_RUNS } else { reported >= LEAST_RUNS };
        let is_exact = allocs == reported as f64;
        if is_alloc && is_exact {
            self.alloc_ns = runs.alloc_ns as f64 / allocs;
            self.begins_per_alloc = met(runs.calls, reported);
        } else if is_alloc && is_sampled {
            let reported = reported as f64;
            let passed_ns = runs.alloc_ns as f64 - reported * self.alloc_ns;
            // A sample may have been dearer than the mean; but nothing is for nothing.
            self.passed_ns =
                (passed_ns / (all - reported).max(1.0)).clamp(LEAST_PASSED_NS, self.alloc_ns.max(PASSED_NS));
        }
        let is_free = frees >= LEAST_RUNS;
        if is_free {
            self.free_ns = runs.free_ns as f64 / frees as f64;
            self.begins_per_free = met(runs.frees, frees);
        }
        is_alloc || is_free
    }

    /// CPU time that tracing takes for some calls: by the allocations as they were reported, and if there were as many as
    /// frees.
    pub(super) fn costs(&self, prices: &Prices, calls: &Calls, rate: Rate) -> [Costs; 2] {
        let (allocs, frees) = (calls.all_allocs(), calls.frees as f64);
        let trap_ns = |via| prices.alloc_ns(via) * self.begins_per_alloc;
        let trapped_ns: f64 = calls.allocs().map(|(via, count)| count * trap_ns(via)).sum();
        let mean_ns = if allocs > 0.0 { trapped_ns / allocs } else { trap_ns(Via::Malloc) };
        let freed_ns = frees * (prices.free_ns() * self.begins_per_free + self.free_ns);
        [allocs, frees].map(|allocs| {
            let taken = calls.taken(rate).min(allocs);
            let besides_ns = allocs * mean_ns + freed_ns;
            let exact_ns = besides_ns + allocs * self.alloc_ns;
            let sampled_ns =
                besides_ns + taken * self.alloc_ns + (allocs - taken) * self.passed_ns.min(self.alloc_ns);
            Costs { exact_s: exact_ns * BESIDES / 1e9, sampled_s: sampled_ns * BESIDES / 1e9 }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{live::tally::Tally, script};

    const RATE: Rate = Rate::EXACT;

    fn calls() -> Calls {
        let mut tally = Tally::new(Rate::of_shift(16));
        let script = "begin 10 app\n stack #1 main\n alloc 10 0x1000 64B #1\n free 10 0x1000";
        script::parse(script).iter().for_each(|it| {
            tally.count(it);
        });
        tally.take().into_values().next().unwrap_or_default()
    }

    fn seen(reported: u64, allocs: f64, frees: u64) -> Seen {
        Seen { reported, allocs, frees }
    }

    fn is_about(cost_s: f64, expected_ns: f64) -> bool {
        (cost_s * 1e9 - expected_ns).abs() < 1e-3
    }

    #[test]
    fn a_call_costs_its_traps_and_our_programs() {
        let runs = Runs { calls: 1000, alloc_ns: 600_000, frees: 2000, free_ns: 100_000 };
        let mut means = Means::default();
        assert!(means.learn(runs, seen(1000, 1000.0, 1000), false));
        let prices = Prices::default();
        let traps = prices.alloc_ns(Via::Malloc) + 2.0 * prices.free_ns();
        let [by_weights, by_frees] = means.costs(&prices, &calls(), RATE);
        assert!(is_about(by_weights.exact_s, (traps + 600.0 + 100.0) * BESIDES), "{by_weights:?}");
        assert_eq!(by_weights, by_frees);
    }

    #[test]
    fn one_that_is_passed_over_costs_its_traps_and_little_more() {
        let mut means = Means::default();
        let runs = Runs { calls: 1000, alloc_ns: 600_000, frees: 1000, free_ns: 100_000 };
        assert!(means.learn(runs, seen(1000, 1000.0, 1000), false));
        let runs = Runs { calls: 10_000, alloc_ns: 9990 * 70 + 10 * 600, frees: 1000, free_ns: 100_000 };
        // Few samples say little of how many there were: the kernel has counted them.
        assert!(means.learn(runs, seen(10, 4000.0, 1000), false));
        assert_eq!((means.alloc_ns, means.passed_ns), (600.0, 70.0));
        let [costs, _] = means.costs(&Prices::default(), &calls(), Rate::of_shift(16));
        let taken = 64.0 / 65_536.0;
        let saved_ns = (costs.exact_s - costs.sampled_s) * 1e9;
        assert!((saved_ns - 530.0 * (1.0 - taken) * BESIDES).abs() < 1e-3, "{saved_ns}");
    }

    #[test]
    fn others_do_not_make_it_dearer() {
        let runs = Runs { calls: 9000, alloc_ns: 600_000, frees: 9000, free_ns: 100_000 };
        let mut means = Means::default();
        assert!(means.learn(runs, seen(1000, 1000.0, 1000), true));
        assert_eq!((means.begins_per_alloc, means.begins_per_free), (1.0, 1.0));
    }

    #[test]
    fn too_little_teaches_nothing() {
        let mut means = Means::default();
        assert!(!means.learn(Runs::default(), seen(100, 100.0, 0), false));
        assert_eq!(means, Means::default());
    }
}
