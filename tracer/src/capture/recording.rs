//! A capture in memory: rows go in, from a file or from a run in progress, and what stays is what changed.
//!
//! Counters are totals, so an interval that does not name a site says that it is as before. A site with a
//! thousand intervals of silence costs one point.

use std::{collections::BTreeMap, sync::Arc};

use rustc_hash::{FxHashMap, FxHashSet};

use super::{
    CgroupSample, CohortRow, EndRow, FrameRow, Header, IncidentRow, IntervalRow, MarkRow, ModuleRow, OomRow,
    ProcessRow, Row, SiteRow, StackRow, TierRow,
};
use crate::cost::Cost;

/// Everything that a capture says.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    pub header: Header,
    pub modules: BTreeMap<u32, ModuleRow>,
    /// Distinct frames, in the order of their first appearance.
    pub frames: Vec<FrameRow>,
    pub stacks: BTreeMap<u32, Stack>,
    /// As last described.
    pub processes: BTreeMap<u32, ProcessRow>,
    /// When each interval ended, in seconds since tracing began.
    pub times_s: Vec<f64>,
    /// By process: its state at the end of each interval in which it lived.
    pub samples: BTreeMap<u32, Vec<Sample>>,
    pub sites: BTreeMap<u32, SiteHistory>,
    /// By name; totals at the end of the last interval.
    pub losses: BTreeMap<String, u64>,
    pub marks: Vec<MarkRow>,
    pub ooms: Vec<OomRow>,
    pub tiers: Vec<TierRow>,
    /// By path: (place in [`Recording::times_s`], what the kernel accounted at the end of that interval).
    pub cgroups: BTreeMap<String, Vec<(u32, CgroupSample)>>,
    /// Why this was kept, if it was because something happened.
    pub incident: Option<Box<IncidentRow>>,
    /// At the end of the last interval: the share of ten seconds in which somebody on the machine waited for memory.
    pub pressure: Option<f64>,
    /// `None`: the capture was cut off, or is still being made.
    pub end: Option<EndRow>,
    /// Intervals that were left out: all come after those that are here.
    pub later_intervals: usize,
    /// Processes of which nothing is here any more: they ended long ago.
    pub forgotten: usize,
    /// By module and offset.
    pub(super) frame_ids: FxHashMap<(u32, u64), u32>,
    pub(super) names: FxHashSet<Arc<str>>,
}

/// Frames, innermost first, as places in [`Recording::frames`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Stack {
    /// `complete`, or why the stack ends too early.
    pub stop: Arc<str>,
    pub frames: Box<[u32]>,
}

/// A process at the end of an interval.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Sample {
    /// A place in [`Recording::times_s`].
    pub interval: u32,
    /// `None` once the process has ended.
    pub rss_bytes: Option<u64>,
    pub live: Cost,
    pub unknown_frees: u64,
    pub unsampled_frees: u64,
    pub arena_bytes: i64,
    /// CPU time since it was met, and what of it was for the tracing; `None` if its allocator is not traced.
    pub cpu_us: Option<u64>,
    pub tracing_us: Option<u64>,
}

/// One site over time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct SiteHistory {
    pub process: u32,
    /// `heap`, `mmap` or `resident`.
    pub kind: Arc<str>,
    /// The function that allocated.
    pub via: Arc<str>,
    pub stack: u32,
    /// One for each interval in which it changed.
    pub points: Vec<Point>,
    /// What is live at the last point, by birth, oldest first.
    pub cohorts: Vec<CohortRow>,
}

/// Counters of a site since tracing began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Point {
    /// A place in [`Recording::times_s`].
    pub interval: u32,
    pub allocated: Cost,
    pub freed: Cost,
    pub peak_bytes: i64,
    /// Live bytes in places that blocks from before the attach had left.
    pub reused_bytes: i64,
    pub samples: PointSamples,
}

/// How far a site's counters are estimates; all zero if they are exact. Errors are two standard errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PointSamples {
    /// Of so many bytes one was sampled, where that was coarsest; 0 if blocks were not sampled by bytes.
    pub rate_bytes: i64,
    /// Of the live bytes: those of blocks that were not seen, for which the sampled ones stand.
    pub unseen_bytes: i64,
    pub live_error_bytes: i64,
    pub live_error_blocks: i64,
    pub allocated_error_bytes: i64,
}

impl Point {
    pub fn live(&self) -> Cost {
        self.allocated - self.freed
    }

    /// Live bytes in places of their own.
    pub fn own_bytes(&self) -> i64 {
        self.live().bytes - self.reused_bytes
    }
}

impl SiteHistory {
    /// The counters at the end of `interval`; zero if the site had not been seen by then.
    pub fn at(&self, interval: u32) -> Point {
        let later = self.points.partition_point(|it| it.interval <= interval);
        let counters = later.checked_sub(1).map(|it| self.points[it]).unwrap_or_default();
        Point { interval, ..counters }
    }
}

impl Recording {
    /// Takes a row in. A row that refers to others comes after them.
    pub fn add(&mut self, row: Row) {
        match row {
            Row::Header(it) => self.header = it,
            Row::Module(it) => drop(self.modules.insert(it.id, it)),
            Row::Stack(it) => self.add_stack(&it),
            Row::Process(it) => drop(self.processes.insert(it.id, it)),
            Row::Interval(it) => self.add_interval(it),
            Row::Mark(it) => self.marks.push(it),
            Row::Oom(it) => self.ooms.push(it),
            Row::Tier(it) => self.tiers.push(it),
            Row::Incident(it) => self.incident = Some(it),
            Row::End(it) => self.end = Some(it),
        }
    }

    fn add_stack(&mut self, row: &StackRow) {
        let frames = row.frames.iter().map(|it| (it.module, it.offset, it.function.as_deref()));
        self.add_frames(row.id, &row.stop, frames);
    }

    /// (module, offset, function), innermost first.
    pub(super) fn add_frames<'a>(
        &mut self,
        id: u32,
        stop: &str,
        frames: impl Iterator<Item = (u32, u64, Option<&'a str>)>,
    ) {
        let stop = self.share(stop);
        let frames =
            frames.map(|(module, offset, function)| self.frame_id(module, offset, function)).collect();
        self.stacks.insert(id, Stack { stop, frames });
    }

    fn frame_id(&mut self, module: u32, offset: u64, function: Option<&str>) -> u32 {
        if let Some(&id) = self.frame_ids.get(&(module, offset))
            && self.frames[id as usize].function.as_deref() == function
        {
            return id;
        }
        // A function has many frames.
        let function = function.map(|it| self.share(it));
        self.frames.push(FrameRow { module, offset, function });
        let id = self.frames.len() as u32 - 1;
        self.frame_ids.insert((module, offset), id);
        id
    }

    fn add_interval(&mut self, row: IntervalRow) {
        let interval = self.times_s.len() as u32;
        self.times_s.push(row.t_s);
        for it in row.processes {
            self.samples.entry(it.process).or_default().push(Sample {
                interval,
                rss_bytes: it.rss_bytes,
                live: Cost { bytes: it.live_bytes, blocks: it.live_blocks },
                unknown_frees: it.unknown_frees,
                unsampled_frees: it.unsampled_frees,
                arena_bytes: it.arena_bytes,
                cpu_us: it.cpu_us,
                tracing_us: it.tracing_us,
            });
        }
        for it in row.cgroups {
            self.cgroups.entry(it.path.clone()).or_default().push((interval, it));
        }
        for it in row.sites {
            self.add_site(interval, it);
        }
        self.losses = row.loss;
        self.pressure = row.pressure;
    }

    fn add_site(&mut self, interval: u32, row: SiteRow) {
        if !self.sites.contains_key(&row.site) {
            let (kind, via) = (self.share(&row.kind), self.share(&row.via));
            let history =
                SiteHistory { process: row.process, kind, via, stack: row.stack, ..SiteHistory::default() };
            self.sites.insert(row.site, history);
        }
        let Some(site) = self.sites.get_mut(&row.site) else { return };
        site.points.push(Point {
            interval,
            allocated: Cost { bytes: row.allocated_bytes, blocks: row.allocated_blocks },
            freed: Cost { bytes: row.freed_bytes, blocks: row.freed_blocks },
            peak_bytes: row.peak_bytes,
            reused_bytes: row.reused_bytes,
            samples: PointSamples {
                rate_bytes: row.sample_bytes,
                unseen_bytes: row.unseen_bytes,
                live_error_bytes: row.live_error_bytes,
                live_error_blocks: row.live_error_blocks,
                allocated_error_bytes: row.allocated_error_bytes,
            },
        });
        site.cohorts = row.cohorts;
    }

    /// The same text, once.
    fn share(&mut self, text: &str) -> Arc<str> {
        match self.names.get(text) {
            Some(known) => Arc::clone(known),
            None => {
                let text = Arc::<str>::from(text);
                self.names.insert(Arc::clone(&text));
                text
            }
        }
    }

    /// When the recording ended, or how far it goes.
    pub fn end_s(&self) -> f64 {
        self.end.as_ref().map(|it| it.t_s).or_else(|| self.times_s.last().copied()).unwrap_or(0.0)
    }

    /// The interval whose end is nearest to `t_s`; `None` if that is the beginning.
    pub fn interval_near(&self, t_s: f64) -> Option<u32> {
        let after = self.times_s.partition_point(|it| *it <= t_s);
        let before = after.checked_sub(1);
        let before_s = before.map_or(0.0, |it| self.times_s[it]);
        let nearest = match self.times_s.get(after) {
            Some(after_s) if after_s - t_s < t_s - before_s => Some(after),
            _ => before,
        };
        nearest.map(|it| it as u32)
    }
}
