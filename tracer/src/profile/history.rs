//! When the most was live, and what the sites that are shown held over time.

use super::{Site, window::Window};
use crate::{
    capture::{CohortRow, Recording, SiteHistory},
    cost::Cost,
};

/// What a site held, as far as the ends of the intervals tell; of a window, by how much it was more than before.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Held {
    /// When all sites together held most.
    pub at_peak: Cost,
    /// When this site held most.
    pub most: Cost,
    /// The lifetimes of all its blocks together; of a block that lived less than an interval, nothing.
    pub block_seconds: f64,
}

/// Live bytes that were allocated at about this time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Birth {
    pub t_s: f64,
    pub bytes: i64,
}

/// The first interval at whose end the most was live in all.
pub(super) fn peak(recording: &Recording, window: &Window, is_wanted: impl Fn(u32) -> bool) -> u32 {
    let intervals = window.intervals();
    let first = *intervals.start();
    let mut live_bytes = vec![0; intervals.clone().count()];
    let processes = recording.processes.iter().filter(|(_, it)| is_wanted(it.pid));
    for sample in processes.filter_map(|(id, _)| recording.samples.get(id)).flatten() {
        if intervals.contains(&sample.interval) {
            live_bytes[(sample.interval - first) as usize] += sample.live.bytes;
        }
    }
    let most = live_bytes.iter().enumerate().rev().max_by_key(|it| it.1);
    first + most.map_or(0, |(at, _)| at as u32)
}

impl Held {
    pub(super) fn of(history: &SiteHistory, window: &Window, peak: u32, times_s: &[f64]) -> Self {
        let before = window.from.map(|it| history.at(it)).unwrap_or_default().live();
        let mut held = Self { at_peak: history.at(peak).live() - before, ..Self::default() };
        let (mut last, mut last_s) = (Cost::default(), window.from_s);
        let points = history.points.iter().filter(|it| window.intervals().contains(&it.interval));
        let states = points.map(|it| (times_s[it.interval as usize], it.live() - before));
        for (t_s, live) in states {
            held.block_seconds += last.blocks.max(0) as f64 * (t_s - last_s);
            (last, last_s) = (live, t_s);
            if live.bytes > held.most.bytes {
                held.most = live;
            }
        }
        held.block_seconds += last.blocks.max(0) as f64 * (window.to_s - last_s).max(0.0);
        held
    }
}

/// When the live bytes of `site` came into being, in order. Blocks whose birth is not known to lie in the window fill
/// up what those do not account for that surely were born in it.
pub(super) fn births(site: &Site, cohorts: &[CohortRow], window: &Window, older_s: f64) -> Vec<Birth> {
    let newest_s = window.to_s.min(window.at_s - older_s);
    let is_inside = |it: &CohortRow| it.from_s >= window.from_s && it.to_s <= newest_s;
    let is_across = |it: &CohortRow| !is_inside(it) && it.to_s > window.from_s && it.from_s < newest_s;
    let mut rest = site.live.bytes;
    let mut births = Vec::new();
    let inside = cohorts.iter().filter(|it| is_inside(it));
    for it in inside.chain(cohorts.iter().filter(|it| is_across(it))) {
        let bytes = it.bytes.min(rest);
        if bytes > 0 {
            births.push(Birth { t_s: it.from_s.max(window.from_s), bytes });
            rest -= bytes;
        }
    }
    births.sort_by(|a, b| a.t_s.total_cmp(&b.t_s));
    births
}
