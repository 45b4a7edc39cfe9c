//! How far the numbers can be trusted, as one letter.

use std::{collections::BTreeMap, fmt, str::FromStr};

use super::{Profile, Site};
use crate::event::Loss;

/// From the best to the worst; a worse grade is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Nothing was lost: every number is exact and every stack complete.
    A,
    /// Every number is exact; stacks that end early hold under 1 % of the live bytes.
    B,
    /// Every number is exact; stacks that end early hold more.
    C,
    /// Events were lost, under 0.1 % of all.
    D,
    /// Events were lost, under 5 %.
    E,
    /// More, or nothing at all was recorded.
    F,
}

/// Losses after which bytes are wrong, as opposed to names or stacks.
const COUNTED: [Loss; 13] = [
    Loss::LostEvents,
    Loss::ThreadsFull,
    Loss::ProcessesFull,
    Loss::StaleCalls,
    Loss::UnreadableResults,
    Loss::FailedUnmaps,
    Loss::LostFrees,
    Loss::FailedProbes,
    Loss::LateProbes,
    Loss::LateProcesses,
    Loss::MalformedRecords,
    Loss::UnsizedPages,
    Loss::UntrackedBlocks,
];

impl Grade {
    /// `events` are the allocations and frees that were seen.
    pub(super) fn of(losses: &BTreeMap<String, u64>, events: u64, sites: &[Site]) -> Self {
        if losses.get(Loss::UnfollowedProcesses.name()).is_some_and(|it| *it > 0) {
            // What was not followed was not counted either.
            return Self::F;
        }
        let lost: u64 = COUNTED.iter().filter_map(|it| losses.get(it.name())).sum();
        if lost > 0 {
            let share = lost as f64 / (lost + events) as f64;
            return match share {
                it if it < 0.001 => Self::D,
                it if it < 0.05 => Self::E,
                _ => Self::F,
            };
        }
        if losses.is_empty() {
            return Self::A;
        }
        let live = |it: &Site| it.live.bytes.max(0);
        let all: i64 = sites.iter().map(live).sum();
        let incomplete: i64 = sites.iter().filter(|it| !it.is_complete()).map(live).sum();
        if incomplete * 100 < all.max(1) { Self::B } else { Self::C }
    }

    /// The grade in words.
    pub fn meaning(self) -> &'static str {
        match self {
            Self::A => "nothing was lost: every number is exact and every stack complete",
            Self::B => "every number is exact; stacks that end early hold under 1 % of the live bytes",
            Self::C => "every number is exact; stacks that end early hold 1 % of the live bytes or more",
            Self::D => "some events were lost, under 0.1 % of all",
            Self::E => "events were lost, under 5 % of all",
            Self::F => "many events were lost, or all: do not rely on the numbers",
        }
    }
}

impl Profile {
    /// The grade in words: where blocks or page faults were sampled no number is exact, and the grade is about what else may be
    /// wrong.
    pub fn trust(&self) -> &'static str {
        let is_estimated = self.sample_bytes().is_some() || self.sites.iter().any(Site::is_resident);
        match (self.grade, is_estimated) {
            (Grade::A, true) => {
                "nothing was lost: estimates are as good as their errors say, and every stack is complete"
            }
            (Grade::B, true) => {
                "estimates are as good as their errors say; stacks that end early hold under 1 % of the live bytes"
            }
            (Grade::C, true) => {
                "estimates are as good as their errors say; stacks that end early hold 1 % of the live bytes or more"
            }
            (Grade::F, _) if self.loss(Loss::UnfollowedProcesses) > 0 => {
                "calls were not followed all the time: what is held now is not known"
            }
            (grade, _) => grade.meaning(),
        }
    }
}

impl fmt::Display for Grade {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{self:?}")
    }
}

impl FromStr for Grade {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::A, Self::B, Self::C, Self::D, Self::E, Self::F];
        let found = all.into_iter().find(|it| it.to_string().eq_ignore_ascii_case(text));
        found.ok_or_else(|| "must be a letter from A to F".to_owned())
    }
}
