//! Places the probes: allocator functions by uprobes, system calls and process life by tracepoints.

mod placed;
mod plan;

use std::{
    collections::{HashMap, HashSet},
    num::NonZero,
    sync::Arc,
};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{
        RawTracePoint, TracePoint, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope},
    },
};

pub use self::plan::Programs;
pub(crate) use self::plan::programs_of;
use self::{
    placed::Placed,
    plan::{EXIT, POOL_EXIT, Placement, Probe, WHOLE, placement, probes_of, raising},
};
use super::{
    children::Places,
    exit_sites::ExitSites,
    lease::Lease,
    leaving,
    multi::{Multi, Point},
    object::Object,
};
use crate::elf::allocators::{Function, Role};

/// Whose calls a uprobe sees. The kernel puts breakpoints only into processes in scope.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Scope {
    /// One process, all its threads, but no forked child.
    Process(u32),
    /// Every process that maps the file: what following children needs, since a child must not run a
    /// single instruction untraced.
    Everyone,
}

impl Scope {
    fn tgid(self) -> Option<u32> {
        match self {
            Self::Process(tgid) => Some(tgid),
            Self::Everyone => None,
        }
    }
}

/// Attaches, and knows what is attached.
pub(crate) struct Probes {
    programs: Programs,
    /// Where the kernel has such links.
    multi: Option<Arc<Multi>>,
    exit_sites: ExitSites,
    done: HashSet<(u32, Scope)>,
    /// Names of functions whose calls are seen where their results are final.
    seen_whole: HashSet<String>,
    /// Each takes its probe out of the kernel when it is dropped.
    links: Vec<Box<dyn Send>>,
    /// Those that a child inherits.
    inherited: Vec<Places>,
    /// Likewise; those in the functions of allocators, which may go before the end.
    calls: Vec<Call>,
    /// Of the objects whose probes everybody meets.
    leases: HashMap<u32, Lease>,
}

/// Probes of one program in an object.
struct Call {
    object: u32,
    scope: Scope,
    placement: Placement,
    link: Box<dyn Send>,
}

/// Probes on their way out: while they are dropped, the kernel waits.
pub(crate) struct Withdrawn {
    calls: Vec<Call>,
    /// Goes when they are gone.
    _lease: Option<Lease>,
}

impl Drop for Withdrawn {
    /// What sees calls end goes last, so that a call that was seen to begin is seen to end: else all that its thread does
    /// later would seem to be inside of it.
    fn drop(&mut self) {
        let is_begin = |it: &Call| it.placement == Placement::Begin;
        let (begins, ends): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.calls).into_iter().partition(is_begin);
        for calls in [begins, ends] {
            leaving::close(calls.into_iter().map(|it| it.link).collect());
        }
    }
}

impl Drop for Probes {
    /// For each probe the kernel waits until no program can be running any more (`perf_event_detach_bpf_prog`,
    /// kernel/trace/bpf_trace.c), a tenth of a second, unless somebody else holds the link too.
    fn drop(&mut self) {
        leaving::close(std::mem::take(&mut self.links));
        leaving::close(std::mem::take(&mut self.calls).into_iter().map(|it| it.link).collect());
    }
}

/// The system calls, by the name of their tracepoints.
const SYSCALLS: [&str; 4] = ["mmap", "munmap", "mremap", "brk"];

impl Probes {
    pub(crate) fn new(programs: Programs, multi: Option<Arc<Multi>>) -> Self {
        Self {
            programs,
            multi,
            exit_sites: ExitSites::new(),
            done: HashSet::new(),
            seen_whole: HashSet::new(),
            links: Vec::new(),
            inherited: Vec::new(),
            calls: Vec::new(),
            leases: HashMap::new(),
        }
    }

    /// Whether one probe sees the calls of a function.
    pub(crate) fn sees_whole(&self, function: &str) -> bool {
        self.seen_whole.contains(function)
    }

    /// Takes the probes in allocator functions out that see `scope`.
    pub(crate) fn withdraw(&mut self, scope: Scope) -> Withdrawn {
        self.done.retain(|(_, it)| *it != scope);
        self.inherited.retain(|it| Some(it.tgid) != scope.tgid());
        self.take_out(|it| it.scope == scope, None)
    }

    /// Takes the probes out of files that somebody waits to write to. When that is dropped they can.
    pub(crate) fn withdraw_unleased(&mut self) -> Vec<Withdrawn> {
        let wanted: Vec<(u32, Lease)> = self.leases.extract_if(|_, it| it.is_wanted_back()).collect();
        let mut take_out = |(object, lease)| {
            self.done.remove(&(object, Scope::Everyone));
            self.take_out(|it| it.object == object && it.scope == Scope::Everyone, Some(lease))
        };
        wanted.into_iter().map(&mut take_out).collect()
    }

    fn take_out(&mut self, is_it: impl Fn(&Call) -> bool, lease: Option<Lease>) -> Withdrawn {
        let (gone, stay) = std::mem::take(&mut self.calls).into_iter().partition(is_it);
        self.calls = stay;
        Withdrawn { calls: gone, _lease: lease }
    }

    /// Whoever wants to write to the file waits until its probes are out.
    fn lease(&mut self, number: u32, object: &Object) {
        let Some(file) = object.file.as_ref().filter(|_| !self.leases.contains_key(&number)) else { return };
        match Lease::take(file) {
            Ok(lease) => drop(self.leases.insert(number, lease)),
            Err(error) => log::debug!("{}: no lease: {error}", object.path),
        }
    }

    /// For probes that come and go with another process.
    pub(crate) fn multi(&self) -> Option<Arc<Multi>> {
        self.multi.clone()
    }

    /// Everything that is not an allocator function.
    ///
    /// # Errors
    /// The tracepoint, and what the kernel said.
    pub(crate) fn attach_tracepoints(&mut self, ebpf: &mut Ebpf, with_faults: bool) -> Result<()> {
        if self.programs != Programs::Trace {
            return Ok(());
        }
        for syscall in SYSCALLS {
            for side in ["enter", "exit"] {
                let tracepoint = format!("sys_{side}_{syscall}");
                self.attach_tracepoint(ebpf, &format!("{side}_{syscall}"), "syscalls", &tracepoint)?;
            }
        }
        self.attach_tracepoint(ebpf, "new_task", "task", "task_newtask")?;
        self.attach_tracepoint(ebpf, "oom_victim", "oom", "mark_victim")?;
        self.attach_raw(ebpf, &[("exec", "sched_process_exec"), ("exit", "sched_process_exit")])?;
        if with_faults { self.attach_faults(ebpf) } else { Ok(()) }
    }

    /// Those of page faults.
    ///
    /// # Errors
    /// As [`Probes::attach_tracepoints`].
    pub(crate) fn attach_faults(&mut self, ebpf: &mut Ebpf) -> Result<()> {
        self.attach_tracepoint(ebpf, "enter_madvise", "syscalls", "sys_enter_madvise")?;
        let resident = ("resident", "rss_stat");
        self.attach_raw(
            ebpf,
            &[resident, ("user_fault", "page_fault_user"), ("kernel_fault", "page_fault_kernel")],
        )
    }

    fn attach_raw(&mut self, ebpf: &mut Ebpf, wanted: &[(&str, &str)]) -> Result<()> {
        for (program, tracepoint) in wanted {
            let probe: &mut RawTracePoint =
                ebpf.program_mut(program).with_context(|| format!("program {program}"))?.try_into()?;
            let id =
                probe.attach(tracepoint).with_context(|| format!("attach to the tracepoint {tracepoint}"))?;
            self.links.push(Box::new(probe.take_link(id)?));
        }
        Ok(())
    }

    /// The functions of one object, once per scope. Returns how many could not be probed, each of which
    /// is also logged.
    pub(crate) fn attach_object(
        &mut self,
        ebpf: &mut Ebpf,
        number: u32,
        object: &Object,
        scope: Scope,
    ) -> u64 {
        let Some(path) = object.held_path() else { return 0 };
        if !object.has_probes() || !self.done.insert((number, scope)) {
            return 0;
        }
        for name in &object.unprobed {
            log::warn!(
                "{name} in {} is not probed: it may throw, and its returns cannot be found",
                object.path
            );
        }
        if scope == Scope::Everyone {
            self.lease(number, object);
        }
        let exit_sites = self.exit_sites.of(object);
        self.seen_whole.extend(exit_sites.iter().cloned());
        match self.attach_together((number, object), &path, scope, &exit_sites) {
            Ok(true) => {
                let placed = |it| Placed::new(object, it, &exit_sites);
                object.functions.iter().for_each(|it| log::debug!("probe: {}", placed(it)));
                return 0;
            }
            Ok(false) => {}
            Err(error) => log::info!("{}: one by one, since {error:#}", object.path),
        }
        let mut failed = 0;
        for probe in raising(object) {
            if let Err(error) = self.attach_uprobe(ebpf, &probe, (number, &path), scope) {
                log::warn!("exceptions in {}: {error:#}", object.path);
                failed += 1;
            }
        }
        // Frees first: in a process that runs, a block whose free is not seen would look like a leak.
        let is_free = |it: &&Function| matches!(it.role, Role::Free);
        let (frees, others): (Vec<_>, Vec<_>) = object.functions.iter().partition(is_free);
        for function in frees.into_iter().chain(others) {
            let mut probes = probes_of(self.programs, function, &exit_sites).into_iter();
            match probes.try_for_each(|it| self.attach_uprobe(ebpf, &it, (number, &path), scope)) {
                Ok(()) => log::debug!("probe: {}", Placed::new(object, function, &exit_sites)),
                Err(error) => {
                    log::warn!("{} in {}: {error:#}", function.name, object.path);
                    failed += 1;
                }
            }
        }
        failed
    }

    /// Probes of single processes, which their children inherit.
    pub(crate) fn inherited(&self) -> &[Places] {
        &self.inherited
    }

    /// Whether the functions of an object are probed in this scope.
    pub(crate) fn has(&self, number: u32, scope: Scope) -> bool {
        self.done.contains(&(number, scope))
    }

    /// All probes of an object, one link for each program. False if there are no such links; an error means that
    /// none of the probes is there.
    fn attach_together(
        &mut self,
        (number, object): (u32, &Object),
        path: &str,
        scope: Scope,
        exit_sites: &[String],
    ) -> Result<bool> {
        let Some(multi) = &self.multi else { return Ok(false) };
        let mut wanted: Vec<(&str, Vec<Point>)> = Vec::new();
        let probes = object.functions.iter().flat_map(|it| probes_of(self.programs, it, exit_sites));
        for Probe { program, offset, cookie } in raising(object).chain(probes) {
            match wanted.iter_mut().find(|(name, _)| *name == program) {
                Some((_, points)) => points.push((offset, cookie)),
                None => wanted.push((program, vec![(offset, cookie)])),
            }
        }
        // As for a single function; and the first may be one that frees.
        wanted.sort_by_key(|(program, _)| {
            !(multi.is_at_return(program) || [EXIT, POOL_EXIT, WHOLE].contains(program))
        });
        let attach = |(program, points): (&str, Vec<Point>)| {
            let link = multi
                .attach(program, path, &points, scope.tgid())
                .with_context(|| format!("attach {program} to {} places", points.len()))?;
            Ok(Call { object: number, scope, placement: placement(program), link: Box::new(link) })
        };
        let inherited = scope.tgid().map(|tgid| {
            let points = wanted.iter().flat_map(|(_, points)| points.clone()).collect();
            Places { tgid, path: path.to_owned(), points }
        });
        let links = wanted.into_iter().map(attach).collect::<Result<Vec<_>>>()?;
        self.inherited.extend(inherited);
        self.calls.extend(links);
        Ok(true)
    }

    fn attach_uprobe(
        &mut self,
        ebpf: &mut Ebpf,
        wanted: &Probe,
        (object, path): (u32, &str),
        scope: Scope,
    ) -> Result<()> {
        let Probe { program, offset, cookie } = *wanted;
        let probe: &mut UProbe =
            ebpf.program_mut(program).with_context(|| format!("program {program}"))?.try_into()?;
        // Where links of many probes were expected to do.
        if probe.fd().is_err() {
            probe.load().with_context(|| format!("load {program}"))?;
        }
        let location = UProbeAttachLocation::AbsoluteOffset(offset);
        let whose = match scope.tgid() {
            Some(tgid) => UProbeScope::OneProcess(NonZero::new(tgid).context("pid 0 is no process")?),
            None => UProbeScope::AllProcesses,
        };
        let id = probe
            .attach(UProbeAttachPoint { location, cookie: Some(cookie) }, path, whose)
            .with_context(|| format!("attach {program} at {offset:#x}"))?;
        let link = Box::new(probe.take_link(id)?);
        self.calls.push(Call { object, scope, placement: placement(program), link });
        Ok(())
    }

    fn attach_tracepoint(
        &mut self,
        ebpf: &mut Ebpf,
        program: &str,
        category: &str,
        name: &str,
    ) -> Result<()> {
        let probe: &mut TracePoint =
            ebpf.program_mut(program).with_context(|| format!("program {program}"))?.try_into()?;
        let id = probe
            .attach(category, name)
            .with_context(|| format!("attach to the tracepoint {category}:{name}"))?;
        self.links.push(Box::new(probe.take_link(id)?));
        Ok(())
    }
}
