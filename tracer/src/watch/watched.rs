//! Where the processes of a run stand: what each has, how it grows, and when it will have what it may.

use std::collections::BTreeMap;

use super::{Alerting, Wear};
use crate::{
    capture::{ProcessRow, Recording, Row},
    cost::Cost,
    profile::growth_bytes_per_s,
};

/// How far back the growth of a process is looked at.
const GROWTH_S: f64 = 60.0;

/// Everything that is known of a run in progress.
#[derive(Clone, Debug, Default)]
pub struct Watched {
    pub recording: Recording,
    /// Those that were written, by kind.
    pub incidents: BTreeMap<String, u64>,
    /// What is alarming at the moment.
    pub alerting: Alerting,
    pub wear: Wear,
}

/// A process that lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Standing<'a> {
    pub row: &'a ProcessRow,
    pub rss_bytes: u64,
    /// Of the last minute; `None` where too little is known.
    pub growth_bytes_per_s: Option<f64>,
    /// The least of what its control group and its own limits allow.
    pub limit_bytes: Option<u64>,
    /// What its sites hold.
    pub live: Cost,
    /// Each call of its allocator is followed.
    pub is_exact: bool,
}

/// A control group of a process that lives.
#[derive(Clone, Debug, PartialEq)]
pub struct Group<'a> {
    pub path: &'a str,
    pub memory_bytes: u64,
    pub limit_bytes: Option<u64>,
    pub growth_bytes_per_s: Option<f64>,
}

impl Watched {
    pub fn add(&mut self, rows: impl IntoIterator<Item = Row>) {
        for row in rows {
            if let Row::Interval(interval) = &row {
                self.wear.note(&self.recording, interval);
            }
            self.recording.add(row);
        }
    }

    /// Seconds since tracing began, at the end of the last interval.
    pub fn now_s(&self) -> f64 {
        self.recording.times_s.last().copied().unwrap_or(0.0)
    }

    /// The processes that live, by number.
    pub fn processes(&self) -> impl Iterator<Item = Standing<'_>> {
        let groups: BTreeMap<&str, Group<'_>> = self.groups().map(|it| (it.path, it)).collect();
        self.recording.processes.values().filter_map(move |row| {
            let samples = self.recording.samples.get(&row.id)?;
            let last = samples.last()?;
            if row.ended.is_some() {
                return None;
            }
            let group = row.cgroup.as_deref().and_then(|it| groups.get(it));
            let limits = [row.limit_bytes, group.and_then(|it| it.limit_bytes)];
            let rss = samples.iter().filter_map(|it| Some((it.interval, it.rss_bytes?)));
            Some(Standing {
                row,
                rss_bytes: last.rss_bytes?,
                growth_bytes_per_s: self.growth(rss),
                limit_bytes: limits.into_iter().flatten().min(),
                live: last.live,
                is_exact: self.is_exact(row.id),
            })
        })
    }

    /// The control groups of processes that live, by path.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        let now = self.recording.times_s.len().saturating_sub(1) as u32;
        self.recording.cgroups.iter().filter_map(move |(path, samples)| {
            let (interval, last) = samples.last()?;
            (*interval == now).then(|| Group {
                path,
                memory_bytes: last.memory_bytes,
                limit_bytes: last.limit_bytes,
                growth_bytes_per_s: self.growth(samples.iter().map(|it| (it.0, it.1.memory_bytes))),
            })
        })
    }

    /// Of a process, over the last minute that it lived.
    pub(super) fn rss_growth(&self, process: u32) -> Option<f64> {
        let samples = self.recording.samples.get(&process)?;
        self.growth(samples.iter().filter_map(|it| Some((it.interval, it.rss_bytes?))))
    }

    pub fn is_exact(&self, process: u32) -> bool {
        let last = self.recording.tiers.iter().rfind(|it| it.process == process);
        last.map_or(["", "exact"].contains(&&*self.recording.header.tier), |it| it.tier == "exact")
    }

    /// By what there was in each interval.
    fn growth(&self, bytes: impl DoubleEndedIterator<Item = (u32, u64)>) -> Option<f64> {
        let from_s = self.now_s() - GROWTH_S;
        let time_s = |interval: u32| self.recording.times_s[interval as usize];
        let recent = bytes.rev().take_while(|it| time_s(it.0) >= from_s);
        let (mut times_s, mut bytes): (Vec<f64>, Vec<i64>) =
            recent.map(|(interval, bytes)| (time_s(interval), bytes as i64)).unzip();
        times_s.reverse();
        bytes.reverse();
        growth_bytes_per_s(&times_s, &bytes)
    }
}

impl Standing<'_> {
    /// When it has what it may, if it goes on like this; `None` if it does not grow or has no limit.
    pub fn time_to_limit_s(&self) -> Option<f64> {
        time_to_limit_s(self.rss_bytes, self.limit_bytes, self.growth_bytes_per_s)
    }
}

impl Group<'_> {
    /// As [`Standing::time_to_limit_s`].
    pub fn time_to_limit_s(&self) -> Option<f64> {
        time_to_limit_s(self.memory_bytes, self.limit_bytes, self.growth_bytes_per_s)
    }
}

fn time_to_limit_s(bytes: u64, limit_bytes: Option<u64>, growth_bytes_per_s: Option<f64>) -> Option<f64> {
    let growth = growth_bytes_per_s.filter(|it| *it > 0.0)?;
    Some(limit_bytes?.saturating_sub(bytes) as f64 / growth)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{CgroupSample, IntervalRow, ProcessSample};

    fn watched(rss_bytes: impl Fn(u32) -> u64) -> Watched {
        let mut watched = Watched::default();
        let row = ProcessRow { id: 1, cgroup: Some("/app".to_owned()), ..ProcessRow::default() };
        watched.add([Row::Process(row)]);
        for second in 0..30 {
            let rss_bytes = rss_bytes(second);
            let sample = ProcessSample { process: 1, rss_bytes: Some(rss_bytes), ..ProcessSample::default() };
            let group = CgroupSample {
                path: "/app".to_owned(),
                memory_bytes: rss_bytes + 1000,
                limit_bytes: Some(101_000),
            };
            watched.add([Row::Interval(IntervalRow {
                t_s: f64::from(second),
                processes: vec![sample],
                cgroups: vec![group],
                ..IntervalRow::default()
            })]);
        }
        watched
    }

    #[test]
    fn what_grows_will_be_at_its_limit() {
        let watched = watched(|second| u64::from(1000 * second));
        let process = watched.processes().next().unwrap();
        assert_eq!((process.rss_bytes, process.limit_bytes), (29_000, Some(101_000)));
        assert_eq!(process.growth_bytes_per_s, Some(1000.0));
        assert_eq!(process.time_to_limit_s(), Some(72.0));
        assert_eq!(watched.groups().next().unwrap().time_to_limit_s(), Some(71.0));
    }

    #[test]
    fn what_does_not_grow_will_not() {
        let watched = watched(|_| 5000);
        assert_eq!(watched.processes().next().unwrap().time_to_limit_s(), None);
    }

    #[test]
    fn who_has_ended_stands_nowhere() {
        let mut watched = watched(|_| 5000);
        let ended = Some(crate::capture::EndedRow::default());
        watched.add([Row::Process(ProcessRow { id: 1, ended, ..ProcessRow::default() })]);
        assert_eq!(watched.processes().count(), 0);
    }
}
