//! Running a command from its first instruction to its end under a tool.
//!
//! Tools that know only how to attach are given the process while it waits at a gate, as the stopwatch that then becomes the
//! command: so they too see it from the beginning.

use std::{
    fs::{self, File},
    io::Write as _,
    path::{Path, PathBuf},
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};

use super::{
    afterwards::bound,
    group::Group,
    lab::Lab,
    programs::Sample,
    tool::{self, Tool},
    tracer::{Running, Usage},
    workload::Launched,
};

pub(super) struct Track<'a> {
    pub(super) lab: &'a Lab,
    pub(super) stopwatch: PathBuf,
    pub(super) group: Option<&'a Group>,
}

/// What a run needs besides its tool.
struct Start {
    /// Where the stopwatch writes.
    out: PathBuf,
    /// Begins the command and its measurement.
    words: Vec<String>,
}

impl Track<'_> {
    pub(super) fn run(&self, program: &Launched, tool: Tool) -> anyhow::Result<Sample> {
        match tool {
            Tool::Untraced => self.plain(program),
            Tool::Alloctrace => self.record(program, &[]),
            Tool::Heaptrack => self.heaptrack(program),
            Tool::NaiveFloor | Tool::Floor | Tool::Bpftrace | Tool::Memleak => self.at_gate(program, tool),
        }
    }

    fn start(&self, program: &Launched, gate: &str) -> anyhow::Result<Start> {
        let out = self.lab.fresh("stopwatch.out")?;
        let door = self.group.map_or_else(|| "-".to_owned(), Group::door);
        let mut words = vec![self.stopwatch.display().to_string(), out.display().to_string()];
        words.extend([door, gate.to_owned()]);
        words.extend_from_slice(&program.command);
        Ok(Start { out, words })
    }

    fn log(&self, of: &str) -> PathBuf {
        self.lab.work.join(of).with_extension("log")
    }

    fn plain(&self, program: &Launched) -> anyhow::Result<Sample> {
        let start = self.start(program, "-")?;
        let mut command = bound(&start.words[0], "KILL");
        command.args(&start.words[1..]).envs(program.environment.iter().copied());
        self.watch(&start, || Running::start(&mut command, self.log("program"))?.wait().map(|_| None))
    }

    /// As its user would: `alloctrace record -- COMMAND`.
    pub(super) fn record(&self, program: &Launched, options: &[String]) -> anyhow::Result<Sample> {
        let start = self.start(program, "-")?;
        let capture = self.lab.work.join("program.jsonl.zst");
        let mut command = bound(&self.lab.alloctrace, "INT");
        command.args(["record", "--force", "-o"]).arg(&capture).args(options).arg("--").args(&start.words);
        command.envs(program.environment.iter().copied());
        let sample = self.watch(&start, || {
            let mut tracer = Running::start(&mut command, self.log("tracer"))?;
            tracer.until_log_says(tool::READY)?;
            tracer.wait().map(Some)
        })?;
        let end_s = |it: Usage| it.ready_s.map(|ready_s| sample.whole_s - ready_s - sample.wall_s);
        let tracer = sample.tracer.map(|it| Usage { end_s: end_s(it), ..it });
        Ok(Sample { tracer, report: Some(self.lab.report(&capture)?), ..sample })
    }

    fn heaptrack(&self, program: &Launched) -> anyhow::Result<Sample> {
        let mut start = self.start(program, "-")?;
        let (reader, environment) = tool::heaptrack(self.lab)?;
        // The stopwatch comes first and is not measured: only what it becomes shall have the library.
        let at = start.words.len() - program.command.len();
        start.words.splice(at..at, ["env".to_owned()].into_iter().chain(environment));
        let mut command = bound(&start.words[0], "KILL");
        command.args(&start.words[1..]).envs(program.environment.iter().copied());
        self.watch(&start, || {
            Running::start(&mut command, self.log("program"))?.wait()?;
            let usage = reader.wait()?;
            // Of a shell, which is not what takes the memory.
            Ok(Some(Usage { max_rss_kib: 0, ..usage }))
        })
    }

    fn at_gate(&self, program: &Launched, tool: Tool) -> anyhow::Result<Sample> {
        let gate = self.lab.pipe("gate")?;
        // For reading too, so that opening does not wait for the other side.
        let mut key = File::options().read(true).write(true).open(&gate)?;
        let start = self.start(program, &gate.display().to_string())?;
        let mut command = bound(&start.words[0], "KILL");
        command.args(&start.words[1..]).envs(program.environment.iter().copied());
        self.watch(&start, || {
            let child = Running::start(&mut command, self.log("program"))?;
            until_exists(&start.out)?;
            let tracer = tool::attach(tool, self.lab, child.pid(), Path::new(""))?;
            key.write_all(b"!").context("open the gate")?;
            child.wait()?;
            tracer.map(|it| tool::detach(tool, it)).transpose()
        })
    }

    /// The figures of what `run` does.
    fn watch(
        &self,
        start: &Start,
        run: impl FnOnce() -> anyhow::Result<Option<Usage>>,
    ) -> anyhow::Result<Sample> {
        let (begin, before) = (Instant::now(), self.group.and_then(Group::cpu_s));
        let tracer = run()?;
        let whole_s = begin.elapsed().as_secs_f64();
        let wall_s = read_stopwatch(&start.out)?;
        let cpu_s = self.group.and_then(Group::cpu_s).zip(before).map(|(after, before)| after - before);
        Ok(Sample { wall_s, whole_s, cpu_s, work_per_s: None, tracer, report: None })
    }
}

/// The stopwatch makes it when it has been loaded.
fn until_exists(out: &Path) -> anyhow::Result<()> {
    let start = Instant::now();
    while !out.exists() {
        ensure!(start.elapsed() < Duration::from_secs(20), "the stopwatch does not start");
        thread::sleep(Duration::from_millis(1));
    }
    Ok(())
}

/// It writes when the program has ended, which may be a moment later than we know of it.
pub(super) fn read_stopwatch(out: &Path) -> anyhow::Result<f64> {
    for _ in 0..1000 {
        if let Some(line) = fs::read_to_string(out).ok().as_deref().and_then(|it| it.strip_suffix('\n')) {
            return line.parse().with_context(|| format!("the stopwatch wrote {line:?}"));
        }
        thread::sleep(Duration::from_millis(2));
    }
    anyhow::bail!("the stopwatch wrote nothing: the program was not started")
}

/// CPU seconds of all threads of a process, to the nanosecond.
pub(super) fn cpu_s_of(pid: u32) -> Option<f64> {
    let mut ns = 0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).ok()?.flatten() {
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        ns += text.split_whitespace().next().and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
    }
    Some(ns as f64 / 1e9)
}

/// A command that has to be stopped by its number.
pub(super) fn signal(name: &str, pid: u32) {
    let _ = Command::new("kill").args([&format!("-{name}"), &pid.to_string()]).status();
}
