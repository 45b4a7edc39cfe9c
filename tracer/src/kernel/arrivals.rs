//! Processes that come: found running, forked, or become something else. What is known of each, and which probes it
//! needs that are not there yet.

use std::collections::{HashMap, HashSet};

use tracer_ebpf::{
    loss::Loss,
    mapping::PROCESS_TRACED,
    record::{Exec, Mapping},
};

use super::{
    Settings, State, Target, Tier,
    cgroup::Hierarchy,
    probes::Scope,
    process::{self, Description},
    selection::{self, Selection},
};
use crate::event::{Event, ProcessId};

/// Processes with probes of their own at most. Whoever calls a probed function runs through the links of all, each of
/// which costs it some 25 ns; at thirty that is more than the trap, and one link for everybody is cheaper for all.
const MAX_FILTERED: usize = 30;

/// How often the list of processes is read at the start, each time for those that were forked while the last one was
/// read. A process forks no faster than the list is read, so that the second time is mostly the last.
const SWEEPS: u32 = 8;

impl Target {
    pub(super) fn hierarchy(&self) -> Option<&Hierarchy> {
        match self {
            Self::Selected(Selection::Groups(groups)) => Some(&groups.hierarchy),
            _ => None,
        }
    }
}

impl Settings {
    /// Whose calls the probes see.
    pub(super) fn scopes(&self) -> Vec<Scope> {
        match &self.target {
            // A child must not run a single instruction without them.
            _ if self.tier != Tier::Exact => Vec::new(),
            _ if self.follow => vec![Scope::Everyone],
            Target::Selected(_) => vec![Scope::Everyone],
            Target::Processes(tgids) if tgids.len() > MAX_FILTERED => vec![Scope::Everyone],
            Target::Processes(tgids) => tgids.iter().map(|it| Scope::Process(*it)).collect(),
            Target::Launched { tgid, .. } => vec![Scope::Process(*tgid)],
        }
    }
}

#[derive(Default)]
pub(super) struct Arrivals {
    selection: Option<Selection>,
    /// What is known of the processes that live.
    known: HashMap<ProcessId, Known>,
    /// Found running, and not yet handed out.
    begun: Vec<ProcessId>,
    /// Described anew, and not yet handed out.
    described: Vec<(ProcessId, Description)>,
    /// When the probes of an object were in place.
    probed_ns: HashMap<u32, u64>,
}

struct Known {
    tgid: u32,
    description: Description,
    /// Allocators for which this process came too early, each of which is counted once.
    late: HashSet<u32>,
}

impl Arrivals {
    pub(super) fn begin(&mut self, process: ProcessId, tgid: u32) {
        self.begun.push(process);
        self.know(process, tgid, process::describe(tgid));
    }

    fn know(&mut self, process: ProcessId, tgid: u32, description: Description) {
        self.described.push((process, description.clone()));
        self.known.insert(process, Known { tgid, description, late: HashSet::new() });
    }

    pub(super) fn end(&mut self, process: ProcessId) {
        self.known.remove(&process);
    }

    pub(super) fn tgid(&self, process: ProcessId) -> Option<u32> {
        self.known.get(&process).map(|it| it.tgid)
    }

    pub(super) fn take_begun(&mut self, time_ns: u64) -> Vec<Event> {
        let mut begun = std::mem::take(&mut self.begun);
        begun.sort_unstable();
        let event = |process| {
            let known = self.known.get(&process)?;
            let (tgid, name) = (known.tgid, known.description.name.as_str().into());
            Some(Event::Begin { process, time_ns, tgid, name, break_end: process::break_end(tgid) })
        };
        begun.into_iter().filter_map(event).collect()
    }

    pub(super) fn take_descriptions(&mut self) -> Vec<(ProcessId, Description)> {
        std::mem::take(&mut self.described)
    }

    pub(super) fn expects_more(&self) -> bool {
        self.selection.is_some()
    }
}

impl State {
    /// Takes in whoever is selected, now and from now on.
    pub(super) fn select(&mut self, selection: &Selection) -> anyhow::Result<()> {
        self.members.select(selection)?;
        self.arrivals.selection = Some(selection.clone());
        for _ in 0..SWEEPS {
            if self.sweep() == 0 {
                break;
            }
        }
        Ok(())
    }

    pub(super) fn look_for_more(&mut self) {
        if let Some(selection) = &self.arrivals.selection {
            self.members.renew(selection);
            let late = self.sweep();
            self.counted.add(Loss::LateProcesses, late);
        }
        let inherited = self.probes.inherited().iter().chain(self.growth.inherited());
        self.children.clear(self.probes.multi(), inherited);
    }

    /// Begins those that run and are not traced. Returns how many there were.
    fn sweep(&mut self) -> u64 {
        let Some(selection) = &self.arrivals.selection else { return 0 };
        let known: HashSet<u32> = self.arrivals.known.values().map(|it| it.tgid).collect();
        let strangers =
            selection.running().into_iter().filter(|it| !known.contains(it) && selection::is_traceable(*it));
        strangers.collect::<Vec<_>>().into_iter().filter(|it| self.begin_running(*it)).count() as u64
    }

    fn begin_running(&mut self, tgid: u32) -> bool {
        let process = match self.members.add(tgid, PROCESS_TRACED) {
            Ok(Some(process)) => process,
            Ok(None) => return false,
            Err(error) => {
                log::warn!("trace process {tgid}: {error:#}");
                return false;
            }
        };
        // Had it ended before it was put in, its end would never be reported.
        if !selection::is_traceable(tgid) {
            self.members.remove(tgid, process);
            return false;
        }
        self.arrivals.begin(process, tgid);
        for number in self.objects.add_running(tgid, &mut self.counted) {
            self.probe(number, Scope::Everyone);
        }
        self.objects.begin_process(process, tgid);
        true
    }

    /// Places the probes of an object that came into view just now.
    fn probe(&mut self, number: u32, scope: Scope) {
        let Some(object) = self.objects.get(number) else { return };
        let is_absent = scope == Scope::Everyone && self.absent.is_everyone();
        if !object.has_probes() || self.growth.tier != Tier::Exact || is_absent {
            return;
        }
        let failed = self.probes.attach_object(&mut self.ebpf, number, object, scope);
        self.counted.add(Loss::UnprobedFunctions, object.unprobed.len() as u64);
        self.counted.add(Loss::FailedProbes, failed);
        if scope == Scope::Everyone {
            self.arrivals.probed_ns.insert(number, super::now_ns());
        }
    }

    /// A process has mapped an object, which is `new` to all or not.
    pub(super) fn probe_mapped(&mut self, record: &Mapping, new: Option<u32>) {
        if self.is_absent(record) {
            return;
        }
        if self.growth.tier != Tier::Exact {
            return self.probe_escalated(record);
        }
        let process = ProcessId(record.head.process);
        let number = record.object;
        let Some(object) = self.objects.get(number).filter(|it| it.has_probes()) else { return };
        let is_allocator = !object.functions.is_empty();
        let Some(tgid) = self.arrivals.known.get(&process).map(|it| it.tgid) else { return };
        if self.everyone && new.is_some() {
            self.probe(number, Scope::Everyone);
        } else if !self.everyone {
            // Each has probes of its own. They may be there from the beginning.
            let scope = Scope::Process(tgid);
            if self.probes.has(number, scope) {
                return;
            }
            self.probe(number, scope);
        }
        let in_time = self.everyone
            && self.arrivals.probed_ns.get(&number).is_none_or(|probed_ns| *probed_ns < record.head.time_ns);
        if let Some(known) = self.arrivals.known.get_mut(&process)
            && !in_time
            && is_allocator
            && known.late.insert(number)
        {
            self.counted.add(Loss::LateProbes, 1);
            let delay_us = super::now_ns().saturating_sub(record.head.time_ns) / 1000;
            log::debug!(
                "late: process {tgid} had mapped object {number} {delay_us} µs before its probes were there"
            );
        }
    }

    pub(super) fn fork(
        &mut self,
        parent: Option<ProcessId>,
        time_ns: u64,
        child: ProcessId,
        child_tgid: u32,
        copied: bool,
    ) -> Event {
        // It is what its parent is, and may be gone already.
        let description = parent
            .and_then(|it| self.arrivals.known.get(&it))
            .map(|it| it.description.clone())
            .unwrap_or_default();
        let name = description.name.as_str().into();
        self.arrivals.know(child, child_tgid, description);
        match parent {
            // Of the allocator of a copy nothing is seen, so that it has to begin with nothing.
            Some(process) if copied && !self.growth.is_escalated(process) => {
                self.objects.fork_process(process, child, child_tgid);
                Event::Fork { process, time_ns, child, child_tgid }
            }
            Some(process) => Event::Spawn { process, time_ns, child, child_tgid },
            None => Event::Begin { process: child, time_ns, tgid: child_tgid, name, break_end: None },
        }
    }

    /// A process has become another program. What `/proc` does not tell any more, because it is gone, the record does.
    pub(super) fn exec(&mut self, record: &Exec) {
        let (process, tgid) = (ProcessId(record.head.process), record.tgid);
        self.objects.exec_process(process, tgid);
        if self.everyone && self.objects.get(record.object).is_none() {
            for number in self.objects.foresee(tgid, &mut self.counted) {
                self.probe(number, Scope::Everyone);
            }
        }
        let mut description = process::describe(tgid);
        if description.command.is_empty() {
            let bytes = &record.arguments[..(record.argument_bytes as usize).min(record.arguments.len())];
            let words = bytes.split(|it| *it == 0).filter(|it| !it.is_empty());
            description.command = words.map(String::from_utf8_lossy).collect::<Vec<_>>().join(" ");
        }
        if description.exe.is_empty() {
            description.exe = self.objects.path(record.object).unwrap_or_default();
            // What has ended belongs to no group any more; it was in its parent's.
            if let Some(before) = self.arrivals.known.get(&process) {
                description.cgroup.clone_from(&before.description.cgroup);
                description.limit_bytes = before.description.limit_bytes;
            }
        }
        self.arrivals.know(process, tgid, description);
    }
}
