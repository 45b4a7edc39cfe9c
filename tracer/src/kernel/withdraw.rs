//! Taking the probes in allocator functions out and putting them back while the run goes on, for whom that costs too much.

use std::{collections::HashSet, thread::JoinHandle};

use tracer_ebpf::{loss::Loss, record::Mapping};

use super::{Kernel, State, Tier, load, probes::Scope};
use crate::event::ProcessId;

/// Whose calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Whose {
    /// Of a process that has probes of its own.
    Process(ProcessId),
    /// Of all: the probes are the same for everybody.
    Everyone,
}

/// Whose calls are not seen now, although they are to be traced.
#[derive(Default)]
pub(super) struct Absent {
    processes: HashSet<ProcessId>,
    everyone: bool,
    /// Page faults are looked at.
    has_faults: bool,
}

impl Absent {
    pub(super) fn has(&self, process: ProcessId) -> bool {
        self.everyone || self.processes.contains(&process)
    }

    pub(super) fn is_everyone(&self) -> bool {
        self.everyone
    }

    pub(super) fn end(&mut self, process: ProcessId) {
        self.processes.remove(&process);
    }
}

impl Kernel {
    /// Whose probes are those that see this process; `None` if it has none.
    pub fn whose(&self, process: ProcessId) -> Option<Whose> {
        let state = &self.state;
        match state.growth.tier {
            Tier::Growth => None,
            Tier::Auto => state.growth.is_escalated(process).then_some(Whose::Process(process)),
            Tier::Exact if state.everyone => Some(Whose::Everyone),
            Tier::Exact => Some(Whose::Process(process)),
        }
    }

    /// Whether processes that are not traced meet the probes too.
    pub fn is_met_by_others(&self) -> bool {
        self.state.everyone
    }

    /// Takes the probes out. When the thread has ended nothing more is reported; until then some is.
    pub fn withdraw(&mut self, whose: Whose) -> JoinHandle<()> {
        let state = &mut self.state;
        match whose {
            Whose::Everyone => {
                state.absent.everyone = true;
                let gone = state.probes.withdraw(Scope::Everyone);
                std::thread::spawn(move || drop(gone))
            }
            Whose::Process(process) => {
                state.absent.processes.insert(process);
                let scope = state.arrivals.tgid(process).map(Scope::Process);
                let gone = scope.map(|it| state.probes.withdraw(it));
                let closer = scope.and_then(|it| Some(state.growth.probes_of(process)?.withdraw(it)));
                std::thread::spawn(move || drop((gone, closer)))
            }
        }
    }

    /// Puts the probes back in: what was allocated meanwhile is not known.
    pub fn restore(&mut self, whose: Whose) {
        let state = &mut self.state;
        match whose {
            Whose::Everyone => {
                state.absent.everyone = false;
                for (number, object) in state.objects.iter() {
                    let failed = state.probes.attach_object(&mut state.ebpf, number, object, Scope::Everyone);
                    state.counted.add(Loss::FailedProbes, failed);
                }
            }
            Whose::Process(process) => {
                state.absent.processes.remove(&process);
                let Some(tgid) = state.arrivals.tgid(process) else { return };
                let Ok(numbers) = state.objects.of_process(tgid, &mut state.counted) else { return };
                for number in numbers {
                    state.probe_one(number, tgid, process);
                }
            }
        }
    }

    /// Takes the probes out of files that somebody waits to write to.
    pub fn yield_files(&mut self) {
        for gone in self.state.probes.withdraw_unleased() {
            std::thread::spawn(move || drop(gone));
        }
    }

    /// Follows page faults from now on, so that what is not seen otherwise is at least known by samples. False if this
    /// kernel does not tell of them.
    pub fn watch_pages(&mut self) -> bool {
        let state = &mut self.state;
        if state.absent.has_faults || state.growth.tier != Tier::Exact {
            return true;
        }
        if !state.can_watch_pages {
            return false;
        }
        let watched = state
            .members
            .sample_faults(load::fault_every())
            .and_then(|()| state.probes.attach_faults(&mut state.ebpf));
        if let Err(error) = &watched {
            log::warn!("follow page faults: {error:#}");
        }
        state.absent.has_faults = watched.is_ok();
        watched.is_ok()
    }
}

impl State {
    fn probe_one(&mut self, number: u32, tgid: u32, process: ProcessId) {
        let Some(object) = self.objects.get(number) else { return };
        let probes = match self.growth.probes_of(process) {
            Some(probes) => probes,
            None => &mut self.probes,
        };
        let failed = probes.attach_object(&mut self.ebpf, number, object, Scope::Process(tgid));
        self.counted.add(Loss::FailedProbes, failed);
    }

    /// Whether what a process has mapped gets no probes for now.
    pub(super) fn is_absent(&self, record: &Mapping) -> bool {
        self.absent.has(ProcessId(record.head.process))
    }
}
