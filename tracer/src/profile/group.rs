//! Several processes as one: sites that allocate in the same way are merged, and judged by what they did together.
//!
//! What a process held when it ended went back to the kernel. A view of one process shows it, since that is what the
//! process died with; a view of many counts it as freed, or each of a thousand compilers would hold its memory for ever.

use std::{borrow::Cow, collections::BTreeMap, sync::Arc};

use rustc_hash::FxHashMap;

use super::{
    Site,
    judge::{self, Course},
    site::{self, swing},
    window::Window,
};
use crate::{
    capture::{Point, PointSamples, ProcessRow, Recording, SiteHistory},
    cost::Cost,
};

/// Whose sites stand together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum By {
    /// Each process for itself.
    #[default]
    Process,
    /// Processes that run the same file.
    Command,
    /// Processes of the same control group.
    Cgroup,
    /// All of them.
    All,
}

impl By {
    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::Process => "process",
            Self::Command => "command",
            Self::Cgroup => "cgroup",
            Self::All => "all",
        }
    }

    /// What processes of one group have in common.
    pub(super) fn key(self, row: &ProcessRow) -> Cow<'_, str> {
        match self {
            Self::Process => format!("{} ({})", name(row), row.pid).into(),
            Self::Command => command(row).into(),
            Self::Cgroup => row.cgroup.as_deref().unwrap_or("control group not known").into(),
            Self::All => "all processes".into(),
        }
    }
}

fn name(row: &ProcessRow) -> &str {
    if row.name.trim().is_empty() { "?" } else { &row.name }
}

/// The file that a process runs, without its folders; where that is not known, what the kernel calls the process.
pub fn command(row: &ProcessRow) -> &str {
    let exe = row.exe.strip_suffix(" (deleted)").unwrap_or(&row.exe);
    match exe.rsplit('/').next() {
        None | Some("") => name(row),
        Some(file) => file,
    }
}

/// Processes whose sites stand together.
#[derive(Clone, Debug, PartialEq)]
pub struct Group {
    /// `app (7)`, the command, the path of the control group, or that it is all.
    pub name: Arc<str>,
    /// The recording's own numbers, in order.
    pub processes: Vec<u32>,
}

/// Which process is of which group.
#[derive(Default)]
pub(super) struct Grouping {
    pub(super) groups: Vec<Group>,
    places: FxHashMap<u32, u32>,
}

impl Grouping {
    /// In the order of their first processes.
    pub(super) fn of<'a>(rows: impl Iterator<Item = &'a ProcessRow>, by: By) -> Self {
        let mut grouping = Self::default();
        let mut known: FxHashMap<Arc<str>, u32> = FxHashMap::default();
        for row in rows {
            let mut key: Arc<str> = by.key(row).into();
            if by == By::Process && known.contains_key(&key) {
                // The number was used again.
                key = format!("{key} from {:.3} s", row.began_s).into();
            }
            let next = grouping.groups.len() as u32;
            let place = *known.entry(Arc::clone(&key)).or_insert(next);
            if place == next {
                grouping.groups.push(Group { name: key, processes: Vec::new() });
            }
            grouping.groups[place as usize].processes.push(row.id);
            grouping.places.insert(row.id, place);
        }
        grouping
    }

    /// `u32::MAX` for a process that no row describes.
    pub(super) fn place(&self, process: u32) -> u32 {
        self.places.get(&process).copied().unwrap_or(u32::MAX)
    }
}

/// The first interval after whose end the process was no more, if that is before `last`: whoever ended in the last
/// interval still holds what it held.
pub(super) fn gone_at(recording: &Recording, process: u32, last: u32) -> Option<u32> {
    let ended = recording.processes.get(&process)?.ended.as_ref()?;
    let interval = recording.times_s.partition_point(|it| *it < ended.t_s) as u32;
    (interval < last).then_some(interval)
}

/// Merges the sites of each group that are of one kind, function and stack; in the order of their first sites.
pub(super) fn merge(
    recording: &Recording,
    window: &Window,
    sites: Vec<Site>,
    grouping: &Grouping,
) -> Vec<Site> {
    let stacks = SameStacks::of(recording);
    let mut alike: FxHashMap<_, Vec<Site>> = FxHashMap::default();
    for site in sites {
        let stack = stacks.number(site.stack);
        let key = (grouping.place(site.process), Arc::clone(&site.kind), Arc::clone(&site.via), stack);
        alike.entry(key).or_default().push(site);
    }
    let steps = site::steps(window);
    let times: Vec<f64> = steps.iter().map(|it| recording.times_s[*it as usize]).collect();
    let merged = alike.into_iter().map(|((group, ..), sites)| {
        let mut site = sum(sites);
        site.group = group;
        site.pid = None;
        site.set_error();
        site.judge(&history(recording, &site.members, window.to), window, &steps, &times);
        site
    });
    let mut merged: Vec<Site> = merged.collect();
    merged.sort_unstable_by_key(|it| it.id);
    merged
}

/// Sites as one. Nobody holds any more what a process held that is gone.
fn sum(sites: Vec<Site>) -> Site {
    let members = sites.iter().map(|it| it.id).collect();
    let sites = sites.into_iter().map(|mut site| {
        if site.is_gone {
            (site.live, site.births_error, site.oldest_s) = (Cost::default(), Cost::default(), None);
            site.samples.free_all();
            site.freed = site.allocated;
        }
        site
    });
    let sum = sites.reduce(|mut sum, site| {
        sum.live += site.live;
        sum.births_error += site.births_error;
        sum.samples.add(&site.samples);
        sum.allocated += site.allocated;
        sum.freed += site.freed;
        sum.oldest_s = match (sum.oldest_s, site.oldest_s) {
            (Some(a), Some(b)) => Some(a.max(b)),
            (a, b) => a.or(b),
        };
        sum.is_gone &= site.is_gone;
        sum
    });
    Site { members, ..sum.unwrap_or_default() }
}

impl Site {
    /// From what its members did together, what they cannot be asked one by one.
    fn judge(&mut self, history: &SiteHistory, window: &Window, steps: &[u32], times: &[f64]) {
        let (from, to) = (window.from.map(|it| history.at(it)).unwrap_or_default(), history.at(window.to));
        let live = history.along(steps, |it| it.live().bytes);
        let own = history.along(steps, Point::own_bytes);
        let course = Course { live: &live, own: &own, is_doubtful: judge::is_doubtful(&from, &to) };
        self.change = to.live() - from.live();
        self.reused_bytes = to.reused_bytes;
        self.peak_bytes = to.peak_bytes;
        self.growth_bytes_per_s = judge::growth(times, course);
        self.verdict = judge::verdict(&to, self.allocated.blocks, self.live.blocks, times, course);
        self.swing_bytes = swing(&live[live.len() / 2..]);
    }
}

/// The history of `sites` as one, up to interval `last`. A process that is gone by then has freed everything when it ended.
///
/// Its peak is the highest that is known to have been reached: at the end of an interval together, or at any moment by
/// one of them alone. The sum of their peaks would only be a bound, for they need not have been at one time.
pub(super) fn history(recording: &Recording, sites: &[u32], last: u32) -> SiteHistory {
    let known = || sites.iter().filter_map(|it| recording.sites.get(it));
    let Some(first) = known().next() else { return SiteHistory::default() };
    let mut changes: BTreeMap<u32, Change> = BTreeMap::new();
    let mut cohorts = Vec::new();
    for site in known() {
        let gone_at = gone_at(recording, site.process, last);
        let mut before = Point::default();
        for point in &site.points {
            let change = changes.entry(point.interval).or_default();
            change.allocated += point.allocated - before.allocated;
            change.freed += point.freed - before.freed;
            change.reused_bytes += point.reused_bytes - before.reused_bytes;
            change.peak_bytes = change.peak_bytes.max(point.peak_bytes);
            change.doubt.add(&point.samples, 1.0);
            change.doubt.add(&before.samples, -1.0);
            before = *point;
        }
        match gone_at {
            Some(interval) => {
                let change = changes.entry(interval.max(before.interval)).or_default();
                change.freed += before.live();
                change.reused_bytes -= before.reused_bytes;
                change.doubt.add(&PointSamples { allocated_error_bytes: 0, ..before.samples }, -1.0);
            }
            None => cohorts.extend_from_slice(&site.cohorts),
        }
    }
    cohorts.sort_by(|a, b| a.from_s.total_cmp(&b.from_s).then(a.to_s.total_cmp(&b.to_s)));
    let (mut total, mut doubt) = (Point::default(), Doubt::default());
    let points = changes.into_iter().map(|(interval, change)| {
        total.interval = interval;
        total.allocated += change.allocated;
        total.freed += change.freed;
        total.reused_bytes += change.reused_bytes;
        total.peak_bytes = total.peak_bytes.max(change.peak_bytes).max(total.live().bytes);
        doubt.join(&change.doubt);
        total.samples = doubt.samples();
        total
    });
    SiteHistory {
        process: first.process,
        kind: Arc::clone(&first.kind),
        via: Arc::clone(&first.via),
        stack: first.stack,
        points: points.collect(),
        cohorts,
    }
}

/// What an interval added.
#[derive(Default)]
struct Change {
    allocated: Cost,
    freed: Cost,
    reused_bytes: i64,
    /// The highest of any site's.
    peak_bytes: i64,
    doubt: Doubt,
}

/// Samples of several sites: they err independently, so the squares of their errors add up.
#[derive(Default)]
struct Doubt {
    rate_bytes: i64,
    unseen_bytes: i64,
    squares: [f64; 3],
}

impl Doubt {
    fn add(&mut self, samples: &PointSamples, sign: f64) {
        self.rate_bytes = self.rate_bytes.max(samples.rate_bytes);
        self.unseen_bytes += samples.unseen_bytes * sign as i64;
        let errors = [samples.live_error_bytes, samples.live_error_blocks, samples.allocated_error_bytes];
        for (sum, error) in self.squares.iter_mut().zip(errors) {
            *sum += sign * (error as f64).powi(2);
        }
    }

    fn join(&mut self, other: &Self) {
        self.rate_bytes = self.rate_bytes.max(other.rate_bytes);
        self.unseen_bytes += other.unseen_bytes;
        self.squares.iter_mut().zip(other.squares).for_each(|(sum, it)| *sum += it);
    }

    fn samples(&self) -> PointSamples {
        let [live_error_bytes, live_error_blocks, allocated_error_bytes] =
            self.squares.map(|it| it.max(0.0).sqrt().ceil() as i64);
        let Self { rate_bytes, unseen_bytes, .. } = *self;
        PointSamples { rate_bytes, unseen_bytes, live_error_bytes, live_error_blocks, allocated_error_bytes }
    }
}

/// Which stacks are the same, though their files have other numbers: containers have copies of one library.
struct SameStacks(FxHashMap<u32, u32>);

impl SameStacks {
    fn of(recording: &Recording) -> Self {
        // By build id, and where there is none, by path.
        let mut modules: FxHashMap<&str, u32> = FxHashMap::default();
        let same_module: FxHashMap<u32, u32> = recording
            .modules
            .values()
            .map(|it| (it.id, *modules.entry(it.build_id.as_deref().unwrap_or(&it.path)).or_insert(it.id)))
            .collect();
        // Without copies, stacks are told apart by their numbers already.
        if same_module.iter().all(|(id, same)| id == same) {
            return Self(FxHashMap::default());
        }
        let mut frames: FxHashMap<_, u32> = FxHashMap::default();
        let same_frame: Vec<u32> = (0..)
            .zip(&recording.frames)
            .map(|(at, it)| {
                let module = same_module.get(&it.module).copied().unwrap_or(it.module);
                *frames.entry((module, it.offset, it.function.as_deref())).or_insert(at)
            })
            .collect();
        let mut stacks: FxHashMap<(&str, Vec<u32>), u32> = FxHashMap::default();
        let same_stack = recording.stacks.iter().map(|(id, it)| {
            let frames = it.frames.iter().map(|it| same_frame[*it as usize]).collect();
            (*id, *stacks.entry((&it.stop, frames)).or_insert(*id))
        });
        Self(same_stack.collect())
    }

    fn number(&self, stack: u32) -> u32 {
        self.0.get(&stack).copied().unwrap_or(stack)
    }
}

#[cfg(test)]
mod tests;
