//! mmap, munmap, mremap and brk, from the system call tracepoints.
//!
//! A call made inside an allocator is the allocator's own growth and is marked so. Only anonymous
//! mappings are memory of the process; file mappings matter for what they cover and for the code in them.

use aya_ebpf::programs::TracePointContext;
use tracer_ebpf::{
    call::Via,
    loss::Loss,
    mapping::Mapped,
    record::{Break, Discard, Kind, Map, NESTED, Remap, Unmap},
};

use crate::{
    emit::{Wake, count, emit, head, now_ns},
    mapping, maps,
    thread::{self, Syscall, Thread},
    user::{self, syscall_word},
    walk,
};

/// include/uapi/asm-generic/mman-common.h and mman.h.
const PROT_EXEC: u64 = 4;
const MAP_FIXED: u64 = 0x10;
const MAP_ANONYMOUS: u64 = 0x20;

/// The kernel returns errors as values from -4095 on.
const FIRST_ERROR: u64 = -4095i64 as u64;

const ON_EXIT_NOTHING: u32 = 0;
const ON_EXIT_MAP: u32 = 1;
/// A file mapping was laid over a range.
const ON_EXIT_COVER: u32 = 2;
const ON_EXIT_UNMAP: u32 = 3;
const ON_EXIT_REMAP: u32 = 4;
const ON_EXIT_BREAK: u32 = 5;

/// A file mapping whose code user space wants to know early.
const ON_EXIT_CODE: u32 = 6;
const ON_EXIT_COVER_CODE: u32 = 7;

const PAGE_BYTES: u64 = 4096;

/// Starts a system call of a traced thread: nested or not, with its stack if it is not.
#[inline(always)]
fn begin(thread: &mut Thread, with_stack: bool) {
    let regs = user::current_regs();
    let nested = thread.is_inside_call(regs.sp) || thread.pool.encloses(regs.sp);
    thread.syscall = Syscall { flags: if nested { NESTED as u32 } else { 0 }, ..Syscall::default() };
    if with_stack && !nested {
        thread.syscall.stack = walk::stack(thread.id, walk::From::Here(regs));
    }
}

/// Ends it: what was begun, if it succeeded.
#[inline(always)]
fn end(ctx: &TracePointContext, thread: &mut Thread) -> Option<(Syscall, u64)> {
    let call = thread.syscall;
    thread.syscall.on_exit = ON_EXIT_NOTHING;
    let result = syscall_word::<0>(ctx);
    (call.on_exit != ON_EXIT_NOTHING && result < FIRST_ERROR).then_some((call, result))
}

#[inline(always)]
pub(crate) fn enter_mmap(ctx: &TracePointContext) -> Option<()> {
    let thread = thread::current()?;
    let (size_bytes, protection, flags) =
        (syscall_word::<1>(ctx), syscall_word::<2>(ctx), syscall_word::<3>(ctx));
    let anonymous = flags & MAP_ANONYMOUS != 0;
    begin(thread, anonymous);
    let fixed = flags & MAP_FIXED != 0;
    thread.syscall.on_exit = match (anonymous, fixed, protection & PROT_EXEC != 0) {
        (true, ..) => ON_EXIT_MAP,
        (false, true, true) => ON_EXIT_COVER_CODE,
        (false, true, false) => ON_EXIT_COVER,
        (false, false, true) => ON_EXIT_CODE,
        (false, false, false) => ON_EXIT_NOTHING,
    };
    thread.syscall.size_bytes = pages(size_bytes);
    Some(())
}

#[inline(always)]
pub(crate) fn exit_mmap(ctx: &TracePointContext) -> Option<()> {
    let thread = thread::current()?;
    let (call, address) = end(ctx, thread)?;
    let (size_bytes, flags) = (call.size_bytes, call.flags as u8);
    match call.on_exit {
        ON_EXIT_MAP => {
            let head = head(Kind::Map, thread.id.process, Via::Mmap.code(), flags);
            emit(&Map { head, address, size_bytes, stack: call.stack }, Wake::WhenFilling);
        }
        ON_EXIT_COVER | ON_EXIT_COVER_CODE => {
            let head = head(Kind::Unmap, thread.id.process, 0, flags);
            emit(&Unmap { head, address, size_bytes }, Wake::WhenFilling);
        }
        _ => {}
    }
    if call.on_exit == ON_EXIT_COVER_CODE || call.on_exit == ON_EXIT_CODE {
        // Other code may have been there before.
        forget_pages(thread.id.process);
        let generation = maps::process(thread.id.process)?.generation;
        let _ = mapping::resolve(thread.id.process, generation, address, &mut Mapped::default());
    }
    Some(())
}

#[inline(always)]
pub(crate) fn enter_munmap(ctx: &TracePointContext) -> Option<()> {
    let thread = thread::current()?;
    let (address, size_bytes) = (syscall_word::<0>(ctx), pages(syscall_word::<1>(ctx)));
    // What the kernel refuses at once.
    if address % PAGE_BYTES != 0 || size_bytes == 0 {
        return None;
    }
    begin(thread, false);
    thread.syscall.on_exit = ON_EXIT_UNMAP;
    // If the kernel cannot be asked just now, that can wait until code is mapped in its place.
    if mapping::vma_at(address).is_ok_and(|it| it.may_hold_code()) {
        forget_pages(thread.id.process);
    }
    let head = head(Kind::Unmap, thread.id.process, 0, thread.syscall.flags as u8);
    emit(&Unmap { head, address, size_bytes }, Wake::WhenFilling);
    Some(())
}

#[inline(always)]
pub(crate) fn exit_munmap(ctx: &TracePointContext) -> Option<()> {
    let thread = thread::current()?;
    if thread.syscall.on_exit == ON_EXIT_UNMAP && end(ctx, thread).is_none() {
        count(Loss::FailedUnmaps);
    }
    Some(())
}

#[inline(always)]
pub(crate) fn enter_mremap(ctx: &TracePointContext) -> Option<()> {
    let thread = thread::current()?;
    begin(thread, true);
    thread.syscall.on_exit = ON_EXIT_REMAP;
    thread.syscall.address = syscall_word::<0>(ctx);
    thread.syscall.size_bytes = pages(syscall_word::<1>(ctx));
    thread.syscall.new_size_bytes = pages(syscall_word::<2>(ctx));
    thread.syscall.started_ns = now_ns();
    Some(())
}

#[inline(always)]
pub(crate) fn exit_mremap(ctx: &TracePointContext) -> Option<()> {
    let thread = thread::current()?;
    let (call, address) = end(ctx, thread)?;
    let record = Remap {
        head: head(Kind::Remap, thread.id.process, Via::Mremap.code(), call.flags as u8),
        old_address: call.address,
        old_size_bytes: call.size_bytes,
        address,
        size_bytes: call.new_size_bytes,
        stack: call.stack,
        started_ns: call.started_ns,
    };
    emit(&record, Wake::WhenFilling);
    Some(())
}

#[inline(always)]
pub(crate) fn enter_brk(ctx: &TracePointContext) -> Option<()> {
    let thread = thread::current()?;
    // brk(0) asks where the heap segment ends.
    begin(thread, syscall_word::<0>(ctx) != 0);
    thread.syscall.on_exit = ON_EXIT_BREAK;
    Some(())
}

#[inline(always)]
pub(crate) fn exit_brk(ctx: &TracePointContext) -> Option<()> {
    let thread = thread::current()?;
    let (call, end) = end(ctx, thread)?;
    let head = head(Kind::Break, thread.id.process, Via::Brk.code(), call.flags as u8);
    emit(&Break { head, end, stack: call.stack }, Wake::WhenFilling);
    Some(())
}

/// `MADV_DONTNEED`, `MADV_PAGEOUT` and `MADV_DONTNEED_LOCKED`. Pages under `MADV_FREE` stay resident until the kernel
/// is short of memory, and are then not announced.
const GIVES_BACK: [u64; 3] = [4, 21, 24];

#[inline(always)]
pub(crate) fn enter_madvise(ctx: &TracePointContext) -> Option<()> {
    let (address, size_bytes, advice) =
        (syscall_word::<0>(ctx), pages(syscall_word::<1>(ctx)), syscall_word::<2>(ctx));
    if !GIVES_BACK.contains(&advice) || address % PAGE_BYTES != 0 || size_bytes == 0 {
        return None;
    }
    let thread = thread::current()?;
    let head = head(Kind::Discard, thread.id.process, 0, 0);
    emit(&Discard { head, address, size_bytes }, Wake::WhenFilling);
    Some(())
}

/// The kernel maps whole pages.
#[inline(always)]
fn pages(size_bytes: u64) -> u64 {
    size_bytes.wrapping_add(PAGE_BYTES - 1) & !(PAGE_BYTES - 1)
}

/// What was remembered of the process's mappings may be wrong from now on.
#[inline(always)]
fn forget_pages(process: u32) {
    if let Some(process) = maps::process_mut(process) {
        // SAFETY: a map value; the field is only ever changed atomically.
        crate::sync::fetch_add(unsafe { &raw mut (*process).generation }, 1);
    }
}
