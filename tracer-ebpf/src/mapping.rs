//! From (process, address) to (object, file offset), and from there to rows: the shapes of the maps
//! that the probes search.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which file is mapped: device and inode as the kernel holds them. The vDSO has no file; see [`VDSO`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ObjectKey {
    pub dev: u64,
    pub ino: u64,
}

/// The key of the vDSO: no file system has device 0.
pub const VDSO: ObjectKey = ObjectKey { dev: 0, ino: 1 };

/// Objects that the probes meet before user space has named them get numbers from here on; below are
/// those that user space announces. [`crate::record::Frame`] has 16 bits for the number.
pub const FIRST_KERNEL_OBJECT: u32 = 1 << 15;

/// Objects in one run at most.
pub const MAX_OBJECTS: u32 = 1 << 16;

/// Processes in one run at most; numbers are not reused.
pub const MAX_PROCESSES: u32 = 1 << 16;

/// A page of one image of one process.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct PageKey {
    pub process: u32,
    /// Changes whenever a file mapping of the process goes away.
    pub generation: u32,
    pub page: u64,
}

/// Where a page lies: `file offset = address + file_delta` within `start..end`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mapped {
    pub start: u64,
    pub end: u64,
    pub file_delta: u64,
    /// 0: executable memory without a file.
    pub object: u32,
    pub pad: u32,
}

/// Where an object's table lies in the common arrays. Blocks are numbered from `start`'s block.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Table {
    /// One of the `TABLE_*` constants.
    pub state: u32,
    /// File offset of the first block, a multiple of the block size.
    pub start: u32,
    pub first_block: u32,
    /// The index has one more entry than this.
    pub blocks: u32,
}

/// User space has not looked at the object yet.
pub const TABLE_PENDING: u32 = 0;
pub const TABLE_READY: u32 = 1;
/// The object has no unwind information, or it did not fit.
pub const TABLE_NONE: u32 = 2;

/// What the probes know of a process.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Process {
    pub generation: u32,
    /// One of the `PROCESS_*` constants.
    pub state: u32,
}

/// Events of this process are reported.
pub const PROCESS_TRACED: u32 = 1;
/// A launched command that still runs our own launcher: tracing begins at its exec.
pub const PROCESS_AWAITS_EXEC: u32 = 2;
