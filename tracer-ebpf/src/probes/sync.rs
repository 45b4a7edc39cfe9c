//! Atomic operations on map values, as safe functions.

use core::intrinsics::{AtomicOrdering::SeqCst, atomic_cxchg, atomic_xadd, atomic_xchg};

/// Adds to `*value` and returns what it was.
///
/// `value` must come from a map look-up: the verifier refuses the program otherwise.
#[inline(always)]
pub(crate) fn fetch_add(value: *mut u32, by: u32) -> u32 {
    // SAFETY: a map value is valid and aligned for as long as the program runs.
    unsafe { atomic_xadd::<u32, u32, { SeqCst }>(value, by) }
}

/// Sets `*value` to 1 and says whether it was 0 before.
#[inline(always)]
pub(crate) fn claim(value: *mut u64) -> bool {
    // SAFETY: as in `fetch_add`.
    unsafe { atomic_cxchg::<u64, { SeqCst }, { SeqCst }>(value, 0, 1).1 }
}

/// Sets `*value` to `owner` if it is 0, and says whether it was.
#[inline(always)]
pub(crate) fn claim_for(value: *mut u32, owner: u32) -> bool {
    // SAFETY: as in `fetch_add`.
    unsafe { atomic_cxchg::<u32, { SeqCst }, { SeqCst }>(value, 0, owner).1 }
}

/// Sets `*value` to 0.
#[inline(always)]
pub(crate) fn free(value: *mut u32) {
    // SAFETY: as in `fetch_add`.
    unsafe { atomic_xchg::<u32, { SeqCst }>(value, 0) };
}

/// Sets `*value` to 0. What was written before is seen before: stores are in order on x86, which is all that this is for.
#[inline(always)]
pub(crate) fn release(value: *mut u64) {
    // SAFETY: as in `fetch_add`.
    unsafe { value.write_volatile(0) };
}
