//! How far what was measured may be off, where blocks were sampled.
//!
//! A budget is breached if even the least that may be true is more than it allows, and kept if the most that may be true is
//! not. In between nothing can be said, and nothing is.

use super::{Budget, Judgement, judge::Judging};
use crate::{
    capture::{Point, SiteHistory},
    profile::{Range, range_of},
};

/// Between which amounts the truth lies, nineteen times of twenty.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bounds {
    pub low: f64,
    pub high: f64,
}

impl Bounds {
    pub(super) fn judge(self, allowed: f64) -> Judgement {
        if self.low > allowed {
            Judgement::Breached
        } else if self.high > allowed {
            Judgement::Undecided
        } else {
            Judgement::Kept
        }
    }
}

impl Judging<'_> {
    /// `None` if no block that counts was sampled. Of budgets for one site or process it is about the one that was measured, as
    /// if it had not been picked for being the largest.
    pub(super) fn bounds(&self, budget: Budget, measured: f64) -> Option<Bounds> {
        let is_sampled = |it: &SiteHistory| it.points.last().is_some_and(|it| it.samples.rate_bytes > 0);
        if !self.series.sites().any(|(_, it)| is_sampled(it)) {
            return None;
        }
        match budget {
            Budget::Growth(_) => Some(self.rate(self.series.sites().map(|it| it.1), measured)),
            Budget::GrowthPerSite(_) => {
                let first = self.fastest()?;
                Some(self.rate(self.series.sites().filter(|it| it.0 == first).map(|it| it.1), measured))
            }
            Budget::Live(_) => {
                let most = self.series.most(self.from)?;
                let points = self.series.sites_of(most.process).map(|(_, it)| it.at(most.interval));
                Some(bytes(range_of(points, most.bytes)))
            }
            Budget::LivePerSite(_) => {
                let (_, history, most, _) = self.peaks_of_sites().into_iter().next()?;
                Some(bytes(range_of([history.at(most.interval)].into_iter(), most.bytes)))
            }
            Budget::Leaked(_) => {
                let (_, process, sites) = self.worst_leak()?;
                let suspected = |place: usize| sites.iter().any(|it| it.site == place);
                let points =
                    self.series.sites_of(process.id).filter(|it| suspected(it.0)).map(|it| it.1.at(self.to));
                Some(bytes(range_of(points, measured as i64)))
            }
            Budget::Rss(_) => None,
        }
    }

    /// What grows by the slope of a line has changed by that much more or less in all.
    fn rate<'a>(&self, sites: impl Iterator<Item = &'a SiteHistory>, measured: f64) -> Bounds {
        let times_s = &self.recording.times_s;
        let span_s = (times_s[self.to as usize] - times_s[self.from as usize]).max(f64::MIN_POSITIVE);
        let square = |it: Point| (it.samples.live_error_bytes as f64).powi(2);
        let error = sites.map(|it| square(it.at(self.from)) + square(it.at(self.to))).sum::<f64>().sqrt();
        Bounds { low: measured - error / span_s, high: measured + error / span_s }
    }
}

fn bytes(range: Range) -> Bounds {
    Bounds { low: range.low_bytes as f64, high: range.high_bytes as f64 }
}
