//! The growth tier: what is known of processes whose allocator is not traced, and those that are traced more closely after
//! all.

use std::{collections::HashMap, thread::JoinHandle};

use tracer_ebpf::{
    loss::Loss,
    record::{Mapping, mix},
};

use super::{
    Kernel, State, Tier,
    children::Places,
    pages::{PAGE_BYTES, Pages},
    probes::{Probes, Programs, Scope},
};
use crate::event::{Event, ProcessId};

pub(super) struct Growth {
    pub(super) tier: Tier,
    escalated: HashMap<ProcessId, Escalated>,
    pages: Pages,
}

/// A process whose allocator is traced since it runs.
struct Escalated {
    tgid: u32,
    probes: Probes,
}

/// Whether a process can be traced more closely.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Escalation {
    Done,
    /// No file of it defines the functions of an allocator.
    NoAllocator {
        is_go: bool,
    },
    /// It has ended.
    Gone,
}

impl Growth {
    pub(super) fn new(tier: Tier) -> Self {
        Self { tier, escalated: HashMap::new(), pages: Pages::new() }
    }

    pub(super) fn escalated(&self) -> usize {
        self.escalated.len()
    }

    /// Probes that children inherit.
    pub(super) fn inherited(&self) -> impl Iterator<Item = &Places> {
        self.escalated.values().flat_map(|it| it.probes.inherited())
    }

    /// The probes of a process that is traced more closely.
    pub(super) fn probes_of(&mut self, process: ProcessId) -> Option<&mut Probes> {
        self.escalated.get_mut(&process).map(|it| &mut it.probes)
    }

    pub(super) fn is_escalated(&self, process: ProcessId) -> bool {
        self.escalated.contains_key(&process)
    }

    /// A process has ended: its probes go.
    pub(super) fn end(&mut self, process: ProcessId) {
        if let Some(escalated) = self.escalated.remove(&process) {
            // The kernel takes its time for that, and the ring fills meanwhile.
            std::thread::spawn(move || drop(escalated));
        }
    }
}

impl Kernel {
    /// Traces the allocator of a process that runs and is traced less closely so far. What it allocated before is not
    /// known: frees of that are unknown ones.
    pub fn escalate(&mut self, process: ProcessId) -> Escalation {
        self.state.escalate(process)
    }

    /// Traces a process as all the others again. When the thread has ended nothing more of its allocator is reported; then it
    /// may be traced more closely again. `None` if it was not.
    pub fn relax(&mut self, process: ProcessId) -> Option<JoinHandle<()>> {
        let mut escalated = self.state.growth.escalated.remove(&process)?;
        self.state.absent.end(process);
        let gone = escalated.probes.withdraw(Scope::Process(escalated.tgid));
        // In turn: what sees calls end goes last.
        Some(std::thread::spawn(move || {
            drop(gone);
            drop(escalated);
        }))
    }

    /// How many processes are traced more closely than the others.
    pub fn escalated(&self) -> usize {
        self.state.growth.escalated()
    }
}

impl State {
    /// Traces the allocator of a process that runs and is traced less closely so far. What it allocated before is not
    /// known: frees of that are unknown ones.
    pub(super) fn escalate(&mut self, process: ProcessId) -> Escalation {
        let Some(tgid) = self.arrivals.tgid(process) else { return Escalation::Gone };
        let Ok(numbers) = self.objects.of_process(tgid, &mut self.counted) else { return Escalation::Gone };
        let objects = || numbers.iter().filter_map(|it| Some((*it, self.objects.get(*it)?)));
        if objects().all(|(_, it)| it.functions.is_empty()) {
            return Escalation::NoAllocator { is_go: objects().any(|(_, it)| it.is_go) };
        }
        let mut probes = Probes::new(Programs::Trace, self.probes.multi());
        for (number, object) in objects() {
            let failed = probes.attach_object(&mut self.ebpf, number, object, Scope::Process(tgid));
            self.counted.add(Loss::FailedProbes, failed);
        }
        self.growth.escalated.insert(process, Escalated { tgid, probes });
        Escalation::Done
    }

    /// A process has mapped an object: if its allocator is traced, so is that in the object.
    pub(super) fn probe_escalated(&mut self, record: &Mapping) {
        let process = ProcessId(record.head.process);
        if let Some(Escalated { tgid, probes }) = self.growth.escalated.get_mut(&process)
            && let Some(object) = self.objects.get(record.object)
        {
            let scope = Scope::Process(*tgid);
            let failed = probes.attach_object(&mut self.ebpf, record.object, object, scope);
            self.counted.add(Loss::FailedProbes, failed);
        }
    }

    /// Says how large the touched page is. A large page goes away by parts: any of its small pages may stand for it.
    pub(super) fn measure(&mut self, event: &mut Event) {
        let Event::Touch { process, time_ns, ref mut address, ref mut page_bytes, .. } = *event else {
            return;
        };
        let found = self.arrivals.tgid(process).and_then(|tgid| self.growth.pages.at(tgid, *address));
        match found {
            Some((start, bytes)) => {
                *address = start + mix(0, time_ns) % (bytes / PAGE_BYTES) * PAGE_BYTES;
                *page_bytes = bytes;
            }
            None => self.counted.add(Loss::UnsizedPages, 1),
        }
    }
}
