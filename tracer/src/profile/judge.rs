//! Whether a site grows, and what that looks like.

use std::fmt;

use crate::capture::Point;

/// What a site looks like, from its slope and from what became of its blocks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Verdict {
    /// Too few intervals for a slope.
    #[default]
    TooShort,
    /// Everything has been freed.
    Freed,
    /// It grows to the end, and `kept` of its blocks are still live (0 to 1).
    Growing { kept: f64 },
    /// It holds about the same amount all the time, in ever new blocks.
    Turnover,
    /// It holds what it got early on.
    Steady,
    /// Its new blocks take the place of others that were made before the attach.
    Replacing,
}

impl fmt::Display for Verdict {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::TooShort => write!(out, "too short to judge"),
            Self::Freed => write!(out, "all freed"),
            Self::Growing { kept } => {
                write!(out, "growing: {:.0} % of its blocks are still live", kept * 100.0)
            }
            Self::Turnover => write!(out, "steady, in changing blocks"),
            Self::Steady => write!(out, "steady"),
            Self::Replacing => write!(out, "steady: its blocks take the place of older ones"),
        }
    }
}

/// Fewer points cannot be told from chance: three of them rise one time in six.
pub const MIN_POINTS: usize = 4;

/// A trend is taken for one if chance makes it less often than one time in twenty (one-sided normal deviate).
const TREND_DEVIATE: f64 = 1.645;

/// Points of a history that are compared: enough for a robust slope, few enough for 50,000 sites.
pub(super) const HISTORY_POINTS: usize = 32;

/// A site that has grown by less than this share of what it holds, over the whole window, is steady.
const GROWTH_SHARE: f64 = 0.1;

/// With fewer of its blocks live than this, a steady site is one of turnover.
const TURNOVER_SHARE: f64 = 0.5;

/// Bytes per second: the median of the slopes between all pairs of points (Theil 1950, Sen 1968), which
/// half of the points may be outliers without moving. 0 for fewer than two points.
fn slope(times: &[f64], values: &[i64]) -> f64 {
    let mut slopes = Vec::with_capacity(times.len() * times.len() / 2);
    for (at, (t, v)) in times.iter().zip(values).enumerate() {
        for (earlier_t, earlier_v) in times.iter().zip(values).take(at) {
            if t > earlier_t {
                slopes.push((v - earlier_v) as f64 / (t - earlier_t));
            }
        }
    }
    if slopes.is_empty() {
        return 0.0;
    }
    let middle = slopes.len() / 2;
    let (_, median, _) = slopes.select_nth_unstable_by(middle, f64::total_cmp);
    *median
}

/// What a site holds at the same times: all that is live, and without what is in the place of blocks from before the attach.
///
/// It grows if both do. A cache that was full at the attach does not by the second; by the first, neither does a
/// site whose blocks wander from the places of older blocks to others.
#[derive(Clone, Copy)]
pub(super) struct Course<'a> {
    pub(super) live: &'a [i64],
    pub(super) own: &'a [i64],
    /// What changed is no more than what samples may err by.
    pub(super) is_doubtful: bool,
}

/// Whether blocks were sampled, and what changed from one moment to the other is within two standard errors of that.
pub(super) fn is_doubtful(from: &Point, to: &Point) -> bool {
    let error = (from.samples.live_error_bytes as f64).hypot(to.samples.live_error_bytes as f64);
    to.samples.rate_bytes > 0 && (to.live() - from.live()).bytes as f64 <= error
}

impl<'a> Course<'a> {
    fn both(self) -> [&'a [i64]; 2] {
        [self.live, self.own]
    }
}

/// Bytes per second, of what grows in both ways; what shrinks does so as a whole.
pub(super) fn growth(times: &[f64], course: Course<'_>) -> f64 {
    let live = slope(times, course.live);
    if live > 0.0 { slope(times, course.own).clamp(0.0, live) } else { live }
}

/// A site that frees nearly all it allocates and has grown by less than a page in all exchanges blocks with others: it
/// says nothing.
const SLIGHT_SHARE: f64 = 0.1;
const PAGE_BYTES: f64 = 4096.0;

/// Whether more pairs of points rise than chance explains (Mann 1945, Kendall 1975). A site that is filled and emptied
/// in turns has a slope that depends on when it was looked at; it has no trend.
fn has_trend(values: &[i64]) -> bool {
    let pairs =
        values.iter().enumerate().flat_map(|(at, later)| values[..at].iter().map(move |it| (it, later)));
    let score: i64 = pairs.map(|(earlier, later)| (later - earlier).signum()).sum();
    let count = values.len() as f64;
    let variance = count * (count - 1.0) * (2.0 * count + 5.0) / 18.0;
    // Less one, for the score goes in steps.
    (score - 1) as f64 >= TREND_DEVIATE * variance.sqrt()
}

/// The slope of a long series, from at most [`HISTORY_POINTS`] of its points that lie evenly; `None` if it has no upward
/// trend.
pub fn growth_bytes_per_s(times_s: &[f64], live_bytes: &[i64]) -> Option<f64> {
    let (count, points) = (times_s.len(), times_s.len().min(HISTORY_POINTS));
    let places = (1..=points).map(|it| it * count / points - 1);
    let (times, values): (Vec<f64>, Vec<i64>) = places.map(|it| (times_s[it], live_bytes[it])).unzip();
    has_trend(&values).then(|| slope(&times, &values))
}

/// A buffer that becomes twice as large whenever it is full does so ever more seldom: if it is filled evenly, each pause is
/// as long as all the time before. Until the next one is overdue, nothing says that it has stopped.
fn is_between_doublings(times: &[f64], values: &[i64]) -> bool {
    let steps = || values.windows(2).zip(&times[1..]);
    let rises: Vec<(f64, &[i64])> = steps().filter(|(it, _)| it[1] > it[0]).map(|(it, t)| (*t, it)).collect();
    let [.., (previous_s, _), (last_s, last)] = rises[..] else { return false };
    let now_s = times.last().unwrap_or(&0.0);
    let falls = steps().any(|(it, _)| it[1] < it[0]);
    !falls && last[1] * 2 >= last[0] * 3 && now_s - last_s <= 2.0 * (last_s - previous_s)
}

/// The verdict from the whole history and from its last half: what has stopped growing does not leak.
/// `end` is the site at the end; of the `allocated_blocks` of the window `kept_blocks`
/// are live.
pub(super) fn verdict(
    end: &Point,
    allocated_blocks: i64,
    kept_blocks: i64,
    times: &[f64],
    course: Course<'_>,
) -> Verdict {
    let live = end.live();
    if live.blocks <= 0 {
        return Verdict::Freed;
    }
    if times.len() < MIN_POINTS {
        return Verdict::TooShort;
    }
    let half = (times.len() / 2).min(times.len() - MIN_POINTS);
    let span_s = |times: &[f64]| times.last().unwrap_or(&0.0) - times.first().unwrap_or(&0.0);
    let grows_by = |times: &[f64], values: &[i64], bytes: f64| slope(times, values) * span_s(times) > bytes;
    let grows =
        |times: &[f64], values: &[i64], share: f64| grows_by(times, values, share * live.bytes as f64);
    let kept = kept_blocks as f64 / allocated_blocks.max(1) as f64;
    let is_growing = |values: &[i64]| {
        (kept >= SLIGHT_SHARE || grows_by(times, values, PAGE_BYTES))
            && has_trend(values)
            && grows(times, values, GROWTH_SHARE)
            && (grows(&times[half..], &values[half..], GROWTH_SHARE / 2.0)
                || is_between_doublings(times, values))
    };
    if !course.is_doubtful && course.both().into_iter().all(is_growing) {
        Verdict::Growing { kept }
    } else if end.reused_bytes * 2 > live.bytes {
        Verdict::Replacing
    } else if allocated_blocks > 0 && kept < TURNOVER_SHARE {
        Verdict::Turnover
    } else {
        Verdict::Steady
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cost::Cost;

    #[test]
    fn the_slope_is_that_of_most_pairs() {
        let times = [0.0, 1.0, 2.0, 3.0, 4.0];
        assert_eq!(slope(&times, &[0, 10, 20, 30, 40]), 10.0);
        assert_eq!(slope(&times, &[7, 7, 7, 7, 7]), 0.0);
        assert_eq!(slope(&times, &[0, 10, 9999, 30, 40]), 10.0);
        assert_eq!(slope(&times[..1], &[5]), 0.0);
    }

    fn check(history: &[i64], allocated_blocks: i64, live_blocks: i64, expected: Verdict) {
        let times: Vec<f64> = (0..history.len()).map(|it| it as f64).collect();
        let live = Cost { bytes: *history.last().unwrap(), blocks: live_blocks };
        let end = Point { allocated: live, ..Point::default() };
        let course = Course { live: history, own: history, is_doubtful: false };
        assert_eq!(verdict(&end, allocated_blocks, live_blocks, &times, course), expected);
    }

    #[test]
    fn a_leak_grows_to_the_end() {
        check(&[0, 10, 20, 30, 40, 50], 5, 5, Verdict::Growing { kept: 1.0 });
    }

    #[test]
    fn what_is_filled_and_emptied_in_turns_does_not_grow() {
        check(&[10, 90, 20, 80, 15, 95, 30, 100], 99, 5, Verdict::Turnover);
        check(&[10, 30, 20, 40, 30, 50, 40, 60], 9, 9, Verdict::Growing { kept: 1.0 });
    }

    #[test]
    fn a_little_more_where_nearly_all_is_freed_is_turnover() {
        check(&[0, 100, 200, 300, 400, 500], 1000, 5, Verdict::Turnover);
        check(&[0, 1000, 2000, 3000, 4000, 5000], 1000, 5, Verdict::Growing { kept: 0.005 });
    }

    #[test]
    fn a_buffer_that_doubles_grows_until_the_next_doubling_is_overdue() {
        let doublings = [0, 10, 20, 20, 40, 40, 40, 40, 80, 80, 80, 80, 80, 80];
        let doublings = doublings.map(|it| it * 1000);
        check(&doublings, 10, 1, Verdict::Growing { kept: 0.1 });
        check(&[&doublings[..], &[80_000; 6]].concat(), 10, 1, Verdict::Turnover);
    }

    #[test]
    fn a_cache_that_is_full_is_steady() {
        check(&[0, 50, 100, 100, 100, 100, 100, 100], 4, 4, Verdict::Steady);
        check(&[0, 50, 100, 100, 100, 101, 100, 100], 40, 4, Verdict::Turnover);
    }

    #[test]
    fn blocks_in_the_place_of_older_ones_are_no_growth() {
        let live = Cost { bytes: 100, blocks: 10 };
        let end = Point { allocated: live, reused_bytes: 90, ..Point::default() };
        let times = [0.0, 1.0, 2.0, 3.0, 4.0];
        let judge = |live: &[i64], own: &[i64]| {
            let course = Course { live, own, is_doubtful: false };
            assert_eq!(verdict(&end, 10, 10, &times, course), Verdict::Replacing);
            growth(&times, course)
        };
        assert_eq!(judge(&[20, 40, 60, 80, 100], &[0, 10, 10, 10, 10]), 0.0, "a cache that was full before");
        assert_eq!(judge(&[0, 100, 100, 100, 100], &[0, 2, 4, 6, 8]), 0.0, "blocks that wander");
    }

    #[test]
    fn what_is_over_is_over() {
        check(&[10, 20, 0], 5, 0, Verdict::Freed);
        check(&[10, 20], 5, 5, Verdict::TooShort);
    }
}
