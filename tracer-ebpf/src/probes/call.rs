//! Calls into an allocator: pairs entry with return, and says what was asked for and what was given.
//!
//! Only the outermost call counts: malloc inside calloc, or mmap inside malloc, belongs to the outer
//! one. Inside means deeper on the stack.

use aya_ebpf::{
    helpers::bpf_get_attach_cookie,
    programs::{ProbeContext, RetProbeContext},
};
use tracer_ebpf::{
    call::Cookie,
    loss::Loss,
    record::{Alloc, Free, Kind, NESTED, Realloc},
};

use crate::{
    emit::{Wake, count, emit, head, now_ns},
    thread::{self, Thread},
    user, walk,
};

/// The call begins: remembers its arguments and walks the stack, which at this moment is untouched.
#[inline(always)]
pub(crate) fn enter(ctx: &ProbeContext) -> Option<()> {
    let thread = thread::current()?;
    let regs = user::at_entry(ctx);
    if thread.is_inside_call(regs.sp) || (thread.in_call == 1 && is_tail_call(regs.sp)) {
        return None;
    }
    if thread.in_call == 1 {
        // The frame of that call is gone, and no return was seen.
        count(Loss::StaleCalls);
    }
    // SAFETY: the context is the program's own.
    let cookie = Cookie(unsafe { bpf_get_attach_cookie(ctx.regs.cast()) });
    let arguments = user::Arguments::of(ctx);
    let size = arguments.at(cookie.size());
    thread.size_bytes = match cookie.count() {
        0 => size,
        // Overflow makes the call fail, and a failed call is not reported.
        position => size.wrapping_mul(arguments.at(position)),
    };
    thread.pointer = arguments.at(if cookie.out() == 0 { cookie.old() } else { cookie.out() });
    thread.cookie = cookie.0;
    thread.sp = regs.sp;
    thread.started_ns = if cookie.old() == 0 { 0 } else { now_ns() };
    let is_enclosed = thread.pool.encloses(regs.sp);
    thread.flags = if is_enclosed { NESTED as u64 } else { 0 };
    thread.stack = match regs.caller() {
        Some(caller) if !is_enclosed => walk::stack(thread.process, caller),
        _ => 0,
    };
    thread.in_call = 1;
    Some(())
}

/// Whether the probed function was jumped to by one that is being traced, as glibc's `realloc` does with
/// `malloc` when there is nothing to resize: the return address has then been replaced by the kernel's trampoline,
/// which lies in the last page of user memory (`xol_add_vma`, kernel/events/uprobes.c).
#[inline(always)]
fn is_tail_call(sp: u64) -> bool {
    const LAST_PAGE: u64 = 0x7fff_ffff_e000;
    user::word(sp).is_some_and(|it| it & !0xfff == LAST_PAGE)
}

/// The call has returned: reports it, if it is the one that was remembered and if it succeeded.
#[inline(always)]
pub(crate) fn leave(ctx: &RetProbeContext) -> Option<()> {
    let thread = thread::current()?;
    // `ret` has popped the return address that `sp` pointed at.
    if thread.in_call == 0 || user::at_return(ctx).sp != thread.sp.wrapping_add(8) {
        return None;
    }
    thread.in_call = 0;
    let cookie = Cookie(thread.cookie);
    let mut address = user::result(ctx);
    if cookie.out() != 0 {
        if address != 0 {
            return None;
        }
        let Some(stored) = user::word(thread.pointer) else {
            count(Loss::UnreadableResults);
            return None;
        };
        address = stored;
    }
    let (size_bytes, stack) = (thread.size_bytes, thread.stack);
    if cookie.old() != 0 {
        let old_address = thread.pointer;
        // NULL with a size is a failure, and the old block stays; NULL without one has freed it.
        if address == 0 && (size_bytes != 0 || old_address == 0) {
            return None;
        }
        let started_ns = thread.started_ns;
        let head = head(Kind::Realloc, thread.process, cookie.via(), thread.flags as u8);
        emit(&Realloc { head, old_address, address, size_bytes, stack, started_ns }, Wake::WhenFilling);
    } else if address != 0 {
        let head = head(Kind::Alloc, thread.process, cookie.via(), thread.flags as u8);
        emit(&Alloc { head, address, size_bytes, stack }, Wake::WhenFilling);
    }
    Some(())
}

/// A block is being freed. Inside `realloc`, the block being resized is `realloc`'s business.
#[inline(always)]
pub(crate) fn free(ctx: &ProbeContext) -> Option<()> {
    // SAFETY: the context is the program's own.
    let cookie = Cookie(unsafe { bpf_get_attach_cookie(ctx.regs.cast()) });
    let address = user::Arguments::of(ctx).at(cookie.old());
    if address == 0 {
        return None;
    }
    let thread = thread::current()?;
    let regs = user::at_entry(ctx);
    if thread.is_inside_call(regs.sp) && Cookie(thread.cookie).old() != 0 && thread.pointer == address {
        return None;
    }
    let (_, tid) = user::current_ids();
    let head = head(Kind::Free, thread.process, 0, tid as u8);
    emit(&Free { head, address }, Wake::WhenFilling);
    if cookie.has_thread_cache() {
        note_place(thread, regs.sp, head.time_ns);
    }
    Some(())
}

/// A cache is emptied by one function of the allocator, so all those frees return to places close together,
/// and no other free comes after them.
#[inline(always)]
fn note_place(thread: &mut Thread, sp: u64, now_ns: u64) {
    /// `__malloc_arena_thread_freeres` has 302 bytes in Debian's glibc 2.36.
    const FUNCTION_BYTES: u64 = 512;
    let from = user::word(sp).unwrap_or(0);
    let distance = from.wrapping_sub(thread.frees_from);
    if distance.wrapping_add(FUNCTION_BYTES) > 2 * FUNCTION_BYTES {
        thread.frees_since_ns = now_ns;
    }
    thread.frees_from = from;
}
