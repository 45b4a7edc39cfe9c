//! From (process, address) to (object, file offset), and from there to rows: the shapes of the maps
//! that the probes search.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// Which file is mapped, as the kernel holds it. One that is written over keeps its inode, and is another all the same. The
/// vDSO has no file; see [`VDSO`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct ObjectKey {
    pub dev: u32,
    /// Of the time at which the file was written last; see [`version`].
    pub version: u32,
    pub ino: u64,
}

/// What tells one content of a file from the next: of two times of one file hardly any have the same.
#[inline(always)]
pub fn version(modified_s: i64, modified_ns: u32) -> u32 {
    modified_s as u32 ^ modified_ns
}

/// The key of the vDSO: no file system has device 0.
pub const VDSO: ObjectKey = ObjectKey { dev: 0, version: 0, ino: 1 };

/// Objects that the probes meet before user space has named them get numbers from here on; below are
/// those that user space announces. [`crate::record::Frame`] has 16 bits for the number.
pub const FIRST_KERNEL_OBJECT: u32 = 1 << 15;

/// Objects in one run at most.
pub const MAX_OBJECTS: u32 = 1 << 16;

/// Processes at one time that the kernel half has met, and as many that user space has.
pub const MAX_PROCESSES: u32 = 1 << 16;

/// Places for processes. Those of the kernel half have this bit in their number, the others do not.
pub const PROCESS_SLOTS: u32 = 2 * MAX_PROCESSES;

/// The number of the process that one side, told by its `bit`, begins as its `count`th. Numbers grow with each, so that
/// none is given twice before two thousand million have been; the lowest bits are a place of that side.
#[inline(always)]
pub fn process_number(count: u32, bit: u32) -> u32 {
    (count / MAX_PROCESSES) * PROCESS_SLOTS + bit + count % MAX_PROCESSES
}

/// The side of the kernel half, and that of user space.
pub const KERNEL_SIDE: u32 = MAX_PROCESSES;
pub const USER_SIDE: u32 = 0;

/// The place of a process.
#[inline(always)]
pub fn process_slot(number: u32) -> u32 {
    number % PROCESS_SLOTS
}

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
    /// Of the allocated bytes one in 2 to this power is sampled; 0: every block is reported.
    pub sample_shift: u32,
    pub pad: u32,
}

/// The place is free.
pub const PROCESS_NONE: u32 = 0;
/// Events of this process are reported.
pub const PROCESS_TRACED: u32 = 1;
/// A launched command that still runs our own launcher: tracing begins at its exec.
pub const PROCESS_AWAITS_EXEC: u32 = 2;

/// A process by its tgid, in the initial pid namespace.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Member {
    pub process: u32,
    /// 1: a child of `vfork` that still uses the memory of `process`.
    pub borrowed: u32,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_distinct_and_places_are_shared_by_those_far_apart() {
        let numbers = [KERNEL_SIDE, USER_SIDE].map(|side| {
            [0, 1, MAX_PROCESSES - 1, MAX_PROCESSES, 5 * MAX_PROCESSES + 7].map(|it| process_number(it, side))
        });
        for (at, number) in numbers.iter().flatten().enumerate() {
            assert!(numbers.iter().flatten().skip(at + 1).all(|it| it != number));
        }
        for side in numbers {
            assert_eq!(process_slot(side[0]), process_slot(side[3]));
        }
        assert!(numbers[0].iter().all(|it| process_slot(*it) >= MAX_PROCESSES));
        assert!(numbers[1].iter().all(|it| process_slot(*it) < MAX_PROCESSES));
    }
}
