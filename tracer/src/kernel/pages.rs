//! How large the page at an address is: the kernel gives large ones where it may.

use std::{fs::File, os::unix::fs::FileExt as _};

/// Of the smallest pages.
pub(crate) const PAGE_BYTES: u64 = 4096;

/// Bits of `/proc/PID/pagemap` (Documentation/admin-guide/mm/pagemap.rst).
const PRESENT: u64 = 1 << 63;
const FRAME_MASK: u64 = (1 << 55) - 1;

/// Bits of `/proc/kpageflags`: the first of the small pages that are one large page, and the others.
const COMPOUND_HEAD: u64 = 1 << 15;
const COMPOUND_TAIL: u64 = 1 << 16;

/// The small pages of the largest page that a fault brings, which is where one can begin.
const MOST: usize = 512;

/// What the kernel says of its page frames.
pub(crate) struct Pages {
    flags: Option<File>,
}

impl Pages {
    pub(crate) fn new() -> Self {
        Self { flags: File::open("/proc/kpageflags").ok() }
    }

    /// Start and bytes of the page at `address`; one that is gone again counts as a small one. `None` if the kernel
    /// does not say.
    pub(crate) fn at(&self, tgid: u32, address: u64) -> Option<(u64, u64)> {
        let small = (address & !(PAGE_BYTES - 1), PAGE_BYTES);
        let map = File::open(format!("/proc/{tgid}/pagemap")).ok()?;
        let [entry] = words(&map, address / PAGE_BYTES)?;
        if entry & PRESENT == 0 {
            return Some(small);
        }
        let frame = entry & FRAME_MASK;
        if frame == 0 {
            return None;
        }
        let within = frame as usize % MOST;
        let flags: [u64; MOST] = words(self.flags.as_ref()?, frame - within as u64)?;
        let (first, pages) = large(&flags, within);
        Some((small.0 - (within - first) as u64 * PAGE_BYTES, pages as u64 * PAGE_BYTES))
    }
}

/// Place of the first small page, and how many are one page with that at `within`.
fn large(flags: &[u64; MOST], within: usize) -> (usize, usize) {
    let is_tail = |at: &usize| flags[*at] & COMPOUND_TAIL != 0;
    let first = (0..=within).rev().find(|it| !is_tail(it)).unwrap_or(within);
    if flags[first] & COMPOUND_HEAD == 0 {
        return (within, 1);
    }
    (first, 1 + (first + 1..MOST).take_while(is_tail).count())
}

fn words<const COUNT: usize>(file: &File, first: u64) -> Option<[u64; COUNT]> {
    let mut words = [0; COUNT];
    let mut bytes = vec![0; COUNT * 8];
    file.read_exact_at(&mut bytes, first * 8).ok()?;
    for (word, bytes) in words.iter_mut().zip(bytes.chunks_exact(8)) {
        *word = bytes.try_into().map_or(0, u64::from_ne_bytes);
    }
    Some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_large_page_is_its_head_and_its_tails() {
        let mut flags = [0; MOST];
        assert_eq!(large(&flags, 5), (5, 1));
        flags[8] = COMPOUND_HEAD;
        flags[9..16].fill(COMPOUND_TAIL);
        flags[16] = COMPOUND_HEAD;
        flags[17] = COMPOUND_TAIL;
        assert_eq!(large(&flags, 7), (7, 1));
        assert_eq!(large(&flags, 8), (8, 8));
        assert_eq!(large(&flags, 13), (8, 8));
        assert_eq!(large(&flags, 17), (16, 2));
        flags[0] = COMPOUND_HEAD;
        flags[1..].fill(COMPOUND_TAIL);
        assert_eq!(large(&flags, 511), (0, MOST));
    }
}
