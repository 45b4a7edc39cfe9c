//! What processes have used in a run, and what of it was for tracing.

use super::spent::{Level, Spent};

/// What a process has used since it was met, and what of it was for us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub cpu_us: u64,
    pub tracing_us: u64,
}

/// Exact to the nanosecond, so that small parts add up.
#[derive(Clone, Copy, Default)]
pub(super) struct Account {
    cpu_s: f64,
    /// Of tracing, by the weights of what was reported and by the frees.
    tracing_s: [f64; 2],
}

impl Account {
    pub(super) fn add(&mut self, spent: &Spent, level: Level) {
        self.cpu_s += spent.cpu_s;
        self.tracing_s[0] += spent.by_weights.at(level);
        self.tracing_s[1] += spent.by_frees.at(level);
    }

    pub(super) fn sum<'a>(all: impl Iterator<Item = &'a Self>) -> Self {
        all.fold(Self::default(), |sum, it| Self {
            cpu_s: sum.cpu_s + it.cpu_s,
            tracing_s: sum.tracing_s.map(|sum_s| sum_s + it.tracing_s()),
        })
    }

    /// How much slower tracing has made it.
    pub(super) fn share(self) -> Option<f64> {
        Spent::of_tracing(self.cpu_s, self.tracing_s()).share(Level::Exact)
    }

    pub(super) fn used(self) -> Used {
        Used { cpu_us: (self.cpu_s * 1e6) as u64, tracing_us: (self.tracing_s() * 1e6) as u64 }
    }

    fn tracing_s(self) -> f64 {
        self.tracing_s[0].max(self.tracing_s[1]).min(self.cpu_s)
    }
}
