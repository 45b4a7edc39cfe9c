//! Every map, with the reason for its size. Sizes given as 1 are set by user space when it loads the
//! programs, since they depend on the machine or on the target.

use aya_ebpf::{
    bindings::{BPF_F_MMAPABLE, BPF_F_NO_PREALLOC},
    macros::map,
    maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf},
};
use tracer_ebpf::{
    config::{Config, MAX_GROUPS, MAX_NAMES, NAME_BYTES},
    loss::Loss,
    mapping::{MAX_OBJECTS, Mapped, Member, ObjectKey, PROCESS_SLOTS, PageKey, Process, Table, process_slot},
    sampling::BINS,
    unwind::Rule,
};

use crate::{fault::Faults, thread::Thread, walk::Scratch};

#[map]
pub(crate) static CONFIG: Array<Config> = Array::with_max_entries(1, 0);

/// All records. User space chooses the size; it must hold what arrives while user space is away.
#[map]
pub(crate) static RING: RingBuf = RingBuf::with_byte_size(1 << 20, 0);

/// A count for each kernel-side [`Loss`].
#[map]
pub(crate) static LOSSES: PerCpuArray<u64> = PerCpuArray::with_max_entries(Loss::KERNEL as u32, 0);

/// Traced processes by tgid: as many as `/proc/sys/kernel/pid_max` is by default, twice over.
#[map]
pub(crate) static MEMBERS: HashMap<u32, Member> = HashMap::with_max_entries(PROCESS_SLOTS, BPF_F_NO_PREALLOC);

/// By [`process_slot`]: a process of a number has its place as long as it lives. Mapped, since user space changes one
/// field while the kernel half may change another.
#[map]
pub(crate) static PROCESSES: Array<Process> = Array::with_max_entries(PROCESS_SLOTS, BPF_F_MMAPABLE);

/// What is known of process `number`.
#[inline(always)]
pub(crate) fn process(number: u32) -> Option<&'static Process> {
    PROCESSES.get(process_slot(number))
}

/// The same, to be changed.
#[inline(always)]
pub(crate) fn process_mut(number: u32) -> Option<*mut Process> {
    PROCESSES.get_ptr_mut(process_slot(number))
}

/// Of the distances between samples; see [`tracer_ebpf::sampling`].
#[map]
pub(crate) static QUANTILES: Array<u64> = Array::with_max_entries(BINS, BPF_F_MMAPABLE);

/// Names of programs that are selected.
#[map]
pub(crate) static NAMES: HashMap<[u8; NAME_BYTES], u8> = HashMap::with_max_entries(MAX_NAMES, 0);

/// Control groups that are selected, by the inode of their directory.
#[map]
pub(crate) static GROUPS: HashMap<u64, u8> = HashMap::with_max_entries(MAX_GROUPS, 0);

/// Threads that have a place to themselves: 4 MiB. `pid_max` is 32,768 on most machines, and ids are given out in turn, so
/// that those of one program mostly differ in their lowest bits.
pub(crate) const PLACES: u32 = 1 << 14;

/// By the lowest bits of the tid; a place is claimed on a thread's first call and given back when the thread ends.
#[map]
pub(crate) static THREAD_PLACES: Array<Thread> = Array::with_max_entries(PLACES, 0);

/// By tid: threads whose place is another's. Those of further threads are counted as `ThreadsFull`.
#[map]
pub(crate) static THREADS: HashMap<u32, Thread> = HashMap::with_max_entries(1 << 17, BPF_F_NO_PREALLOC);

/// Which page fault of this CPU is the next to be looked at.
#[map]
pub(crate) static FAULTS: PerCpuArray<Faults> = PerCpuArray::with_max_entries(1, 0);

/// How many threads are in a page fault that is looked at.
#[map]
pub(crate) static ARMED: Array<u32> = Array::with_max_entries(1, 0);

/// The next numbers to give away: 0 for objects, 1 for processes. And under [`tracer_ebpf::config::UNFOLLOWED_FORKS`] a count.
#[map]
pub(crate) static NEXT: Array<u32> = Array::with_max_entries(3, 0);

/// A cache: 32,768 pages are 128 MiB of text in use. Old pages are dropped and looked up again.
#[map]
pub(crate) static PAGES: LruHashMap<PageKey, Mapped> = LruHashMap::with_max_entries(1 << 15, 0);

/// Object numbers by device and inode.
#[map]
pub(crate) static OBJECTS: HashMap<ObjectKey, u32> =
    HashMap::with_max_entries(MAX_OBJECTS, BPF_F_NO_PREALLOC);

/// By object number.
#[map]
pub(crate) static TABLES: Array<Table> = Array::with_max_entries(MAX_OBJECTS, 0);

/// Two 32-bit words: the kernel rounds the size of an array's elements up to eight bytes.
pub(crate) type Pair = [u32; 2];

/// Row numbers by block of text; sized by user space.
#[map]
pub(crate) static BLOCKS: Array<Pair> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Packed rows of all objects; sized by user space.
#[map]
pub(crate) static ROWS: Array<Pair> = Array::with_max_entries(1, BPF_F_MMAPABLE);

/// Word `at` of an array of pairs.
#[inline(always)]
pub(crate) fn word(pairs: &Array<Pair>, at: u32) -> Option<u32> {
    let pair = pairs.get(at >> 1)?;
    Some(if at & 1 == 0 { pair[0] } else { pair[1] })
}

/// 512 KiB. Two places that share an entry only cost each other a search.
pub(crate) const RECENT_ENTRIES: u32 = 1 << 16;

/// A cache of rules by place: object number (16 bits), file offset (32) and rule number (16) in one word.
/// What an object's table says never changes.
#[map]
pub(crate) static RECENT: Array<u64> = Array::with_max_entries(RECENT_ENTRIES, 0);

/// Distinct rules of all objects: binaries measured have 6 to 680 (libc 302, rustc's driver 680).
#[map]
pub(crate) static RULES: Array<Rule> = Array::with_max_entries(1 << 16, 0);

/// Stacks that user space has. A stack that falls out is sent again, which does no harm.
#[map]
pub(crate) static SEEN: LruHashMap<u64, u8> = LruHashMap::with_max_entries(1 << 17, 0);

/// Places to walk a stack in, sized by user space.
#[map]
pub(crate) static SCRATCH: Array<Scratch> = Array::with_max_entries(1, 0);
