//! What was used in a span of time, and how much of it was for tracing: as it is traced, and as it might be.

use crate::kernel::Tier;

/// CPU time without which nothing is said: the kernel's clock ticks and our own reading are not finer than a millisecond.
const LEAST_CPU_S: f64 = 0.01;

/// The same for a look, which is short.
const LEAST_LOOK_S: f64 = 0.002;

/// What remains for the process, however wrong the estimate: a program that does nothing but allocate does a tenth of
/// the work.
const LEAST_WORK: f64 = 0.05;

/// How closely a process is traced at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Level {
    /// Each call of its allocator is reported.
    Exact,
    /// All frees, and a sample of the allocations.
    Sampled,
    /// No call, but page faults.
    Growth,
}

impl Level {
    /// As captures have it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Exact => Tier::Exact.name(),
            Self::Sampled => "sampled",
            Self::Growth => Tier::Growth.name(),
        }
    }
}

/// CPU time that tracing the same calls takes, as it is done.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Costs {
    pub(super) exact_s: f64,
    pub(super) sampled_s: f64,
}

impl Costs {
    fn max(self, other: Self) -> Self {
        Self { exact_s: self.exact_s.max(other.exact_s), sampled_s: self.sampled_s.max(other.sampled_s) }
    }

    pub(super) fn at(self, level: Level) -> f64 {
        match level {
            Level::Exact => self.exact_s,
            Level::Sampled => self.sampled_s,
            Level::Growth => 0.0,
        }
    }
}

/// What a process, or those that share their probes, used in a span of time.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Spent {
    pub(super) wall_s: f64,
    /// Tracing included.
    pub(super) cpu_s: f64,
    /// Allocations and frees.
    pub(super) calls: f64,
    /// By the allocations that were reported and what they stand for.
    pub(super) by_weights: Costs,
    /// With as many allocations as frees, which are all reported: few samples may stand for too little. The same as above where
    /// each call was reported.
    pub(super) by_frees: Costs,
}

impl Spent {
    /// However it was traced.
    pub(super) fn of_tracing(cpu_s: f64, tracing_s: f64) -> Self {
        let costs = Costs { exact_s: tracing_s, sampled_s: tracing_s };
        Self { cpu_s, by_weights: costs, by_frees: costs, ..Self::default() }
    }

    #[cfg(test)]
    pub(super) fn exact(wall_s: f64, cpu_s: f64, tracing_s: f64, calls: f64) -> Self {
        Self { wall_s, calls, ..Self::of_tracing(cpu_s, tracing_s) }
    }

    /// CPU time that tracing at a level takes: rather too much than too little.
    pub(super) fn tracing_s(&self, level: Level) -> f64 {
        self.by_weights.max(self.by_frees).at(level).min(self.cpu_s)
    }

    /// What the process would have needed alone, if it was traced like this.
    pub(super) fn work_s(&self, level: Level) -> f64 {
        (self.cpu_s - self.tracing_s(level)).max(LEAST_WORK * self.cpu_s)
    }

    /// How much slower tracing at a level `wanted` would make it, if it was traced at `level`; `None` of one that does nothing.
    pub(super) fn share_if(&self, level: Level, wanted: Level) -> Option<f64> {
        (self.cpu_s >= LEAST_CPU_S).then(|| self.share_of_look(level, wanted))
    }

    /// How much slower tracing made it.
    pub(super) fn share(&self, level: Level) -> Option<f64> {
        self.share_if(level, level)
    }

    /// Whether it is enough for a look.
    pub(super) fn says_enough(&self) -> bool {
        self.cpu_s >= LEAST_LOOK_S
    }

    /// As [`Spent::share_if`], however short the look; 0 of one that did nothing meanwhile.
    pub(super) fn share_of_look(&self, level: Level, wanted: Level) -> f64 {
        if !self.says_enough() {
            return 0.0;
        }
        let wanted_s = self.by_weights.max(self.by_frees).at(wanted);
        let most = 1.0 / LEAST_WORK;
        (wanted_s / self.work_s(level)).min(most)
    }

    pub(super) fn calls_per_s(&self, level: Level) -> f64 {
        self.calls / self.work_s(level).max(f64::EPSILON)
    }
}

impl std::ops::AddAssign for Spent {
    fn add_assign(&mut self, other: Self) {
        self.wall_s += other.wall_s;
        self.cpu_s += other.cpu_s;
        self.calls += other.calls;
        self.by_weights += other.by_weights;
        self.by_frees += other.by_frees;
    }
}

impl std::ops::Mul<f64> for Costs {
    type Output = Self;

    fn mul(self, times: f64) -> Self {
        Self { exact_s: self.exact_s * times, sampled_s: self.sampled_s * times }
    }
}

impl std::ops::AddAssign for Costs {
    fn add_assign(&mut self, other: Self) {
        self.exact_s += other.exact_s;
        self.sampled_s += other.sampled_s;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_beyond_all_time_there_was_is_bounded() {
        let spent = Spent::exact(1.0, 1.0, 1.5, 1e6);
        assert_eq!(spent.share(Level::Exact), Some(20.0));
    }

    #[test]
    fn of_one_that_does_nothing_nothing_is_said() {
        assert_eq!(Spent::exact(1.0, 0.0001, 0.00009, 50.0).share(Level::Exact), None);
    }

    #[test]
    fn the_dearer_of_two_estimates_counts() {
        let costs = |exact_s, sampled_s| Costs { exact_s, sampled_s };
        let spent = Spent {
            wall_s: 1.0,
            cpu_s: 1.0,
            calls: 1.0,
            by_weights: costs(0.3, 0.1),
            by_frees: costs(0.2, 0.2),
        };
        assert_eq!(spent.share(Level::Sampled), Some(0.25));
        assert_eq!(spent.share_if(Level::Sampled, Level::Exact), Some(0.3 / 0.8));
    }
}
