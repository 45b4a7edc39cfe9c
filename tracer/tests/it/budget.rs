//! `--max-overhead`: what costs too much is let go of, and followed again when it has become calm.

use std::process::Command;

use crate::{
    program::{Program, scratch},
    report::Report,
    tracer::{Tracer, alloctrace_says, alone},
    workload::build,
};

fn order(program: &mut Program, order: &str) {
    program.say(order);
    assert_eq!(program.next_line(), format!("did {order}"));
}

fn kept(report: &Report) -> (i64, i64) {
    let of_keep = report.sites.iter().filter(|it| it.kind == "heap" && it.functions().contains(&"keep"));
    of_keep.fold((0, 0), |(bytes, blocks), it| (bytes + it.live_bytes, blocks + it.live_blocks))
}

#[test]
fn a_process_that_is_too_dear_is_let_go_and_taken_back() {
    let mut program = Program::start(&mut Command::new(build("governed.c")));
    program.wait_for("ready");
    let _alone = alone();
    let capture = scratch("budget").join("budget.jsonl.zst");
    let mut tracer = Tracer::attach(program.pid(), &capture, &["--max-overhead", "200%", "-i", "200ms"]);
    order(&mut program, "keep");
    order(&mut program, "hot");
    let process = format!("alloctrace: process {} ", program.pid());
    let down = tracer.program().wait_for_error(&process);
    assert!(down.contains("is not traced call by call any more: "), "{down}");
    assert!(down.contains("more than 200 %"), "{down}");
    order(&mut program, "calm");
    let up = tracer.program().wait_for_error(&process);
    assert!(up.contains("is traced call by call again: "), "{up}");
    order(&mut program, "keep");
    let report = tracer.interrupt();
    let tiers: Vec<&str> = report.tiers.iter().map(|it| it.tier.as_str()).collect();
    assert_eq!(tiers, ["growth", "exact"]);
    assert!(report.tiers.iter().all(|it| !it.reason.is_empty()));
    // Those from before have left the books, and those since are exact.
    assert_eq!(kept(&report), (777_000, 1000));
    assert!(report.losses().contains(&"unfollowed_processes: 1".to_owned()), "{:?}", report.losses());
    program.close_input();
    program.wait();
}

#[test]
fn with_a_rate_it_comes_back_to_that() {
    let mut program = Program::start(&mut Command::new(build("governed.c")));
    program.wait_for("ready");
    let _alone = alone();
    let capture = scratch("budget-sampled").join("budget.jsonl.zst");
    let options = ["--max-overhead", "200%", "--sample", "4KiB", "-i", "200ms"];
    let mut tracer = Tracer::attach(program.pid(), &capture, &options);
    order(&mut program, "hot");
    let process = format!("alloctrace: process {} ", program.pid());
    let down = tracer.program().wait_for_error(&process);
    assert!(down.contains("to follow all frees and a sample of allocations, one in 4.0 KiB, adds"), "{down}");
    order(&mut program, "calm");
    let up = tracer.program().wait_for_error(&process);
    assert!(up.contains("is traced by a sample of its allocations from now on: "), "{up}");
    order(&mut program, "keep");
    let report = tracer.interrupt();
    let tiers: Vec<&str> = report.tiers.iter().map(|it| it.tier.as_str()).collect();
    assert_eq!(tiers, ["growth", "sampled"]);
    // About 190 of the 1000 blocks were seen; it is wrong once in many millions of runs.
    let (bytes, _) = kept(&report);
    assert!((400_000..1_200_000).contains(&bytes), "{bytes}");
    program.close_input();
    program.wait();
}

#[test]
fn what_is_cheap_is_traced_as_without_a_limit() {
    let mut program = Program::start(&mut Command::new(build("governed.c")));
    program.wait_for("ready");
    let _alone = alone();
    let capture = scratch("budget-calm").join("budget.jsonl.zst");
    let tracer = Tracer::attach(program.pid(), &capture, &["--max-overhead", "50%"]);
    order(&mut program, "keep");
    let report = tracer.interrupt();
    assert_eq!(kept(&report), (777_000, 1000));
    assert!(report.tiers.is_empty());
    assert_eq!(report.losses(), Vec::<String>::new());
    program.close_input();
    program.wait();
}

#[test]
fn a_prediction_says_what_it_saw() {
    let mut program = Program::start(&mut Command::new(build("governed.c")));
    program.wait_for("ready");
    let _alone = alone();
    let pid = program.pid().to_string();
    let predict = || {
        let ended = alloctrace_says(["doctor", "-p", &pid, "--predict", "1s", "--json"]);
        assert_eq!(ended.code, Some(0), "{ended:?}");
        serde_json::from_str::<serde_json::Value>(&ended.output).expect("JSON")
    };
    let idle = predict();
    assert_eq!((&idle["idle"], &idle["overhead"], &idle["tier"]), (&true.into(), &().into(), &().into()));
    order(&mut program, "hot");
    let hot = predict();
    assert_eq!((&hot["idle"], &hot["tier"]), (&false.into(), &"growth".into()), "{hot}");
    assert!(hot["overhead"].as_f64() > Some(1.0), "{hot}");
    assert!(hot["overhead_low"].as_f64() <= hot["overhead_high"].as_f64(), "{hot}");
    // It goes on.
    order(&mut program, "calm");
    program.close_input();
    program.wait();
}

#[test]
fn what_is_no_share_is_refused() {
    for wrong in ["", "five", "0%", "-5%", "nan"] {
        for command in ["record", "top"] {
            let option = format!("--max-overhead={wrong}");
            let ended = alloctrace_says([command, "-p", "1", &option]);
            assert_eq!(ended.code, Some(2), "{ended:?}");
        }
    }
}
