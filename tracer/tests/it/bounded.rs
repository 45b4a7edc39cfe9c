//! The tracer's own memory has a bound, and what does not fit is counted.

use std::process::Command;

use crate::{
    program::{Program, scratch},
    tracer::{Tracer, alloctrace_says, alone},
    workload::build,
};

const BLOCKS: i64 = 2_500_000;
const BLOCK_BYTES: i64 = 32;
/// The ring, which is mapped twice, takes a quarter of it, and the tracer itself another.
const BOUND_MIB: u64 = 128;

/// All live at once they would take 50 MB, which are not there.
#[test]
fn what_does_not_fit_is_counted() {
    let _alone = alone();
    let mut target = Program::start(&mut Command::new(build("hoard.c")));
    target.wait_for("waiting");
    let capture = scratch("bounded").join("capture.jsonl.zst");
    let tracer = Tracer::attach(
        target.pid(),
        &capture,
        &["--ring", "16MiB", "--max-memory", &format!("{BOUND_MIB}MiB")],
    );
    target.say(&BLOCKS.to_string());
    target.wait_for("done");
    target.say(&format!("-{BLOCKS}"));
    target.wait_for("done");
    let peak_kib = tracer.peak_kib();
    let report = tracer.interrupt();
    assert!(peak_kib <= BOUND_MIB << 10, "the tracer took {peak_kib} KiB");

    let site =
        report.sites.iter().find(|it| it.via == "malloc" && it.functions()[0] == "take").expect("its site");
    assert_eq!((site.allocated_blocks, site.allocated_bytes), (BLOCKS, BLOCKS * BLOCK_BYTES));
    assert_eq!((site.live_blocks, site.live_bytes), (0, 0));
    let loss = |name: &str| report.loss[name].as_i64().expect("a count");
    let untracked = loss("untracked_blocks");
    assert!(untracked > 0 && untracked < BLOCKS, "{untracked} untracked blocks");
    assert_eq!(loss("untracked_bytes"), untracked * BLOCK_BYTES);
    assert_eq!(report.losses().len(), 2, "{:?}", report.losses());
    assert_eq!(report.loss["grade"], "F");
    // Their frees are no frees of blocks from before.
    assert_eq!(report.totals.unknown_frees, 0);
}

#[test]
fn a_bound_that_is_too_small_names_one_that_is_not() {
    let _alone = alone();
    let mut target = Program::start(&mut Command::new(build("hoard.c")));
    target.wait_for("waiting");
    let (pid, capture) = (target.pid().to_string(), scratch("too-small").join("capture.jsonl.zst"));
    let record = |bound: &str| {
        alloctrace_says([
            "record",
            "-p",
            &pid,
            "-d",
            "0.2",
            "--max-memory",
            bound,
            "-o",
            capture.to_str().expect("text"),
        ])
    };
    let ended = record("20MiB");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    let least =
        ended.errors.split("--max-memory ").nth(1).and_then(|it| it.split(' ').next()).expect("a size");
    let ended = record(least);
    assert_eq!(ended.code, Some(0), "with {least}: {ended:?}");
}
