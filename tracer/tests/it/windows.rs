//! Parts of a recording: what was allocated between two marks, and what of it is live, then and later.

use std::{path::Path, process::Command, thread, time::Duration};

use crate::{
    program::{PATIENCE, Program, Signal, scratch, within},
    report::{Report, Site},
    tracer::{Tracer, alloctrace_says, alone},
    workload::build,
};

#[test]
fn between_marks() {
    let program = build("phases.c");
    let _alone = alone();
    let capture = scratch("windows").join("capture.jsonl.zst");
    let mut target = Program::start(&mut Command::new(program));
    target.wait_for("waiting");
    let mut tracer = Tracer::attach(target.pid(), &capture, &["-i", "100ms"]);
    let mut tell = |lines: &[&str]| {
        for line in lines {
            target.say(line);
            target.wait_for("done");
            // Births lie in many intervals; whichever they are, the figures are the same.
            thread::sleep(Duration::from_millis(150));
        }
    };
    tell(&["keep_early 60 1000", "keep_early 40 1000"]);
    place_mark(&mut tracer, &capture, 1);
    tell(&["keep_window 120 500", "pass 300 64", "drop_early 40", "keep_window 80 500"]);
    place_mark(&mut tracer, &capture, 2);
    tell(&["keep_late 50 10", "drop_window 60", "pass 10 64"]);
    tracer.interrupt();

    // (live blocks, live bytes, allocated blocks, change of the live bytes)
    let check = |window: &[&str], function: &str, expected: (i64, i64, i64, i64)| {
        let report = Report::of(&capture, window);
        let sites: Vec<&Site> = report.sites.iter().filter(|it| it.functions()[0] == function).collect();
        let sum = |part: fn(&Site) -> i64| sites.iter().map(|it| part(it)).sum::<i64>();
        let found = (
            sum(|it| it.live_blocks),
            sum(|it| it.live_bytes),
            sum(|it| it.allocated_blocks),
            sum(|it| it.change_bytes),
        );
        assert_eq!(found, expected, "{function} in {window:?}");
        assert_eq!(sum(|it| it.live_error_bytes), 0, "{function} in {window:?} is exact");
    };
    let whole: [&str; 0] = [];
    check(&whole, "keep_early", (60, 60_000, 100, 60_000));
    check(&whole, "keep_window", (140, 70_000, 200, 70_000));
    let until = ["--at", "mark:1"];
    check(&until, "keep_early", (100, 100_000, 100, 100_000));
    check(&until, "keep_window", (0, 0, 0, 0));
    let between = ["--from", "mark:1", "--to", "mark:2"];
    check(&between, "keep_early", (0, 0, 0, -40_000));
    check(&between, "keep_window", (200, 100_000, 200, 100_000));
    check(&between, "pass", (0, 0, 300, 0));
    check(&between, "keep_late", (0, 0, 0, 0));
    let later = ["--from", "mark:1", "--to", "mark:2", "--at", "end"];
    check(&later, "keep_window", (140, 70_000, 200, 100_000));
    let last = ["--from", "mark:2"];
    check(&last, "keep_late", (50, 500, 50, 500));
    check(&last, "keep_window", (0, 0, 0, -30_000));
    check(&last, "pass", (0, 0, 10, 0));
}

/// Marks are in the capture as soon as they are placed.
fn place_mark(tracer: &mut Tracer, capture: &Path, number: usize) {
    tracer.program().signal(Signal::USR2);
    let placed = within(PATIENCE, || (Report::of(capture, &[]).marks.len() == number).then_some(()));
    assert_eq!(placed, Some(()), "mark {number} did not appear");
}

#[test]
fn times_that_are_not_in_the_recording() {
    let program = build("phases.c");
    let _alone = alone();
    let capture = scratch("no-windows").join("capture.jsonl.zst");
    let mut target = Program::start(&mut Command::new(program));
    target.wait_for("waiting");
    Tracer::attach(target.pid(), &capture, &["-d", "1s"]).finish();
    let check = |window: &[&str], expected: &str| {
        let mut arguments = vec!["report".into(), capture.as_os_str().to_owned()];
        arguments.extend(window.iter().map(Into::into));
        let ended = alloctrace_says(arguments);
        assert_eq!(ended.code, Some(2), "{window:?}: {}", ended.errors);
        assert!(ended.errors.contains(expected), "{window:?}: {}", ended.errors);
        assert_eq!(ended.output, "", "{window:?}");
    };
    check(&["--at", "soon"], "is no point in time");
    check(&["--at", "mark:1"], "has no marks");
    check(&["--at", "2001-01-01T00:00:00Z"], "is not in the recording");
    check(&["--from", "end", "--to", "start"], "no interval of the recording ends in that window");
    check(&["--from", "0s", "--to", "1s", "--at", "start"], "lies before --to");
}
