//! Where everybody stands, in numbers: what metrics, health and the list of processes are made of. Bounded, however many
//! processes and sites there are.

use std::{cmp::Reverse, collections::BTreeMap};

use rustc_hash::FxHashMap;

use super::question::{Facts, is_holding};
use crate::{
    capture::{Recording, Sample, SiteHistory},
    profile::{Expense, serves_others},
    watch::{Standing, Watched},
};

/// How many are named in the metrics.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    pub processes: usize,
    pub sites: usize,
}

impl Default for Limits {
    /// Prometheus advises against more than some hundreds of series of one name from one target.
    fn default() -> Self {
        Self { processes: 100, sites: 100 }
    }
}

/// Processes that a list shows, and control groups that metrics name.
const MAX_PROCESSES: usize = 1000;
const MAX_GROUPS: usize = 200;

/// How far back it is looked what tracing costs.
const EXPENSE_S: f64 = 60.0;

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Overview {
    pub(super) tool_version: String,
    pub(super) host: String,
    pub(super) target: String,
    /// Since tracing began.
    pub(super) now_s: f64,
    pub(super) interval_s: f64,
    pub(super) since_interval_s: f64,
    pub(super) events: u64,
    /// By name, those that happened.
    pub(super) losses: BTreeMap<String, u64>,
    /// When they grew last.
    pub(super) grew_s: BTreeMap<String, f64>,
    /// Those that live, largest first.
    pub(super) processes: Vec<Process>,
    pub(super) other_processes: Rest,
    pub(super) groups: Vec<Group>,
    pub(super) other_groups: Rest,
    pub(super) sites: Vec<Site>,
    pub(super) other_sites: Rest,
    pub(super) alerts: BTreeMap<(String, String), u64>,
    pub(super) alert_failures: BTreeMap<&'static str, u64>,
    pub(super) incidents: BTreeMap<String, u64>,
    pub(super) troubles: Vec<String>,
    pub(super) limits: Limits,
}

/// What did not fit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rest {
    pub(super) count: u64,
    pub(super) bytes: i64,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Process {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) cgroup: Option<String>,
    pub(super) rss_bytes: u64,
    pub(super) limit_bytes: Option<u64>,
    pub(super) growth_bytes_per_s: Option<f64>,
    pub(super) time_to_limit_s: Option<f64>,
    /// What its sites hold that say who holds its memory.
    pub(super) live_bytes: i64,
    pub(super) is_exact: bool,
    pub(super) overhead: Option<f64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Group {
    pub(super) path: String,
    pub(super) memory_bytes: u64,
    pub(super) limit_bytes: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Site {
    pub(super) id: u32,
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) function: String,
    pub(super) via: String,
    pub(super) live_bytes: i64,
}

impl Overview {
    pub(super) fn of(facts: &Facts<'_>, limits: Limits) -> Self {
        let watched = facts.watched;
        let recording = &watched.recording;
        let standing: Vec<Standing<'_>> = watched.processes().collect();
        let (sites, other_sites, live_bytes) = sites(recording, &standing, limits.sites);
        let mut processes: Vec<Process> =
            standing.iter().map(|it| process(watched, it, live_bytes.get(&it.row.id))).collect();
        processes.sort_by_key(|it| (Reverse(it.rss_bytes), it.pid));
        let other_processes = cut(&mut processes, MAX_PROCESSES, |it| it.rss_bytes as i64);
        let group = |it: crate::watch::Group<'_>| Group {
            path: it.path.to_owned(),
            memory_bytes: it.memory_bytes,
            limit_bytes: it.limit_bytes,
        };
        let mut groups: Vec<Group> = watched.groups().map(group).collect();
        groups.sort_by(|a, b| b.memory_bytes.cmp(&a.memory_bytes).then_with(|| a.path.cmp(&b.path)));
        let other_groups = cut(&mut groups, MAX_GROUPS, |it| it.memory_bytes as i64);
        Self {
            tool_version: recording.header.tool_version.clone(),
            host: recording.header.host.clone(),
            target: recording.header.target.clone(),
            now_s: watched.now_s(),
            interval_s: recording.header.interval_s,
            since_interval_s: facts.since_interval_s,
            events: watched.wear.events,
            losses: recording.losses.clone(),
            grew_s: watched.wear.grew_s.clone(),
            processes,
            other_processes,
            groups,
            other_groups,
            sites,
            other_sites,
            alerts: facts.alerts.clone(),
            alert_failures: facts.alert_failures.clone(),
            incidents: facts.incidents.clone(),
            troubles: facts.troubles.clone(),
            limits,
        }
    }
}

/// Leaves the first `count`; returns the sum of the others.
pub(super) fn cut<T>(all: &mut Vec<T>, count: usize, bytes: impl Fn(&T) -> i64) -> Rest {
    let kept = count.min(all.len());
    let rest = sum(&all[kept..], bytes);
    all.truncate(kept);
    rest
}

pub(super) fn sum<T>(all: &[T], bytes: impl Fn(&T) -> i64) -> Rest {
    Rest { count: all.len() as u64, bytes: all.iter().map(bytes).sum() }
}

fn process(watched: &Watched, standing: &Standing<'_>, live_bytes: Option<&i64>) -> Process {
    let samples = watched.recording.samples.get(&standing.row.id).map_or(&[][..], |it| it);
    Process {
        pid: standing.row.pid,
        name: standing.row.name.clone(),
        cgroup: standing.row.cgroup.clone(),
        rss_bytes: standing.rss_bytes,
        limit_bytes: standing.limit_bytes,
        growth_bytes_per_s: standing.growth_bytes_per_s,
        time_to_limit_s: standing.time_to_limit_s(),
        live_bytes: live_bytes.copied().unwrap_or(0),
        is_exact: standing.is_exact,
        overhead: overhead(&watched.recording, samples),
    }
}

/// What tracing has added to the CPU time of the last minute.
fn overhead(recording: &Recording, samples: &[Sample]) -> Option<f64> {
    let time_s = |it: &Sample| recording.times_s[it.interval as usize];
    let last = samples.last()?;
    let from_s = time_s(last) - EXPENSE_S;
    let first = samples.iter().rev().take_while(|it| time_s(it) >= from_s).filter(|it| it.cpu_us.is_some());
    let first = first.last()?;
    let since = |of: fn(&Sample) -> Option<u64>| Some(of(last)?.saturating_sub(of(first)?));
    let expense = Expense { cpu_us: since(|it| it.cpu_us)?, tracing_us: since(|it| it.tracing_us)? };
    expense.says_something().then(|| expense.share())
}

/// The largest, the sum of the others, and what all of a process's hold, by its number.
fn sites(
    recording: &Recording,
    standing: &[Standing<'_>],
    count: usize,
) -> (Vec<Site>, Rest, FxHashMap<u32, i64>) {
    let lives: FxHashMap<u32, &Standing<'_>> = standing.iter().map(|it| (it.row.id, it)).collect();
    let mut live_bytes: FxHashMap<u32, i64> = FxHashMap::default();
    let mut holding: Vec<(i64, u32)> = Vec::new();
    for (id, site) in &recording.sites {
        let Some(process) = lives.get(&site.process).filter(|it| is_holding(site, it.is_exact)) else {
            continue;
        };
        let bytes = site.points.last().map_or(0, |it| it.live().bytes);
        *live_bytes.entry(process.row.id).or_default() += bytes;
        if bytes > 0 {
            holding.push((bytes, *id));
        }
    }
    // There may be a million of them, and only the first are wanted in order.
    let key = |it: &(i64, u32)| (Reverse(it.0), it.1);
    if count < holding.len() {
        holding.select_nth_unstable_by_key(count, key);
    }
    let rest = cut(&mut holding, count, |it| it.0);
    holding.sort_unstable_by_key(key);
    let site = |(bytes, id): &(i64, u32)| {
        let site = &recording.sites[id];
        let process = lives[&site.process].row;
        Site {
            id: *id,
            pid: process.pid,
            name: process.name.clone(),
            function: function(recording, site),
            via: site.via.to_string(),
            live_bytes: *bytes,
        }
    };
    (holding.iter().map(site).collect(), rest, live_bytes)
}

/// Who asked for the memory: the innermost function that does not serve others.
fn function(recording: &Recording, site: &SiteHistory) -> String {
    let frames = recording.stacks.get(&site.stack).map_or(&[][..], |it| &it.frames);
    let frames = frames.iter().map(|it| &recording.frames[*it as usize]);
    let mut named = frames.filter(|it| it.function.is_some());
    let module = |id: u32| recording.modules.get(&id).map_or("", |it| &it.path);
    let innermost = named.clone().next();
    let own = named.find(|it| !serves_others(it.function.as_deref(), module(it.module)));
    own.or(innermost).and_then(|it| it.function.as_deref()).unwrap_or("").to_owned()
}
