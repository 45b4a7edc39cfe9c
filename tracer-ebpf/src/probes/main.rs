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

/// An allocating function was entered; the cookie says what its arguments mean.
#[uprobe]
fn enter(ctx: ProbeContext) -> u32 {
    call::enter(&ctx);
    0
}

/// An allocating function has returned.
#[uretprobe]
fn leave(ctx: RetProbeContext) -> u32 {
    call::leave(&ctx);
    0
}

/// An allocating function that may throw, and so must have no return probe, is about to return.
#[uprobe]
fn leave_at_exit(ctx: ProbeContext) -> u32 {
    call::leave_at_exit(&ctx);
    0
}

/// An allocating function is about to call others; what it was asked for is still there.
#[uprobe]
fn begin(ctx: ProbeContext) -> u32 {
    call::begin(&ctx);
    0
}

/// The result of an allocating function is there, and often what it was asked for is so too.
#[uprobe]
fn whole(ctx: ProbeContext) -> u32 {
    call::whole(&ctx);
    0
}

/// A freeing function was entered.
#[uprobe]
fn free(ctx: ProbeContext) -> u32 {
    call::free(&ctx);
    0
}

/// A function of a user's own pool was entered.
#[uprobe]
fn pool_enter(ctx: ProbeContext) -> u32 {
    pool::enter(&ctx);
    0
}

/// … has returned.
#[uretprobe]
fn pool_leave(ctx: RetProbeContext) -> u32 {
    pool::leave(&ctx);
    0
}

/// … is about to return: of a function that may throw, and so must have no return probe.
#[uprobe]
fn pool_exit(ctx: ProbeContext) -> u32 {
    pool::exit(&ctx);
    0
}

/// A function that takes blocks of a user's own pool back was entered.
#[uprobe]
fn pool_free(ctx: ProbeContext) -> u32 {
    pool::free(&ctx);
    0
}

/// The unwinder is told to raise an exception.
#[uprobe]
fn raise(ctx: ProbeContext) -> u32 {
    pool::raise(&ctx);
    0
}

/// C++ makes an exception.
#[uprobe]
fn throw(ctx: ProbeContext) -> u32 {
    call::throw(&ctx);
    0
}

/// A function was entered whose effect is not known.
#[uprobe]
fn unfollowed(_ctx: ProbeContext) -> u32 {
    call::unfollowed();
    0
}

/// A proof is tried: a function was entered …
#[uprobe]
fn proof_enter(ctx: ProbeContext) -> u32 {
    proof::step(&ctx, ENTER);
    0
}

/// … is at the place of a `begin` …
#[uprobe]
fn proof_begin(ctx: ProbeContext) -> u32 {
    proof::step(&ctx, BEGIN);
    0
}

/// … of a `whole` …
#[uprobe]
fn proof_end(ctx: ProbeContext) -> u32 {
    proof::step(&ctx, END);
    0
}

/// … and has returned.
#[uretprobe]
fn proof_leave(ctx: RetProbeContext) -> u32 {
    proof::leave(&ctx);
    0
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
    region::enter_mmap(&ctx);
    0
}

#[tracepoint]
fn exit_mmap(ctx: TracePointContext) -> u32 {
    region::exit_mmap(&ctx);
    0
}

#[tracepoint]
fn enter_munmap(ctx: TracePointContext) -> u32 {
    region::enter_munmap(&ctx);
    0
}

#[tracepoint]
fn exit_munmap(ctx: TracePointContext) -> u32 {
    region::exit_munmap(&ctx);
    0
}

#[tracepoint]
fn enter_mremap(ctx: TracePointContext) -> u32 {
    region::enter_mremap(&ctx);
    0
}

#[tracepoint]
fn exit_mremap(ctx: TracePointContext) -> u32 {
    region::exit_mremap(&ctx);
    0
}

#[tracepoint]
fn enter_brk(ctx: TracePointContext) -> u32 {
    region::enter_brk(&ctx);
    0
}

#[tracepoint]
fn exit_brk(ctx: TracePointContext) -> u32 {
    region::exit_brk(&ctx);
    0
}

/// `task:task_newtask` says, unlike `sched:sched_process_fork`, whether a thread or a process begins.
#[tracepoint]
fn new_task(ctx: TracePointContext) -> u32 {
    process::new_task(&ctx);
    0
}

/// `oom:mark_victim`
#[tracepoint]
fn oom_victim(ctx: TracePointContext) -> u32 {
    process::oom_victim(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exec")]
fn exec(ctx: RawTracePointContext) -> i32 {
    process::exec(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "sched_process_exit")]
fn exit(ctx: RawTracePointContext) -> i32 {
    process::exit(&ctx);
    0
}

#[tracepoint]
fn enter_madvise(ctx: TracePointContext) -> u32 {
    region::enter_madvise(&ctx);
    0
}

#[raw_tracepoint(tracepoint = "page_fault_user")]
fn user_fault(ctx: RawTracePointContext) -> i32 {
    fault::begin(&ctx);
    0
}

/// The kernel writes to user memory, as `read` does.
#[raw_tracepoint(tracepoint = "page_fault_kernel")]
fn kernel_fault(ctx: RawTracePointContext) -> i32 {
    fault::begin(&ctx);
    0
}

/// `kmem:rss_stat`: the number of resident pages of one kind changes.
#[raw_tracepoint(tracepoint = "rss_stat")]
fn resident(ctx: RawTracePointContext) -> i32 {
    fault::resident(&ctx);
    0
}

#[panic_handler]
fn panic(_info: &core::panic::PanicInfo<'_>) -> ! {
    loop {}
}

#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";
