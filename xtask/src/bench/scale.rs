//! A machine full of processes: what it takes to attach to all of them, to stay, and to leave.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

use super::{
    lab::{self, Lab},
    stats::{self, Spread, Table},
    tool,
};

/// A large machine's worth of processes, threads, and programs of which each is a file of its own.
const PROCESSES: usize = 1000;
const THREADS: usize = 5000;
const PROGRAMS: usize = 100;
/// Of the programs; each brings an allocator of its own.
const STATIC_PROGRAMS: usize = 20;
/// How long a thread sleeps between two turns of `xtask/bench/crowd.c`.
const PERIOD_MS: u32 = 1000;
const PATIENCE: Duration = Duration::from_secs(60);

/// One round.
#[derive(Clone, Default)]
struct Sample {
    attach_s: Option<f64>,
    /// Of the tracer, while the processes slept and at the end of their work.
    idle_mib: Option<f64>,
    busy_mib: Option<f64>,
    maps_mib: Option<f64>,
    /// Events, and the tracer's share of a CPU, while the processes worked.
    events_per_s: Option<f64>,
    tracer_cpu: Option<f64>,
    /// From the signal until the tracer was gone.
    detach_s: Option<f64>,
    killed_s: Option<f64>,
    losses: Vec<(String, u64)>,
}

pub(super) fn run(lab: &Lab, rounds: u32) -> anyhow::Result<Value> {
    println!(
        "\n{PROCESSES} processes with {THREADS} threads, of {PROGRAMS} distinct programs ({STATIC_PROGRAMS} static), {rounds} \
         rounds: median (least..greatest)"
    );
    let crowd = Crowd::start(lab)?;
    let mut samples = Vec::new();
    for round in 0..rounds {
        eprint!("\r\x1b[Kbench: round {} of {rounds}: scale", round + 1);
        samples.push(measure(lab, &crowd)?);
    }
    eprint!("\r\x1b[K");
    drop(crowd);
    Ok(print(&samples))
}

fn measure(lab: &Lab, crowd: &Crowd) -> anyhow::Result<Sample> {
    let capture = lab.work.join("scale.jsonl.zst");
    crowd.set_period_ms(0)?;
    let target: Vec<String> = crowd.pids().iter().flat_map(|it| ["-p".to_owned(), it.to_string()]).collect();
    let tracer = tool::record(lab, &target, &capture)?;
    let mut sample = Sample { attach_s: tracer.ready_s(), ..Sample::default() };
    thread::sleep(Duration::from_secs(2));
    sample.idle_mib = tracer.own_mib();
    sample.maps_mib = Some(tracer.maps_mib());

    crowd.set_period_ms(PERIOD_MS)?;
    let time = Duration::from_secs(if lab.quick { 5 } else { 20 });
    // Until every thread has seen it.
    thread::sleep(Duration::from_secs(3));
    let (start, cpu_s) = (Instant::now(), tracer.cpu_s());
    thread::sleep(time);
    sample.tracer_cpu = Some((tracer.cpu_s() - cpu_s) / start.elapsed().as_secs_f64());
    sample.busy_mib = tracer.own_mib();
    // While everybody works.
    sample.detach_s = tracer.stop()?.end_s;
    let report = lab.report(&capture)?;
    let total = |name: &str| report["totals"][name].as_f64();
    let events =
        total("allocated_blocks").zip(total("freed_blocks")).map(|(allocated, freed)| allocated + freed);
    // Nearly all of them happened in this time and the three seconds before it.
    sample.events_per_s = events.map(|it| it / (time.as_secs_f64() + 3.0));
    sample.losses = lab::losses(&report);

    let tracer = tool::record(lab, &target, &capture)?;
    thread::sleep(Duration::from_secs(1));
    sample.killed_s = Some(tracer.kill()?);
    Ok(sample)
}

type Figure = (&'static str, &'static str, usize, fn(&Sample) -> Option<f64>);

const FIGURES: [Figure; 8] = [
    ("attach", "s", 2, |it| it.attach_s),
    ("tracer's own memory, processes asleep", "MiB", 0, |it| it.idle_mib),
    ("tracer's own memory, processes at work", "MiB", 0, |it| it.busy_mib),
    ("its maps in the kernel", "MiB", 0, |it| it.maps_mib),
    ("events per second, processes at work", "", 0, |it| it.events_per_s),
    ("tracer's share of one CPU for that", "", 2, |it| it.tracer_cpu),
    ("detach, processes at work", "s", 2, |it| it.detach_s),
    ("end by SIGKILL, processes at work", "s", 2, |it| it.killed_s),
];

fn print(samples: &[Sample]) -> Value {
    let mut table = Table::new(&["", "median (least..greatest)"]);
    let mut json = serde_json::Map::new();
    for (name, unit, digits, of) in FIGURES {
        let spread = Spread::of(samples.iter().filter_map(of));
        let unit = if unit.is_empty() { String::new() } else { format!(" {unit}") };
        table.row(vec![name.to_owned(), stats::cell(spread, digits, &unit)]);
        json.insert(name.to_owned(), stats::json_or_null(spread));
    }
    println!("{table}");
    let losses: Vec<_> = samples.iter().flat_map(|it| it.losses.clone()).collect();
    if losses.is_empty() {
        println!("  no loss of any kind");
    }
    for (name, count) in &losses {
        println!("  lost: {name} {count}");
    }
    json.insert("losses".to_owned(), json!(losses));
    Value::Object(json)
}

/// Processes of ours, which end with this value.
struct Crowd {
    children: Vec<Child>,
    control: File,
}

impl Crowd {
    fn start(lab: &Lab) -> anyhow::Result<Self> {
        let programs = programs(lab)?;
        let path = lab.fresh("crowd.control")?;
        fs::write(&path, [0; 4]).with_context(|| format!("write {}", path.display()))?;
        let control = File::options().write(true).open(&path)?;
        let mut crowd = Self { children: Vec::new(), control };
        for program in programs.iter().cycle().take(PROCESSES) {
            let mut command = Command::new(program);
            command.arg(&path).arg((THREADS / PROCESSES).to_string());
            command.stdin(Stdio::null());
            crowd.children.push(command.spawn().with_context(|| format!("start {}", program.display()))?);
        }
        let start = Instant::now();
        while crowd.threads() < THREADS {
            ensure!(start.elapsed() < PATIENCE, "only {} threads have started", crowd.threads());
            thread::sleep(Duration::from_millis(100));
        }
        Ok(crowd)
    }

    fn pids(&self) -> Vec<u32> {
        self.children.iter().map(Child::id).collect()
    }

    fn threads(&self) -> usize {
        let of = |pid| fs::read_dir(format!("/proc/{pid}/task")).map_or(0, Iterator::count);
        self.pids().into_iter().map(of).sum()
    }

    fn set_period_ms(&self, period_ms: u32) -> anyhow::Result<()> {
        self.control.write_all_at(&period_ms.to_ne_bytes(), 0).context("tell the processes what to do")
    }
}

impl Drop for Crowd {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
        }
        for child in &mut self.children {
            let _ = child.wait();
        }
    }
}

/// Copies, so that each is a file of its own for the kernel.
fn programs(lab: &Lab) -> anyhow::Result<Vec<PathBuf>> {
    let dynamic = lab.compile("crowd")?;
    let fixed = lab.compile_with("crowd", &["-static"], "crowd-static")?;
    let directory = lab.work.join("crowd-programs");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let copy = |from: &Path, number: usize| {
        let to = directory.join(format!("crowd{number}"));
        fs::copy(from, &to).with_context(|| format!("copy to {}", to.display()))?;
        Ok(to)
    };
    (0..PROGRAMS).map(|it| copy(if it < STATIC_PROGRAMS { &fixed } else { &dynamic }, it)).collect()
}
