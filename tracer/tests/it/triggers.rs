//! `alloctrace watch`: who is looked at closely, from when on and until when.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use crate::{
    groups::{Group, hierarchies},
    program::{PATIENCE, Program, Signal, scratch, within},
    tracer::{alloctrace, alone},
    workload::build,
};

const LIMIT_BYTES: u64 = 64 << 20;

/// A group with a limit, in whichever hierarchy accounts memory.
fn limited_group(name: &str) -> Group {
    for root in hierarchies() {
        // In version 2 a group has a limit only if those above it say so.
        let _ = fs::write(root.join("cgroup.subtree_control"), "+memory");
        let group = Group::new(&root, name);
        for file in ["memory.limit_in_bytes", "memory.max"] {
            let path = group.directory.join(file);
            if path.exists() && fs::write(&path, LIMIT_BYTES.to_string()).is_ok() {
                let _ = fs::write(group.directory.join("memory.swap.max"), "0");
                return group;
            }
        }
    }
    panic!("no control group hierarchy accounts memory");
}

fn watch(arguments: &[&str]) -> Program {
    let state = scratch("watch-state");
    let state = state.to_str().expect("its path is text");
    let usual = ["watch", "-i", "200ms", "--listen", "none", "--state-dir", state];
    let mut tracer = Program::start(&mut alloctrace(usual.iter().chain(arguments)));
    tracer.wait_for_error("alloctrace: ready");
    tracer
}

fn end(tracer: Program) -> String {
    tracer.signal(Signal::INT);
    let ended = tracer.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    ended.errors
}

/// The bytes of `…, most in leak_request: 12.5 MiB; …`.
fn most_bytes(said: &str) -> f64 {
    let bytes = said.split_once(", most in leak_request: ").and_then(|it| it.1.split_once(';'));
    let (number, unit) = bytes.and_then(|it| it.0.split_once(' ')).unwrap_or_else(|| panic!("{said}"));
    let factor = match unit {
        "KiB" => 1024.0,
        "MiB" => 1048576.0,
        _ => panic!("{said}"),
    };
    number.parse::<f64>().unwrap_or_else(|_| panic!("{said}")) * factor
}

#[test]
fn a_leak_is_followed_before_it_ends() {
    let program = build("watch/stages.c");
    let _alone = alone();
    let group = limited_group("trigger");
    let mut leaking = group.start(&program, &[]);
    leaking.wait_for("ready");
    let mut tracer = watch(&["--cgroup", group.path()]);
    leaking.say("leak");
    let pid = leaking.pid();
    let said = tracer.wait_for_error(&format!("alloctrace: process {pid} is traced exactly from now on"));
    assert!(said.contains("resident memory"), "{said}");
    assert!(leaking.is_running(), "it was killed before");
    let ended = leaking.wait();
    assert_eq!(ended.signal, Some(9), "{ended:?}");
    let leaked: f64 = ended.output.lines().last().and_then(|it| it.parse().ok()).expect("what it leaked");
    assert!(leaked > 0.5 * LIMIT_BYTES as f64, "{leaked}");
    let start = format!("alloctrace: process {pid} (stages) was chosen by the OOM killer");
    let said = tracer.wait_for_error(&start);
    let followed = most_bytes(&said);
    // It had told of all but the last mebibyte.
    assert!(followed > leaked / 2.0 && followed < leaked + 1.05e6, "{followed} of {leaked}");
    end(tracer);
}

/// By name: whoever comes later is met too.
#[test]
fn who_grows_no_more_is_let_go_and_may_come_back() {
    let program = build("watch/stages.c");
    let _alone = alone();
    let mut tracer = watch(&["-n", "stages", "--trigger", "suspicious,calm=1s"]);
    for _restart in 0..2 {
        let mut growing = Program::start(&mut Command::new(&program));
        growing.wait_for("ready");
        let pid = growing.pid();
        for _again in 0..2 {
            growing.say("leak");
            tracer.wait_for_error(&format!("alloctrace: process {pid} is traced exactly from now on"));
            growing.say("stop");
            tracer.wait_for_error(&format!("alloctrace: process {pid} is let go: it has been calm"));
        }
        growing.say("leak");
        tracer.wait_for_error(&format!("alloctrace: process {pid} is traced exactly from now on"));
        growing.close_input();
        assert_eq!(growing.wait().code, Some(3));
    }
    let said = end(tracer);
    assert!(!said.contains("panicked"), "{said}");
}

#[test]
fn the_configuration_is_read_again() {
    let program = build("watch/stages.c");
    let _alone = alone();
    let file = scratch("watch-configuration").join("watch.toml");
    let write = |text: &str| fs::write(&file, text).expect("write the configuration");
    write("trigger = []");
    let mut growing = Program::start(&mut Command::new(&program));
    growing.wait_for("ready");
    let path = file.to_str().expect("its path is text");
    let mut tracer = watch(&["-n", "stages", "--config", path]);
    growing.say("leak");
    write("[[trigger]]\nsuspicious = true\nclam = '1s'");
    tracer.signal(Signal::HUP);
    let said = tracer.wait_for_error("alloctrace: ");
    assert!(said.contains("watch.toml") && said.contains("line 3"), "{said}");
    assert!(said.contains("the old configuration goes on to hold"), "{said}");
    write("[[trigger]]\ngrowth = '100KiB/s'\nfor = '2s'");
    tracer.signal(Signal::HUP);
    tracer.wait_for_error("alloctrace: the configuration has been read again");
    let said = tracer
        .wait_for_error(&format!("alloctrace: process {} is traced exactly from now on", growing.pid()));
    assert!(said.contains("its resident memory grows by"), "{said}");
    let said = end(tracer);
    assert_eq!(said.matches("is traced exactly").count(), 0, "{said}");
}

/// What a trigger begins costs no more than is allowed.
#[test]
fn who_is_followed_too_dearly_is_left_to_samples() {
    let mut program = Program::start(&mut Command::new(build("governed.c")));
    program.wait_for("ready");
    let _alone = alone();
    let pid = program.pid().to_string();
    let trigger = "growth=1KiB/s,for=1s,calm=1h";
    let mut tracer = watch(&["-p", &pid, "--trigger", trigger, "--max-overhead", "200%"]);
    let process = format!("alloctrace: process {pid} ");
    for _blocks in 0..20 {
        program.say("keep");
        program.wait_for("did keep");
        thread::sleep(Duration::from_millis(200));
    }
    for (order, expected) in [
        ("keep", "is traced exactly from now on: its resident memory grows by "),
        ("hot", "is not traced call by call any more: "),
        ("calm", "is traced call by call again: "),
    ] {
        program.say(order);
        let said = tracer.wait_for_error(&process);
        assert!(said.contains(expected), "{said}");
    }
    end(tracer);
    program.close_input();
    assert_eq!(program.wait().code, Some(0));
}

/// It outlives those that it watches.
#[test]
fn the_kernel_kills_others_first() {
    let _alone = alone();
    let tracer = watch(&["-n", "nobody-at-all"]);
    let read = |name: &str| fs::read_to_string(Path::new("/proc").join(tracer.pid().to_string()).join(name));
    let score = read("oom_score_adj").expect("it runs");
    let locked = || {
        let status = read("status").ok()?;
        let line = status.lines().find_map(|it| it.strip_prefix("VmLck:"))?.trim().to_owned();
        line.split(' ').next()?.parse::<u64>().ok().filter(|it| *it > 0)
    };
    within(PATIENCE, locked).expect("its memory is locked");
    // Some containers' roots may not lower it.
    let said = format!("(oom_score_adj is {})", score.trim());
    let errors = end(tracer);
    assert!(score.trim() == "-1000" || errors.contains(&said), "{score} {errors}");
}

#[test]
fn what_is_no_trigger_is_refused() {
    for (spec, said) in [("rss-share", "string"), ("name=app", "needs a condition"), ("growth=fast", "rate")]
    {
        let ended = crate::tracer::alloctrace_says(["watch", "--trigger", spec]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.errors.contains(said), "{ended:?}");
    }
}
