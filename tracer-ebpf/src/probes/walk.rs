//! Walks the current thread's user stack: drives [`tracer_ebpf::unwind`] over the tables.
//!
//! Programs can be preempted, and another thread's probe can then run on the same CPU, so a walk
//! claims its place. The stack is copied once per walk and read from the copy; words outside of it are
//! read one by one.

use core::ffi::c_void;

use aya_ebpf::helpers::{bpf_get_smp_processor_id, generated::bpf_loop};
use tracer_ebpf::{
    loss::Loss,
    mapping::{Mapped, TABLE_NONE, TABLE_PENDING},
    record::{Frame, Kind, MAX_FRAMES, RAW_WINDOW_BYTES, RawStack, Stack, mix},
    unwind::{self, BLOCK_SHIFT, CFA_FRAME, Regs, Rule, Stop, find_row, frameless, rule_of},
};

use crate::{
    emit::{Wake, count, emit_words, head},
    mapping,
    maps::{self, BLOCKS, RECENT, RECENT_ENTRIES, ROWS, RULES, SCRATCH, SEEN, TABLES, word},
    sync, user,
};

/// Threads that can be preempted in the middle of a walk on one CPU; user space sizes the map by it.
pub(crate) const SLOTS_PER_CPU: u32 = tracer_ebpf::config::SCRATCH_PER_CPU;

/// Bytes that are copied at a time. Measured at 27 frames: one and two KiB cost the same, half a KiB 7 % more.
const WINDOW_BYTES: u64 = 2048;

const PAGE_BYTES: u64 = 4096;

const STACK_WORDS: usize = size_of::<Stack>() / 8;
const HEADER_WORDS: usize = STACK_WORDS - MAX_FRAMES;
const RAW_WORDS: usize = size_of::<RawStack>() / 8;

/// The state of one walk.
#[repr(C)]
pub(crate) struct Scratch {
    busy: u64,
    /// Frames that are left out, the innermost first.
    skipped: u32,
    pad: u32,
    ip: u64,
    sp: u64,
    fp: u64,
    exact: u32,
    stop: u32,
    hash: u64,
    window_base: u64,
    window_bytes: u64,
    pub(crate) process: u32,
    pub(crate) generation: u32,
    /// Where the frame before was found; most callers lie in the same object. It and the next hold as
    /// long as process and generation do, over many walks.
    pub(crate) last: Mapped,
    /// Where the one before that was found: stacks alternate between a program and a library.
    pub(crate) other: Mapped,
    record: RawStack,
}

/// The key of the current stack, which user space has been told or is told now; 0, and counted, if
/// there is none.
#[inline(always)]
pub(crate) fn stack(process: u32, from: Regs) -> u64 {
    walk_from(process, from, 0)
}

/// The same without the innermost frame.
#[inline(always)]
pub(crate) fn stack_of_caller(process: u32, from: Regs) -> u64 {
    walk_from(process, from, 1)
}

#[inline(always)]
fn walk_from(process: u32, from: Regs, skipped: u32) -> u64 {
    // SAFETY: no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    for attempt in 0..SLOTS_PER_CPU {
        let slot = cpu * SLOTS_PER_CPU + attempt;
        let Some(scratch) = SCRATCH.get_ptr_mut(slot) else { break };
        // SAFETY: a map value; no other reference to this field exists.
        let busy = unsafe { &raw mut (*scratch).busy };
        if sync::claim(busy) {
            let key = walk(scratch, slot, process, from, skipped);
            sync::release(busy);
            return key;
        }
    }
    count(Loss::ScratchBusy);
    0
}

/// A walk in a place that is claimed. The callback makes a reference of its own: none may be held here
/// meanwhile, or the compiler would take what is in it for unchanged.
#[inline(always)]
fn walk(scratch: *mut Scratch, slot: u32, process: u32, from: Regs, skipped: u32) -> u64 {
    // SAFETY: the claim makes this the only reference.
    begin(unsafe { &mut *scratch }, process, from, skipped);

    let mut slot = slot;
    // SAFETY: the callback has the signature that the helper wants, and `slot` outlives the call.
    unsafe { bpf_loop(MAX_FRAMES as u32 + 1, next_frame as *mut c_void, (&raw mut slot).cast(), 0) };

    // SAFETY: as above; the callback's reference ended with the loop.
    let scratch = unsafe { &mut *scratch };
    if scratch.stop == Stop::Pending as u32 { send_raw(scratch) } else { send(scratch) }
}

#[inline(always)]
fn begin(scratch: &mut Scratch, process: u32, from: Regs, skipped: u32) {
    scratch.skipped = skipped;
    (scratch.ip, scratch.sp, scratch.fp, scratch.exact) = (from.ip, from.sp, from.fp, from.exact as u32);
    scratch.stop = Stop::Truncated as u32;
    scratch.hash = 0;
    let generation = maps::process(process).map_or(0, |it| it.generation);
    if (scratch.process, scratch.generation) != (process, generation) {
        (scratch.process, scratch.generation) = (process, generation);
        (scratch.last.end, scratch.other.end) = (0, 0);
    }
    scratch.record.stack.count = 0;
    scratch.window_bytes = 0;
}

/// Copies the stack from the walk's present position on, but not beyond its page: the next one need not
/// be there, and a fault costs more than the whole walk.
#[inline(always)]
fn move_window(scratch: &mut Scratch) {
    let bytes = (PAGE_BYTES - (scratch.sp & (PAGE_BYTES - 1))).min(WINDOW_BYTES);
    copy_window(scratch, bytes as u32);
}

/// Copies `bytes` of the stack; false if one of them is not there.
#[inline(always)]
fn copy_window(scratch: &mut Scratch, bytes: u32) -> bool {
    scratch.window_base = scratch.sp;
    let copied = user::copy(scratch.record.window.as_mut_ptr(), bytes, scratch.sp);
    scratch.window_bytes = if copied { bytes as u64 } else { 0 };
    copied
}

/// One frame; the callback of `bpf_loop`, so that the verifier follows it once. 1 ends the walk.
extern "C" fn next_frame(_index: u64, slot: *mut u32) -> i64 {
    // SAFETY: `slot` is the pointer that `walk` passed.
    let Some(scratch) = SCRATCH.get_ptr_mut(unsafe { *slot }) else { return 1 };
    // SAFETY: `walk` holds the claim and does not touch the value while the loop runs.
    let scratch = unsafe { &mut *scratch };
    match caller(scratch) {
        Ok(()) => 0,
        Err(stop) => {
            scratch.stop = stop as u32;
            1
        }
    }
}

/// Notes the frame at the walk's position and moves to its caller.
#[inline(always)]
fn caller(scratch: &mut Scratch) -> Result<(), Stop> {
    let count = scratch.record.stack.count as usize;
    if count >= MAX_FRAMES {
        return Err(Stop::Truncated);
    }
    let regs = Regs { ip: scratch.ip, sp: scratch.sp, fp: scratch.fp, exact: scratch.exact != 0 };
    let address = regs.lookup();
    let found = mapping::find(scratch, address);
    let (frame, rule) = match found {
        Ok(()) => {
            let mapped = &scratch.last;
            let offset = address.wrapping_add(mapped.file_delta);
            let frame = Frame::new(mapped.object, offset);
            (frame, if mapped.object == 0 { Ok(FRAMED) } else { rule(mapped.object, offset as u32) })
        }
        Err(Stop::Pending) => return Err(Stop::Pending),
        Err(stop) => (Frame::new(0, address), Err(stop)),
    };
    if let Err(Stop::Pending) = rule {
        return Err(Stop::Pending);
    }
    if scratch.skipped > 0 {
        scratch.skipped -= 1;
    } else {
        scratch.record.stack.frames[count] = frame.0;
        scratch.record.stack.count = count as u32 + 1;
        // An address says which code it is in one process only.
        let owner = if frame.object() == 0 { scratch.process as u64 } else { 0 };
        scratch.hash = mix(scratch.hash, frame.0 ^ owner);
    }

    if regs.sp.wrapping_sub(scratch.window_base) >= scratch.window_bytes {
        move_window(scratch);
    }
    let (base, bytes) = (scratch.window_base, scratch.window_bytes);
    let code = scratch.last.start..scratch.last.end;
    let window = &scratch.record.window;
    let read = |address: u64| {
        let at = address.wrapping_sub(base);
        if at & 7 == 0 && at.wrapping_add(8) <= bytes && at < WINDOW_BYTES {
            window.get((at >> 3) as usize).copied()
        } else {
            user::word(address)
        }
    };
    let rule = rule?;
    let next = match frameless(regs, rule, code, read) {
        Some(next) => next,
        None => unwind::step(regs, rule, read)?,
    };
    (scratch.ip, scratch.sp, scratch.fp, scratch.exact) = (next.ip, next.sp, next.fp, next.exact as u32);
    Ok(())
}

/// The rule for `offset` of an object with a table. Programs allocate from the same few places again and
/// again, so most are found in [`RECENT`], without a search.
#[inline(always)]
fn rule(object: u32, offset: u32) -> Result<Rule, Stop> {
    const NUMBER_BITS: u32 = 16;
    let place = (object as u64) << 48 | (offset as u64) << NUMBER_BITS;
    let recent =
        RECENT.get_ptr_mut((mix(0, place) >> 32) as u32 & (RECENT_ENTRIES - 1)).ok_or(Stop::NoTable)?;
    // SAFETY: a map value; a word is written whole, so that whoever wrote it last, it says what it means.
    let known = unsafe { recent.read_volatile() };
    if known >> NUMBER_BITS == place >> NUMBER_BITS {
        return RULES.get(known as u32 & ((1 << NUMBER_BITS) - 1)).copied().ok_or(Stop::NoTable);
    }
    let number = search(object, offset)?;
    // SAFETY: as above.
    unsafe { recent.write_volatile(place | number as u64) };
    RULES.get(number).copied().ok_or(Stop::NoTable)
}

/// The number of the rule for `offset`, by the object's table.
#[inline(always)]
fn search(object: u32, offset: u32) -> Result<u32, Stop> {
    let table = TABLES.get(object).ok_or(Stop::NoTable)?;
    match table.state {
        TABLE_PENDING => return Err(Stop::Pending),
        TABLE_NONE => return Err(Stop::NoTable),
        _ => {}
    }
    let block = offset.wrapping_sub(table.start) >> BLOCK_SHIFT;
    if offset < table.start || block >= table.blocks {
        return Err(Stop::NoTable);
    }
    let at = table.first_block.wrapping_add(block);
    let low = word(&BLOCKS, at).ok_or(Stop::NoTable)?;
    let high = word(&BLOCKS, at.wrapping_add(1)).ok_or(Stop::NoTable)?;
    find_row(low, high, offset, |at| word(&ROWS, at)).map(rule_of).ok_or(Stop::NoTable)
}

/// For code without a file, made at run time: nothing describes it, but most such compilers can keep frame pointers.
const FRAMED: Rule = Rule { cfa_offset: 0, fp_offset: 0, addend: 0, cfa: CFA_FRAME, fp: 0 };

/// Tells user space of the stack unless it has it.
#[inline(always)]
fn send(scratch: &mut Scratch) -> u64 {
    let key = mix(scratch.hash, scratch.stop as u64) | 1;
    if SEEN.get_ptr(key).is_some() {
        return key;
    }
    let words = HEADER_WORDS + scratch.record.stack.count as usize;
    fill_header(scratch, Kind::Stack, key);
    if emit_words::<STACK_WORDS>(as_words(&scratch.record), words, Wake::WhenFilling) {
        // Only now: a stack that did not get through must be sent again.
        let _ = SEEN.insert(key, 1, 0);
    }
    key
}

/// Hands an unfinished walk to user space. Its key is used once, and is even where others are odd.
#[inline(always)]
fn send_raw(scratch: &mut Scratch) -> u64 {
    if !copy_window(scratch, RAW_WINDOW_BYTES as u32) && !copy_window(scratch, PAGE_BYTES as u32) {
        move_window(scratch);
    }
    let (_, tid) = user::current_ids();
    let key = mix(mix(scratch.hash, tid as u64), crate::emit::now_ns()) & !1;
    fill_header(scratch, Kind::RawStack, key);
    let record = &mut scratch.record;
    (record.ip, record.sp, record.fp) = (scratch.ip, scratch.sp, scratch.fp);
    (record.exact, record.window_bytes) = (scratch.exact, scratch.window_bytes as u32);
    (record.skipped, record.pad) = (scratch.skipped, 0);
    emit_words::<RAW_WORDS>(as_words(&scratch.record), RAW_WORDS, Wake::Now);
    key
}

#[inline(always)]
fn fill_header(scratch: &mut Scratch, kind: Kind, key: u64) {
    let stack = &mut scratch.record.stack;
    stack.head = head(kind, scratch.process, 0, 0);
    stack.id = key;
    stack.stop = scratch.stop;
}

/// The first words of a record, for the ring.
#[inline(always)]
fn as_words<const WORDS: usize>(record: &RawStack) -> &[u64; WORDS] {
    const { assert!(WORDS <= RAW_WORDS) };
    // SAFETY: `RawStack` is at least this long, consists of plain words and is aligned like one.
    unsafe { &*(&raw const *record).cast() }
}
