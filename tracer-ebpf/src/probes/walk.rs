//! Walks the current thread's user stack: drives [`tracer_ebpf::unwind`] over the tables.
//!
//! A thread has a place that it shares with few others, where it finds what it remembers of its last walk
//! ([`tracer_ebpf::trail`]). Programs can be preempted, and another thread's probe can then run on the same CPU, so a walk
//! claims its place. The stack is copied once per walk and read from the copy; words outside of it are read one by one.

mod send;

use core::{ffi::c_void, hint::black_box};

use aya_ebpf::helpers::generated::bpf_loop;
use tracer_ebpf::{
    call::Frame,
    loss::Loss,
    mapping::{Mapped, TABLE_NONE, TABLE_PENDING},
    record::{self, RawStack, mix},
    trail::{self, Place, Trail, WINDOW_WORDS, Window},
    unwind::{BLOCK_SHIFT, CFA_FRAME, Regs, Rule, Stop, find_row, rule_of},
};

use self::send::{send, send_raw};
use crate::{
    emit::count,
    mapping,
    maps::{self, BLOCKS, CONFIG, RECENT, RECENT_ENTRIES, ROWS, RULES, SCRATCH, TABLES, word},
    sync,
    thread::Id,
    user::{self, UserRegs},
};

/// Places that are tried before a walk is refused.
const TRIES: u32 = 4;

/// Steps of a walk that are taken before the loop begins.
const DIRECT_STEPS: u32 = 8;

/// Bytes that are copied at a time, unless the last walk needed fewer.
const WINDOW_BYTES: u64 = WINDOW_WORDS as u64 * 8;

const PAGE_BYTES: u64 = 4096;

/// The state of one walk.
#[repr(C)]
pub(crate) struct Scratch {
    busy: u64,
    /// Whose last walk it was.
    tid: u32,
    pub(crate) process: u32,
    pub(crate) generation: u32,
    /// Why the kernel knows no code at `refused_at`, as the code of a [`Stop`]; 0: it was not asked in this walk.
    refusal: u32,
    refused_at: u64,
    window_start: u64,
    window_bytes: u64,
    /// Where the frame before was found; most callers lie in the same object. It and the next hold as
    /// long as process and generation do, over many walks.
    pub(crate) last: Mapped,
    /// Where the one before that was found: stacks alternate between a program and a library.
    pub(crate) other: Mapped,
    trail: Trail,
    record: RawStack,
}

/// Where a walk begins.
#[derive(Clone, Copy)]
pub(crate) enum From {
    /// At the interrupted instruction.
    Here(UserRegs),
    /// At the caller of the interrupted function, which has such a frame.
    Caller(UserRegs, Frame),
}

impl From {
    /// Where the return address lies, if it begins at the caller; else where the stack ends.
    #[inline(always)]
    pub(crate) fn sp(self) -> u64 {
        match self {
            Self::Here(regs) => regs.sp,
            Self::Caller(regs, frame) => regs.sp.wrapping_add(frame.bytes()),
        }
    }
}

/// The key of the current stack, which user space has been told or is told now; 0, and counted, if there is none.
#[inline(always)]
pub(crate) fn stack(thread: Id, from: From) -> u64 {
    let Some(config) = CONFIG.get(0) else { return 0 };
    for attempt in 0..TRIES {
        let slot = thread.tid.wrapping_add(attempt) & config.scratch_mask;
        let Some(scratch) = SCRATCH.get_ptr_mut(slot) else { break };
        // SAFETY: a map value; no other reference to this field exists.
        let busy = unsafe { &raw mut (*scratch).busy };
        if sync::claim(busy) {
            let key = walk(scratch, slot, thread, from);
            sync::release(busy);
            return key;
        }
    }
    count(Loss::ScratchBusy);
    0
}

/// A walk in a place that is claimed. The callbacks make references of their own: none may be held here
/// meanwhile, or the compiler would take what is in it for unchanged.
#[inline(always)]
fn walk(scratch: *mut Scratch, slot: u32, thread: Id, from: From) -> u64 {
    // SAFETY: the claim makes this the only reference.
    begin(unsafe { &mut *scratch }, thread, from);

    let mut slot = slot;
    let context: *mut c_void = (&raw mut slot).cast();
    // Most walks take a few steps, for which a call each is less than two.
    let mut outcome = GOES_ON;
    for _ in 0..DIRECT_STEPS {
        if outcome == GOES_ON {
            outcome = black_box(advance_walk(slot));
        }
    }
    if outcome != HAS_ENDED {
        // SAFETY: the callback has the signature that the helper wants, and `slot` outlives the call.
        unsafe { bpf_loop(trail::MAX_STEPS, advance as *mut c_void, context, 0) };
    }

    // SAFETY: as above; the callback's reference ended with the loop.
    let state = unsafe { &mut *scratch };
    if state.trail.stop() == Stop::Pending as u32 {
        return send_raw(state, slot);
    }
    let unsettled = state.trail.unsettled();
    if unsettled != 0 {
        // SAFETY: as above.
        unsafe { bpf_loop(unsettled, settle as *mut c_void, context, 0) };
    }
    // SAFETY: as above.
    send(unsafe { &mut *scratch }, slot)
}

#[inline(always)]
fn begin(scratch: &mut Scratch, Id { tid, process }: Id, from: From) {
    let generation = maps::process(process).map_or(0, |it| it.generation);
    if (scratch.process, scratch.generation) != (process, generation) {
        (scratch.process, scratch.generation) = (process, generation);
        (scratch.last.end, scratch.other.end) = (0, 0);
        scratch.trail.forget();
    }
    if scratch.tid != tid {
        scratch.tid = tid;
        scratch.trail.forget();
    }
    scratch.refusal = 0;
    let (From::Here(regs) | From::Caller(regs, _)) = from;
    move_window(scratch, regs.sp);
    // Address 0 is code of no process, so a stack that cannot be read has one frame that says so.
    let window = window(&scratch.record, scratch.window_start, scratch.window_bytes);
    let near = |address| window.as_ref().and_then(|it| it.word(address));
    let word = |address| near(address).or_else(|| user::word(address)).unwrap_or(0);
    let start = match from {
        From::Here(regs) => Regs { ip: regs.ip, sp: regs.sp, fp: regs.fp, exact: true },
        From::Caller(regs, frame) => Regs {
            ip: word(from.sp()),
            sp: from.sp().wrapping_add(8),
            fp: frame.fp_bytes().map_or(regs.fp, |it| word(regs.sp.wrapping_add(it))),
            exact: false,
        },
    };
    scratch.trail.begin(start);
}

/// Copies the stack from `address` on as far as the last walk went, or, without one, to the end of the page: the next one
/// need not be there, and a fault costs more than the whole walk.
#[inline(always)]
fn move_window(scratch: &mut Scratch, address: u64) {
    let known_bytes = scratch.trail.extent_bytes(address);
    let page_bytes = (PAGE_BYTES - (address & (PAGE_BYTES - 1))).min(WINDOW_BYTES);
    let bytes = if known_bytes == 0 { page_bytes } else { known_bytes.min(WINDOW_BYTES) };
    copy_window(scratch, address, bytes as u32);
}

/// Copies `bytes` of the stack; false if one of them is not there.
#[inline(always)]
fn copy_window(scratch: &mut Scratch, address: u64, bytes: u32) -> bool {
    scratch.window_start = address;
    let copied = user::copy(scratch.record.window.as_mut_ptr(), bytes, address);
    // A stack that is not aligned is read word by word.
    scratch.window_bytes = if copied && address & 7 == 0 { bytes as u64 & !7 } else { 0 };
    copied
}

/// What was copied.
#[inline(always)]
fn window(record: &RawStack, start: u64, bytes: u64) -> Option<Window<'_>> {
    Some(Window { words: record.window.first_chunk()?, start, bytes })
}

/// A little of a walk; the callback of `bpf_loop`. 1 ends the walk.
///
/// What it calls are global functions: the verifier follows each once for each program, whatever its callers know. It does not
/// know what they return, and the compiler must not either, or it leaves out checks that the verifier wants. Here is where
/// both are called, since on older kernels the stacks of all that call one another have 512 bytes together.
extern "C" fn advance(_index: u64, slot: *mut u32) -> i64 {
    // SAFETY: `slot` is the pointer that `walk` passed.
    let slot = unsafe { *slot };
    match black_box(advance_walk(slot)) {
        GOES_ON => 0,
        ASKS => (!ask_kernel(slot)).into(),
        _ => 1,
    }
}

/// What [`advance_walk`] returns.
const GOES_ON: u32 = 0;
const HAS_ENDED: u32 = 1;
/// It can go on once the kernel has been asked what is mapped where it stands.
const ASKS: u32 = 2;

/// Whether the walk can go on.
#[inline(always)]
fn ask_kernel(slot: u32) -> bool {
    let Some(scratch) = SCRATCH.get_ptr_mut(slot) else { return false };
    // SAFETY: as in `advance_walk`.
    let scratch = unsafe { &mut *scratch };
    let address = scratch.trail.regs().lookup();
    match mapping::resolve(scratch.process, scratch.generation, address, &mut scratch.last) {
        Ok(()) => true,
        Err(Stop::Pending) => false,
        Err(stop) => {
            (scratch.refusal, scratch.refused_at) = (stop as u32, address);
            true
        }
    }
}

#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn advance_walk(slot: u32) -> u32 {
    let Some(scratch) = SCRATCH.get_ptr_mut(slot) else { return HAS_ENDED };
    // SAFETY: `walk` holds the claim and does not touch the value while the loop runs.
    let scratch = unsafe { &mut *scratch };
    let next = scratch.trail.next_read();
    if next.wrapping_sub(scratch.window_start) >= scratch.window_bytes {
        move_window(scratch, next);
    }
    // The parts of `scratch` that the closures use, each by itself.
    let Scratch {
        process,
        generation,
        refusal,
        refused_at,
        window_start,
        window_bytes,
        last,
        other,
        trail,
        record,
        ..
    } = scratch;
    let Some(window) = window(record, *window_start, *window_bytes) else { return HAS_ENDED };
    let mut asks = false;
    let lookup = |regs: Regs| {
        let address = regs.lookup();
        let is_found = mapping::find((*process, *generation), (&mut *last, &mut *other), address);
        let (frame, rule) = if is_found {
            let offset = address.wrapping_add(last.file_delta);
            let frame = record::Frame::new(last.object, offset);
            (frame, if last.object == 0 { Ok(FRAMED) } else { rule(last.object, offset as u32) })
        } else if *refusal != 0 && *refused_at == address {
            (record::Frame::new(0, address), Err(mapping::stop(*refusal)))
        } else {
            asks = true;
            return Err(Stop::Pending);
        };
        if let Err(Stop::Pending) = rule {
            return Err(Stop::Pending);
        }
        Ok(Place { frame: frame.0, rule, code: last.start..last.end })
    };
    let word = |address| window.word(address).or_else(|| user::word(address));
    match trail.advance(lookup, word, &window) {
        true => GOES_ON,
        false if asks => ASKS,
        false => HAS_ENDED,
    }
}

/// Remembers one frame of the walk that has ended; the callback of `bpf_loop`.
extern "C" fn settle(_index: u64, slot: *mut u32) -> i64 {
    // SAFETY: as in `advance`.
    let Some(scratch) = SCRATCH.get_ptr_mut(unsafe { *slot }) else { return 1 };
    // SAFETY: as in `advance`.
    let scratch = unsafe { &mut *scratch };
    let process = scratch.process as u64;
    // An address says which code it is in one process only.
    scratch.trail.settle(|frame| if record::Frame(frame).object() == 0 { process } else { 0 });
    0
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
