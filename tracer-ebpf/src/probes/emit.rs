//! Out to user space: writes a record, or counts its loss. Nothing else touches the ring.

use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::{helpers::bpf_ktime_get_ns, maps::ring_buf::RingBufEntry};
use tracer_ebpf::{
    loss::Loss,
    record::{Head, Kind},
};

use crate::maps::{CONFIG, LOSSES, RING};

/// Whether user space is told at once. It looks by itself every few milliseconds.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wake {
    WhenFilling,
    Now,
}

/// The start of a record of `kind`, stamped with the time.
#[inline(always)]
pub(crate) fn head(kind: Kind, process: u32, via: u8, flags: u8) -> Head {
    Head { kind: kind as u16, via, flags, process, time_ns: now_ns() }
}

#[inline(always)]
pub(crate) fn now_ns() -> u64 {
    // SAFETY: no preconditions.
    unsafe { bpf_ktime_get_ns() }
}

/// Writes a record; false, and counted, if the ring is full.
#[inline(always)]
pub(crate) fn emit<T: 'static>(record: &T, wake: Wake) -> bool {
    output(record, flags(wake))
}

/// Writes one of the many small records of calls. One in sixteen, by the clock, looks how full the ring is.
#[inline(always)]
pub(crate) fn emit_call<T: 'static>(record: &T, head: Head) -> bool {
    const ONE_IN: u64 = 16;
    // The lowest bits of some clocks stand still.
    let looks = (head.time_ns >> 4) % ONE_IN == 0;
    output(record, if looks { flags(Wake::WhenFilling) } else { BPF_RB_NO_WAKEUP as u64 })
}

#[inline(always)]
fn output<T: 'static>(record: &T, flags: u64) -> bool {
    match RING.output::<T>(record, flags) {
        Ok(()) => true,
        Err(_) => {
            count(Loss::LostEvents);
            false
        }
    }
}

/// Room for a record on the ring, to be filled and submitted; `None`, and counted, if the ring is full.
#[inline(always)]
pub(crate) fn reserve<T: 'static>() -> Option<RingBufEntry<T>> {
    let room = RING.reserve::<T>(0);
    if room.is_none() {
        count(Loss::LostEvents);
    }
    room
}

/// Writes `words` words of `*record`, which must hold at least `LIMIT`.
#[inline(always)]
pub(crate) fn emit_words<const LIMIT: usize>(record: &[u64; LIMIT], words: usize, wake: Wake) -> bool {
    // Before the bound is looked at: the verifier of Linux 6.1 does not know it any more once a call has had `words` put aside.
    let flags = flags(wake);
    let Some(part) = record.get(..words) else { return false };
    if RING.output::<[u64]>(part, flags).is_err() {
        count(Loss::LostStacks);
        return false;
    }
    true
}

#[inline(always)]
pub(crate) fn flags(wake: Wake) -> u64 {
    let filling = || {
        let limit = CONFIG.get(0).map_or(0, |it| it.wake_bytes);
        RING.query(BPF_RB_AVAIL_DATA as u64) > limit as u64
    };
    if wake == Wake::Now || filling() { BPF_RB_FORCE_WAKEUP as u64 } else { BPF_RB_NO_WAKEUP as u64 }
}

#[inline(always)]
pub(crate) fn count(loss: Loss) {
    if let Some(counter) = LOSSES.get_ptr_mut(loss as u32) {
        // SAFETY: the map value belongs to this CPU. A preempting program may lose one increment, not
        // the fact that there was a loss.
        unsafe { *counter += 1 };
    }
}
