//! The sites of a recording.

use std::sync::Arc;

use super::{
    Birth, FrameId, Held, Query,
    bars::{Range, Samples},
    group,
    judge::{self, Course, Verdict},
    window::{self, Window},
};
use crate::{
    capture::{CohortRow, Point, Recording, SiteHistory},
    cost::Cost,
};

/// One call stack of one process, or of several that are looked at as one, and what it holds.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Site {
    pub id: u32,
    /// Of merged sites: the first one's.
    pub process: u32,
    /// `None` if sites were to be merged.
    pub pid: Option<u32>,
    /// A place in [`super::Profile::groups`].
    pub(super) group: u32,
    /// The sites that were merged into this one; empty if it is one.
    pub(super) members: Vec<u32>,
    /// Its process ended before the last interval of the window.
    pub(super) is_gone: bool,
    pub kind: Arc<str>,
    /// The function that allocated; `frames[0]` called it.
    pub via: Arc<str>,
    /// What is live of what was allocated in the window.
    pub live: Cost,
    /// How much more or less of it may be live; zero where cohorts and counters tell exactly. Of sites that are known by
    /// samples the truth lies within it nineteen times of twenty; the blocks of resident ones are samples.
    pub live_error: Cost,
    /// The same more closely: few samples say less about how much more there may be than about how much less.
    pub live_range: Range,
    /// Of that, what births merged across a border of the window, or of an age, make of it.
    pub births_error: Cost,
    pub(super) samples: Samples,
    /// In the window.
    pub allocated: Cost,
    /// Of what was allocated in the window.
    pub freed: Cost,
    /// By how much the live bytes changed from the window's beginning to its end, older blocks included.
    pub change: Cost,
    /// The highest live bytes at any moment until the window's end; of merged sites, what is known of it: see
    /// [`super::group`].
    pub peak_bytes: i64,
    /// How long the oldest live block of the window has been live.
    pub oldest_s: Option<f64>,
    /// Live bytes in places that blocks from before the attach had left.
    pub reused_bytes: i64,
    /// Robust slope over the window, of what did not merely take the place of blocks from before the attach.
    pub growth_bytes_per_s: f64,
    pub verdict: Verdict,
    /// How far the live bytes moved in the second half of the window.
    pub swing_bytes: i64,
    /// `complete`, or why the stack ends too early.
    pub stop: Arc<str>,
    pub(super) stack: u32,
    /// Innermost first; of the sites that are shown only.
    pub frames: Vec<FrameId>,
    /// Of the sites that are shown only, as the next.
    pub held: Held,
    /// What is live, by birth.
    pub births: Vec<Birth>,
}

/// Resident memory that samples of page faults account for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    pub live: Cost,
    /// Two standard errors: samples err independently of each other.
    pub error_bytes: i64,
}

impl Resident {
    pub(super) fn of<'a>(sites: impl Iterator<Item = &'a Site>) -> Self {
        let (mut live, mut squares) = (Cost::default(), 0.0);
        for site in sites.filter(|it| it.is_resident()) {
            live += site.live;
            squares += (site.live_error.bytes as f64).powi(2);
        }
        Self { live, error_bytes: squares.sqrt().ceil() as i64 }
    }
}

/// One site that holds what all of them do, as far as its error is concerned.
pub(super) fn sum_of_errors<'a>(sites: impl Iterator<Item = &'a Site>) -> Site {
    let mut sum = Site::default();
    for site in sites {
        sum.live += site.live;
        sum.births_error += site.births_error;
        sum.samples.add(&site.samples);
    }
    sum.set_error();
    sum
}

/// All sites that had been seen by the window's end.
pub(super) fn sites(recording: &Recording, window: &Window, query: &Query) -> Vec<Site> {
    let steps = steps(window);
    let times: Vec<f64> = steps.iter().map(|it| recording.times_s[*it as usize]).collect();
    let gone: Arc<str> = "gone".into();
    let gone_at = |process: u32| group::gone_at(recording, process, window.to).is_some();
    let seen = recording
        .sites
        .iter()
        .filter(|(_, it)| it.points.first().is_some_and(|first| first.interval <= window.to));
    let site = |(&id, history): (&u32, &SiteHistory)| {
        let (from, to) = (window.from.map(|it| history.at(it)).unwrap_or_default(), history.at(window.to));
        let at = history.at(window.at);
        let survivors = window::survivors(history, window, &recording.times_s);
        let allocated = to.allocated - from.allocated;
        let live = history.along(&steps, |it| it.live().bytes);
        let own = history.along(&steps, Point::own_bytes);
        let course = Course { live: &live, own: &own, is_doubtful: judge::is_doubtful(&from, &to) };
        let stack = recording.stacks.get(&history.stack);
        let mut site = Site {
            id,
            process: history.process,
            pid: recording.processes.get(&history.process).map(|it| it.pid),
            group: 0,
            members: Vec::new(),
            is_gone: gone_at(history.process),
            kind: Arc::clone(&history.kind),
            via: Arc::clone(&history.via),
            live: survivors.live,
            live_error: Cost::default(),
            live_range: Range::default(),
            births_error: survivors.error,
            samples: Samples::of(&from, &at, survivors.live.bytes as f64 / at.live().bytes.max(1) as f64),
            allocated,
            freed: allocated - survivors.live,
            change: to.live() - from.live(),
            peak_bytes: to.peak_bytes,
            oldest_s: oldest(&history.cohorts, window.from_s, window.at_s),
            reused_bytes: to.reused_bytes,
            growth_bytes_per_s: judge::growth(&times, course),
            verdict: judge::verdict(&to, allocated.blocks, survivors.live.blocks, &times, course),
            swing_bytes: swing(&live[live.len() / 2..]),
            stop: Arc::clone(stack.map_or(&gone, |it| &it.stop)),
            stack: history.stack,
            frames: Vec::new(),
            held: Held::default(),
            births: Vec::new(),
        };
        if let Some(older_s) = query.older_s {
            site.keep_older(older_s, &history.cohorts, window);
        }
        site.set_error();
        site
    };
    seen.map(site).collect()
}

/// The intervals whose ends are compared: all, or some that lie evenly.
pub(super) fn steps(window: &Window) -> Vec<u32> {
    let first = window.from.unwrap_or(*window.intervals().start());
    let count = (window.to - first) as usize + 1;
    let groups = count.min(judge::HISTORY_POINTS);
    (1..=groups).map(|it| first + (it * count / groups) as u32 - 1).collect()
}

impl SiteHistory {
    /// What `value` takes from the counters at the ends of `intervals`, which are in order.
    pub(super) fn along(&self, intervals: &[u32], value: fn(&Point) -> i64) -> Vec<i64> {
        let mut points = self.points.iter().peekable();
        let mut last = 0;
        let mut value_at = |interval: &u32| {
            while let Some(point) = points.next_if(|it| it.interval <= *interval) {
                last = value(point);
            }
            last
        };
        intervals.iter().map(&mut value_at).collect()
    }
}

pub(super) fn swing(values: &[i64]) -> i64 {
    values.iter().max().zip(values.iter().min()).map_or(0, |(max, min)| max - min)
}

/// The age at `at_s` of the oldest block that may have been born after `from_s`.
fn oldest(cohorts: &[CohortRow], from_s: f64, at_s: f64) -> Option<f64> {
    let first = cohorts.iter().find(|it| it.blocks > 0 && it.to_s > from_s)?;
    Some((at_s - first.from_s.max(from_s)).max(0.0))
}

impl Site {
    pub fn is_growing(&self) -> bool {
        matches!(self.verdict, Verdict::Growing { .. })
    }

    /// Of so many of the bytes that it allocated one was sampled; 0 if every block was seen.
    pub fn sample_bytes(&self) -> i64 {
        self.samples.rate_bytes()
    }

    /// What is allocated is a sum of samples: two standard errors.
    pub fn allocated_error_bytes(&self) -> i64 {
        self.samples.allocated_error_bytes()
    }

    /// From what the error consists of.
    pub(super) fn set_error(&mut self) {
        let Range { low_bytes, high_bytes } = self.samples.range(self.live.bytes);
        let births = self.births_error;
        self.live_range =
            Range { low_bytes: low_bytes - births.bytes, high_bytes: high_bytes + births.bytes };
        let Range { low_bytes, high_bytes } = self.live_range;
        self.live_error = Cost {
            bytes: (self.live.bytes - low_bytes).max(high_bytes - self.live.bytes),
            blocks: births.blocks + self.samples.error_blocks(),
        };
    }

    /// It is known by samples, and lies inside of others.
    pub fn is_resident(&self) -> bool {
        &*self.kind == "resident"
    }

    pub fn is_complete(&self) -> bool {
        &*self.stop == "complete"
    }

    /// How many sites of processes it is.
    pub fn merged_sites(&self) -> usize {
        self.members.len().max(1)
    }

    /// Counts as live only what surely has been for `older_s`.
    fn keep_older(&mut self, older_s: f64, cohorts: &[CohortRow], window: &Window) {
        let cost = |it: &CohortRow| Cost { bytes: it.bytes, blocks: it.blocks };
        let newest_s = window.at_s - older_s;
        let inside = || cohorts.iter().filter(|it| it.to_s > window.from_s && it.from_s < window.to_s);
        let old: Cost = inside().filter(|it| it.to_s <= newest_s).map(cost).sum();
        let across: Cost = inside().filter(|it| it.from_s < newest_s && it.to_s > newest_s).map(cost).sum();
        let live_bytes = self.live.bytes;
        self.live = Cost { bytes: old.bytes.min(self.live.bytes), blocks: old.blocks.min(self.live.blocks) };
        let share = self.live.bytes as f64 / live_bytes.max(1) as f64;
        self.samples.scale(share);
        self.births_error += across;
        self.oldest_s = self.oldest_s.filter(|it| *it >= older_s);
    }
}
