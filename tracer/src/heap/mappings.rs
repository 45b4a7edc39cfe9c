//! Anonymous mappings, cut to pieces by `munmap`, `mremap` and other mappings laid over them.
//!
//! Bytes are freed as they go; the block is freed with the last piece. So the live blocks of a
//! mapping site are the calls of which any byte is left.

use std::collections::BTreeMap;

use rustc_hash::FxHashMap;

use super::{blocks::Found, sites::Slot};
use crate::cost::Cost;

/// The kernel maps and unmaps whole pages, whatever length it is told.
const PAGE_BYTES: u64 = 4096;

/// Addresses `start..end` of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Range {
    pub(super) start: u64,
    pub(super) end: u64,
}

impl Range {
    /// What a system call on `size_bytes` at `address` touches.
    pub(super) fn pages(address: u64, size_bytes: u64) -> Self {
        let size_bytes = size_bytes.checked_next_multiple_of(PAGE_BYTES).unwrap_or(u64::MAX);
        Self { start: address, end: address.saturating_add(size_bytes) }
    }

    pub(super) fn bytes(self) -> u64 {
        self.end.saturating_sub(self.start)
    }
}

/// The site that made a mapping, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Maker {
    pub(super) site: Slot,
    pub(super) birth: u32,
}

#[derive(Clone, Copy, Debug)]
struct Piece {
    end: u64,
    mapping: u64,
}

#[derive(Clone, Copy, Debug)]
struct Mapping {
    maker: Maker,
    pieces: u32,
}

/// The kernel allows a process 65,530 mappings by default, so this needs no limit of its own.
#[derive(Clone, Debug, Default)]
pub(super) struct Mappings {
    /// By start; they never overlap.
    pieces: BTreeMap<u64, Piece>,
    mappings: FxHashMap<u64, Mapping>,
    next: u64,
}

impl Mappings {
    /// The range must have been cut out before, and not be empty.
    pub(super) fn insert(&mut self, range: Range, maker: Maker) {
        self.pieces.insert(range.start, Piece { end: range.end, mapping: self.next });
        self.mappings.insert(self.next, Mapping { maker, pieces: 1 });
        self.next += 1;
    }

    /// Takes `range` out of every mapping, and calls `freed` with what each lost.
    pub(super) fn cut(&mut self, range: Range, mut freed: impl FnMut(Maker, Cost)) {
        let pieces: Vec<_> = self.overlapping(range).collect();
        for (start, piece) in pieces {
            self.pieces.remove(&start);
            let Some(mapping) = self.mappings.get_mut(&piece.mapping) else {
                debug_assert!(false, "a piece has a mapping");
                continue;
            };
            mapping.pieces -= 1;
            if start < range.start {
                self.pieces.insert(start, Piece { end: range.start, ..piece });
                mapping.pieces += 1;
            }
            if piece.end > range.end {
                self.pieces.insert(range.end, piece);
                mapping.pieces += 1;
            }
            let maker = mapping.maker;
            let blocks = i64::from(mapping.pieces == 0);
            if blocks == 1 {
                self.mappings.remove(&piece.mapping);
            }
            let bytes = piece.end.min(range.end) - start.max(range.start);
            freed(maker, Cost { bytes: bytes as i64, blocks });
        }
    }

    /// How much of `range` is in any mapping.
    pub(super) fn covered_bytes(&self, range: Range) -> u64 {
        self.overlapping(range).map(|(start, it)| it.end.min(range.end) - start.max(range.start)).sum()
    }

    /// What is left of every mapping, with the address of its lowest piece.
    pub(super) fn iter(&self) -> impl Iterator<Item = Found> {
        let mut left: FxHashMap<u64, Found> = FxHashMap::default();
        for (start, piece) in &self.pieces {
            let Some(mapping) = self.mappings.get(&piece.mapping) else { continue };
            left.entry(piece.mapping).or_insert((*start, 0, mapping.maker)).1 += piece.end - start;
        }
        left.into_values()
    }

    /// The piece that begins at `address`.
    pub(super) fn piece(&self, address: u64) -> Option<Found> {
        let piece = self.pieces.get(&address)?;
        let mapping = self.mappings.get(&piece.mapping)?;
        Some((address, piece.end - address, mapping.maker))
    }

    fn overlapping(&self, range: Range) -> impl Iterator<Item = (u64, Piece)> {
        let before = self.pieces.range(..range.start).next_back().filter(|(_, it)| it.end > range.start);
        // An empty range overlaps nothing; `BTreeMap::range` does not take one that ends before it starts.
        let within = self.pieces.range(range.start..range.end.max(range.start));
        before.into_iter().filter(move |_| range.bytes() > 0).chain(within).map(|(&start, &it)| (start, it))
    }
}
