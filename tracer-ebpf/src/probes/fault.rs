//! Page faults that make anonymous memory resident, one in so many.
//!
//! The fault itself tells the address, but not what becomes of it: a page of a file, the page of zeros that everybody
//! shares, or a copy that replaces another one add nothing. The count of the process's anonymous pages rises
//! (`kmem:rss_stat`) in those faults that add some, so such a fault is looked at twice: when it begins it is armed,
//! and when the count rises it is reported.
//!
//! Needs Linux 6.2: before, the count was kept per thread and the tracepoint came once in 64 pages.

use aya_ebpf::{helpers::bpf_get_prandom_u32, programs::RawTracePointContext};
use tracer_ebpf::{
    call::Via,
    record::{Kind, MAYBE_LARGE, Touch},
};

use crate::{
    emit::{Wake, emit, head, now_ns},
    mapping,
    maps::{ARMED, CONFIG, FAULTS},
    sync,
    thread::{self, Fault},
    user, walk,
};

/// The choice of the next fault, on one CPU. The gaps are random, so that no loop of a program is in step with them.
#[repr(C)]
pub(crate) struct Faults {
    /// Until the next one.
    left: u32,
    /// The mean gap.
    every: u32,
    /// Since when `seen` were looked at.
    since_ns: u64,
    seen: u64,
}

/// The mean time between two that are looked at: at two to three microseconds each, half a percent of the CPU.
const PAUSE_NS: u64 = 500_000;

/// How often the gap is brought in line with the rate.
const PERIOD_NS: u64 = 100_000_000;
const PERIOD_SEEN: u64 = 256;

const MAX_EVERY: u64 = 4096;

/// User addresses have 47 bits.
const USER_END: u64 = 1 << 47;

/// `MM_ANONPAGES` of include/linux/mm_types_task.h.
const ANONYMOUS_PAGES: u32 = 1;

/// include/linux/mm.h
const VM_HUGEPAGE: u64 = 0x2000_0000;
const VM_NOHUGEPAGE: u64 = 0x4000_0000;

/// A fault begins: is it one of those that are looked at?
#[inline(always)]
pub(crate) fn begin(ctx: &RawTracePointContext) -> Option<()> {
    // SAFETY: the value belongs to this CPU, and the tracepoint runs with preemption off.
    let faults = unsafe { &mut *FAULTS.get_ptr_mut(0)? };
    if faults.left > 1 {
        faults.left -= 1;
        return None;
    }
    let every = faults.every;
    choose_next(faults, CONFIG.get(0)?.fault_every as u64);
    if every == 0 {
        return None;
    }
    arm(user::first_argument(ctx), every)
}

#[inline(always)]
fn choose_next(faults: &mut Faults, least: u64) {
    let now_ns = now_ns();
    let passed_ns = now_ns.wrapping_sub(faults.since_ns);
    faults.seen += 1;
    if faults.every == 0 || passed_ns >= PERIOD_NS || faults.seen >= PERIOD_SEEN {
        // Depends on what was before only, so that each fault is as likely to be chosen as its weight says.
        let wanted = (faults.every as u64 * faults.seen).wrapping_mul(PAUSE_NS) / passed_ns.max(1);
        faults.every = wanted.min(MAX_EVERY).max(least).max(1) as u32;
        (faults.since_ns, faults.seen) = (now_ns, 0);
    }
    // SAFETY: no preconditions.
    let random = unsafe { bpf_get_prandom_u32() };
    faults.left = 1 + random % (2 * faults.every - 1);
}

#[inline(always)]
fn arm(address: u64, every: u32) -> Option<()> {
    if address >= USER_END {
        return None;
    }
    let thread = thread::current()?;
    let config = CONFIG.get(0)?;
    // A program like this one tries to read what is not there, and the kernel does not make it be there. Reading the
    // count raises it by one (`copy_from_kernel_nofault`, mm/maccess.c).
    if user::kernel::<u32>(user::current_task(), config.task_pagefault_disabled) > 1 {
        return None;
    }
    let was_armed = thread.fault.every != 0;
    thread.fault = Fault { address, number: number()?, every, pad: 0 };
    if !was_armed {
        sync::fetch_add(ARMED.get_ptr_mut(0)?, 1);
    }
    Some(())
}

/// How many faults the current thread has had: counted when they end (`mm_account_fault`, mm/memory.c).
#[inline(always)]
fn number() -> Option<u64> {
    let config = CONFIG.get(0)?;
    let task = user::current_task();
    let count = |offset: u32| user::kernel::<u64>(task, offset);
    Some(count(config.task_min_flt).wrapping_add(count(config.task_maj_flt)))
}

/// A thread that may have been armed is no more.
#[inline(always)]
pub(crate) fn disarm(fault: Fault) {
    if fault.every != 0
        && let Some(armed) = ARMED.get_ptr_mut(0)
    {
        sync::fetch_add(armed, u32::MAX);
    }
}

/// A count of resident pages changes: in a fault of this thread that is armed?
#[inline(always)]
pub(crate) fn resident(ctx: &RawTracePointContext) -> Option<()> {
    if user::second_argument(ctx) as u32 != ANONYMOUS_PAGES || *ARMED.get(0)? == 0 {
        return None;
    }
    let thread = thread::known()?;
    let fault = core::mem::take(&mut thread.fault);
    disarm(fault);
    if fault.every == 0 || fault.number != number()? {
        return None;
    }
    let config = CONFIG.get(0)?;
    if user::first_argument(ctx) != mapping::memory(config) {
        return None;
    }
    let maybe_large = match mapping::vma_at(fault.address) {
        // A private copy of a page of a file.
        Ok(vma) if vma.has_file() => return None,
        Ok(vma) => {
            vma.flags() & VM_HUGEPAGE != 0 || config.always_large != 0 && vma.flags() & VM_NOHUGEPAGE == 0
        }
        Err(_) => true,
    };
    let process = thread.id.process;
    let regs = user::current_regs();
    // In a call that is traced the return address is the kernel's, and the stack was walked when the call began.
    let stack = if thread.is_inside_call(regs.sp) && thread.stack != 0 {
        thread.stack
    } else {
        walk::stack(thread.id, walk::From::Here(regs))
    };
    let flags = if maybe_large { MAYBE_LARGE } else { 0 };
    let head = head(Kind::Touch, process, Via::PageFault.code(), flags);
    emit(&Touch { head, address: fault.address, stack, every: fault.every, pad: 0 }, Wake::WhenFilling);
    Some(())
}
