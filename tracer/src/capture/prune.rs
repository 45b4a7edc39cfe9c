//! What keeps a recording small whose run has no end: what nothing refers to any more is forgotten.

use std::collections::BTreeSet;

use rustc_hash::{FxHashMap, FxHashSet};

use super::Recording;

impl Recording {
    /// Forgets what belongs to no process that is here: tiers, control groups that nobody is in, stacks without a site, and
    /// their frames and files. Whoever adds rows must tell of a stack again before a new site has it.
    pub fn prune(&mut self) {
        let processes = &self.processes;
        self.tiers.retain(|it| processes.contains_key(&it.process));
        self.ooms.retain(|it| processes.contains_key(&it.process));
        let groups: FxHashSet<&str> = processes.values().filter_map(|it| it.cgroup.as_deref()).collect();
        let last = self.times_s.len().saturating_sub(1) as u32;
        let is_here = |samples: &Vec<(u32, _)>| samples.last().is_some_and(|it: &(u32, _)| it.0 == last);
        self.cgroups.retain(|path, samples| groups.contains(path.as_str()) || is_here(samples));
        let stacks: FxHashSet<u32> = self.sites.values().map(|it| it.stack).collect();
        self.stacks.retain(|id, _| stacks.contains(id));
        self.prune_frames();
    }

    fn prune_frames(&mut self) {
        let used: BTreeSet<u32> = self.stacks.values().flat_map(|it| it.frames.iter().copied()).collect();
        let moved: FxHashMap<u32, u32> = used.iter().copied().zip(0..).collect();
        let mut at = 0;
        self.frames.retain(|_| {
            at += 1;
            moved.contains_key(&(at - 1))
        });
        for frame in self.stacks.values_mut().flat_map(|it| it.frames.iter_mut()) {
            *frame = moved[frame];
        }
        // Of two of the same place the later has the better name.
        self.frame_ids = (0..).zip(&self.frames).map(|(id, it)| ((it.module, it.offset), id)).collect();
        let mut names = FxHashSet::default();
        names.extend(self.frames.iter().filter_map(|it| it.function.clone()));
        names.extend(self.stacks.values().map(|it| it.stop.clone()));
        names.extend(self.sites.values().flat_map(|it| [it.kind.clone(), it.via.clone()]));
        self.names = names;
    }
}

#[cfg(test)]
mod tests {
    use crate::{
        capture::{
            CgroupSample, EndedRow, FrameRow, IntervalRow, ProcessRow, Recording, Row, SiteRow, StackRow,
            TierRow,
        },
        profile::sample_recording,
    };

    /// Process `id` has a stack of its own and one of all.
    fn process(recording: &mut Recording, id: u32, has_ended: bool) {
        let frame = |offset: u64, name: &str| FrameRow { module: 1, offset, function: Some(name.into()) };
        let stack = |number: u32, function: &str| {
            let frames = vec![frame(number.into(), function), frame(1000, "main")];
            Row::Stack(StackRow { id: number, stop: "complete".to_owned(), frames })
        };
        recording.add(stack(0, "all"));
        recording.add(stack(id, &format!("f{id}")));
        let cgroup = Some(format!("/{id}"));
        let ended = has_ended.then(EndedRow::default);
        recording.add(Row::Process(ProcessRow { id, cgroup, ended, ..ProcessRow::default() }));
        recording.add(Row::Tier(TierRow { process: id, ..TierRow::default() }));
        let site = |at: u32, stack| SiteRow { site: 2 * id + at, process: id, stack, ..SiteRow::default() };
        let cgroups = vec![CgroupSample { path: format!("/{id}"), ..CgroupSample::default() }];
        let sites = vec![site(0, 0), site(1, id)];
        recording.add(Row::Interval(IntervalRow {
            t_s: f64::from(id),
            sites,
            cgroups,
            ..IntervalRow::default()
        }));
    }

    #[test]
    fn what_nothing_refers_to_is_forgotten() {
        let mut recording = Recording::default();
        (1..=20).for_each(|id| process(&mut recording, id, id <= 15));
        recording.forget_ended(0);
        recording.prune();
        assert_eq!(recording.stacks.len(), 6);
        assert_eq!(
            (recording.frames.len(), recording.names.len()),
            (7, 9),
            "and a word for complete stacks, and one for no kind"
        );
        assert_eq!((recording.tiers.len(), recording.cgroups.len()), (5, 5));
        for (id, name) in [(0, "all"), (16, "f16"), (20, "f20")] {
            let names =
                recording.stacks[&id].frames.iter().map(|it| &recording.frames[*it as usize].function);
            let names: Vec<_> = names.map(|it| it.as_deref().unwrap()).collect();
            assert_eq!(names, [name, "main"]);
        }
        // What comes later finds what is there.
        process(&mut recording, 21, false);
        assert_eq!((recording.frames.len(), recording.stacks.len()), (8, 7));
    }

    #[test]
    fn what_is_needed_stays() {
        let recording = sample_recording();
        let mut pruned = recording.clone();
        pruned.prune();
        assert_eq!(pruned.sites, recording.sites);
        assert_eq!(pruned.processes, recording.processes);
        let names = |it: &Recording| -> Vec<_> {
            let name = |frame: &u32| it.frames[*frame as usize].function.clone();
            let of_site = |site: &crate::capture::SiteHistory| -> Vec<_> {
                it.stacks[&site.stack].frames.iter().map(name).collect()
            };
            it.sites.values().map(of_site).collect()
        };
        assert_eq!(names(&pruned), names(&recording));
    }
}
