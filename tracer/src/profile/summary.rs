//! What groups of processes hold together, and what the kernel says of their control groups.

use std::collections::BTreeMap;

use super::{By, Process, window::Window};
use crate::{
    capture::{CgroupSample, Recording},
    cost::Cost,
};

/// Processes of one group.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Summary {
    pub name: String,
    pub processes: usize,
    pub ended: usize,
    /// Heap blocks, without those of processes that are gone.
    pub live: Cost,
    pub allocated: Cost,
    /// Of those that live, together.
    pub rss_bytes: u64,
    /// The highest of any one of them.
    pub rss_max_bytes: u64,
    pub growth_bytes_per_s: f64,
}

impl Summary {
    /// Of each group, the one that holds most first.
    pub fn of<'a>(processes: impl IntoIterator<Item = &'a Process>, by: By) -> Vec<Self> {
        let mut groups: BTreeMap<String, Self> = BTreeMap::new();
        for process in processes {
            let name = by.key(&process.row).into_owned();
            groups.entry(name).or_default().add(process);
        }
        let named = groups.into_iter().map(|(name, it)| Self { name, ..it });
        let mut summaries: Vec<Self> = named.collect();
        summaries.sort_by_key(|it| (-it.live.bytes, std::cmp::Reverse(it.rss_bytes), -it.allocated.bytes));
        summaries
    }

    fn add(&mut self, process: &Process) {
        self.processes += 1;
        self.ended += usize::from(process.row.ended.is_some());
        self.allocated += process.allocated;
        self.rss_max_bytes = self.rss_max_bytes.max(process.rss_max_bytes.unwrap_or(0));
        if !process.is_gone {
            self.live += process.live;
            self.growth_bytes_per_s += process.growth_bytes_per_s;
        }
        if process.row.ended.is_none() {
            self.rss_bytes += process.rss_last_bytes.unwrap_or(0);
        }
    }
}

/// A control group, as the kernel accounts it.
#[derive(Clone, Debug, PartialEq)]
pub struct Control {
    pub path: String,
    /// (seconds, bytes, limit) at the ends of the intervals of the window.
    pub moments: Vec<(f64, u64, Option<u64>)>,
}

impl Control {
    pub fn last_bytes(&self) -> Option<u64> {
        self.moments.last().map(|it| it.1)
    }

    pub fn most_bytes(&self) -> Option<u64> {
        self.moments.iter().map(|it| it.1).max()
    }

    /// As it was last.
    pub fn limit_bytes(&self) -> Option<u64> {
        self.moments.last().and_then(|it| it.2)
    }
}

/// Those of `processes`, by path.
pub(super) fn controls(recording: &Recording, window: &Window, processes: &[Process]) -> Vec<Control> {
    let mut paths: Vec<&str> = processes.iter().filter_map(|it| it.row.cgroup.as_deref()).collect();
    paths.sort_unstable();
    paths.dedup();
    let moment = |(interval, it): &(u32, CgroupSample)| {
        let t_s = recording.times_s[*interval as usize];
        window.intervals().contains(interval).then_some((t_s, it.memory_bytes, it.limit_bytes))
    };
    let control = |path: &str| {
        let moments = recording.cgroups.get(path)?.iter().filter_map(moment).collect();
        Some(Control { path: path.to_owned(), moments })
    };
    paths.into_iter().filter_map(control).collect()
}
