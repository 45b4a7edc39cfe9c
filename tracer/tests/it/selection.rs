//! Whom to trace: by name, by control group, with children, or all. What the selected ones did is met exactly, and of
//! nobody else is anything seen.

use std::{
    collections::BTreeSet,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use alloctrace::capture::{self, ProcessRow, Recording};

use crate::{
    groups::{Group, hierarchies},
    program::{PATIENCE, Program, scratch, within},
    report::{Report, Site},
    tracer::{Tracer, alloctrace, alloctrace_says, alone},
    truth::{Truth, compare},
    workload::{Linkage, build, build_as},
};

/// A copy of the servant under another name.
pub(crate) fn servant(directory: &Path, name: &str) -> PathBuf {
    let copy = directory.join(name);
    fs::copy(build("servant.c"), &copy).expect("copy the program");
    copy
}

/// What a capture has said so far.
pub(crate) fn read(capture: &Path) -> Option<Recording> {
    capture::read(fs::File::open(capture).ok()?, None).ok()
}

/// Waits until a recording that goes on knows a process.
fn wait_until_known(capture: &Path, pid: u32) {
    let knows = || read(capture)?.processes.values().any(|it| it.pid == pid).then_some(());
    within(PATIENCE, knows).unwrap_or_else(|| panic!("process {pid} is not found"));
}

fn work(program: &mut Program) -> Vec<String> {
    program.wait_for("waiting");
    ask(program)
}

fn ask(program: &mut Program) -> Vec<String> {
    program.say("go");
    program.wait_for("done")
}

fn process(recording: &Recording, pid: u32) -> &ProcessRow {
    recording
        .processes
        .values()
        .find(|it| it.pid == pid)
        .unwrap_or_else(|| panic!("process {pid} was traced"))
}

fn pids(report: &Report) -> BTreeSet<u32> {
    report.processes.iter().map(|it| it.pid).collect()
}

/// Everything that was told is there, and nothing was lost but what `expected` names.
fn check(told: &[Vec<String>], report: &Report, expected: &[&str]) {
    let truth = Truth::parse(&told.concat());
    let mut differences = compare(&truth, report);
    for loss in expected {
        let before = differences.len();
        differences.retain(|it| it != &format!("loss {loss}"));
        assert!(differences.len() < before, "{loss} was to be counted; there are {:?}", report.losses());
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

#[test]
fn by_name_those_there_are_and_those_that_come() {
    let directory = scratch("by-name");
    let (wanted, other) = (servant(&directory, "at-wanted"), servant(&directory, "at-other"));
    let capture = directory.join("capture.jsonl.zst");
    let _alone = alone();
    let mut present = Program::start(&mut Command::new(&wanted));
    let mut decoy = Program::start(&mut Command::new(&other));
    present.wait_for("waiting");
    decoy.wait_for("waiting");
    let tracer = Tracer::record(&["-n", "at-wanted"], &capture);
    let mut later = Program::start(Command::new(&wanted).args(["prefork", "2"]));
    let told = [ask(&mut present), work(&mut later)];
    ask(&mut decoy);
    let report = tracer.interrupt();
    check(&told, &report, &[]);
    let all = pids(&report);
    assert!(all.contains(&present.pid()) && all.contains(&later.pid()) && !all.contains(&decoy.pid()));
    assert_eq!(all.len(), 4, "two, and two children: {all:?}");
}

/// A file keeps its inode when it is written over: what was known of it goes, and the probes in its own allocator.
#[test]
fn a_program_that_is_written_over_is_another() {
    for linkage in [Linkage::Usual, Linkage::StaticGlibc] {
        // An allocator that nobody has met before is probed when the program has begun.
        let is_new = linkage == Linkage::StaticGlibc;
        let late = if is_new { vec!["loss late_probes: 2"] } else { Vec::new() };
        let directory = scratch(&format!("written-over-{linkage:?}"));
        let program = directory.join("at-wanted");
        let capture = directory.join("capture.jsonl.zst");
        let write_over =
            |source: &str| fs::copy(build_as(source, linkage), &program).expect("write over the program");
        write_over("servant.c");
        let _alone = alone();
        let tracer = Tracer::record(&["-n", "at-wanted", "-i", "200ms"], &capture);
        let mut told = Vec::new();
        for (next, met) in [(Some("chains.c"), 1), (None, 2)] {
            let mut running = Program::start(&mut Command::new(&program));
            running.wait_for("waiting");
            if is_new {
                let is_probed = || (*read(&capture)?.losses.get("late_probes")? == met).then_some(());
                within(PATIENCE, is_probed).expect("its allocator is probed");
            }
            let said = ask(&mut running);
            told.push(format!("process {} one", running.pid()));
            told.extend(said.into_iter().filter(|it| !it.starts_with("older ")));
            running.close_input();
            assert_eq!(running.wait().code, Some(0));
            let Some(source) = next else { break };
            // Names are looked up when the interval is written.
            let is_named = || {
                let recording = read(&capture)?;
                recording.frames.iter().any(|it| it.function.as_deref() == Some("serve")).then_some(())
            };
            within(PATIENCE, is_named).expect("what the first one did is known");
            write_over(source);
        }
        let mut differences = compare(&Truth::parse(&told), &tracer.interrupt());
        // So are its unwinding rows: until then a copy of 8 KiB of the stack must do, and the loader may have more.
        let early = ["incomplete stack: mmap brk ", "loss incomplete_stacks: ", "loss unreadable_stacks: "];
        differences.retain(|it| !is_new || !early.iter().any(|early| it.starts_with(early)));
        assert_eq!(differences, late, "{linkage:?}");
    }
}

/// A process that nobody has asked for any more has ended as far as the recording goes.
#[test]
fn what_becomes_another_program_leaves_unless_it_is_followed() {
    let directory = scratch("by-name-exec");
    let (wanted, other) = (servant(&directory, "at-before"), servant(&directory, "at-after"));
    let _alone = alone();
    for follow in [false, true] {
        let capture = directory.join(format!("{follow}.jsonl.zst"));
        let options: &[&str] = if follow { &["-n", "at-before", "--follow"] } else { &["-n", "at-before"] };
        let tracer = Tracer::record(options, &capture);
        let mut program = Program::start(Command::new(&wanted).arg("become").arg(&other));
        program.wait_for("waiting");
        program.say("go");
        let told = work(&mut program);
        let report = tracer.interrupt();
        let recording = read(&capture).expect("the capture");
        let row = process(&recording, program.pid());
        if follow {
            assert_eq!(row.ended, None);
            assert_eq!(row.name, "at-after");
            // The blocks from before the exec are gone, so the two images share one site.
            let live_bytes: i64 = report.sites.iter().filter(|it| serves(it)).map(|it| it.live_bytes).sum();
            assert_eq!(Some(live_bytes), Truth::parse(&told).sites[0].figures[0]);
        } else {
            assert_eq!(row.ended.as_ref().map(|it| it.how.as_str()), Some("exec"));
            assert_eq!(row.name, "at-before");
            assert_eq!(report.totals.live_bytes, 0, "its blocks are gone");
            assert!(report.totals.allocated_blocks >= 50, "it was traced before");
        }
        assert!(report.losses().is_empty(), "losses: {:?}", report.losses());
    }
}

fn serves(site: &Site) -> bool {
    site.functions().starts_with(&["serve", "work", "main"])
}

#[test]
fn children_of_an_attached_process() {
    let directory = scratch("attach-follow");
    let program = servant(&directory, "at-prefork");
    let _alone = alone();
    for follow in [true, false] {
        let capture = directory.join(format!("{follow}.jsonl.zst"));
        let mut server = Program::start(Command::new(&program).args(["prefork", "3"]));
        server.wait_for("waiting");
        let pid = server.pid().to_string();
        let options: &[&str] = if follow { &["-p", &pid, "--follow"] } else { &["-p", &pid] };
        let tracer = Tracer::record(options, &capture);
        let mut told = ask(&mut server);
        let report = tracer.interrupt();
        if !follow {
            // The last two lines are its own.
            told.drain(..told.len() - 2);
        }
        check(&[told], &report, &[]);
        assert_eq!(report.processes.len(), if follow { 4 } else { 1 });
    }
}

#[test]
fn by_control_group_and_all_below_it() {
    let directory = scratch("by-group");
    let program = servant(&directory, "at-group");
    let _alone = alone();
    for root in hierarchies() {
        let group = Group::new(&root, "subtree");
        let capture = directory.join(format!("{}.jsonl.zst", root.display().to_string().replace('/', "-")));
        let mut present = Program::start(&mut Command::new(&program));
        let mut outsider = Program::start(&mut Command::new(&program));
        present.wait_for("waiting");
        outsider.wait_for("waiting");
        group.take(present.pid());
        let tracer = Tracer::record(&["--cgroup", group.path(), "-i", "200ms"], &capture);
        let mut later = group.start(&program, &["prefork", "2"]);
        let told = [ask(&mut present), work(&mut later)];
        ask(&mut outsider);
        let report = tracer.interrupt();
        // The shell that moved itself is found late if the list is read at that moment.
        let late = report.losses().iter().any(|it| it == "late_processes: 1");
        check(&told, &report, if late { &["late_processes: 1"] } else { &[] });
        let all = pids(&report);
        assert!(all.contains(&present.pid()) && all.contains(&later.pid()) && !all.contains(&outsider.pid()));
        assert_eq!(all.len(), 4, "two, and two children: {all:?}");
        for mut program in [present, later, outsider] {
            program.close_input();
            program.wait();
        }
    }
}

/// It is found when the list is read the next time, and what it did before is missing by name.
#[test]
fn a_process_that_is_moved_into_the_group() {
    let directory = scratch("moved");
    let program = servant(&directory, "at-moved");
    let capture = directory.join("capture.jsonl.zst");
    let _alone = alone();
    let group = Group::new(&hierarchies()[0], "moved");
    let mut moved = Program::start(&mut Command::new(&program));
    moved.wait_for("waiting");
    let mut tracer = alloctrace(["record", "--cgroup", group.name(), "-i", "100ms", "-o"]);
    let mut tracer = Program::start(tracer.arg(&capture));
    tracer.wait_for_error("alloctrace: there are no processes in the control group");
    tracer.wait_for_error("alloctrace: ready");
    group.take(moved.pid());
    wait_until_known(&capture, moved.pid());
    let told = ask(&mut moved);
    tracer.signal(crate::program::Signal::INT);
    assert_eq!(tracer.wait().code, Some(0));
    let report = Report::read(&capture);
    check(&[told], &report, &["late_processes: 1"]);
    let recording = read(&capture).expect("the capture");
    let inner = format!("/{}/inner", group.name());
    assert_eq!(process(&recording, moved.pid()).cgroup.as_deref(), Some(inner.as_str()));
    moved.close_input();
    moved.wait();
}

#[test]
fn wrong_selections() {
    const USAGE: i32 = 2;
    const GONE: i32 = 6;
    let id = "0123456789ab";
    for (arguments, code, words) in [
        (&["-n", "x", "-p", "1"][..], USAGE, "--pid"),
        (&["-a", "-n", "x"], USAGE, "--all"),
        (&["-a", "--no-follow"], USAGE, "--no-follow"),
        (&["-p", "1", "--follow", "--no-follow"], USAGE, "--no-follow"),
        (&["-n", ""], USAGE, "empty"),
        (&["-a", "--", "true"], USAGE, "--all"),
        (&["--cgroup", "no-such-group"], GONE, "no control group no-such-group"),
        (&["--cgroup", "/tmp"], GONE, "no control group /tmp"),
        (&["--container", "abc"], GONE, "is no container id"),
        (&["--container", id], GONE, "no container 0123456789ab"),
        (&["--cgroup", id], GONE, "no control group 0123456789ab"),
    ] {
        let ended = alloctrace_says(["record"].iter().chain(arguments));
        assert_eq!(ended.code, Some(code), "{arguments:?}: {ended:?}");
        assert!(ended.errors.contains(words), "{arguments:?}: {words:?} is not in the message: {ended:?}");
    }
}
