//! Workloads that keep books, launched and attached to: every site they name must be seen exactly as they
//! have it, on complete stacks, without any loss.
//!
//! The lines in which they speak are described in `workloads/truth.h`.

use std::{path::Path, process::Command};

use crate::{
    program::{Program, scratch},
    report::{Report, Site},
    tracer::{Tracer, alone},
    workload::build,
};

#[test]
fn chains_of_5_20_and_50_odd_frames() {
    check("chains.c", &[]);
}

#[test]
fn every_function_of_the_c_library() {
    check("calls.c", &[]);
}

#[test]
fn threads_that_free_each_others_blocks() {
    check("threads.c", &[]);
}

#[test]
fn two_hundred_threads() {
    check("crowd.c", &[]);
}

#[test]
fn exceptions_through_frames() {
    check("exceptions.cc", &[]);
}

#[test]
fn longjmp_over_frames() {
    check("jumps.c", &[]);
}

#[test]
fn fork_and_exec() {
    check("fork.c", &[]);
}

#[test]
fn a_library_opened_after_the_attach() {
    let built = build("plugin.c");
    // Nobody has ever mapped this file.
    let fresh = scratch("plugin").join(format!("libplugin.{}.so", std::process::id()));
    std::fs::copy(&built, &fresh).expect("copy the library");
    check("loader.c", &[fresh.to_str().expect("its path is text")]);
}

#[test]
fn large_blocks_with_mappings_of_their_own() {
    check("large.c", &[]);
}

#[test]
fn mappings_cut_moved_and_covered() {
    check("mappings.c", &[]);
}

#[test]
fn allocations_in_signal_handlers() {
    check("signals.c", &[]);
}

#[test]
fn cxx_containers() {
    check("containers.cc", &[]);
}

#[test]
fn rust_collections_and_closures() {
    check("rust_growth.rs", &[]);
}

#[test]
fn pools_of_the_program() {
    let options = [
        "--alloc",
        "pool_get:size=arg1,ptr=ret",
        "--alloc",
        "pool_grow:old=arg1,size=arg3",
        "--alloc",
        "object_new:size=48",
        "--alloc",
        "objects_new:size=48,count=arg1,ptr=*arg0",
        "--free",
        "pool_put:ptr=arg1",
        "--free",
        "object_delete:ptr=arg0",
    ];
    check_with("pools.c", &[], &options);
}

#[test]
fn a_pool_that_throws() {
    let options = ["--alloc", "store::Pool::get:size=arg1", "--free", "store::Pool::put:ptr=arg1"];
    check_with("throwing_pool.cc", &[], &options);
}

fn check(source: &str, arguments: &[&str]) {
    check_with(source, arguments, &[]);
}

/// … with further options for the tracer.
fn check_with(source: &str, arguments: &[&str], options: &[&str]) {
    check_program(source, &Subject { arguments, options, ..Subject::new(&build(source)) });
}

/// A workload, and how it is traced.
pub(crate) struct Subject<'a> {
    pub(crate) program: &'a Path,
    pub(crate) arguments: &'a [&'a str],
    /// The tracer's.
    pub(crate) options: &'a [&'a str],
    /// What is loaded before everything else, as `LD_PRELOAD` has it.
    pub(crate) preload: Option<&'a str>,
    /// Its C library has no unwinding tables, as Debian's musl: stacks end where they come to what calls `main`.
    pub(crate) ends_in_libc: bool,
}

impl<'a> Subject<'a> {
    pub(crate) fn new(program: &'a Path) -> Self {
        Self { program, arguments: &[], options: &[], preload: None, ends_in_libc: false }
    }
}

/// Runs the workload twice: traced from its first instruction on, and attached to while it waits.
pub(crate) fn check_program(name: &str, subject: &Subject<'_>) {
    let _alone = alone();
    let directory = scratch(&format!("truth-{name}"));
    let mut differences = launched(subject, &directory.join("launched.jsonl.zst"));
    differences.extend(attached(subject, &directory.join("attached.jsonl.zst")));
    if subject.ends_in_libc {
        let of_its_end = ["incomplete stack: ", "loss incomplete_stacks: ", "loss no_table_frames: "];
        differences.retain(|it| !of_its_end.iter().any(|end| it.contains(end)));
    }
    assert!(differences.is_empty(), "{name}: {} differences\n{}", differences.len(), differences.join("\n"));
}

fn launched(subject: &Subject<'_>, capture: &Path) -> Vec<String> {
    let mut command = vec![subject.program.to_str().expect("its path is text")];
    command.extend(subject.arguments);
    let mut tracer = Tracer::launch_with(&command, capture, subject.options, subject.preload);
    let told = work(tracer.program());
    tracer.program().close_input();
    let report = tracer.finish();
    let mut truth = Truth::parse(&told);
    // Everything is newer than the attach.
    truth.older = 0;
    let mut differences = compare(&truth, &report);
    for process in &report.processes {
        let ended = process.ended.as_ref().map(|it| (it.how.as_str(), it.code));
        if ended != Some(("exit", 0)) {
            differences.push(format!("process {} ended by {ended:?}, not by exit 0", process.pid));
        }
    }
    name("launched", differences)
}

fn attached(subject: &Subject<'_>, capture: &Path) -> Vec<String> {
    let mut command = Command::new(subject.program);
    command.args(subject.arguments).envs(subject.preload.map(|it| ("LD_PRELOAD", it)));
    let mut workload = Program::start(&mut command);
    workload.wait_for("waiting");
    let tracer = Tracer::attach(workload.pid(), capture, subject.options);
    workload.say("go");
    let told = workload.wait_for("done");
    let report = tracer.interrupt();
    assert!(workload.is_running(), "the end of the recording is not the end of the target");
    workload.close_input();
    let ended = workload.wait();
    assert_eq!(ended.code, Some(0), "the workload after the detach: {ended:?}");
    let mut truth = Truth::parse(&told);
    // Children are followed only where the whole run is ours.
    truth.sites.retain(|it| !it.of_child);
    let mut differences = compare(&truth, &report);
    differences.extend(report.processes.iter().filter_map(|it| {
        it.ended.as_ref().map(|ended| format!("process {} is said to have ended: {ended:?}", it.pid))
    }));
    name("attached", differences)
}

fn work(workload: &mut Program) -> Vec<String> {
    workload.wait_for("waiting");
    workload.say("go");
    workload.wait_for("done")
}

fn name(how: &str, differences: Vec<String>) -> Vec<String> {
    differences.into_iter().map(|it| format!("{how}: {it}")).collect()
}

/// What a workload told.
#[derive(Debug, Default)]
pub(crate) struct Truth {
    pub(crate) sites: Vec<Told>,
    covers: Vec<String>,
    older: i64,
}

/// A line `site …`.
#[derive(Debug)]
pub(crate) struct Told {
    line: String,
    /// `None`: the process that was started, whichever number it got.
    pid: Option<u32>,
    pub(crate) of_child: bool,
    kind: String,
    via: String,
    /// Live bytes and blocks, allocated bytes and blocks; `None` is "whatever".
    pub(crate) figures: [Option<i64>; 4],
    pub(crate) frames: Vec<String>,
}

impl Truth {
    pub(crate) fn parse(lines: &[String]) -> Self {
        let mut truth = Self::default();
        let (mut pid, mut of_child) = (None, false);
        for line in lines {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                ["covers", ref function @ ..] => truth.covers.push(function.join(" ")),
                ["older", count] => truth.older = count.parse().expect("a number"),
                ["process", number, role] => {
                    pid = Some(number.parse().expect("a number"));
                    of_child = role == "child";
                }
                ["site", kind, via, a, b, c, d, ref frames @ ..] => truth.sites.push(Told {
                    line: line.clone(),
                    pid,
                    of_child,
                    kind: kind.to_owned(),
                    via: via.to_owned(),
                    figures: [a, b, c, d].map(|it| (it != "*").then(|| it.parse().expect("a number"))),
                    frames: frames.join(" ").split(';').map(str::to_owned).collect(),
                }),
                _ => panic!("the workload said {line:?}"),
            }
        }
        assert!(
            !truth.sites.is_empty() && !truth.covers.is_empty()
                || truth.sites.iter().any(|it| it.pid.is_some())
        );
        truth
    }
}

impl Told {
    fn matches(&self, site: &Site, main_pid: u32) -> bool {
        site.pid == Some(self.pid.unwrap_or(main_pid))
            && site.kind == self.kind
            && (self.via == "*" || self.via.split('|').any(|it| it == site.via))
            && frames_match(&self.frames, &site.functions())
    }
}

pub(crate) fn compare(truth: &Truth, report: &Report) -> Vec<String> {
    let mut differences = Vec::new();
    let main_pid = report.processes.first().expect("a process was traced").pid;
    for told in &truth.sites {
        let matching: Vec<&Site> = report.sites.iter().filter(|it| told.matches(it, main_pid)).collect();
        let sum = |part: fn(&Site) -> i64| matching.iter().map(|it| part(it)).sum::<i64>();
        let seen = [
            sum(|it| it.live_bytes),
            sum(|it| it.live_blocks),
            sum(|it| it.allocated_bytes),
            sum(|it| it.allocated_blocks),
        ];
        if told.figures.iter().zip(seen).any(|(told, seen)| told.is_some_and(|it| it != seen)) {
            differences.push(format!(
                "expected {}\n     got {seen:?} at {} sites",
                told.line,
                matching.len()
            ));
        }
    }
    for site in &report.sites {
        let functions = site.functions();
        let covered = truth.covers.iter().any(|it| functions.iter().any(|function| is_named(function, it)));
        if covered && site.pid == Some(main_pid) && !truth.sites.iter().any(|it| it.matches(site, main_pid)) {
            differences.push(format!("not told by the workload: {}", site.label()));
        }
        if !site.stack_complete {
            differences.push(format!("incomplete stack: {}", site.label()));
        }
    }
    differences.extend(report.losses().into_iter().map(|it| format!("loss {it}")));
    if report.totals.unknown_frees != truth.older {
        differences
            .push(format!("unknown frees: expected {}, got {}", truth.older, report.totals.unknown_frees));
    }
    if !report.capture.complete {
        differences.push("the capture is said to be cut off".to_owned());
    }
    differences
}

/// Whether the innermost functions are as the pattern has them: `*` is any one, `**` any number.
pub(crate) fn frames_match(pattern: &[String], functions: &[&str]) -> bool {
    let Some((first, pattern)) = pattern.split_first() else { return true };
    match (first.as_str(), functions.split_first()) {
        ("**", _) => (0..=functions.len()).any(|it| frames_match(pattern, &functions[it..])),
        (_, None) => false,
        ("*", Some((_, functions))) => frames_match(pattern, functions),
        (name, Some((function, functions))) => is_named(function, name) && frames_match(pattern, functions),
    }
}

/// The name, or the name with its parameters, hash or version behind it.
fn is_named(function: &str, name: &str) -> bool {
    function
        .strip_prefix(name)
        .is_some_and(|rest| !rest.starts_with(|it: char| it.is_alphanumeric() || it == '_'))
}

#[test]
fn patterns_of_frames() {
    let matches = |pattern: &str, functions: &[&str]| {
        frames_match(&pattern.split(';').map(str::to_owned).collect::<Vec<_>>(), functions)
    };
    let stack = ["leaf", "crate::grow::h01ab", "hold(long)", "main"];
    for right in ["leaf", "leaf;crate::grow", "**;main", "leaf;*;hold", "**;crate::grow;**;main", "**;**"] {
        assert!(matches(right, &stack), "{right}");
    }
    for wrong in ["lea", "crate", "leaf;crate::gro", "leaf;main", "leaf;*;main", "**;main;*", "**;hold;leaf"]
    {
        assert!(!matches(wrong, &stack), "{wrong}");
    }
}
