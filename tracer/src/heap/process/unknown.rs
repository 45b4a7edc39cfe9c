//! Frees of blocks that are not known: from before the attach, of a thread's cache, or not sampled.

use super::Process;

/// Places that blocks from before the attach have left. A cache of more entries than this that was full before
/// the attach will look as if it grew by the rest.
const MAX_VACATED: usize = 1 << 20;

/// Blocks from glibc's `M_MMAP_THRESHOLD` (mallopt(3)) on have mappings of their own and no neighbours.
const MAX_REACH_BYTES: u64 = 128 << 10;

impl Process {
    /// Free neighbours become one, so that the start of a new block need not be that of an old one; but it lies inside
    /// of one, and those of the same site were about as large.
    #[inline]
    pub(super) fn is_vacated(&self, address: u64, block_bytes: u64) -> bool {
        if self.vacated.is_empty() {
            return false;
        }
        let reach = block_bytes.clamp(1, MAX_REACH_BYTES);
        self.vacated.range((address + 1).saturating_sub(reach)..=address).next_back().is_some()
    }

    /// Of a block that was not sampled, or is from before the attach.
    pub(super) fn free_unknown(&mut self, address: u64) {
        if self.is_sampled {
            self.unsampled_frees += 1;
            return;
        }
        self.unknown_frees += 1;
        if self.vacated.len() < MAX_VACATED {
            self.vacated.insert(address);
        }
    }

    /// What `thread` has freed since `since_ns` was no block, unless it was a live one.
    pub(in crate::heap) fn empty_cache(&mut self, thread: u8, since_ns: u64) {
        // Two CPUs may report in another order than they read the clock, by less than this.
        const DISORDER_NS: u64 = 1_000_000;
        let before = since_ns.saturating_sub(DISORDER_NS);
        let first = self.latest_unknown.partition_point(|(time_ns, _)| *time_ns < before);
        let recent = self.latest_unknown.split_off(first);
        for free in recent {
            if free.0 >= since_ns && free.1 == thread {
                let frees = if self.is_sampled { &mut self.unsampled_frees } else { &mut self.unknown_frees };
                *frees = frees.saturating_sub(1);
            } else {
                self.latest_unknown.push_back(free);
            }
        }
    }
}
