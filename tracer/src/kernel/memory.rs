//! What the tracer itself may take of the machine's memory, and what it takes.

use std::fs;

use procfs::Current as _;

use super::{Kernel, process};

/// Whoever names no bound gives us this part of what there is.
const USUAL_PART: u64 = 4;

/// A ring of more than 64 MiB is only made for whoever asks for it.
const USUAL_RING_BYTES: u64 = 64 << 20;

/// The ring is mapped twice, one behind the other, so that it takes an eighth of the bound at most.
const RING_PART: u64 = 16;

const MIN_RING_BYTES: u64 = 64 << 10;

/// What may come between two looks, besides tables of blocks: names, stacks, rows on their way to the disk.
const RESERVE_PART: u64 = 8;

/// Of blocks that are live; less is not worth the tracing.
const MIN_TABLE_BYTES: u64 = 1 << 20;

/// `bpf_map_type` and map flags of include/uapi/linux/bpf.h.
const RING_BUFFER: u64 = 27;
const MMAPABLE: u64 = 1 << 10;

/// A bound of the tracer's own memory: its resident bytes, the ring as often as it is mapped, and the maps in the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct MemoryBound(pub u64);

impl MemoryBound {
    /// A quarter of what this machine has, or of what our control group may have.
    pub fn usual() -> Self {
        let machine = procfs::Meminfo::current().map_or(u64::MAX, |it| it.mem_total);
        let group = process::own_memory_limit().unwrap_or(u64::MAX);
        Self(machine.min(group) / USUAL_PART)
    }

    /// The size of the ring if nobody names one.
    pub fn ring_bytes(self) -> u32 {
        let most = (self.0 / RING_PART).clamp(MIN_RING_BYTES, USUAL_RING_BYTES);
        // It is below 2³², and the next lower power of two is none of zero.
        1 << most.ilog2()
    }

    /// `count` entries of a map that is made for `usual_bytes` of bound, or fewer under a smaller one.
    pub(crate) fn scaled(self, count: usize, usual_bytes: u64) -> usize {
        (count as u64 * self.0.min(usual_bytes) / usual_bytes) as usize
    }
}

/// The bound and what is taken.
pub(crate) struct Memory {
    bound: MemoryBound,
    ring_bytes: u64,
    /// Of maps that are not mapped: what the kernel keeps for us.
    maps_bytes: u64,
    /// The most that block tables have taken. What they have given back the allocator still has.
    most_table_bytes: usize,
}

impl Memory {
    /// To be called when all maps have been made.
    pub(crate) fn new(bound: MemoryBound, ring_bytes: u32) -> Self {
        Self { bound, ring_bytes: ring_bytes.into(), maps_bytes: maps_bytes(), most_table_bytes: 0 }
    }

    /// # Errors
    /// The bound with which it would fit, if it does not.
    pub(crate) fn check(&self) -> Result<(), u64> {
        let used = self.used_bytes();
        if used + self.reserve_bytes() + MIN_TABLE_BYTES <= self.bound.0 {
            return Ok(());
        }
        // Under a larger bound the ring and the reserve are an eighth each, and maps grow too.
        let other = used.saturating_sub(2 * self.ring_bytes) + MIN_TABLE_BYTES;
        Err((other * 3 / 2).next_multiple_of(1 << 20))
    }

    /// How much block tables may take, which take `table_bytes` now.
    pub(crate) fn table_room(&mut self, table_bytes: usize) -> usize {
        self.most_table_bytes = self.most_table_bytes.max(table_bytes);
        let left = self.bound.0.saturating_sub(self.used_bytes() + self.reserve_bytes());
        self.most_table_bytes.saturating_add(usize::try_from(left).unwrap_or(usize::MAX))
    }

    fn used_bytes(&self) -> u64 {
        self.maps_bytes + process::rss_bytes(std::process::id()).unwrap_or(0)
    }

    fn reserve_bytes(&self) -> u64 {
        self.bound.0 / RESERVE_PART
    }
}

impl Kernel {
    /// Whether the bound of our memory has room for anything.
    ///
    /// # Errors
    /// The bound that has, if this one does not.
    pub fn check_memory(&self) -> Result<(), u64> {
        self.memory.check()
    }

    /// How much tables of live blocks may take, which take `table_bytes` now, so that we stay within our bound.
    pub fn table_room(&mut self, table_bytes: usize) -> usize {
        self.memory.table_room(table_bytes)
    }
}

/// What is mapped is resident memory, and counted there.
fn maps_bytes() -> u64 {
    let Ok(entries) = fs::read_dir("/proc/self/fdinfo") else { return 0 };
    let texts = entries.flatten().filter_map(|it| fs::read_to_string(it.path()).ok());
    texts.filter_map(|it| unmapped_bytes(&it)).sum()
}

/// Of a map, as the kernel tells of its descriptor.
fn unmapped_bytes(text: &str) -> Option<u64> {
    let field = |name: &str| {
        let line = text.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(':'))?.trim();
        match line.strip_prefix("0x") {
            Some(digits) => u64::from_str_radix(digits, 16).ok(),
            None => line.parse().ok(),
        }
    };
    let is_mapped = field("map_type")? == RING_BUFFER || field("map_flags")? & MMAPABLE != 0;
    if is_mapped { None } else { field("memlock") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ring_is_a_part_of_the_bound() {
        for (bound, ring) in [(0, 64 << 10), (64 << 20, 4 << 20), (1000 << 20, 32 << 20), (1 << 40, 64 << 20)]
        {
            assert_eq!(MemoryBound(bound).ring_bytes(), ring, "{bound}");
        }
    }

    #[test]
    fn maps_that_are_mapped_are_not_counted_twice() {
        let text = |kind, flags| {
            format!(
                "pos:\t0\nmap_type:\t{kind}\nkey_size:\t4\nmap_flags:\t{flags}\nmemlock:\t8192\nmap_id:\t7\n"
            )
        };
        assert_eq!(unmapped_bytes(&text(1, "0x1")), Some(8192));
        assert_eq!(unmapped_bytes(&text(2, "0x400")), None);
        assert_eq!(unmapped_bytes(&text(27, "0x0")), None);
        assert_eq!(unmapped_bytes("pos:\t0\nflags:\t02\n"), None);
    }
}
