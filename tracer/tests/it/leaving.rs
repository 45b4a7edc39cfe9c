//! The end of a recording: nobody waits for the kernel to remove the probes, and whoever does it for us holds nothing else.

use std::{
    fs,
    os::unix::process::CommandExt as _,
    process::{Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

use crate::{
    midrun::{assert_touched, assert_untouched},
    program::{PATIENCE, Program, scratch, within},
    tracer::{Tracer, alone},
    workload::build,
};

/// As users see it in a list of processes.
const CHILD_NAME: &str = "alloctrace: removing probes";

/// It lives for as long as the kernel takes, so that it may have gone before anybody looked.
const TURNS: usize = 20;

#[test]
fn a_child_removes_the_probes_and_may_be_killed() {
    let directory = scratch("leaving");
    let mut churn = Program::start(&mut Command::new(build("churn.c")));
    churn.wait_for("waiting");
    let _alone = alone();
    let pid = churn.pid();
    let seen = (0..TURNS).find_map(|turn| {
        let mut tracer = Tracer::attach(pid, &directory.join(format!("{turn}.jsonl.zst")), &[]);
        assert_touched(pid);
        tracer.signal(Signal::INT);
        let mut seen = None;
        while seen.is_none() && tracer.program().is_running() {
            seen = removing().and_then(|it| Some((it, held_by(it)?)));
            // As long as its loader is at work it is not.
            seen = seen.filter(|(_, held)| !held.iter().any(|it| it.contains(".so")));
        }
        let held = seen.map(|(child, held)| {
            let _ = kill_process(Pid::from_raw(child as i32).expect("a process"), Signal::KILL);
            held
        });
        assert!(tracer.finish().capture.complete, "the capture has its end");
        assert_untouched(pid, "after the detach");
        held.filter(|it| it.iter().any(|it| is_link(it)))
    });
    let held = seen.expect("in one of so many turns it is seen at work");
    // Its input is a pipe to its parent, until that has closed its own links.
    let others: Vec<&String> = held.iter().filter(|it| !is_link(it) && *it != "/dev/null").collect();
    assert!(others.len() <= 1 && others.iter().all(|it| it.starts_with("pipe:")), "it holds {others:?} too");
    churn.close_input();
    assert_eq!(churn.wait().code, Some(0));
}

/// Whoever started the tracer may have left a pipe open, at whose other end somebody waits.
#[test]
fn the_child_lets_go_of_what_it_inherits() {
    let (_reader, writer) = std::io::pipe().expect("a pipe");
    let pipe = format!("pipe:[{}]", rustix::fs::fstat(&writer).expect("it is open").st_ino);
    rustix::io::fcntl_setfd(&writer, rustix::io::FdFlags::empty()).expect("it is open");
    let mut child = Command::new(env!("CARGO_BIN_EXE_alloctrace"))
        .arg0(CHILD_NAME)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .spawn()
        .expect("start the child");
    drop(writer);
    let pid = child.id();
    let lets_go = within(PATIENCE, || held_by(pid).filter(|it| !it.contains(&pipe)));
    assert!(lets_go.is_some(), "it holds {:?}", held_by(pid));
    let session = || rustix::process::getsid(Pid::from_raw(pid as i32)).ok();
    let leads = within(PATIENCE, || session().filter(|it| it.as_raw_nonzero().get() as u32 == pid));
    assert!(leads.is_some(), "it is in a session of its own");
    assert!(child.try_wait().expect("it is ours").is_none(), "it waits for its parent's end");
    drop(child.stdin.take());
    assert_eq!(child.wait().expect("it is ours").code(), Some(0));
}

/// The child that removes probes, if it is there and has become itself.
fn removing() -> Option<u32> {
    let is_it = |pid: &u32| {
        fs::read_to_string(format!("/proc/{pid}/cmdline"))
            .is_ok_and(|it| it.trim_end_matches('\0') == CHILD_NAME)
    };
    let processes = fs::read_dir("/proc").expect("it is mounted").flatten();
    processes.filter_map(|it| it.file_name().to_str()?.parse().ok()).find(is_it)
}

/// What a process has open.
fn held_by(pid: u32) -> Option<Vec<String>> {
    let open = fs::read_dir(format!("/proc/{pid}/fd")).ok()?.flatten();
    let path = |it: fs::DirEntry| Some(fs::read_link(it.path()).ok()?.to_string_lossy().into_owned());
    Some(open.filter_map(path).collect())
}

fn is_link(path: &str) -> bool {
    path.contains("bpf_link") || path.contains("[perf_event]")
}
