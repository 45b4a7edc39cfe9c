//! What user space is told of a walk: the frames it has found, or what is needed to finish it.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use tracer_ebpf::{
    record::{Kind, MAX_FRAMES, RAW_WINDOW_BYTES, RawStack, Stack, mix},
    trail::Trail,
    unwind::Stop,
};

use super::{PAGE_BYTES, Scratch, copy_window, move_window};
use crate::{
    emit::{Wake, emit_words, head, now_ns},
    maps::{SCRATCH, SEEN},
};

const STACK_WORDS: usize = size_of::<Stack>() / 8;
const HEADER_WORDS: usize = STACK_WORDS - MAX_FRAMES;
const RAW_WORDS: usize = size_of::<RawStack>() / 8;

/// Tells user space of the stack unless it has it.
#[inline(always)]
pub(super) fn send(scratch: &mut Scratch, slot: u32) -> u64 {
    let key = scratch.trail.key();
    let is_truncated = scratch.trail.stop() == Stop::Truncated as u32;
    if !scratch.trail.is_sent() || is_truncated {
        if SEEN.get_ptr(key).is_some() || send_stack(scratch, slot, key) {
            scratch.trail.set_sent();
        }
        // Where it was cut says nothing about the next one.
        if is_truncated {
            scratch.trail.forget();
        }
    }
    key
}

/// Whether it got through.
#[inline(always)]
fn send_stack(scratch: *mut Scratch, slot: u32, key: u64) -> bool {
    // SAFETY: the claim makes this the only reference.
    let state = unsafe { &mut *scratch };
    state.record.stack.count = state.trail.frames();
    fill_header(state, Kind::Stack, key);
    let words = HEADER_WORDS + state.record.stack.count as usize;
    collect(slot, collect_settled);
    // SAFETY: as above.
    if !emit_words::<STACK_WORDS>(as_words(unsafe { &(*scratch).record }), words, Wake::WhenFilling) {
        return false;
    }
    // Only now: a stack that did not get through must be sent again.
    let _ = SEEN.insert(key, 1, 0);
    true
}

/// Hands an unfinished walk to user space. Its key is used once, and is even where others are odd.
#[inline(always)]
pub(super) fn send_raw(scratch: *mut Scratch, slot: u32) -> u64 {
    // SAFETY: the claim makes this the only reference.
    let state = unsafe { &mut *scratch };
    let regs = state.trail.regs();
    state.trail.forget();
    if !copy_window(state, regs.sp, RAW_WINDOW_BYTES as u32)
        && !copy_window(state, regs.sp, PAGE_BYTES as u32)
    {
        move_window(state, regs.sp);
    }
    let key = mix(mix(regs.ip ^ regs.sp, state.tid as u64), now_ns()) & !1;
    state.record.stack.count = state.trail.fresh_frames();
    fill_header(state, Kind::RawStack, key);
    let record = &mut state.record;
    (record.ip, record.sp, record.fp) = (regs.ip, regs.sp, regs.fp);
    (record.exact, record.window_bytes) = (regs.exact as u32, state.window_bytes as u32);
    collect(slot, collect_fresh);
    // SAFETY: as above.
    emit_words::<RAW_WORDS>(as_words(unsafe { &(*scratch).record }), RAW_WORDS, Wake::Now);
    key
}

/// Writes the frames into the record.
#[inline(always)]
fn collect(slot: u32, one: extern "C" fn(u64, *mut u32) -> i64) {
    let mut slot = slot;
    // SAFETY: the callback has the signature that the helper wants, and `slot` outlives the call.
    unsafe { bpf_loop(MAX_FRAMES as u32, one as *mut c_void, (&raw mut slot).cast(), 0) };
}

extern "C" fn collect_settled(index: u64, slot: *mut u32) -> i64 {
    put(index, slot, Trail::frame)
}

extern "C" fn collect_fresh(index: u64, slot: *mut u32) -> i64 {
    put(index, slot, Trail::fresh_frame)
}

#[inline(always)]
fn put(index: u64, slot: *mut u32, frame: fn(&Trail, u32) -> u64) -> i64 {
    // SAFETY: as in `advance`.
    let Some(scratch) = SCRATCH.get_ptr_mut(unsafe { *slot }) else { return 1 };
    // SAFETY: as in `advance`.
    let scratch = unsafe { &mut *scratch };
    let stack = &mut scratch.record.stack;
    if index >= stack.count as u64 {
        return 1;
    }
    if let Some(it) = stack.frames.get_mut(index as usize) {
        *it = frame(&scratch.trail, index as u32);
    }
    0
}

#[inline(always)]
fn fill_header(scratch: &mut Scratch, kind: Kind, key: u64) {
    let stop = scratch.trail.stop();
    let stack = &mut scratch.record.stack;
    stack.head = head(kind, scratch.process, 0, 0);
    stack.id = key;
    stack.stop = stop;
}

/// The first words of a record, for the ring.
#[inline(always)]
fn as_words<const WORDS: usize>(record: &RawStack) -> &[u64; WORDS] {
    const { assert!(WORDS <= RAW_WORDS) };
    // SAFETY: `RawStack` is at least this long, consists of plain words and is aligned like one.
    unsafe { &*(&raw const *record).cast() }
}
