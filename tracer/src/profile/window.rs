//! The part of a recording that a question is about, and what of it is live.
//!
//! State is known at the ends of intervals, so a window begins and ends at those that are nearest to the times
//! asked for. Blocks belong to it if they were allocated in it.

use super::Query;
use crate::{
    capture::{CohortRow, Recording, SiteHistory},
    cost::Cost,
};

/// After the end of interval `from`, up to the end of interval `to`, looked at when interval `at` ended.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Window {
    /// `None`: from the beginning.
    pub(super) from: Option<u32>,
    pub(super) to: u32,
    /// The last of the recording, as far as it was read.
    pub(super) at: u32,
    /// Seconds since tracing began.
    pub(super) from_s: f64,
    pub(super) to_s: f64,
    /// When what is live was looked at; not before `to_s`.
    pub(super) at_s: f64,
}

impl Window {
    /// `None` if no interval ends in it.
    pub(super) fn of(recording: &Recording, query: &Query) -> Option<Self> {
        let at = recording.times_s.len().checked_sub(1)? as u32;
        let from = query.from_s.and_then(|it| recording.interval_near(it));
        let to = query.to_s.map_or(Some(at), |it| recording.interval_near(it))?;
        if from.is_some_and(|it| it >= to) {
            return None;
        }
        let time = |it: u32| recording.times_s[it as usize];
        // After its last interval a recording holds nothing more, but has lasted on.
        let is_last = |it: u32| it == at && recording.later_intervals == 0;
        let end = |it: u32| if is_last(it) { time(it).max(recording.end_s()) } else { time(it) };
        Some(Self { from, to, at, from_s: from.map_or(0.0, time), to_s: end(to), at_s: end(at) })
    }

    fn is_everything(&self) -> bool {
        self.from.is_none() && self.to == self.at
    }

    /// The intervals that end in it.
    pub(super) fn intervals(&self) -> std::ops::RangeInclusive<u32> {
        self.from.map_or(0, |it| it + 1)..=self.to
    }
}

/// What is live of a window, and by how much that may be wrong.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Survivors {
    pub(super) live: Cost,
    /// At most this much more or less.
    pub(super) error: Cost,
}

/// What a site allocated in `window` and is still live at its `at`.
///
/// Cohorts say so by birth. Those that were merged across a border are known in sum only; the counters at the
/// borders bound them: what is live now and was not before, and did not come after, was born in between; and
/// no more can be live than was allocated. A site that only grows is therefore exact however old it is.
pub(super) fn survivors(site: &SiteHistory, window: &Window, times_s: &[f64]) -> Survivors {
    let at = site.at(window.at);
    if window.is_everything() {
        return Survivors { live: at.live(), error: Cost::default() };
    }
    let from = window.from.map(|it| site.at(it)).unwrap_or_default();
    let to = site.at(window.to);
    let span = (window.from.map_or(f64::MIN, |it| times_s[it as usize]), times_s[window.to as usize]);
    let born = Born::of(&site.cohorts, span);
    let allocated = to.allocated - from.allocated;
    let not_others = at.live() - from.live() - (at.allocated - to.allocated);
    let bound = |certain: i64, uncertain: i64, guess: f64, allocated: i64, not_others: i64| {
        let highest = (certain + uncertain).min(allocated).max(0);
        let lowest = certain.max(not_others).clamp(0, highest);
        let live = (certain + guess.round() as i64).clamp(lowest, highest);
        (live, (live - lowest).max(highest - live))
    };
    let (bytes, error_bytes) =
        bound(born.inside.bytes, born.across.bytes, born.guess_bytes, allocated.bytes, not_others.bytes);
    let (blocks, error_blocks) =
        bound(born.inside.blocks, born.across.blocks, born.guess_blocks, allocated.blocks, not_others.blocks);
    Survivors { live: Cost { bytes, blocks }, error: Cost { bytes: error_bytes, blocks: error_blocks } }
}

/// Live blocks by where their births lie.
#[derive(Default)]
struct Born {
    inside: Cost,
    across: Cost,
    /// Of those across, if births were even.
    guess_bytes: f64,
    guess_blocks: f64,
}

impl Born {
    fn of(cohorts: &[CohortRow], (from_s, to_s): (f64, f64)) -> Self {
        let mut born = Self::default();
        for it in cohorts {
            let cost = Cost { bytes: it.bytes, blocks: it.blocks };
            if it.from_s >= from_s && it.to_s <= to_s {
                born.inside += cost;
            } else if it.to_s > from_s && it.from_s < to_s {
                let overlap_s = it.to_s.min(to_s) - it.from_s.max(from_s);
                let share = overlap_s / (it.to_s - it.from_s);
                born.across += cost;
                born.guess_bytes += cost.bytes as f64 * share;
                born.guess_blocks += cost.blocks as f64 * share;
            }
        }
        born
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::Point;

    /// A site that allocates 10 bytes in each of eight seconds and frees `freed` of them in the eighth.
    fn site(cohorts: &[(f64, f64, i64)], freed: i64) -> SiteHistory {
        let bytes = |bytes| Cost { bytes, blocks: 0 };
        let point = |it: u32| Point {
            interval: it,
            allocated: bytes(10 * (i64::from(it) + 1)),
            freed: bytes(if it == 7 { freed } else { 0 }),
            peak_bytes: 0,
            ..Point::default()
        };
        let cohort = |&(from_s, to_s, bytes)| CohortRow { from_s, to_s, bytes, blocks: 0 };
        SiteHistory {
            points: (0..8).map(point).collect(),
            cohorts: cohorts.iter().map(cohort).collect(),
            ..SiteHistory::default()
        }
    }

    fn check(site: &SiteHistory, (from, to): (Option<u32>, u32), expected: (i64, i64)) {
        let times_s: Vec<f64> = (1..=8).map(f64::from).collect();
        let window = Window { from, to, at: 7, from_s: 0.0, to_s: 0.0, at_s: 0.0 };
        let found = survivors(site, &window, &times_s);
        assert_eq!((found.live.bytes, found.error.bytes), expected, "{from:?} {to}");
    }

    #[test]
    fn cohorts_that_end_at_the_borders_are_exact() {
        let site = site(&[(0.0, 2.0, 5), (2.0, 4.0, 6), (4.0, 8.0, 7)], 62);
        check(&site, (None, 7), (18, 0));
        check(&site, (None, 1), (5, 0));
        check(&site, (Some(1), 3), (6, 0));
        check(&site, (Some(1), 7), (13, 0));
    }

    #[test]
    fn a_site_that_never_frees_is_exact_whatever_was_merged() {
        let site = site(&[(0.0, 8.0, 80)], 0);
        check(&site, (Some(1), 3), (20, 0));
        check(&site, (Some(5), 7), (20, 0));
    }

    #[test]
    fn what_was_merged_across_a_border_is_said_to_be_uncertain() {
        // 40 of 80 bytes are live; how many of the 20 of the third and fourth second?
        let site = site(&[(0.0, 8.0, 40)], 40);
        check(&site, (Some(1), 3), (10, 10));
        check(&site, (None, 3), (20, 20));
    }

    #[test]
    fn nothing_is_live_that_was_freed() {
        check(&site(&[], 80), (Some(1), 3), (0, 0));
    }
}
