//! `watch` keeps what it knew of those that were killed, and of everybody if it is killed itself.

use std::{
    fs,
    path::{Path, PathBuf},
    thread,
    time::Duration,
};

use alloctrace::capture::IncidentRow;

use crate::{
    groups::{Group, hierarchies},
    program::{PATIENCE, Program, Signal, scratch, within},
    report::Report,
    selection::read,
    tracer::{alloctrace, alloctrace_says, alone},
    workload::build,
};

/// What the group may have.
const LIMIT_BYTES: u64 = 64 << 20;

/// A watch over one control group.
struct Watch {
    program: Program,
    directory: PathBuf,
}

impl Watch {
    fn start(group: &Group, directory: &Path) -> Self {
        let mut command = alloctrace(["watch", "--tier", "exact", "-i", "100ms", "--cgroup", group.name()]);
        let mut program = Program::start(command.arg("--state-dir").arg(directory));
        program.wait_for_error("alloctrace: ready");
        Self { program, directory: directory.to_owned() }
    }

    fn black_box(&self) -> PathBuf {
        self.directory.join("black-box.jsonl.zst")
    }

    /// When the last interval ended that is on the disk, and how many of them know the process.
    fn known(&self, pid: u32) -> Option<(f64, usize)> {
        let recording = read(&self.black_box())?;
        let id = recording.processes.values().find(|it| it.pid == pid)?.id;
        Some((*recording.times_s.last()?, recording.samples.get(&id)?.len()))
    }

    /// Starts the workload, and has it go on once its allocator is traced.
    fn run(&self, group: &Group, what: &str) -> (Program, PathBuf) {
        let books = self.directory.join(format!("books.{what}"));
        let program = build("oom.c");
        // Of all processes it is to be the first to go, and no core is wanted.
        let script = "ulimit -c 0; echo 1000 > /proc/self/oom_score_adj && exec \"$@\"";
        let texts = [&program, &books].map(|it| it.to_str().expect("its path is text"));
        let arguments = ["-c", script, "sh", texts[0], texts[1], what];
        let mut workload = group.start(Path::new("/bin/sh"), &arguments);
        workload.wait_for("waiting");
        let is_known = || self.known(workload.pid()).filter(|it| it.1 > 2);
        within(PATIENCE, is_known).expect("it is traced");
        workload.say("go");
        (workload, books)
    }

    /// The incident of a process, once its end is known.
    fn incident(&self, pid: u32) -> (IncidentRow, PathBuf) {
        let find = || {
            let mut all = incidents(&self.directory).into_iter();
            all.find(|(it, _)| it.victim.as_ref().is_some_and(|it| it.pid == pid && it.ended.is_some()))
        };
        within(PATIENCE, find).expect("an incident")
    }

    fn end(self) {
        self.program.signal(Signal::INT);
        let ended = self.program.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
}

fn incidents(directory: &Path) -> Vec<(IncidentRow, PathBuf)> {
    let said = alloctrace_says(["incidents", "--json", "--state-dir", directory.to_str().expect("text")]);
    assert_eq!((said.code, &*said.errors), (Some(0), ""));
    let rows: Vec<serde_json::Value> = serde_json::from_str(&said.output).expect("a list");
    let path = |it: &serde_json::Value| PathBuf::from(it["path"].as_str().expect("a path"));
    rows.iter().map(|it| (serde_json::from_value(it.clone()).expect("an incident"), path(it))).collect()
}

/// What the workload wrote down before it died.
fn allocated_bytes(books: &Path) -> i64 {
    let bytes = fs::read(books).expect("the books");
    i64::from_le_bytes(bytes.try_into().expect("a number of eight bytes"))
}

/// Limits the memory of a group, in the hierarchy that accounts it.
fn limited(name: &str) -> Group {
    let root = &hierarchies()[0];
    let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
    let group = Group::new(root, name);
    let limit = ["memory.limit_in_bytes", "memory.max"].map(|it| group.directory.join(it));
    let limit = limit.iter().find(|it| it.exists()).expect("a hierarchy that accounts memory");
    fs::write(limit, LIMIT_BYTES.to_string()).expect("limit its memory");
    for swap in ["memory.memsw.limit_in_bytes", "memory.swap.max"] {
        // Where there is no swap there is no such file.
        let _ = fs::write(group.directory.join(swap), if swap.contains("memsw") { "64M" } else { "0" });
    }
    group
}

#[test]
fn an_oom_kill_names_who_held_the_memory() {
    let _alone = alone();
    let (directory, group) = (scratch("oom"), limited("oom"));
    let watch = Watch::start(&group, &directory);
    let (workload, books) = watch.run(&group, "leak");
    let pid = workload.pid();
    assert_eq!(workload.wait().signal, Some(9));
    let (incident, path) = watch.incident(pid);
    watch.end();
    let allocated_bytes = allocated_bytes(&books);
    let victim = incident.victim.as_ref().expect("a victim");
    println!("held {} of {allocated_bytes} bytes: {incident:#?}", victim.function_bytes);
    assert_eq!((&*incident.kind, incident.constraint.as_deref()), ("oom-kill", Some("memory-cgroup")));
    assert_eq!(incident.trigger.map(|it| (it.pid, it.name)), Some((pid, "oom".to_owned())));
    assert_eq!((victim.function.as_deref(), victim.limit_bytes), (Some("leak_a_block"), Some(LIMIT_BYTES)));
    assert!((victim.function_bytes - allocated_bytes).abs() * 100 <= allocated_bytes);
    assert!(victim.growth_bytes_per_s.is_some_and(|it| it > 0.0));
    assert!(victim.rss_bytes.is_some_and(|it| it > LIMIT_BYTES / 2 && it < LIMIT_BYTES / 4 * 5));
    let limited = incident.groups.iter().find(|it| it.limit_bytes == Some(LIMIT_BYTES)).expect("the group");
    assert!(limited.path.ends_with(group.name()), "{}", limited.path);
    let innermost = &incident.groups[0];
    assert!(innermost.events.get("oom_kill").is_some_and(|it| *it > 0), "{:?}", innermost.events);
    assert!(incident.largest.iter().any(|it| it.pid == pid));
    let report = Report::read(&path);
    let first = report.sites.first().expect("a site");
    assert_eq!(first.live_bytes, victim.function_bytes);
    assert!(first.frames.iter().any(|it| it.function.as_deref() == Some("leak_a_block")));
    let said = alloctrace_says(["report", path.to_str().expect("text")]);
    let head = said.output.lines().find(|it| it.starts_with("incident ")).expect("what happened");
    assert!(head.contains("KILLED BY THE OOM KILLER: its control group was at its limit"), "{head}");
}

#[test]
fn ends_that_nobody_asked_for_are_incidents() {
    let _alone = alone();
    let (directory, group) = (scratch("killed"), limited("killed"));
    let watch = Watch::start(&group, &directory);
    let check = |what: &str, signal: Option<Signal>, kind: &str, name: &str| {
        let (mut workload, _) = watch.run(&group, what);
        let pid = workload.pid();
        workload.wait_for("done");
        signal.into_iter().for_each(|it| workload.signal(it));
        assert_eq!(workload.wait().code, None);
        let (incident, _) = watch.incident(pid);
        assert_eq!((&*incident.kind, incident.signal.as_deref()), (kind, Some(name)));
        let victim = incident.victim.expect("a victim");
        assert_eq!(victim.function.as_deref(), Some("leak_a_block"));
        assert!((8_000_000..9_000_000).contains(&victim.live_bytes), "{}", victim.live_bytes);
    };
    let (mut asked, _) = watch.run(&group, "wait");
    asked.wait_for("done");
    asked.signal(Signal::TERM);
    assert_eq!(asked.wait().signal, Some(15));
    check("wait", Some(Signal::KILL), "killed", "SIGKILL");
    check("crash", None, "crash", "SIGSEGV");
    watch.end();
    assert_eq!(incidents(&directory).len(), 2, "the one that was asked to end is none");
    assert!(!directory.join("black-box.jsonl.zst").exists(), "a run that ends leaves none");
}

#[test]
fn a_tracer_that_is_killed_leaves_what_it_knew() {
    let _alone = alone();
    let (directory, group) = (scratch("interrupted"), limited("interrupted"));
    for (round, delay_ms) in [0, 30, 150, 400].into_iter().enumerate() {
        let watch = Watch::start(&group, &directory);
        let (mut workload, _) = watch.run(&group, "wait");
        workload.wait_for("done");
        thread::sleep(Duration::from_millis(delay_ms));
        let (before_s, _) = watch.known(workload.pid()).expect("it is known");
        watch.program.signal(Signal::KILL);
        let path = watch.black_box();
        watch.program.wait();
        let left = read(&path).expect("what is left is readable");
        let last_s = left.times_s.last().copied().expect("an interval");
        assert!(last_s >= before_s, "{last_s} s are left, and {before_s} s were there");
        // The next run keeps it.
        Watch::start(&group, &directory).end();
        let kept = incidents(&directory);
        let (incident, file) = &kept[0];
        assert_eq!((kept.len(), &*incident.kind, incident.t_s), (round + 1, "interrupted", last_s));
        assert_eq!(read(file).expect("it is readable").times_s.last(), Some(&last_s));
        assert!(!path.exists());
    }
}

#[test]
fn a_directory_that_will_not_do_is_named_before_anything_is_traced() {
    let check = |directory: &Path, expected: &str| {
        let said = alloctrace_says(["watch", "--state-dir", directory.to_str().expect("text")]);
        assert_eq!(said.code, Some(1));
        assert!(said.errors.contains(expected), "{}", said.errors);
    };
    check(Path::new("/proc/nothing"), "keep the black box in /proc/nothing");
    let _alone = alone();
    let (directory, group) = (scratch("shared"), limited("shared"));
    let watch = Watch::start(&group, &directory);
    check(&directory, &format!("alloctrace watch with pid {} uses it", watch.program.pid()));
    watch.end();
}
