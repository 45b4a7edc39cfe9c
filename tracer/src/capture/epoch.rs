//! States of the heap as rows.

use super::{
    IntervalRow, ProcessRow, ProcessSample,
    rows::{CohortRow, EndedRow, OomRow, SiteRow},
};
use crate::{
    event::{Choice, ProcessId, Via},
    interval::{Cohort, Ended, Interval, ProcessState, SiteState},
};

/// The moment from which a recording counts its seconds; with it, states become rows.
#[derive(Clone, Debug)]
pub struct Epoch {
    pub started_ns: u64,
    /// What the user calls the functions of his own pools, by the number in [`Via::Custom`].
    pub pools: Vec<String>,
}

impl Epoch {
    /// Seconds from the beginning to `time_ns`, in milliseconds: what a person or a plot can use.
    pub fn seconds(&self, time_ns: u64) -> f64 {
        (time_ns.saturating_sub(self.started_ns) / 1_000_000) as f64 / 1e3
    }

    /// The row of an interval; `rss_bytes` gives the resident bytes of the processes that live.
    pub fn interval_row(
        &self,
        interval: &Interval,
        rss_bytes: impl Fn(ProcessId) -> Option<u64>,
    ) -> IntervalRow {
        IntervalRow {
            t_s: self.seconds(interval.time_ns),
            processes: interval.processes.iter().map(|it| sample(it, rss_bytes(it.id))).collect(),
            cgroups: Vec::new(),
            pressure: None,
            sites: interval.sites.iter().map(|it| self.site_row(it)).collect(),
            loss: interval.losses.iter().map(|(loss, count)| (loss.name().to_owned(), count)).collect(),
        }
    }

    pub fn oom_row(&self, process: ProcessId, time_ns: u64, choice: &Choice) -> OomRow {
        let (trigger_pid, trigger) = choice.trigger.clone().unzip();
        OomRow {
            t_s: self.seconds(time_ns),
            process: process.0,
            trigger_pid,
            trigger: trigger.map(|it| it.to_string()),
            total_vm_bytes: choice.total_vm_bytes,
            anon_bytes: choice.anon_bytes,
            file_bytes: choice.file_bytes,
            shmem_bytes: choice.shmem_bytes,
            page_table_bytes: choice.page_table_bytes,
            uid: choice.uid,
            oom_score_adj: choice.oom_score_adj,
        }
    }

    fn site_row(&self, site: &SiteState) -> SiteRow {
        SiteRow {
            site: site.id.0,
            process: site.process.0,
            kind: site.kind.name().to_owned(),
            via: self.via(site.via).to_owned(),
            stack: site.stack.0,
            allocated_bytes: site.allocated.bytes,
            allocated_blocks: site.allocated.blocks,
            freed_bytes: site.freed.bytes,
            freed_blocks: site.freed.blocks,
            peak_bytes: site.peak_bytes,
            reused_bytes: site.reused_bytes,
            live_error_bytes: site.samples.live_error.bytes,
            live_error_blocks: site.samples.live_error.blocks,
            allocated_error_bytes: site.samples.allocated_error.bytes,
            unseen_bytes: site.samples.unseen_bytes,
            sample_bytes: site.samples.rate_bytes,
            cohorts: site.cohorts.iter().map(|it| self.cohort_row(it)).collect(),
        }
    }

    fn via(&self, via: Via) -> &str {
        match via {
            Via::Custom(number) => self.pools.get(usize::from(number)).map_or(via.name(), String::as_str),
            known => known.name(),
        }
    }

    fn cohort_row(&self, cohort: &Cohort) -> CohortRow {
        CohortRow {
            from_s: self.seconds(cohort.from_ns),
            to_s: self.seconds(cohort.to_ns),
            bytes: cohort.live.bytes,
            blocks: cohort.live.blocks,
        }
    }

    /// The row of a process; what is not in `state` is for the caller to fill in.
    pub fn process_row(&self, state: &ProcessState) -> ProcessRow {
        let ended = |it: Ended| EndedRow {
            t_s: self.seconds(it.time_ns),
            how: it.how.name().to_owned(),
            code: it.code,
        };
        ProcessRow {
            id: state.id.0,
            pid: state.tgid,
            parent: state.parent.map(|it| it.0),
            name: state.name.to_string(),
            began_s: self.seconds(state.began_ns),
            ended: state.ended.map(ended),
            ..ProcessRow::default()
        }
    }
}

fn sample(state: &ProcessState, rss_bytes: Option<u64>) -> ProcessSample {
    ProcessSample {
        process: state.id.0,
        rss_bytes,
        live_bytes: state.live.bytes,
        live_blocks: state.live.blocks,
        unknown_frees: state.unknown_frees,
        unsampled_frees: state.unsampled_frees,
        arena_bytes: state.arena_bytes,
        cpu_us: None,
        tracing_us: None,
    }
}
