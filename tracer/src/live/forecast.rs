//! What following each call of a process would cost it: by following it for some short moments.

use std::{
    thread,
    time::{Duration, Instant},
};

use super::{
    budget::SAMPLED,
    expense::{Means, Seen},
    governor::level_within,
    spent::{Level, Spent},
    tally::{Calls, Tally},
};
use crate::{
    estimate::Rate,
    event::ProcessId,
    kernel::{self, Kernel, Runs},
};

/// How long it is followed each time.
const MOMENT: Duration = Duration::from_millis(20);

/// From the beginning of one to that of the next, so that it is followed for less than a tenth of the time.
const PERIOD: Duration = Duration::from_millis(250);

/// Two say little about a spread.
const LEAST_MOMENTS: u32 = 4;

/// What was found.
#[derive(Clone, Debug, Default)]
pub struct Forecast {
    moments: Vec<Spent>,
    /// CPU time over all.
    pub cpu_s: f64,
    pub wall_s: f64,
    pub is_calibrated: bool,
}

impl Forecast {
    /// Follows a process whose probes are in place, again and again for about this long.
    pub fn of(kernel: &mut Kernel, process: ProcessId, tgid: u32, duration: Duration) -> Self {
        let count = (duration.as_millis() / PERIOD.as_millis()) as u32;
        let begun = Instant::now();
        let cpu_before = kernel::cpu_ns(tgid);
        kernel.count_runs(true);
        let mut seen: Vec<(Calls, Spent, Runs)> = Vec::new();
        let whose = kernel.whose(process);
        for number in 0..count.max(LEAST_MOMENTS) {
            let next = begun + PERIOD * number;
            thread::sleep(next.saturating_duration_since(Instant::now()));
            // They are there from the start.
            if let Some(whose) = whose.filter(|_| number > 0) {
                kernel.restore(whose);
            }
            seen.extend(moment(kernel, process, tgid));
            if let Some(whose) = whose {
                let _ = kernel.withdraw(whose).join();
            }
        }
        kernel.count_runs(false);
        // In the first, tables and caches were cold.
        if seen.len() > 1 {
            seen.remove(0);
        }
        let cpu_ns =
            kernel::cpu_ns(tgid).zip(cpu_before).map_or(0, |(after, before)| after.saturating_sub(before));
        let prices = kernel.prices();
        let means = means(&seen);
        let price = |(calls, spent, _): (Calls, Spent, Runs)| {
            let [by_weights, _] = means.costs(&prices, &calls, SAMPLED);
            Spent { by_weights, by_frees: by_weights, ..spent }
        };
        Self {
            moments: seen.into_iter().map(price).collect(),
            cpu_s: cpu_ns as f64 / 1e9,
            wall_s: begun.elapsed().as_secs_f64(),
            is_calibrated: prices.traps.is_calibrated,
        }
    }

    pub fn moments(&self) -> usize {
        self.moments.len()
    }

    /// CPU time of the moments.
    pub fn seen_s(&self) -> f64 {
        self.sum().cpu_s
    }

    fn sum(&self) -> Spent {
        let mut sum = Spent::default();
        self.moments.iter().for_each(|it| sum += *it);
        sum
    }

    /// What tracing would add to the CPU time; `None` if it used so little that nothing can be said.
    pub fn share(&self) -> Option<f64> {
        self.sum().share(Level::Exact)
    }

    /// The same if its allocations were sampled.
    pub fn sampled_share(&self) -> Option<f64> {
        self.sum().share_if(Level::Exact, Level::Sampled)
    }

    /// At which rate.
    pub fn rate(&self) -> Rate {
        SAMPLED
    }

    /// How it would be traced within a limit, as captures name it; `None` if nothing can be said.
    pub fn level(&self, limit: f64) -> Option<&'static str> {
        Some(level_within(limit, self.share()?, self.sampled_share()?).name())
    }

    /// The lowest and the highest of the moments in which it worked.
    pub fn spread(&self) -> Option<(f64, f64)> {
        let shares = || {
            let works = |it: &&Spent| it.says_enough();
            self.moments.iter().filter(works).map(|it| it.share_of_look(Level::Exact, Level::Exact))
        };
        Some((shares().reduce(f64::min)?, shares().reduce(f64::max)?))
    }

    /// Allocations and frees in a second of its own CPU time.
    pub fn calls_per_s(&self) -> f64 {
        let sum = self.sum();
        sum.calls_per_s(Level::Exact)
    }
}

/// What happened in one moment; `None` if the process has ended.
fn moment(kernel: &mut Kernel, process: ProcessId, tgid: u32) -> Option<(Calls, Spent, Runs)> {
    let mut tally = Tally::new(SAMPLED);
    // What came while the probes were being placed.
    while kernel.drain(usize::MAX, |_| ()) > 0 {}
    let (runs, cpu_ns, begun) = (kernel.runs(), kernel::cpu_ns(tgid)?, Instant::now());
    let mut count = |kernel: &mut Kernel| {
        kernel.drain(usize::MAX, |event| {
            tally.count(&event);
        })
    };
    while begun.elapsed() < MOMENT {
        thread::sleep(MOMENT / 10);
        count(kernel);
    }
    let cpu_s = kernel::cpu_ns(tgid)?.saturating_sub(cpu_ns) as f64 / 1e9;
    let runs = kernel.runs().since(runs);
    let wall_s = begun.elapsed().as_secs_f64();
    count(kernel);
    let calls = tally.take().remove(&process).unwrap_or_default();
    let count = calls.all_allocs() + calls.frees as f64;
    Some((calls, Spent { wall_s, cpu_s, calls: count, ..Spent::default() }, runs))
}

/// How long our programs took in all of the moments.
fn means(seen: &[(Calls, Spent, Runs)]) -> Means {
    let mut means = Means::default();
    let (mut runs, mut all) = (Runs::default(), Seen::default());
    for (calls, _, more) in seen {
        runs += *more;
        all.add(calls);
    }
    if runs != Runs::default() {
        means.learn(runs, all, false);
    }
    means
}

#[cfg(test)]
mod tests {
    use super::*;

    fn forecast(shares: &[f64], cpu_s: f64) -> Forecast {
        let moment = |share: &f64| Spent::exact(0.02, cpu_s, cpu_s * share / (1.0 + share), 100.0);
        Forecast { moments: shares.iter().map(moment).collect(), ..Forecast::default() }
    }

    #[test]
    fn a_share_comes_with_its_spread() {
        let forecast = forecast(&[0.1, 0.3, 0.2], 0.02);
        let (least, most) = forecast.spread().unwrap();
        assert!((least - 0.1).abs() < 1e-9 && (most - 0.3).abs() < 1e-9);
        assert!((0.19..0.21).contains(&forecast.share().unwrap()), "{:?}", forecast.share());
    }

    #[test]
    fn of_one_that_does_nothing_nothing_is_said() {
        let forecast = forecast(&[0.1, 0.3, 0.2], 0.0002);
        assert_eq!((forecast.share(), forecast.spread()), (None, None));
    }
}
