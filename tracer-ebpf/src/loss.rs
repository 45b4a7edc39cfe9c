//! Everything that can keep an answer from being exact, by name.
//!
//! "No data" and "no allocations" never look alike: each of these is counted, travels into the
//! capture and is shown in every report.

/// One reason. The first [`Loss::KERNEL`] are counted by the probes, the others in user space.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u32)]
pub enum Loss {
    /// The ring was full: an allocation, free or mapping is missing.
    LostEvents,
    /// The ring was full: a stack is missing (it is sent again with its next event).
    LostStacks,
    /// No room to walk the stack in: more nested preemptions on one CPU than scratch slots.
    ScratchBusy,
    /// More threads than the thread table holds: the call was not seen.
    ThreadsFull,
    /// More processes than the process table holds: one is not traced.
    ProcessesFull,
    /// More executable files than the object table holds.
    ObjectsFull,
    /// A call whose return was never seen (longjmp out of it, or the kernel skipped the return probe).
    StaleCalls,
    /// The result of `posix_memalign` could not be read.
    UnreadableResults,
    /// A `munmap` was counted when it began and then failed.
    FailedUnmaps,
    /// A call of an allocator function whose effect cannot be followed, such as mimalloc's `mi_heap_destroy`.
    UnfollowedCalls,

    /// Distinct stacks of more than 127 frames.
    TruncatedStacks,
    /// Distinct stacks that end early, for whatever reason; the next fields say which.
    IncompleteStacks,
    /// … at an address that no executable mapping holds.
    UnmappedFrames,
    /// … in an object without unwind information there.
    NoTableFrames,
    /// … at a rule that cannot be expressed.
    UnsupportedFrames,
    /// … because the stack could not be read.
    UnreadableStacks,
    /// … because the process was gone before its mappings could be read.
    GoneStacks,
    /// Events whose stack never arrived.
    UnknownStacks,
    /// An allocation at an address that was still live: the free in between was not seen.
    LostFrees,
    /// Executable files that could not be opened, so that their functions have no names.
    UnnamedModules,
    /// Executable files without usable unwind information.
    SkippedTables,
    /// Probes that could not be placed.
    FailedProbes,
    /// Allocator functions that get no probe, since they may throw and their returns cannot be found.
    UnprobedFunctions,
    /// A process mapped an allocator that nobody had met before: its first calls are missing, until the probes were
    /// in place. Counted once for each process and allocator.
    LateProbes,
    /// A process was selected, and found only after it had begun: what it did until then is missing.
    LateProcesses,
    /// Records that user space could not decode.
    MalformedRecords,
    /// Samples of page faults that may have brought a large page and are counted as a small one.
    UnsizedPages,
    /// Blocks for which there was no room within the bound of the tracer's memory: they count as freed at once.
    UntrackedBlocks,
    /// Their bytes: what is live may be more by as much.
    UntrackedBytes,
    /// A process's calls of its allocator were not followed any more, since that cost more than it may: what its blocks
    /// became is not known, and they count as freed.
    UnfollowedProcesses,
    /// Sites that held least, and for which there was no room within the bound of a file.
    LeftOutSites,
    /// What they held: live bytes that are in no site of the file.
    LeftOutBytes,
}

impl Loss {
    /// How many of them the probes count.
    pub const KERNEL: usize = 10;

    pub const ALL: [Self; 32] = [
        Self::LostEvents,
        Self::LostStacks,
        Self::ScratchBusy,
        Self::ThreadsFull,
        Self::ProcessesFull,
        Self::ObjectsFull,
        Self::StaleCalls,
        Self::UnreadableResults,
        Self::FailedUnmaps,
        Self::UnfollowedCalls,
        Self::TruncatedStacks,
        Self::IncompleteStacks,
        Self::UnmappedFrames,
        Self::NoTableFrames,
        Self::UnsupportedFrames,
        Self::UnreadableStacks,
        Self::GoneStacks,
        Self::UnknownStacks,
        Self::LostFrees,
        Self::UnnamedModules,
        Self::SkippedTables,
        Self::FailedProbes,
        Self::UnprobedFunctions,
        Self::LateProbes,
        Self::LateProcesses,
        Self::MalformedRecords,
        Self::UnsizedPages,
        Self::UntrackedBlocks,
        Self::UntrackedBytes,
        Self::UnfollowedProcesses,
        Self::LeftOutSites,
        Self::LeftOutBytes,
    ];

    /// The field's name in captures and reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::LostEvents => "lost_events",
            Self::LostStacks => "lost_stacks",
            Self::ScratchBusy => "scratch_busy",
            Self::ThreadsFull => "threads_full",
            Self::ProcessesFull => "processes_full",
            Self::ObjectsFull => "objects_full",
            Self::StaleCalls => "stale_calls",
            Self::UnreadableResults => "unreadable_results",
            Self::FailedUnmaps => "failed_unmaps",
            Self::UnfollowedCalls => "unfollowed_calls",
            Self::TruncatedStacks => "truncated_stacks",
            Self::IncompleteStacks => "incomplete_stacks",
            Self::UnmappedFrames => "unmapped_frames",
            Self::NoTableFrames => "no_table_frames",
            Self::UnsupportedFrames => "unsupported_frames",
            Self::UnreadableStacks => "unreadable_stacks",
            Self::GoneStacks => "gone_stacks",
            Self::UnknownStacks => "unknown_stacks",
            Self::LostFrees => "lost_frees",
            Self::UnnamedModules => "unnamed_modules",
            Self::SkippedTables => "skipped_tables",
            Self::FailedProbes => "failed_probes",
            Self::UnprobedFunctions => "unprobed_functions",
            Self::LateProbes => "late_probes",
            Self::LateProcesses => "late_processes",
            Self::MalformedRecords => "malformed_records",
            Self::UnsizedPages => "unsized_pages",
            Self::UntrackedBlocks => "untracked_blocks",
            Self::UntrackedBytes => "untracked_bytes",
            Self::UnfollowedProcesses => "unfollowed_processes",
            Self::LeftOutSites => "left_out_sites",
            Self::LeftOutBytes => "left_out_bytes",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn positions_are_codes_and_names_are_unique() {
        for (code, loss) in Loss::ALL.iter().enumerate() {
            assert_eq!(*loss as usize, code);
            assert!(Loss::ALL[..code].iter().all(|it| it.name() != loss.name()));
        }
        assert_eq!(Loss::UnfollowedCalls as usize + 1, Loss::KERNEL);
    }
}
