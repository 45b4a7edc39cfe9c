//! What is kept of those that died: which ends are incidents, and what is said of them.

#[cfg(test)]
mod tests;

use std::cmp::Reverse;

use serde::{Deserialize, Deserializer, de::Error as _};

use super::Watched;
use crate::{
    capture::{
        EndRow, EndedRow, FastestRow, GroupRow, IncidentRow, LargestRow, OomRow, ProcessRow, Recording,
        TriggerRow, VictimRow,
    },
    profile::{Frame, Profile, Query, Site, Sort},
    quantity,
};

/// Where incidents are kept, unless the user says otherwise.
pub const STATE_DIR: &str = "/var/lib/alloctrace";

/// How many incidents are kept.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct IncidentsConfig {
    pub keep: usize,
    #[serde(deserialize_with = "size")]
    pub max_size: u64,
}

/// How much is kept on disk of those that live.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(default, deny_unknown_fields, rename_all = "kebab-case")]
pub struct BlackBoxConfig {
    #[serde(deserialize_with = "size")]
    pub max_size: u64,
    /// Of each process.
    pub sites: usize,
}

impl Default for IncidentsConfig {
    /// An incident takes tens of KiB, or some MiB of a process with a hundred thousand sites.
    fn default() -> Self {
        Self { keep: 100, max_size: 256 << 20 }
    }
}

impl Default for BlackBoxConfig {
    fn default() -> Self {
        Self { max_size: 16 << 20, sites: 200 }
    }
}

fn size<'de, D: Deserializer<'de>>(text: D) -> Result<u64, D::Error> {
    quantity::size(&String::deserialize(text)?).map_err(D::Error::custom)
}

/// What is known beside the recording.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Facts {
    /// Of what happened, as RFC 3339.
    pub time: String,
    /// The victim's, and those above it.
    pub groups: Vec<GroupRow>,
    /// All of the machine.
    pub processes: Vec<LargestRow>,
    /// All that the kernel has logged lately.
    pub kernel_log: Option<Vec<String>>,
}

/// Sites of a victim that are kept.
const MAX_SITES: usize = 20_000;

/// Sites whose functions are added up.
const NAMED_SITES: usize = 1000;

/// Processes in each list of an incident.
const TOP: usize = 10;

/// Signals that end a process which has failed: those whose usual effect is a core dump (signal(7)), but for SIGQUIT, which is
/// asked for at a keyboard, or by a service's manager. All others are how programs are asked to end, and no incidents; nor is
/// an exit, whatever its code.
const CRASHES: [(u32, &str); 9] = [
    (4, "SIGILL"),
    (5, "SIGTRAP"),
    (6, "SIGABRT"),
    (7, "SIGBUS"),
    (8, "SIGFPE"),
    (11, "SIGSEGV"),
    (24, "SIGXCPU"),
    (25, "SIGXFSZ"),
    (31, "SIGSYS"),
];

const SIGKILL: u32 = 9;

/// The kind of the incident that an end is, and the signal's name; `None` if it is none.
pub fn ended_badly(ended: &EndedRow) -> Option<(&'static str, Option<&'static str>)> {
    match (&*ended.how, ended.code) {
        ("oom-kill", _) => Some(("oom-kill", None)),
        ("signal", SIGKILL) => Some(("killed", Some("SIGKILL"))),
        ("signal", code) => CRASHES.iter().find(|it| it.0 == code).map(|it| ("crash", Some(it.1))),
        _ => None,
    }
}

/// When it was chosen by the OOM killer, or ended.
pub fn happened_s(watched: &Watched, process: u32) -> Option<f64> {
    let oom = watched.recording.ooms.iter().rfind(|it| it.process == process);
    let ended = || watched.recording.processes.get(&process)?.ended.as_ref().map(|it| it.t_s);
    oom.map(|it| it.t_s).or_else(ended)
}

/// Everything about a process that was killed, or is about to be, as a recording; `None` if nothing is wrong with it.
pub fn incident(watched: &Watched, process: u32, facts: &Facts) -> Option<Recording> {
    let row = watched.recording.processes.get(&process)?;
    let oom = watched.recording.ooms.iter().rfind(|it| it.process == process);
    let (kind, signal) = match (oom, row.ended.as_ref().map(ended_badly)) {
        (Some(_), _) => ("oom-kill", None),
        (None, ended) => ended??,
    };
    let mut part = watched.recording.part(|it| it == process, MAX_SITES);
    let last_s = watched.now_s();
    let t_s = happened_s(watched, process).unwrap_or(last_s);
    let lines = facts.kernel_log.as_ref().map(|it| about(row.pid, it));
    let constraint = oom.and_then(|_| constraint(row.pid, lines.as_deref(), &facts.groups)).unzip();
    let rss_bytes = oom.and_then(OomRow::rss_bytes).or_else(|| last_rss(watched, process));
    part.end = Some(EndRow { t_s: last_s, reason: "saved".to_owned() });
    part.incident = Some(Box::new(IncidentRow {
        t_s,
        time: facts.time.clone(),
        kind: kind.to_owned(),
        constraint: constraint.0.map(str::to_owned),
        constraint_by: constraint.1.map(str::to_owned),
        signal: signal.map(str::to_owned),
        victim: Some(victim(watched, row, rss_bytes, &part)),
        trigger: oom.and_then(|it| Some(TriggerRow { pid: it.trigger_pid?, name: it.trigger.clone()? })),
        groups: facts.groups.clone(),
        largest: largest(row, rss_bytes, &facts.processes),
        fastest: fastest(watched),
        kernel_log: lines,
    }));
    Some(part)
}

/// What a tracer has left that was ended without a word.
pub fn interrupted(left: Recording, time: String) -> Recording {
    let mut watched = Watched { recording: left, ..Watched::default() };
    let (t_s, fastest) = (watched.recording.end_s(), fastest(&watched));
    let incident =
        IncidentRow { t_s, time, kind: "interrupted".to_owned(), fastest, ..IncidentRow::default() };
    watched.recording.incident = Some(Box::new(incident));
    watched.recording
}

fn victim(watched: &Watched, row: &ProcessRow, rss_bytes: Option<u64>, part: &Recording) -> VictimRow {
    let query = Query { overlapping: true, sort: Sort::Bytes, ..Query::default() };
    let profile = Profile::new(part, &query, NAMED_SITES);
    let live = profile.processes.first().map(|it| it.live).unwrap_or_default();
    let has_heap = profile.sites.iter().any(|it| &*it.kind == "heap" && it.live.bytes > 0);
    let holds = |kind: &str| if has_heap { kind == "heap" } else { kind == "resident" };
    // Whatever called it.
    let mut functions: Vec<(i64, String)> = Vec::new();
    for site in profile.sites.iter().filter(|it| holds(&it.kind)).take(NAMED_SITES) {
        let Some(name) = function(&profile, site) else { continue };
        match functions.iter_mut().find(|it| it.1 == name) {
            Some((bytes, _)) => *bytes += site.live.bytes,
            None => functions.push((site.live.bytes, name)),
        }
    }
    let most = functions.into_iter().filter(|it| it.0 > 0).max_by_key(|it| it.0);
    let t_s = happened_s(watched, row.id).unwrap_or_else(|| watched.now_s());
    let change = rss_bytes.and_then(|it| change(watched, row.id, it, t_s));
    let groups = row.cgroup.as_ref().and_then(|it| watched.recording.cgroups.get(it)?.last());
    VictimRow {
        process: row.id,
        pid: row.pid,
        name: row.name.clone(),
        command: row.command.clone(),
        cgroup: row.cgroup.clone(),
        limit_bytes: row.limit_bytes.into_iter().chain(groups.and_then(|it| it.1.limit_bytes)).min(),
        rss_bytes,
        growth_bytes_per_s: watched.rss_growth(row.id),
        change_bytes: change.map(|it| it.0),
        change_s: change.map(|it| it.1),
        is_exact: watched.is_exact(row.id),
        live_bytes: live.bytes,
        live_blocks: live.blocks,
        function_bytes: most.as_ref().map_or(0, |it| it.0),
        function: most.map(|it| it.1),
        ended: row.ended.as_ref().map(|it| it.how.clone()),
    }
}

/// The first function of a stack that is not there for its callers; if all are, the first.
fn function(profile: &Profile, site: &Site) -> Option<String> {
    let mut frames = profile.stack(site);
    let first = profile.stack(site).next();
    frames.find(|it| !it.serves_others()).or(first).map(Frame::label)
}

/// How far back the change of a victim is looked at.
const LAST_S: f64 = 60.0;

/// Up to `t_s`, when it had `rss_bytes`: by how many bytes in how many seconds.
fn change(watched: &Watched, process: u32, rss_bytes: u64, t_s: f64) -> Option<(i64, f64)> {
    let mut samples = watched.recording.samples.get(&process)?.iter().filter_map(|it| {
        let age_s = t_s - watched.recording.times_s[it.interval as usize];
        Some((it.rss_bytes?, age_s)).filter(|_| (0.0..=LAST_S).contains(&age_s))
    });
    let (first_bytes, age_s) = samples.next()?;
    Some((rss_bytes as i64 - first_bytes as i64, age_s)).filter(|it| it.1 > 0.0)
}

fn last_rss(watched: &Watched, process: u32) -> Option<u64> {
    watched.recording.samples.get(&process)?.iter().rev().find_map(|it| it.rss_bytes)
}

/// The victim may be dead already when others are looked at.
fn largest(victim: &ProcessRow, rss_bytes: Option<u64>, all: &[LargestRow]) -> Vec<LargestRow> {
    let mut largest: Vec<LargestRow> = all.iter().filter(|it| it.pid != victim.pid).cloned().collect();
    largest.extend(rss_bytes.map(|rss_bytes| LargestRow {
        pid: victim.pid,
        name: victim.name.clone(),
        rss_bytes,
    }));
    largest.sort_by_key(|it| (Reverse(it.rss_bytes), it.pid));
    largest.truncate(TOP);
    largest
}

fn fastest(watched: &Watched) -> Vec<FastestRow> {
    let now = watched.recording.times_s.len().saturating_sub(1) as u32;
    // Those that have ended since the last interval are in it.
    let is_there = |id: &u32| {
        watched.recording.samples.get(id).and_then(|it| it.last()).is_some_and(|it| it.interval == now)
    };
    let lived = watched.recording.processes.values().filter(|it| is_there(&it.id));
    let row = |it: &ProcessRow| {
        let growth_bytes_per_s = watched.rss_growth(it.id).filter(|it| *it > 0.0)?;
        let rss_bytes = last_rss(watched, it.id);
        Some(FastestRow { pid: it.pid, name: it.name.clone(), rss_bytes, growth_bytes_per_s })
    };
    let mut fastest: Vec<FastestRow> = lived.filter_map(row).collect();
    fastest.sort_by(|a, b| b.growth_bytes_per_s.total_cmp(&a.growth_bytes_per_s));
    fastest.truncate(TOP);
    fastest
}

/// What the kernel writes when it kills stands between these lines, with a table of all processes.
const OOM_BEGINS: &str = " invoked oom-killer: ";
const OOM_VICTIM: &str = "oom-kill:constraint=";

/// Of the report on memory that comes with it: the group's usage and limit.
const OOM_USAGE: [&str; 3] = ["memory: usage ", "swap: usage ", "Memory cgroup stats for "];

/// Lines about one process: of its last OOM kill, or those that name it as `name[pid]`.
fn about(pid: u32, log: &[String]) -> Vec<String> {
    let kill = format!(",pid={pid},");
    let Some(at) = log.iter().rposition(|it| it.starts_with(OOM_VICTIM) && it.contains(&kill)) else {
        let name = format!("[{pid}]");
        let is_named = |it: &&String| it.contains(&name) && !it.starts_with('[');
        let mut lines: Vec<String> = log.iter().rev().filter(is_named).take(TOP).cloned().collect();
        lines.reverse();
        return lines;
    };
    let begin = log[..at].iter().rposition(|it| it.contains(OOM_BEGINS)).unwrap_or(at);
    let is_usage = |it: &&String| OOM_USAGE.iter().any(|usage| it.starts_with(usage));
    let killed = [format!("Killed process {pid} "), format!("reaped process {pid} ")];
    let is_end = |it: &&String| killed.iter().any(|killed| it.contains(killed));
    let before = log[begin..at].iter().take(1).chain(log[begin..at].iter().skip(1).filter(is_usage));
    before.chain([&log[at]]).chain(log[at..].iter().filter(is_end)).cloned().collect()
}

/// Who had no memory left, and how that is known.
fn constraint(
    pid: u32,
    lines: Option<&[String]>,
    groups: &[GroupRow],
) -> Option<(&'static str, &'static str)> {
    const GROUP: &str = "memory-cgroup";
    const MACHINE: &str = "machine";
    let kill = format!(",pid={pid},");
    let said = lines.into_iter().flatten().find_map(|it| {
        let rest = it.strip_prefix(OOM_VICTIM)?;
        rest.contains(&kill).then_some(if rest.starts_with("CONSTRAINT_MEMCG") { GROUP } else { MACHINE })
    });
    if let Some(said) = said {
        return Some((said, "kernel-log"));
    }
    let mut unknown = groups.is_empty();
    for group in groups {
        let Some(limit_bytes) = group.limit_bytes else { continue };
        match group.peak_bytes.max(group.memory_bytes) {
            // It is charged by the page, and in advance.
            Some(bytes) if bytes >= limit_bytes / 100 * 99 => return Some((GROUP, "usage")),
            _ => unknown |= group.peak_bytes.is_none(),
        }
    }
    (!unknown).then_some((MACHINE, "usage"))
}
