//! The sites of a recording.

use std::collections::BTreeMap;

use super::judge::{self, Verdict};
use crate::{
    capture::{CohortRow, Recording, SiteRow, StackRow},
    cost::Cost,
    symbol::Places,
};

/// One call stack of one process, and what it holds.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    pub id: u32,
    pub process: u32,
    pub pid: u32,
    pub kind: String,
    /// The function that allocated; `frames[0]` called it.
    pub via: String,
    pub live: Cost,
    pub allocated: Cost,
    pub freed: Cost,
    pub peak_bytes: i64,
    /// How long the oldest live block has been live.
    pub oldest_s: Option<f64>,
    pub growth_bytes_per_s: f64,
    pub verdict: Verdict,
    /// `complete`, or why the stack ends too early.
    pub stop: String,
    stack: u32,
    /// Innermost first; of the sites that are shown only.
    pub frames: Vec<Frame>,
    cohorts: Vec<CohortRow>,
}

/// One function of a stack.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    pub function: Option<String>,
    /// Path of the file; empty for memory without one.
    pub module: String,
    pub build_id: Option<String>,
    pub offset: u64,
    pub file: Option<String>,
    pub line: Option<u32>,
    pub inlined: bool,
}

impl Frame {
    /// The function, or where it would be.
    pub fn label(&self) -> String {
        match &self.function {
            Some(function) => function.clone(),
            None => format!("{}+{:#x}", self.module_name(), self.offset),
        }
    }

    /// The last part of the module's path.
    pub fn module_name(&self) -> &str {
        match self.module.rsplit('/').next() {
            None | Some("") => "[anonymous]",
            Some(name) => name,
        }
    }
}

/// Points of a site's history that are compared: enough for a robust slope, few enough for 50,000 sites.
const HISTORY_POINTS: usize = 32;

/// All sites, with their final counters.
pub(super) fn sites(recording: &Recording, to_s: f64) -> Vec<Site> {
    // (last row, history) by site; a site that an interval does not name has not changed in it.
    let mut last: BTreeMap<u32, (&SiteRow, Vec<i64>)> = BTreeMap::new();
    let steps = history_steps(recording);
    for (step, range) in steps.iter().enumerate() {
        for interval in &recording.intervals[range.clone()] {
            for row in &interval.sites {
                // Before its first row it held nothing.
                last.entry(row.site).or_insert_with(|| (row, vec![0; step])).0 = row;
            }
        }
        for (row, history) in last.values_mut() {
            history.push(row.allocated_bytes - row.freed_bytes);
        }
    }
    let times: Vec<f64> = steps.iter().map(|it| recording.intervals[it.end - 1].t_s).collect();
    last.into_values().map(|(row, history)| site(recording, row, &history, &times, to_s)).collect()
}

/// The intervals, in at most [`HISTORY_POINTS`] groups of neighbours.
fn history_steps(recording: &Recording) -> Vec<std::ops::Range<usize>> {
    let count = recording.intervals.len();
    let groups = count.min(HISTORY_POINTS);
    (0..groups).map(|it| it * count / groups..(it + 1) * count / groups).collect()
}

fn site(recording: &Recording, row: &SiteRow, history: &[i64], times: &[f64], to_s: f64) -> Site {
    let allocated = Cost { bytes: row.allocated_bytes, blocks: row.allocated_blocks };
    let freed = Cost { bytes: row.freed_bytes, blocks: row.freed_blocks };
    let growth_bytes_per_s = judge::slope(times, history);
    let mut site = Site {
        id: row.site,
        process: row.process,
        pid: recording.processes.get(&row.process).map_or(0, |it| it.pid),
        kind: row.kind.clone(),
        via: row.via.clone(),
        live: allocated - freed,
        allocated,
        freed,
        peak_bytes: row.peak_bytes,
        oldest_s: None,
        growth_bytes_per_s,
        verdict: judge::verdict(allocated, freed, times, history),
        stop: recording.stacks.get(&row.stack).map_or("gone", |it| &it.stop).to_owned(),
        stack: row.stack,
        frames: Vec::new(),
        cohorts: row.cohorts.clone(),
    };
    site.oldest_s = site.oldest(to_s);
    site
}

fn frames(recording: &Recording, stack: &StackRow) -> Vec<Frame> {
    let frame = |it: &crate::capture::FrameRow| {
        let module = recording.modules.get(&it.module);
        Frame {
            function: it.function.as_deref().map(str::to_owned),
            module: module.map_or_else(String::new, |it| it.path.clone()),
            build_id: module.and_then(|it| it.build_id.clone()),
            offset: it.offset,
            ..Frame::default()
        }
    };
    stack.frames.iter().map(frame).collect()
}

impl Site {
    pub fn is_complete(&self) -> bool {
        self.stop == "complete"
    }

    fn oldest(&self, to_s: f64) -> Option<f64> {
        let first = self.cohorts.iter().find(|it| it.blocks > 0)?;
        Some((to_s - first.from_s).max(0.0))
    }

    /// Counts as live only what has been for `older_s` at `to_s`.
    pub(super) fn keep_older(&mut self, older_s: f64, to_s: f64) {
        self.cohorts.retain(|it| to_s - it.to_s >= older_s);
        let live = |it: &CohortRow| Cost { bytes: it.bytes, blocks: it.blocks };
        self.live = self.cohorts.iter().map(live).sum();
        self.oldest_s = self.oldest(to_s);
    }

    pub(super) fn add_frames(&mut self, recording: &Recording) {
        self.frames = recording.stacks.get(&self.stack).map_or_else(Vec::new, |it| frames(recording, it));
    }

    /// The capture's names stay: they are of the functions that have frames of their own.
    pub(super) fn add_places(&mut self, places: &mut dyn Places) {
        let frames = std::mem::take(&mut self.frames);
        for frame in frames {
            let mut found = places.places(&frame.module, frame.build_id.as_deref(), frame.offset);
            let Some(outer) = found.pop() else {
                self.frames.push(frame);
                continue;
            };
            let inner = found.into_iter().map(|it| Frame {
                function: it.function,
                file: it.file,
                line: it.line,
                inlined: true,
                ..frame.clone()
            });
            self.frames.extend(inner);
            let function = frame.function.clone().or(outer.function);
            self.frames.push(Frame { function, file: outer.file, line: outer.line, ..frame });
        }
    }
}
