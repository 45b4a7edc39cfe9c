//! The edge to the kernel: the only room that names aya, `/proc` or a system call.
//!
//! [`Kernel::start`] places the probes, [`Kernel::drain`] turns what they report into [`Event`]s, and
//! dropping it takes everything out of the kernel again. Whatever happens to this process, the kernel
//! closes its descriptors, and with the last of them the probes are gone.

mod btf;
pub mod doctor;
mod error;
pub mod launch;
mod load;
mod missing;
mod multi;
mod object;
mod objects;
mod probes;
pub mod process;
mod raw;
mod ring;
mod sys;
mod tables;
mod tracefs;

use std::{ffi::OsString, fs::File, sync::Arc, time::Duration};

use anyhow::Context as _;
use aya::{
    Ebpf,
    maps::{Array, HashMap, MapData, PerCpuArray, RingBuf},
};
use tokio::io::unix::AsyncFd;
use tracer_ebpf::{
    loss::Loss,
    mapping::{Member, PROCESS_AWAITS_EXEC, PROCESS_TRACED, Process},
};

pub use self::{
    error::StartError,
    launch::{Launched, Streams},
    probes::Programs,
};
use self::{
    load::Links,
    objects::Objects,
    probes::{Probes, Scope},
    ring::Decoded,
};
use crate::{
    elf::pools::Pools,
    event::{Event, Frame, ObjectId, ProcessId},
    interval::Losses,
};

/// What is to be traced.
pub enum Target {
    Processes(Vec<u32>),
    /// A command that waits at its gate, with its name and arguments.
    Launched {
        tgid: u32,
        command: Vec<OsString>,
    },
}

/// How to trace.
pub struct Settings {
    pub target: Target,
    /// Trace forked children too.
    pub follow: bool,
    /// A power of two and a multiple of the page size.
    pub ring_bytes: u32,
    pub programs: Programs,
    /// The user's own.
    pub pools: Pools,
}

/// An executable file that frames refer to.
#[derive(Clone)]
pub struct Module {
    pub id: ObjectId,
    pub path: String,
    pub build_id: Option<String>,
    /// Held open, so that names can be found when the path leads nowhere any more.
    pub file: Option<Arc<File>>,
}

/// A process that has just been started has not mapped its C library yet: it gets half a second.
const STARTUP_TRIES: u32 = 10;
const STARTUP_PAUSE: Duration = Duration::from_millis(50);

/// A running trace.
pub struct Kernel {
    ring: AsyncFd<RingBuf<MapData>>,
    losses: PerCpuArray<MapData, u64>,
    log: Option<aya_log::EbpfLogger<&'static dyn log::Log>>,
    state: State,
}

/// Everything but the ring, so that a record can be handled while it still lies there.
struct State {
    probes: Probes,
    ebpf: Ebpf,
    objects: Objects,
    scope_of_new: Option<Scope>,
    /// Processes of the kernel half by number, for those it may ask about.
    tgids: std::collections::HashMap<ProcessId, u32>,
    /// Processes that have ended since the last look at the ring: where their code lay can still be asked.
    ended: Vec<ProcessId>,
    counted: Losses,
}

impl Kernel {
    /// Places every probe and begins to trace; all of them begin at the same moment.
    ///
    /// # Errors
    /// If the target cannot be traced, or the kernel refuses.
    pub fn start(settings: &Settings) -> Result<Self, StartError> {
        raise_file_limit();
        let mut objects = Objects::of(&settings.target, &settings.pools)?;
        for _ in 0..STARTUP_TRIES {
            if objects.check_targets().and(objects.check_pools()).is_ok()
                || matches!(settings.target, Target::Launched { .. })
            {
                break;
            }
            std::thread::sleep(STARTUP_PAUSE);
            objects = Objects::of(&settings.target, &settings.pools)?;
        }
        objects.check_targets()?;
        objects.check_pools()?;
        Self::attach(settings, objects).map_err(StartError::from_kernel)
    }

    fn attach(settings: &Settings, mut objects: Objects) -> anyhow::Result<Self> {
        tracefs::ensure_mounted()?;
        let mut ebpf = load::load(objects.sizes(settings.ring_bytes), settings.follow)?;
        let scopes = scopes(settings);
        let links = if scopes == [Scope::Everyone] { Links::Multi } else { Links::Single };
        let multi = load::load_programs(&mut ebpf, links)?;
        let log = aya_log::EbpfLogger::init(&mut ebpf).ok();
        let ring = RingBuf::try_from(ebpf.take_map("RING").context("map RING")?)?;
        let ring = sys::register(ring).context("watch the ring buffer")?;
        let losses = PerCpuArray::try_from(ebpf.take_map("LOSSES").context("map LOSSES")?)?;
        let mut counted = Losses::default();
        objects.connect(&mut ebpf, &mut counted)?;

        let mut probes = Probes::new(settings.programs, multi);
        for scope in &scopes {
            for (number, object) in objects.iter() {
                let failed = probes.attach_object(&mut ebpf, number, object, *scope);
                counted.add(Loss::FailedProbes, failed);
            }
        }
        probes.attach_tracepoints(&mut ebpf)?;
        let scope_of_new = match scopes[..] {
            [scope] => Some(scope),
            _ => None,
        };
        let tgids = std::collections::HashMap::new();
        let mut state = State { ebpf, objects, probes, scope_of_new, tgids, ended: Vec::new(), counted };
        state.switch_on(&settings.target)?;
        Ok(Self { ring, losses, log, state })
    }

    /// Waits until the ring is filling; an ordinary trickle of events does not end the wait.
    ///
    /// # Errors
    /// If the runtime is shutting down.
    pub async fn filling(&self) -> std::io::Result<()> {
        self.ring.readable().await.map(|mut it| it.clear_ready())
    }

    /// The processes that were given as targets, as events.
    pub fn beginnings(&self, time_ns: u64) -> Vec<Event> {
        let mut begun: Vec<_> = self.state.tgids.iter().map(|(process, tgid)| (*process, *tgid)).collect();
        begun.sort_unstable();
        let begin = |(process, tgid)| Event::Begin {
            process,
            time_ns,
            tgid,
            name: process::describe(tgid).name.into(),
            break_end: process::break_end(tgid),
        };
        begun.into_iter().map(begin).collect()
    }

    /// Hands over what has been reported, in order, `limit` records at most. Returns how many there were.
    pub fn drain(&mut self, limit: usize, mut sink: impl FnMut(Event)) -> usize {
        for process in self.state.ended.drain(..) {
            self.state.objects.end_process(process);
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

    /// Objects met since the last call.
    pub fn new_modules(&mut self) -> Vec<Module> {
        self.state.objects.take_new()
    }
}

impl State {
    /// Only now do the probes report anything, so that no free is seen without its allocation.
    fn switch_on(&mut self, target: &Target) -> anyhow::Result<()> {
        let (tgids, state) = match target {
            Target::Processes(tgids) => (&tgids[..], PROCESS_TRACED),
            Target::Launched { tgid, .. } => (std::slice::from_ref(tgid), PROCESS_AWAITS_EXEC),
        };
        for (number, tgid) in (1u32..).zip(tgids) {
            self.tgids.insert(ProcessId(number), *tgid);
            let mut members: HashMap<_, u32, Member> =
                HashMap::try_from(self.ebpf.map_mut("MEMBERS").context("map MEMBERS")?)?;
            members.insert(tgid, Member { process: number, borrowed: 0 }, 0)?;
            self.objects.begin_process(ProcessId(number), *tgid);
        }
        for number in (1u32..).take(tgids.len()) {
            let mut processes: Array<_, Process> =
                Array::try_from(self.ebpf.map_mut("PROCESSES").context("map PROCESSES")?)?;
            processes.set(number, Process { generation: 0, state }, 0)?;
        }
        Ok(())
    }

    fn handle(&mut self, bytes: &[u8], sink: &mut impl FnMut(Event)) {
        match ring::decode(bytes) {
            Some(Decoded::Event(event)) => {
                if let Event::Exit { process, .. } = event {
                    self.ended.push(process);
                }
                sink(event);
            }
            Some(Decoded::Stack { key, stop, frames }) => {
                let frames = self.objects.trim(ring::frames(frames));
                sink(Event::Stack { key, stop, frames });
            }
            Some(Decoded::RawStack(raw)) => sink(self.objects.finish(raw)),
            Some(Decoded::Mapping(record)) => {
                let found = self.objects.add_mapping(record, &mut self.counted);
                if let (Some(number), Some(scope)) = (found, self.scope_of_new)
                    && let Some(object) = self.objects.get(number)
                    && !object.functions.is_empty()
                {
                    let failed = self.probes.attach_object(&mut self.ebpf, number, object, scope);
                    self.counted.add(Loss::FailedProbes, failed);
                    self.counted.add(Loss::LateProbes, 1);
                }
            }
            Some(Decoded::Fork { event: Event::Fork { process, time_ns, child, child_tgid }, copied }) => {
                self.tgids.insert(child, child_tgid);
                self.objects.fork_process(process, child, child_tgid);
                sink(if copied {
                    Event::Fork { process, time_ns, child, child_tgid }
                } else {
                    let name = process::describe(child_tgid).name.into();
                    Event::Begin { process: child, time_ns, tgid: child_tgid, name, break_end: None }
                });
            }
            Some(Decoded::Exec { event, tgid }) => {
                if let Event::Exec { process, .. } = event {
                    self.objects.exec_process(process, tgid);
                }
                sink(event);
            }
            _ => self.counted.add(Loss::MalformedRecords, 1),
        }
    }
}

/// Whose breakpoints are wanted. With links for each process a call walks those of all processes, 6 to 25 ns each, so that
/// beyond some tens of them it is cheaper that everybody who maps the file has the breakpoints.
fn scopes(settings: &Settings) -> Vec<Scope> {
    const MOST_SCOPES: usize = 30;
    match &settings.target {
        _ if settings.follow => vec![Scope::Everyone],
        Target::Processes(tgids) if tgids.len() > MOST_SCOPES => vec![Scope::Everyone],
        Target::Processes(tgids) => tgids.iter().map(|it| Scope::Process(*it)).collect(),
        Target::Launched { tgid, .. } => vec![Scope::Process(*tgid)],
    }
}

/// Every probe holds a descriptor, and every object too.
fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    let raised = Rlimit { current: limit.maximum, maximum: limit.maximum };
    if let Err(error) = setrlimit(Resource::Nofile, raised) {
        log::warn!("the limit of open files stays at {:?}: {error}", limit.current);
    }
}

/// Lets the calling thread run before others: whoever drains the ring must not wait its turn behind hundreds
/// of threads that fill it. It works only as long as they make it.
pub fn run_first() {
    if let Err(error) = rustix::process::setpriority_process(None, -20) {
        log::info!("the priority stays as it is: {error}");
    }
}

/// Now, on the clock of all events.
pub fn now_ns() -> u64 {
    let now = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    now.tv_sec as u64 * 1_000_000_000 + now.tv_nsec as u64
}
