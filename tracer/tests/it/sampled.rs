//! Allocations sampled by bytes: a workload of forty sites keeps its books, and the estimates must be right on average and
//! within their error bars as often as these promise.

use std::{collections::BTreeMap, process::Command};

use crate::{
    program::{Program, scratch},
    report::{Report, Site},
    tracer::{Tracer, alloctrace_says, alone},
    truth::Truth,
    workload::build,
};

const RUNS: usize = 5;

/// What the bars promise: of twenty sites one may lie outside.
const OUTSIDE: f64 = 0.05;

/// How seldom a test may fail that should not.
const FALSE_ALARM: f64 = 1e-6;

/// Live bytes and allocated bytes by the function that allocates.
type Books = BTreeMap<String, [i64; 2]>;

#[test]
fn estimates_lie_within_their_error_bars_and_are_right_on_average() {
    let _alone = alone();
    let directory = scratch("sampled");
    let (mut tried, mut outside, mut rate_bytes) = (0, Vec::new(), 0);
    let mut sums: BTreeMap<String, [[i64; 2]; 2]> = BTreeMap::new();
    for run in 0..RUNS {
        let (books, report) = match run {
            0 => attached(&directory.join("attached.jsonl.zst")),
            _ => launched(&directory.join(format!("{run}.jsonl.zst"))),
        };
        assert_eq!(report.losses(), [""; 0], "nothing may be lost");
        assert_eq!(report.totals.unknown_frees, 0);
        assert!(report.totals.unsampled_frees > 0, "most frees are of blocks that were not sampled");
        rate_bytes = report.totals.sample_bytes;
        assert_eq!(rate_bytes, 1 << 16, "60 KiB are rounded to a power of two");
        for (function, told) in &books {
            let site = report.sites.iter().find(|it| it.functions().first() == Some(&function.as_str()));
            tried += 1;
            if !is_within(site, told[0], &report) {
                outside.push(format!("{function} holds {}: {site:?}", told[0]));
            }
            let seen = site.map_or([0, 0], |it| [it.live_bytes, it.allocated_bytes]);
            let sum = sums.entry(function.clone()).or_default();
            for at in 0..2 {
                sum[at][0] += told[at];
                sum[at][1] += seen[at];
            }
        }
    }
    assert!(outside.len() < too_many(tried), "{} of {tried}:\n{}", outside.len(), outside.join("\n"));

    // A block of S bytes adds S² (1-p)/p to the variance, which is less than S times the rate.
    let check = |name: &str, told: i64, seen: i64, errors: f64| {
        let error = (rate_bytes as f64 * told as f64).sqrt();
        assert!(
            ((seen - told) as f64).abs() < errors * error,
            "{name}: {seen} instead of {told} ± {error:.0}"
        );
    };
    for at in 0..2 {
        let total = |which: usize| sums.values().map(|it| it[at][which]).sum();
        check("all", total(0), total(1), 5.0);
        // Fewer samples than fifty do not err as the normal distribution has it; eighty sums may err by six once in 10⁷ times.
        let many = sums.iter().filter(|(_, sum)| sum[at][0] > 50 * rate_bytes);
        many.for_each(|(function, sum)| check(function, sum[at][0], sum[at][1], 6.0));
    }
}

fn is_within(site: Option<&Site>, live_bytes: i64, report: &Report) -> bool {
    match site {
        Some(it) => (it.live_low_bytes..=it.live_high_bytes).contains(&live_bytes),
        None => live_bytes <= report.totals.missed_site_bytes,
    }
}

/// From so many on chance is no excuse: the bound of Chernoff for a binomial number of `tried` with [`OUTSIDE`].
fn too_many(tried: usize) -> usize {
    let is_excluded = |count: &usize| {
        let share = *count as f64 / tried as f64;
        let distance =
            share * (share / OUTSIDE).ln() + (1.0 - share) * ((1.0 - share) / (1.0 - OUTSIDE)).ln();
        share > OUTSIDE && (-(tried as f64) * distance).exp() < FALSE_ALARM
    };
    (0..tried).find(is_excluded).unwrap_or(tried)
}

#[test]
fn chance_has_its_bound() {
    assert_eq!(too_many(200), 30);
}

fn launched(capture: &std::path::Path) -> (Books, Report) {
    let program = build("sampled.c");
    let mut tracer = Tracer::launch(&[program], capture, &["--sample", "60KiB"]);
    let books = work(tracer.program());
    tracer.program().close_input();
    (books, tracer.finish())
}

fn attached(capture: &std::path::Path) -> (Books, Report) {
    let mut workload = Program::start(&mut Command::new(build("sampled.c")));
    workload.wait_for("waiting");
    let tracer = Tracer::attach(workload.pid(), capture, &["--sample", "60KiB"]);
    workload.say("go");
    let told = workload.wait_for("done");
    let report = tracer.interrupt();
    workload.close_input();
    assert_eq!(workload.wait().code, Some(0));
    (books(&told), report)
}

fn work(workload: &mut Program) -> Books {
    workload.wait_for("waiting");
    workload.say("go");
    books(&workload.wait_for("done"))
}

fn books(told: &[String]) -> Books {
    let site = |it: &crate::truth::Told| {
        let [live, _, allocated, _] = it.figures.map(|it| it.expect("a figure"));
        (it.frames[0].clone(), [live, allocated])
    };
    Truth::parse(told).sites.iter().map(site).collect()
}

#[test]
fn memleak_lists_single_blocks_and_refuses_to_sample() {
    let ended = alloctrace_says(["memleak", "-p", "1", "--sample", "64KiB"]);
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.errors.contains("--sample") && ended.errors.contains("record"), "{}", ended.errors);
}
