//! A part of a recording, as a recording of its own: some processes, some of their sites, some moments. Whoever holds the
//! whole can hand it over and go on.

use std::{collections::BTreeSet, path::Path};

use super::{Recording, Sample, SiteHistory};

/// What is to be in it.
pub struct Part<'a> {
    /// By the recording's own numbers.
    pub processes: &'a BTreeSet<u32>,
    pub wants_site: &'a dyn Fn(u32, &SiteHistory) -> bool,
    /// Places in [`Recording::times_s`], in order; `None`: every one.
    pub moments: Option<&'a [u32]>,
}

impl Recording {
    /// The part, with no more frames and modules than it names. Its counters are the whole's at each moment.
    #[must_use]
    pub fn excerpt(&self, part: &Part<'_>) -> Self {
        let mut excerpt = Self {
            header: self.header.clone(),
            times_s: match part.moments {
                Some(moments) => moments.iter().map(|it| self.times_s[*it as usize]).collect(),
                None => self.times_s.clone(),
            },
            losses: self.losses.clone(),
            pressure: self.pressure,
            incident: self.incident.clone(),
            end: self.end.clone(),
            later_intervals: self.later_intervals,
            forgotten: self.forgotten,
            ..Self::default()
        };
        let is_in = |id: &u32| part.processes.contains(id);
        for (id, row) in self.processes.iter().filter(|it| is_in(it.0)) {
            excerpt.processes.insert(*id, row.clone());
            if let Some(samples) = self.samples.get(id) {
                excerpt.samples.insert(*id, samples_at(samples, part.moments));
            }
        }
        // Theirs and those above, which may have the limit.
        let groups: Vec<&str> = excerpt.processes.values().filter_map(|it| it.cgroup.as_deref()).collect();
        let is_above = |path: &str| groups.iter().any(|it| Path::new(it).starts_with(path));
        for (path, samples) in self.cgroups.iter().filter(|it| is_above(it.0)) {
            let at = |interval: u32| place(part.moments, interval);
            let samples = samples.iter().filter_map(|it| Some((at(it.0)?, it.1.clone()))).collect();
            excerpt.cgroups.insert(path.clone(), samples);
        }
        excerpt.ooms = self.ooms.iter().filter(|it| is_in(&it.process)).cloned().collect();
        excerpt.tiers = self.tiers.iter().filter(|it| is_in(&it.process)).cloned().collect();
        if part.moments.is_none() {
            excerpt.marks.clone_from(&self.marks);
        }
        let sites = self.sites.iter().filter(|it| is_in(&it.1.process) && (part.wants_site)(*it.0, it.1));
        for (id, site) in sites {
            excerpt.take_stack(self, site.stack);
            excerpt.sites.insert(*id, site_at(site, part.moments));
        }
        excerpt
    }

    fn take_stack(&mut self, whole: &Self, id: u32) {
        let Some(stack) = whole.stacks.get(&id).filter(|_| !self.stacks.contains_key(&id)) else { return };
        let frames = stack.frames.iter().map(|it| &whole.frames[*it as usize]);
        for frame in frames.clone() {
            if let Some(module) = whole.modules.get(&frame.module) {
                self.modules.entry(module.id).or_insert_with(|| module.clone());
            }
        }
        let frames = frames.map(|it| (it.module, it.offset, it.function.as_deref()));
        self.add_frames(id, &stack.stop, frames);
    }
}

/// Where an interval of the whole is in the part.
fn place(moments: Option<&[u32]>, interval: u32) -> Option<u32> {
    match moments {
        None => Some(interval),
        Some(moments) => moments.binary_search(&interval).ok().map(|it| it as u32),
    }
}

fn samples_at(samples: &[Sample], moments: Option<&[u32]>) -> Vec<Sample> {
    let at = |it: &Sample| Some(Sample { interval: place(moments, it.interval)?, ..*it });
    samples.iter().filter_map(at).collect()
}

/// What is live at the last point is told by birth; so the last moment must be the whole's last, or that is not true.
fn site_at(site: &SiteHistory, moments: Option<&[u32]>) -> SiteHistory {
    let Some(moments) = moments else { return site.clone() };
    let mut points = Vec::with_capacity(moments.len());
    let mut before = 0;
    for (here, moment) in (0..).zip(moments) {
        let seen = site.points.partition_point(|it| it.interval <= *moment);
        if seen > before {
            let mut point = site.points[seen - 1];
            point.interval = here;
            points.push(point);
        }
        before = seen;
    }
    SiteHistory { points, cohorts: site.cohorts.clone(), ..site.without_history() }
}

impl SiteHistory {
    /// Whose it is and where it came from.
    fn without_history(&self) -> Self {
        Self {
            process: self.process,
            kind: self.kind.clone(),
            via: self.via.clone(),
            stack: self.stack,
            ..Self::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        capture::{EndRow, IntervalRow, ModuleRow, ProcessRow, ProcessSample, Row, SiteRow, StackRow},
        profile::{Profile, Query, sample_recording},
    };

    const ALL: &dyn Fn(u32, &SiteHistory) -> bool = &|_, _| true;

    #[test]
    fn all_of_it_is_the_whole() {
        let whole = sample_recording();
        let processes: BTreeSet<u32> = whole.processes.keys().copied().collect();
        let excerpt = whole.excerpt(&Part { processes: &processes, wants_site: ALL, moments: None });
        let profile = |it: &Recording| Profile::new(it, &Query::default(), usize::MAX);
        assert_eq!(profile(&excerpt), profile(&whole));
    }

    #[test]
    fn a_window_of_it_says_what_the_whole_says_of_that_window() {
        let whole = sample_recording();
        let processes: BTreeSet<u32> = whole.processes.keys().copied().collect();
        let last = whole.times_s.len() as u32 - 1;
        for from in 0..last {
            let moments = [from, last];
            let part = Part { processes: &processes, wants_site: ALL, moments: Some(&moments) };
            let excerpt = whole.excerpt(&part);
            let from_s = Some(whole.times_s[from as usize]);
            let query = Query { from_s, overlapping: true, ..Query::default() };
            let sites = |it: &Recording| {
                let profile = Profile::new(it, &query, usize::MAX);
                let sites = profile.sites.iter().map(|it| (it.id, it.live, it.allocated, it.live_error));
                sites.collect::<Vec<_>>()
            };
            assert_eq!(sites(&excerpt), sites(&whole), "from {from}");
            assert!(excerpt.points() <= whole.points());
        }
    }

    #[test]
    fn it_names_nothing_of_others() {
        let mut whole = Recording::default();
        for id in 1..=3 {
            whole.add(Row::Module(ModuleRow { id, path: format!("/{id}"), build_id: None }));
            let frame = |offset| crate::capture::FrameRow { module: id, offset, function: None };
            let frames = vec![frame(1), frame(2)];
            whole.add(Row::Stack(StackRow { id, stop: "complete".to_owned(), frames }));
            let cgroup = Some(format!("/group{id}"));
            whole.add(Row::Process(ProcessRow { id, cgroup, ..ProcessRow::default() }));
        }
        let site = |id| SiteRow { site: id, process: id, stack: id, ..SiteRow::default() };
        let sample = |process| ProcessSample { process, rss_bytes: Some(1), ..ProcessSample::default() };
        whole.add(Row::Interval(IntervalRow {
            processes: (1..=3).map(sample).collect(),
            sites: (1..=3).map(site).collect(),
            ..IntervalRow::default()
        }));
        whole.add(Row::End(EndRow::default()));
        let processes = BTreeSet::from([2]);
        let excerpt = whole.excerpt(&Part { processes: &processes, wants_site: ALL, moments: None });
        assert_eq!(excerpt.modules.keys().collect::<Vec<_>>(), [&2]);
        assert_eq!(excerpt.frames.len(), 2);
        assert_eq!(excerpt.stacks[&2].frames[..], [0, 1]);
        assert_eq!((excerpt.processes.len(), excerpt.samples.len(), excerpt.sites.len()), (1, 1, 1));
        let nothing =
            whole.excerpt(&Part { processes: &processes, wants_site: &|_, _| false, moments: None });
        assert_eq!((nothing.sites.len(), nothing.stacks.len(), nothing.processes.len()), (0, 0, 1));
    }
}
