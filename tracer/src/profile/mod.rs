//! A capture's numbers with names, and questions put to them. Pure.

mod judge;
mod site;
#[cfg(test)]
mod tests;
pub mod trust;

#[cfg(test)]
pub(crate) use self::tests::recording as sample_recording;

use std::collections::BTreeMap;

use self::trust::Grade;
pub use self::{
    judge::Verdict,
    site::{Frame, Site},
};
use crate::{
    capture::{Header, IntervalRow, ProcessRow, Recording},
    cost::Cost,
    event::Loss,
    symbol::Places,
};

/// What a report is made of.
#[derive(Clone, Debug, PartialEq)]
pub struct Profile {
    pub header: Header,
    /// False if the capture was cut off.
    pub complete: bool,
    /// Seconds since tracing began.
    pub from_s: f64,
    pub to_s: f64,
    pub processes: Vec<Process>,
    /// In the order of the query.
    pub sites: Vec<Site>,
    /// Sites that the query left out.
    pub other_sites: usize,
    pub timeline: Vec<Moment>,
    /// By [`Loss::name`]; those that did not happen are not here.
    pub losses: BTreeMap<String, u64>,
    pub grade: Grade,
}

/// A traced process.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    pub row: ProcessRow,
    pub rss_first_bytes: Option<u64>,
    pub rss_last_bytes: Option<u64>,
    pub rss_max_bytes: Option<u64>,
    /// Frees of blocks from before the attach.
    pub unknown_frees: u64,
    pub arena_bytes: i64,
}

/// A process at the end of an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    pub t_s: f64,
    pub pid: u32,
    pub live: Cost,
    pub rss_bytes: Option<u64>,
}

/// What a report is to show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    pub pid: Option<u32>,
    /// `heap` or `mmap`; `None`: both.
    pub kind: Option<String>,
    /// Only what has been live for this long at the end.
    pub older_s: Option<f64>,
    /// Bounds of a site's live bytes.
    pub min_bytes: Option<u64>,
    pub max_bytes: Option<u64>,
    pub sort: Sort,
}

/// What comes first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Sort {
    #[default]
    Bytes,
    Blocks,
    Growth,
    Age,
}

impl Profile {
    /// Takes a recording apart and answers `query`. The first `shown_sites` sites get their frames: there can
    /// be millions.
    pub fn new(recording: &Recording, query: &Query, shown_sites: usize) -> Self {
        let to_s = recording.end.as_ref().map(|it| it.t_s);
        let to_s = to_s.or_else(|| recording.intervals.last().map(|it| it.t_s)).unwrap_or(0.0);
        let is_wanted = |pid: u32| query.pid.is_none_or(|it| it == pid);
        let processes: Vec<Process> = recording
            .processes
            .values()
            .filter(|it| is_wanted(it.pid))
            .map(|it| Process::new(it, &recording.intervals))
            .collect();
        let mut sites = site::sites(recording, to_s);
        let all_sites = sites.len();
        sites.retain_mut(|it| {
            if let Some(older_s) = query.older_s {
                it.keep_older(older_s, to_s);
            }
            is_wanted(it.pid) && query.admits(it)
        });
        sort(&mut sites, query.sort);
        sites.iter_mut().take(shown_sites).for_each(|it| it.add_frames(recording));
        let losses = recording.intervals.last().map(|it| it.loss.clone()).unwrap_or_default();
        let events = sites.iter().map(|it| (it.allocated.blocks + it.freed.blocks) as u64).sum();
        let grade = match recording.intervals.last() {
            Some(_) => Grade::of(&losses, events, &sites),
            None => Grade::F,
        };
        Self {
            header: recording.header.clone(),
            complete: recording.end.is_some(),
            from_s: 0.0,
            to_s,
            timeline: timeline(recording, is_wanted),
            processes,
            other_sites: all_sites - sites.len(),
            sites,
            losses,
            grade,
        }
    }

    /// A loss's count.
    pub fn loss(&self, loss: Loss) -> u64 {
        self.losses.get(loss.name()).copied().unwrap_or(0)
    }

    /// (live, allocated, freed) of all sites.
    pub fn totals(&self) -> (Cost, Cost, Cost) {
        let sum = |part: fn(&Site) -> Cost| self.sites.iter().map(part).sum();
        (sum(|it| it.live), sum(|it| it.allocated), sum(|it| it.freed))
    }

    pub fn unknown_frees(&self) -> u64 {
        self.processes.iter().map(|it| it.unknown_frees).sum()
    }

    /// Adds source lines and inlined functions to the stacks that are shown.
    pub fn add_places(&mut self, places: &mut dyn Places) {
        for site in &mut self.sites {
            site.add_places(places);
        }
    }
}

impl Query {
    fn admits(&self, site: &Site) -> bool {
        let bytes = site.live.bytes.max(0) as u64;
        self.kind.as_ref().is_none_or(|it| *it == site.kind)
            && self.min_bytes.is_none_or(|it| bytes >= it)
            && self.max_bytes.is_none_or(|it| bytes <= it)
            && (self.older_s.is_none() || bytes > 0)
    }
}

fn sort(sites: &mut [Site], by: Sort) {
    // Equal ones in the order of their first appearance, so that a report is the same every time.
    match by {
        Sort::Bytes => sites.sort_by_key(|it| (-it.live.bytes, -it.live.blocks, it.id)),
        Sort::Blocks => sites.sort_by_key(|it| (-it.live.blocks, -it.live.bytes, it.id)),
        Sort::Growth => sites.sort_by(|a, b| b.growth_bytes_per_s.total_cmp(&a.growth_bytes_per_s)),
        Sort::Age => sites.sort_by(|a, b| b.oldest_s.unwrap_or(-1.0).total_cmp(&a.oldest_s.unwrap_or(-1.0))),
    }
}

impl Process {
    fn new(row: &ProcessRow, intervals: &[IntervalRow]) -> Self {
        let samples = || intervals.iter().flat_map(|it| &it.processes).filter(|it| it.process == row.id);
        let rss = || samples().filter_map(|it| it.rss_bytes);
        let last = samples().next_back();
        Self {
            row: row.clone(),
            rss_first_bytes: rss().next(),
            rss_last_bytes: rss().next_back(),
            rss_max_bytes: rss().max(),
            unknown_frees: last.map_or(0, |it| it.unknown_frees),
            arena_bytes: last.map_or(0, |it| it.arena_bytes),
        }
    }
}

fn timeline(recording: &Recording, is_wanted: impl Fn(u32) -> bool) -> Vec<Moment> {
    let moments = recording.intervals.iter().flat_map(|interval| {
        interval.processes.iter().filter_map(|it| {
            let pid = recording.processes.get(&it.process)?.pid;
            let live = Cost { bytes: it.live_bytes, blocks: it.live_blocks };
            Some(Moment { t_s: interval.t_s, pid, live, rss_bytes: it.rss_bytes })
        })
    });
    moments.filter(|it| is_wanted(it.pid)).collect()
}
