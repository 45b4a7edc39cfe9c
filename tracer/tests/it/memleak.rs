//! `alloctrace memleak`: its text must be what scripts for bcc's memleak read, and its numbers what workloads tell.

mod layout;

use std::{
    collections::{BTreeMap, BTreeSet},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use self::layout::{Report, Stack};
use crate::{
    program::{Ended, PATIENCE, Program, Signal, needed},
    tracer::{alloctrace, alloctrace_says, alone},
    truth::{Truth, frames_match},
    workload::build,
};

/// Longer than any test: then the only report is the one that an interrupt brings.
const NEVER: &str = "86400";

/// More than there are stacks.
const ALL: [&str; 2] = ["-T", "100000"];

/// `alloctrace memleak`, with every probe in place.
fn memleak(pid: u32, options: &[&str]) -> Program {
    let mut command = alloctrace(["memleak", "-p", &pid.to_string()]);
    let mut program = Program::start(command.args(options));
    program.wait_for_error("alloctrace: ready");
    program
}

fn interrupt(memleak: Program) -> Ended {
    memleak.signal(Signal::INT);
    memleak.wait()
}

fn start(source: &str) -> Program {
    let mut workload = Program::start(&mut Command::new(build(source)));
    workload.wait_for("waiting");
    workload
}

#[test]
fn exactly_what_workloads_tell() {
    for source in ["chains.c", "calls.c", "threads.c", "large.c"] {
        // Compiling may take long, and nobody need wait for it.
        build(source);
        let _alone = alone();
        let mut workload = start(source);
        let tracer = memleak(workload.pid(), &[&["-o", "0", NEVER], &ALL[..]].concat());
        workload.say("go");
        let told = workload.wait_for("done");
        let report = Report::last(&interrupt(tracer));
        assert!(workload.is_running(), "the end of the trace is not the end of the target");
        let truth = Truth::parse(&told);
        // The text does not say which function allocated: what has the same stack is one.
        let mut expected: BTreeMap<Vec<String>, [i64; 2]> = BTreeMap::new();
        // `**` at the front is also the C library's own.
        for site in truth.sites.iter().filter(|it| !it.of_child && it.frames[0] != "**") {
            let [Some(bytes), Some(blocks), ..] = site.figures else { continue };
            let sum = expected.entry(site.frames.clone()).or_default();
            *sum = [sum[0] + bytes, sum[1] + blocks];
        }
        assert!(!expected.is_empty(), "{source} tells something");
        for (frames, wanted) in expected {
            let names = |it: &&Stack| {
                let functions: Vec<&str> = it.functions.iter().map(String::as_str).collect();
                frames_match(&frames, &functions)
            };
            let matching: Vec<&Stack> = report.stacks.iter().filter(names).collect();
            let seen: [i64; 2] =
                [matching.iter().map(|it| it.bytes).sum(), matching.iter().map(|it| it.blocks).sum()];
            assert_eq!(seen, wanted, "{source}: {frames:?} in {report:#?}");
        }
    }
}

/// What `blocks.c` told in one round.
#[derive(Default)]
struct Told {
    calls: Vec<String>,
    left: BTreeMap<u64, i64>,
}

fn round(workload: &mut Program) -> Told {
    workload.say("go");
    read_round(workload.wait_for("done"))
}

fn read_round(lines: Vec<String>) -> Told {
    let mut told = Told::default();
    for line in lines {
        match line.strip_prefix("left ").and_then(|it| it.split_once(' ')) {
            Some((address, bytes)) => {
                let address = u64::from_str_radix(address, 16).expect("an address");
                told.left.insert(address, bytes.parse().expect("a size"));
            }
            None => told.calls.push(line),
        }
    }
    assert!(told.left.len() > 50 && told.calls.len() > 100, "it has worked");
    told
}

/// Blocks of the workload itself: the C library holds some too.
fn own(report: &Report, ours: &Told) -> BTreeMap<u64, i64> {
    report.listed.iter().filter(|(it, _)| ours.left.contains_key(it)).map(|(a, b)| (*a, *b)).collect()
}

#[test]
fn every_block_with_its_address() {
    let _alone = alone();
    let mut blocks = start("blocks.c");
    let tracer = memleak(blocks.pid(), &[&["-a", "-o", "0", NEVER], &ALL[..]].concat());
    let told = round(&mut blocks);
    let ended = interrupt(tracer);
    let report = Report::last(&ended);
    assert_eq!(report.listed, told.left);
    let sizes: Vec<i64> = ended
        .output
        .lines()
        .filter_map(|it| it.strip_prefix("\taddr = ")?.split(" size = ").nth(1)?.parse().ok())
        .collect();
    assert!(sizes.is_sorted() && sizes.len() == told.left.len(), "by size");
    let sum = |part: fn(&Stack) -> i64| report.stacks.iter().map(part).sum::<i64>();
    assert_eq!(sum(|it| it.bytes), told.left.values().sum::<i64>());
    assert_eq!(sum(|it| it.blocks), told.left.len() as i64);
    assert!(report.stacks.is_sorted_by_key(|it| it.bytes), "the largest is last: {report:#?}");
}

#[test]
fn sizes_are_bounded_inclusively() {
    let _alone = alone();
    let mut blocks = start("blocks.c");
    let tracer = memleak(blocks.pid(), &["-a", "-o", "0", "-z", "1045", "-Z", "1511", NEVER]);
    let told = round(&mut blocks);
    let report = Report::last(&interrupt(tracer));
    let expected: BTreeMap<u64, i64> =
        told.left.iter().filter(|(_, it)| (1045..=1511).contains(*it)).map(|(a, b)| (*a, *b)).collect();
    let sizes: BTreeSet<i64> = expected.values().copied().collect();
    assert!(sizes.contains(&1045) && sizes.contains(&1511), "both bounds are met: {sizes:?}");
    assert!(expected.len() < told.left.len());
    assert_eq!(own(&report, &told), expected);
    assert_eq!(report.listed.len(), expected.len());
}

#[test]
fn nothing_is_listed_before_its_age() {
    const OLDER: Duration = Duration::from_secs(2);
    let _alone = alone();
    let mut blocks = start("blocks.c");
    let mut tracer = memleak(blocks.pid(), &["-a", "-o", "2000", "1"]);
    let before = Instant::now();
    let told = round(&mut blocks);
    // Reports come each second. However late one is read, its blocks were old enough when it was written.
    let mut seen = BTreeSet::new();
    while seen.len() < told.left.len() {
        let line = tracer.next_line();
        if let Some((address, _)) = line.strip_prefix("\taddr = ").and_then(|it| it.split_once(' ')) {
            assert!(before.elapsed() >= OLDER, "{line:?} is listed too early");
            seen.insert(address.to_owned());
        }
        assert!(before.elapsed() < PATIENCE, "{} of {} blocks are listed", seen.len(), told.left.len());
    }
    // A day is more than the machine has been up, or the test has run.
    interrupt(tracer);
    let tracer = memleak(blocks.pid(), &["-a", "-o", "86400000", NEVER]);
    round(&mut blocks);
    assert!(Report::last(&interrupt(tracer)).listed.is_empty());
}

#[test]
fn every_call_as_it_happens() {
    let _alone = alone();
    let mut blocks = start("blocks.c");
    let pid = blocks.pid();
    let tracer = memleak(pid, &["-t"]);
    let told = round(&mut blocks);
    let ended = interrupt(tracer);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut calls = Vec::new();
    let mut entered = 0;
    for line in ended.output.lines().skip_while(|it| !it.starts_with('(')) {
        // What `print` of Python writes: the message is the last of six.
        let fields: Vec<&str> = line.trim_matches(['(', ')']).splitn(6, ", ").collect();
        let [name, tgid, _, _, time, message] = fields[..] else { panic!("{line:?}") };
        assert_eq!((name, tgid), ("b'blocks'", pid.to_string().as_str()), "{line:?}");
        assert!(time.parse::<f64>().is_ok_and(|it| it > 0.0), "{line:?}");
        let message = message.trim_start_matches("b'").trim_end_matches('\'').replace(',', "");
        match message.split(' ').collect::<Vec<_>>()[..] {
            ["alloc", "entered", "size", "=", _] => entered += 1,
            ["alloc", "exited", "size", "=", bytes, "result", "=", address] => {
                calls.push(format!("alloc {address} {bytes}"));
            }
            ["free", "entered", "address", "=", address, "size", "=", bytes] => {
                calls.push(format!("free {address} {bytes}"));
            }
            _ => panic!("{line:?}"),
        }
    }
    assert_eq!(calls, told.calls);
    assert_eq!(entered, told.calls.iter().filter(|it| it.starts_with("alloc")).count());
}

#[test]
fn so_many_reports_and_no_more() {
    let _alone = alone();
    let mut blocks = start("blocks.c");
    let tracer = memleak(blocks.pid(), &["-o", "0", "-T", "1", "1", "2"]);
    let told = round(&mut blocks);
    let ended = tracer.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let reports = Report::all(&ended.output);
    assert_eq!(reports.len(), 2, "{ended:?}");
    assert!(reports.iter().all(|it| it.stacks.len() == 1), "{reports:?}");
    assert!(told.left.values().sum::<i64>() > reports[1].stacks[0].bytes);
    assert!(blocks.is_running());
    let pid = blocks.pid();
    assert!(ended.output.contains(&format!("Attaching to pid {pid}, Ctrl+C to quit.\n")), "{ended:?}");
    assert_eq!(ended.output.matches("] Top 1 stacks with outstanding allocations:\n").count(), 2);
}

#[test]
fn a_command_and_what_it_has_not_freed() {
    let program = build("blocks.c");
    let _alone = alone();
    // Its input is at its end, so that it works once.
    let command = program.to_str().expect("its path is text").to_owned() + " word \t another";
    let ended = alloctrace_says(["memleak", "-a", "-o", "0", "-c", &command]);
    let report = Report::last(&ended);
    let workload = ended
        .output
        .lines()
        .filter(|it| ["alloc ", "free ", "left "].iter().any(|word| it.starts_with(word)));
    let told = read_round(workload.map(str::to_owned).collect());
    assert_eq!(own(&report, &told), told.left);
    assert!(ended.output.contains(&format!("Executing '{command}' and tracing the resulting process.\n")));
    let largest = report.stacks.last().expect("a stack");
    assert_eq!(
        largest.functions[..2],
        ["map", "work"],
        "what the loader has mapped is left out: {report:#?}"
    );
}

#[test]
fn the_layout_of_libbpf_tools() {
    let _alone = alone();
    let mut blocks = start("blocks.c");
    let tracer = memleak(blocks.pid(), &["-a", "-o", "0", "--layout", "libbpf", NEVER]);
    let told = round(&mut blocks);
    let ended = interrupt(tracer);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let mut bytes = Vec::new();
    let mut listed = BTreeMap::new();
    for line in ended.output.lines() {
        match line.split_whitespace().collect::<Vec<_>>()[..] {
            ["addr", "=", address, "size", "=", size] => {
                let address = u64::from_str_radix(address.trim_start_matches("0x"), 16).expect("an address");
                listed.insert(address, size.parse::<i64>().expect("a size"));
            }
            [sum, "bytes", "in", _, "allocations", "from", "stack"] => {
                assert!(!line.starts_with('\t'));
                bytes.push(sum.parse::<i64>().expect("bytes"));
            }
            _ => {}
        }
    }
    assert_eq!(listed, told.left);
    assert!(
        bytes.is_sorted_by(|a, b| a >= b) && bytes.iter().sum::<i64>() == told.left.values().sum::<i64>()
    );
    assert!(ended.output.contains(&format!("Top {} stacks with outstanding", bytes.len())), "{ended:?}");
    let innermost = ended.output.lines().filter(|it| it.starts_with("\t0 [<0000"));
    assert!(innermost.clone().all(|it| it.contains("+0x") && it.ends_with("/blocks]")), "{ended:?}");
    assert_eq!(innermost.count(), bytes.len());
}

/// The pipes that people have put behind memleak.
#[test]
fn scripts_that_read_it() {
    let _alone = alone();
    let mut blocks = start("blocks.c");
    let tracer = memleak(blocks.pid(), &["-o", "0", NEVER]);
    round(&mut blocks);
    let text = interrupt(tracer).output;
    let report = Report::all(&text).pop().expect("a report");
    let shell = |script: &str| -> String {
        let mut sh =
            Program::start(Command::new(needed("sh", "dash")).args(["-c", script]).stdin(Stdio::piped()));
        text.lines().for_each(|it| sh.say(it));
        sh.close_input();
        sh.wait().output.trim().to_owned()
    };
    let stacks = shell("grep -cE 'bytes in [0-9]+ allocations from stack'");
    assert_eq!(stacks, report.stacks.len().to_string());
    let bytes = shell("awk '/bytes in [0-9]+ allocations from stack/ { sum += $1 } END { print sum }'");
    assert_eq!(bytes, report.stacks.iter().map(|it| it.bytes).sum::<i64>().to_string());
    let largest = shell("grep -A1 'allocations from stack' | tail -1 | awk '{ print $2 }' | sed 's/+0x.*//'");
    assert_eq!(largest, report.stacks.last().expect("a stack").functions[0]);
}

#[test]
fn a_leak_is_the_last_stack() {
    let program = build("incidents/cache.rs");
    let _alone = alone();
    let mut target = Program::start(&mut Command::new(program));
    let line = target.next_line();
    let guilty = line.strip_prefix("leak ").expect("it names the leak").to_owned();
    let mut tracer = memleak(target.pid(), &["1"]);
    let begun = Instant::now();
    let (mut text, mut found) = (String::new(), false);
    while !found {
        text.push_str(&tracer.next_line());
        text.push('\n');
        let names = |it: &Report| {
            it.stacks.last().is_some_and(|it| it.functions.iter().any(|it| it.starts_with(&guilty)))
        };
        // The last report may be read in part.
        found = Report::all(&text).iter().rev().skip(1).any(names);
        assert!(begun.elapsed() < PATIENCE, "{guilty} is not the last stack:\n{text}");
    }
    assert_eq!(interrupt(tracer).code, Some(0));
    assert!(target.is_running());
}

#[test]
fn what_is_refused() {
    let refused = |arguments: &[&str], code: i32, words: &[&str]| {
        let ended = alloctrace_says([&["memleak"], arguments].concat());
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert!(ended.output.is_empty(), "{arguments:?}: {ended:?}");
        for word in words {
            assert!(ended.errors.contains(word), "{arguments:?}: {word:?} is not in {ended:?}");
        }
    };
    refused(&[], 2, &["kernel", "-p", "-c"]);
    refused(&["--percpu", "3"], 2, &["kernel", "-p"]);
    refused(&["--ebpf", "-p", "1"], 2, &["source"]);
    refused(&["-S", "je_", "-p", "1"], 2, &["--symbols-prefix"]);
    refused(&["-z", "3", "-Z", "2", "-p", "1"], 2, &["-z", "-Z"]);
    refused(&["-p", "1", "-c", "true"], 2, &["--command"]);
    refused(&["--sort", "age", "-p", "1"], 2, &["size, count"]);
    refused(&["-p", "1", "0"], 2, &["INTERVAL"]);
    let _alone = alone();
    refused(&["-c", "no-such-command-anywhere"], 6, &["no-such-command-anywhere"]);
    let blocks = start("blocks.c");
    let pid = blocks.pid().to_string();
    refused(&["-O", "jemalloc", "-p", &pid], 1, &["jemalloc", "libc.so.6"]);
    let ended = alloctrace_says(["memleak", "-O", "c", "-s", "7", "-FP", "-p", &pid, "1", "1"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for word in ["--sample-rate", "--percpu", "--wa-missing-free"] {
        assert_eq!(ended.errors.matches(word).count(), 1, "{word}: {ended:?}");
    }
}
