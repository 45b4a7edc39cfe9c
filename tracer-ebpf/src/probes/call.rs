//! Calls into an allocator: pairs entry with return, and says what was asked for and what was given.
//!
//! Only the outermost call counts: malloc inside calloc, or mmap inside malloc, belongs to the outer
//! one. Inside means deeper on the stack.

use aya_ebpf::{
    helpers::bpf_get_attach_cookie,
    programs::{ProbeContext, RetProbeContext},
};
use tracer_ebpf::{
    call::{Cookie, Frame},
    loss::Loss,
    record::{Alloc, Free, Kind, Realloc},
};

use crate::{
    emit::{count, emit_call, head, now_ns},
    sample,
    thread::{self, IN_CALL, MAY_HAVE_LEFT, NOT_IN_CALL, Thread},
    user,
    walk::{self, From},
};

/// The call begins: remembers its arguments and walks the stack, which at this moment is untouched.
#[inline(always)]
pub(crate) fn enter(ctx: &ProbeContext) -> Option<()> {
    let thread = thread::current()?;
    let regs = user::at_entry(ctx);
    if is_inside(thread, regs.sp) {
        return None;
    }
    note_stale(thread);
    // SAFETY: the context is the program's own.
    let cookie = Cookie(unsafe { bpf_get_attach_cookie(ctx.regs.cast()) });
    let arguments = user::Arguments::of(ctx);
    let size = arguments.at(cookie.size());
    thread.size_bytes = match cookie.count() {
        0 => size,
        position => user::product(size, arguments.at(position)),
    };
    thread.pointer = arguments.at(if cookie.out() == 0 { cookie.old() } else { cookie.out() });
    remember(thread, cookie, From::Caller(regs, Frame::default()))
}

/// A call is in progress; what it asks for is in `thread` already.
#[inline(always)]
fn remember(thread: &mut Thread, cookie: Cookie, caller: From) -> Option<()> {
    let sp = caller.sp();
    thread.cookie = cookie.0;
    thread.sp = sp;
    thread.started_ns = if cookie.old() == 0 { 0 } else { now_ns() };
    let is_enclosed = thread.pool.encloses(sp);
    thread.flags = sample::flags(thread, is_enclosed, thread.size_bytes);
    if needs_frame(cookie) {
        thread.caller = user::word(sp).unwrap_or(0);
    }
    let has_no_stack = is_enclosed || sample::is_passed(thread.flags);
    thread.stack = if has_no_stack { 0 } else { walk::stack(thread.id, caller) };
    thread.in_call = IN_CALL;
    Some(())
}

/// Whether something at stack pointer `sp` belongs to the call in progress: it is deeper, or was jumped to.
#[inline(always)]
fn is_inside(thread: &mut Thread, sp: u64) -> bool {
    thread.in_call == IN_CALL
        && !has_lost_its_frame(thread)
        && (thread.is_inside_call(sp) || is_tail_call(sp))
}

/// Whether a call without a return probe has ended, or an enclosing one by a jump. All that happens deeper would seem to
/// be inside of it for ever, so its return address is looked at: that, or the kernel's trampoline, is there as long as the
/// call goes on. Nothing is lost, since such a call has handed out nothing.
#[inline(always)]
fn has_lost_its_frame(thread: &mut Thread) -> bool {
    if !needs_frame(Cookie(thread.cookie)) || is_tail_call(thread.sp) {
        return false;
    }
    let is_gone = user::word(thread.sp).is_none_or(|it| it != thread.caller);
    if is_gone {
        thread.in_call = NOT_IN_CALL;
    }
    is_gone
}

/// Whether a call may go on or end without a sign of it.
#[inline(always)]
fn needs_frame(cookie: Cookie) -> bool {
    cookie.may_throw() || cookie.is_enclosing()
}

/// Something begins that is not inside the call in progress: if there is one, its frame is gone, and no return was seen.
/// A call that may throw can do so without a trace, and one that jumps to the next leaves the report to that.
#[inline(always)]
fn note_stale(thread: &Thread) {
    if thread.in_call == IN_CALL && !Cookie(thread.cookie).may_throw() {
        count(Loss::StaleCalls);
    }
}

/// A C++ exception is made. Inside an allocating function that may throw this is how it ends; what is allocated from
/// here on, the exception first, is no part of it.
#[inline(always)]
pub(crate) fn throw(ctx: &ProbeContext) -> Option<()> {
    let thread = thread::current()?;
    if Cookie(thread.cookie).may_throw() && thread.is_inside_call(user::at_entry(ctx).sp) {
        thread.in_call = MAY_HAVE_LEFT;
    }
    Some(())
}

/// A call that allocates or frees, and does not tell what.
#[inline(always)]
pub(crate) fn unfollowed() -> Option<()> {
    thread::current()?;
    count(Loss::UnfollowedCalls);
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

/// The call has returned.
#[inline(always)]
pub(crate) fn leave(ctx: &RetProbeContext) -> Option<()> {
    // `ret` has popped the return address that `sp` pointed at.
    end(user::at_return(ctx).sp.wrapping_sub(8), user::result(ctx))
}

/// The call is at a `ret` of a function that gets no return probe: through the kernel's trampoline no exception finds
/// its handler.
#[inline(always)]
pub(crate) fn leave_at_exit(ctx: &ProbeContext) -> Option<()> {
    end(user::at_entry(ctx).sp, user::result_at_exit(ctx))
}

/// The call whose return address lies at `sp` ends: reports it, if it is the one that was remembered and if it succeeded.
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
    let is_passed = sample::is_passed(thread.flags);
    if is_passed && (cookie.old() == 0 || thread.pointer == 0) {
        return None;
    }
    let (size_bytes, stack) = (thread.size_bytes, thread.stack);
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
    if cookie.returns_size() {
        // The block is where it was; it may have become as large as it was to be, or not.
        if result < size_bytes {
            return None;
        }
        address = thread.pointer;
    }
    if cookie.old() != 0 {
        let old_address = thread.pointer;
        // NULL with a size is a failure, and the old block stays; NULL without one has freed it.
        if address == 0 && (size_bytes != 0 && !cookie.frees_on_failure() || old_address == 0) {
            return None;
        }
        if is_passed {
            // The block that it had is given up all the same.
            address = 0;
        }
        let started_ns = thread.started_ns;
        let head = head(Kind::Realloc, thread.id.process, cookie.via(), thread.flags as u8);
        emit_call(&Realloc { head, old_address, address, size_bytes, stack, started_ns }, head);
    } else if address != 0 {
        let head = head(Kind::Alloc, thread.id.process, cookie.via(), thread.flags as u8);
        emit_call(&Alloc { head, address, size_bytes, stack }, head);
    }
    Some(())
}

/// A call is at a place inside of its function behind which much may happen: from here on it is in progress. It may come here
/// twice.
#[inline(always)]
pub(crate) fn begin(ctx: &ProbeContext) -> Option<()> {
    let thread = thread::current()?;
    // SAFETY: the context is the program's own.
    let cookie = Cookie(unsafe { bpf_get_attach_cookie(ctx.regs.cast()) });
    let size_bytes = user::requested(ctx, cookie);
    let regs = user::at_entry(ctx);
    let sp = regs.sp.wrapping_add(cookie.frame().bytes());
    if is_begun(thread, sp) && thread.size_bytes == size_bytes || is_inside(thread, sp) {
        return None;
    }
    note_stale(thread);
    thread.size_bytes = size_bytes;
    thread.pointer = 0;
    remember(thread, cookie.begun(), From::Caller(regs, cookie.frame()))
}

/// Whether the call whose return address lies at `sp` was begun inside of its function.
#[inline(always)]
fn is_begun(thread: &Thread, sp: u64) -> bool {
    thread.in_call == IN_CALL && thread.sp == sp && Cookie(thread.cookie).is_begun()
}

/// A call is at a place inside of its function where the result is in rax, and stays there. If it has not been begun, this one
/// probe sees all of it: then the size is still in a register.
#[inline(always)]
pub(crate) fn whole(ctx: &ProbeContext) -> Option<()> {
    let thread = thread::current()?;
    // SAFETY: the context is the program's own.
    let cookie = Cookie(unsafe { bpf_get_attach_cookie(ctx.regs.cast()) });
    let address = user::result_at_exit(ctx);
    let regs = user::at_entry(ctx);
    let sp = regs.sp.wrapping_add(cookie.frame().bytes());
    let size_bytes = user::requested(ctx, cookie);
    if thread.in_call == IN_CALL {
        if is_begun(thread, sp) && (cookie.size() == 0 || thread.size_bytes == size_bytes) {
            return end(sp, address);
        }
        if is_inside(thread, sp) {
            return None;
        }
    }
    if address == 0 || cookie.size() == 0 {
        return None;
    }
    note_stale(thread);
    thread.in_call = NOT_IN_CALL;
    let is_enclosed = thread.pool.encloses(sp);
    let flags = sample::flags(thread, is_enclosed, size_bytes);
    if sample::is_passed(flags) {
        return None;
    }
    let stack = if is_enclosed { 0 } else { walk::stack(thread.id, From::Caller(regs, cookie.frame())) };
    let head = head(Kind::Alloc, thread.id.process, cookie.via(), flags as u8);
    emit_call(&Alloc { head, address, size_bytes, stack }, head);
    Some(())
}

/// A block is being freed. Inside a call that is about this block it is that call's business, and inside an enclosing one
/// all is.
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
    if thread.in_call == IN_CALL {
        let outer = Cookie(thread.cookie);
        if outer.is_enclosing() {
            if is_inside(thread, regs.sp) {
                return None;
            }
        } else if outer.old() != 0 && thread.pointer == address {
            // A free may lead to another by a jump.
            let is_tail_call = outer.takes_back() && is_tail_call(regs.sp);
            if thread.is_inside_call(regs.sp) || is_tail_call {
                return None;
            }
        }
    }
    if cookie.takes_back() && !thread.is_inside_call(regs.sp) {
        // Its return is seen, too.
        note_stale(thread);
        thread.cookie = cookie.0;
        thread.pointer = address;
        thread.sp = regs.sp;
        thread.caller = user::word(regs.sp).unwrap_or(0);
        thread.in_call = IN_CALL;
    }
    let head = head(Kind::Free, thread.id.process, 0, thread.id.tid as u8);
    emit_call(&Free { head, address }, head);
    // The first thread does not empty its cache (`__libc_start_call_main`, sysdeps/nptl/libc_start_call_main.h).
    if cookie.has_thread_cache() && thread.is_first == 0 {
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
