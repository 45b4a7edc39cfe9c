//! Budgets against small recordings.

mod formats;
mod runs;

use std::collections::BTreeMap;

use expect_test::{Expect, expect};

use self::runs::{Run, run};
use super::*;
use crate::{
    capture::{CohortRow, EndedRow, Recording, Row},
    profile::trust::Grade,
    symbol::{Place, Places},
};

/// Knows where `leak` and `start_up` stand.
struct Sources;

impl Places for Sources {
    fn places(&mut self, _: &str, _: Option<&str>, offset: u64) -> Vec<Place> {
        let place = |file: &str, line| Place {
            function: None,
            file: Some(file.to_owned()),
            line: Some(line),
            inlined: false,
        };
        match offset {
            0x1000 => vec![place("/home/me/app/src/cache, old.c", 7)],
            0x1001 => vec![place("/usr/src/lib/alloc.c", 3)],
            0x2000 => vec![place("/home/me/app/src/main.c", 34)],
            _ => Vec::new(),
        }
    }
}

fn rules(budgets: &[Budget], suppressions: &str) -> Rules {
    let mut found = Suppressions::default();
    found.add(suppressions).unwrap();
    found.add_built_in();
    Rules {
        budgets: budgets.to_vec(),
        suppressions: found,
        warm_up_s: 0.0,
        min_trust: Grade::C,
        ignores_exit_code: false,
    }
}

fn outcome(rows: &[Row], rules: &Rules) -> (Outcome, Case) {
    let until = |until_s: f64| {
        let mut recording = Recording::default();
        let is_read = |it: &&Row| !matches!(it, Row::Interval(it) if it.t_s > until_s);
        rows.iter().filter(is_read).for_each(|it| recording.add(it.clone()));
        recording
    };
    let whole = until(f64::MAX);
    let before_end = rules.growth_until_s(&whole).map(|it| rules.evidence(until(it), &mut Sources));
    let case = Case { whole: rules.evidence(whole, &mut Sources), before_end };
    (judge(&case, rules), case)
}

fn line(finding: &Finding) -> String {
    format!("{} {}: {}", finding.result.name(), finding.budget.flag(), text::sentence(finding))
}

/// The status, each budget's line, and the function of each suspect.
fn check(run: &Run, rules: &Rules, expected: Expect) {
    let (outcome, case) = outcome(&run.rows(), rules);
    let mut found = format!("{}: {}\n", outcome.status().name(), outcome.headline());
    for finding in &outcome.findings {
        found += &format!("{}\n", line(finding));
        let profile = &case.evidence(&finding.budget).profile;
        for it in &finding.sites {
            let site = &profile.sites[it.site];
            let function = profile.stack(site).next().map(|it| it.label()).unwrap_or_default();
            found += &format!("    {} {:.0} % {function}\n", it.cost.bytes, it.share * 100.0);
        }
    }
    expected.assert_eq(&found);
}

fn per_s(bytes: u64) -> Rate {
    Rate { bytes, per: Per::Second }
}

#[test]
fn growth_is_that_of_the_leak_and_not_of_the_start() {
    check(
        &run(),
        &rules(
            &[Budget::Growth(per_s(99)), Budget::Growth(per_s(100)), Budget::GrowthPerSite(per_s(50))],
            "",
        ),
        expect![[r#"
            breached: 2 of 3 budgets breached
            breached --max-growth: 100 B/s measured, 99 B/s allowed: by 1.4 KiB in 4.0 s
                400 100 % leak
            kept --max-growth: 100 B/s measured, 100 B/s allowed: by 1.4 KiB in 4.0 s
            breached --max-growth-per-site: 100 B/s measured, 50 B/s allowed: 1 site grows to the end
                400 100 % leak
        "#]],
    );
}

#[test]
fn what_is_held() {
    let budgets =
        [Budget::Live(6623), Budget::Live(6624), Budget::LivePerSite(599), Budget::LivePerSite(5000)];
    check(
        &run(),
        &rules(&budgets, ""),
        expect![[r#"
            breached: 2 of 4 budgets breached
            breached --max-live: 6,624 B measured, 6,623 B allowed: in process 70 app, at 6.0 s
                5000 75 % start_up
                1024 15 % _IO_file_doallocate
                600 9 % leak
            kept --max-live: 6.5 KiB measured, 6.5 KiB allowed: in process 70 app, at 6.0 s
            breached --max-live-per-site: 4.9 KiB measured, 599 B allowed: in process 70 app, at 1.0 s
                5000 98 % start_up
                1024 16 % _IO_file_doallocate
                600 9 % leak
            kept --max-live-per-site: 4.9 KiB measured, 4.9 KiB allowed: in process 70 app, at 1.0 s
        "#]],
    );
}

#[test]
fn what_is_never_freed() {
    check(
        &run(),
        &rules(&[Budget::Leaked(0), Budget::Leaked(5600)], ""),
        expect![[r#"
            breached: 1 of 2 budgets breached
            breached --max-leaked: 5.5 KiB measured, 0 B allowed: by process 70 app, at its end
                5000 89 % start_up
                600 11 % leak
            kept --max-leaked: 5.5 KiB measured, 5.5 KiB allowed: by process 70 app, at its end
        "#]],
    );
}

#[test]
fn what_is_suppressed_does_not_count() {
    let rules = rules(
        &[Budget::Leaked(0), Budget::Growth(per_s(10)), Budget::Live(6000)],
        "leak:^leak$\nleak:cache, old.c",
    );
    check(
        &run(),
        &rules,
        expect![[r#"
            kept: within 3 budgets
            kept --max-leaked: 0 B measured, 0 B allowed: by process 70 app, at its end
            kept --max-growth: 0 B/s measured, 10 B/s allowed: no upward trend; 1.0 KiB more after 4.0 s
            kept --max-live: 1.0 KiB measured, 5.9 KiB allowed: in process 70 app, at 2.0 s
        "#]],
    );
}

#[test]
fn what_came_before_the_end_of_the_warm_up_does_not_count() {
    let budgets = [Budget::Leaked(400), Budget::Growth(per_s(100)), Budget::GrowthPerSite(per_s(100))];
    check(
        &run(),
        &Rules { warm_up_s: 1.5, ..rules(&budgets, "") },
        expect![[r#"
            kept: within 3 budgets
            kept --max-leaked: 400 B measured, 400 B allowed: by process 70 app, at its end
            kept --max-growth: 100 B/s measured, 100 B/s allowed: by 300 B in 3.0 s
            kept --max-growth-per-site: 100 B/s measured, 100 B/s allowed: 1 site grows to the end
        "#]],
    );
}

#[test]
fn a_warm_up_without_end_decides_nothing() {
    check(
        &run(),
        &Rules { warm_up_s: 60.0, ..rules(&[Budget::Live(1 << 30)], "") },
        expect![[r#"
            undecided: undecided: the run of 6.0 s ended before its warm-up of 1 min 0 s was over
            undecided --max-live: 1.0 GiB allowed: the run of 6.0 s ended before its warm-up of 1 min 0 s was over
        "#]],
    );
    check(
        &run(),
        &Rules { warm_up_s: 4.5, ..rules(&[Budget::Growth(per_s(1 << 30))], "") },
        expect![[r#"
            undecided: undecided: no whole interval of the run is left after its warm-up of 4.5 s
            undecided --max-growth: 1.0 GiB/s allowed: no whole interval of the run is left after its warm-up of 4.5 s
        "#]],
    );
}

#[test]
fn a_command_that_fails_fails_the_check() {
    let failed = Run { processes: vec![("app", 0.0, Some(3), None)], ..run() };
    check(
        &failed,
        &rules(&[Budget::Live(1 << 20)], ""),
        expect![[r#"
            command-failed: the command exited with code 3
            kept --max-live: 6.5 KiB measured, 1.0 MiB allowed: in process 70 app, at 6.0 s
        "#]],
    );
    check(
        &failed,
        &rules(&[Budget::Live(0)], ""),
        expect![[r#"
            command-failed: the command exited with code 3; and 1 of 1 budget breached
            breached --max-live: 6.5 KiB measured, 0 B allowed: in process 70 app, at 6.0 s
                5000 75 % start_up
                1024 15 % _IO_file_doallocate
                600 9 % leak
        "#]],
    );
    check(
        &failed,
        &Rules { ignores_exit_code: true, ..rules(&[Budget::Live(1 << 20)], "") },
        expect![[r#"
            kept: within 1 budget
            kept --max-live: 6.5 KiB measured, 1.0 MiB allowed: in process 70 app, at 6.0 s
        "#]],
    );
}

#[test]
fn losses_take_away_a_pass_and_leave_a_breach() {
    let lossy = Run { loss: BTreeMap::from([("lost_events".to_owned(), 3)]), ..run() };
    check(
        &lossy,
        &rules(&[Budget::Live(1 << 20)], ""),
        expect![[r#"
            undecided: undecided: trust is F (many events were lost, or all: do not rely on the numbers); wanted at least C
            kept --max-live: 6.5 KiB measured, 1.0 MiB allowed: in process 70 app, at 6.0 s
        "#]],
    );
    check(
        &lossy,
        &rules(&[Budget::Live(0)], ""),
        expect![[r#"
            breached: 1 of 1 budget breached
            breached --max-live: 6.5 KiB measured, 0 B allowed: in process 70 app, at 6.0 s
                5000 75 % start_up
                1024 15 % _IO_file_doallocate
                600 9 % leak
        "#]],
    );
    check(
        &lossy,
        &Rules { min_trust: Grade::F, ..rules(&[Budget::Live(1 << 20)], "") },
        expect![[r#"
            kept: within 1 budget
            kept --max-live: 6.5 KiB measured, 1.0 MiB allowed: in process 70 app, at 6.0 s
        "#]],
    );
}

#[test]
fn a_recording_that_was_cut_or_is_empty_keeps_no_budget() {
    check(
        &Run { is_cut: true, ..run() },
        &rules(&[Budget::Live(1 << 20)], ""),
        expect![[r#"
            undecided: undecided: the recording was cut off: what came later is not known
            kept --max-live: 6.5 KiB measured, 1.0 MiB allowed: in process 70 app, at 6.0 s
        "#]],
    );
    check(
        &Run { sites: Vec::new(), ..run() },
        &rules(&[Budget::Live(1 << 20)], ""),
        expect![[r#"
            undecided: undecided: no allocation was seen: the traced processes did not call the allocator
            kept --max-live: 0 B measured, 1.0 MiB allowed: nothing was live
        "#]],
    );
}

/// Its leak is seen to grow, though at its end nothing of it is left.
#[test]
fn a_program_that_tidies_up_at_its_end() {
    let mut tidy = run();
    tidy.sites = vec![(0, "leak", 1, vec![100, 200, 300, 400, 500, 0])];
    let budgets = [Budget::Growth(per_s(50)), Budget::GrowthPerSite(per_s(50)), Budget::Leaked(0)];
    check(
        &tidy,
        &rules(&budgets, ""),
        expect![[r#"
            breached: 2 of 3 budgets breached
            breached --max-growth: 100 B/s measured, 50 B/s allowed: by 400 B in 4.0 s
                400 100 % leak
            breached --max-growth-per-site: 100 B/s measured, 50 B/s allowed: 1 site grows to the end
                400 100 % leak
            kept --max-leaked: 0 B measured, 0 B allowed: by process 70 app, at its end
        "#]],
    );
}

#[test]
fn what_is_filled_and_emptied_in_turns_does_not_grow() {
    let batches = Run { sites: vec![(0, "batch", 1, vec![100, 900, 100, 900, 100, 900])], ..run() };
    check(
        &batches,
        &rules(&[Budget::Growth(per_s(1)), Budget::GrowthPerSite(per_s(1))], ""),
        expect![[r#"
            kept: within 2 budgets
            kept --max-growth: 0 B/s measured, 1 B/s allowed: no upward trend; 0 B more after 4.0 s
            kept --max-growth-per-site: 0 B/s measured, 1 B/s allowed: no site grows to the end
        "#]],
    );
}

/// A fork has all that its parent had, and leaves it behind.
#[test]
fn what_a_fork_inherits_is_not_its_leak() {
    let mut forked = run();
    forked.processes = vec![("app", 0.0, Some(0), None), ("worker", 3.5, Some(0), Some(0))];
    forked.sites = vec![
        (0, "table", 1, vec![9000, 9000, 9000, 9000, 9000, 0]),
        (1, "table", 4, vec![9000]),
        (1, "own", 5, vec![70]),
    ];
    let change = |row: Row| match row {
        // One stack in both; and what is inherited was born long before.
        Row::Interval(mut it) => {
            it.sites.iter_mut().filter(|it| it.site == 1).for_each(|it| {
                it.stack = 0;
                it.cohorts = vec![CohortRow { from_s: 0.0, to_s: 1.0, bytes: 9000, blocks: 1 }];
            });
            Row::Interval(it)
        }
        row => row,
    };
    let rows: Vec<Row> = forked.rows().into_iter().map(change).collect();
    let rules = rules(&[Budget::Leaked(0)], "");
    let (outcome, _) = outcome(&rows, &rules);
    let line = line(&outcome.findings[0]);
    assert_eq!(line, "breached --max-leaked: 70 B measured, 0 B allowed: by process 71 worker, at its end");
}

#[test]
fn a_process_that_has_ended_holds_nothing_any_more() {
    // Five of them, one after the other: together they would hold 5000 bytes.
    let mut children = run();
    children.sites = vec![(0, "steady", 1, vec![10])];
    for at in 1..=5 {
        children.processes.push(("child", at as f64 - 0.5, None, Some(0)));
        children.sites.push((at, "child", at as usize, vec![1000]));
    }
    let change = |row: Row| match row {
        Row::Process(mut it) if it.id > 0 => {
            it.ended = Some(EndedRow { t_s: it.began_s + 0.4, how: "exit".to_owned(), code: 0 });
            Row::Process(it)
        }
        row => row,
    };
    let rows: Vec<Row> = children.rows().into_iter().map(change).collect();
    let rules = rules(&[Budget::Live(999), Budget::Growth(per_s(1))], "");
    let (outcome, _) = outcome(&rows, &rules);
    let lines: Vec<String> = outcome.findings.iter().map(line).collect();
    assert_eq!(
        lines,
        [
            "breached --max-live: 1000 B measured, 999 B allowed: in process 71 child, at 1.0 s",
            "kept --max-growth: 0 B/s measured, 1 B/s allowed: no upward trend; 0 B more after 4.0 s",
        ]
    );
}
