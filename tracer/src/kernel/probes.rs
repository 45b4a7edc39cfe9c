//! Places the probes: allocator functions by uprobes, system calls and process life by tracepoints.

use std::{collections::HashSet, fmt, num::NonZero, sync::Mutex};

use anyhow::{Context as _, Result};
use aya::{
    Ebpf,
    programs::{
        RawTracePoint, TracePoint, UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope},
    },
};

use super::{
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

/// Which programs: the tracer's own, or the empty ones that show what the trap alone costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Programs {
    Trace,
    Floor,
}

/// Attaches, and knows what is attached.
pub(crate) struct Probes {
    programs: Programs,
    /// For probes that everyone meets, where the kernel has such links.
    multi: Option<Multi>,
    done: HashSet<(u32, Scope)>,
    /// Each takes its probe out of the kernel when it is dropped.
    links: Vec<Box<dyn Send>>,
}

/// Threads that take probes out at the same time.
const DETACHING_THREADS: usize = 64;

impl Drop for Probes {
    /// For each probe the kernel waits until no program can be running any more (`perf_event_detach_bpf_prog`,
    /// kernel/trace/bpf_trace.c), a tenth of a second; the waits of several threads overlap.
    fn drop(&mut self) {
        let links = Mutex::new(std::mem::take(&mut self.links));
        let next = || links.lock().ok()?.pop();
        std::thread::scope(|scope| {
            for _ in 0..DETACHING_THREADS {
                scope.spawn(|| while next().is_some() {});
            }
        });
    }
}

/// A probe site, for the user.
struct Placed {
    path: String,
    function: String,
    offset: u64,
    instruction: String,
    single_step: bool,
}

impl Placed {
    fn new(object: &Object, function: &Function) -> Self {
        Self {
            path: object.path.clone(),
            function: function.name.to_string(),
            offset: function.site_offset(),
            instruction: function.site.instruction.clone(),
            single_step: function.site.is_single_step(),
        }
    }
}

impl fmt::Display for Placed {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let class = if self.single_step { "single-stepped: about ten times as dear" } else { "emulated" };
        let Self { path, function, offset, instruction, .. } = self;
        write!(out, "{function} in {path} at {offset:#x}: {instruction} ({class})")
    }
}

/// What a function needs. The return first: an entry without a return would look like a call that never ends. At the same
/// instruction, where the return address is still on top of the stack, so that one trap serves both.
fn programs_of(programs: Programs, role: Role) -> &'static [&'static str] {
    match (programs, role) {
        (Programs::Trace, Role::Alloc) => &["leave", "enter"],
        (Programs::Trace, Role::Free) => &["free"],
        (Programs::Floor, Role::Alloc) => &["floor_leave", "floor_enter"],
        (Programs::Floor, Role::Free) => &["floor_enter"],
    }
}

/// The system calls, by the name of their tracepoints.
const SYSCALLS: [&str; 4] = ["mmap", "munmap", "mremap", "brk"];

impl Probes {
    pub(crate) fn new(programs: Programs, multi: Option<Multi>) -> Self {
        Self { programs, multi, done: HashSet::new(), links: Vec::new() }
    }

    /// Everything that is not an allocator function.
    ///
    /// # Errors
    /// The tracepoint, and what the kernel said.
    pub(crate) fn attach_tracepoints(&mut self, ebpf: &mut Ebpf) -> Result<()> {
        if self.programs == Programs::Floor {
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
        for (program, tracepoint) in [("exec", "sched_process_exec"), ("exit", "sched_process_exit")] {
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
        if object.functions.is_empty() || !self.done.insert((number, scope)) {
            return 0;
        }
        if scope == Scope::Everyone {
            match self.attach_together(&object.functions, &path) {
                Ok(true) => {
                    object.functions.iter().for_each(|it| log::debug!("probe: {}", Placed::new(object, it)));
                    return 0;
                }
                Ok(false) => {}
                Err(error) => log::info!("{}: one by one, since {error:#}", object.path),
            }
        }
        let mut failed = 0;
        for function in &object.functions {
            match self.attach_function(ebpf, function, &path, scope) {
                Ok(()) => log::debug!("probe: {}", Placed::new(object, function)),
                Err(error) => {
                    log::warn!("{} in {}: {error:#}", function.name, object.path);
                    failed += 1;
                }
            }
        }
        failed
    }

    /// All functions of an object, one link for each program. False if there are no such links; an error means that
    /// none of the probes is there.
    fn attach_together(&mut self, functions: &[Function], path: &str) -> Result<bool> {
        let Some(multi) = &self.multi else { return Ok(false) };
        let mut wanted: Vec<(&str, Vec<Point>)> = Vec::new();
        for function in functions {
            let point = (function.site_offset(), function.cookie().0);
            for program in programs_of(self.programs, function.role) {
                match wanted.iter_mut().find(|(name, _)| name == program) {
                    Some((_, points)) => points.push(point),
                    None => wanted.push((program, vec![point])),
                }
            }
        }
        // The first function may be one that frees.
        wanted.sort_by_key(|(program, _)| !multi.is_at_return(program));
        let attach = |(program, points): (&str, Vec<Point>)| {
            multi
                .attach(program, path, &points)
                .with_context(|| format!("attach {program} to {} places", points.len()))
        };
        let links = wanted.into_iter().map(attach).collect::<Result<Vec<_>>>()?;
        self.links.extend(links.into_iter().map(|it| Box::new(it) as Box<dyn Send>));
        Ok(true)
    }

    fn attach_function(
        &mut self,
        ebpf: &mut Ebpf,
        function: &Function,
        path: &str,
        scope: Scope,
    ) -> Result<()> {
        programs_of(self.programs, function.role)
            .iter()
            .try_for_each(|program| self.attach_uprobe(ebpf, program, function, path, scope))
    }

    fn attach_uprobe(
        &mut self,
        ebpf: &mut Ebpf,
        program: &str,
        function: &Function,
        path: &str,
        scope: Scope,
    ) -> Result<()> {
        let probe: &mut UProbe =
            ebpf.program_mut(program).with_context(|| format!("program {program}"))?.try_into()?;
        // Where links of many probes were expected to do.
        if probe.fd().is_err() {
            probe.load().with_context(|| format!("load {program}"))?;
        }
        let location = UProbeAttachLocation::AbsoluteOffset(function.site_offset());
        let scope = match scope {
            Scope::Process(tgid) => {
                UProbeScope::OneProcess(NonZero::new(tgid).context("pid 0 is no process")?)
            }
            Scope::Everyone => UProbeScope::AllProcesses,
        };
        let cookie = Some(function.cookie().0);
        let id = probe.attach(UProbeAttachPoint { location, cookie }, path, scope).with_context(|| {
            format!("attach {program} to {} at {:#x}", function.name, function.site_offset())
        })?;
        self.links.push(Box::new(probe.take_link(id)?));
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
