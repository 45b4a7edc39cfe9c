//! What each site did, interval by interval, made small enough to be sent around.

use std::collections::BTreeMap;

use crate::{
    capture::{self, Recording},
    cost::Cost,
    profile::{Profile, Site},
};

/// Points of all histories together that a file holds at most. So many of 20,000 sites that change in each of 300
/// intervals make a file of 9.1 MB, which Chromium reads in 0.6 s.
const MAX_POINTS: usize = 750_000;

/// Counters since the attach, at the end of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) struct Point {
    pub(super) edge: u32,
    pub(super) allocated: Cost,
    pub(super) freed: Cost,
}

fn point(recorded: &capture::Point) -> Point {
    Point { edge: recorded.interval, allocated: recorded.allocated, freed: recorded.freed }
}

/// Histories on a grid of times. A grid coarser than the intervals leaves out points; those that stay are as exact
/// as before, since they are totals.
pub(super) struct Histories {
    /// Every how many intervals there is an edge; the last interval always ends at one.
    pub(super) step: usize,
    pub(super) intervals: usize,
    by_site: BTreeMap<u32, Vec<Point>>,
}

impl Histories {
    /// Of the sites of `profile`, by their ids.
    pub(super) fn new(recording: &Recording, profile: &Profile) -> Self {
        let last = (recording.times_s.len() as u32).saturating_sub(1);
        let points = |it: &Site| Some(it.history(recording, last)?.points.iter().map(point).collect());
        let by_site = profile.sites.iter().filter_map(|it| Some((it.id, points(it)?)));
        let histories = Self { step: 1, intervals: recording.times_s.len(), by_site: by_site.collect() };
        histories.at_most(MAX_POINTS)
    }

    /// Makes the grid as coarse as need be.
    fn at_most(mut self, max_points: usize) -> Self {
        let by_interval = &self.by_site;
        let thinned = |step: usize| -> usize {
            by_interval.values().map(|it| thin(it, self.intervals, step).count()).sum()
        };
        let mut step = 1;
        while step < self.intervals && thinned(step) > max_points {
            step += 1 + step / 4;
        }
        for points in self.by_site.values_mut() {
            *points = thin(points, self.intervals, step).collect();
        }
        self.step = step;
        self
    }

    /// The intervals at whose ends there is an edge.
    pub(super) fn edges(&self) -> impl Iterator<Item = usize> {
        (first_edge(self.intervals, self.step)..self.intervals).step_by(self.step)
    }

    pub(super) fn of(&self, site: u32) -> &[Point] {
        self.by_site.get(&site).map_or(&[], Vec::as_slice)
    }

    /// The history of several sites as if they were one.
    pub(super) fn sum(&self, sites: impl Iterator<Item = u32>) -> Vec<Point> {
        let mut changes: BTreeMap<u32, Point> = BTreeMap::new();
        for site in sites {
            let mut before = Point::default();
            for point in self.of(site) {
                let change = changes.entry(point.edge).or_default();
                change.allocated += point.allocated - before.allocated;
                change.freed += point.freed - before.freed;
                before = *point;
            }
        }
        let mut total = Point::default();
        let add = |(edge, change): (u32, Point)| {
            total.edge = edge;
            total.allocated += change.allocated;
            total.freed += change.freed;
            total
        };
        changes.into_iter().map(add).collect()
    }
}

fn first_edge(intervals: usize, step: usize) -> usize {
    intervals.saturating_sub(1) % step
}

/// The last point up to each edge.
fn thin(points: &[Point], intervals: usize, step: usize) -> impl Iterator<Item = Point> {
    let first = first_edge(intervals, step);
    let edge = move |it: &Point| (it.edge as usize + step - 1 - first) / step;
    points
        .chunk_by(move |a, b| edge(a) == edge(b))
        .filter_map(|it| it.last())
        .map(move |it| Point { edge: edge(it) as u32, ..*it })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn grown(edge: u32, allocated: i64) -> Point {
        Point { edge, allocated: Cost { bytes: allocated, blocks: 1 }, freed: Cost::default() }
    }

    fn histories(intervals: usize, sites: &[&[(u32, i64)]]) -> Histories {
        let points = |it: &&[(u32, i64)]| it.iter().map(|(edge, bytes)| grown(*edge, *bytes)).collect();
        Histories { step: 1, intervals, by_site: (0..).zip(sites.iter().map(points)).collect() }
    }

    #[test]
    fn a_coarser_grid_keeps_exact_totals_and_the_end() {
        let thin = histories(7, &[&[(0, 10), (1, 20), (2, 30), (5, 40), (6, 50)]]).at_most(4);
        assert_eq!(thin.edges().collect::<Vec<_>>(), [0, 2, 4, 6]);
        assert_eq!(thin.of(0), [grown(0, 10), grown(1, 30), grown(3, 50)]);
    }

    #[test]
    fn what_is_small_stays_as_it_is() {
        let all = histories(3, &[&[(0, 10), (2, 30)], &[(1, 5)]]).at_most(3);
        assert_eq!(
            (all.step, all.of(0), all.of(1)),
            (1, &[grown(0, 10), grown(2, 30)][..], &[grown(1, 5)][..])
        );
    }

    #[test]
    fn a_sum_is_that_of_its_sites_at_each_time() {
        let both = histories(3, &[&[(0, 10), (2, 30)], &[(1, 5), (2, 9)]]);
        let bytes: Vec<_> =
            both.sum([0, 1].into_iter()).iter().map(|it| (it.edge, it.allocated.bytes)).collect();
        assert_eq!(bytes, [(0, 10), (1, 15), (2, 39)]);
    }
}
