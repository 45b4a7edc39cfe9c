//! Which processes are traced more closely while a run goes on: those that grow, as long as they are few; or those that
//! whoever looks on asks for, as long as it does.

use std::collections::{BTreeMap, HashMap, HashSet};

use anyhow::Result;

use super::{Recorder, budget::Budget, progress::say};
use crate::{
    event::{Event, ProcessId},
    kernel::{Escalation, Kernel, Tier},
    watch::{Wanted, suspicion::Watch},
};

/// Whoever calls a probed function runs through the probes of all processes that use the same library: at thirty that
/// costs more than the trap.
const MOST_EXACT: usize = 30;

/// What is known of each process.
#[derive(Default)]
pub(super) struct Tiers {
    /// On standard error too, and not only in the recording.
    pub(super) says_so: bool,
    processes: HashMap<ProcessId, State>,
    /// Of whoever looks on, the most urgent first; `None` as long as nobody has asked for anything.
    wanted: Option<Vec<Wanted>>,
    asked: HashMap<ProcessId, Asked>,
}

enum State {
    Watched(Watch),
    /// It would be traced closely if fewer others were.
    Waiting(Watch),
    /// There is nothing to decide any more.
    Settled,
}

/// What became of a wish.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Asked {
    Exact,
    /// There are too many others.
    Waiting,
    /// There is nothing to follow.
    Refused,
}

/// The run, as far as it is needed here.
pub(super) struct Stage<'a> {
    pub(super) alive: &'a BTreeMap<ProcessId, u32>,
    pub(super) kernel: &'a mut Kernel,
    pub(super) recorder: &'a mut Recorder,
    pub(super) budget: &'a mut Budget,
}

impl Tiers {
    /// From now on these are to be traced closely and nobody else, the first of them first.
    pub(super) fn ask(&mut self, wanted: Vec<Wanted>) {
        self.wanted = Some(wanted);
    }

    /// To be called each interval: does what is wanted, or if nobody says what that is, looks at what is resident now and
    /// traces closely what is suspicious. What is returned is for the heap.
    ///
    /// # Errors
    /// Those of the recorder.
    pub(super) fn judge(
        &mut self,
        time_ns: u64,
        rss_bytes: &HashMap<ProcessId, u64>,
        stage: &mut Stage<'_>,
    ) -> Result<Vec<Event>> {
        match self.wanted.take() {
            Some(wanted) => {
                let events = self.grant(time_ns, &wanted, stage);
                self.wanted = Some(wanted);
                events
            }
            None => self.suspect(time_ns, rss_bytes, stage).map(|()| Vec::new()),
        }
    }

    fn suspect(
        &mut self,
        time_ns: u64,
        rss_bytes: &HashMap<ProcessId, u64>,
        Stage { alive, kernel, recorder, .. }: &mut Stage<'_>,
    ) -> Result<()> {
        let says_so = self.says_so;
        self.processes.retain(|id, _| alive.contains_key(id));
        for (&id, &tgid) in *alive {
            let Some(&bytes) = rss_bytes.get(&id) else { continue };
            let state = self.processes.entry(id).or_insert_with(|| State::Watched(Watch::default()));
            let (State::Watched(watch) | State::Waiting(watch)) = state else { continue };
            let Some(suspicion) = watch.add(time_ns as f64 / 1e9, bytes as i64) else { continue };
            if kernel.escalated() >= MOST_EXACT {
                if let State::Watched(watch) = state {
                    *state = State::Waiting(std::mem::take(watch));
                    note(
                        says_so,
                        time_ns,
                        (id, tgid),
                        Tier::Growth,
                        too_many(&suspicion.to_string()),
                        recorder,
                    )?;
                }
                continue;
            }
            let Some((tier, why)) = closer(kernel.escalate(id), &suspicion) else { continue };
            *state = State::Settled;
            note(says_so, time_ns, (id, tgid), tier, why, recorder)?;
        }
        Ok(())
    }

    fn grant(&mut self, time_ns: u64, wanted: &[Wanted], stage: &mut Stage<'_>) -> Result<Vec<Event>> {
        let says_so = self.says_so;
        let mut events = Vec::new();
        let names: HashSet<ProcessId> = wanted.iter().map(|it| ProcessId(it.process)).collect();
        let unwanted: Vec<(ProcessId, Asked)> =
            self.asked.iter().filter(|(id, _)| !names.contains(id)).map(|(id, it)| (*id, *it)).collect();
        for (id, asked) in unwanted {
            self.asked.remove(&id);
            let Some(&tgid) = stage.alive.get(&id) else { continue };
            if asked == Asked::Exact
                && let Some(leaving) = stage.kernel.relax(id)
            {
                events.extend(stage.budget.relax(id, time_ns, leaving));
                note(says_so, time_ns, (id, tgid), Tier::Growth, CALM.to_owned(), stage.recorder)?;
            }
        }
        for Wanted { process, reason } in wanted {
            let id = ProcessId(*process);
            let before = self.asked.get(&id).copied();
            let Some(&tgid) = stage.alive.get(&id) else { continue };
            if before.is_some_and(|it| it != Asked::Waiting) || !stage.budget.admit(id, stage.kernel) {
                continue;
            }
            if stage.kernel.escalated() >= MOST_EXACT {
                if self.asked.insert(id, Asked::Waiting).is_none() {
                    note(says_so, time_ns, (id, tgid), Tier::Growth, too_many(reason), stage.recorder)?;
                }
                continue;
            }
            let Some((tier, why)) = closer(stage.kernel.escalate(id), reason) else { continue };
            self.asked.insert(id, if tier == Tier::Exact { Asked::Exact } else { Asked::Refused });
            note(says_so, time_ns, (id, tgid), tier, why, stage.recorder)?;
        }
        Ok(events)
    }
}

/// Why a process is let go.
const CALM: &str = "it has been calm for some time; its blocks are left out from here on";

fn too_many(reason: &str) -> String {
    format!("{reason}; but {MOST_EXACT} others are traced exactly already")
}

/// The tier from now on, and the reason; `None` if there is no such process any more.
fn closer(escalation: Escalation, reason: &(impl std::fmt::Display + ?Sized)) -> Option<(Tier, String)> {
    match escalation {
        Escalation::Done => Some((Tier::Exact, reason.to_string())),
        Escalation::NoAllocator { is_go } => {
            let what = if is_go { "a Go program" } else { "a program" };
            let why =
                format!("{reason}; but it is {what} without an allocator whose calls could be followed");
            Some((Tier::Growth, why))
        }
        Escalation::Gone => None,
    }
}

fn note(
    says_so: bool,
    time_ns: u64,
    (id, tgid): (ProcessId, u32),
    tier: Tier,
    reason: String,
    recorder: &mut Recorder,
) -> Result<()> {
    let verb = match tier {
        Tier::Exact => "is traced exactly from now on",
        _ if reason == CALM => "is let go",
        _ => "stays in the growth tier",
    };
    if says_so {
        say(&format!("process {tgid} {verb}: {reason}"));
    }
    recorder.tier(id, time_ns, tier.name(), reason)
}
