//! What looks like a container: namespaces and a control group of its own, and a C library that is nobody else's. Traced
//! from outside it is met as exactly as anybody.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    groups::{Group, hierarchies},
    program::{PATIENCE, Program, needed, run, scratch, within},
    report::Report,
    selection::{read, servant},
    tracer::{Tracer, alone},
    truth::{Truth, compare},
};

#[test]
fn attached_to_by_the_number_that_the_host_knows() {
    let directory = scratch("container-pid");
    let root = root_of(&directory);
    let _alone = alone();
    let mut container = Program::start(&mut contained(&root));
    container.wait_for("waiting");
    let pid = inner_pid(container.pid());
    let capture = directory.join("capture.jsonl.zst");
    let tracer = Tracer::record(&["-p", &pid.to_string()], &capture);
    container.say("go");
    let told = container.wait_for("done");
    check(&told, &tracer.interrupt(), pid, false);
    container.close_input();
}

/// Nobody has met its C library before it begins.
#[test]
fn begun_in_a_control_group() {
    let directory = scratch("container-group");
    let root = root_of(&directory);
    let _alone = alone();
    let group = Group::new(&hierarchies()[0], "container");
    let capture = directory.join("capture.jsonl.zst");
    let tracer = Tracer::record(&["--cgroup", group.name(), "-i", "200ms"], &capture);
    let command = contained(&root);
    let arguments: Vec<&str> = command.get_args().map(|it| it.to_str().expect("it is text")).collect();
    let mut container = group.start(Path::new(command.get_program()), &arguments);
    container.wait_for("waiting");
    let pid = inner_pid(container.pid());
    // The library was not known to anybody: its probes are in place when that is written down.
    let is_probed = || read(&capture).is_some_and(|it| it.losses.contains_key("late_probes")).then_some(());
    within(PATIENCE, is_probed).expect("its library is probed");
    container.say("go");
    let told = container.wait_for("done");
    let report = tracer.interrupt();
    check(&told, &report, pid, true);
    let recording = read(&capture).expect("the capture");
    let row = recording.processes.values().find(|it| it.pid == pid).expect("it was traced");
    assert_eq!(row.name, "at-contained");
    assert!(row.exe.ends_with("/at-contained"), "{}", row.exe);
    assert_eq!(row.cgroup, Some(format!("/{}/inner", group.name())));
    container.close_input();
    container.wait();
}

/// Inside, the process has another number; what is said of `process` is of that one.
fn check(told: &[String], report: &Report, pid: u32, begun: bool) {
    let own = |line: &String| {
        if line.starts_with("process ") { format!("process {pid} own") } else { line.clone() }
    };
    let told: Vec<String> = told.iter().map(own).collect();
    assert!(told.iter().any(|it| it.starts_with("process ")), "it says who it is");
    let mut differences = compare(&Truth::parse(&told), report);
    if begun {
        // What the library did until its probes were there.
        differences.retain(|it| !it.starts_with("loss late_pro"));
        differences.retain(|it| !it.starts_with("unknown frees"));
        // Deep stacks of the loader, whose table is made meanwhile, are cut where what was sent of them ends.
        differences
            .retain(|it| !it.starts_with("incomplete stack") && !it.starts_with("loss incomplete_stacks"));
        differences.retain(|it| !it.starts_with("loss unreadable_stacks"));
    }
    assert!(differences.is_empty(), "{} differences\n{}", differences.len(), differences.join("\n"));
}

/// A root directory with the servant and copies of all that it loads.
fn root_of(directory: &Path) -> PathBuf {
    let root = directory.join("root");
    fs::create_dir_all(&root).expect("make the root");
    let program = servant(&root, "at-contained");
    let listed = run(Command::new(needed("ldd", "libc-bin")).arg(&program));
    assert_eq!(listed.code, Some(0), "{listed:?}");
    let libraries: Vec<&str> = listed.output.split_whitespace().filter(|it| it.starts_with('/')).collect();
    assert!(libraries.len() >= 2, "a C library and its loader: {libraries:?}");
    for library in libraries {
        let copy = root.join(library.trim_start_matches('/'));
        fs::create_dir_all(copy.parent().expect("it lies in a directory")).expect("make a directory");
        fs::copy(library, copy).expect("copy a library");
    }
    root
}

/// New mount, pid and control group namespaces.
fn contained(root: &Path) -> Command {
    let mut command = Command::new(needed("unshare", "util-linux"));
    command.args(["-m", "-p", "-C", "-f", "chroot"]).arg(root).arg("/at-contained");
    command
}

/// The only child of `unshare`.
fn inner_pid(outer: u32) -> u32 {
    let child = || {
        fs::read_dir("/proc").ok()?.flatten().find_map(|it| {
            let pid: u32 = it.file_name().to_str()?.parse().ok()?;
            let stat = fs::read_to_string(it.path().join("stat")).ok()?;
            let parent = stat.rsplit_once(") ")?.1.split(' ').nth(1)?;
            (parent == outer.to_string()).then_some(pid)
        })
    };
    within(PATIENCE, child).expect("a child of unshare")
}
