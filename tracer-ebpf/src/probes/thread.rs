//! What a thread is doing: at most one allocator call and one system call at a time.

use tracer_ebpf::{loss::Loss, mapping::PROCESS_TRACED};

use crate::{
    emit::count,
    fault,
    maps::{self, MEMBERS, PLACES, THREAD_PLACES, THREADS},
    pool::PoolCall,
    sample::Sample,
    sync, user,
};

/// [`Thread::in_call`].
pub(crate) const NOT_IN_CALL: u32 = 0;
pub(crate) const IN_CALL: u32 = 1;
/// An exception was made in the call: it goes on only if it catches that itself, and then its end is still seen.
pub(crate) const MAY_HAVE_LEFT: u32 = 2;

/// Which thread of which process.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Id {
    /// In [`THREAD_PLACES`] also whose place it is; 0: nobody's.
    pub(crate) tid: u32,
    pub(crate) process: u32,
}

/// The calls in progress of one thread. Only the thread itself touches its entry.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Thread {
    pub(crate) id: Id,
    /// It is the first of its process.
    pub(crate) is_first: u32,
    /// [`IN_CALL`] between the entry and the return of an allocator call.
    pub(crate) in_call: u32,
    /// The stack pointer at the call's entry: where its return address lies.
    pub(crate) sp: u64,
    /// The return address.
    pub(crate) caller: u64,
    pub(crate) cookie: u64,
    pub(crate) size_bytes: u64,
    /// The block to resize, or the place for the result.
    pub(crate) pointer: u64,
    pub(crate) stack: u64,
    pub(crate) started_ns: u64,
    /// The frees that came last from one place of the code: when they began, and where the last returned to.
    pub(crate) frees_since_ns: u64,
    pub(crate) frees_from: u64,
    /// Of the record: [`tracer_ebpf::record::NESTED`] if the allocator call was made inside a pool's, or how the block was
    /// sampled; see [`crate::sample`].
    pub(crate) flags: u64,
    pub(crate) sample: Sample,
    pub(crate) pool: PoolCall,
    pub(crate) syscall: Syscall,
    pub(crate) fault: Fault,
}

/// A page fault that is being looked at.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Fault {
    pub(crate) address: u64,
    /// How many faults the thread had had before, so that a later one is not taken for this one.
    pub(crate) number: u64,
    /// It stands for so many; 0: there is none.
    pub(crate) every: u32,
    pub(crate) pad: u32,
}

/// A system call in progress.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Syscall {
    /// [`tracer_ebpf::record::NESTED`] or 0.
    pub(crate) flags: u32,
    /// What the exit is to do: one of the `ON_EXIT_*` constants of [`crate::region`].
    pub(crate) on_exit: u32,
    pub(crate) address: u64,
    pub(crate) size_bytes: u64,
    pub(crate) new_size_bytes: u64,
    pub(crate) stack: u64,
    pub(crate) started_ns: u64,
}

/// The current thread, if its process is traced.
#[inline(always)]
pub(crate) fn current() -> Option<&'static mut Thread> {
    let (tgid, tid) = user::current_ids();
    match place(tid) {
        Place::Own(thread) => Some(thread),
        // It may have been another's when this thread began.
        Place::Free => entry(tid).or_else(|| begin(tgid, tid)),
        Place::Taken => entry(tid).or_else(|| begin(tgid, tid)),
    }
}

/// The current thread, if a program has met it before.
#[inline(always)]
pub(crate) fn known() -> Option<&'static mut Thread> {
    let (_, tid) = user::current_ids();
    match place(tid) {
        Place::Own(thread) => Some(thread),
        Place::Free | Place::Taken => entry(tid),
    }
}

/// What is left to say of a thread that is no more.
pub(crate) struct Ended {
    pub(crate) process: u32,
    pub(crate) frees_since_ns: u64,
}

/// Forgets the current thread, whose image or life has ended, and returns what was known of it.
#[inline(always)]
pub(crate) fn end() -> Option<Ended> {
    let (_, tid) = user::current_ids();
    let (thread, is_own) = match place(tid) {
        Place::Own(thread) => (thread, true),
        Place::Free | Place::Taken => (entry(tid)?, false),
    };
    fault::disarm(thread.fault);
    let ended = Ended { process: thread.id.process, frees_since_ns: thread.frees_since_ns };
    if is_own {
        sync::free(&raw mut thread.id.tid);
    } else {
        let _ = THREADS.remove(tid);
    }
    Some(ended)
}

/// The place that a thread's id leads to.
enum Place {
    Own(&'static mut Thread),
    Free,
    Taken,
}

#[inline(always)]
fn place(tid: u32) -> Place {
    let Some(thread) = THREAD_PLACES.get_ptr_mut(tid % PLACES) else { return Place::Taken };
    // SAFETY: a map value; other threads may change the word, but none to or from this thread's id.
    match unsafe { (&raw const (*thread).id.tid).read_volatile() } {
        // SAFETY: only the thread itself uses its entry, and a program is not interrupted by another one of the same thread.
        it if it == tid => Place::Own(unsafe { &mut *thread }),
        0 => Place::Free,
        _ => Place::Taken,
    }
}

/// Makes an entry for the current thread, if its process is traced.
#[inline(always)]
fn begin(tgid: u32, tid: u32) -> Option<&'static mut Thread> {
    let member = MEMBERS.get_ptr(tgid)?;
    // SAFETY: the map does not reuse the memory of removed entries while a program runs.
    let process = unsafe { (*member).process };
    if maps::process(process)?.state != PROCESS_TRACED {
        return None;
    }
    add_thread(tid, process, u32::from(tid == tgid));
    match place(tid) {
        Place::Own(thread) => Some(thread),
        Place::Free | Place::Taken => entry(tid),
    }
}

/// A global function with a stack of its own, since an entry takes more than half of one.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn add_thread(tid: u32, process: u32, is_first: u32) -> u32 {
    let id = Id { tid, process };
    if let Some(thread) = THREAD_PLACES.get_ptr_mut(tid % PLACES)
        // SAFETY: a map value.
        && sync::claim_for(unsafe { &raw mut (*thread).id.tid }, tid)
    {
        // SAFETY: the claim makes it this thread's.
        let thread = unsafe { &mut *thread };
        *thread = Thread { id, is_first, ..Thread::default() };
    } else if THREADS.insert(tid, Thread { id, is_first, ..Thread::default() }, 0).is_err() {
        count(Loss::ThreadsFull);
    }
    // The kernel wants a value.
    0
}

#[inline(always)]
fn entry(tid: u32) -> Option<&'static mut Thread> {
    // SAFETY: only the thread itself uses its entry, and a program is not interrupted by another one of
    // the same thread.
    THREADS.get_ptr_mut(tid).map(|it| unsafe { &mut *it })
}

impl Thread {
    /// Whether something at stack pointer `sp` happens inside the allocator call in progress.
    #[inline(always)]
    pub(crate) fn is_inside_call(&self, sp: u64) -> bool {
        self.in_call == IN_CALL && sp < self.sp
    }
}
