//! A traced process: where its resident memory went, and what that looks like.

use super::{Resident, Site, group, window::Window};
use crate::{
    capture::{ProcessRow, Recording, Sample},
    cost::Cost,
};

/// A traced process in the window.
#[derive(Clone, Debug, PartialEq)]
pub struct Process {
    pub row: ProcessRow,
    pub parent_pid: Option<u32>,
    pub rss_first_bytes: Option<u64>,
    pub rss_last_bytes: Option<u64>,
    pub rss_max_bytes: Option<u64>,
    /// Frees of blocks from before the attach.
    pub unknown_frees: u64,
    /// Frees of blocks that were not sampled, or are from before the attach.
    pub unsampled_frees: u64,
    /// What the allocator itself got from the kernel since the attach, less what it gave back.
    pub arena_bytes: i64,
    /// `None` without two samples of its RSS.
    pub account: Option<Account>,
    pub outlook: Outlook,
    /// Heap blocks of the window, or what it touched if its heap is not traced; of a process that has ended, what it held
    /// then.
    pub live: Cost,
    pub allocated: Cost,
    /// The process's own mappings.
    pub mapped: Cost,
    /// Of its sites of the heap that grow to the end.
    pub growth_bytes_per_s: f64,
    pub growing_sites: usize,
    /// It ended before the last interval of the window.
    pub is_gone: bool,
    /// What it paid for being traced; `None` if its allocator was not.
    pub expense: Option<Expense>,
}

/// CPU time in the window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Expense {
    pub cpu_us: u64,
    /// What of it was for the tracing, by estimate.
    pub tracing_us: u64,
}

impl std::iter::Sum for Expense {
    fn sum<I: Iterator<Item = Self>>(all: I) -> Self {
        all.fold(Self::default(), |a, b| Self {
            cpu_us: a.cpu_us + b.cpu_us,
            tracing_us: a.tracing_us + b.tracing_us,
        })
    }
}

impl Expense {
    /// There is enough of it for a share.
    pub fn says_something(self) -> bool {
        self.cpu_us >= Self::LEAST_CPU_US
    }

    /// Time without which a share says nothing: it is known to the millisecond at best.
    const LEAST_CPU_US: u64 = 10_000;

    fn between(start: &Sample, inside: &[Sample]) -> Option<Self> {
        let last = inside.iter().rfind(|it| it.cpu_us.is_some())?;
        let since = |of: fn(&Sample) -> Option<u64>| Some(of(last)?.saturating_sub(of(start).unwrap_or(0)));
        let expense = Self { cpu_us: since(|it| it.cpu_us)?, tracing_us: since(|it| it.tracing_us)? };
        expense.says_something().then_some(expense)
    }

    /// What tracing added to what the process would have needed without it.
    pub fn share(self) -> f64 {
        let work_us = self.cpu_us.saturating_sub(self.tracing_us).max(self.cpu_us / 20);
        self.tracing_us as f64 / work_us as f64
    }
}

/// Where the change of the resident bytes went. `live + mapped + retained + resident + rest`
/// is the change; where pages were looked at, the first three are nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Resident when the window began: made before it, and not attributed. 0 for a process that was traced from
    /// its first instruction on.
    pub before_bytes: i64,
    pub change_bytes: i64,
    /// Heap blocks.
    pub live_bytes: i64,
    /// Mapped by the program itself: address space, resident or not.
    pub mapped_bytes: i64,
    /// What the allocator got from the kernel beyond the live blocks: free, cached or its own. Negative: blocks
    /// found room in what it had before.
    pub retained_bytes: i64,
    /// Touched, and resident still, by samples; and two standard errors of that.
    pub resident_bytes: i64,
    pub resident_error_bytes: i64,
    /// Program files, stacks, memory from before that was touched now. Negative: allocated, but not resident.
    pub rest_bytes: i64,
}

/// What a process looks like.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outlook {
    /// Too few intervals.
    TooShort,
    /// Neither its RSS nor any site grows by an amount that shows.
    Steady,
    /// It grew, and no longer does, or in sites that do not grow to the end.
    Settled { change_bytes: i64 },
    /// Sites grow to the end: `sites` of them, by this much.
    Growing { sites: usize, change_bytes: i64 },
    /// The allocator keeps memory that no block is in.
    Fragmented { retained_bytes: i64, live_bytes: i64 },
    /// The program's own mappings grow.
    Mapping { change_bytes: i64 },
    /// RSS grows outside of what is traced.
    Elsewhere { change_bytes: i64 },
}

impl Outlook {
    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::TooShort => "too-short",
            Self::Steady => "steady",
            Self::Settled { .. } => "settled",
            Self::Growing { .. } => "growing",
            Self::Fragmented { .. } => "fragmented",
            Self::Mapping { .. } => "mapping",
            Self::Elsewhere { .. } => "elsewhere",
        }
    }
}

/// What shows in a resident set: a thousandth of it, and never less than glibc's step (`M_TOP_PAD`, 128 KiB;
/// mallopt(3)), half of which is the error of its rounding.
const SHOWS_SHARE: i64 = 1000;
const SHOWS_BYTES: i64 = 64 << 10;

impl Process {
    /// `own` are its sites.
    pub(super) fn new(recording: &Recording, row: &ProcessRow, window: &Window, own: &[&Site]) -> Self {
        let samples = recording.samples.get(&row.id).map_or(&[][..], |it| it);
        let until = |interval: u32| &samples[..samples.partition_point(|it| it.interval <= interval)];
        let before = window.from.map_or(&[][..], until);
        let first = before.len().saturating_sub(1);
        let inside = &until(window.to)[first..];
        let rss = || inside.iter().filter_map(|it| it.rss_bytes);
        let start = before.last().copied().unwrap_or_default();
        let last = inside.last().copied().unwrap_or_default();
        let holder = holder(own);
        let of_heap = || own.iter().filter(|it| &*it.kind == holder);
        // A child of one that is traced, and not one that was there when the tracing began.
        let is_child = row.parent.is_some() && row.began_s > 0.0;
        let began_with_us = window.from.is_none() && (is_child || recording.header.is_launch());
        let account = rss().next_back().filter(|_| inside.len() > 1).map(|rss_last_bytes| {
            let before_bytes = if began_with_us { 0 } else { rss().next().unwrap_or(0) as i64 };
            Account::new(before_bytes, rss_last_bytes as i64, last.arena_bytes - start.arena_bytes, own)
        });
        Self {
            row: row.clone(),
            parent_pid: row.parent.and_then(|it| recording.processes.get(&it)).map(|it| it.pid),
            rss_first_bytes: rss().next(),
            rss_last_bytes: rss().next_back(),
            rss_max_bytes: rss().max(),
            unknown_frees: last.unknown_frees - start.unknown_frees,
            unsampled_frees: last.unsampled_frees - start.unsampled_frees,
            arena_bytes: last.arena_bytes,
            account,
            outlook: outlook(inside, &start, window.to_s - window.from_s, account, own),
            live: of_heap().map(|it| it.live).sum(),
            allocated: of_heap().map(|it| it.allocated).sum(),
            mapped: own.iter().filter(|it| &*it.kind == "mmap").map(|it| it.live).sum(),
            growth_bytes_per_s: of_heap().filter(|it| it.is_growing()).map(|it| it.growth_bytes_per_s).sum(),
            growing_sites: of_heap().filter(|it| it.is_growing()).count(),
            expense: Expense::between(&start, inside),
            is_gone: group::gone_at(recording, row.id, window.to).is_some(),
        }
    }
}

impl Account {
    fn new(before_bytes: i64, rss_last_bytes: i64, arena_bytes: i64, sites: &[&Site]) -> Self {
        let sum = |kind: &str| -> i64 {
            sites.iter().filter(|it| &*it.kind == kind).map(|it| it.change.bytes).sum()
        };
        let (live_bytes, mapped_bytes) = (sum("heap"), sum("mmap"));
        let change_bytes = rss_last_bytes - before_bytes;
        let resident = || sites.iter().copied().filter(|it| it.is_resident());
        if resident().next().is_some() {
            let resident_bytes = resident().map(|it| it.change.bytes).sum();
            return Self {
                before_bytes,
                change_bytes,
                resident_bytes,
                resident_error_bytes: Resident::of(resident()).error_bytes,
                rest_bytes: change_bytes - resident_bytes,
                ..Self::default()
            };
        }
        let retained_bytes = arena_bytes - live_bytes;
        Self {
            before_bytes,
            change_bytes,
            live_bytes,
            mapped_bytes,
            retained_bytes,
            resident_bytes: 0,
            resident_error_bytes: 0,
            rest_bytes: change_bytes - live_bytes - mapped_bytes - retained_bytes,
        }
    }
}

/// The kind of sites that says who holds a process's memory: its pages, if its heap is not traced.
fn holder(sites: &[&Site]) -> &'static str {
    let has = |kind: &str| sites.iter().any(|it| &*it.kind == kind);
    if has("resident") && !has("heap") { "resident" } else { "heap" }
}

/// Intervals without which nothing is said.
const MIN_SAMPLES: usize = 4;

fn outlook(
    samples: &[Sample],
    start: &Sample,
    span_s: f64,
    account: Option<Account>,
    sites: &[&Site],
) -> Outlook {
    let Some(account) = account.filter(|_| samples.len() >= MIN_SAMPLES) else { return Outlook::TooShort };
    // By the slope: the last moment may have been a high one.
    let grown = |it: &Site| it.change.bytes.min((it.growth_bytes_per_s * span_s) as i64).max(0);
    let growing = |kind: &'static str| sites.iter().filter(move |it| it.is_growing() && &*it.kind == kind);
    let holder = holder(sites);
    // What is resident of the mappings, and of what the allocator keeps, is in the pages.
    let has_pages = sites.iter().any(|it| it.is_resident());
    let grown_bytes: i64 = growing(holder).map(|it| grown(it)).sum();
    let mapped_bytes: i64 = growing("mmap").filter(|_| !has_pages).map(|it| grown(it)).sum();
    // What is kept beyond the blocks can be resident only as far as RSS reaches.
    let held_bytes = account.change_bytes.max(0);
    let retained_bytes = if has_pages {
        0
    } else {
        mostly_retained_bytes(samples, start, account.mapped_bytes).min(held_bytes)
    };
    let shows_bytes = ((account.before_bytes + held_bytes) / SHOWS_SHARE).max(SHOWS_BYTES);
    let shows = |bytes: i64| bytes >= shows_bytes;
    // The larger part of what happened, first the one that can be acted on.
    let is_most = |bytes: i64| shows(bytes) && bytes * 2 >= held_bytes;
    if is_most(grown_bytes) {
        Outlook::Growing { sites: growing(holder).count(), change_bytes: grown_bytes }
    } else if is_most(retained_bytes) {
        Outlook::Fragmented { retained_bytes, live_bytes: account.live_bytes }
    } else if is_most(mapped_bytes.min(held_bytes)) {
        Outlook::Mapping { change_bytes: mapped_bytes }
    } else if shows(grown_bytes) {
        Outlook::Growing { sites: growing(holder).count(), change_bytes: grown_bytes }
    } else if shows((account.live_bytes + account.resident_bytes).min(held_bytes)) {
        Outlook::Settled { change_bytes: held_bytes }
    } else if is_most(account.rest_bytes) && account.before_bytes > 0 {
        Outlook::Elsewhere { change_bytes: account.rest_bytes }
    } else {
        Outlook::Steady
    }
}

/// As [`Account::retained_bytes`], as the median of the last half of the samples: what a program holds for the moment
/// in which one was taken is not held for long.
fn mostly_retained_bytes(samples: &[Sample], start: &Sample, mapped_bytes: i64) -> i64 {
    let retained = |it: &Sample| {
        (it.arena_bytes - start.arena_bytes) - (it.live.bytes - start.live.bytes - mapped_bytes)
    };
    let mut late: Vec<i64> = samples[samples.len() / 2..].iter().map(retained).collect();
    let middle = late.len() / 2;
    *late.select_nth_unstable(middle).1
}
