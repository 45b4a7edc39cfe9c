//! Probes that every process meets: whoever is not traced works on, and is left as it was, however the tracer ends.

use std::{fs, process::Command};

use crate::{
    midrun::{assert_touched, assert_untouched},
    program::{PATIENCE, Program, scratch, within},
    tracer::{Tracer, alloctrace_says, alone},
    workload::build,
};

#[test]
fn a_neighbour_is_left_as_it_was() {
    let directory = scratch("everyone");
    let mut neighbour = Program::start(&mut Command::new(build("churn.c")));
    neighbour.wait_for("waiting");
    let _alone = alone();
    let pid = neighbour.pid();
    assert_untouched(pid, "before");
    let tracer = launch(&directory.join("ended.jsonl.zst"));
    assert_touched(pid);
    assert_works(&mut neighbour);
    let report = tracer.interrupt();
    assert_untouched(pid, "after the detach");
    assert!(report.totals.allocated_blocks > 0, "the command was traced");
    assert!(report.sites.iter().all(|it| it.pid != Some(pid)), "and its neighbour was not");

    let tracer = launch(&directory.join("killed.jsonl.zst"));
    assert_touched(pid);
    assert_eq!(tracer.kill().signal, Some(9), "it ends by SIGKILL");
    assert_untouched(pid, "after the tracer was killed");
    assert_works(&mut neighbour);
    neighbour.close_input();
    assert_eq!(neighbour.wait().code, Some(0));
}

/// A command whose children would be followed.
fn launch(capture: &std::path::Path) -> Tracer {
    let mut tracer = Tracer::launch(&[build("churn.c")], capture, &[]);
    tracer.program().wait_for("waiting");
    if alloctrace_says(["doctor"]).output.contains("ok       uprobe_multi links") {
        assert!(multi_links(tracer.program().pid()) > 0, "doctor says that one link holds many probes");
    }
    tracer
}

fn multi_links(pid: u32) -> usize {
    let files = fs::read_dir(format!("/proc/{pid}/fdinfo")).expect("the tracer runs");
    let texts = files.filter_map(|it| fs::read_to_string(it.ok()?.path()).ok());
    texts.filter(|it| it.lines().any(|line| line == "link_type:\tuprobe_multi")).count()
}

fn assert_works(churn: &mut Program) {
    let mut rounds = || {
        churn.say("rounds?");
        churn.next_line().parse::<u64>().expect("a number of rounds")
    };
    let before = rounds();
    within(PATIENCE, || (rounds() > before + 200).then_some(())).expect("it goes on");
}
