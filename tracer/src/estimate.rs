//! What a sampled block stands for.
//!
//! At a rate of R bytes a block of S bytes is taken with probability p = 1 - exp(-S/R), whatever else is taken (see
//! [`tracer_ebpf::sampling`]). Counted S/p bytes and 1/p blocks it makes every sum right on average, and the variance of
//! such a sum is estimated by that of S²(1-p)/p² over the blocks that were taken (Horvitz and Thompson, "A generalization of
//! sampling without replacement from a finite universe", 1952).

use tracer_ebpf::sampling::{MAX_SHIFT, SHIFT_BIT, extent_bytes};

/// How closely allocations are looked at: of so many bytes one is sampled, a power of two; or all are reported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Rate(u8);

impl Rate {
    pub const EXACT: Self = Self(0);

    /// One byte in 2^`shift`, as the kernel half has it; 0 is exact.
    pub const fn of_shift(shift: u32) -> Self {
        Self(if shift < MAX_SHIFT { shift } else { MAX_SHIFT } as u8)
    }

    /// As the flags of a record say.
    pub fn of_flags(flags: u8) -> Self {
        Self(flags >> SHIFT_BIT)
    }

    pub fn shift(self) -> u32 {
        self.0.into()
    }

    pub fn is_exact(self) -> bool {
        self == Self::EXACT
    }

    /// Of so many bytes one is sampled; 1 if all are.
    pub fn bytes(self) -> i64 {
        1 << self.0
    }

    /// Of a block that was taken at a rate that is not exact.
    pub fn weight(self, size_bytes: u64) -> Weight {
        let taken = -(-(extent_bytes(size_bytes) as f64) / self.bytes() as f64).exp_m1();
        let (size, times) = (size_bytes as f64, 1.0 / taken);
        let doubt = (1.0 - taken) * times * times;
        Weight {
            bytes: size * times,
            blocks: times,
            bytes_variance: size * size * doubt,
            blocks_variance: doubt,
        }
    }
}

/// What a sampled block adds to estimates, and to the variance of their errors.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Weight {
    pub bytes: f64,
    pub blocks: f64,
    pub bytes_variance: f64,
    pub blocks_variance: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_much_smaller_than_the_rate_stands_for_the_rate() {
        let weight = Rate::of_shift(20).weight(16);
        assert!((weight.bytes - f64::from(1 << 20)).abs() < 10.0, "{weight:?}");
        assert!((weight.blocks - f64::from(1 << 16)).abs() < 1.0, "{weight:?}");
        assert!((weight.bytes_variance.sqrt() / weight.bytes - 1.0).abs() < 1e-4, "{weight:?}");
    }

    #[test]
    fn a_block_much_larger_than_the_rate_stands_for_itself() {
        let weight = Rate::of_shift(12).weight(1 << 20);
        assert_eq!((weight.bytes, weight.blocks, weight.bytes_variance), (f64::from(1 << 20), 1.0, 0.0));
    }

    #[test]
    fn a_block_of_no_bytes_is_a_block() {
        let weight = Rate::of_shift(12).weight(0);
        assert_eq!((weight.bytes, weight.bytes_variance), (0.0, 0.0));
        assert!((weight.blocks - 4096.5).abs() < 0.1, "{weight:?}");
    }
}
