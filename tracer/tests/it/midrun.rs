//! Attaching to programs in full work, and leaving them: by request, and by SIGKILL. Older blocks are told
//! from newer ones, and the target's code is afterwards what it was before.

use std::{
    fs::File,
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use crate::{
    program::{PATIENCE, Program, needed, run, scratch, within},
    report::Report,
    tracer::{Tracer, alone},
    workload::build,
};

/// The kernel takes the probes of a killed tracer out when it gets to it.
const KERNEL_TIDIES_UP: Duration = Duration::from_secs(30);

#[test]
fn redis() {
    let directory = scratch("redis");
    let redis = Redis::start(&directory);
    let _alone = alone();
    redis.load("older");
    let report = leave(&directory, redis.server.pid(), || redis.work());
    redis.work();
    check_left(&report, redis.server.pid());
    assert_eq!(redis.ask(&["ping"]), "PONG", "redis after the detach");

    kill(&directory, redis.server.pid(), || redis.work());
    redis.work();
    assert_eq!(redis.ask(&["ping"]), "PONG", "redis after the tracer was killed");
    redis.ask(&["shutdown", "nosave"]);
    assert_eq!(redis.server.wait().code, Some(0));
}

#[test]
fn python() {
    let script = "
import sys
older = [bytes(1000 + at % 7) for at in range(20000)]
print('waiting', flush=True)
for line in sys.stdin:
    older = [bytes(1000 + at % 7) for at in range(20000)]
    more = [[at] * 100 for at in range(5000)]
    print(len(older) + len(more), flush=True)
";
    let directory = scratch("python");
    let mut python =
        Program::start(Command::new(needed("python3", "python3")).args(["-I", "-S", "-c", script]));
    python.wait_for("waiting");
    let _alone = alone();
    let pid = python.pid();
    let mut work = || {
        python.say("work");
        assert_eq!(python.next_line(), "25000", "python's answer");
    };
    work();
    let report = leave(&directory, pid, &mut work);
    work();
    check_left(&report, pid);
    kill(&directory, pid, &mut work);
    work();
    python.close_input();
    assert_eq!(python.wait().code, Some(0));
}

#[test]
fn two_hundred_threads_at_work() {
    let directory = scratch("churn");
    let mut churn = Program::start(&mut Command::new(build("churn.c")));
    churn.wait_for("waiting");
    let _alone = alone();
    let pid = churn.pid();
    // Ten rounds of each thread, while it is watched or after.
    let mut work = || {
        let mut rounds = || {
            churn.say("rounds?");
            churn.next_line().parse::<u64>().expect("a number of rounds")
        };
        let before = rounds();
        within(PATIENCE, || (rounds() > before + 2000).then_some(())).expect("it goes on");
    };
    work();
    let report = leave(&directory, pid, &mut work);
    work();
    check_left(&report, pid);
    let losses = report.losses();
    assert!(losses.is_empty(), "losses: {losses:?}");
    kill(&directory, pid, &mut work);
    work();
    churn.close_input();
    assert_eq!(churn.wait().code, Some(0));
}

/// Whoever waits for `ready` may stop the recording from then on.
#[test]
fn an_interrupt_right_after_ready() {
    let directory = scratch("interrupt");
    let mut churn = Program::start(&mut Command::new(build("churn.c")));
    churn.wait_for("waiting");
    let _alone = alone();
    for turn in 0..5 {
        let tracer = Tracer::attach(churn.pid(), &directory.join(format!("{turn}.jsonl.zst")), &[]);
        assert!(tracer.interrupt().capture.complete);
    }
}

/// Attaches, has the target work, detaches.
fn leave(directory: &Path, pid: u32, mut work: impl FnMut()) -> Report {
    assert_untouched(pid, "before the attach");
    let tracer = Tracer::attach(pid, &directory.join("left.jsonl.zst"), &["-i", "200ms"]);
    work();
    assert_touched(pid);
    tracer.interrupt()
}

fn check_left(report: &Report, pid: u32) {
    assert!(report.totals.unknown_frees > 0, "blocks from before the attach were freed");
    assert!(report.totals.allocated_blocks > 0, "something was allocated");
    assert!(report.sites.iter().all(|it| it.pid == Some(pid)), "every site is the target's");
    assert!(report.processes.iter().all(|it| it.ended.is_none()), "the target lives");
    let incomplete: Vec<_> =
        report.sites.iter().filter(|it| !it.stack_complete).map(|it| it.label()).collect();
    assert!(incomplete.is_empty(), "{} incomplete stacks:\n{}", incomplete.len(), incomplete.join("\n"));
    assert_untouched(pid, "after the detach");
}

/// Attaches and dies in the middle of the target's work; what was recorded can be read.
fn kill(directory: &Path, pid: u32, mut work: impl FnMut()) {
    let capture = directory.join("killed.jsonl.zst");
    let tracer = Tracer::attach(pid, &capture, &["-i", "100ms"]);
    work();
    assert_touched(pid);
    // The first intervals are on disk before the end comes.
    within(PATIENCE, || intervals(&capture).filter(|it| *it >= 3)).expect("intervals are written");
    assert_eq!(tracer.kill().signal, Some(9), "it ends by SIGKILL");
    assert_untouched(pid, "after the tracer was killed");
    let report = Report::read(&capture);
    assert!(!report.capture.complete, "a capture without an end says so");
    assert!(report.timeline.last().is_some_and(|it| it.t_s > 0.0), "and holds what was written");
    assert!(report.totals.allocated_blocks > 0, "and what was allocated until then");
}

/// How many points in time a capture has, if it can be read already.
fn intervals(capture: &Path) -> Option<usize> {
    let ended = Report::try_read(capture, &[]);
    let report: Report = (ended.code == Some(0)).then(|| serde_json::from_str(&ended.output).ok())??;
    Some(report.timeline.len())
}

/// Without this, nothing below could fail.
pub(crate) fn assert_touched(pid: u32) {
    assert!(!changed_code(pid).is_empty(), "there are breakpoints while it is traced");
}

/// Every byte of code is as in its file.
pub(crate) fn assert_untouched(pid: u32, when: &str) {
    let mut changed = Vec::new();
    within(KERNEL_TIDIES_UP, || {
        changed = changed_code(pid);
        changed.is_empty().then_some(())
    });
    assert!(changed.is_empty(), "{when}, code of {pid} differs from its files: {changed:?}");
}

/// Where the code that is mapped differs from the file that it came from.
fn changed_code(pid: u32) -> Vec<String> {
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).expect("the target lives");
    let memory = File::open(format!("/proc/{pid}/mem")).expect("root may read it");
    let mut changed = Vec::new();
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [range, flags, offset, _, _, path] = words[..] else { continue };
        if !flags.contains('x') || !path.starts_with('/') {
            continue;
        }
        let number = |it: &str| u64::from_str_radix(it, 16).expect("the kernel writes hexadecimal");
        let (start, end) =
            range.split_once('-').map(|(start, end)| (number(start), number(end))).expect("a range");
        let mut mapped = vec![0; (end - start) as usize];
        let mut stored = vec![0; mapped.len()];
        memory
            .read_exact_at(&mut mapped, start)
            .unwrap_or_else(|error| panic!("read {path} in {pid}: {error}"));
        let file = File::open(path).unwrap_or_else(|error| panic!("open {path}: {error}"));
        // The last page may reach beyond the end of the file; it is zero there.
        let length =
            file.metadata().expect("it is open").len().saturating_sub(number(offset)).min(end - start);
        file.read_exact_at(&mut stored[..length as usize], number(offset)).expect("its code can be read");
        let places = mapped.iter().zip(&stored).enumerate().filter(|(_, (mapped, stored))| mapped != stored);
        changed.extend(places.map(|(at, _)| format!("{path}+{:#x}", number(offset) + at as u64)));
    }
    changed
}

/// A server of our own, without files.
struct Redis {
    server: Program,
    client: PathBuf,
    benchmark: PathBuf,
    /// With its socket, which is named by a relative path: the length of those has a limit.
    directory: PathBuf,
}

impl Redis {
    fn start(directory: &Path) -> Self {
        let (server, client) = (needed("redis-server", "redis-server"), needed("redis-cli", "redis-tools"));
        let benchmark = needed("redis-benchmark", "redis-tools");
        let mut command = Command::new(server);
        command.args(["--port", "0", "--save", "", "--appendonly", "no", "--unixsocket", "socket"]);
        let server = Program::start(command.current_dir(directory));
        let redis = Self { server, client, benchmark, directory: directory.to_owned() };
        within(PATIENCE, || (redis.ask(&["ping"]) == "PONG").then_some(())).expect("redis starts");
        redis
    }

    fn ask(&self, words: &[&str]) -> String {
        let mut command = Command::new(&self.client);
        command.current_dir(&self.directory).args(["-s", "socket"]).args(words);
        run(&mut command).output.trim().to_owned()
    }

    fn load(&self, key: &str) {
        let name = format!("{key}:__rand_int__");
        let mut command = Command::new(&self.benchmark);
        command
            .current_dir(&self.directory)
            .args(["-s", "socket", "-q", "-n", "5000", "-r", "2000", "-c", "5"]);
        let ended = run(command.args(["set", &name, &"x".repeat(300)]));
        assert_eq!(ended.code, Some(0), "redis-benchmark: {}", ended.errors);
    }

    /// Drops what is there, and fills it anew.
    fn work(&self) {
        assert_eq!(self.ask(&["flushall", "sync"]), "OK");
        self.load("newer");
        assert_ne!(self.ask(&["dbsize"]), "0");
    }
}
