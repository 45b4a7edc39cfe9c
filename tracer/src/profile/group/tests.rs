//! Recordings of several processes, looked at in every way.

use super::*;
use crate::{
    capture::{
        CgroupSample, CohortRow, EndRow, EndedRow, FrameRow, IntervalRow, ModuleRow, ProcessSample, Row,
        SiteRow, StackRow,
    },
    profile::{Profile, Query, Verdict, judge::Verdict::Growing},
};

/// (id, pid, exe, control group, ended at)
type Who = (u32, u32, &'static str, Option<&'static str>, Option<f64>);

/// Six seconds of `who`. Each has one site of stack 0, which holds `held[process][second]` bytes in as many blocks.
fn recording(who: &[Who], held: &[[i64; 6]]) -> Recording {
    let mut recording = Recording::default();
    let module = |id, path: &str| ModuleRow { id, path: path.to_owned(), build_id: Some("ab".to_owned()) };
    recording.add(Row::Module(module(1, "/lib/a")));
    let frame = |module| FrameRow { module, offset: 0x10, function: Some("grow".into()) };
    let stack = |id, module| StackRow { id, stop: "complete".to_owned(), frames: vec![frame(module)] };
    recording.add(Row::Stack(stack(0, 1)));
    // A copy of the library in another container.
    recording.add(Row::Module(module(2, "/container/lib/a")));
    recording.add(Row::Stack(stack(1, 2)));
    for &(id, pid, exe, cgroup, ended) in who {
        let ended = ended.map(|t_s| EndedRow { t_s, how: "exit".to_owned(), code: 0 });
        let (exe, name) = (exe.to_owned(), format!("comm{id}"));
        let cgroup = cgroup.map(str::to_owned);
        recording.add(Row::Process(ProcessRow {
            id,
            pid,
            name,
            exe,
            cgroup,
            ended,
            ..ProcessRow::default()
        }));
    }
    for second in 0..6 {
        let mut row = IntervalRow { t_s: second as f64 + 1.0, ..IntervalRow::default() };
        for (&(id, .., ended), held) in who.iter().zip(held) {
            if ended.is_some_and(|it| it <= second as f64) {
                continue;
            }
            let (allocated, live) = (held[..=second].iter().max().unwrap(), held[second]);
            let cohort = CohortRow { from_s: second as f64, to_s: row.t_s, bytes: live, blocks: live };
            row.sites.push(SiteRow {
                site: id * 10,
                process: id,
                kind: "heap".to_owned(),
                via: "malloc".to_owned(),
                stack: id % 2,
                allocated_bytes: *allocated,
                allocated_blocks: *allocated,
                freed_bytes: allocated - live,
                freed_blocks: allocated - live,
                peak_bytes: *allocated,
                reused_bytes: 0,
                cohorts: vec![cohort],
                ..SiteRow::default()
            });
            row.processes.push(ProcessSample { process: id, live_bytes: live, ..ProcessSample::default() });
        }
        row.cgroups.push(CgroupSample {
            path: "/a".to_owned(),
            memory_bytes: second as u64,
            limit_bytes: None,
            ..CgroupSample::default()
        });
        recording.add(Row::Interval(row));
    }
    recording.add(Row::End(EndRow { t_s: 6.0, reason: "signal".to_owned() }));
    recording
}

/// Three that live: two of one file, two of one control group.
fn servers() -> Recording {
    let who = [
        (1, 7, "/bin/server", Some("/a"), None),
        (2, 8, "/opt/server (deleted)", Some("/b"), None),
        (3, 9, "", Some("/b"), None),
    ];
    recording(&who, &[[10, 10, 10, 10, 10, 10], [1, 2, 3, 4, 5, 6], [9, 1, 9, 1, 9, 1]])
}

/// (group, pid, live, sites of processes)
fn check(recording: &Recording, query: Query, expected: &[(&str, Option<u32>, i64, usize)]) {
    let profile = Profile::new(recording, &query, 10);
    let found: Vec<_> = profile
        .sites
        .iter()
        .map(|it| (&*profile.group(it).unwrap().name, it.pid, it.live.bytes, it.merged_sites()))
        .collect();
    assert_eq!(found, expected);
    for site in &profile.sites {
        assert_eq!(site.live, site.allocated - site.freed);
        let history = site.history(recording, 5).unwrap();
        assert_eq!(history.at(5).live(), site.live);
    }
}

#[test]
fn sites_are_of_whom_one_asks_for() {
    let recording = servers();
    let by = |by| Query { by, ..Query::default() };
    check(
        &recording,
        by(By::Process),
        &[("comm1 (7)", Some(7), 10, 1), ("comm2 (8)", Some(8), 6, 1), ("comm3 (9)", Some(9), 1, 1)],
    );
    check(&recording, by(By::Command), &[("server", None, 16, 2), ("comm3", None, 1, 1)]);
    check(&recording, by(By::Cgroup), &[("/a", None, 10, 1), ("/b", None, 7, 2)]);
    check(&recording, by(By::All), &[("all processes", None, 17, 3)]);
    let some = Query { by: By::All, pids: vec![7, 9], ..Query::default() };
    check(&recording, some, &[("all processes", None, 11, 2)]);
}

#[test]
fn a_part_of_the_recording_adds_up_as_well() {
    let recording = servers();
    let query = |by| Query { by, from_s: Some(2.0), to_s: Some(4.0), ..Query::default() };
    let totals = |by| Profile::new(&recording, &query(by), 10).totals();
    assert_eq!(totals(By::All), totals(By::Process));
    assert_eq!(totals(By::Command), totals(By::Process));
}

#[test]
fn what_grows_together_is_judged_together() {
    let profile = Profile::new(&servers(), &Query { by: By::Command, ..Query::default() }, 10);
    let server = &profile.sites[0];
    assert_eq!((server.growth_bytes_per_s, server.peak_bytes), (1.0, 16));
    assert!(matches!(server.verdict, Growing { .. }), "{:?}", server.verdict);
    // Two that take turns hold the same all the time.
    let who = [(1, 7, "/bin/x", None, None), (2, 8, "/bin/x", None, None)];
    let turns = recording(&who, &[[0, 50, 0, 50, 0, 50], [50, 0, 50, 0, 50, 0]]);
    let profile = Profile::new(&turns, &Query { by: By::All, ..Query::default() }, 10);
    let site = &profile.sites[0];
    assert_eq!((site.growth_bytes_per_s, site.peak_bytes, site.live.bytes), (0.0, 50, 50));
}

#[test]
fn what_a_process_held_when_it_ended_is_not_held_by_those_that_go_on() {
    let who = [
        (1, 7, "/bin/cc", None, Some(1.5)),
        (2, 8, "/bin/cc", None, Some(3.5)),
        (3, 9, "/bin/cc", None, Some(6.0)),
    ];
    let compilers = recording(&who, &[[30, 30, 0, 0, 0, 0], [0, 0, 30, 30, 0, 0], [0, 0, 0, 0, 30, 30]]);
    let query = |by| Query { by, ..Query::default() };
    let profile = Profile::new(&compilers, &query(By::Process), 10);
    assert_eq!((profile.totals().0.bytes, profile.ended.bytes), (90, 60));
    let mappings = Query { kind: Some("mmap".to_owned()), ..Query::default() };
    assert_eq!(Profile::new(&compilers, &mappings, 10).ended.bytes, 0, "none of them ended with a mapping");
    // Whoever ended last still shows what it ended with.
    check(&compilers, query(By::Command), &[("cc", None, 30, 3)]);
    let profile = Profile::new(&compilers, &query(By::All), 10);
    assert_eq!((profile.totals().0.bytes, profile.ended.bytes), (30, 60));
    let site = &profile.sites[0];
    assert_eq!((site.peak_bytes, site.allocated.bytes, site.freed.bytes), (30, 90, 60));
    assert!(!matches!(site.verdict, Verdict::Growing { .. }), "{:?}", site.verdict);
}

#[test]
fn a_number_that_was_used_again_is_two_processes() {
    let who = [(1, 7, "/bin/x", None, Some(2.0)), (2, 7, "/bin/y", None, None)];
    let mut reused = recording(&who, &[[5; 6], [6; 6]]);
    reused.processes.values_mut().for_each(|it| it.name = "x".to_owned());
    let query = Query { pids: vec![7], ..Query::default() };
    check(&reused, query, &[("x (7) from 0.000 s", Some(7), 6, 1), ("x (7)", Some(7), 5, 1)]);
}

#[test]
fn control_groups_have_the_kernels_figures() {
    let profile = Profile::new(&servers(), &Query { from_s: Some(2.0), ..Query::default() }, 10);
    let [group] = &profile.controls[..] else { panic!("{:?}", profile.controls) };
    let figures = (group.last_bytes(), group.most_bytes(), group.limit_bytes());
    assert_eq!((&*group.path, figures, group.moments.len()), ("/a", (Some(5), Some(5), None), 4));
}
