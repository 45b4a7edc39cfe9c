//! What is said of a step, to whoever watches and in the recording.

use anyhow::Result;

use super::{
    super::{governor::Step, progress::say, spent::Level},
    Budget, Stage, members,
};
use crate::{kernel::Whose, report::units};

impl Budget {
    /// Writes a step down, and says it.
    pub(super) fn note(&self, whose: Whose, now_ns: u64, step: &Step, stage: &mut Stage<'_>) -> Result<()> {
        let change = match step.to {
            Level::Growth => "is not traced call by call any more",
            Level::Sampled => "is traced by a sample of its allocations from now on",
            Level::Exact => "is traced call by call again",
        };
        let rate = units::bytes(self.rate.bytes());
        let after = match (step.from, step.to) {
            (_, Level::Growth) if stage.kernel.watch_pages() => {
                "; its blocks are left out from here on, and its memory is known by samples of page faults"
            }
            (_, Level::Growth) => "; its blocks are left out from here on, and only its mappings are known",
            (Level::Exact, Level::Sampled) => {
                &*format!("; from here on one allocation in {rate} is seen, and all frees")
            }
            (Level::Growth, _) => "; what it allocated before is not known",
            _ => "",
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
            stage.recorder.tier(process, now_ns, step.to.name(), format!("{step}{after}"))?;
        }
        Ok(())
    }
}
