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
    record::{Alloc, Free, Kind, Realloc},
};

use crate::{
    emit::{Wake, count, emit, head, now_ns},
    thread::{self, IN_CALL, MAY_HAVE_LEFT, NOT_IN_CALL, Thread},
    user, walk,
};

/// The call begins: remembers its arguments and walks the stack, which at this moment is untouched.
#[inline(always)]
pub(crate) fn enter(ctx: &ProbeContext) -> Option<()> {
    let thread = thread::current()?;
    let regs = user::at_entry(ctx);
    if is_inside(thread, regs.sp) {
        return None;
    }
    if thread.in_call == IN_CALL && !Cookie(thread.cookie).is_enclosing() {
        // The frame of that call is gone, and no return was seen.
        count(Loss::StaleCalls);
    }
    // SAFETY: the context is the program's own.
    let cookie = Cookie(unsafe { bpf_get_attach_cookie(ctx.regs.cast()) });
    let arguments = user::Arguments::of(ctx);
    let size = match cookie.size() {
        0 => cookie.fixed_size_bytes() as u64,
        position => arguments.at(position),
    };
    thread.size_bytes = match cookie.count() {
        0 => size,
        // Overflow makes the call fail, and a failed call is not reported.
        position => size.wrapping_mul(arguments.at(position)),
    };
    thread.pointer = arguments.at(if cookie.out() == 0 { cookie.old() } else { cookie.out() });
    thread.cookie = cookie.0;
    thread.sp = regs.sp;
    thread.started_ns = if cookie.old() == 0 { 0 } else { now_ns() };
    thread.caller = 0;
    thread.stack = match regs.caller() {
        Some(caller) => {
            thread.caller = caller.ip;
            walk::stack(thread.process, caller)
        }
        None => 0,
    };
    thread.in_call = IN_CALL;
    Some(())
}

/// Whether something at stack pointer `sp` belongs to the call in progress: it is deeper, or was jumped to.
#[inline(always)]
fn is_inside(thread: &mut Thread, sp: u64) -> bool {
    if thread.in_call != IN_CALL || has_lost_its_frame(thread) {
        return false;
    }
    thread.is_inside_call(sp) || is_tail_call(sp)
}

/// Whether an enclosing call has ended without a return. All that happens deeper would seem to be inside of it for ever,
/// so its return address is looked at: that, or the kernel's trampoline, is there as long as the call goes on. Nothing is
/// lost, since such a call has handed out nothing.
#[inline(always)]
fn has_lost_its_frame(thread: &mut Thread) -> bool {
    if !Cookie(thread.cookie).is_enclosing() || is_tail_call(thread.sp) {
        return false;
    }
    let is_gone = user::word(thread.sp).is_none_or(|it| it != thread.caller);
    if is_gone {
        thread.in_call = NOT_IN_CALL;
    }
    is_gone
}

/// An exception is raised. Most leave the call in progress, whose frame then stays as it was until others write over it.
#[inline(always)]
pub(crate) fn raise(ctx: &ProbeContext) -> Option<()> {
    let thread = thread::current()?;
    if Cookie(thread.cookie).is_enclosing() && thread.is_inside_call(user::at_entry(ctx).sp) {
        thread.in_call = MAY_HAVE_LEFT;
    }
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
    // `ret` has popped the return address that `sp` pointed at.
    end(user::at_return(ctx).sp.wrapping_sub(8), user::result(ctx))
}

/// The call is at one of its exits: what was reserved on the stack has been given back if it is one.
#[inline(always)]
pub(crate) fn leave_at_exit(ctx: &ProbeContext) -> Option<()> {
    end(user::at_entry(ctx).sp, user::result_at_exit(ctx))
}

/// The call whose return address lies at `sp` ends.
#[inline(always)]
fn end(sp: u64, result: u64) -> Option<()> {
    let thread = thread::current()?;
    if thread.in_call == NOT_IN_CALL || sp != thread.sp {
        return None;
    }
    thread.in_call = NOT_IN_CALL;
    let cookie = Cookie(thread.cookie);
    if cookie.takes_back() {
        return None;
    }
    let mut address = result;
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
    let address = cookie.block(address);
    if cookie.old() != 0 {
        let old_address = cookie.block(thread.pointer);
        // NULL with a size is a failure, and the old block stays; NULL without one has freed it.
        if address == 0 && (size_bytes != 0 || old_address == 0) {
            return None;
        }
        let started_ns = thread.started_ns;
        let head = head(Kind::Realloc, thread.process, cookie.via(), 0);
        emit(&Realloc { head, old_address, address, size_bytes, stack, started_ns }, Wake::WhenFilling);
    } else if address != 0 {
        let head = head(Kind::Alloc, thread.process, cookie.via(), 0);
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
    let is_inside_enclosing = Cookie(thread.cookie).is_enclosing() && is_inside(thread, regs.sp);
    if is_inside_enclosing {
        return None;
    }
    if thread.is_inside_call(regs.sp) {
        if Cookie(thread.cookie).old() != 0 && thread.pointer == address {
            return None;
        }
    } else if cookie.is_enclosing() {
        // Until it returns, what happens belongs to it.
        thread.cookie = cookie.0;
        thread.sp = regs.sp;
        thread.caller = user::word(regs.sp).unwrap_or(0);
        thread.in_call = IN_CALL;
    }
    let (_, tid) = user::current_ids();
    let head = head(Kind::Free, thread.process, 0, tid as u8);
    emit(&Free { head, address: cookie.block(address) }, Wake::WhenFilling);
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
