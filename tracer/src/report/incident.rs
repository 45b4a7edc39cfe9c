//! What happened, for the head of a report: who was killed by whom, at which limit, and what the kernel said.

use super::{escape::printable, units, words};
use crate::capture::{GroupRow, IncidentRow, VictimRow};

/// Processes of a list that are shown. JSON has all of them.
const MAX_PROCESSES: usize = 5;

/// Enough to recognise a function that is a page long.
const FUNCTION_CHARS: usize = 60;

/// Line by line: a word, and what is to be said of it. The first says what happened.
pub(super) fn lines(incident: &IncidentRow) -> Vec<(&'static str, String)> {
    let happened = format!("{}   at {}", words::incident(incident), printable(&incident.time));
    let mut lines = vec![("incident", happened)];
    if let Some(victim) = &incident.victim {
        lines.push(("victim", stood(victim)));
        lines.push(("held", held(victim)));
    }
    if let Some(trigger) = &incident.trigger {
        let is_victim = incident.victim.as_ref().is_some_and(|it| it.pid == trigger.pid);
        let who = if is_victim { "the victim itself" } else { "another process" };
        lines.push((
            "trigger",
            format!("{} ({}), {who}, needed memory", printable(&trigger.name), trigger.pid),
        ));
    }
    lines.extend(incident.groups.iter().map(|it| ("cgroup", group(it))));
    let largest = incident.largest.iter().take(MAX_PROCESSES);
    let largest: Vec<String> = largest
        .map(|it| format!("{} ({}) {}", printable(&it.name), it.pid, units::bytes(it.rss_bytes as i64)))
        .collect();
    if !largest.is_empty() {
        lines.push(("largest", format!("{}   (resident, of all processes)", largest.join(", "))));
    }
    let fastest = incident.fastest.iter().take(MAX_PROCESSES);
    let fastest: Vec<String> = fastest
        .map(|it| format!("{} ({}) {}", printable(&it.name), it.pid, units::rate(it.growth_bytes_per_s)))
        .collect();
    if !fastest.is_empty() {
        lines.push(("fastest", format!("{}   (last minute, of those watched)", fastest.join(", "))));
    }
    match &incident.kernel_log {
        None if incident.victim.is_some() => lines.push(("kernel", "its log could not be read".to_owned())),
        said => lines.extend(said.iter().flatten().map(|it| ("kernel", printable(it).into_owned()))),
    }
    lines
}

fn stood(victim: &VictimRow) -> String {
    let mut text = format!("{} ({})", printable(&victim.name), victim.pid);
    if let Some(rss_bytes) = victim.rss_bytes {
        text += &format!(": {} resident", units::bytes(rss_bytes as i64));
    }
    if let Some(limit_bytes) = victim.limit_bytes {
        text += &format!(", {} allowed", units::bytes(limit_bytes as i64));
    }
    if let (Some(bytes), Some(seconds)) = (victim.change_bytes, victim.change_s) {
        text += &format!(", {} in its last {}", units::change(bytes), units::seconds(seconds));
    }
    text
}

fn held(victim: &VictimRow) -> String {
    let how = if victim.is_exact { "allocated since it was traced" } else { "touched, by samples" };
    let function = victim.function.as_ref().map_or_else(String::new, |it| {
        let bytes = units::bytes(victim.function_bytes);
        format!(", most in {}: {bytes}", words::shorten(it, FUNCTION_CHARS))
    });
    format!("{} ({how}){function}", units::bytes(victim.live_bytes))
}

fn group(group: &GroupRow) -> String {
    let bytes = |it: Option<u64>| it.map_or_else(|| "?".to_owned(), |it| units::bytes(it as i64));
    let limit = match group.limit_bytes {
        Some(limit_bytes) => format!(" of {}", units::bytes(limit_bytes as i64)),
        None => ", no limit".to_owned(),
    };
    let peak =
        group.peak_bytes.map_or_else(String::new, |it| format!(", at most {}", units::bytes(it as i64)));
    let happened = group.events.iter().filter(|it| *it.1 > 0);
    let events: Vec<String> = happened.map(|(name, count)| format!("{} {count}", printable(name))).collect();
    let events = if events.is_empty() { String::new() } else { format!("   ({})", events.join(", ")) };
    format!("{}: {}{limit}{peak}{events}", printable(&group.path), bytes(group.memory_bytes))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::capture::{FastestRow, LargestRow, TriggerRow};

    fn check(incident: &IncidentRow, expected: &str) {
        let lines: Vec<String> =
            lines(incident).iter().map(|(word, text)| format!("{word:8} {text}")).collect();
        assert_eq!(lines.join("\n"), expected);
    }

    #[test]
    fn an_oom_kill_in_a_group() {
        let victim = VictimRow {
            pid: 7,
            name: "app".to_owned(),
            limit_bytes: Some(64 << 20),
            rss_bytes: Some(60 << 20),
            change_bytes: Some(30 << 20),
            change_s: Some(2.5),
            is_exact: true,
            live_bytes: 50 << 20,
            function: Some("leak".to_owned()),
            function_bytes: 49 << 20,
            ..VictimRow::default()
        };
        let group = GroupRow {
            path: "/app".to_owned(),
            memory_bytes: Some(64 << 20),
            limit_bytes: Some(64 << 20),
            peak_bytes: Some(64 << 20),
            events: BTreeMap::from([("oom_kill".to_owned(), 1), ("under_oom".to_owned(), 0)]),
        };
        let incident = IncidentRow {
            time: "2026-01-02T03:04:05Z".to_owned(),
            kind: "oom-kill".to_owned(),
            constraint: Some("memory-cgroup".to_owned()),
            victim: Some(victim),
            trigger: Some(TriggerRow { pid: 9, name: "cc1plus".to_owned() }),
            groups: vec![group],
            largest: vec![LargestRow { pid: 7, name: "app".to_owned(), rss_bytes: 60 << 20 }],
            fastest: vec![FastestRow {
                pid: 7,
                name: "app".to_owned(),
                growth_bytes_per_s: 1048576.0,
                ..FastestRow::default()
            }],
            kernel_log: Some(vec!["Killed process 7 (app\x1b)".to_owned()]),
            ..IncidentRow::default()
        };
        check(
            &incident,
            "\
incident KILLED BY THE OOM KILLER: its control group was at its limit   at 2026-01-02T03:04:05Z
victim   app (7): 60.0 MiB resident, 64.0 MiB allowed, +30.0 MiB in its last 2.5 s
held     50.0 MiB (allocated since it was traced), most in leak: 49.0 MiB
trigger  cc1plus (9), another process, needed memory
cgroup   /app: 64.0 MiB of 64.0 MiB, at most 64.0 MiB   (oom_kill 1)
largest  app (7) 60.0 MiB   (resident, of all processes)
fastest  app (7) +1.0 MiB/s   (last minute, of those watched)
kernel   Killed process 7 (app\\u{1b})",
        );
    }

    #[test]
    fn an_interrupted_run_has_no_victim() {
        let incident = IncidentRow {
            time: "2026-01-02T03:04:05Z".to_owned(),
            kind: "interrupted".to_owned(),
            ..IncidentRow::default()
        };
        check(
            &incident,
            "incident the tracer itself was ended without a word: this is what it knew   at 2026-01-02T03:04:05Z",
        );
    }
}
