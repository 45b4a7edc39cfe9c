//! What may be asked of whoever knows where things stand, and his side of the answer: he gives away copies of what is
//! asked for, bounded, and goes on. Making pages of them is our business.

use std::collections::{BTreeMap, BTreeSet};

use tokio::sync::oneshot;

use super::overview::{Limits, Overview};
use crate::{
    capture::{EndRow, Part, Recording, SiteHistory},
    event::Kind,
    watch::Watched,
};

/// A question, with where its answer goes.
#[derive(Debug)]
pub enum Question {
    Overview(Limits, oneshot::Sender<Box<Overview>>),
    Excerpt(About, oneshot::Sender<Option<Box<Excerpt>>>),
}

/// All that is known where a question is answered.
pub struct Facts<'a> {
    pub watched: &'a Watched,
    /// How long ago the last interval came.
    pub since_interval_s: f64,
    /// What is alarming now: (budget, severity), and of how many.
    pub alerts: BTreeMap<(String, String), u64>,
    /// Alerts that could not be told, by whom they were for.
    pub alert_failures: BTreeMap<&'static str, u64>,
    /// Incidents that were written since the start, by kind.
    pub incidents: BTreeMap<String, u64>,
    /// What does not work, in words.
    pub troubles: Vec<String>,
}

impl<'a> Facts<'a> {
    pub fn new(watched: &'a Watched) -> Self {
        Self {
            watched,
            since_interval_s: 0.0,
            alerts: BTreeMap::new(),
            alert_failures: BTreeMap::new(),
            incidents: BTreeMap::new(),
            troubles: Vec::new(),
        }
    }
}

/// Whose recording is wanted, and what of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct About {
    /// `None`: of all that live.
    pub(super) pid: Option<u32>,
    pub(super) span: Span,
    pub(super) kinds: Kinds,
}

/// Which moments.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Span {
    /// All that is known.
    #[default]
    History,
    /// The last one, and the one nearest to this time.
    Since(f64),
}

/// Which sites. Resident memory lies inside of the others.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub(super) enum Kinds {
    All,
    /// Of each process those that say who holds its memory.
    #[default]
    Holding,
    One(&'static str),
}

/// A part of the recording.
#[derive(Debug)]
pub struct Excerpt {
    pub(super) recording: Recording,
    /// Where it begins; `None`: with the tracing.
    pub(super) from_s: Option<f64>,
}

/// The answer goes where the question says.
pub fn answer(question: Question, facts: &Facts<'_>) {
    match question {
        // Whoever asked may have left meanwhile.
        Question::Overview(_, to) if to.is_closed() => {}
        Question::Excerpt(_, to) if to.is_closed() => {}
        Question::Overview(limits, to) => drop(to.send(Box::new(Overview::of(facts, limits)))),
        Question::Excerpt(about, to) => drop(to.send(excerpt(facts.watched, &about).map(Box::new))),
    }
}

/// `None` if there is no such process.
fn excerpt(watched: &Watched, about: &About) -> Option<Excerpt> {
    let recording = &watched.recording;
    let processes = match about.pid {
        // The last that had this number.
        Some(pid) => {
            let ids = recording.processes.values().filter(|it| it.pid == pid).map(|it| it.id);
            BTreeSet::from([ids.max()?])
        }
        None => recording.processes.values().filter(|it| it.ended.is_none()).map(|it| it.id).collect(),
    };
    let exact: BTreeSet<u32> = processes.iter().copied().filter(|it| watched.is_exact(*it)).collect();
    let wants_site = |_: u32, it: &SiteHistory| match about.kinds {
        Kinds::All => true,
        Kinds::Holding => is_holding(it, exact.contains(&it.process)),
        Kinds::One(kind) => *it.kind == *kind,
    };
    let last = recording.times_s.len().checked_sub(1).map(|it| it as u32);
    let (moments, from_s) = match (about.span, last) {
        (Span::History, _) | (_, None) => (None, None),
        (Span::Since(from_s), Some(last)) => {
            // If no interval has ended since, nothing is in it.
            let from = recording.interval_near(from_s);
            let moments: Vec<u32> = from.filter(|it| *it < last).into_iter().chain([last]).collect();
            (Some(moments), from.map(|it| recording.times_s[it as usize]))
        }
    };
    let part = Part { processes: &processes, wants_site: &wants_site, moments: moments.as_deref() };
    let mut recording = recording.excerpt(&part);
    // Nothing was cut off: the tracing goes on.
    let end_s = recording.end_s();
    recording.end.get_or_insert_with(|| EndRow { t_s: end_s, reason: "saved".to_owned() });
    // It says how those that are in it are traced.
    if exact.is_empty() {
        "growth".clone_into(&mut recording.header.tier);
    } else if exact.len() == processes.len() {
        "exact".clone_into(&mut recording.header.tier);
    }
    Some(Excerpt { recording, from_s })
}

/// A process whose calls are followed is told by its blocks and mappings, any other one by its pages.
pub(super) fn is_holding(site: &SiteHistory, is_exact: bool) -> bool {
    (*site.kind == *Kind::Resident.name()) != is_exact
}
