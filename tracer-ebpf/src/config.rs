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
    pub inode_modified_s: u32,
    pub inode_modified_ns: u32,
    pub super_block_device: u32,
    pub task_mm: u32,
    pub task_signal: u32,
    pub task_exit_code: u32,
    pub signal_live: u32,
    pub signal_flags: u32,
    pub mm_start_code: u32,
    pub mm_vdso: u32,
    pub mm_arg_start: u32,
    pub mm_arg_end: u32,
    pub file_dentry: u32,
    pub dentry_name: u32,
    pub dentry_parent: u32,
    pub task_cgroups: u32,
    /// In a task's `css_set`: where the way to its control group begins; see `hierarchy_is_v2`.
    pub css_set_start: u32,
    pub css_cgroup: u32,
    pub cgroup_parent: u32,
    pub cgroup_kernfs: u32,
    pub kernfs_id: u32,
    pub task_min_flt: u32,
    pub task_maj_flt: u32,
    pub task_pagefault_disabled: u32,
    /// In the `task:task_newtask` tracepoint's record.
    pub newtask_pid: u32,
    pub newtask_clone_flags: u32,
    /// In the `oom:mark_victim` tracepoint's record; of what is not there, 0.
    pub victim_pid: u32,
    pub victim_total_vm: u32,
    pub victim_anon_rss: u32,
    pub victim_file_rss: u32,
    pub victim_shmem_rss: u32,
    pub victim_page_tables: u32,
    pub victim_uid: u32,
    pub victim_oom_score_adj: u32,
    /// 1: children are traced too, whatever they become.
    pub follow: u32,
    /// One of the `SELECT_*` constants: whose processes are traced without having been named one by one.
    pub select: u32,
    /// 1: `css_set_start` leads to the control group itself, 0: to the state of one of version 1's controllers.
    pub hierarchy_is_v2: u32,
    /// The tracer, which is never traced.
    pub own_tgid: u32,
    /// Unread bytes in the ring from which on a record wakes user space at once.
    pub wake_bytes: u32,
    /// Of so many page faults one is looked at, or of more where there are many; 0: of none.
    pub fault_every: u32,
    /// 1: the kernel gives large pages to whoever does not refuse them.
    pub always_large: u32,
    /// 1: the tracing is over, and every program returns at once.
    pub off: u32,
    /// A power of two, less one: how many places there are to walk stacks in.
    pub scratch_mask: u32,
    /// [`crate::mapping::Process::sample_shift`] of the processes that begin.
    pub sample_shift: u32,
}

/// Nobody but the targets and, if they are followed, their children.
pub const SELECT_NOBODY: u32 = 0;
/// Every process but the tracer.
pub const SELECT_ALL: u32 = 1;
/// Whoever's program has one of the names in the map.
pub const SELECT_NAMES: u32 = 2;
/// Whoever is in or below one of the control groups in the map.
pub const SELECT_GROUPS: u32 = 3;

/// A program's name as the kernel has it, filled up with zeros (`TASK_COMM_LEN` of include/linux/sched.h).
pub const NAME_BYTES: usize = 16;
/// Names that can be selected: as many as anybody types.
pub const MAX_NAMES: u32 = 64;
/// Control groups that can be selected: as many as anybody types, and those that are made again in their place.
pub const MAX_GROUPS: u32 = 1 << 10;

/// Where the kernel half counts, beside the numbers that it gives away, the children that are not followed.
pub const UNFOLLOWED_FORKS: u32 = 2;
