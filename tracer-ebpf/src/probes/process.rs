//! Exec, fork, exit, and the OOM killer's choice.

use aya_ebpf::{
    helpers::bpf_get_current_comm,
    programs::{RawTracePointContext, TracePointContext},
};
use aya_log_ebpf::debug;
use tracer_ebpf::{
    config::{Config, SELECT_NOBODY, UNFOLLOWED_FORKS},
    loss::Loss,
    mapping::{KERNEL_SIDE, Mapped, Member, PROCESS_NONE, PROCESS_TRACED, Process, process_number},
    record::{EmptyCache, Exec, Exit, Fork, Kind, Leave, NOT_TOLD, NOTHING_INHERITED, Oom},
};

use crate::{
    emit::{Wake, count, emit, flags, head, reserve},
    mapping,
    maps::{self, CONFIG, MEMBERS, NEXT},
    select, sync,
    thread::{self, Ended},
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

/// How many places are looked at for one that is free: they are given out in turn, and most processes are short.
const PLACES_TRIED: u32 = 32;

/// A new process number in the state "traced".
#[inline(always)]
fn new_process(sample_shift: u32) -> Option<u32> {
    let next = NEXT.get_ptr_mut(1)?;
    for _ in 0..PLACES_TRIED {
        // No other CPU gets a number with this place before thousands more have been given.
        let number = process_number(sync::fetch_add(next, 1), KERNEL_SIDE);
        let process = maps::process_mut(number)?;
        // SAFETY: a map value; see above.
        unsafe {
            if (*process).state == PROCESS_NONE {
                *process = Process { generation: 0, state: PROCESS_TRACED, sample_shift, pad: 0 };
                return Some(number);
            }
        }
    }
    count(Loss::ProcessesFull);
    None
}

/// The current process, or a child of it, is traced from now on.
#[inline(always)]
fn begin(tgid: u32, sample_shift: u32) -> Option<u32> {
    let process = new_process(sample_shift)?;
    if MEMBERS.insert(tgid, Member { process, borrowed: 0 }, 0).is_err() {
        release(process);
        count(Loss::ProcessesFull);
        return None;
    }
    Some(process)
}

/// Gives the place of a process back.
#[inline(always)]
fn release(process: u32) {
    if let Some(process) = maps::process_mut(process) {
        // SAFETY: a map value; the process has ended, so nobody else changes it.
        unsafe { (*process).state = PROCESS_NONE };
    }
}

/// Runs in the parent, before the child does.
#[inline(always)]
pub(crate) fn new_task(ctx: &TracePointContext) -> Option<()> {
    let (tgid, _) = user::current_ids();
    let parent = member(tgid)?;
    let place = maps::process(parent.process)?;
    if place.state != PROCESS_TRACED {
        return None;
    }
    let sample_shift = place.sample_shift;
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
    if config.follow == 0 && !select::keeps_child(config) {
        // It has a copy of the breakpoints, and user space takes them out.
        sync::fetch_add(NEXT.get_ptr_mut(UNFOLLOWED_FORKS)?, 1);
        return None;
    }
    let child = begin(child_tgid, sample_shift)?;
    emit(&Fork { head: head(Kind::Fork, parent.process, 0, 0), child, child_tgid }, Wake::Now);
    debug!(ctx, "fork: {} -> {}", tgid, child_tgid);
    Some(())
}

/// Runs in the new image, before its first instruction.
#[inline(always)]
pub(crate) fn exec(ctx: &RawTracePointContext) -> Option<()> {
    let (tgid, _) = user::current_ids();
    let _ = thread::end();
    let config = CONFIG.get(0)?;
    // A value for "nobody" instead of an `Option`: the verifier refuses to see the inside of a `None` copied.
    let Member { process: known, borrowed } = member(tgid).unwrap_or_default();
    let selected = config.select != SELECT_NOBODY && select::is_selected(config, tgid);
    let process = if known != 0 && borrowed == 0 {
        if config.select != SELECT_NOBODY && !selected && config.follow == 0 {
            leave(known, tgid);
            return None;
        }
        known
    } else {
        // A child of vfork, which has worked on the blocks of `known` until now, or a process that nobody knew.
        if !selected && (known == 0 || config.follow == 0) {
            let _ = MEMBERS.remove(tgid);
            return None;
        }
        let parent_shift = || maps::process(known).map_or(0, |it| it.sample_shift);
        let child = begin(tgid, if known == 0 { config.sample_shift } else { parent_shift() })?;
        let head = head(Kind::Fork, known, 0, NOTHING_INHERITED);
        emit(&Fork { head, child, child_tgid: tgid }, Wake::Now);
        child
    };
    let place = maps::process_mut(process)?;
    // SAFETY: map values; only this thread is left in the process.
    let generation = unsafe {
        (*place).state = PROCESS_TRACED;
        (*place).generation += 1;
        (*place).generation
    };
    let memory = mapping::memory(config);
    let start_code = user::kernel(memory, config.mm_start_code);
    send_exec(config, process, tgid, memory, mapping::object_at(start_code));
    debug!(ctx, "exec: {}", tgid);

    // The program and its loader are the two mappings that no system call announces.
    let mut mapped = Mapped::default();
    let _ = mapping::resolve(process, generation, user::current_regs().ip, &mut mapped);
    let _ = mapping::resolve(process, generation, start_code, &mut mapped);
    Some(())
}

/// The process is not selected any more.
#[inline(always)]
fn leave(process: u32, tgid: u32) {
    let _ = MEMBERS.remove(tgid);
    emit(&Leave { head: head(Kind::Leave, process, 0, 0), tgid, pad: 0 }, Wake::Now);
    release(process);
}

/// Says what the process has become, in so many words that it need not live until user space looks.
#[inline(always)]
fn send_exec(config: &Config, process: u32, tgid: u32, memory: u64, object: u32) -> Option<()> {
    let start: u64 = user::kernel(memory, config.mm_arg_start);
    let end: u64 = user::kernel(memory, config.mm_arg_end);
    let mut room = reserve::<Exec>()?;
    let record = room.as_mut_ptr();
    // SAFETY: the pointer leads to room for a record on the ring; every field is written before it is submitted, but for
    // the arguments behind `argument_bytes`, which nobody reads.
    unsafe {
        (&raw mut (*record).head).write(head(Kind::Exec, process, 0, 0));
        (&raw mut (*record).tgid).write(tgid);
        (&raw mut (*record).object).write(object);
        (&raw mut (*record).command).write(bpf_get_current_comm().unwrap_or_default());
        let bytes = user::copy_bytes(&raw mut (*record).arguments, end.wrapping_sub(start), start);
        (&raw mut (*record).argument_bytes).write(bytes);
    }
    room.submit(flags(Wake::Now));
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
    let thread = thread::end();
    // Two that end at the same moment both see that none is left; what the later one says would come after the end.
    let member = member(tgid)?;
    if let Some(Ended { process, frees_since_ns: since_ns }) = thread
        && since_ns != 0
        && !killed
    {
        let head = head(Kind::EmptyCache, process, 0, tid as u8);
        emit(&EmptyCache { head, since_ns }, Wake::WhenFilling);
    }
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
    release(member.process);
    debug!(ctx, "exit: {} code {}", tgid, code);
    Some(())
}

/// The victim may be another process than the current one, which needed memory when there was none.
#[inline(always)]
pub(crate) fn oom_victim(ctx: &TracePointContext) -> Option<()> {
    let config = CONFIG.get(0)?;
    let tgid: u32 = user::field(ctx, config.victim_pid);
    let member = member(tgid)?;
    let word = |offset: u32| if offset == 0 { NOT_TOLD } else { user::field::<u64>(ctx, offset) };
    let uid = || user::field::<u32>(ctx, config.victim_uid) as u64;
    let adjustment = || user::field::<i16>(ctx, config.victim_oom_score_adj) as i64 as u64;
    let oom = Oom {
        head: head(Kind::Oom, member.process, 0, 0),
        tgid,
        trigger_tgid: user::current_ids().0,
        trigger: bpf_get_current_comm().unwrap_or_default(),
        total_vm_kib: word(config.victim_total_vm),
        anon_rss_kib: word(config.victim_anon_rss),
        file_rss_kib: word(config.victim_file_rss),
        shmem_rss_kib: word(config.victim_shmem_rss),
        page_tables_kib: word(config.victim_page_tables),
        uid: if config.victim_uid == 0 { NOT_TOLD } else { uid() },
        oom_score_adj: if config.victim_oom_score_adj == 0 { NOT_TOLD } else { adjustment() },
    };
    emit(&oom, Wake::Now);
    Some(())
}
