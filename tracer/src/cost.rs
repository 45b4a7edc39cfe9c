//! Signed amounts of memory, so that a difference is a subtraction.

use std::ops::{Add, AddAssign, Neg, Sub, SubAssign};

/// Bytes and blocks. Negative where it is the difference of two others.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cost {
    pub bytes: i64,
    pub blocks: i64,
}

impl Cost {
    /// One block of `bytes`. User addresses have 47 bits, so a size always fits.
    pub fn block(bytes: u64) -> Self {
        Self { bytes: bytes as i64, blocks: 1 }
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self { bytes: self.bytes + other.bytes, blocks: self.blocks + other.blocks }
    }
}

impl Sub for Cost {
    type Output = Self;

    fn sub(self, other: Self) -> Self {
        self + -other
    }
}

impl Neg for Cost {
    type Output = Self;

    fn neg(self) -> Self {
        Self { bytes: -self.bytes, blocks: -self.blocks }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, other: Self) {
        *self = *self + other;
    }
}

impl SubAssign for Cost {
    fn sub_assign(&mut self, other: Self) {
        *self = *self - other;
    }
}

impl std::iter::Sum for Cost {
    fn sum<I: Iterator<Item = Self>>(costs: I) -> Self {
        costs.fold(Self::default(), Add::add)
    }
}
