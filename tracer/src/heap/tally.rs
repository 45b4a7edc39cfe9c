//! Sums of blocks, some of which stand for more than themselves: what they are inside of the heap, and what is said of them.
//!
//! The same block adds and takes away the same integers, so that live = allocated − freed holds for estimates too.

use crate::{
    cost::Cost,
    estimate::{Rate, Weight},
    interval::SampleState,
};

/// Inside of the heap blocks are counted in 4096ths, since 1/p is no whole number. Bytes are whole: S/p is R bytes at least.
const BLOCK: i64 = 1 << BLOCK_BITS;
const BLOCK_BITS: u32 = 12;

/// One block, seen by itself.
#[inline]
pub(super) fn whole(bytes: u64) -> Cost {
    Cost { bytes: bytes as i64, blocks: BLOCK }
}

/// A cost that was not estimated.
pub(super) fn plain(cost: Cost) -> Cost {
    Cost { blocks: cost.blocks << BLOCK_BITS, ..cost }
}

/// As it is told.
pub(super) fn told(cost: Cost) -> Cost {
    Cost { blocks: (cost.blocks + BLOCK / 2) >> BLOCK_BITS, ..cost }
}

/// A sampled block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Sample {
    pub(super) cost: Cost,
    rate: Rate,
    /// Of the cost's bytes: those of blocks that were not seen.
    unseen_bytes: i64,
    /// Squares: sums of them do not fit into 64 bits.
    bytes_variance: u128,
    blocks_variance: u128,
}

impl Sample {
    /// A block that was taken at a rate.
    #[cold]
    pub(super) fn new(size_bytes: u64, rate: Rate) -> Self {
        let Weight { bytes, blocks, bytes_variance, blocks_variance } = rate.weight(size_bytes);
        let (bytes, scale) = (bytes.round() as i64, BLOCK as f64);
        Self {
            cost: Cost { bytes, blocks: (blocks * scale).round() as i64 },
            rate,
            unseen_bytes: bytes - size_bytes as i64,
            bytes_variance: bytes_variance.round() as u128,
            blocks_variance: (blocks_variance * scale * scale).round() as u128,
        }
    }

    /// One of `every` things of `bytes` each, which counts as one block.
    pub(super) fn one_of(every: u32, bytes: u64) -> Self {
        let (every, square) = (u128::from(every), u128::from(bytes) * u128::from(bytes));
        Self {
            cost: whole(bytes * every as u64),
            rate: Rate::EXACT,
            unseen_bytes: 0,
            bytes_variance: square * every * (every - 1),
            blocks_variance: 0,
        }
    }
}

/// What samples a site has had, and what their estimates are worth.
#[derive(Clone, Debug, Default)]
pub(super) struct Samples {
    /// The coarsest.
    rate: Rate,
    unseen_bytes: i64,
    live: Variance,
    allocated: Variance,
}

#[derive(Clone, Copy, Debug, Default)]
struct Variance {
    bytes: u128,
    blocks: u128,
}

impl Samples {
    pub(super) fn allocate(&mut self, sample: &Sample) {
        self.rate = self.rate.max(sample.rate);
        self.unseen_bytes += sample.unseen_bytes;
        for it in [&mut self.live, &mut self.allocated] {
            it.bytes += sample.bytes_variance;
            it.blocks += sample.blocks_variance;
        }
    }

    pub(super) fn free(&mut self, sample: &Sample) {
        self.unseen_bytes -= sample.unseen_bytes;
        self.live.bytes -= sample.bytes_variance;
        self.live.blocks -= sample.blocks_variance;
    }

    pub(super) fn free_all(&mut self) {
        (self.unseen_bytes, self.live) = (0, Variance::default());
    }

    /// Those of a forked child: what lives counts as allocated there.
    pub(super) fn inherited(&self) -> Self {
        Self { allocated: self.live, ..self.clone() }
    }

    pub(super) fn state(&self) -> SampleState {
        SampleState {
            rate_bytes: if self.rate.is_exact() { 0 } else { self.rate.bytes() },
            unseen_bytes: self.unseen_bytes,
            live_error: self.live.error(),
            allocated_error: self.allocated.error(),
        }
    }
}

impl Variance {
    /// Two standard errors.
    fn error(self) -> Cost {
        let twice = |variance: u128| 2.0 * (variance as f64).sqrt();
        Cost {
            bytes: twice(self.bytes).ceil() as i64,
            blocks: (twice(self.blocks) / BLOCK as f64).ceil() as i64,
        }
    }
}

/// Cohorts of a site as they are told: what of them is rounded adds up to `live`.
pub(super) fn told_in_turn(
    live: Cost,
    costs: impl ExactSizeIterator<Item = Cost>,
) -> impl Iterator<Item = Cost> {
    let last = costs.len().saturating_sub(1);
    let (mut sum, mut sum_told) = (Cost::default(), Cost::default());
    costs.enumerate().map(move |(at, cost)| {
        sum += cost;
        let upto = if at == last { live } else { told(sum) };
        let part = upto - sum_told;
        sum_told = upto;
        part
    })
}
