//! Addresses whose block has been given back: a second free of one is not a block from before the attach.
//!
//! glibc frees twice what a thread still has in its cache when it ends (`tcache_thread_shutdown`,
//! malloc/malloc.c): the first free only put the block there. An allocator's blocks start at multiples of 16,
//! so a page has 256 bits, and the whole costs about a hundredth of the heap it describes.

use rustc_hash::FxHashMap;

const PAGE_SHIFT: u32 = 12;
const BLOCK_SHIFT: u32 = 4;

#[derive(Clone, Default)]
pub(super) struct Released {
    pages: FxHashMap<u64, [u64; 4]>,
}

impl Released {
    /// Notes a free at `address`; true if one was noted before. An allocation there in between need not be
    /// told: its free finds the block first.
    #[inline]
    pub(super) fn insert(&mut self, address: u64) -> bool {
        let bit = address >> BLOCK_SHIFT & 0xff;
        let word = &mut self.pages.entry(address >> PAGE_SHIFT).or_default()[bit as usize / 64];
        let mask = 1 << (bit % 64);
        let known = *word & mask != 0;
        *word |= mask;
        known
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_block_of_a_page_has_its_own_bit() {
        let mut released = Released::default();
        let blocks = || (0..512).map(|it| 0x7000 + it * 16);
        assert!(blocks().all(|it| !released.insert(it)));
        assert!(blocks().all(|it| released.insert(it)));
        assert_eq!(released.pages.len(), 2);
    }
}
