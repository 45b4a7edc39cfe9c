//! What the growth tier costs programs in Go, JavaScript and Java: those that take some ten MiB for each second that they
//! compute, as a fast leak does, and those that do nothing but take memory, which no program exceeds in page faults for
//! its time. Traced and untraced runs take turns, each a fresh process with the same work.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    path::PathBuf,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, ensure};
use serde_json::{Map, Value, json};

use super::{
    lab::{self, Lab},
    launched::cpu_s_of,
    stats::{self, Spread, Table},
};
use crate::root;

/// Of 64 KiB each, before the measurement.
const WARM_ROUNDS: u32 = 256;

/// What a program does in a measurement.
#[derive(Clone, Copy)]
struct Work {
    name: &'static str,
    /// Of 64 KiB each.
    rounds: u32,
    quick_rounds: u32,
    /// Of a sum, in each round besides.
    steps: u32,
}

const WORKS: [Work; 2] = [
    Work { name: "leak", rounds: 256, quick_rounds: 128, steps: 5_000_000 },
    Work { name: "nothing else", rounds: 4096, quick_rounds: 512, steps: 0 },
];

/// A program that takes memory when it is told to. See `tracer/tests/workloads/growth`.
struct Workload {
    child: Child,
    ask: ChildStdin,
    answer: BufReader<ChildStdout>,
}

/// Of the same work.
#[derive(Clone, Copy)]
struct Cost {
    cpu_s: f64,
    wall_s: f64,
}

impl Workload {
    fn start(command: &mut Command) -> anyhow::Result<Self> {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        let ask = child.stdin.take().context("the pipe to the workload")?;
        let answer = BufReader::new(child.stdout.take().context("the pipe from the workload")?);
        let mut workload = Self { child, ask, answer };
        ensure!(workload.line()? == "ready", "{command:?} is not ready");
        Ok(workload)
    }

    fn line(&mut self) -> anyhow::Result<String> {
        let mut line = String::new();
        self.answer.read_line(&mut line).context("the workload's answer")?;
        Ok(line.trim().to_owned())
    }

    fn take(&mut self, rounds: u32, steps: u32) -> anyhow::Result<()> {
        writeln!(self.ask, "{rounds} {steps}").context("ask the workload")?;
        self.line()?.parse::<u64>().context("the workload's answer")?;
        Ok(())
    }

    fn cpu_s(&self) -> anyhow::Result<f64> {
        cpu_s_of(self.child.id()).context("the workload has ended")
    }

    fn measure(&mut self, rounds: u32, steps: u32) -> anyhow::Result<Cost> {
        let (cpu_s, start) = (self.cpu_s()?, Instant::now());
        self.take(rounds, steps)?;
        let wall_s = start.elapsed().as_secs_f64();
        Ok(Cost { cpu_s: self.cpu_s()? - cpu_s, wall_s })
    }
}

impl Drop for Workload {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// The tracer, with everything in place.
struct Tracer {
    child: Child,
}

impl Tracer {
    fn start(lab: &Lab, pid: u32) -> anyhow::Result<Self> {
        let capture = lab.fresh("growth.jsonl.zst")?;
        let mut child = Command::new(&lab.alloctrace)
            .args(["record", "--tier", "growth", "-p", &pid.to_string(), "-o"])
            .arg(capture)
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .context("start the tracer")?;
        let mut errors = BufReader::new(child.stderr.take().context("the pipe from the tracer")?);
        let mut line = String::new();
        while !line.starts_with("alloctrace: ready") {
            line.clear();
            ensure!(errors.read_line(&mut line)? > 0, "the tracer ended");
        }
        std::thread::spawn(move || std::io::copy(&mut errors, &mut std::io::sink()));
        Ok(Self { child })
    }

    fn end(mut self) -> anyhow::Result<()> {
        lab::run(Command::new("kill").args(["-INT", &self.child.id().to_string()]))?;
        ensure!(self.child.wait()?.success(), "the tracer failed");
        Ok(())
    }
}

fn measure(lab: &Lab, command: &mut Command, work: Work, traced: bool) -> anyhow::Result<Cost> {
    let mut workload = Workload::start(command)?;
    // What is compiled at run time is compiled now.
    workload.take(WARM_ROUNDS, work.steps / 8)?;
    let tracer = if traced { Some(Tracer::start(lab, workload.child.id())?) } else { None };
    let cost = workload.measure(if lab.quick { work.quick_rounds } else { work.rounds }, work.steps)?;
    tracer.map_or(Ok(()), Tracer::end)?;
    Ok(cost)
}

pub(super) fn run(lab: &Lab, rounds: u32) -> anyhow::Result<Value> {
    let sources = root().join("tracer/tests/workloads/growth");
    let mut table = Table::new(&["growth tier", "CPU untraced", "CPU ratio", "wall ratio"]);
    let mut results = Map::new();
    for (name, program, package) in
        [("go", "go", "golang-go"), ("node", "node", "nodejs"), ("java", "javac", "default-jdk-headless")]
    {
        if let Err(why) = lab::need(program, &[package]) {
            println!("{name}: left out: {why}");
            continue;
        }
        let mut command = command(lab, name, sources.clone())?;
        for work in WORKS {
            let name = format!("{name}, {}", work.name);
            results.insert(name.clone(), pairs(lab, &mut command, work, rounds, &name, &mut table)?);
        }
    }
    println!("{table}");
    Ok(results.into())
}

fn pairs(
    lab: &Lab,
    command: &mut Command,
    work: Work,
    rounds: u32,
    name: &str,
    table: &mut Table,
) -> anyhow::Result<Value> {
    let (mut plain, mut traced) = (Vec::new(), Vec::new());
    for round in 0..rounds {
        // Whoever is first has the colder machine.
        for is_traced in [round % 2 == 0, round % 2 != 0] {
            let cost = measure(lab, command, work, is_traced)?;
            if is_traced { traced.push(cost) } else { plain.push(cost) }
        }
    }
    let part = |costs: &[Cost], of: fn(&Cost) -> f64| costs.iter().map(|it| Some(of(it))).collect::<Vec<_>>();
    let ratio = |of: fn(&Cost) -> f64| Spread::ratio(&part(&traced, of), &part(&plain, of));
    let cpu_s = Spread::of(plain.iter().map(|it| it.cpu_s));
    let (cpu, wall) = (ratio(|it| it.cpu_s), ratio(|it| it.wall_s));
    table.row(vec![
        name.to_owned(),
        stats::cell(cpu_s, 3, " s"),
        stats::cell(cpu, 3, "x"),
        stats::cell(wall, 3, "x"),
    ]);
    let json = stats::json_or_null;
    Ok(json!({ "cpu_s": json(cpu_s), "cpu_ratio": json(cpu), "wall_ratio": json(wall), "rounds": rounds }))
}

fn command(lab: &Lab, name: &str, sources: PathBuf) -> anyhow::Result<Command> {
    let mut command;
    match name {
        "go" => {
            let program = lab.work.join("leak_go");
            let mut build = Command::new("go");
            lab::run(
                build
                    .args(["build", "-o"])
                    .arg(&program)
                    .arg(sources.join("leak.go"))
                    .env("GO111MODULE", "off"),
            )?;
            command = Command::new(program);
        }
        "node" => {
            command = Command::new("node");
            command.arg(sources.join("leak.js"));
        }
        _ => {
            lab::run(Command::new("javac").arg("-d").arg(&lab.work).arg(sources.join("Leak.java")))?;
            command = Command::new("java");
            command.args(["-Xmx1g", "-XX:+PreserveFramePointer", "-cp"]).arg(&lab.work).arg("Leak");
        }
    }
    Ok(command)
}
