//! Budgets: whether a recorded run stays within what its owner allows, for CI.
//!
//! [`budget`] says what can be allowed, [`rules`] what is asked of a run, [`judge`] compares the two, [`suppression`] names
//! what is known and does not count. One format per file, as in `report`. Pure: a recording in, an [`Outcome`] out.

mod budget;
mod doubt;
mod github;
mod json;
mod judge;
mod junit;
mod rules;
mod series;
mod suppression;
#[cfg(test)]
mod tests;
mod text;

use std::io::{self, Write};

pub use self::{
    budget::{Budget, Per, Rate},
    doubt::Bounds,
    rules::{Case, Evidence, Rules, judge},
    suppression::{Suppression, Suppressions, SyntaxError},
};
use crate::cost::Cost;

/// What became of a check.
#[derive(Clone, Debug, PartialEq)]
pub struct Outcome {
    /// In the order in which the budgets were given.
    pub findings: Vec<Finding>,
    /// Why "within budget" would be more than is known.
    pub doubts: Vec<String>,
    /// How the command failed, if there was one and it did.
    pub failure: Option<String>,
    /// Suppressions and what they hide, in the order of their files; unused ones too.
    pub suppressed: Vec<Suppressed>,
}

/// One budget, compared with what was measured.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    pub budget: Budget,
    pub result: Judgement,
    /// Bytes, or bytes per second of a [`Budget`] of growth; `None` where nothing could be measured.
    pub measured: Option<f64>,
    /// Where blocks were sampled: between what the truth lies. A budget inside of it is undecided.
    pub bounds: Option<Bounds>,
    /// When, where, from what to what; or why nothing could be measured.
    pub detail: String,
    /// Of a breach: what to look at, the worst first.
    pub sites: Vec<Suspect>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Kept,
    Breached,
    /// There is too little to judge by.
    Undecided,
}

/// A site that has its part in a breach.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Suspect {
    /// A place in the sites of the budget's [`Evidence`].
    pub site: usize,
    /// Its part: what it held, grew by, or never freed.
    pub cost: Cost,
    /// Of what all sites did, 0 to 1.
    pub share: f64,
}

/// What one suppression hides.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Suppressed {
    pub pattern: String,
    /// Live at the end.
    pub cost: Cost,
    pub sites: usize,
    /// Of ours: memory that runtimes are known to keep.
    pub is_built_in: bool,
}

/// The outcome as one word; the first that applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Status {
    /// What a command that failed holds or leaves behind says little.
    CommandFailed,
    Breached,
    Undecided,
    Kept,
}

impl Status {
    /// For programs.
    pub fn name(self) -> &'static str {
        match self {
            Self::CommandFailed => "command-failed",
            Self::Breached => "breached",
            Self::Undecided => "undecided",
            Self::Kept => "kept",
        }
    }
}

impl Judgement {
    /// For programs and people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Kept => "kept",
            Self::Breached => "breached",
            Self::Undecided => "undecided",
        }
    }
}

impl Outcome {
    pub fn status(&self) -> Status {
        let any = |wanted| self.findings.iter().any(|it| it.result == wanted);
        if self.failure.is_some() {
            Status::CommandFailed
        } else if any(Judgement::Breached) {
            Status::Breached
        } else if any(Judgement::Undecided) || !self.doubts.is_empty() {
            Status::Undecided
        } else {
            Status::Kept
        }
    }

    /// The outcome as a sentence.
    pub fn headline(&self) -> String {
        let count = |wanted| self.findings.iter().filter(|it| it.result == wanted).count();
        let (all, breached) = (self.findings.len(), count(Judgement::Breached));
        let budgets = if all == 1 { "budget" } else { "budgets" };
        match (&self.failure, self.status()) {
            (Some(failure), _) if breached > 0 => {
                format!("{failure}; and {breached} of {all} {budgets} breached")
            }
            (Some(failure), _) => failure.clone(),
            (None, Status::Breached) => format!("{breached} of {all} {budgets} breached"),
            (None, Status::Undecided) => {
                let undecided = self.findings.iter().filter(|it| it.result == Judgement::Undecided);
                let why: Vec<&str> = self
                    .doubts
                    .iter()
                    .map(String::as_str)
                    .chain(undecided.map(|it| it.detail.as_str()))
                    .collect();
                format!("undecided: {}", why.first().copied().unwrap_or_default())
            }
            (None, _) => format!("within {all} {budgets}"),
        }
    }
}

/// How an outcome is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Text,
    /// Workflow commands, which GitHub shows beside the lines of a change.
    Github,
    /// For Jenkins, GitLab and all that read test results.
    Junit,
    /// `alloctrace.check/1`.
    Json,
}

/// What else the writers must know.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Path of the capture, if it is kept.
    pub path: Option<String>,
    /// Sites that are shown of each breach.
    pub top: usize,
    /// Names suppressions too that were not needed.
    pub verbose: bool,
    /// Text may have colours.
    pub color: bool,
    /// Source files are named relative to this directory.
    pub workspace: Option<String>,
}

/// Writes `outcome` to `out`; `case` is what was judged.
///
/// # Errors
/// Those of `out`.
pub fn write(
    format: Format,
    outcome: &Outcome,
    case: &Case,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    match format {
        Format::Text => text::write(outcome, case, options, out),
        Format::Github => github::write(outcome, case, options, out),
        Format::Junit => junit::write(outcome, case, options, out),
        Format::Json => json::write(outcome, case, options, out),
    }
}

/// A page in Markdown, for GitHub's summary of a step.
///
/// # Errors
/// Those of `out`.
pub fn write_summary(
    outcome: &Outcome,
    case: &Case,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    github::write_summary(outcome, case, options, out)
}
