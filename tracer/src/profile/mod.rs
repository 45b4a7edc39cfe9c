//! A capture's numbers with names, and questions put to them. Pure.

mod bars;
mod difference;
mod group;
mod history;
mod judge;
mod process;
mod site;
mod stacks;
mod summary;
#[cfg(test)]
mod tests;
pub mod trust;
mod window;

#[cfg(test)]
pub(crate) use self::tests::recording as sample_recording;

use std::{borrow::Cow, collections::BTreeMap};

use rustc_hash::{FxHashMap, FxHashSet};

pub(crate) use self::difference::source_name;
pub use self::{
    bars::{Range, missed_bytes, range_of},
    difference::{Difference, Pair, Side},
    group::{By, Group, command},
    history::{Birth, Held},
    judge::{MIN_POINTS, Verdict, growth_bytes_per_s},
    process::{Account, Expense, Outlook, Process},
    site::{Resident, Site},
    stacks::{Frame, FrameId, Stacks, is_library, serves_others},
    summary::{Control, Summary},
};
use self::{group::Grouping, trust::Grade, window::Window};
use crate::{
    capture::{Header, IncidentRow, MarkRow, Recording, SiteHistory, TierRow},
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
    /// How long the recording is, or how far it was read.
    pub duration_s: f64,
    /// The window, in seconds since tracing began. Sites hold what was allocated in it.
    pub from_s: f64,
    pub to_s: f64,
    /// When what is live was looked at.
    pub at_s: f64,
    /// When the most was live, in the window.
    pub peak_s: f64,
    pub processes: Vec<Process>,
    /// What the sites are of: each process, or several as one.
    pub by: By,
    groups: Vec<Group>,
    /// Control groups of the processes, by path.
    pub controls: Vec<Control>,
    /// When a process began to be traced in another way, in order.
    pub tiers: Vec<TierRow>,
    /// What processes held when they ended before the last interval; it counts as live of a process alone.
    pub ended: Cost,
    /// In the order of the query.
    pub sites: Vec<Site>,
    pub stacks: Stacks,
    /// Places of the sites that grow fastest to the end.
    suspects: Vec<usize>,
    /// Sites that the query left out.
    pub other_sites: usize,
    /// In the window.
    pub timeline: Vec<Moment>,
    /// Why the recording was kept, if it was because something happened.
    pub incident: Option<Box<IncidentRow>>,
    /// All, in order; a mark is called by its number from 1 on.
    pub marks: Vec<MarkRow>,
    /// By [`Loss::name`]; those that did not happen are not here. Totals at `at_s`.
    pub losses: BTreeMap<String, u64>,
    pub grade: Grade,
}

/// A process at the end of an interval.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Moment {
    pub t_s: f64,
    /// The recording's own number: process ids can be reused.
    pub process: u32,
    pub pid: u32,
    pub live: Cost,
    pub rss_bytes: Option<u64>,
}

/// What a report is to show.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Query {
    /// The window, in seconds since tracing began; `None`: from the beginning, to the end.
    pub from_s: Option<f64>,
    pub to_s: Option<f64>,
    /// Only processes that had one of these numbers; all, if there is none.
    pub pids: Vec<u32>,
    /// Which processes are looked at as one.
    pub by: By,
    /// `heap`, `mmap` or `resident`; `None`: heap and mappings, or what is resident if the heap was not traced.
    pub kind: Option<String>,
    /// Without a kind: all, though resident memory lies inside of the others and must not be added to them.
    pub overlapping: bool,
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
    /// Takes a recording apart and answers `query`. The first `shown_sites` sites of each kind get their frames: there
    /// can be millions.
    pub fn new(recording: &Recording, query: &Query, shown_sites: usize) -> Self {
        let mut profile = Self {
            header: recording.header.clone(),
            complete: recording.end.is_some(),
            duration_s: recording.end_s(),
            from_s: 0.0,
            to_s: recording.end_s(),
            at_s: recording.end_s(),
            peak_s: 0.0,
            processes: Vec::new(),
            by: query.by,
            groups: Vec::new(),
            controls: Vec::new(),
            tiers: Vec::new(),
            ended: Cost::default(),
            sites: Vec::new(),
            stacks: Stacks::default(),
            suspects: Vec::new(),
            other_sites: 0,
            timeline: Vec::new(),
            incident: recording.incident.clone(),
            marks: recording.marks.clone(),
            losses: recording.losses.clone(),
            grade: Grade::F,
        };
        if let Some(window) = Window::of(recording, query) {
            profile.fill(recording, query, &window, shown_sites);
        }
        profile
    }

    fn fill(&mut self, recording: &Recording, query: &Query, window: &Window, shown_sites: usize) {
        (self.from_s, self.to_s, self.at_s) = (window.from_s, window.to_s, window.at_s);
        let is_wanted = |pid: u32| query.pids.is_empty() || query.pids.contains(&pid);
        let mut sites = site::sites(recording, window, query);
        self.processes = processes(recording, window, &sites, is_wanted);
        let all_sites = sites.len();
        sites.retain(|it| it.pid.map_or(query.pids.is_empty(), is_wanted));
        self.other_sites = all_sites - sites.len();
        let is_default = default_kinds(recording);
        self.ended = ended(sites.iter().filter(|it| query.admits_kind(it, &is_default)));
        let grouping = Grouping::of(recording.processes.values().filter(|it| is_wanted(it.pid)), query.by);
        if query.by == By::Process {
            sites.iter_mut().for_each(|it| it.group = grouping.place(it.process));
        } else {
            sites = group::merge(recording, window, sites, &grouping);
        }
        self.groups = grouping.groups;
        let wanted_sites = sites.len();
        sites.retain(|it| query.admits(it, &is_default));
        self.other_sites += wanted_sites - sites.len();
        sort(&mut sites, query.sort);
        self.suspects = suspects(&sites);
        let first = first_of_kinds(&sites, shown_sites);
        let is_shown = |place: usize| first[place] || self.suspects.contains(&place);
        let shown = sites.iter_mut().enumerate().filter(|(place, _)| is_shown(*place)).map(|(_, it)| it);
        self.stacks = Stacks::of(recording, shown);
        let peak = history::peak(recording, window, is_wanted);
        self.peak_s = recording.times_s[peak as usize];
        for (site, _) in sites.iter_mut().zip(&first).filter(|(_, is_first)| **is_first) {
            let Some(history) = site.history(recording, window.to) else { continue };
            let history = &*history;
            site.held = Held::of(history, window, peak, &recording.times_s);
            site.births = history::births(site, &history.cohorts, window, query.older_s.unwrap_or(0.0));
        }
        let events = sites.iter().map(|it| (it.allocated.blocks + it.freed.blocks) as u64).sum();
        self.grade = Grade::of(&self.losses, events, &sites);
        self.sites = sites;
        self.timeline = timeline(recording, window, is_wanted);
        self.controls = summary::controls(recording, window, &self.processes);
        let is_shown = |it: &&TierRow| self.processes.iter().any(|process| process.row.id == it.process);
        self.tiers = recording.tiers.iter().filter(is_shown).cloned().collect();
    }

    /// It is about a part of the recording.
    pub fn is_windowed(&self) -> bool {
        self.from_s > 0.0 || self.at_s < self.duration_s || self.to_s < self.at_s
    }

    /// A loss's count.
    pub fn loss(&self, loss: Loss) -> u64 {
        self.losses.get(loss.name()).copied().unwrap_or(0)
    }

    /// (live, allocated, freed) of all sites.
    pub fn totals(&self) -> (Cost, Cost, Cost) {
        let sum = |part: fn(&Site) -> Cost| self.disjoint().map(part).sum();
        (sum(|it| it.live), sum(|it| it.allocated), sum(|it| it.freed))
    }

    /// The sites whose bytes may be added up: resident memory lies inside of heap and mappings.
    fn disjoint(&self) -> impl Iterator<Item = &Site> {
        let is_all_resident = self.sites.iter().all(Site::is_resident);
        self.sites.iter().filter(move |it| is_all_resident || !it.is_resident())
    }

    /// What of the resident memory is known by samples, and how far it may be off.
    pub fn resident(&self) -> Resident {
        Resident::of(self.sites.iter())
    }

    pub fn unknown_frees(&self) -> u64 {
        self.processes.iter().map(|it| it.unknown_frees).sum()
    }

    /// Adds source lines and inlined functions to the stacks that are shown.
    pub fn add_places(&mut self, places: &mut dyn Places) {
        self.stacks.add_places(&mut self.sites, places);
    }

    /// The frames of a site that is shown, innermost first.
    pub fn stack<'a>(
        &'a self,
        site: &'a Site,
    ) -> impl DoubleEndedIterator<Item = &'a Frame> + ExactSizeIterator {
        site.frames.iter().map(|it| self.stacks.frame(*it))
    }

    /// The sites of the heap that grow to the end, fastest first: at most three, which is what fits in a headline.
    pub fn suspects(&self) -> impl Iterator<Item = &Site> {
        self.suspects.iter().filter_map(|it| self.sites.get(*it))
    }

    /// Whose site it is: its process, or those that are looked at as one.
    pub fn group(&self, site: &Site) -> Option<&Group> {
        self.groups.get(site.group as usize)
    }

    /// What the sites are of, in the order of their first processes.
    pub fn groups(&self) -> &[Group] {
        &self.groups
    }
}

impl Site {
    /// The place of its group in [`Profile::groups`].
    pub fn group_place(&self) -> usize {
        self.group as usize
    }

    /// What it did, interval by interval, up to interval `last`.
    pub fn history<'a>(&self, recording: &'a Recording, last: u32) -> Option<Cow<'a, SiteHistory>> {
        match &self.members[..] {
            [] => recording.sites.get(&self.id).map(Cow::Borrowed),
            members => Some(Cow::Owned(group::history(recording, members, last))),
        }
    }
}

/// Those that lived in the window.
fn processes(
    recording: &Recording,
    window: &Window,
    sites: &[Site],
    is_wanted: impl Fn(u32) -> bool,
) -> Vec<Process> {
    let mut own: FxHashMap<u32, Vec<&Site>> = FxHashMap::default();
    for site in sites {
        own.entry(site.process).or_default().push(site);
    }
    recording
        .processes
        .values()
        .filter(|it| is_wanted(it.pid) && it.began_s <= window.to_s)
        .filter(|it| it.ended.as_ref().is_none_or(|ended| ended.t_s >= window.from_s))
        .map(|it| Process::new(recording, it, window, own.get(&it.id).map_or(&[], |it| it)))
        .collect()
}

impl Query {
    fn admits_kind(&self, site: &Site, is_default: impl Fn(&Site) -> bool) -> bool {
        self.kind.as_ref().map_or(self.overlapping || is_default(site), |it| **it == *site.kind)
    }

    fn admits(&self, site: &Site, is_default: impl Fn(&Site) -> bool) -> bool {
        let bytes = site.live.bytes.max(0) as u64;
        self.admits_kind(site, is_default)
            && self.min_bytes.is_none_or(|it| bytes >= it)
            && self.max_bytes.is_none_or(|it| bytes <= it)
            && (self.older_s.is_none() || bytes > 0)
    }
}

/// Which sites are meant where no kind is asked for: those that can be added up, and say most.
fn default_kinds(recording: &Recording) -> impl Fn(&Site) -> bool {
    let has_resident = recording.sites.values().any(|it| &*it.kind == "resident");
    let wants_resident = recording.header.is_growth() && has_resident;
    move |it| it.is_resident() == wants_resident
}

/// What the sites of processes that are gone held when those ended; of what lies inside of others, nothing.
fn ended<'a>(sites: impl Iterator<Item = &'a Site> + Clone) -> Cost {
    let is_all_resident = sites.clone().all(Site::is_resident);
    sites.filter(|it| it.is_gone && (is_all_resident || !it.is_resident())).map(|it| it.live).sum()
}

fn suspects(sites: &[Site]) -> Vec<usize> {
    // Of a process whose heap is traced, its blocks say more than its pages.
    let traced: FxHashSet<u32> = sites.iter().filter(|it| &*it.kind == "heap").map(|it| it.process).collect();
    let is_primary = |it: &Site| &*it.kind == "heap" || it.is_resident() && !traced.contains(&it.process);
    let is_suspect = |place: &usize| sites[*place].is_growing() && is_primary(&sites[*place]);
    let mut places: Vec<usize> = (0..sites.len()).filter(is_suspect).collect();
    let rate = |place: usize| sites[place].growth_bytes_per_s;
    places.sort_by(|a, b| rate(*b).total_cmp(&rate(*a)));
    places.truncate(MAX_SUSPECTS);
    places
}

const MAX_SUSPECTS: usize = 3;

/// Whether each of `sites` is among the first `count` of its kind: formats show kinds apart.
fn first_of_kinds(sites: &[Site], count: usize) -> Vec<bool> {
    let mut all_seen: BTreeMap<&str, usize> = BTreeMap::new();
    let kinds = sites.iter().map(|it| &*it.kind);
    let is_first = kinds.map(|kind| {
        let seen = all_seen.entry(kind).or_default();
        *seen += 1;
        *seen <= count
    });
    is_first.collect()
}

fn sort(sites: &mut [Site], by: Sort) {
    // Equal ones in the order of their first appearance, so that a report is the same every time.
    match by {
        Sort::Bytes => sites.sort_by_key(|it| (-it.live.bytes, -it.live.blocks, it.id)),
        Sort::Blocks => sites.sort_by_key(|it| (-it.live.blocks, -it.live.bytes, it.id)),
        // What grows to the end comes before what merely moved.
        Sort::Growth => sites.sort_by(|a, b| {
            let by_rate = || b.growth_bytes_per_s.total_cmp(&a.growth_bytes_per_s);
            b.is_growing().cmp(&a.is_growing()).then_with(by_rate)
        }),
        Sort::Age => sites.sort_by(|a, b| b.oldest_s.unwrap_or(-1.0).total_cmp(&a.oldest_s.unwrap_or(-1.0))),
    }
}

/// From the state in which the window began.
fn timeline(recording: &Recording, window: &Window, is_wanted: impl Fn(u32) -> bool) -> Vec<Moment> {
    let first = window.from.unwrap_or(0);
    let samples = recording.samples.iter().filter_map(|(process, samples)| {
        let pid = recording.processes.get(process)?.pid;
        is_wanted(pid).then_some((*process, pid, samples))
    });
    let mut moments: Vec<Moment> = samples
        .flat_map(|(process, pid, samples)| samples.iter().map(move |it| (process, pid, it)))
        .filter(|(.., it)| (first..=window.to).contains(&it.interval))
        .map(|(process, pid, it)| Moment {
            t_s: recording.times_s[it.interval as usize],
            process,
            pid,
            live: it.live,
            rss_bytes: it.rss_bytes,
        })
        .collect();
    moments.sort_by(|a, b| a.t_s.total_cmp(&b.t_s));
    moments
}
