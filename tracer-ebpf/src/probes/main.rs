//! The BPF programs: one short entry per probe, calling its room.
//!
//! Needs Linux 5.17: `bpf_loop` and `bpf_find_vma` (v5.17), attach cookies and `bpf_task_pt_regs` (v5.15),
//! the ring buffer (v5.8).
#![no_std]
#![no_main]
#![feature(core_intrinsics)]
#![expect(internal_features, reason = "the BPF target offers atomics through intrinsics only")]

mod call;
mod emit;
mod fault;
mod mapping;
mod maps;
mod path;
mod pool;
mod process;
mod proof;
mod region;
mod sample;
mod select;
mod sync;
mod thread;
mod user;
mod walk;

use aya_ebpf::{
    macros::{raw_tracepoint, tracepoint, uprobe, uretprobe},
    programs::{ProbeContext, RawTracePointContext, RetProbeContext, TracePointContext},
};
use tracer_ebpf::proof::{BEGIN, END, ENTER};

/// What every program does first: nothing, once the tracing is over. The kernel takes its time to remove the probes, and until
/// then each is a trap and no more.
#[inline(always)]
fn on<T, R: Default>(act: impl FnOnce() -> T) -> R {
    if maps::CONFIG.get(0).is_some_and(|it| it.off == 0) {
        act();
    }
    R::default()
}

/// An allocating function was entered; the cookie says what its arguments mean.
#[uprobe]
fn enter(ctx: ProbeContext) -> u32 {
    on(|| call::enter(&ctx))
}

/// An allocating function has returned.
#[uretprobe]
fn leave(ctx: RetProbeContext) -> u32 {
    on(|| call::leave(&ctx))
}

/// An allocating function that may throw, and so must have no return probe, is about to return.
#[uprobe]
fn leave_at_exit(ctx: ProbeContext) -> u32 {
    on(|| call::leave_at_exit(&ctx))
}

/// An allocating function is about to call others; what it was asked for is still there.
#[uprobe]
fn begin(ctx: ProbeContext) -> u32 {
    on(|| call::begin(&ctx))
}

/// The result of an allocating function is there, and often what it was asked for is so too.
#[uprobe]
fn whole(ctx: ProbeContext) -> u32 {
    on(|| call::whole(&ctx))
}

/// A freeing function was entered.
#[uprobe]
fn free(ctx: ProbeContext) -> u32 {
    on(|| call::free(&ctx))
}

/// A function of a user's own pool was entered.
#[uprobe]
fn pool_enter(ctx: ProbeContext) -> u32 {
    on(|| pool::enter(&ctx))
}

/// … has returned.
#[uretprobe]
fn pool_leave(ctx: RetProbeContext) -> u32 {
    on(|| pool::leave(&ctx))
}

/// … is about to return: of a function that may throw, and so must have no return probe.
#[uprobe]
fn pool_exit(ctx: ProbeContext) -> u32 {
    on(|| pool::exit(&ctx))
}

/// A function that takes blocks of a user's own pool back was entered.
#[uprobe]
fn pool_free(ctx: ProbeContext) -> u32 {
    on(|| pool::free(&ctx))
}

/// The unwinder is told to raise an exception.
#[uprobe]
fn raise(ctx: ProbeContext) -> u32 {
    on(|| pool::raise(&ctx))
}

/// C++ makes an exception.
#[uprobe]
fn throw(ctx: ProbeContext) -> u32 {
    on(|| call::throw(&ctx))
}

/// A function was entered whose effect is not known.
#[uprobe]
fn unfollowed(_ctx: ProbeContext) -> u32 {
    on(|| call::unfollowed())
}

/// A proof is tried: a function was entered …
#[uprobe]
fn proof_enter(ctx: ProbeContext) -> u32 {
    on(|| proof::step(&ctx, ENTER))
}

/// … is at the place of a `begin` …
#[uprobe]
fn proof_begin(ctx: ProbeContext) -> u32 {
    on(|| proof::step(&ctx, BEGIN))
}

/// … of a `whole` …
#[uprobe]
fn proof_end(ctx: ProbeContext) -> u32 {
    on(|| proof::step(&ctx, END))
}

/// … and has returned.
#[uretprobe]
fn proof_leave(ctx: RetProbeContext) -> u32 {
    on(|| proof::leave(&ctx))
}

/// Does nothing: what the trap alone costs, for the benchmark.
#[uprobe]
fn floor_enter(_ctx: ProbeContext) -> u32 {
    0
}

/// As `floor_enter`, for returns.
#[uretprobe]
fn floor_leave(_ctx: RetProbeContext) -> u32 {
    0
}

#[tracepoint]
fn enter_mmap(ctx: TracePointContext) -> u32 {
    on(|| region::enter_mmap(&ctx))
}

#[tracepoint]
fn exit_mmap(ctx: TracePointContext) -> u32 {
    on(|| region::exit_mmap(&ctx))
}

#[tracepoint]
fn enter_munmap(ctx: TracePointContext) -> u32 {
    on(|| region::enter_munmap(&ctx))
}

#[tracepoint]
fn exit_munmap(ctx: TracePointContext) -> u32 {
    on(|| region::exit_munmap(&ctx))
}

#[tracepoint]
fn enter_mremap(ctx: TracePointContext) -> u32 {
    on(|| region::enter_mremap(&ctx))
}

#[tracepoint]
fn exit_mremap(ctx: TracePointContext) -> u32 {
    on(|| region::exit_mremap(&ctx))
}

#[tracepoint]
fn enter_brk(ctx: TracePointContext) -> u32 {
    on(|| region::enter_brk(&ctx))
}

#[tracepoint]
fn exit_brk(ctx: TracePointContext) -> u32 {
    on(|| region::exit_brk(&ctx))
}

/// `task:task_newtask` says, unlike `sched:sched_process_fork`, whether a thread or a process begins.
#[tracepoint]
fn new_task(ctx: TracePointContext) -> u32 {
    on(|| process::new_task(&ctx))
}

/// `oom:mark_victim`
#[tracepoint]
fn oom_victim(ctx: TracePointContext) -> u32 {
    on(|| process::oom_victim(&ctx))
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn exec(ctx: RawTracePointContext) -> i32 {
    on(|| process::exec(&ctx))
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn exit(ctx: RawTracePointContext) -> i32 {
    on(|| process::exit(&ctx))
}

#[tracepoint]
fn enter_madvise(ctx: TracePointContext) -> u32 {
    on(|| region::enter_madvise(&ctx))
}

#[raw_tracepoint(tracepoint = "page_fault_user")]
fn user_fault(ctx: RawTracePointContext) -> i32 {
    on(|| fault::begin(&ctx))
}

/// The kernel writes to user memory, as `read` does.
#[raw_tracepoint(tracepoint = "page_fault_kernel")]
fn kernel_fault(ctx: RawTracePointContext) -> i32 {
    on(|| fault::begin(&ctx))
}

/// `kmem:rss_stat`: the number of resident pages of one kind changes.
#[raw_tracepoint(tracepoint = "rss_stat")]
fn resident(ctx: RawTracePointContext) -> i32 {
    on(|| fault::resident(&ctx))
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
