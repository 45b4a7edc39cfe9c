//! What tracing costs each process, and what is done to stay within `--max-overhead`.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Result;

use super::{
    Recorder,
    expense::Means,
    governor::{Governor, Spent, Step},
    progress::say,
    tally::{Calls, Tally},
};
use crate::{
    event::{Event, Loss, ProcessId},
    kernel::{self, Kernel, Prices, Runs, Tier, Whose},
};

/// How often it is judged. What makes a program three times as slow goes on for that long.
pub(super) const JUDGE: Duration = Duration::from_millis(50);

/// How long a look takes at what following would cost, and how long at most, if the process does hardly anything.
const LOOK_NS: u64 = 20_000_000;
const LONGEST_LOOK_NS: u64 = 1_000_000_000;

/// How often the kernel counts how long our programs take, until it has counted enough.
const COUNT_NS: u64 = 1_000_000_000;

/// What a process has used since it was met, and what of it was for us.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Used {
    pub cpu_us: u64,
    pub tracing_us: u64,
}

/// Keeps the accounts of a run.
pub(super) struct Budget {
    limit: Option<f64>,
    /// On standard error too, and not only in the recording.
    pub(super) says_so: bool,
    tally: Tally,
    prices: Prices,
    means: Means,
    /// By process: its CPU time when that was read last.
    read_ns: HashMap<ProcessId, u64>,
    measured_ns: u64,
    lost: u64,
    /// Exact to the nanosecond, so that small parts add up.
    used: HashMap<ProcessId, (f64, f64)>,
    governors: BTreeMap<Whose, Governor>,
    /// Whose calls are not followed: what is still reported of them does not count.
    muted: BTreeSet<ProcessId>,
    /// Probes on their way out.
    leaving: Vec<(Whose, JoinHandle<()>)>,
    look: Option<Look>,
    counting: Counting,
}

/// Somebody is followed for a moment, to see what it costs.
struct Look {
    whose: Whose,
    /// When the probes were in place; `None`: they have only just been placed.
    since_ns: Option<u64>,
    spent: Spent,
}

/// When the kernel counts the runs of our programs.
#[derive(Default)]
struct Counting {
    /// Runs when it began, and the calls that were reported since.
    since: Option<Runs>,
    allocs: u64,
    frees: u64,
    next_ns: u64,
}

/// The recording's side of a run.
pub(super) struct Stage<'a> {
    pub(super) kernel: &'a mut Kernel,
    pub(super) recorder: &'a mut Recorder,
    pub(super) alive: &'a BTreeMap<ProcessId, u32>,
}

impl Budget {
    /// To be followed by a call of [`Budget::measure`], from which on it is counted.
    pub(super) fn new(limit: Option<f64>, kernel: &mut Kernel) -> Self {
        let now_ns = kernel::now_ns();
        let mut budget = Self {
            limit,
            says_so: false,
            tally: Tally::default(),
            prices: kernel.prices(),
            means: Means::default(),
            read_ns: HashMap::new(),
            measured_ns: now_ns,
            lost: 0,
            used: HashMap::new(),
            governors: BTreeMap::new(),
            muted: BTreeSet::new(),
            leaving: Vec::new(),
            look: None,
            counting: Counting::default(),
        };
        budget.count_runs(now_ns, kernel);
        budget
    }

    /// Counts an event; false if it is of no account, since the calls of its process are not followed.
    #[inline]
    pub(super) fn admits(&mut self, event: &Event) -> bool {
        self.tally.count(event).is_none_or(|it| self.muted.is_empty() || !self.muted.contains(&it))
    }

    /// What each process has used so far. Of one that has ended this is told once more.
    pub(super) fn take_used(&mut self, alive: &BTreeMap<ProcessId, u32>) -> HashMap<ProcessId, Used> {
        let used = |(cpu_ns, tracing_ns): (f64, f64)| Used {
            cpu_us: (cpu_ns / 1e3) as u64,
            tracing_us: (tracing_ns / 1e3) as u64,
        };
        let all = self.used.iter().map(|(process, it)| (*process, used(*it))).collect();
        self.used.retain(|process, _| alive.contains_key(process));
        all
    }

    /// How much slower tracing has made the processes that live, all together.
    pub(super) fn share(&self) -> Option<f64> {
        let (cpu_ns, tracing_ns) = self.used.values().fold((0.0, 0.0), |(a, b), (c, d)| (a + c, b + d));
        Spent { cpu_s: cpu_ns / 1e9, tracing_s: tracing_ns / 1e9, ..Spent::default() }.share()
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
        let (allocs, frees) =
            calls.values().fold((0, 0), |(allocs, frees), it| (allocs + it.all_allocs(), frees + it.frees));
        self.counting.allocs += allocs;
        self.counting.frees += frees;
        // What did not fit into the ring has cost as much as what did.
        let lost = kernel.losses().get(Loss::LostEvents);
        let newly_lost = lost - std::mem::replace(&mut self.lost, lost);
        let seen = (allocs + frees).max(1) as f64;
        let unseen = (seen + newly_lost as f64) / seen;

        let mut spent = Vec::new();
        self.read_ns.retain(|process, _| alive.contains_key(process));
        for (&process, &tgid) in alive {
            let Some(cpu_ns) = kernel::cpu_ns(tgid) else { continue };
            let Some(before_ns) = self.read_ns.insert(process, cpu_ns) else { continue };
            // Of sampled calls most are not reported.
            if kernel.whose(process).is_none() || kernel.is_sampled() {
                continue;
            }
            let cpu_ns = cpu_ns.saturating_sub(before_ns) as f64;
            let none = Calls::default();
            let calls = calls.get(&process).unwrap_or(&none);
            let cost_ns = self.means.cost_ns(&self.prices, calls) * unseen;
            let used = self.used.entry(process).or_default();
            *used = (used.0 + cpu_ns, used.1 + cost_ns.min(cpu_ns));
            let calls = (calls.all_allocs() + calls.frees) as f64;
            spent.push((process, Spent { wall_s, cpu_s: cpu_ns / 1e9, tracing_s: cost_ns / 1e9, calls }));
        }
        spent
    }

    /// Learns how long our programs take, now and then.
    fn count_runs(&mut self, now_ns: u64, kernel: &mut Kernel) {
        if self.limit.is_none() {
            return;
        }
        let counting = &mut self.counting;
        if let Some(since) = counting.since {
            let runs = kernel.runs().since(since);
            if self.means.learn(runs, counting.allocs, counting.frees, kernel.is_met_by_others()) {
                counting.since = None;
                counting.next_ns = now_ns + COUNT_NS;
                kernel.count_runs(false);
            }
        } else if now_ns >= counting.next_ns {
            kernel.count_runs(true);
            // If it does not count, the means of another machine have to do.
            counting.since = kernel.counts_runs().then(|| kernel.runs());
            counting.next_ns = now_ns + COUNT_NS;
            (counting.allocs, counting.frees) = (0, 0);
        }
    }

    /// Does what is to be done. To be called every [`JUDGE`], and every few milliseconds while somebody is looked at or
    /// leaves; the ring has been emptied. What is returned is for the heap.
    pub(super) fn judge(&mut self, stage: &mut Stage<'_>) -> Result<Vec<Event>> {
        let now_ns = kernel::now_ns();
        let spent = self.measure(stage.kernel, stage.alive);
        self.count_runs(now_ns, stage.kernel);
        self.prices = stage.kernel.prices();
        let mut by_whom: BTreeMap<Whose, Spent> = BTreeMap::new();
        for (process, spent) in spent {
            if let Some(whose) = stage.kernel.whose(process) {
                let sum = by_whom.entry(whose).or_default();
                let wall_s = spent.wall_s;
                *sum += spent;
                sum.wall_s = wall_s;
            }
        }
        self.muted.retain(|it| stage.alive.contains_key(it));
        let mut left = self.let_go(now_ns, stage);
        self.end_look(now_ns, &by_whom, stage)?;
        let Some(limit) = self.limit else { return Ok(left) };
        left.extend(self.join(now_ns, stage)?);
        let now_s = now_ns as f64 / 1e9;
        for (whose, spent) in by_whom {
            let governor = self.governors.entry(whose).or_insert_with(|| Governor::new(limit));
            if let Some(step) = governor.spent(now_s, spent) {
                self.leaving.push((whose, stage.kernel.withdraw(whose)));
                self.note(whose, now_ns, &step, stage)?;
            } else if governor.wants_look(now_s) && self.look.is_none() && !self.is_leaving(whose) {
                stage.kernel.restore(whose);
                self.look = Some(Look { whose, since_ns: None, spent: Spent::default() });
            }
        }
        self.governors.retain(|whose, _| match whose {
            Whose::Process(process) => stage.alive.contains_key(process),
            Whose::Everyone => true,
        });
        Ok(left)
    }

    /// Whether [`Budget::judge`] is to be called soon.
    pub(super) fn is_busy(&self) -> bool {
        self.look.is_some() || !self.leaving.is_empty()
    }

    fn is_leaving(&self, whose: Whose) -> bool {
        self.leaving.iter().any(|(it, _)| *it == whose)
    }

    /// Whose probes are out: nothing more will be reported of them.
    fn let_go(&mut self, now_ns: u64, stage: &Stage<'_>) -> Vec<Event> {
        let (gone, leaving) =
            std::mem::take(&mut self.leaving).into_iter().partition(|(_, it)| it.is_finished());
        self.leaving = leaving;
        let gone: Vec<(Whose, JoinHandle<()>)> = gone;
        let mut events = Vec::new();
        for (whose, _) in gone {
            for process in members(whose, stage.alive) {
                if self.muted.insert(process) {
                    events.push(Event::Unfollow { process, time_ns: now_ns });
                }
            }
        }
        events
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
            Some(step) => {
                for process in members(whose, stage.alive) {
                    self.muted.remove(&process);
                }
                self.note(whose, now_ns, &step, stage)
            }
            None => {
                self.leaving.push((whose, stage.kernel.withdraw(whose)));
                Ok(())
            }
        }
    }

    /// Whoever begins while nobody is followed is not followed either.
    fn join(&mut self, now_ns: u64, stage: &mut Stage<'_>) -> Result<Vec<Event>> {
        let mut joined = Vec::new();
        let is_let_go = self.governors.get(&Whose::Everyone).is_some_and(|it| !it.is_followed());
        if !is_let_go || self.is_leaving(Whose::Everyone) {
            return Ok(joined);
        }
        for process in stage.alive.keys() {
            if self.muted.insert(*process) {
                joined.push(Event::Unfollow { process: *process, time_ns: now_ns });
                let reason =
                    "the run was too dear to follow each call of the allocator when it began".to_owned();
                stage.recorder.tier(*process, now_ns, Tier::Growth, reason)?;
            }
        }
        Ok(joined)
    }

    fn note(&self, whose: Whose, now_ns: u64, step: &Step, stage: &mut Stage<'_>) -> Result<()> {
        let (tier, change) = match step {
            Step::Down { .. } => (Tier::Growth, "is not traced call by call any more"),
            Step::Up { .. } => (Tier::Exact, "is traced call by call again"),
        };
        let knows_pages = tier == Tier::Exact || stage.kernel.watch_pages();
        let after = match tier {
            Tier::Exact => "; what it allocated before is not known",
            _ if knows_pages => {
                "; its blocks are left out from here on, and its memory is known by samples of page faults"
            }
            _ => "; its blocks are left out from here on, and only its mappings are known",
        };
        let who = match whose {
            Whose::Process(process) => {
                stage.alive.get(&process).map_or_else(String::new, |tgid| format!("process {tgid}"))
            }
            Whose::Everyone => "the target".to_owned(),
        };
        if self.says_so {
            say(&format!("{who} {change}: {step}{after}"));
        }
        for process in members(whose, stage.alive) {
            stage.recorder.tier(process, now_ns, tier, format!("{step}{after}"))?;
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
