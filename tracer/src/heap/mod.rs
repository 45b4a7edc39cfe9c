//! The state of every traced process: events in, an [`Interval`] of what changed out.
//!
//! Pure and synchronous: no clock, no file, no kernel, and it cannot fail. Odd events are counted as
//! a [`Loss`]; time is what the events say.
//!
//! An event of a process that has not begun, or has ended, is [`Loss::MalformedRecords`]. A process
//! that has ended is in one more interval and is then forgotten, so that memory follows what lives.

mod births;
mod blocks;
mod cohorts;
mod mappings;
mod process;
mod residents;
mod sites;
mod stacks;
mod table;
mod tally;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use rustc_hash::{FxHashMap, FxHashSet};

pub use self::blocks::LiveBlock;
use self::{
    births::Births,
    mappings::Range,
    process::{Context, Process},
    sites::Site,
    stacks::Stacks,
    tally::{told, told_in_turn},
};
use crate::{
    cost::Cost,
    event::{Event, Loss, ProcessId, StackKey, Via},
    interval::{Cohort, Interval, Losses, ProcessState, SiteId, SiteState, StackId},
};

/// All processes of a run.
pub struct Heap {
    births: Births,
    stacks: Stacks,
    losses: Losses,
    processes: Vec<Process>,
    /// Where a process is in `processes`.
    places: FxHashMap<ProcessId, usize>,
    /// The place of the process of the last event: the next is mostly of the same.
    last_place: usize,
    next_site: u32,
    events: u64,
    /// Of every process.
    is_sampled: bool,
    /// Bytes by which block tables may still grow.
    room: usize,
}

impl Heap {
    /// Times are counted from `started_ns`; ages are known to the calls of [`Heap::interval`].
    pub fn new(started_ns: u64) -> Self {
        Self {
            births: Births::new(started_ns),
            stacks: Stacks::default(),
            losses: Losses::default(),
            processes: Vec::new(),
            places: FxHashMap::default(),
            last_place: 0,
            next_site: 0,
            events: 0,
            room: usize::MAX,
            is_sampled: false,
        }
    }

    /// From now on not all blocks of any process are reported: their frees are told apart from unknown ones.
    pub fn sample_all(&mut self) {
        self.is_sampled = true;
        self.processes.iter_mut().for_each(|it| it.is_sampled = true);
    }

    /// The same, of one process and of the children that it will have. The first block that was sampled says so too.
    pub fn sample(&mut self, process: ProcessId) {
        if let Some(process) = self.places.get(&process).and_then(|it| self.processes.get_mut(*it)) {
            process.is_sampled = true;
        }
    }

    /// For a run without an end: nothing is kept that only what has ended needed, and whoever keeps intervals may forget
    /// stacks whose sites it forgets. Of blocks that are hours old the births are told to a minute. To be called first.
    pub fn keep_lean(&mut self) {
        self.stacks.keep_lean();
        self.births.keep_lean();
    }

    /// Forgets the stacks of processes that have ended, if there are many. Returns the keys under which whoever reports
    /// stacks must report them again.
    pub fn forget_stacks(&mut self) -> Vec<StackKey> {
        if !self.stacks.are_many() {
            return Vec::new();
        }
        let in_use: FxHashSet<StackId> = self.processes.iter().flat_map(|it| it.sites.stacks()).collect();
        self.stacks.forget(&in_use)
    }

    /// Folds one event into the state. Events come in the order of their times, except as
    /// [`Event::Realloc`] says.
    pub fn apply(&mut self, event: &Event) {
        self.events += 1;
        match *event {
            Event::Alloc { process, time_ns, via, address, size_bytes, stack, rate } => {
                self.with(process, time_ns, |it, cx| it.alloc(address, size_bytes, rate, via, stack, cx));
            }
            Event::Free { process, time_ns, address, thread } => {
                self.with(process, time_ns, |it, cx| it.free(address, thread, cx.time_ns));
            }
            Event::Enclosed { process, time_ns, old_address, address } => {
                self.with(process, time_ns, |it, cx| it.enclose(old_address, address, cx.room));
            }
            Event::EmptyCache { process, time_ns, thread, since_ns } => {
                self.with(process, time_ns, |it, _| it.empty_cache(thread, since_ns));
            }
            Event::Realloc {
                process,
                time_ns,
                via,
                old_address,
                address,
                size_bytes,
                stack,
                started_ns,
                rate,
            } => {
                self.with(process, time_ns, |it, cx| {
                    if old_address != 0 {
                        it.give_up(old_address, started_ns);
                    }
                    if address != 0 {
                        it.alloc(address, size_bytes, rate, via, stack, cx);
                    }
                });
            }
            Event::Stack { key, stop, ref frames } => {
                self.stacks.insert(key, stop, frames, &mut self.losses);
            }
            Event::Map { process, time_ns, address, size_bytes, stack, nested } => {
                let range = Range::pages(address, size_bytes);
                self.with(process, time_ns, |it, cx| it.map(range, Via::Mmap, stack, nested, cx));
            }
            Event::Unmap { process, time_ns, address, size_bytes, nested } => {
                let range = Range::pages(address, size_bytes);
                self.with(process, time_ns, |it, _| it.unmap(range, nested));
            }
            Event::Remap {
                process,
                time_ns,
                old_address,
                old_size_bytes,
                address,
                size_bytes,
                stack,
                nested,
            } => {
                let old = Range::pages(old_address, old_size_bytes);
                let new = Range::pages(address, size_bytes);
                self.with(process, time_ns, |it, cx| it.remap(old, new, stack, nested, cx));
            }
            Event::Touch { process, time_ns, address, page_bytes, every, stack } => {
                self.with(process, time_ns, |it, cx| it.touch(address, page_bytes, every, stack, cx));
            }
            Event::Discard { process, time_ns, address, size_bytes } => {
                let range = Range::pages(address, size_bytes);
                self.with(process, time_ns, |it, _| it.discard(range));
            }
            Event::Break { process, time_ns, end, stack, nested } => {
                self.with(process, time_ns, |it, cx| it.set_break(end, stack, nested, cx));
            }
            Event::Begin { process, time_ns, tgid, ref name, break_end } => {
                self.births.latest_ns = self.births.latest_ns.max(time_ns);
                self.begin(Process::new(process, tgid, Arc::clone(name), time_ns, break_end));
            }
            Event::Exec { process, time_ns, ref name } => {
                self.with(process, time_ns, |it, cx| it.exec(Arc::clone(name), cx.losses));
            }
            Event::Fork { process, time_ns, child, child_tgid } => {
                let mut copy = None;
                self.with(process, time_ns, |it, cx| copy = Some(it.fork(child, child_tgid, cx)));
                if let Some(child) = copy {
                    self.begin(child);
                }
            }
            Event::Spawn { process, time_ns, child, child_tgid } => {
                let mut made = None;
                self.with(process, time_ns, |it, _| made = Some(it.spawn(child, child_tgid, time_ns)));
                if let Some(child) = made {
                    self.begin(child);
                }
            }
            Event::Leave { process, time_ns, how } => {
                self.with(process, time_ns, |it, cx| it.leave(time_ns, how, cx.losses));
            }
            Event::Exit { process, time_ns, status } => {
                self.with(process, time_ns, |it, cx| it.exit(time_ns, status, cx.losses));
            }
            Event::Unfollow { process, time_ns } => {
                self.with(process, time_ns, |it, cx| it.unfollow(cx.losses));
            }
            Event::Relax { process, time_ns } => self.with(process, time_ns, |it, _| it.relax()),
            Event::Oom { process, time_ns, .. } => {
                self.with(process, time_ns, |it, _| it.choose_for_oom());
            }
        }
    }

    /// What changed since this was called last. Counters, losses too, are totals since the start;
    /// the losses are those of user space.
    pub fn interval(&mut self, time_ns: u64) -> Interval {
        self.births.end(time_ns);
        let mut sites = Vec::new();
        for process in &mut self.processes {
            process.settle(self.births.latest_ns, &mut self.losses);
            let id = process.id;
            process.sites.take_changed(|site| {
                let site_id = *site.id.get_or_insert_with(|| {
                    self.stacks.tell_of(site.stack);
                    self.next_site += 1;
                    SiteId(self.next_site - 1)
                });
                sites.push(site_state(site_id, id, site, &self.births));
            });
        }
        let processes = self.processes().collect();
        self.processes.retain(|it| it.ended.is_none());
        self.places = self.processes.iter().enumerate().map(|(place, it)| (it.id, place)).collect();
        Interval { time_ns, stacks: self.stacks.take_fresh(), processes, sites, losses: self.losses }
    }

    /// What is live in the processes that live.
    pub fn live(&self) -> Cost {
        self.processes.iter().filter(|it| it.ended.is_none()).map(|it| told(it.live)).sum()
    }

    /// Every process that lives, or has ended since the last interval.
    pub fn processes(&self) -> impl Iterator<Item = ProcessState> + '_ {
        self.processes.iter().map(Process::state)
    }

    /// All events so far.
    pub fn events(&self) -> u64 {
        self.events
    }

    /// Losses of user space so far.
    pub fn losses(&self) -> &Losses {
        &self.losses
    }

    /// Bytes of the tables that grow with the number of live blocks.
    pub fn table_bytes(&self) -> usize {
        self.processes.iter().map(Process::table_bytes).sum()
    }

    /// From now on the tables of live blocks take `table_bytes` at most, or what they take already. Blocks that find no
    /// room then are [`Loss::UntrackedBlocks`].
    pub fn bound(&mut self, table_bytes: usize) {
        self.room = table_bytes.saturating_sub(self.table_bytes());
    }

    fn begin(&mut self, mut process: Process) {
        process.is_sampled |= self.is_sampled;
        if self.places.contains_key(&process.id) {
            self.losses.add(Loss::MalformedRecords, 1);
            return;
        }
        self.places.insert(process.id, self.processes.len());
        self.processes.push(process);
    }

    /// Calls `change` with a process that lives, and counts an event for any other.
    #[inline]
    fn with(&mut self, id: ProcessId, time_ns: u64, change: impl FnOnce(&mut Process, &mut Context)) {
        self.births.latest_ns = self.births.latest_ns.max(time_ns);
        let birth = self.births.current();
        if self.processes.get(self.last_place).is_none_or(|it| it.id != id) {
            self.last_place = self.places.get(&id).copied().unwrap_or(usize::MAX);
        }
        match self.processes.get_mut(self.last_place) {
            Some(process) if process.ended.is_none() => {
                let (stacks, losses, room) = (&mut self.stacks, &mut self.losses, &mut self.room);
                change(process, &mut Context { time_ns, birth, stacks, losses, room });
            }
            _ => self.losses.add(Loss::MalformedRecords, 1),
        }
    }
}

fn site_state(id: SiteId, process: ProcessId, site: &Site, births: &Births) -> SiteState {
    let (allocated, freed) = (told(site.allocated), told(site.freed));
    let live: Vec<Cost> = site.cohorts.iter().map(|it| it.live).collect();
    let live = told_in_turn(allocated - freed, live.into_iter());
    let cohorts = site.cohorts.iter().zip(live).map(|(it, live)| Cohort {
        from_ns: births.start_ns(it.first),
        to_ns: births.end_ns(it.last),
        live,
    });
    SiteState {
        id,
        process,
        kind: site.origin.kind,
        via: site.origin.via,
        stack: site.stack,
        allocated,
        freed,
        peak_bytes: site.peak_bytes,
        reused_bytes: site.reused_bytes,
        samples: site.samples.as_ref().map(|it| it.state()).unwrap_or_default(),
        cohorts: cohorts.collect(),
    }
}
