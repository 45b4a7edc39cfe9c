//! What is to be traced, and how.

use std::ffi::OsString;

use super::{MemoryBound, Programs, Selection, Tier};
use crate::elf::pools::Pools;

/// What is to be traced.
pub enum Target {
    Processes(Vec<u32>),
    /// A command that waits at its gate, with its name and arguments.
    Launched {
        tgid: u32,
        command: Vec<OsString>,
    },
    /// Those there are and those that come.
    Selected(Selection),
}

/// How to trace.
pub struct Settings {
    pub target: Target,
    /// Trace children too, whatever they become. A selection has those that stay inside of it anyway.
    pub follow: bool,
    /// A power of two and a multiple of the page size.
    pub ring_bytes: u32,
    pub programs: Programs,
    /// The user's own.
    pub pools: Pools,
    pub tier: Tier,
    /// Of the allocated bytes one in 2 to this power is sampled; 0: every block is reported. [`Kernel::set_sampling`]
    /// changes it.
    pub sample_shift: u32,
    /// Of our own memory.
    pub memory: MemoryBound,
    /// Measure first what a probe costs, and be ready to take probes out while the run goes on.
    pub is_governed: bool,
}
