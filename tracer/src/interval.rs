//! What the heap says of one interval: only what changed, with counters that never go back.
//!
//! This is what a capture stores and what a live view draws. Its size depends on the number of
//! distinct sites that changed, never on the number of events.

use std::sync::Arc;

use crate::{
    cost::Cost,
    event::{Frame, Kind, Loss, ProcessId, Stop, Via},
};

/// A distinct (process, kind, via, stack).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SiteId(pub u32);

/// A distinct sequence of frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackId(pub u32);

/// Everything that changed since the interval before. Times are `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Interval {
    pub time_ns: u64,
    /// Stacks that no earlier interval has named.
    pub stacks: Vec<StackFrames>,
    /// Processes that began, changed or ended, and those that live.
    pub processes: Vec<ProcessState>,
    /// Sites whose counters changed.
    pub sites: Vec<SiteState>,
    pub losses: Losses,
}

/// The frames of a stack, innermost first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StackFrames {
    pub id: StackId,
    pub stop: Stop,
    pub frames: Arc<[Frame]>,
}

/// A process at the end of an interval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessState {
    pub id: ProcessId,
    pub tgid: u32,
    pub parent: Option<ProcessId>,
    pub name: Arc<str>,
    pub began_ns: u64,
    /// Live heap blocks and mappings that were made since the attach.
    pub live: Cost,
    /// Frees of blocks from before the attach.
    pub unknown_frees: u64,
    /// Frees of blocks that were not sampled, or are from before the attach: which of the two cannot be told.
    pub unsampled_frees: u64,
    /// What the allocator itself got from the kernel since the attach, less what it gave back.
    pub arena_bytes: i64,
    pub ended: Option<Ended>,
}

/// How a process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ended {
    pub time_ns: u64,
    pub how: How,
    /// The exit code, or the number of the signal.
    pub code: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    Exit,
    Signal,
    OomKill,
    /// It lives on as a program that was not to be traced.
    Exec,
    /// It was found to be gone; the record that would say more was lost.
    Unseen,
}

impl How {
    pub fn name(self) -> &'static str {
        match self {
            Self::Exit => "exit",
            Self::Signal => "signal",
            Self::OomKill => "oom-kill",
            Self::Exec => "exec",
            Self::Unseen => "unseen",
        }
    }
}

/// A site's counters since the attach.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SiteState {
    pub id: SiteId,
    pub process: ProcessId,
    pub kind: Kind,
    pub via: Via,
    pub stack: StackId,
    pub allocated: Cost,
    pub freed: Cost,
    /// The highest live bytes at any moment.
    pub peak_bytes: i64,
    /// Live bytes in places that blocks from before the attach had left.
    pub reused_bytes: i64,
    /// What is known by samples only.
    pub samples: SampleState,
    /// What is live, by birth; oldest first. Neighbours are merged as they grow old.
    pub cohorts: Vec<Cohort>,
}

impl SiteState {
    pub fn live(&self) -> Cost {
        self.allocated - self.freed
    }
}

/// How far a site's counters are estimates; all zero if they are exact. Errors are two standard errors.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SampleState {
    /// Of so many bytes one was sampled, where that was coarsest; 0 if blocks were not sampled by bytes.
    pub rate_bytes: i64,
    /// Of the live bytes: those of blocks that were not seen, for which the sampled ones stand.
    pub unseen_bytes: i64,
    pub live_error: Cost,
    pub allocated_error: Cost,
}

/// Live blocks that were born after `from_ns` and up to `to_ns`: in one interval, or in several neighbours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cohort {
    pub from_ns: u64,
    pub to_ns: u64,
    pub live: Cost,
}

/// A count for every [`Loss`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Losses([u64; Loss::ALL.len()]);

impl Losses {
    pub fn get(&self, loss: Loss) -> u64 {
        self.0[loss as usize]
    }

    pub fn add(&mut self, loss: Loss, count: u64) {
        self.0[loss as usize] += count;
    }

    /// Those that happened.
    pub fn iter(&self) -> impl Iterator<Item = (Loss, u64)> + '_ {
        Loss::ALL.into_iter().map(|it| (it, self.get(it))).filter(|(_, count)| *count > 0)
    }
}
