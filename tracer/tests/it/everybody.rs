//! The whole machine: processes that are gone before anybody can look at them have a name, and of hundreds in a row none
//! is lost.

use std::{
    collections::BTreeSet, fmt::Write as _, fs, os::unix::fs::PermissionsExt as _, path::Path,
    process::Command,
};

use alloctrace::capture::{ProcessRow, Recording};

use crate::{
    program::{needed, scratch},
    selection::read,
    tracer::{Tracer, alone},
    workload::build,
};

/// Enough for what a machine with two processors allocates while it compiles.
const RING: &str = "256MiB";

/// Each is a file of its own that nobody has met before.
#[test]
fn processes_of_a_millisecond_have_names() {
    let directory = scratch("gone");
    let built = build("gone.c");
    let copies: Vec<_> = (0..20).map(|it| directory.join(format!("at-gone-{it}"))).collect();
    for copy in &copies {
        fs::copy(&built, copy).expect("copy the program");
    }
    let capture = directory.join("capture.jsonl.zst");
    let _alone = alone();
    let tracer = Tracer::record(&["-a", "--ring", RING], &capture);
    let mut pids = Vec::new();
    for copy in &copies {
        let mut child = Command::new(copy).arg("an argument").spawn().expect("start it");
        pids.push(child.id());
        assert!(child.wait().expect("it is our child").success());
    }
    let report = tracer.interrupt();
    let recording = read(&capture).expect("the capture");
    for (copy, pid) in copies.iter().zip(pids) {
        let row = recording.processes.values().find(|it| it.pid == pid).expect("it was traced");
        let path = copy.to_str().expect("its path is text");
        assert_eq!(row.name, copy.file_name().expect("it has a name").to_string_lossy());
        assert_eq!((row.exe.as_str(), row.command.as_str()), (path, format!("{path} an argument").as_str()));
        assert_eq!(row.ended.as_ref().map(|it| (it.how.as_str(), it.code)), Some(("exit", 0)));
        assert!(row.parent.is_some(), "its parent is this test");
        let held: Vec<_> = report
            .sites
            .iter()
            .filter(|it| it.pid == Some(pid) && it.functions().starts_with(&["hold", "main"]))
            .map(|it| (it.live_bytes, it.live_blocks))
            .collect();
        assert_eq!(held, [(1234, 1)], "what {path} held");
    }
    let unnamed: Vec<_> =
        report.losses().into_iter().filter(|it| it.starts_with("unnamed_modules")).collect();
    assert!(unnamed.is_empty(), "{unnamed:?}");
}

/// A compiler, its passes and its assembler for each of many files: every process writes its number down itself.
#[test]
fn a_build_loses_no_process() {
    const FILES: usize = 40;
    let directory = scratch("build");
    let log = directory.join("log");
    let make = needed("make", "make");
    let gcc = needed("gcc", "gcc");
    prepare(&directory, &log, &gcc, FILES);
    let capture = directory.join("capture.jsonl.zst");
    let _alone = alone();
    let tracer = Tracer::record(&["-a", "--ring", RING], &capture);
    let mut making =
        Command::new(make).args(["-s", "-j2"]).current_dir(&directory).spawn().expect("start make");
    let make_pid = making.id();
    assert!(making.wait().expect("it is our child").success(), "the build");
    let peak_kib = tracer.peak_kib();
    let report = tracer.interrupt();
    let recording = read(&capture).expect("the capture");

    let text = fs::read_to_string(log).expect("the log");
    let truth: BTreeSet<u32> = text.lines().map(|it| it.parse().expect("a number")).collect();
    let seen = descendants(&recording, make_pid);
    println!(
        "{} processes in the log, {} in the capture, {} in all; losses {:?}; the tracer took {} MiB at most",
        truth.len(),
        seen.len(),
        recording.processes.len(),
        report.losses(),
        peak_kib / 1024
    );
    assert!(truth.len() >= 3 * FILES, "a compiler, a pass and an assembler each");
    let pids: BTreeSet<u32> = seen.iter().map(|it| it.pid).collect();
    assert_eq!(pids, truth, "the processes of the build");
    assert_eq!(seen.len(), truth.len(), "each once");
    for row in seen {
        let what = format!("process {} ({} {})", row.pid, row.name, row.command);
        assert_eq!(row.ended.as_ref().map(|it| (it.how.as_str(), it.code)), Some(("exit", 0)), "{what}");
        assert!(["gcc", "cc1", "as"].iter().any(|it| row.exe.contains(it)), "{what}: {}", row.exe);
        assert!(row.command.contains(".c") || row.command.contains(".s"), "{what}");
    }
    let unwanted = ["unnamed_modules", "processes_full", "malformed_records", "late_processes"];
    for loss in report.losses() {
        assert!(!unwanted.iter().any(|it| loss.starts_with(it)), "{loss}");
    }
    assert!(peak_kib < 1 << 20, "{peak_kib} KiB are too many for a build of {FILES} files");
}

/// Files to compile, and a wrapper that writes down who runs it and becomes what it is asked to be.
fn prepare(directory: &Path, log: &Path, gcc: &Path, files: usize) {
    let wrapper = directory.join("wrapper");
    let script = format!("#!/bin/sh\necho $$ >> {}\nexec \"$@\"\n", log.display());
    fs::write(&wrapper, script).expect("write the wrapper");
    fs::set_permissions(&wrapper, fs::Permissions::from_mode(0o755)).expect("make it a program");
    let (wrapper, gcc) = (wrapper.display(), gcc.display());
    let mut makefile = "all:".to_owned();
    for file in 0..files {
        fs::write(directory.join(format!("f{file}.c")), format!("int f{file}(void) {{ return {file}; }}\n"))
            .expect("write a file");
        let _ = write!(makefile, " f{file}.o");
    }
    let _ = write!(makefile, "\n%.o: %.c\n\t{wrapper} {gcc} -wrapper {wrapper} -c $< -o $@\n");
    fs::write(directory.join("Makefile"), makefile).expect("write the makefile");
}

/// Processes that come from `pid`, directly or not.
fn descendants(recording: &Recording, pid: u32) -> Vec<&ProcessRow> {
    let mut found: Vec<&ProcessRow> = Vec::new();
    let top = recording.processes.values().find(|it| it.pid == pid).expect("make was traced");
    let mut ids = BTreeSet::from([top.id]);
    // Children come after their parents.
    let mut rows: Vec<&ProcessRow> = recording.processes.values().collect();
    rows.sort_by(|one, other| one.began_s.total_cmp(&other.began_s).then(one.id.cmp(&other.id)));
    for row in rows {
        if row.parent.is_some_and(|it| ids.contains(&it)) && ids.insert(row.id) {
            found.push(row);
        }
    }
    found
}
