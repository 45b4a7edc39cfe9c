//! Which allocations are sampled, where not all are reported: decided before anything is done for one.

use aya_ebpf::helpers::bpf_get_prandom_u32;
use tracer_ebpf::{
    record::NESTED,
    sampling::{SHIFT_BIT, extent_bytes, gap_bytes},
};

use crate::{
    maps::{self, QUANTILES},
    thread::Thread,
};

/// How far a thread is from its next sample; see [`tracer_ebpf::sampling`].
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Sample {
    left_bytes: u64,
    /// The rate for which that was drawn.
    shift: u32,
    pad: u32,
}

/// In [`Thread::flags`]: the block is not sampled. What is below are the record's flags.
const PASSED: u64 = 1 << 8;

/// What the record of an allocation of `size_bytes` is to have in its flags, if there is to be one.
#[inline(always)]
pub(crate) fn flags(thread: &mut Thread, is_enclosed: bool, size_bytes: u64) -> u64 {
    if is_enclosed {
        return NESTED as u64;
    }
    match maps::process(thread.id.process) {
        Some(process) if process.sample_shift != 0 => choose(thread, process.sample_shift, size_bytes),
        _ => 0,
    }
}

/// Whether the allocation is not sampled, and needs no stack.
#[inline(always)]
pub(crate) fn is_passed(flags: u64) -> bool {
    flags & PASSED != 0
}

#[inline(always)]
fn choose(thread: &mut Thread, shift: u32, size_bytes: u64) -> u64 {
    let extent_bytes = extent_bytes(size_bytes);
    if thread.sample.shift != shift {
        draw(&mut thread.sample, shift);
    }
    if extent_bytes <= thread.sample.left_bytes {
        thread.sample.left_bytes -= extent_bytes;
        return PASSED;
    }
    draw(&mut thread.sample, shift);
    (shift << SHIFT_BIT) as u64
}

#[inline(always)]
fn draw(sample: &mut Sample, shift: u32) {
    let quantile = |at: u32| QUANTILES.get(at).copied();
    // SAFETY: no preconditions.
    let random = || unsafe { bpf_get_prandom_u32() };
    sample.shift = shift;
    sample.left_bytes = gap_bytes(shift, quantile, random).unwrap_or(0);
}
