//! Calls of the functions that the user named: pools that carve what they hand out from memory of an allocator.
//!
//! They are a layer of their own above the allocators. Of nested calls the outermost counts, and what an allocator hands out
//! inside is marked as enclosed: the pool's blocks lie in it.

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
    emit::{Wake, count, emit, head, now_ns},
    sample, thread, user, walk,
};

/// A call of a pool's function in progress.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct PoolCall {
    /// One of the constants below.
    state: u32,
    pad: u32,
    /// Where its return address lies, and what it was.
    sp: u64,
    caller: u64,
    cookie: u64,
    size_bytes: u64,
    /// The block to resize, or the place for the result.
    pointer: u64,
    stack: u64,
    started_ns: u64,
    /// Of the record, as in [`thread::Thread::flags`].
    flags: u64,
}

const NONE: u32 = 0;
const IN_CALL: u32 = 1;
/// An exception was raised inside: the call goes on only if it catches that itself, and then its end is still seen.
const MAY_HAVE_LEFT: u32 = 2;

impl PoolCall {
    /// Whether something at stack pointer `sp` happens inside the call: it is deeper, or was jumped to.
    #[inline(always)]
    pub(crate) fn encloses(&mut self, sp: u64) -> bool {
        self.state == IN_CALL
            && !self.has_lost_its_frame()
            && (sp < self.sp || (sp == self.sp && is_trampoline(sp)))
    }

    /// Whether the call has ended without a return. All that happens deeper would seem to be inside of it for ever, so its
    /// return address is looked at: that, or the kernel's trampoline, is there as long as the call goes on. Nothing is
    /// lost, since such a call has handed out nothing.
    #[inline(always)]
    fn has_lost_its_frame(&mut self) -> bool {
        let is_gone = !is_trampoline(self.sp) && user::word(self.sp).is_none_or(|it| it != self.caller);
        if is_gone {
            self.state = NONE;
        }
        is_gone
    }
}

/// Whether the return address at `sp` is the kernel's trampoline, which lies in the last page of user memory
/// (`xol_add_vma`, kernel/events/uprobes.c).
#[inline(always)]
fn is_trampoline(sp: u64) -> bool {
    const LAST_PAGE: u64 = 0x7fff_ffff_e000;
    user::word(sp).is_some_and(|it| it & !0xfff == LAST_PAGE)
}

/// The call begins.
#[inline(always)]
pub(crate) fn enter(ctx: &ProbeContext) -> Option<()> {
    let thread = thread::current()?;
    let regs = user::at_entry(ctx);
    if thread.pool.encloses(regs.sp) {
        return None;
    }
    // SAFETY: the context is the program's own.
    let cookie = Cookie(unsafe { bpf_get_attach_cookie(ctx.regs.cast()) });
    let arguments = user::Arguments::of(ctx);
    let size = match cookie.size() {
        0 => cookie.fixed_size_bytes() as u64,
        position => arguments.at(position),
    };
    thread.pool.size_bytes = match cookie.count() {
        0 => size,
        position => user::product(size, arguments.at(position)),
    };
    thread.pool.pointer = arguments.at(if cookie.out() == 0 { cookie.old() } else { cookie.out() });
    thread.pool.cookie = cookie.0;
    thread.pool.sp = regs.sp;
    thread.pool.caller = user::word(regs.sp)?;
    thread.pool.started_ns = if cookie.old() == 0 { 0 } else { now_ns() };
    thread.pool.flags = sample::flags(thread, false, thread.pool.size_bytes);
    let is_passed = sample::is_passed(thread.pool.flags);
    let caller = walk::From::Caller(regs, Frame::default());
    thread.pool.stack = if is_passed { 0 } else { walk::stack(thread.id, caller) };
    thread.pool.state = IN_CALL;
    Some(())
}

/// The call has returned.
#[inline(always)]
pub(crate) fn leave(ctx: &RetProbeContext) -> Option<()> {
    // `ret` has popped the return address that `sp` pointed at.
    end(user::at_return(ctx).sp.wrapping_sub(8), user::result(ctx))
}

/// The call is at a `ret` of a function that gets no return probe.
#[inline(always)]
pub(crate) fn exit(ctx: &ProbeContext) -> Option<()> {
    end(user::at_entry(ctx).sp, user::result_at_exit(ctx))
}

/// The call whose return address lies at `sp` ends: reports what it hands out.
#[inline(always)]
fn end(sp: u64, result: u64) -> Option<()> {
    let thread = thread::current()?;
    if thread.pool.state == NONE || sp != thread.pool.sp {
        return None;
    }
    thread.pool.state = NONE;
    let cookie = Cookie(thread.pool.cookie);
    let is_passed = sample::is_passed(thread.pool.flags);
    if is_passed && (cookie.old() == 0 || thread.pool.pointer == 0) {
        return None;
    }
    let mut address = result;
    if cookie.out() != 0 {
        // Functions that return an `int` leave the upper half of the register as it was.
        if result as u32 != 0 {
            return None;
        }
        let Some(stored) = user::word(thread.pool.pointer) else {
            count(Loss::UnreadableResults);
            return None;
        };
        address = stored;
    }
    let (size_bytes, stack) = (thread.pool.size_bytes, thread.pool.stack);
    let old_address = if cookie.old() == 0 { 0 } else { cookie.block(thread.pool.pointer) };
    // NULL with a size is a failure, and the old block stays; NULL without one has freed it.
    if address == 0 && (size_bytes != 0 || old_address == 0) {
        return None;
    }
    let address = if is_passed { 0 } else { cookie.block(address) };
    let flags = thread.pool.flags as u8;
    if cookie.old() == 0 {
        let head = head(Kind::Alloc, thread.id.process, cookie.via(), flags);
        emit(&Alloc { head, address, size_bytes, stack }, Wake::WhenFilling);
    } else {
        let started_ns = thread.pool.started_ns;
        let head = head(Kind::Realloc, thread.id.process, cookie.via(), flags);
        emit(&Realloc { head, old_address, address, size_bytes, stack, started_ns }, Wake::WhenFilling);
    }
    Some(())
}

/// A block is being given back. Inside a call that resizes it, it is that call's business.
#[inline(always)]
pub(crate) fn free(ctx: &ProbeContext) -> Option<()> {
    // SAFETY: the context is the program's own.
    let cookie = Cookie(unsafe { bpf_get_attach_cookie(ctx.regs.cast()) });
    let address = user::Arguments::of(ctx).at(cookie.old());
    if address == 0 {
        return None;
    }
    let thread = thread::current()?;
    let is_inside = thread.pool.encloses(user::at_entry(ctx).sp);
    if is_inside && Cookie(thread.pool.cookie).old() != 0 && thread.pool.pointer == address {
        return None;
    }
    let head = head(Kind::Free, thread.id.process, 0, thread.id.tid as u8);
    emit(&Free { head, address: cookie.block(address) }, Wake::WhenFilling);
    Some(())
}

/// An exception is raised. Most leave the call in progress, whose frame then stays as it was until others write over it.
#[inline(always)]
pub(crate) fn raise(ctx: &ProbeContext) -> Option<()> {
    let thread = thread::current()?;
    if thread.pool.encloses(user::at_entry(ctx).sp) {
        thread.pool.state = MAY_HAVE_LEFT;
    }
    Some(())
}
