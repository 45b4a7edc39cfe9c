//! What user space tells the probes when it loads them.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Facts about the running kernel, and the user's wishes. Offsets are bytes into the structure; they
/// come from the kernel's own type information, since they differ from build to build.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Config {
    pub vma_start: u32,
    pub vma_end: u32,
    pub vma_flags: u32,
    pub vma_file_offset: u32,
    pub vma_file: u32,
    pub file_inode: u32,
    pub inode_number: u32,
    pub inode_super_block: u32,
    pub super_block_device: u32,
    pub task_mm: u32,
    pub task_signal: u32,
    pub task_exit_code: u32,
    pub signal_live: u32,
    pub signal_flags: u32,
    pub mm_start_code: u32,
    pub mm_vdso: u32,
    /// In the `task:task_newtask` tracepoint's record.
    pub newtask_pid: u32,
    pub newtask_clone_flags: u32,
    /// In the `oom:mark_victim` tracepoint's record.
    pub victim_pid: u32,
    /// 1: forked children are traced too.
    pub follow: u32,
    /// Unread bytes in the ring from which on a record wakes user space at once.
    pub wake_bytes: u32,
}

/// Threads that can be preempted in the middle of a stack walk on one CPU before a walk is refused, and
/// counted: each waits for a CPU, and the scheduler rarely stacks up more than two.
pub const SCRATCH_PER_CPU: u32 = 4;
