//! A part of a recording that is a recording too: some of its processes, and of each the sites that hold most.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashSet;

use super::{Part, Recording, SiteHistory};
use crate::event::Loss;

impl Recording {
    /// What is here of the processes that are wanted, with at most `sites` sites of each: those that hold most now, or held
    /// most once. What has been left out is counted among the losses.
    #[must_use]
    pub fn part(&self, is_wanted: impl Fn(u32) -> bool, sites: usize) -> Self {
        let left_out = self.beyond(&is_wanted, sites);
        let processes: BTreeSet<u32> = self.processes.keys().copied().filter(|it| is_wanted(*it)).collect();
        let wants_site = |id: u32, _: &SiteHistory| !left_out.contains(&id);
        let mut part = self.excerpt(&Part { processes: &processes, wants_site: &wants_site, moments: None });
        if !left_out.is_empty() {
            let live = left_out.iter().filter_map(|it| self.sites.get(it)?.points.last());
            let left_out_bytes: i64 = live.map(|it| it.live().bytes.max(0)).sum();
            *part.losses.entry(Loss::LeftOutSites.name().to_owned()).or_default() += left_out.len() as u64;
            *part.losses.entry(Loss::LeftOutBytes.name().to_owned()).or_default() += left_out_bytes as u64;
        }
        part
    }

    /// Of each process that is wanted: the sites beyond the first `count`.
    fn beyond(&self, is_wanted: impl Fn(u32) -> bool, count: usize) -> FxHashSet<u32> {
        let mut own: BTreeMap<u32, Vec<(i64, i64, u32)>> = BTreeMap::new();
        for (id, site) in self.sites.iter().filter(|it| is_wanted(it.1.process)) {
            let last = site.points.last().copied().unwrap_or_default();
            own.entry(site.process).or_default().push((last.live().bytes, last.peak_bytes, *id));
        }
        let mut beyond = FxHashSet::default();
        for mut sites in own.into_values().filter(|it| it.len() > count) {
            sites.sort_unstable_by(|a, b| b.cmp(a));
            beyond.extend(sites.drain(count..).map(|it| it.2));
        }
        beyond
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        capture::{IntervalRow, ProcessRow, ProcessSample, Row, SiteRow},
        profile::sample_recording,
    };

    #[test]
    fn all_of_it_is_itself() {
        let whole = sample_recording();
        let part = whole.part(|_| true, usize::MAX);
        let rows = |it: &Recording| it.rows("saved").collect::<Vec<_>>();
        assert_eq!(rows(&part), rows(&whole));
    }

    /// Three processes of four sites, of 1 to 4 bytes.
    fn several() -> Recording {
        let mut recording = sample_recording();
        let mut row = IntervalRow { t_s: 5.0, ..IntervalRow::default() };
        for process in 2..5 {
            recording.add(Row::Process(ProcessRow { id: process, ..ProcessRow::default() }));
            row.processes.push(ProcessSample { process, ..ProcessSample::default() });
            row.sites.extend((1..5).map(|it| {
                let site = process * 10 + it;
                SiteRow { site, process, allocated_bytes: i64::from(it), ..SiteRow::default() }
            }));
        }
        recording.add(Row::Interval(row));
        recording
    }

    #[test]
    fn of_one_process_nothing_of_others_is_in_it() {
        let part = several().part(|it| it == 3, usize::MAX);
        assert_eq!(part.processes.keys().collect::<Vec<_>>(), [&3]);
        assert_eq!(part.samples.keys().collect::<Vec<_>>(), [&3]);
        assert_eq!(part.sites.keys().collect::<Vec<_>>(), [&31, &32, &33, &34]);
        assert_eq!(part.stacks.len(), 1, "the one that its sites name");
        assert_eq!(part.losses.get("left_out_sites"), None, "others are not meant");
    }

    #[test]
    fn those_that_hold_least_are_left_out_and_counted() {
        let part = several().part(|it| it > 2, 3);
        assert_eq!(part.sites.keys().collect::<Vec<_>>(), [&32, &33, &34, &42, &43, &44]);
        assert_eq!((part.losses["left_out_sites"], part.losses["left_out_bytes"]), (2, 2));
    }
}
