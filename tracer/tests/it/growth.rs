//! The growth tier: programs without malloc, and processes that are looked at more closely since they grow.

use std::{
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::Duration,
};

use crate::{
    program::{Program, needed, run, scratch},
    report::{Report, Site},
    tracer::{Tracer, alloctrace, alone},
    workload::build,
};

/// What a workload does in one step: 8 MiB, or nothing.
const STEP_ROUNDS: u32 = 128;
const STEPS: u32 = 4;

fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads/growth").join(name)
}

fn compile(command: &mut Command) {
    let ended = run(command);
    assert_eq!(ended.code, Some(0), "{command:?}:\n{}", ended.errors);
}

/// Has it take `rounds` times 64 KiB, and returns its resident anonymous memory in bytes.
fn take(program: &mut Program, rounds: u32) -> i64 {
    program.say(&rounds.to_string());
    program.next_line().parse::<i64>().expect("KiB") * 1024
}

/// Records while the program takes memory step by step; what it took, and the report. `then` is done before the end.
fn record(name: &str, command: &mut Command, then: impl FnOnce(u32)) -> (i64, Report) {
    let mut program = Program::start(command);
    program.wait_for("ready");
    // What a runtime needs once, it has then.
    take(&mut program, STEP_ROUNDS);
    let capture = scratch(name).join("growth.jsonl.zst");
    let tracer = Tracer::attach(program.pid(), &capture, &["--tier", "growth", "-i", "100ms"]);
    let before = take(&mut program, 0);
    for _ in 0..STEPS {
        take(&mut program, STEP_ROUNDS);
        thread::sleep(Duration::from_millis(250));
    }
    then(program.pid());
    thread::sleep(Duration::from_millis(250));
    let after = take(&mut program, 0);
    let report = tracer.interrupt();
    program.close_input();
    program.wait();
    (after - before, report)
}

fn names(site: &Site) -> String {
    let names = site.frames.iter().filter_map(|it| it.function.as_deref());
    names.collect::<Vec<_>>().join(" < ")
}

/// The estimate is as near as it says; chance takes it further in one of thirty thousand runs.
fn check(grown_bytes: i64, report: &Report, function: &str) {
    assert!(grown_bytes > 20 << 20, "the workload took {grown_bytes} bytes only");
    let resident: Vec<&Site> = report.sites.iter().filter(|it| it.kind == "resident").collect();
    assert!(resident.iter().all(|it| it.via == "page fault"));
    let live: i64 = resident.iter().map(|it| it.live_bytes).sum();
    let variance: f64 = resident.iter().map(|it| (it.live_error_bytes as f64 / 2.0).powi(2)).sum();
    let off = (live - grown_bytes).abs() as f64;
    assert!(off <= 4.2 * variance.sqrt(), "{live} of {grown_bytes} bytes, one error is {}", variance.sqrt());
    assert!(variance.sqrt() < 0.2 * grown_bytes as f64, "an error that says nothing");
    let named: i64 = resident.iter().filter(|it| names(it).contains(function)).map(|it| it.live_bytes).sum();
    let all: Vec<String> = resident.iter().map(|it| format!("{} {}", it.live_bytes, names(it))).collect();
    assert!(named * 2 > live, "{function} holds {named} of {live}:\n{}", all.join("\n"));
}

#[test]
fn a_go_program() {
    let _alone = alone();
    let program = scratch("growth-go-build").join("leak_go");
    let mut go = Command::new(needed("go", "golang-go"));
    compile(
        go.args(["build", "-o"])
            .arg(&program)
            .arg(source("leak.go"))
            .env("GO111MODULE", "off")
            .env("GOFLAGS", ""),
    );
    let (grown_bytes, report) = record("growth-go", &mut Command::new(&program), |_| {});
    check(grown_bytes, &report, "main.serve");
    let whole = |it: &&Site| it.kind == "resident" && names(it).contains("main.serve");
    assert!(
        report
            .sites
            .iter()
            .filter(whole)
            .all(|it| it.stack_complete && names(it).ends_with("runtime.goexit.abi0"))
    );
}

#[test]
fn a_program_of_node() {
    let _alone = alone();
    let mut node = Command::new(needed("node", "nodejs"));
    node.args(["--perf-basic-prof", "--interpreted-frames-native-stack"])
        .arg(source("leak.js"))
        .current_dir(scratch("growth-node-run"));
    let (grown_bytes, report) = record("growth-node", &mut node, |pid| {
        assert!(Path::new(&format!("/tmp/perf-{pid}.map")).exists());
    });
    check(grown_bytes, &report, "remember");
}

#[test]
fn a_java_program() {
    let _alone = alone();
    let classes = scratch("growth-java-build");
    compile(
        Command::new(needed("javac", "default-jdk-headless"))
            .arg("-d")
            .arg(&classes)
            .arg(source("Leak.java")),
    );
    let mut java = Command::new(needed("java", "default-jdk-headless"));
    // What is interpreted has no name of its own.
    java.args(["-Xmx256m", "-XX:+PreserveFramePointer", "-Xcomp", "-XX:CompileOnly=Leak::greet", "-cp"])
        .arg(&classes)
        .arg("Leak");
    let (grown_bytes, report) = record("growth-java", &mut java, |pid| {
        let pid = pid.to_string();
        compile(Command::new(needed("jcmd", "default-jdk-headless")).args([&pid, "Compiler.perfmap"]));
    });
    check(grown_bytes, &report, "Leak.greet");
}

#[test]
fn the_one_that_grows_is_traced_exactly() {
    let _alone = alone();
    let program = build("growth/sessions.c");
    let start = |kind: &str| {
        let mut program = Program::start(Command::new(&program).arg(kind));
        program.wait_for("ready");
        program
    };
    let programs = [start("quiet"), start("leak"), start("quiet")];
    let capture = scratch("growth-auto").join("auto.jsonl.zst");
    let mut command = alloctrace(["record", "--tier", "auto", "-i", "200ms", "-o"]);
    command.arg(&capture);
    for program in &programs {
        command.args(["-p", &program.pid().to_string()]);
    }
    let mut tracer = Program::start(&mut command);
    tracer.wait_for_error("alloctrace: ready");
    let leaking = programs[1].pid();
    let said = tracer.wait_for_error(&format!("alloctrace: process {leaking} is traced exactly from now on"));
    assert!(said.contains("its resident memory grew by"), "{said}");
    thread::sleep(Duration::from_secs(2));
    tracer.signal(crate::program::Signal::INT);
    let ended = tracer.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.errors.contains("is traced exactly"), "of the others: {}", ended.errors);
    let report = Report::read(&capture);
    let heap: Vec<&Site> = report.sites.iter().filter(|it| it.kind == "heap").collect();
    assert!(heap.iter().all(|it| it.pid == Some(leaking)), "{heap:?}");
    let top = heap.iter().max_by_key(|it| it.live_bytes).expect("a site of the heap");
    assert!(names(top).contains("leak_session < main"), "{}", names(top));
    assert!(top.verdict.starts_with("growing"), "{}", top.verdict);
}
