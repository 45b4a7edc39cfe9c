//! Records on the ring buffer, in the order in which things happened.
//!
//! An allocation is written when the allocator returns, a free when it is entered: on one ring the
//! events of one address then lie in their true order. Every record starts with a [`Head`].
//! All times are `CLOCK_MONOTONIC` nanoseconds.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

use crate::{config::NAME_BYTES, mapping::ObjectKey};

/// Frames of one stack at most; the walk stops there and says so. 127 is `PERF_MAX_STACK_DEPTH`.
pub const MAX_FRAMES: usize = 127;

/// Bytes of the target's stack that travel with a [`RawStack`]: two pages hold the start-up and
/// `dlopen` stacks for which it exists.
pub const RAW_WINDOW_BYTES: usize = 8192;

/// What a record is; the first two bytes of each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u16)]
pub enum Kind {
    Stack = 1,
    RawStack = 2,
    Alloc = 3,
    Realloc = 4,
    Free = 5,
    Map = 6,
    Unmap = 7,
    Remap = 8,
    Break = 9,
    Mapping = 10,
    Exec = 11,
    Fork = 12,
    Exit = 13,
    Oom = 14,
    EmptyCache = 15,
    Path = 16,
    Leave = 17,
    Touch = 18,
    Discard = 19,
}

/// [`Head::flags`]: the system call was made inside an allocator call, so it is the allocator's own
/// growth and no allocation; or the allocator call was made inside one of a user's pool, whose blocks lie in what
/// it gave.
pub const NESTED: u8 = 1;

/// [`Head::flags`] of a [`Fork`]: the child shares nothing with its parent, or has none that is traced.
pub const NOTHING_INHERITED: u8 = 2;

/// [`Head::flags`] of a [`Touch`]: the page may be larger than the smallest.
pub const MAYBE_LARGE: u8 = 2;

/// The start of every record.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Head {
    pub kind: u16,
    /// The function that allocated; a [`crate::call::Via`].
    pub via: u8,
    /// The five highest bits of an [`Alloc`] or a [`Realloc`] say how the block was sampled: see
    /// [`crate::sampling::SHIFT_BIT`].
    pub flags: u8,
    /// The tracer's own number for the process; see [`crate::mapping::process_number`].
    pub process: u32,
    pub time_ns: u64,
}

/// A call stack, sent once per distinct stack; `frames[..count]` are valid, innermost first.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Stack {
    pub head: Head,
    /// Hash of the frames and of `stop`; what the other records call `stack`.
    pub id: u64,
    pub count: u32,
    /// Why the walk ended; a [`crate::unwind::Stop`].
    pub stop: u32,
    pub frames: [u64; MAX_FRAMES],
}

/// A stack that could not be walked to its end in the kernel, because a table was not there yet:
/// the frames found so far, the registers at that point and the stack bytes above it.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct RawStack {
    pub stack: Stack,
    pub ip: u64,
    pub sp: u64,
    pub fp: u64,
    pub window_bytes: u32,
    /// 1 if `ip` is to be looked up as it is, 0 if it is a return address.
    pub exact: u32,
    pub window: [u64; RAW_WINDOW_BYTES / 8],
}

/// An allocation that succeeded.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Alloc {
    pub head: Head,
    pub address: u64,
    /// As requested, not as rounded by the allocator.
    pub size_bytes: u64,
    pub stack: u64,
}

/// A `realloc` that succeeded: one free and one allocation. `address` is 0 when the call freed.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Realloc {
    pub head: Head,
    pub old_address: u64,
    pub address: u64,
    pub size_bytes: u64,
    pub stack: u64,
    /// When the call was entered: from then on another thread may have been given `old_address`.
    pub started_ns: u64,
}

/// A free of a non-null address. [`Head::flags`] is the low byte of the thread's id.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Free {
    pub head: Head,
    pub address: u64,
}

/// A thread has ended whose allocator kept a cache for it: what it freed since `since_ns` was that cache, in
/// which each block had been freed before, and then the cache itself, which no call had allocated.
/// [`Head::flags`] is as in [`Free`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct EmptyCache {
    pub head: Head,
    pub since_ns: u64,
}

/// An anonymous mapping was made.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Map {
    pub head: Head,
    pub address: u64,
    pub size_bytes: u64,
    pub stack: u64,
}

/// A range is being unmapped; written when the call is entered, like a free. A file mapping that is
/// laid over a range is written as this too.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Unmap {
    pub head: Head,
    pub address: u64,
    pub size_bytes: u64,
}

/// Anonymous memory became resident at `address`: one such page fault in `every`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Touch {
    pub head: Head,
    pub address: u64,
    pub stack: u64,
    pub every: u32,
    pub pad: u32,
}

/// The pages of a range are given back, and the range stays mapped.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Discard {
    pub head: Head,
    pub address: u64,
    pub size_bytes: u64,
}

/// A range was moved or resized.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Remap {
    pub head: Head,
    pub old_address: u64,
    pub old_size_bytes: u64,
    pub address: u64,
    pub size_bytes: u64,
    pub stack: u64,
    pub started_ns: u64,
}

/// `brk` returned: the heap segment ends at `end`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Break {
    pub head: Head,
    pub end: u64,
    pub stack: u64,
}

/// The kernel half met an executable mapping for the first time in this process image.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Mapping {
    pub head: Head,
    pub start: u64,
    pub end: u64,
    pub file_offset: u64,
    pub key: ObjectKey,
    pub object: u32,
    pub tgid: u32,
}

/// Of a program's arguments travels as much as tells it from others with the same name.
pub const ARGUMENT_BYTES: usize = 256;

/// The process image was replaced: every block is gone.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exec {
    pub head: Head,
    pub tgid: u32,
    /// The program; 0 if that is not known.
    pub object: u32,
    pub command: [u8; 16],
    /// How much of `arguments` is valid; they are separated by zeros.
    pub argument_bytes: u32,
    pub pad: u32,
    pub arguments: [u8; ARGUMENT_BYTES],
}

/// The longest path that travels with an object: 16 names of 64 bytes, as containers have them.
pub const PATH_BYTES: usize = 1024;

/// The kernel half met an object for the first time: where its file lies in its file system.
#[derive(Clone, Copy, Debug, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Path {
    pub head: Head,
    pub object: u32,
    /// How much of `names` is valid.
    pub bytes: u32,
    pub key: ObjectKey,
    /// The file's name, its directory's and so on; each ends with a zero.
    pub names: [u8; PATH_BYTES],
}

/// The process has become a program that is not selected, and is not traced any more.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Leave {
    pub head: Head,
    pub tgid: u32,
    pub pad: u32,
}

/// A process was copied; the child (`head.process` is the parent) inherits every live block, unless
/// [`NOTHING_INHERITED`] says otherwise. Without a parent that is traced `head.process` is 0.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Fork {
    pub head: Head,
    pub child: u32,
    pub child_tgid: u32,
}

/// The last thread of a process has ended; `code` is in the form of `wait(2)`.
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Exit {
    pub head: Head,
    pub tgid: u32,
    pub code: u32,
}

/// The OOM killer has chosen this process. What the kernel does not tell is [`NOT_TOLD`].
#[derive(Clone, Copy, Debug, Default, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Oom {
    pub head: Head,
    pub tgid: u32,
    /// Who needed memory when there was none.
    pub trigger_tgid: u32,
    /// Its name, filled up with zeros.
    pub trigger: [u8; NAME_BYTES],
    pub total_vm_kib: u64,
    pub anon_rss_kib: u64,
    pub file_rss_kib: u64,
    pub shmem_rss_kib: u64,
    pub page_tables_kib: u64,
    pub uid: u64,
    /// Sign-extended.
    pub oom_score_adj: u64,
}

/// In an [`Oom`]: kernels before Linux 6.8 tell only the process.
pub const NOT_TOLD: u64 = u64::MAX >> 1;

/// A frame: the object in the upper 16 bits, the offset in its file in the lower 48.
///
/// The offset is the one to look up: that of the interrupted instruction for the frame under a
/// signal, one byte before the return address (inside the call) for all others. Object 0 is memory
/// without a file, and the lower bits are then the address itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Frame(pub u64);

/// Bits of [`Frame`] that hold the offset: user addresses have 47, file offsets 32.
const OFFSET_BITS: u32 = 48;

impl Frame {
    #[inline(always)]
    pub fn new(object: u32, offset: u64) -> Self {
        Self((object as u64) << OFFSET_BITS | offset & ((1 << OFFSET_BITS) - 1))
    }

    pub fn object(self) -> u32 {
        (self.0 >> OFFSET_BITS) as u32
    }

    pub fn offset(self) -> u64 {
        self.0 & ((1 << OFFSET_BITS) - 1)
    }
}

/// One round of the hash that identifies a stack: multiply by the golden ratio and fold.
#[inline(always)]
pub fn mix(hash: u64, word: u64) -> u64 {
    let hash = (hash ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    hash ^ (hash >> 29)
}

const _: () = {
    assert!(size_of::<Head>() == 16);
    assert!(size_of::<Stack>() == 32 + 8 * MAX_FRAMES);
    assert!(size_of::<Alloc>() == 40 && size_of::<Free>() == 24 && size_of::<Realloc>() == 56);
};

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_frame_keeps_object_and_offset() {
        let frame = Frame::new(0xfffe, 0x7fff_ffff_ffff);
        assert_eq!((frame.object(), frame.offset()), (0xfffe, 0x7fff_ffff_ffff));
    }

    #[test]
    fn the_order_of_frames_changes_the_hash() {
        assert_ne!(mix(mix(0, 1), 2), mix(mix(0, 2), 1));
    }
}
