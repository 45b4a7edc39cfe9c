//! Which processes are traced more closely while a run goes on: those that grow, as long as they are few.

use std::collections::{BTreeMap, HashMap};

use anyhow::Result;

use super::{
    Recorder,
    progress::say,
    suspicion::{Suspicion, Watch},
};
use crate::{
    event::ProcessId,
    kernel::{Escalation, Kernel, Tier},
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
}

enum State {
    Watched(Watch),
    /// It would be traced closely if fewer others were.
    Waiting(Watch),
    /// There is nothing to decide any more.
    Settled,
}

impl Tiers {
    /// Looks at what is resident now, and traces closely what is suspicious.
    ///
    /// # Errors
    /// Those of the recorder.
    pub(super) fn judge(
        &mut self,
        time_ns: u64,
        rss_bytes: &HashMap<ProcessId, u64>,
        alive: &BTreeMap<ProcessId, u32>,
        kernel: &mut Kernel,
        recorder: &mut Recorder,
    ) -> Result<()> {
        let says_so = self.says_so;
        self.processes.retain(|id, _| alive.contains_key(id));
        for (&id, &tgid) in alive {
            let Some(&bytes) = rss_bytes.get(&id) else { continue };
            let state = self.processes.entry(id).or_insert_with(|| State::Watched(Watch::default()));
            let (State::Watched(watch) | State::Waiting(watch)) = state else { continue };
            let Some(suspicion) = watch.add(time_ns as f64 / 1e9, bytes as i64) else { continue };
            if kernel.escalated() >= MOST_EXACT {
                if let State::Watched(watch) = state {
                    *state = State::Waiting(std::mem::take(watch));
                    let why = format!("{suspicion}; but {MOST_EXACT} others are traced exactly already");
                    note(says_so, time_ns, (id, tgid), Tier::Growth, why, recorder)?;
                }
                continue;
            }
            let Some((tier, why)) = closer(kernel.escalate(id), suspicion) else { continue };
            *state = State::Settled;
            note(says_so, time_ns, (id, tgid), tier, why, recorder)?;
        }
        Ok(())
    }
}

/// The tier from now on, and the reason; `None` if there is no such process any more.
fn closer(escalation: Escalation, suspicion: Suspicion) -> Option<(Tier, String)> {
    match escalation {
        Escalation::Done => Some((Tier::Exact, suspicion.to_string())),
        Escalation::NoAllocator { is_go } => {
            let what = if is_go { "a Go program" } else { "a program" };
            let why =
                format!("{suspicion}; but it is {what} without an allocator whose calls could be followed");
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
    let verb = if tier == Tier::Exact { "is traced exactly from now on" } else { "stays in the growth tier" };
    if says_so {
        say(&format!("process {tgid} {verb}: {reason}"));
    }
    recorder.tier(id, time_ns, tier.name(), reason)
}
