//! An interval of a run: what has changed, with what the machine says of those that are traced.

use std::{
    collections::{BTreeSet, HashMap},
    time::Duration,
};

use anyhow::Result;
use tokio::time::Instant;

use super::{BATCH, MachineSample, Run};
use crate::{
    capture::CgroupSample,
    event::{Event, ProcessId},
    interval::{How, Interval},
    kernel::{
        self,
        accounting::{self, Accounted},
        process,
    },
};

/// How often it is looked, in a run without an end, which files nobody has mapped any more.
const FILES: Duration = Duration::from_secs(60);
const FILES_IF_MANY: Duration = Duration::from_secs(10);

impl Run {
    /// Returns the resident bytes of those that live.
    pub(super) fn take_interval(&mut self) -> Result<HashMap<ProcessId, u64>> {
        self.drain();
        self.has_victims = false;
        let mut interval: Interval = self.heap.interval(kernel::now_ns());
        for (loss, count) in self.kernel.losses().iter() {
            interval.losses.add(loss, count);
        }
        let rss: HashMap<ProcessId, u64> =
            self.alive.iter().filter_map(|(id, tgid)| Some((*id, process::rss_bytes(*tgid)?))).collect();
        self.recorder.modules(self.kernel.new_modules())?;
        let descriptions = self.kernel.take_descriptions();
        for (process, description) in &descriptions {
            self.groups.extend(description.cgroup.clone().map(|it| (*process, it)));
        }
        self.recorder.descriptions(descriptions)?;
        for (process, allocators) in self.kernel.new_allocators() {
            self.recorder.allocators(process, allocators);
        }
        self.groups.retain(|process, _| self.alive.contains_key(process));
        let groups = accounting::with_limited(self.groups.values().cloned());
        let machine = MachineSample {
            cgroups: groups.into_iter().filter_map(group_sample).collect(),
            pressure: accounting::pressure(),
        };
        let used = self.budget.take_used(&self.alive);
        self.recorder.interval(interval, rss.clone(), used, machine)?;
        self.kernel.forget_stacks(&self.heap.forget_stacks());
        self.forget_files()?;
        Ok(rss)
    }

    fn forget_files(&mut self) -> Result<()> {
        let every = if self.kernel.objects_are_many() { FILES_IF_MANY } else { FILES };
        if self.files_looked_at.is_some_and(|it| it.elapsed() >= every) {
            self.files_looked_at = Some(Instant::now());
            self.recorder.forget(self.kernel.forget_objects())?;
        }
        Ok(())
    }

    /// Processes whose end was not reported, because the ring was full. Most that are missing have only just ended, and
    /// the record of that is on its way; so it has the time until this is called again.
    pub(super) fn forget_vanished(&mut self, rss_bytes: &HashMap<ProcessId, u64>) {
        let is_gone = |it: &(&ProcessId, &u32)| !rss_bytes.contains_key(it.0) && !process::is_alive(*it.1);
        let gone: BTreeSet<ProcessId> =
            self.alive.iter().filter(is_gone).map(|(process, _)| *process).collect();
        let missing = std::mem::replace(&mut self.missing, gone);
        if missing.is_disjoint(&self.missing) {
            return;
        }
        while self.drain() == BATCH {}
        let time_ns = kernel::now_ns();
        for process in missing.intersection(&self.missing) {
            if self.alive.remove(process).is_some() {
                self.kernel.forget(*process);
                self.heap.apply(&Event::Leave { process: *process, time_ns, how: How::Unseen });
            }
        }
    }
}

fn group_sample(path: String) -> Option<CgroupSample> {
    let Accounted { memory_bytes, limit_bytes, reclaimable_bytes, pressure, oom_count, oom_kill_count } =
        accounting::of_group(&path)?;
    Some(CgroupSample {
        path,
        memory_bytes,
        limit_bytes,
        reclaimable_bytes,
        pressure,
        oom_count,
        oom_kill_count,
    })
}
