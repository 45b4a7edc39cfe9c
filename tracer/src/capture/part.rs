//! A part of a recording that is a recording too: some of its processes, and of each the sites that hold most.

use std::collections::{BTreeMap, BTreeSet};

use rustc_hash::FxHashSet;

use super::Recording;
use crate::event::Loss;

impl Recording {
    /// What is here of the processes that are wanted, with at most `sites` sites of each: those that hold most now, or held
    /// most once. What has been left out is counted among the losses.
    #[must_use]
    pub fn part(&self, is_wanted: impl Fn(u32) -> bool, sites: usize) -> Self {
        let processes: BTreeMap<u32, _> =
            self.processes.iter().filter(|it| is_wanted(*it.0)).map(|(id, it)| (*id, it.clone())).collect();
        let groups: BTreeSet<&str> = processes.values().filter_map(|it| it.cgroup.as_deref()).collect();
        let mut part = Self {
            header: self.header.clone(),
            times_s: self.times_s.clone(),
            samples: pick(&self.samples, |it| is_wanted(*it)),
            cgroups: pick(&self.cgroups, |it| groups.contains(it.as_str())),
            losses: self.losses.clone(),
            marks: self.marks.clone(),
            ooms: self.ooms.iter().filter(|it| is_wanted(it.process)).cloned().collect(),
            tiers: self.tiers.iter().filter(|it| is_wanted(it.process)).cloned().collect(),
            incident: self.incident.clone(),
            end: self.end.clone(),
            later_intervals: self.later_intervals,
            forgotten: self.forgotten,
            ..Self::default()
        };
        let left_out = self.beyond(&is_wanted, sites);
        let mut left_out_bytes = 0;
        for (id, site) in self.sites.iter().filter(|it| is_wanted(it.1.process)) {
            if left_out.contains(id) {
                left_out_bytes += site.points.last().map_or(0, |it| it.live().bytes.max(0));
            } else {
                part.sites.insert(*id, site.clone());
            }
        }
        if !left_out.is_empty() {
            *part.losses.entry(Loss::LeftOutSites.name().to_owned()).or_default() += left_out.len() as u64;
            *part.losses.entry(Loss::LeftOutBytes.name().to_owned()).or_default() += left_out_bytes as u64;
        }
        // What its sites refer to.
        for id in part.sites.values().map(|it| it.stack).collect::<BTreeSet<u32>>() {
            let Some(stack) = self.stacks.get(&id) else { continue };
            let frames = stack.frames.iter().map(|it| &self.frames[*it as usize]);
            for frame in frames.clone() {
                if let Some(module) = self.modules.get(&frame.module) {
                    part.modules.entry(frame.module).or_insert_with(|| module.clone());
                }
            }
            let frames = frames.map(|it| (it.module, it.offset, it.function.as_deref()));
            part.add_frames(id, &stack.stop, frames);
        }
        part.processes = processes;
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

fn pick<K: Clone + Ord, T: Clone>(all: &BTreeMap<K, T>, is_wanted: impl Fn(&K) -> bool) -> BTreeMap<K, T> {
    all.iter().filter(|it| is_wanted(it.0)).map(|(key, it)| (key.clone(), it.clone())).collect()
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
