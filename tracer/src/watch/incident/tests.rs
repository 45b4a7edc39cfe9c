//! Who is a victim, and what is said of it.

use super::*;
use crate::{
    capture::{FrameRow, IntervalRow, ModuleRow, Row, SiteRow, StackRow},
    profile::sample_recording,
};

fn watched(rows: Vec<Row>) -> Watched {
    let mut watched = Watched { recording: sample_recording(), ..Watched::default() };
    watched.add(rows);
    watched
}

fn chosen() -> Watched {
    let oom = OomRow {
        t_s: 4.0,
        process: 1,
        trigger_pid: Some(9),
        trigger: Some("cc1plus".to_owned()),
        anon_bytes: Some(5000),
        file_bytes: Some(500),
        shmem_bytes: Some(0),
        ..OomRow::default()
    };
    watched(vec![Row::Oom(oom)])
}

fn ended(how: &str, code: u32) -> Watched {
    let mut watched = watched(Vec::new());
    let row = watched.recording.processes.get_mut(&1).unwrap();
    row.ended = Some(EndedRow { t_s: 4.0, how: how.to_owned(), code });
    watched
}

/// What the kernel wrote about process 7, among others.
fn log() -> Vec<String> {
    let log = "\
app invoked oom-killer: gfp_mask=0x0, order=0, oom_score_adj=0
oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),task_memcg=/,task=app,pid=7,uid=0
Out of memory: Killed process 7 (app) total-vm:1kB
app[7]: segfault at 0 ip 0
cc1plus invoked oom-killer: gfp_mask=0xcc0, order=0, oom_score_adj=0
CPU: 0 PID: 9 Comm: cc1plus
memory: usage 65536kB, limit 65536kB, failcnt 94
Memory cgroup stats for /app:
[      9]     0     9   100   100  1 0 0 cc1plus
[      7]     0     7   100   100  1 0 0 app
oom-kill:constraint=CONSTRAINT_MEMCG,nodemask=(null),oom_memcg=/app,task=app,pid=7,uid=0
Memory cgroup out of memory: Killed process 7 (app) total-vm:1kB
Memory cgroup out of memory: Killed process 77 (app) total-vm:1kB
oom_reaper: reaped process 7 (app), now anon-rss:0kB";
    log.lines().map(str::to_owned).collect()
}

#[test]
fn which_ends_are_incidents() {
    let check = |how: &str, code, expected: Option<(&str, Option<&str>)>| {
        let ended = EndedRow { t_s: 0.0, how: how.to_owned(), code };
        assert_eq!(ended_badly(&ended), expected, "{how} {code}");
    };
    check("oom-kill", 9, Some(("oom-kill", None)));
    check("signal", 9, Some(("killed", Some("SIGKILL"))));
    check("signal", 11, Some(("crash", Some("SIGSEGV"))));
    check("signal", 6, Some(("crash", Some("SIGABRT"))));
    // HUP, INT, QUIT, PIPE, ALRM, TERM, RTMIN.
    [1, 2, 3, 13, 14, 15, 34].iter().for_each(|code| check("signal", *code, None));
    check("exit", 1, None);
    check("exec", 0, None);
    check("unseen", 0, None);
}

#[test]
fn the_victim_and_who_held_most() {
    let processes = vec![
        LargestRow { pid: 3, name: "small".to_owned(), rss_bytes: 10 },
        LargestRow { pid: 7, name: "app".to_owned(), rss_bytes: 20 },
        LargestRow { pid: 4, name: "large".to_owned(), rss_bytes: 9000 },
    ];
    let facts = Facts { processes, kernel_log: Some(log()), ..Facts::default() };
    let part = incident(&chosen(), 1, &facts).unwrap();
    let row = part.incident.unwrap();
    assert_eq!((&*row.kind, row.signal, row.t_s), ("oom-kill", None, 4.0));
    assert_eq!(row.constraint.as_deref(), Some("memory-cgroup"));
    assert_eq!(row.constraint_by.as_deref(), Some("kernel-log"));
    assert_eq!(row.trigger, Some(TriggerRow { pid: 9, name: "cc1plus".to_owned() }));
    let victim = row.victim.unwrap();
    assert_eq!((victim.pid, victim.rss_bytes, victim.live_bytes), (7, Some(5500), 1400));
    assert_eq!((victim.function.as_deref(), victim.function_bytes), (Some("cache"), 1000));
    assert_eq!((victim.change_bytes, victim.change_s), (Some(5500 - (1 << 20)), Some(3.0)));
    let largest: Vec<(u32, u64)> = row.largest.iter().map(|it| (it.pid, it.rss_bytes)).collect();
    assert_eq!(largest, [(4, 9000), (7, 5500), (3, 10)]);
    assert_eq!(part.sites.len(), 2);
}

/// Who touches memory for others is not who holds it.
#[test]
fn the_function_is_none_of_the_c_library() {
    let check = |frames: &[(&str, &str)], expected: Option<&str>| {
        let mut recording = Recording::default();
        let modules = (1..).zip(frames);
        let frame = |(id, (_, function)): (u32, &(&str, &str))| FrameRow {
            module: id,
            offset: 0,
            function: Some((*function).into()),
        };
        recording.add(Row::Process(ProcessRow { id: 1, ..ProcessRow::default() }));
        for (id, (path, _)) in modules.clone() {
            let path = format!("/usr/lib/{path}");
            recording.add(Row::Module(ModuleRow { id, path, ..ModuleRow::default() }));
        }
        let stop = "complete".to_owned();
        recording.add(Row::Stack(StackRow { id: 0, stop, frames: modules.map(frame).collect() }));
        let site =
            SiteRow { process: 1, kind: "resident".to_owned(), allocated_bytes: 9, ..SiteRow::default() };
        recording.add(Row::Interval(IntervalRow { t_s: 1.0, sites: vec![site], ..IntervalRow::default() }));
        recording.ooms.push(OomRow { process: 1, ..OomRow::default() });
        let watched = Watched { recording, ..Watched::default() };
        let part = incident(&watched, 1, &Facts::default()).unwrap();
        assert_eq!(part.incident.unwrap().victim.unwrap().function.as_deref(), expected);
    };
    check(
        &[("libc.so.6", "memset"), ("libstdc++.so.6", "grow"), ("app", "leak"), ("app", "main")],
        Some("leak"),
    );
    check(&[("app", "operator new(unsigned long)"), ("libcurl.so", "leak")], Some("leak"));
    check(&[("libc.so.6", "_IO_puts"), ("libc.so.6", "start")], Some("_IO_puts"));
    check(&[], None);
}

#[test]
fn a_crash_is_named_and_an_ordinary_end_is_nothing() {
    let facts = Facts { kernel_log: Some(log()), ..Facts::default() };
    let row = *incident(&ended("signal", 11), 1, &facts).unwrap().incident.unwrap();
    assert_eq!((&*row.kind, row.signal.as_deref()), ("crash", Some("SIGSEGV")));
    assert_eq!((row.constraint, row.trigger), (None, None));
    assert_eq!(row.victim.unwrap().ended.as_deref(), Some("signal"));
    assert_eq!(incident(&ended("signal", 15), 1, &facts), None);
    assert_eq!(incident(&watched(Vec::new()), 1, &facts), None, "it lives");
}

#[test]
fn of_the_log_the_lines_about_the_last_kill() {
    let mut expected = log().split_off(4);
    for other in ["CPU", "[      9]", "[      7]", "Memory cgroup out of memory: Killed process 77"] {
        expected.retain(|it| !it.starts_with(other));
    }
    assert_eq!(about(7, &log()), expected);
    assert_eq!(about(7, &log()[3..4]), ["app[7]: segfault at 0 ip 0"]);
    assert_eq!(about(8, &log()), Vec::<String>::new());
}

#[test]
fn without_a_log_the_groups_tell() {
    let check = |limit_bytes, peak_bytes, memory_bytes, expected: Option<&str>| {
        let group = GroupRow { memory_bytes, limit_bytes, peak_bytes, ..GroupRow::default() };
        assert_eq!(constraint(7, None, &[group]).map(|it| it.0), expected);
    };
    check(Some(1000), Some(1000), Some(10), Some("memory-cgroup"));
    check(Some(1000), None, Some(995), Some("memory-cgroup"));
    check(Some(1000), Some(600), Some(10), Some("machine"));
    check(Some(1000), None, Some(10), None);
    check(None, None, Some(10), Some("machine"));
    assert_eq!(constraint(7, None, &[]), None);
}

#[test]
fn what_a_tracer_left_is_an_incident() {
    let row = *interrupted(sample_recording(), "then".to_owned()).incident.unwrap();
    assert_eq!((&*row.kind, row.t_s, row.victim), ("interrupted", 4.0, None));
}
