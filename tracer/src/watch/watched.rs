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

/// Whoever asks for the growth of a span wants at least this part of it to be known.
const NEARLY: f64 = 0.85;

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
    /// Of the last minute; `None` where too little is known, or nothing grows.
    pub growth_bytes_per_s: Option<f64>,
    /// The least of what its control groups and its own limits allow.
    pub limit_bytes: Option<u64>,
    /// Of the control groups with a limit that it is in: the one that will be full first.
    pub group: Option<Group<'a>>,
    /// The share of the last ten seconds in which somebody in its control group waited for memory, or if that is not known,
    /// on the machine.
    pub pressure: Option<f64>,
    /// What its sites hold.
    pub live: Cost,
    /// Each call of its allocator is followed.
    pub is_exact: bool,
}

/// A control group of a process that lives, or one above that has a limit.
#[derive(Clone, Debug, PartialEq)]
pub struct Group<'a> {
    pub path: &'a str,
    /// Without what the kernel would take back before it kills anybody.
    pub memory_bytes: u64,
    pub limit_bytes: Option<u64>,
    pub growth_bytes_per_s: Option<f64>,
    /// The share of the last ten seconds in which somebody in it waited for memory.
    pub pressure: Option<f64>,
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
        let exact = self.exact();
        self.recording.processes.values().filter_map(move |row| {
            let samples = self.recording.samples.get(&row.id)?;
            let last = samples.last()?;
            if row.ended.is_some() {
                return None;
            }
            let in_groups = || row.cgroup.iter().flat_map(|it| above(it)).filter_map(|it| groups.get(it));
            let group = in_groups().filter(|it| it.limit_bytes.is_some()).max_by(|a, b| a.cmp_fullness(b));
            // What it was allowed when it was met may have changed since.
            let limit_bytes = match in_groups().next() {
                Some(_) => in_groups().filter_map(|it| it.limit_bytes).min(),
                None => row.limit_bytes,
            };
            Some(Standing {
                row,
                rss_bytes: last.rss_bytes?,
                growth_bytes_per_s: self.growth(row.id, GROWTH_S),
                limit_bytes,
                group: group.cloned(),
                pressure: in_groups().next().and_then(|it| it.pressure).or(self.recording.pressure),
                live: last.live,
                is_exact: exact.get(&row.id).copied().unwrap_or(self.begins_exact()),
            })
        })
    }

    /// The control groups of processes that live, and those above them that have a limit, by path.
    pub fn groups(&self) -> impl Iterator<Item = Group<'_>> {
        let now = self.recording.times_s.len().saturating_sub(1) as u32;
        self.recording.cgroups.iter().filter_map(move |(path, samples)| {
            let (interval, last) = samples.last()?;
            (*interval == now).then(|| Group {
                path,
                memory_bytes: last.memory_bytes.saturating_sub(last.reclaimable_bytes.unwrap_or(0)),
                limit_bytes: last.limit_bytes,
                growth_bytes_per_s: self
                    .slope(samples.iter().map(|it| (it.0, it.1.memory_bytes)), GROWTH_S)
                    .map(|it| it.0),
                pressure: last.pressure,
            })
        })
    }

    /// Of a process, over the last minute that it lived.
    pub(super) fn rss_growth(&self, process: u32) -> Option<f64> {
        self.growth(process, GROWTH_S)
    }

    /// The growth of a process's resident memory in so many last seconds; `None` if it is not known for nearly so long, or
    /// has not grown.
    pub fn growth_over(&self, process: u32, span_s: f64) -> Option<f64> {
        let (slope, known_s) = self.slope(self.rss(process)?, span_s)?;
        (known_s >= NEARLY * span_s).then_some(slope)
    }

    /// Whether the calls of its allocator are followed, or were when it ended.
    pub fn is_exact(&self, process: u32) -> bool {
        let last = self.recording.tiers.iter().rfind(|it| it.process == process);
        last.map_or(self.begins_exact(), |it| it.tier == "exact")
    }

    /// As far as it is known.
    fn growth(&self, process: u32, span_s: f64) -> Option<f64> {
        self.slope(self.rss(process)?, span_s).map(|it| it.0)
    }

    fn rss(&self, process: u32) -> Option<impl DoubleEndedIterator<Item = (u32, u64)>> {
        let samples = self.recording.samples.get(&process)?;
        Some(samples.iter().filter_map(|it| Some((it.interval, it.rss_bytes?))))
    }

    /// Who is traced exactly or is not, against what was so at the beginning.
    fn exact(&self) -> BTreeMap<u32, bool> {
        self.recording.tiers.iter().map(|it| (it.process, it.tier == "exact")).collect()
    }

    fn begins_exact(&self) -> bool {
        ["", "exact"].contains(&&*self.recording.header.tier)
    }

    /// Bytes per second, by what there was in each interval of so many last seconds, and how many seconds those are.
    fn slope(&self, bytes: impl DoubleEndedIterator<Item = (u32, u64)>, span_s: f64) -> Option<(f64, f64)> {
        let now_s = self.now_s();
        let time_s = |interval: u32| self.recording.times_s[interval as usize];
        let recent =
            bytes.rev().map(|it| (time_s(it.0), it.1 as i64)).take_while(|it| it.0 >= now_s - span_s);
        let (mut times_s, mut bytes): (Vec<f64>, Vec<i64>) = recent.unzip();
        // Most stand still.
        if bytes.windows(2).all(|it| it[0] == it[1]) {
            return None;
        }
        times_s.reverse();
        bytes.reverse();
        Some((growth_bytes_per_s(&times_s, &bytes)?, now_s - times_s.first()?))
    }
}

/// A control group's path and those above it.
fn above(path: &str) -> impl Iterator<Item = &str> {
    std::path::Path::new(path).ancestors().filter_map(|it| it.to_str())
}

impl Standing<'_> {
    /// What it has of what it may have.
    pub fn share(&self) -> Option<f64> {
        share(self.rss_bytes, self.limit_bytes)
    }

    /// When it, or its control group, has what it may, if it goes on like this; `None` if nothing grows or there is no limit.
    pub fn time_to_limit_s(&self) -> Option<f64> {
        let own_s = time_to_limit_s(self.rss_bytes, self.limit_bytes, self.growth_bytes_per_s);
        // Of a group that grows those are to blame that grow themselves.
        let group = self.group.as_ref().filter(|_| self.growth_bytes_per_s.is_some());
        [own_s, group.and_then(Group::time_to_limit_s)].into_iter().flatten().min_by(f64::total_cmp)
    }
}

impl Group<'_> {
    /// As [`Standing::share`].
    pub fn share(&self) -> Option<f64> {
        share(self.memory_bytes, self.limit_bytes)
    }

    /// As [`Standing::time_to_limit_s`].
    pub fn time_to_limit_s(&self) -> Option<f64> {
        time_to_limit_s(self.memory_bytes, self.limit_bytes, self.growth_bytes_per_s)
    }

    fn cmp_fullness(&self, other: &Self) -> std::cmp::Ordering {
        self.share().unwrap_or(0.0).total_cmp(&other.share().unwrap_or(0.0))
    }
}

fn share(bytes: u64, limit_bytes: Option<u64>) -> Option<f64> {
    limit_bytes.map(|it| bytes as f64 / it.max(1) as f64)
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
                ..CgroupSample::default()
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
        // Its group will be full a second before.
        assert_eq!(process.time_to_limit_s(), Some(71.0));
        assert_eq!(watched.growth_over(1, 10.0), Some(1000.0));
        assert_eq!(watched.growth_over(1, 600.0), None, "it is not known for so long");
        assert_eq!(watched.groups().next().unwrap().time_to_limit_s(), Some(71.0));
    }

    #[test]
    fn what_does_not_grow_will_not() {
        let watched = watched(|_| 5000);
        assert_eq!(watched.processes().next().unwrap().time_to_limit_s(), None);
    }

    /// What limits a process may lie far above it, and most of it may be copies of files.
    #[test]
    fn the_fullest_group_counts() {
        let mut watched = Watched::default();
        let row =
            |cgroup: &str| ProcessRow { id: 1, cgroup: Some(cgroup.to_owned()), ..ProcessRow::default() };
        let group = |path: &str, memory_bytes, limit_bytes, reclaimable_bytes| CgroupSample {
            path: path.to_owned(),
            memory_bytes,
            limit_bytes,
            reclaimable_bytes,
            ..CgroupSample::default()
        };
        let cgroups = vec![
            group("/a", 60, Some(100), None),
            group("/a/b", 50, Some(52), Some(40)),
            group("/a/b/c", 50, None, None),
            group("/z", 99, Some(100), None),
        ];
        let processes = vec![ProcessSample { process: 1, rss_bytes: Some(26), ..ProcessSample::default() }];
        watched.add([Row::Process(row("/a/b/c"))]);
        watched.add([Row::Interval(IntervalRow { processes, cgroups, ..IntervalRow::default() })]);
        let process = watched.processes().next().unwrap();
        assert_eq!((process.limit_bytes, process.share()), (Some(52), Some(0.5)));
        assert_eq!(process.group.map(|it| (it.path, it.share())), Some(("/a", Some(0.6))));
    }

    #[test]
    fn who_has_ended_stands_nowhere() {
        let mut watched = watched(|_| 5000);
        let ended = Some(crate::capture::EndedRow::default());
        watched.add([Row::Process(ProcessRow { id: 1, ended, ..ProcessRow::default() })]);
        assert_eq!(watched.processes().count(), 0);
    }
}
