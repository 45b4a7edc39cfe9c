//! Sampling by bytes: what user space and the probes must agree on.
//!
//! Points lie at random on the bytes that a thread allocates, one in 2^shift of them (a Poisson process), and a block is
//! taken if there is a point on it: one of S bytes with probability 1 - exp(-S / 2^shift), whatever else is taken. The
//! distance to the next point is exponential, wherever one begins to count, so a thread counts it down, and draws it
//! anew after each point and when the rate has changed.

/// [`crate::record::Head::flags`] of an allocation: the shift at which the block was taken lies from this bit up; 0 is
/// "all are".
pub const SHIFT_BIT: u32 = 3;

/// The largest shift that fits into the five bits: one byte in two thousand million.
pub const MAX_SHIFT: u32 = 31;

/// Quantiles of the unit exponential distribution, from those of 0 to those of 1 - 1/[`BINS`], with [`ONE`] for 1. What
/// lies beyond the last is that far, and as far again as another draw says: the distribution has no memory. Between two
/// of them it is taken to be even, which makes the mean distance longer by 1 / (12 * BINS), a fifty-thousandth.
pub const BINS: u32 = 1 << BIN_BITS;
const BIN_BITS: u32 = 12;
const FRACTION_BITS: u32 = 32 - BIN_BITS;

/// The binary point of a quantile.
const ONE_BITS: u32 = 32;
pub const ONE: u64 = 1 << ONE_BITS;

/// Four in a row beyond the last quantile come once in 2^48 draws.
const DRAWS: u32 = 4;

/// How many whole bytes lie before the next point, by the quantiles and by even 32-bit numbers.
#[inline(always)]
pub fn gap_bytes(
    shift: u32,
    quantile: impl Fn(u32) -> Option<u64>,
    mut random: impl FnMut() -> u32,
) -> Option<u64> {
    let mut gap = 0;
    for _ in 0..DRAWS {
        let word = random();
        let bin = word >> FRACTION_BITS;
        let low = quantile(bin)?;
        if bin < BINS - 1 {
            let width = quantile(bin + 1)?.wrapping_sub(low);
            let fraction = (word & ((1 << FRACTION_BITS) - 1)) as u64;
            gap += low + (width.wrapping_mul(fraction) >> FRACTION_BITS);
            break;
        }
        gap += low;
    }
    Some(gap >> (ONE_BITS - shift.min(MAX_SHIFT)))
}

/// What of a block there can be a point on. One of no bytes is a block too, and must be found now and then.
#[inline(always)]
pub fn extent_bytes(size_bytes: u64) -> u64 {
    if size_bytes == 0 { 1 } else { size_bytes }
}
