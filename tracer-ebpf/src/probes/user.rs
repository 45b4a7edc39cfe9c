//! The fence: all reads of user memory, kernel memory and registers, as safe functions.

use aya_ebpf::{
    EbpfContext as _,
    bindings::{pt_regs, task_struct},
    helpers::{
        bpf_get_current_pid_tgid, bpf_get_current_task, bpf_get_current_task_btf, bpf_probe_read_kernel,
        bpf_probe_read_user, bpf_task_pt_regs,
        generated::{bpf_probe_read_kernel_str as raw_read_kernel_str, bpf_probe_read_user as raw_read_user},
    },
    programs::{ProbeContext, RawTracePointContext, RetProbeContext, TracePointContext},
};
use tracer_ebpf::call::{Cookie, FIRST_SAVED, Frame};

/// The user registers that the probes look at.
#[derive(Clone, Copy)]
pub(crate) struct UserRegs {
    pub(crate) ip: u64,
    pub(crate) sp: u64,
    pub(crate) fp: u64,
}

impl UserRegs {
    /// The frame pointer of the caller of a function that has such a frame.
    #[inline(always)]
    pub(crate) fn fp_of_caller(self, frame: Frame) -> Option<u64> {
        match frame.fp_bytes() {
            Some(distance) => word(self.sp.wrapping_add(distance)),
            None => Some(self.fp),
        }
    }
}

/// The context of an entry or a return probe is the interrupted thread's registers.
#[inline(always)]
fn of_pt_regs(regs: *const pt_regs) -> UserRegs {
    // SAFETY: the pointer is the program's context or comes from `bpf_task_pt_regs`; both are readable
    // at the constant offsets of these fields.
    unsafe { UserRegs { ip: (*regs).rip, sp: (*regs).rsp, fp: (*regs).rbp } }
}

#[inline(always)]
pub(crate) fn at_entry(ctx: &ProbeContext) -> UserRegs {
    of_pt_regs(ctx.regs)
}

#[inline(always)]
pub(crate) fn at_return(ctx: &RetProbeContext) -> UserRegs {
    of_pt_regs(ctx.regs)
}

/// The value that the probed function returned.
#[inline(always)]
pub(crate) fn result(ctx: &RetProbeContext) -> u64 {
    ctx.ret()
}

/// The value that a function is about to return, at its `ret`.
#[inline(always)]
pub(crate) fn result_at_exit(ctx: &ProbeContext) -> u64 {
    // SAFETY: the context of a uprobe is a `pt_regs`.
    unsafe { (*ctx.regs).rax }
}

/// The first six arguments of a function, by the System V calling convention.
#[derive(Clone, Copy)]
pub(crate) struct Arguments([u64; 6]);

impl Arguments {
    #[inline(always)]
    pub(crate) fn of(ctx: &ProbeContext) -> Self {
        // Volatile: the compiler would otherwise compute one of six addresses, and the verifier allows
        // only constant ones in a context.
        //
        // SAFETY: the context of a uprobe is a `pt_regs`.
        let read = |field: *const u64| unsafe { field.read_volatile() };
        // SAFETY: as above; no reference is made.
        let regs = unsafe {
            [
                &raw const (*ctx.regs).rdi,
                &raw const (*ctx.regs).rsi,
                &raw const (*ctx.regs).rdx,
                &raw const (*ctx.regs).rcx,
                &raw const (*ctx.regs).r8,
                &raw const (*ctx.regs).r9,
            ]
        };
        Self(regs.map(read))
    }

    /// The argument at `position`, counted from 1; 0 for "none".
    #[inline(always)]
    pub(crate) fn at(self, position: u8) -> u64 {
        let [first, second, third, fourth, fifth, sixth] = self.0;
        match position {
            1 => first,
            2 => second,
            3 => third,
            4 => fourth,
            5 => fifth,
            6 => sixth,
            _ => 0,
        }
    }
}

/// The registers that a function keeps for its caller: where it keeps its own arguments across calls.
#[derive(Clone, Copy)]
pub(crate) struct Saved([u64; 6]);

impl Saved {
    #[inline(always)]
    pub(crate) fn of(ctx: &ProbeContext) -> Self {
        // SAFETY: as in `Arguments::of`.
        let read = |field: *const u64| unsafe { field.read_volatile() };
        // SAFETY: as above.
        let regs = unsafe {
            [
                &raw const (*ctx.regs).rbx,
                &raw const (*ctx.regs).rbp,
                &raw const (*ctx.regs).r12,
                &raw const (*ctx.regs).r13,
                &raw const (*ctx.regs).r14,
                &raw const (*ctx.regs).r15,
            ]
        };
        Self(regs.map(read))
    }

    /// What is kept at `position`, counted from [`FIRST_SAVED`]; 0 for any other.
    #[inline(always)]
    pub(crate) fn at(self, position: u8) -> u64 {
        Arguments(self.0).at(position.wrapping_sub(FIRST_SAVED - 1))
    }
}

/// What a call asks for, at a place inside of the function; nothing if its cookie does not say where that is.
#[inline(always)]
pub(crate) fn requested(ctx: &ProbeContext, cookie: Cookie) -> u64 {
    let (saved, arguments) = (Saved::of(ctx), Arguments::of(ctx));
    let at = |position: u8| if position < FIRST_SAVED { arguments.at(position) } else { saved.at(position) };
    match cookie.count() {
        0 => at(cookie.size()),
        position => product(at(cookie.size()), at(position)),
    }
}

/// `size` times `count`, or more than there can be: then the call fails, and a failed call is not reported. By halves:
/// the target has no multiplication that tells whether it overflows.
#[inline(always)]
pub(crate) fn product(size: u64, count: u64) -> u64 {
    const HALF: u64 = u32::MAX as u64;
    let (large, small) = if size > HALF { (size, count) } else { (count, size) };
    let upper = (large >> 32)
        .wrapping_mul(small & HALF)
        .wrapping_add((large & HALF).wrapping_mul(small & HALF) >> 32);
    if small > HALF || upper > HALF { u64::MAX } else { size.wrapping_mul(count) }
}

/// The current thread's user registers, from inside a system call or an exec.
#[inline(always)]
pub(crate) fn current_regs() -> UserRegs {
    // SAFETY: the helpers have no preconditions; every user thread has saved registers.
    of_pt_regs(unsafe { bpf_task_pt_regs(bpf_get_current_task_btf()) } as *const pt_regs)
}

/// The current thread as the kernel knows it, for helpers that want it with its type.
#[inline(always)]
pub(crate) fn current_task_typed() -> *mut task_struct {
    // SAFETY: no preconditions.
    unsafe { bpf_get_current_task_btf() }
}

/// The first argument of a raw tracepoint.
#[inline(always)]
pub(crate) fn first_argument(ctx: &RawTracePointContext) -> u64 {
    // SAFETY: every tracepoint that this is used for has two arguments at least.
    unsafe { ctx.as_ptr().cast::<u64>().read() }
}

/// The second argument of a raw tracepoint.
#[inline(always)]
pub(crate) fn second_argument(ctx: &RawTracePointContext) -> u64 {
    // SAFETY: as above.
    unsafe { ctx.as_ptr().cast::<u64>().add(1).read() }
}

/// The address of the current thread's `task_struct`.
#[inline(always)]
pub(crate) fn current_task() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bpf_get_current_task() }
}

/// (tgid, tid) of the current thread, in the initial pid namespace.
#[inline(always)]
pub(crate) fn current_ids() -> (u32, u32) {
    let both = bpf_get_current_pid_tgid();
    ((both >> 32) as u32, both as u32)
}

/// A word of user memory, unless it is not there.
#[inline(always)]
pub(crate) fn word(address: u64) -> Option<u64> {
    // SAFETY: the helper checks the address and fails on a bad one.
    unsafe { bpf_probe_read_user(address as *const u64) }.ok()
}

/// Copies `bytes` of user memory to `to`; false if any of it is not there.
#[inline(always)]
pub(crate) fn copy(to: *mut u64, bytes: u32, address: u64) -> bool {
    // SAFETY: the helper checks the address; the verifier checks that `bytes` fit behind `to`.
    unsafe { raw_read_user(to.cast(), bytes, address as *const _) == 0 }
}

/// A field of a kernel structure: 0 if it cannot be read.
#[inline(always)]
pub(crate) fn kernel<T: Copy + Default>(base: u64, offset: u32) -> T {
    // SAFETY: the helper checks the address and fails on a bad one.
    unsafe { bpf_probe_read_kernel((base + offset as u64) as *const T) }.unwrap_or_default()
}

/// Copies `bytes` of user memory, `LIMIT` at most, to `to`. Returns how many there are.
#[inline(always)]
pub(crate) fn copy_bytes<const LIMIT: usize>(to: *mut [u8; LIMIT], bytes: u64, address: u64) -> u32 {
    let bytes = if bytes > LIMIT as u64 { LIMIT as u32 } else { bytes as u32 };
    // SAFETY: the helper checks the address; `to` has room for `LIMIT` bytes.
    let failed = unsafe { raw_read_user(to.cast(), bytes, address as *const _) != 0 };
    if failed { 0 } else { bytes }
}

/// Copies a string of the kernel with its zero, `LIMIT` bytes at most, to `to`. Returns how many bytes it has; 0 if it
/// cannot be read.
#[inline(always)]
pub(crate) fn kernel_string<const LIMIT: usize>(to: *mut u8, address: u64) -> u32 {
    // SAFETY: the helper checks the address; the verifier checks that `LIMIT` bytes fit behind `to`.
    let bytes = unsafe { raw_read_kernel_str(to.cast(), LIMIT as u32, address as *const _) };
    if bytes > 0 { bytes as u32 } else { 0 }
}

/// A field of a tracepoint's record whose place is known only at run time.
#[inline(always)]
pub(crate) fn field<T: Copy + Default>(ctx: &TracePointContext, offset: u32) -> T {
    kernel(ctx.as_ptr() as u64, offset)
}

/// Argument `N` of a `sys_enter_*` tracepoint, counted from 0; with 0 the result of a `sys_exit_*` one.
/// The layout is the kernel's user interface: 8 bytes of header, the number, then 8 bytes each.
#[inline(always)]
pub(crate) fn syscall_word<const N: usize>(ctx: &TracePointContext) -> u64 {
    // SAFETY: the verifier checks the constant offset against the context's size.
    unsafe { ctx.as_ptr().cast::<u64>().add(2 + N).read() }
}
