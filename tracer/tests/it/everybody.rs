//! The whole machine: processes that are gone before anybody can look at them have a name, and of hundreds in a row none
//! is lost.

use std::{
    collections::BTreeSet, fmt::Write as _, fs, os::unix::fs::PermissionsExt as _, path::Path,
    process::Command,
};

use alloctrace::{
    capture::{ProcessRow, Recording},
    cost::Cost,
};

use crate::{
    program::{needed, scratch},
    selection::read,
    tracer::{Tracer, alone},
    workload::build,
};

/// Enough for what a machine with two processors allocates while it compiles.
const RING: &str = "256MiB";

/// Each is a file of its own that nobody has met before. They are selected by their names, so that nothing else of the
/// machine is in the way.
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
    let names: Vec<String> = (0..copies.len()).map(|it| format!("--name=at-gone-{it}")).collect();
    let tracer = Tracer::record(&names.iter().map(String::as_str).collect::<Vec<_>>(), &capture);
    let mut pids = Vec::new();
    for copy in &copies {
        let mut child = Command::new(copy).arg("an argument").spawn().expect("start it");
        pids.push(child.id());
        assert!(child.wait().expect("it is our child").success());
    }
    tracer.interrupt_unread();
    let recording = read(&capture).expect("the capture");
    for (copy, pid) in copies.iter().zip(pids) {
        let row = recording.processes.values().find(|it| it.pid == pid).expect("it was traced");
        let path = copy.to_str().expect("its path is text");
        assert_eq!(row.name, copy.file_name().expect("it has a name").to_string_lossy());
        assert_eq!((row.exe.as_str(), row.command.as_str()), (path, format!("{path} an argument").as_str()));
        assert_eq!(row.ended.as_ref().map(|it| (it.how.as_str(), it.code)), Some(("exit", 0)));
        let held = held(&recording, row.id, &["hold", "main"]);
        assert_eq!(held, [Cost { bytes: 1234, blocks: 1 }], "what {path} held");
    }
    assert_eq!(recording.losses.get("unnamed_modules"), None, "losses {:?}", recording.losses);
}

/// What is live at the end at each site of a process whose innermost frames are these.
fn held(recording: &Recording, process: u32, functions: &[&str]) -> Vec<Cost> {
    let is_meant = |stack: u32| {
        let frames = recording.stacks[&stack].frames.iter().map(|it| &recording.frames[*it as usize]);
        let names: Vec<_> = frames.map(|it| it.function.as_deref().unwrap_or_default()).collect();
        names.starts_with(functions)
    };
    let sites = recording.sites.values().filter(|it| it.process == process && is_meant(it.stack));
    sites.filter_map(|it| it.points.last()).map(|it| it.live()).collect()
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
    let own_kib = tracer.own_kib();
    tracer.interrupt_unread();
    let recording = read(&capture).expect("the capture");

    let text = fs::read_to_string(log).expect("the log");
    let truth: BTreeSet<u32> = text.lines().map(|it| it.parse().expect("a number")).collect();
    let seen = descendants(&recording, make_pid);
    println!(
        "{} processes in the log, {} in the capture, {} in all; losses {:?}; the tracer has {} MiB",
        truth.len(),
        seen.len(),
        recording.processes.len(),
        recording.losses,
        own_kib / 1024
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
    for loss in unwanted {
        assert_eq!(recording.losses.get(loss), None, "{loss} of {:?}", recording.losses);
    }
    // Unwinding tables, and the files of programs that are traced: a compiler has some thirty megabytes.
    assert!(own_kib < 1 << 20, "{own_kib} KiB are too many for a build of {FILES} files");
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
