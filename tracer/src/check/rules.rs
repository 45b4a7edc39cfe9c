//! What is asked of a run, and the answer.

use super::{Budget, Finding, Judgement, Outcome, Suppressed, Suppressions, judge::Judging};
use crate::{
    capture::{ProcessRow, Recording},
    cost::Cost,
    profile::{Profile, Query, Sort, trust::Grade},
    report::units,
    symbol::Places,
};

/// What is asked of a run.
#[derive(Clone, Debug)]
pub struct Rules {
    pub budgets: Vec<Budget>,
    /// The user's first, so that they are seen to be used.
    pub suppressions: Suppressions,
    /// Seconds in which nothing is judged.
    pub warm_up_s: f64,
    /// A run of less trust may breach a budget, but not keep it.
    pub min_trust: Grade,
    pub ignores_exit_code: bool,
}

/// A recording, and the sites of it from the end of the warm-up on, with their stacks.
pub struct Evidence {
    pub recording: Recording,
    pub profile: Profile,
}

/// What is judged.
pub struct Case {
    pub whole: Evidence,
    /// Without the interval in which the target ended: a program that tidies up then has grown until then. `None`:
    /// it did not end, or nobody asks for growth.
    pub before_end: Option<Evidence>,
}

impl Rules {
    /// How far a recording is to be read for growth, if not as a whole.
    pub fn growth_until_s(&self, recording: &Recording) -> Option<f64> {
        if !self.budgets.iter().any(Budget::is_rate) {
            return None;
        }
        let roots = recording.processes.values().filter(|it| it.parent.is_none());
        // As long as one of them runs, the others are part of what it does.
        let ended_s =
            roots.map(|it| it.ended.as_ref().map(|it| it.t_s)).try_fold(0.0, |last, it| Some(it?.max(last)));
        let before_end = recording.times_s.partition_point(|it| Some(*it) < ended_s);
        ended_s.map(|_| before_end.checked_sub(1).map_or(0.0, |it| recording.times_s[it]))
    }

    /// Looks at a recording as far as the rules ask for.
    pub fn evidence(&self, recording: Recording, places: &mut dyn Places) -> Evidence {
        let from_s = self.from(&recording).map(|it| recording.times_s[it as usize]);
        let query = Query { from_s, sort: Sort::Growth, ..Query::default() };
        let mut profile = Profile::new(&recording, &query, usize::MAX);
        profile.add_places(places);
        Evidence { recording, profile }
    }

    /// The interval with which the warm-up ends, if there is one.
    fn from(&self, recording: &Recording) -> Option<u32> {
        if self.warm_up_s == 0.0 {
            return None;
        }
        let over = recording.times_s.partition_point(|it| *it < self.warm_up_s);
        (over < recording.times_s.len()).then_some(over as u32)
    }
}

impl Case {
    /// Where the sites of a budget's finding are.
    pub fn evidence(&self, budget: &Budget) -> &Evidence {
        let growth = self.before_end.as_ref().filter(|_| budget.is_rate());
        growth.unwrap_or(&self.whole)
    }
}

/// Compares a run with what is asked of it.
pub fn judge(case: &Case, rules: &Rules) -> Outcome {
    let Evidence { recording, profile } = &case.whole;
    let is_built_in: Vec<bool> = rules.suppressions.iter().map(|it| it.is_built_in).collect();
    let suppressed = rules.suppressions.find(profile);
    let before_end = case.before_end.as_ref().map(|it| rules.suppressions.find(&it.profile));
    let finding = |budget: &Budget| {
        let evidence = case.evidence(budget);
        let suppressed = before_end.as_ref().filter(|_| budget.is_rate()).unwrap_or(&suppressed);
        // Nobody minds that runtimes keep it, but it is live.
        let counts = |site: usize| {
            suppressed[site].is_none_or(|it| is_built_in[it] && !matches!(budget, Budget::Leaked(_)))
        };
        let last = evidence.recording.times_s.len().checked_sub(1).map(|it| it as u32);
        let from = if rules.warm_up_s == 0.0 { Some(0) } else { rules.from(&evidence.recording) };
        let why = match (from, last) {
            (_, None) => {
                "the run ended with its first interval: run longer, or sample more often (-i)".to_owned()
            }
            (None, _) => format!(
                "the run of {} ended before its warm-up of {} was over",
                units::seconds(recording.end_s()),
                units::seconds(rules.warm_up_s)
            ),
            (Some(from), Some(last)) if from == last && rules.warm_up_s > 0.0 => format!(
                "no whole interval of the run is left after its warm-up of {}",
                units::seconds(rules.warm_up_s)
            ),
            (Some(from), Some(last)) => return Judging::new(evidence, from..=last, counts).budget(*budget),
        };
        undecided(*budget, why)
    };
    Outcome {
        findings: rules.budgets.iter().map(finding).collect(),
        doubts: doubts(recording, profile, rules),
        failure: failure(recording).filter(|_| !rules.ignores_exit_code),
        suppressed: used(&rules.suppressions, profile, &suppressed),
    }
}

pub(super) fn undecided(budget: Budget, why: String) -> Finding {
    Finding {
        budget,
        result: Judgement::Undecided,
        measured: None,
        bounds: None,
        detail: why,
        sites: Vec::new(),
    }
}

fn used(suppressions: &Suppressions, profile: &Profile, suppressed: &[Option<usize>]) -> Vec<Suppressed> {
    let mut used: Vec<Suppressed> = suppressions
        .iter()
        .map(|it| Suppressed {
            pattern: it.pattern.clone(),
            cost: Cost::default(),
            sites: 0,
            is_built_in: it.is_built_in,
        })
        .collect();
    for (site, at) in profile.sites.iter().zip(suppressed) {
        if let Some(at) = at {
            used[*at].cost += site.live;
            used[*at].sites += 1;
        }
    }
    used
}

/// Why a run that kept its budgets may have breached them all the same.
fn doubts(recording: &Recording, profile: &Profile, rules: &Rules) -> Vec<String> {
    let mut doubts = Vec::new();
    if recording.end.is_none() {
        doubts.push("the recording was cut off: what came later is not known".to_owned());
    }
    if recording.sites.is_empty() {
        doubts.push("no allocation was seen: the traced processes did not call the allocator".to_owned());
    } else if profile.grade > rules.min_trust {
        let (found, wanted) = (profile.grade, rules.min_trust);
        doubts.push(format!("trust is {found} ({}); wanted at least {wanted}", profile.trust()));
    }
    if let Some(command) = command(recording)
        && command.ended.is_none()
        && recording.end.as_ref().is_some_and(|it| it.reason == "target-ended")
    {
        doubts.push("how the command ended was not seen".to_owned());
    }
    doubts
}

/// The process that was launched.
fn command(recording: &Recording) -> Option<&ProcessRow> {
    recording.processes.values().find(|it| recording.header.is_launch() && it.parent.is_none())
}

fn failure(recording: &Recording) -> Option<String> {
    let ended = command(recording)?.ended.as_ref()?;
    match (ended.how.as_str(), ended.code) {
        ("exit", 0) => None,
        ("exit", code) => Some(format!("the command exited with code {code}")),
        ("oom-kill", _) => Some("the command was killed by the OOM killer".to_owned()),
        ("unseen", _) => Some("how the command ended was lost".to_owned()),
        (_, signal) => Some(format!("the command was killed by signal {signal}")),
    }
}
