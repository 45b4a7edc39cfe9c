//! Exec, fork, exit, and the OOM killer's choice.

use aya_ebpf::{
    EbpfContext as _,
    programs::{RawTracePointContext, TracePointContext},
};
use aya_log_ebpf::{debug, warn};
use tracer_ebpf::{
    loss::Loss,
    mapping::{MAX_PROCESSES, Member, PROCESS_TRACED, Process},
    record::{EmptyCache, Exec, Exit, Fork, Kind, NESTED, Oom},
};

use crate::{
    emit::{Wake, count, emit, head},
    mapping,
    maps::{CONFIG, MEMBERS, NEXT, PROCESSES, THREADS},
    sync,
    thread::{self, Thread},
    user,
};

/// include/uapi/linux/sched.h
const CLONE_VM: u64 = 0x100;
const CLONE_THREAD: u64 = 0x10000;

/// include/linux/sched/signal.h: the whole process ends, so this thread did not return from its function.
const SIGNAL_GROUP_EXIT: u32 = 4;

#[inline(always)]
fn member(tgid: u32) -> Option<Member> {
    // SAFETY: the map does not reuse the memory of removed entries while a program runs.
    MEMBERS.get_ptr(tgid).map(|it| unsafe { *it })
}

/// A new process number in the state "traced".
#[inline(always)]
fn new_process() -> Option<u32> {
    let process = sync::fetch_add(NEXT.get_ptr_mut(1)?, 1);
    if process >= MAX_PROCESSES {
        count(Loss::ProcessesFull);
        return None;
    }
    PROCESSES.set(process, Process { generation: 0, state: PROCESS_TRACED }, 0).ok()?;
    Some(process)
}

/// Runs in the parent, before the child does.
#[inline(always)]
pub(crate) fn new_task(ctx: &TracePointContext) -> Option<()> {
    let (tgid, _) = user::current_ids();
    let parent = member(tgid)?;
    if PROCESSES.get(parent.process)?.state != PROCESS_TRACED {
        return None;
    }
    let config = CONFIG.get(0)?;
    let flags: u64 = user::field(ctx, config.newtask_clone_flags);
    let child_tgid: u32 = user::field(ctx, config.newtask_pid);
    if flags & CLONE_THREAD != 0 {
        return None;
    }
    if flags & CLONE_VM != 0 {
        // It works on the parent's blocks until it calls exec.
        let _ = MEMBERS.insert(child_tgid, Member { process: parent.process, borrowed: 1 }, 0);
        return None;
    }
    if config.follow == 0 {
        return None;
    }
    let child = new_process()?;
    if MEMBERS.insert(child_tgid, Member { process: child, borrowed: 0 }, 0).is_err() {
        count(Loss::ProcessesFull);
        warn!(ctx, "process table full: child {} is not traced", child_tgid);
        return None;
    }
    emit(&Fork { head: head(Kind::Fork, parent.process, 0, 0), child, child_tgid }, Wake::Now);
    debug!(ctx, "fork: {} -> {}", tgid, child_tgid);
    Some(())
}

/// Runs in the new image, before its first instruction.
#[inline(always)]
pub(crate) fn exec(ctx: &RawTracePointContext) -> Option<()> {
    let (tgid, tid) = user::current_ids();
    let mut member = member(tgid)?;
    let _ = THREADS.remove(tid);
    let config = CONFIG.get(0)?;
    if member.borrowed == 1 {
        if config.follow == 0 {
            let _ = MEMBERS.remove(tgid);
            return None;
        }
        let child = new_process()?;
        let parent = member.process;
        member = Member { process: child, borrowed: 0 };
        MEMBERS.insert(tgid, member, 0).ok()?;
        // Nothing was copied: the child never had blocks of its own.
        emit(&Fork { head: head(Kind::Fork, parent, 0, NESTED), child, child_tgid: tgid }, Wake::Now);
    }
    let process = PROCESSES.get_ptr_mut(member.process)?;
    // SAFETY: map values; only this thread is left in the process.
    let generation = unsafe {
        (*process).state = PROCESS_TRACED;
        (*process).generation += 1;
        (*process).generation
    };
    let command = ctx.command().unwrap_or_default();
    emit(&Exec { head: head(Kind::Exec, member.process, 0, 0), tgid, pad: 0, command }, Wake::Now);
    debug!(ctx, "exec: {}", tgid);

    // The program and its loader are the two mappings that no system call announces.
    let _ = mapping::resolve(member.process, generation, user::current_regs().ip);
    let start_code = user::kernel(mapping::memory(config), config.mm_start_code);
    let _ = mapping::resolve(member.process, generation, start_code);
    Some(())
}

/// Runs for every thread.
#[inline(always)]
pub(crate) fn exit(ctx: &RawTracePointContext) -> Option<()> {
    let (tgid, tid) = user::current_ids();
    let config = CONFIG.get(0)?;
    let task = user::current_task();
    let signal: u64 = user::kernel(task, config.task_signal);
    let killed = user::kernel::<u32>(signal, config.signal_flags) & SIGNAL_GROUP_EXIT != 0;
    if let Some(Thread { process, frees_since_ns: since_ns, .. }) = thread::end()
        && since_ns != 0
        && !killed
    {
        let head = head(Kind::EmptyCache, process, 0, tid as u8);
        emit(&EmptyCache { head, since_ns }, Wake::WhenFilling);
    }
    let member = member(tgid)?;
    // The kernel has counted this thread off already.
    if user::kernel::<u32>(signal, config.signal_live) != 0 {
        return None;
    }
    let _ = MEMBERS.remove(tgid);
    if member.borrowed == 1 {
        return None;
    }
    let code: u32 = user::kernel(task, config.task_exit_code);
    emit(&Exit { head: head(Kind::Exit, member.process, 0, 0), tgid, code }, Wake::Now);
    debug!(ctx, "exit: {} code {}", tgid, code);
    Some(())
}

/// The victim is another process than the current one.
#[inline(always)]
pub(crate) fn oom_victim(ctx: &TracePointContext) -> Option<()> {
    let tgid: u32 = user::field(ctx, CONFIG.get(0)?.victim_pid);
    let member = member(tgid)?;
    emit(&Oom { head: head(Kind::Oom, member.process, 0, 0), tgid, pad: 0 }, Wake::Now);
    Some(())
}
