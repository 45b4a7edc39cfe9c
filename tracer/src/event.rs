//! Everything that can happen to the memory of a process, decoded and owned.

use std::sync::Arc;

use crate::{estimate::Rate, interval::How};
pub use tracer_ebpf::{
    call::{POOL_BLOCK, Via},
    loss::Loss,
    record::Frame,
    unwind::Stop,
};

/// A process of this run: (pid, start time), numbered by the tracer and never reused.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ProcessId(pub u32);

/// An object file of this run, as [`Frame::object`] names it; 0 is "no file".
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ObjectId(pub u32);

/// What events call a stack: the hash of its frames, or a number used once.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct StackKey(pub u64);

/// Heap blocks and direct mappings are counted apart; and so is what of all of it was seen to become resident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Kind {
    Heap,
    Mmap,
    /// Memory that was touched, by samples. It lies inside of the other two.
    Resident,
}

impl Kind {
    pub fn name(self) -> &'static str {
        match self {
            Self::Heap => "heap",
            Self::Mmap => "mmap",
            Self::Resident => "resident",
        }
    }
}

/// One thing that happened. Times are `CLOCK_MONOTONIC` nanoseconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// A process is traced from now on. `break_end` is the end of its heap segment, if known.
    Begin {
        process: ProcessId,
        time_ns: u64,
        tgid: u32,
        name: Arc<str>,
        break_end: Option<u64>,
    },
    /// The frames behind a key, innermost first; sent before the first event that uses the key.
    Stack {
        key: StackKey,
        stop: Stop,
        frames: Box<[Frame]>,
    },
    Alloc {
        process: ProcessId,
        time_ns: u64,
        via: Via,
        address: u64,
        size_bytes: u64,
        stack: StackKey,
        rate: Rate,
    },
    /// One free and one allocation. `address` is 0 if the call only freed, or if the new block was not sampled. `started_ns` is when the call
    /// was entered: from then on another thread may have been given `old_address`.
    Realloc {
        process: ProcessId,
        time_ns: u64,
        via: Via,
        old_address: u64,
        address: u64,
        size_bytes: u64,
        stack: StackKey,
        started_ns: u64,
        rate: Rate,
    },
    /// An allocator call inside one of a user's pool, with what it took back and what it gave, or 0. The blocks of the pool
    /// lie in it, and they are what counts.
    Enclosed {
        process: ProcessId,
        time_ns: u64,
        old_address: u64,
        address: u64,
    },
    Free {
        process: ProcessId,
        time_ns: u64,
        address: u64,
        /// The low byte of the thread's id: enough to tell apart those that free at the same moment.
        thread: u8,
    },
    /// A thread has ended. What it had freed since `since_ns` was what the allocator had cached for it, and not
    /// a block of the program.
    EmptyCache {
        process: ProcessId,
        time_ns: u64,
        thread: u8,
        since_ns: u64,
    },
    /// An anonymous mapping. `nested`: made by an allocator for itself, which is no allocation.
    Map {
        process: ProcessId,
        time_ns: u64,
        address: u64,
        size_bytes: u64,
        stack: StackKey,
        nested: bool,
    },
    Unmap {
        process: ProcessId,
        time_ns: u64,
        address: u64,
        size_bytes: u64,
        nested: bool,
    },
    Remap {
        process: ProcessId,
        time_ns: u64,
        old_address: u64,
        old_size_bytes: u64,
        address: u64,
        size_bytes: u64,
        stack: StackKey,
        nested: bool,
    },
    /// Memory became resident at `address`: one such page fault in `every`.
    Touch {
        process: ProcessId,
        time_ns: u64,
        address: u64,
        page_bytes: u64,
        every: u32,
        stack: StackKey,
    },
    /// The pages of a range were given back, and the range stays mapped.
    Discard {
        process: ProcessId,
        time_ns: u64,
        address: u64,
        size_bytes: u64,
    },
    /// The calls of the allocator are not seen any more. What becomes of its blocks is not known.
    Unfollow {
        process: ProcessId,
        time_ns: u64,
    },
    /// The same, since nobody wants to see them any more.
    Relax {
        process: ProcessId,
        time_ns: u64,
    },
    /// The heap segment now ends at `end`.
    Break {
        process: ProcessId,
        time_ns: u64,
        end: u64,
        stack: StackKey,
        nested: bool,
    },
    /// The process image was replaced: all blocks and mappings are gone.
    Exec {
        process: ProcessId,
        time_ns: u64,
        name: Arc<str>,
    },
    /// `child` is a copy of `process`, live blocks included.
    Fork {
        process: ProcessId,
        time_ns: u64,
        child: ProcessId,
        child_tgid: u32,
    },
    /// `child` was made by `process` and has nothing of it: it became another program at once.
    Spawn {
        process: ProcessId,
        time_ns: u64,
        child: ProcessId,
        child_tgid: u32,
    },
    /// The process is not traced any more, and its end will not be seen.
    Leave {
        process: ProcessId,
        time_ns: u64,
        how: How,
    },
    /// The last thread ended; `status` is in the form of `wait(2)`.
    Exit {
        process: ProcessId,
        time_ns: u64,
        status: u32,
    },
    /// The OOM killer has chosen the process.
    Oom {
        process: ProcessId,
        time_ns: u64,
        /// Rare, and no reason to make all others larger.
        choice: Box<Choice>,
    },
}

/// What the kernel tells when the OOM killer chooses. What it does not tell is absent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// Who needed memory when there was none.
    pub trigger: Option<(u32, Arc<str>)>,
    /// Of the victim, as are all that follow.
    pub total_vm_bytes: Option<u64>,
    pub anon_bytes: Option<u64>,
    pub file_bytes: Option<u64>,
    pub shmem_bytes: Option<u64>,
    pub page_table_bytes: Option<u64>,
    pub uid: Option<u32>,
    pub oom_score_adj: Option<i32>,
}
