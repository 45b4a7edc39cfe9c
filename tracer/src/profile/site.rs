//! The sites of a recording.

use std::sync::Arc;

use super::{
    Birth, FrameId, Held, Query, group,
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
    /// How much more or less of it may be live; zero where cohorts and counters tell exactly. Of sampled sites: two
    /// standard errors, and their blocks are samples.
    pub live_error: Cost,
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
        let course = Course { live: &live, own: &own };
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
            live_error: Cost { bytes: survivors.error.bytes + at.live_error_bytes, ..survivors.error },
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

    /// That of this one and another together: samples err independently of each other.
    pub(super) fn error_with(&self, other: &Self) -> Cost {
        let sum = self.live_error + other.live_error;
        if self.is_resident() {
            let bytes = (self.live_error.bytes as f64).hypot(other.live_error.bytes as f64).ceil() as i64;
            return Cost { bytes, ..sum };
        }
        sum
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
        self.live = Cost { bytes: old.bytes.min(self.live.bytes), blocks: old.blocks.min(self.live.blocks) };
        self.live_error += across;
        self.oldest_s = self.oldest_s.filter(|it| *it >= older_s);
    }
}
