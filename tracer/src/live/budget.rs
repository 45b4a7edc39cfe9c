//! What tracing costs each process, and what is done to stay within `--max-overhead`.

mod words;

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Result;

use super::{
    Recorder,
    account::{Account, Used},
    governor::{Governor, Step},
    learning::Learning,
    spent::{Level, Spent},
    tally::{Calls, Tally},
};
use crate::{
    estimate::Rate,
    event::{Event, Loss, ProcessId},
    heap::Heap,
    kernel::{self, Kernel, Whose},
};

/// At which rate allocations are sampled if the user has given none.
pub(super) const SAMPLED: Rate = Rate::of_shift(16);

/// For probes on their way out: hardly any allocation is reported.
const LEAVING: Rate = Rate::of_shift(31);

/// How often it is judged. What makes a program three times as slow goes on for that long.
pub(super) const JUDGE: Duration = Duration::from_millis(50);

/// How long a look takes at what following would cost, and how long at most, if the process does hardly anything.
const LOOK_NS: u64 = 20_000_000;
const LONGEST_LOOK_NS: u64 = 1_000_000_000;

/// Keeps the accounts of a run.
pub(super) struct Budget {
    limit: Option<f64>,
    /// On standard error too, and not only in the recording.
    pub(super) says_so: bool,
    /// At which allocations are sampled, if they are, and how closely it is looked at most.
    rate: Rate,
    finest: Level,
    /// The target runs already.
    is_new: bool,
    tally: Tally,
    learning: Learning,
    /// By process: its CPU time when that was read last.
    read_ns: HashMap<ProcessId, u64>,
    measured_ns: u64,
    lost: u64,
    used: HashMap<ProcessId, Account>,
    governors: BTreeMap<Whose, Governor>,
    /// Whose calls are not followed: what is still reported of them does not count.
    muted: BTreeSet<ProcessId>,
    /// Who is sampled, of those that were not from the beginning on.
    thinned: BTreeSet<ProcessId>,
    /// Probes on their way out.
    leaving: Vec<(Whose, JoinHandle<()>)>,
    look: Option<Look>,
}

/// Somebody is followed for a moment, to see what it costs.
struct Look {
    whose: Whose,
    /// When the probes were in place; `None`: they have only just been placed.
    since_ns: Option<u64>,
    spent: Spent,
}

/// The recording's side of a run.
pub(super) struct Stage<'a> {
    pub(super) kernel: &'a mut Kernel,
    pub(super) heap: &'a mut Heap,
    pub(super) recorder: &'a mut Recorder,
    pub(super) alive: &'a BTreeMap<ProcessId, u32>,
}

impl Budget {
    /// To be followed by a call of [`Budget::measure`], from which on it is counted. `is_new`: the target runs already.
    pub(super) fn new(limit: Option<f64>, is_new: bool, kernel: &mut Kernel) -> Self {
        let now_ns = kernel::now_ns();
        let given = kernel.newcomers_rate();
        let (rate, finest) = if given.is_exact() { (SAMPLED, Level::Exact) } else { (given, Level::Sampled) };
        let mut budget = Self {
            limit,
            says_so: false,
            rate,
            finest,
            is_new,
            tally: Tally::new(rate),
            learning: Learning::new(kernel),
            read_ns: HashMap::new(),
            measured_ns: now_ns,
            lost: 0,
            used: HashMap::new(),
            governors: BTreeMap::new(),
            muted: BTreeSet::new(),
            thinned: BTreeSet::new(),
            leaving: Vec::new(),
            look: None,
        };
        if limit.is_some() {
            budget.learning.count_runs(now_ns, kernel);
        }
        budget
    }

    /// Counts an event; false if it is of no account, since the calls of its process are not followed.
    #[inline]
    pub(super) fn admits(&mut self, event: &Event) -> bool {
        self.tally.count(event).is_none_or(|it| self.muted.is_empty() || !self.muted.contains(&it))
    }

    /// What each process has used so far. Of one that has ended this is told once more.
    pub(super) fn take_used(&mut self, alive: &BTreeMap<ProcessId, u32>) -> HashMap<ProcessId, Used> {
        let all = self.used.iter().map(|(process, it)| (*process, it.used())).collect();
        self.used.retain(|process, _| alive.contains_key(process));
        all
    }

    /// How much slower tracing has made the processes that live, all together.
    pub(super) fn share(&self) -> Option<f64> {
        Account::sum(self.used.values()).share()
    }

    /// Looks what was used since the last call. To be called when the ring has been emptied.
    pub(super) fn measure(
        &mut self,
        kernel: &Kernel,
        alive: &BTreeMap<ProcessId, u32>,
    ) -> Vec<(ProcessId, Spent)> {
        let now_ns = kernel::now_ns();
        let wall_s = now_ns.saturating_sub(self.measured_ns) as f64 / 1e9;
        self.measured_ns = now_ns;
        let calls = self.tally.take();
        calls.values().for_each(|it| self.learning.see(it));
        // What did not fit into the ring has cost as much as what did.
        let lost = kernel.losses().get(Loss::LostEvents);
        let newly_lost = lost - std::mem::replace(&mut self.lost, lost);
        let seen = calls.values().map(|it| it.reported + it.frees).sum::<u64>().max(1) as f64;
        let unseen = (seen + newly_lost as f64) / seen;

        let mut spent = Vec::new();
        self.read_ns.retain(|process, _| alive.contains_key(process));
        for (&process, &tgid) in alive {
            let Some(cpu_ns) = kernel::cpu_ns(tgid) else { continue };
            let Some(before_ns) = self.read_ns.insert(process, cpu_ns) else { continue };
            let Some(whose) = kernel.whose(process) else { continue };
            let cpu_s = cpu_ns.saturating_sub(before_ns) as f64 / 1e9;
            let none = Calls::default();
            let calls = calls.get(&process).unwrap_or(&none);
            let all_calls = calls.all_allocs() + calls.frees as f64;
            let [by_weights, by_frees] = self.learning.costs(calls, self.rate).map(|it| it * unseen);
            let level = self.level(whose);
            // Where all are reported, fewer are made than blocks are freed that were there before.
            let by_frees = if level == Level::Exact { by_weights } else { by_frees };
            let it = Spent { wall_s, cpu_s, calls: all_calls, by_weights, by_frees };
            let used = self.used.entry(process).or_default();
            used.add(&it, level);
            spent.push((process, it));
        }
        spent
    }

    /// How closely it is looked at now, be it for a moment.
    fn level(&self, whose: Whose) -> Level {
        let looks = self.look.as_ref().is_some_and(|it| it.whose == whose);
        match self.governors.get(&whose).map_or(self.finest, Governor::level) {
            Level::Growth if looks => self.finest,
            // Until the probes are out.
            Level::Growth => Level::Sampled,
            level => level,
        }
    }

    /// Does what is to be done. To be called every [`JUDGE`], and every few milliseconds while somebody is looked at or
    /// leaves; the ring has been emptied.
    pub(super) fn judge(&mut self, stage: &mut Stage<'_>) -> Result<()> {
        let now_ns = kernel::now_ns();
        let spent = self.measure(stage.kernel, stage.alive);
        self.muted.retain(|it| stage.alive.contains_key(it));
        self.thinned.retain(|it| stage.alive.contains_key(it));
        // Without a limit too: who is let go because it is calm may be followed again.
        self.leaving.retain(|(_, it)| !it.is_finished());
        let Some(limit) = self.limit else { return Ok(()) };
        let level = |it: &Governor| it.level();
        if !self.leaving.is_empty()
            || self.look.is_none()
                && !self.governors.is_empty()
                && self.governors.values().map(level).all(|it| it == Level::Growth)
        {
            self.learning.pause(stage.kernel);
        } else {
            self.learning.count_runs(now_ns, stage.kernel);
        }
        let mut by_whom: BTreeMap<Whose, Spent> = BTreeMap::new();
        for (process, spent) in spent {
            if let Some(whose) = stage.kernel.whose(process) {
                let sum = by_whom.entry(whose).or_default();
                let wall_s = spent.wall_s;
                *sum += spent;
                sum.wall_s = wall_s;
            }
        }
        self.end_look(now_ns, &by_whom, stage)?;
        self.join(now_ns, stage)?;
        let now_s = now_ns as f64 / 1e9;
        for (whose, spent) in by_whom {
            let (finest, rate, is_new) = (self.finest, self.rate, self.is_new);
            let governor =
                self.governors.entry(whose).or_insert_with(|| Governor::new(limit, finest, rate, is_new));
            if let Some(step) = governor.spent(now_s, spent) {
                self.take(whose, now_ns, &step, stage)?;
            } else if governor.wants_look(now_s) && self.look.is_none() && !self.is_leaving(whose) {
                self.sample(whose, self.finest_rate(), stage);
                stage.kernel.restore(whose);
                self.look = Some(Look { whose, since_ns: None, spent: Spent::default() });
            }
        }
        self.governors.retain(|whose, _| match whose {
            Whose::Process(process) => stage.alive.contains_key(process),
            Whose::Everyone => true,
        });
        Ok(())
    }

    fn finest_rate(&self) -> Rate {
        if self.finest == Level::Sampled { self.rate } else { Rate::EXACT }
    }

    /// Has allocations reported at a rate from now on.
    fn sample(&self, whose: Whose, rate: Rate, stage: &mut Stage<'_>) {
        for process in members(whose, stage.alive) {
            stage.kernel.set_sampling(process, rate.shift());
        }
        if whose == Whose::Everyone {
            stage.kernel.sample_newcomers(rate);
        }
    }

    /// Looks more or less closely from now on.
    fn take(&mut self, whose: Whose, now_ns: u64, step: &Step, stage: &mut Stage<'_>) -> Result<()> {
        // What is learned next is about other calls.
        self.learning.pause(stage.kernel);
        match step.to {
            Level::Growth => self.withdraw(whose, now_ns, stage),
            level => {
                let rate = if level == Level::Sampled { self.rate } else { Rate::EXACT };
                self.sample(whose, rate, stage);
                for process in members(whose, stage.alive) {
                    self.muted.remove(&process);
                    if rate.is_exact() {
                        self.thinned.remove(&process);
                    } else {
                        self.thinned.insert(process);
                        stage.heap.sample(process);
                    }
                }
            }
        }
        self.note(whose, now_ns, step, stage)
    }

    /// Takes the probes out. What they report on their way is of no account, and as little of it as can be.
    fn withdraw(&mut self, whose: Whose, now_ns: u64, stage: &mut Stage<'_>) {
        self.sample(whose, LEAVING, stage);
        for process in members(whose, stage.alive) {
            self.thinned.remove(&process);
            if self.muted.insert(process) {
                stage.heap.apply(&Event::Unfollow { process, time_ns: now_ns });
            }
        }
        self.leaving.push((whose, stage.kernel.withdraw(whose)));
    }

    /// A process was followed for a while, and its probes are leaving. What is returned is for the heap.
    pub(super) fn relax(
        &mut self,
        process: ProcessId,
        time_ns: u64,
        leaving: JoinHandle<()>,
    ) -> Option<Event> {
        let whose = Whose::Process(process);
        self.governors.remove(&whose);
        self.look = self.look.take().filter(|it| it.whose != whose);
        self.leaving.push((whose, leaving));
        // What is still reported of it comes too late.
        self.muted.insert(process).then_some(Event::Relax { process, time_ns })
    }

    /// Whether a process may be followed from now on, who may have been before, and less closely.
    pub(super) fn admit(&mut self, process: ProcessId, kernel: &mut Kernel) -> bool {
        let is_free = !self.is_leaving(Whose::Process(process));
        if is_free {
            self.muted.remove(&process);
            self.thinned.remove(&process);
            kernel.set_sampling(process, self.finest_rate().shift());
        }
        is_free
    }

    /// Whether [`Budget::judge`] is to be called soon.
    pub(super) fn is_busy(&self) -> bool {
        self.look.is_some() || !self.leaving.is_empty()
    }

    fn is_leaving(&self, whose: Whose) -> bool {
        self.leaving.iter().any(|(it, _)| *it == whose)
    }

    /// The first call after the probes are in place begins the look, since what was used before is not known; a later one
    /// ends it.
    fn end_look(
        &mut self,
        now_ns: u64,
        by_whom: &BTreeMap<Whose, Spent>,
        stage: &mut Stage<'_>,
    ) -> Result<()> {
        let Some(look) = &mut self.look else { return Ok(()) };
        let whose = look.whose;
        let Some(since_ns) = look.since_ns else {
            look.since_ns = Some(now_ns);
            return Ok(());
        };
        let (Some(spent), Some(governor)) = (by_whom.get(&whose), self.governors.get_mut(&whose)) else {
            // It has ended.
            self.look = None;
            return Ok(());
        };
        look.spent += *spent;
        let passed_ns = now_ns - since_ns;
        if passed_ns < LOOK_NS || passed_ns < LONGEST_LOOK_NS && !look.spent.says_enough() {
            return Ok(());
        }
        let spent = look.spent;
        self.look = None;
        match governor.looked(now_ns as f64 / 1e9, spent) {
            Some(step) => self.take(whose, now_ns, &step, stage)?,
            None => self.withdraw(whose, now_ns, stage),
        }
        Ok(())
    }

    /// Whoever begins is traced as all are.
    fn join(&mut self, now_ns: u64, stage: &mut Stage<'_>) -> Result<()> {
        let Some(level) = self.governors.get(&Whose::Everyone).map(Governor::level) else { return Ok(()) };
        if level == self.finest {
            return Ok(());
        }
        let among = if level == Level::Growth { &mut self.muted } else { &mut self.thinned };
        for process in stage.alive.keys() {
            if !among.insert(*process) {
                continue;
            }
            if level == Level::Growth {
                stage.heap.apply(&Event::Unfollow { process: *process, time_ns: now_ns });
            } else {
                stage.kernel.set_sampling(*process, self.rate.shift());
                stage.heap.sample(*process);
            }
            let reason = "the run was too dear to follow each call of the allocator when it began".to_owned();
            stage.recorder.tier(*process, now_ns, level.name(), reason)?;
        }
        Ok(())
    }
}

fn members(whose: Whose, alive: &BTreeMap<ProcessId, u32>) -> Vec<ProcessId> {
    match whose {
        Whose::Process(process) => alive.get_key_value(&process).map(|it| *it.0).into_iter().collect(),
        Whose::Everyone => alive.keys().copied().collect(),
    }
}
