//! Live heap bytes over time, of one process and of all.

use std::collections::BTreeMap;

use crate::{
    capture::{Point, Recording, SiteHistory},
    profile::Site,
};

/// Heap sites that count, by process.
pub(super) struct Series<'a> {
    recording: &'a Recording,
    processes: BTreeMap<u32, Vec<(usize, &'a SiteHistory)>>,
}

/// The most that one process held.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Most {
    pub(super) process: u32,
    pub(super) interval: u32,
    pub(super) bytes: i64,
}

impl<'a> Series<'a> {
    /// `counts` says of a site, by its place, whether it does.
    pub(super) fn new(
        recording: &'a Recording,
        sites: &[Site],
        counts: impl Fn(usize, &Site) -> bool,
    ) -> Self {
        let mut processes: BTreeMap<u32, Vec<_>> = BTreeMap::new();
        for (at, site) in sites.iter().enumerate().filter(|(at, it)| counts(*at, it)) {
            if let Some(history) = recording.sites.get(&site.id) {
                processes.entry(site.process).or_default().push((at, history));
            }
        }
        Self { recording, processes }
    }

    /// (place, history) of the sites that count.
    pub(super) fn sites(&self) -> impl Iterator<Item = (usize, &'a SiteHistory)> + '_ {
        self.processes.values().flatten().copied()
    }

    pub(super) fn sites_of(&self, process: u32) -> impl Iterator<Item = (usize, &'a SiteHistory)> + '_ {
        self.processes.get(&process).into_iter().flatten().copied()
    }

    /// The last interval in which the process lived, which is the one in which it ended.
    pub(super) fn last_interval(&self, process: u32) -> u32 {
        let times_s = &self.recording.times_s;
        let last = times_s.len().saturating_sub(1);
        let ended = self.recording.processes.get(&process).and_then(|it| it.ended.as_ref());
        ended.map_or(last, |it| times_s.partition_point(|t_s| *t_s < it.t_s).min(last)) as u32
    }

    /// The bytes that `value` takes from each site of a process, at the end of each interval up to its last.
    fn of(&self, process: u32, value: fn(&Point) -> i64) -> Vec<i64> {
        let mut changes = vec![0; self.recording.times_s.len()];
        for (_, history) in self.sites_of(process) {
            let mut before = 0;
            for point in &history.points {
                let now = value(point);
                changes[point.interval as usize] += now - before;
                before = now;
            }
        }
        let mut live_bytes = 0;
        let sum = |change: i64| {
            live_bytes += change;
            live_bytes
        };
        changes.into_iter().take(self.last_interval(process) as usize + 1).map(sum).collect()
    }

    /// Of all processes: at the end of each interval, what `value` takes from those that have not ended in an earlier one.
    pub(super) fn total(&self, value: fn(&Point) -> i64) -> Vec<i64> {
        let mut total = vec![0; self.recording.times_s.len()];
        for process in self.processes.keys() {
            total.iter_mut().zip(self.of(*process, value)).for_each(|(sum, it)| *sum += it);
        }
        total
    }

    /// From the end of interval `from` on. Processes are not added up: what a fork shares with its parent would count
    /// twice.
    pub(super) fn most(&self, from: u32) -> Option<Most> {
        let of = |process: u32| {
            let values =
                (0..).zip(self.of(process, |it| it.live().bytes)).filter(|(interval, _)| *interval >= from);
            values.map(move |(interval, bytes)| Most { process, interval, bytes }).max_by_key(Most::key)
        };
        self.processes.keys().filter_map(|it| of(*it)).max_by_key(Most::key)
    }
}

impl Most {
    /// The first of equal ones.
    pub(super) fn key(&self) -> (i64, std::cmp::Reverse<u32>) {
        (self.bytes, std::cmp::Reverse(self.interval))
    }
}
