//! The edge to the kernel: the only room that names aya, `/proc` or a system call.
//!
//! [`Kernel::start`] places the probes, [`Kernel::drain`] turns what they report into [`Event`]s, and
//! dropping it takes everything out of the kernel again. Whatever happens to this process, the kernel
//! closes its descriptors, and with the last of them the probes are gone.

pub mod accounting;
mod arrivals;
mod btf;
mod cache_dir;
pub mod calibrate;
pub mod cgroup;
mod children;
mod contents;
pub mod doctor;
mod endure;
mod error;
pub mod evidence;
pub mod examination;
mod exit_sites;
mod extents;
mod growth;
pub mod launch;
mod lease;
pub mod leaving;
mod limits;
mod load;
mod members;
mod memory;
mod missing;
mod multi;
mod object;
mod objects;
mod pages;
mod perf_map;
mod price;
mod probes;
pub mod process;
pub mod proof;
mod raw;
pub mod ring;
mod runs;
mod sampling;
mod selection;
mod settings;
#[cfg(test)]
mod stack_depth;
mod start;
mod sys;
mod table_cache;
mod tables;
mod tier;
mod tracefs;
mod whereabouts;
mod withdraw;

use std::{fs::File, os::fd::AsRawFd as _, sync::Arc};

use aya::{
    Ebpf,
    maps::{MapData, PerCpuArray, RingBuf},
};
use tokio::io::unix::AsyncFd;
use tracer_ebpf::loss::Loss;

use self::{
    arrivals::Arrivals, children::Children, growth::Growth, leaving::HandedOver, members::Members,
    memory::Memory, objects::Objects, probes::Probes, ring::Decoded, runs::Counting, sampling::Sampling,
    withdraw::Absent,
};
pub use self::{
    endure::{endure, like_anybody},
    error::StartError,
    growth::Escalation,
    launch::{Launched, Streams},
    limits::{run_first, run_last},
    memory::MemoryBound,
    perf_map::PerfMap,
    price::{Prices, Traps},
    probes::Programs,
    runs::{Runs, cpu_ns},
    selection::Selection,
    settings::{Settings, Target},
    sys::LibcBlock,
    tier::Tier,
    withdraw::Whose,
};
use crate::{
    event::{Event, Frame, ObjectId, ProcessId, StackKey},
    interval::Losses,
};

/// An executable file that frames refer to.
#[derive(Clone)]
pub struct Module {
    pub id: ObjectId,
    pub path: String,
    pub build_id: Option<String>,
    /// Held open, so that names can be found when the path leads nowhere any more.
    pub file: Option<Arc<File>>,
    /// Of what was read.
    version: u32,
    /// Of memory in which code is made at run time: where its names may be.
    pub perf_map: Option<PerfMap>,
}

impl Module {
    /// A path by which the symbolizer reaches the held file itself. `None` also if it has been written over since it was
    /// read: the names would be those of another program.
    pub fn held_path(&self) -> Option<String> {
        let file = self.file.as_ref()?;
        let is_as_it_was = object::version_of(file).is_ok_and(|it| it == self.version);
        is_as_it_was.then(|| format!("/proc/self/fd/{}", file.as_raw_fd()))
    }
}

/// A running trace.
pub struct Kernel {
    ring: AsyncFd<RingBuf<MapData>>,
    losses: PerCpuArray<MapData, u64>,
    /// The stacks that the probes take for reported.
    seen: aya::maps::HashMap<MapData, u64, u8>,
    log: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
    /// The kernel counts how long our programs take.
    counting: Option<Counting>,
    state: State,
    memory: Memory,
    /// Last: when all else is closed.
    heir: Option<HandedOver>,
}

/// Everything but the ring, so that a record can be handled while it still lies there.
struct State {
    probes: Probes,
    ebpf: Ebpf,
    objects: Objects,
    members: Members,
    sampling: Sampling,
    arrivals: Arrivals,
    children: Children,
    /// Probes see the calls of everybody who maps the file, and not only those of one process.
    everyone: bool,
    growth: Growth,
    absent: Absent,
    /// The programs of page faults are loaded.
    can_watch_pages: bool,
    traps: Traps,
    /// Processes that have ended since the last look at the ring: where their code lay can still be asked.
    ended: Vec<ProcessId>,
    counted: Losses,
}

impl Kernel {
    /// Waits until the ring is filling; an ordinary trickle of events does not end the wait.
    ///
    /// # Errors
    /// If the runtime is shutting down.
    pub async fn filling(&self) -> std::io::Result<()> {
        self.ring.readable().await.map(|mut it| it.clear_ready())
    }

    /// The processes that were found running and have been begun since this was called last, as events.
    pub fn beginnings(&mut self, time_ns: u64) -> Vec<Event> {
        self.state.arrivals.take_begun(time_ns)
    }

    /// Begins the processes that belong to the selection now and did not when they began, as those do that are moved
    /// into a control group.
    pub fn look_for_more(&mut self) {
        self.state.look_for_more();
    }

    /// Whether there may be processes to trace when all that are known have ended.
    pub fn expects_more(&self) -> bool {
        self.state.arrivals.expects_more()
    }

    /// A process whose end was not reported is gone.
    pub fn forget(&mut self, process: ProcessId) {
        self.state.ended.push(process);
    }

    /// What there is to say of processes that have begun or have become something else.
    pub fn take_descriptions(&mut self) -> Vec<(ProcessId, process::Description)> {
        self.state.arrivals.take_descriptions()
    }

    /// Hands over what has been reported, in order, `limit` records at most. Returns how many there were.
    pub fn drain(&mut self, limit: usize, mut sink: impl FnMut(Event)) -> usize {
        for process in self.state.ended.drain(..) {
            self.state.objects.end_process(process);
            self.state.members.end(process);
            self.state.arrivals.end(process);
            self.state.growth.end(process);
            self.state.absent.end(process);
        }
        let mut count = 0;
        let ring = self.ring.get_mut();
        while count < limit
            && let Some(item) = ring.next()
        {
            self.state.handle(&item, &mut sink);
            count += 1;
        }
        if let Some(log) = &mut self.log {
            log.flush();
        }
        count
    }

    /// These stacks are not known any more: they are reported again when they are met.
    pub fn forget_stacks(&mut self, keys: &[StackKey]) {
        for key in keys {
            // Of those that were used once the probes know nothing.
            let _ = self.seen.remove(&key.0);
        }
    }

    /// Lets go of the files that no process has mapped since this was called last, which is to be long ago. Returns them: they do not come again under these numbers.
    pub fn forget_objects(&mut self) -> Vec<ObjectId> {
        let is_exact = self.state.growth.tier == Tier::Exact;
        // The probes of a selection hold their files in any case, and the vDSO is none.
        self.state.objects.forget_unused(|it| it.file.is_none() || is_exact && it.has_probes())
    }

    /// There may soon be no room for what is known of more files.
    pub fn objects_are_many(&self) -> bool {
        self.state.objects.tables_are_many()
    }

    /// Ends the tracing: what has been reported until now can still be drained, and there will be no more. The probes go when
    /// this is dropped.
    pub fn switch_off(&mut self) {
        if let Err(error) = self.state.members.switch_off() {
            log::warn!("end the tracing: {error:#}");
        }
    }

    /// What was lost so far, in the kernel and on the way into user space.
    pub fn losses(&self) -> Losses {
        let mut losses = self.state.counted;
        for loss in &Loss::ALL[..Loss::KERNEL] {
            // The map has one entry for each; reading it fails only if it is gone, with the whole trace.
            if let Ok(values) = self.losses.get(&(*loss as u32), 0) {
                losses.add(*loss, values.iter().sum());
            }
        }
        losses
    }

    /// Where a frame's object offset lies in a process, as far as that is known: until the next [`Kernel::drain`]
    /// also of a process that has just ended.
    pub fn address(&self, process: ProcessId, frame: Frame) -> Option<u64> {
        self.state.objects.address(process, frame)
    }

    /// The files whose allocator functions are probed.
    pub fn allocators(&self) -> Vec<String> {
        let objects = self.state.objects.iter().filter(|(_, it)| !it.functions.is_empty());
        objects.map(|(_, it)| it.path.clone()).collect()
    }

    /// Functions of the user's pools that are waited for, and other things to be told before the tracing begins.
    pub fn notes(&self) -> Vec<String> {
        self.state.objects.pool_notes()
    }

    /// The allocators of the processes that have new ones since the last call, each as
    /// `jemalloc (/usr/lib/libjemalloc.so.2)`.
    pub fn new_allocators(&mut self) -> Vec<(ProcessId, Vec<String>)> {
        self.state.objects.take_allocators()
    }

    /// Objects met since the last call.
    pub fn new_modules(&mut self) -> Vec<Module> {
        self.state.objects.take_new()
    }
}

impl Drop for Kernel {
    fn drop(&mut self) {
        self.switch_off();
        self.heir = leaving::hand_over();
    }
}

impl State {
    fn handle(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event)) {
        match ring::decode(bytes) {
            Some(Decoded::Event(event)) => {
                if let Event::Exit { process, .. } | Event::Leave { process, .. } = event {
                    self.ended.push(process);
                }
                sink(event);
            }
            Some(Decoded::LargeTouch(mut event)) => {
                self.measure(&mut event);
                sink(event);
            }
            Some(Decoded::Stack { process, key, stop, frames }) => {
                let frames = self.objects.own(process, ring::frames(frames), stop);
                let frames = self.objects.trim(frames);
                sink(Event::Stack { key, stop, frames });
            }
            Some(Decoded::RawStack(raw)) => sink(self.objects.finish(raw)),
            Some(Decoded::Path(record)) => self.objects.note_path(record),
            Some(Decoded::Mapping(record)) => {
                let new = self.objects.add_mapping(record, &mut self.counted);
                self.probe_mapped(record, new);
            }
            Some(Decoded::Fork { parent, time_ns, child, child_tgid, copied }) => {
                sink(self.fork(parent, time_ns, child, child_tgid, copied));
            }
            Some(Decoded::Exec { event, record }) => {
                self.exec(record);
                sink(event);
            }
            _ => self.counted.add(Loss::MalformedRecords, 1),
        }
    }
}

/// Now, on the clock of all events.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
