//! Questions to a small recording.

use super::*;
use crate::capture::{
    CohortRow, EndRow, FrameRow, IntervalRow, ModuleRow, ProcessRow, ProcessSample, Row, SiteRow, StackRow,
};

/// Two sites of one process over four seconds: `leak` grows by 100 bytes a second, `cache` has held 1000
/// bytes since the first second.
pub(crate) fn recording() -> Recording {
    let mut recording = Recording::default();
    rows().into_iter().for_each(|it| recording.add(it));
    recording
}

/// The rows of that recording.
fn rows() -> Vec<Row> {
    let mut rows = vec![
        Row::Header(Header {
            schema: "alloctrace.capture/1".to_owned(),
            interval_s: 1.0,
            target: "-p 7".to_owned(),
            host: "box".to_owned(),
            started: "2026-01-02T03:04:05Z".to_owned(),
            ..Header::default()
        }),
        Row::Module(ModuleRow { id: 1, path: "/opt/app".to_owned(), build_id: Some("ab12".to_owned()) }),
        Row::Process(ProcessRow {
            id: 1,
            pid: 7,
            name: "app".to_owned(),
            command: "app --serve".to_owned(),
            ..ProcessRow::default()
        }),
    ];
    for (id, leaf) in [(0, "leak"), (1, "cache")] {
        let frame = |name: &str, offset| FrameRow { module: 1, offset, function: Some(name.into()) };
        let mut frames = vec![frame(leaf, 0x1000 + u64::from(id)), frame("main", 0x2000)];
        frames.push(FrameRow { module: 1, offset: 0x3000, function: None });
        rows.push(Row::Stack(StackRow { id, stop: "complete".to_owned(), frames }));
    }
    rows.extend((1..=4).map(|second| Row::Interval(interval(second))));
    rows.push(Row::Mark(MarkRow { t_s: 2.0, label: String::new() }));
    rows.push(Row::End(EndRow { t_s: 4.0, reason: "signal".to_owned() }));
    rows
}

fn interval(second: i64) -> IntervalRow {
    let cohort = |from_s: f64, bytes, blocks| CohortRow { from_s, to_s: from_s + 1.0, bytes, blocks };
    let leak = SiteRow {
        site: 0,
        process: 1,
        kind: "heap".to_owned(),
        via: "malloc".to_owned(),
        stack: 0,
        allocated_bytes: second * 150,
        allocated_blocks: second * 3,
        freed_bytes: second * 50,
        freed_blocks: second,
        peak_bytes: second * 100,
        reused_bytes: 0,
        cohorts: (0..second).map(|it| cohort(it as f64, 100, 2)).collect(),
        ..SiteRow::default()
    };
    let cache = SiteRow {
        site: 1,
        stack: 1,
        via: "calloc".to_owned(),
        allocated_bytes: 1000,
        allocated_blocks: 1,
        freed_bytes: 0,
        freed_blocks: 0,
        peak_bytes: 1000,
        cohorts: vec![cohort(0.0, 1000, 1)],
        ..leak.clone()
    };
    let process = ProcessSample {
        process: 1,
        rss_bytes: Some(1 << 20),
        live_bytes: second * 100 + 1000,
        live_blocks: second * 2 + 1,
        unknown_frees: 5,
        unsampled_frees: 0,
        arena_bytes: 4096,
        ..ProcessSample::default()
    };
    IntervalRow {
        t_s: second as f64,
        processes: vec![process],
        cgroups: Vec::new(),
        pressure: None,
        sites: if second == 1 { vec![leak, cache] } else { vec![leak] },
        loss: BTreeMap::from([("truncated_stacks".to_owned(), 1)]),
    }
}

#[test]
fn live_is_allocated_less_freed() {
    let profile = Profile::new(&recording(), &Query::default(), 10);
    let (live, allocated, freed) = profile.totals();
    assert_eq!(live, allocated - freed);
    assert_eq!(live, Cost { bytes: 1400, blocks: 9 });
    assert_eq!((profile.unknown_frees(), profile.grade), (5, Grade::B));
}

#[test]
fn growth_ranks_the_leak_above_the_cache() {
    let first = |sort| {
        let profile = Profile::new(&recording(), &Query { sort, ..Query::default() }, 10);
        profile.stack(&profile.sites[0]).next().unwrap().label()
    };
    assert_eq!(first(Sort::Bytes), "cache");
    assert_eq!(first(Sort::Growth), "leak");
    assert_eq!(first(Sort::Blocks), "leak");
}

#[test]
fn verdicts_and_slopes() {
    let profile = Profile::new(&recording(), &Query::default(), 10);
    let [cache, leak] = &profile.sites[..] else { panic!("two sites") };
    assert_eq!((leak.growth_bytes_per_s, leak.verdict), (100.0, Verdict::Growing { kept: 8.0 / 12.0 }));
    assert_eq!((cache.growth_bytes_per_s, cache.verdict), (0.0, Verdict::Steady));
    assert_eq!((leak.oldest_s, cache.oldest_s), (Some(4.0), Some(4.0)));
}

#[test]
fn only_what_is_old() {
    let profile = Profile::new(&recording(), &Query { older_s: Some(1.5), ..Query::default() }, 10);
    let live: Vec<i64> = profile.sites.iter().map(|it| it.live.bytes).collect();
    assert_eq!(live, [1000, 200], "the cache, and two seconds of the leak");
}

#[test]
fn filters() {
    let count = |query| Profile::new(&recording(), &query, 10).sites.len();
    assert_eq!(count(Query { pids: vec![8], ..Query::default() }), 0);
    assert_eq!(count(Query { min_bytes: Some(500), ..Query::default() }), 1);
    assert_eq!(count(Query { max_bytes: Some(500), ..Query::default() }), 1);
    assert_eq!(count(Query { kind: Some("mmap".to_owned()), ..Query::default() }), 0);
}

#[test]
fn a_recording_without_an_interval_deserves_no_trust() {
    let mut cut = Recording::default();
    rows().into_iter().take(5).for_each(|it| cut.add(it));
    let profile = Profile::new(&cut, &Query::default(), 10);
    assert_eq!((profile.grade, profile.complete), (Grade::F, false));
}

#[test]
fn pages_that_were_sampled_are_not_said_to_be_exact() {
    let mut sampled = recording();
    assert!(Profile::new(&sampled, &Query::default(), 10).trust().contains("exact"));
    sampled.header.tier = "growth".to_owned();
    sampled.sites.values_mut().for_each(|it| it.kind = "resident".into());
    let trust = Profile::new(&sampled, &Query::default(), 10).trust();
    assert!(trust.contains("estimates") && !trust.contains("exact"), "{trust}");
}

/// (live, error, allocated, change, growth) of the leak and of the cache.
fn window(from_s: Option<f64>, to_s: Option<f64>) -> Vec<(i64, i64, i64, i64, f64)> {
    let profile = Profile::new(&recording(), &Query { from_s, to_s, ..Query::default() }, 10);
    let (live, allocated, freed) = profile.totals();
    assert_eq!(live, allocated - freed);
    let mut sites = profile.sites;
    sites.sort_by_key(|it| it.id);
    let figures = |it: &Site| {
        (it.live.bytes, it.live_error.bytes, it.allocated.bytes, it.change.bytes, it.growth_bytes_per_s)
    };
    sites.iter().map(figures).collect()
}

#[test]
fn a_window_holds_what_was_allocated_in_it() {
    assert_eq!(window(None, Some(2.0)), [(200, 0, 300, 200, 100.0), (1000, 0, 1000, 1000, 0.0)]);
    assert_eq!(window(Some(1.0), Some(3.0)), [(200, 0, 300, 200, 100.0), (0, 0, 0, 0, 0.0)]);
    // The nearest end of an interval counts.
    assert_eq!(window(Some(1.4), Some(2.6)), window(Some(1.0), Some(3.0)));
    assert!(window(Some(2.0), Some(2.4)).is_empty());
    assert!(window(None, Some(0.4)).is_empty());
}

#[test]
fn the_account_of_a_process_adds_up() {
    let profile = Profile::new(&recording(), &Query::default(), 10);
    let account = profile.processes[0].account.unwrap();
    assert_eq!((account.before_bytes, account.live_bytes, account.retained_bytes), (1 << 20, 1400, 2696));
    let parts = account.live_bytes + account.mapped_bytes + account.retained_bytes + account.rest_bytes;
    assert_eq!(parts, account.change_bytes);
}
