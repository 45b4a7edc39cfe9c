//! A recording back into rows, for a run that was not written down as it went.

use super::{
    EndRow, FrameRow, IntervalRow, Point, ProcessSample, Recording, Row, Sample, SiteHistory, SiteRow,
    StackRow,
};

impl Recording {
    /// Rows that make this recording when they are added to an empty one, but for the header. Without an end of its own it
    /// ends by `reason` with its last interval.
    pub fn rows(&self, reason: &str) -> impl Iterator<Item = Row> {
        let end = || EndRow { t_s: self.end_s(), reason: reason.to_owned() };
        let missing = self.end.is_none().then(|| Row::End(end()));
        self.rows_so_far().chain(missing)
    }

    /// The same of one that may go on: no end but its own.
    pub fn rows_so_far(&self) -> impl Iterator<Item = Row> {
        let modules = self.modules.values().cloned().map(Row::Module);
        let stacks = self.stacks.keys().map(|it| Row::Stack(self.stack_row(*it)));
        let processes = self.processes.values().cloned().map(Row::Process);
        let ooms = self.ooms.iter().cloned().map(Row::Oom);
        let tiers = self.tiers.iter().cloned().map(Row::Tier);
        // First, so that a list of incidents is made of the beginnings of files.
        let incident = self.incident.clone().map(Row::Incident).into_iter();
        let things = incident.chain(modules).chain(stacks).chain(processes);
        let end = self.end.clone().map(Row::End);
        things.chain(self.history()).chain(ooms).chain(tiers).chain(end)
    }

    fn stack_row(&self, id: u32) -> StackRow {
        let stack = &self.stacks[&id];
        let frame = |it: &u32| -> FrameRow { self.frames[*it as usize].clone() };
        StackRow { id, stop: stack.stop.to_string(), frames: stack.frames.iter().map(frame).collect() }
    }

    /// Intervals and marks by time.
    fn history(&self) -> impl Iterator<Item = Row> {
        let changes = self.by_interval(&self.sites, |it| it.points.iter().map(|it| it.interval));
        let samples = self.by_interval(&self.samples, |it| it.iter().map(|it| it.interval));
        let cgroups = self.by_interval(&self.cgroups, |it| it.iter().map(|it| it.0));
        let mut marks = self.marks.iter().peekable();
        let last = self.times_s.len().saturating_sub(1);
        let intervals = self.times_s.iter().zip(changes).zip(samples).zip(cgroups).enumerate();
        let rows = intervals.flat_map(move |(at, (((&t_s, sites), processes), cgroups))| {
            let mut rows = Vec::new();
            while let Some(mark) = marks.next_if(|it| it.t_s < t_s) {
                rows.push(Row::Mark(mark.clone()));
            }
            rows.push(Row::Interval(IntervalRow {
                t_s,
                processes: processes.iter().map(|it| sample_row(it.0, &self.samples[&it.0][it.1])).collect(),
                cgroups: cgroups.iter().map(|it| self.cgroups[&it.0][it.1].1.clone()).collect(),
                sites: sites.iter().map(|it| site_row(it.0, &self.sites[&it.0], it.1)).collect(),
                pressure: self.pressure.filter(|_| at == last),
                loss: if at == last { self.losses.clone() } else { Default::default() },
            }));
            rows
        });
        let last_s = self.times_s.last().copied();
        let late = self.marks.iter().filter(move |it| last_s.is_none_or(|last_s| it.t_s >= last_s));
        rows.chain(late.cloned().map(Row::Mark))
    }

    /// For each interval: whose state changed in it, and the place of that state.
    fn by_interval<'a, K: Clone + 'a, T: 'a, I: Iterator<Item = u32>>(
        &self,
        all: impl IntoIterator<Item = (&'a K, &'a T)>,
        intervals: impl Fn(&'a T) -> I,
    ) -> Vec<Vec<(K, usize)>> {
        let mut changes = vec![Vec::new(); self.times_s.len()];
        for (id, states) in all {
            for (place, interval) in intervals(states).enumerate() {
                changes[interval as usize].push((id.clone(), place));
            }
        }
        changes
    }
}

fn sample_row(process: u32, sample: &Sample) -> ProcessSample {
    ProcessSample {
        process,
        rss_bytes: sample.rss_bytes,
        live_bytes: sample.live.bytes,
        live_blocks: sample.live.blocks,
        unknown_frees: sample.unknown_frees,
        unsampled_frees: sample.unsampled_frees,
        arena_bytes: sample.arena_bytes,
        cpu_us: sample.cpu_us,
        tracing_us: sample.tracing_us,
    }
}

/// Births are known as of the last point only, and nobody asks for earlier ones.
fn site_row(id: u32, site: &SiteHistory, place: usize) -> SiteRow {
    let Point { allocated, freed, peak_bytes, reused_bytes, samples, .. } = site.points[place];
    let is_last = place + 1 == site.points.len();
    SiteRow {
        site: id,
        process: site.process,
        kind: site.kind.to_string(),
        via: site.via.to_string(),
        stack: site.stack,
        allocated_bytes: allocated.bytes,
        allocated_blocks: allocated.blocks,
        freed_bytes: freed.bytes,
        freed_blocks: freed.blocks,
        peak_bytes,
        reused_bytes,
        live_error_bytes: samples.live_error_bytes,
        live_error_blocks: samples.live_error_blocks,
        allocated_error_bytes: samples.allocated_error_bytes,
        unseen_bytes: samples.unseen_bytes,
        sample_bytes: samples.rate_bytes,
        cohorts: if is_last { site.cohorts.clone() } else { Vec::new() },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{capture::MarkRow, profile::sample_recording};

    fn again(recording: &Recording) -> Recording {
        let mut again = Recording::default();
        again.add(Row::Header(recording.header.clone()));
        recording.rows("saved").for_each(|it| again.add(it));
        again
    }

    #[test]
    fn its_rows_make_it_again() {
        let recording = sample_recording();
        assert_eq!(again(&recording), recording);
        let mut thin = recording;
        thin.thin();
        assert_eq!(again(&thin), thin);
    }

    #[test]
    fn without_an_end_it_is_said_to_be_saved() {
        let mut open = sample_recording();
        open.end = None;
        open.add(Row::Mark(MarkRow { t_s: 4.0, label: String::new() }));
        let saved = again(&open);
        assert_eq!(saved.end, Some(EndRow { t_s: 4.0, reason: "saved".to_owned() }));
        assert_eq!(saved.marks, open.marks);
    }
}
