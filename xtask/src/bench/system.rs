//! What tracing costs a whole machine: a build with hundreds of short processes, and one process that nobody asked about.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
    time::Duration,
};

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::{
    group::Group,
    lab::{self, Lab},
    launched::read_stopwatch,
    pair::Pair,
    stats::{self, Spread, Table},
    tool,
    tracer::{self, Usage},
};

/// Who is traced meanwhile.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Traced {
    Nobody,
    /// `record -- sleep`: its children would be followed, so that every process has the breakpoints.
    Another,
    /// `record -p`: the pair, by links that only it meets.
    Itself,
    /// `record -a`
    Everybody,
}

impl Traced {
    fn name(self) -> &'static str {
        match self {
            Self::Nobody => "nobody is traced",
            Self::Another => "another process is traced",
            Self::Itself => "it alone is traced (-p)",
            Self::Everybody => "everybody is traced (-a)",
        }
    }

    fn start(self, lab: &Lab, pid: u32, capture: &Path) -> anyhow::Result<Option<tracer::Running>> {
        let target: &[&str] = match self {
            Self::Nobody => return Ok(None),
            // Longer than any measurement here.
            Self::Another => &["--", "sleep", "30"],
            Self::Itself => &["-p", &pid.to_string()],
            Self::Everybody => &["-a"],
        };
        let target: Vec<String> = target.iter().map(|&it| it.to_owned()).collect();
        tool::record(lab, &target, capture).map(Some)
    }
}

pub(super) fn run(lab: &Lab, rounds: u32) -> anyhow::Result<Value> {
    let mut pair = Pair::start(lab)?;
    let build = build(lab, &mut pair, rounds)?;
    let neighbour = neighbour(lab, &mut pair, rounds)?;
    Ok(json!({ "build": build, "pair": neighbour }))
}

/// One run of the build.
struct Sample {
    wall_s: f64,
    /// Of all of its processes, with the traps.
    cpu_s: Option<f64>,
    tracer: Option<Usage>,
    report: Option<Value>,
}

fn build(lab: &Lab, pair: &mut Pair, rounds: u32) -> anyhow::Result<Value> {
    lab::need("make", &["make"]).map_err(anyhow::Error::msg)?;
    let files = if lab.quick { 30 } else { 100 };
    println!("\nA build of {files} small C files by make -j2, {rounds} rounds: median (least..greatest)");
    let sources = sources(lab, files)?;
    let (stopwatch, group) = (lab.compile("stopwatch")?, Group::new());
    let ways = [Traced::Nobody, Traced::Everybody];
    let mut samples: [Vec<Sample>; 2] = Default::default();
    for round in 0..rounds {
        for (way, samples) in ways.into_iter().zip(&mut samples) {
            eprint!("\r\x1b[Kbench: round {} of {rounds}: {}", round + 1, way.name());
            pair.until_untraced()?;
            samples.push(build_once(lab, &stopwatch, group.as_ref(), &sources, way)?);
        }
    }
    eprint!("\r\x1b[K");

    let headings = [
        "",
        "wall s",
        "wall x",
        "CPU x",
        "ready s",
        "end s",
        "tracer CPU s",
        "tracer RSS",
        "processes",
        "allocations",
        "losses",
    ];
    let mut table = Table::new(&headings);
    let mut rows = Map::new();
    let values = |samples: &[Sample], of: &dyn Fn(&Sample) -> Option<f64>| -> Vec<Option<f64>> {
        samples.iter().map(of).collect()
    };
    let spread = |values: Vec<Option<f64>>| Spread::of(values.into_iter().flatten());
    for (way, its) in ways.into_iter().zip(&samples) {
        let wall = values(its, &|it| Some(it.wall_s));
        let slower = Spread::ratio(&wall, &values(&samples[0], &|it| Some(it.wall_s)));
        let dearer = Spread::ratio(&values(its, &|it| it.cpu_s), &values(&samples[0], &|it| it.cpu_s));
        let wall = spread(wall);
        let ready = spread(values(its, &|it| it.tracer?.ready_s));
        let end = spread(values(its, &|it| it.tracer?.end_s));
        let cpu = spread(values(its, &|it| it.tracer.map(|it| it.cpu_s)));
        let rss = spread(values(its, &|it| Some(it.tracer?.max_rss_kib as f64 / 1024.0)));
        let last = its.last().and_then(|it| it.report.as_ref());
        let of_report = |of: &dyn Fn(&Value) -> String| last.map_or_else(|| "-".to_owned(), of);
        table.row(vec![
            way.name().to_owned(),
            stats::cell(wall, 2, ""),
            stats::cell(slower, 2, ""),
            stats::cell(dearer, 2, ""),
            stats::cell(ready, 2, ""),
            stats::cell(end, 2, ""),
            stats::cell(cpu, 2, ""),
            stats::cell(rss, 0, " MiB"),
            of_report(&|it| it["processes"].as_array().map_or(0, Vec::len).to_string()),
            of_report(&|it| it["totals"]["allocated_blocks"].to_string()),
            of_report(&lab::named_losses),
        ]);
        let json = json!({
            "wall_s": stats::json_or_null(wall),
            "wall_of_untraced": stats::json_or_null(slower),
            "cpu_of_untraced": stats::json_or_null(dearer),
            "ready_s": stats::json_or_null(ready),
            "end_s": stats::json_or_null(end),
            "tracer_cpu_s": stats::json_or_null(cpu),
            "tracer_max_rss_mib": stats::json_or_null(rss),
            "losses": last.map_or(Value::Null, |it| it["loss"].clone()),
        });
        rows.insert(way.name().to_owned(), json);
    }
    println!("{table}");
    Ok(Value::Object(rows))
}

/// Programs of a few lines and a few headers, and the rules to compile them.
fn sources(lab: &Lab, files: usize) -> anyhow::Result<PathBuf> {
    let directory = lab.work.join("build");
    fs::create_dir_all(&directory).with_context(|| format!("create {}", directory.display()))?;
    let write = |name: &str, text: &str| {
        fs::write(directory.join(name), text).with_context(|| format!("write {name}"))
    };
    for number in 0..files {
        let text = format!(
            "#include <stdio.h>\n#include <stdlib.h>\n#include <string.h>\n\nint part{number}(const char *name) {{\n    \
             char *copy = strdup(name);\n    int length = copy ? printf(\"%s {number}\\n\", copy) : 0;\n    \
             free(copy);\n    return length;\n}}\n"
        );
        write(&format!("part{number}.c"), &text)?;
    }
    let objects: Vec<String> = (0..files).map(|it| format!("part{it}.o")).collect();
    write("Makefile", &format!("all: {}\n%.o: %.c\n\tgcc -O0 -c -o $@ $<\n", objects.join(" ")))?;
    Ok(directory)
}

fn build_once(
    lab: &Lab,
    stopwatch: &Path,
    group: Option<&Group>,
    sources: &Path,
    way: Traced,
) -> anyhow::Result<Sample> {
    let capture = lab.work.join("system.jsonl.zst");
    let out = lab.fresh("stopwatch.out")?;
    let tracer = way.start(lab, 0, &capture)?;
    let before = group.and_then(Group::cpu_s);
    let mut command = Command::new(stopwatch);
    command.arg(&out).arg(group.map_or_else(|| "-".to_owned(), Group::door)).arg("-");
    lab::run(command.args(["make", "-s", "-B", "-j2", "-C"]).arg(sources))?;
    let wall_s = read_stopwatch(&out)?;
    let cpu_s = group.and_then(Group::cpu_s).zip(before).map(|(after, before)| after - before);
    let usage = tracer.map(tracer::Running::stop).transpose()?;
    let report = usage.is_some().then(|| lab.report(&capture)).transpose()?;
    Ok(Sample { wall_s, cpu_s, tracer: usage, report })
}

/// What one malloc+free pair costs while this one, all or others are traced.
fn neighbour(lab: &Lab, pair: &mut Pair, rounds: u32) -> anyhow::Result<Value> {
    const WAYS: [Traced; 4] = [Traced::Nobody, Traced::Another, Traced::Itself, Traced::Everybody];
    /// Frames above malloc.
    const DEPTH: u32 = 4;
    println!("\nOne malloc+free pair in a tight loop, {rounds} rounds: median (least..greatest)");
    let time = Duration::from_millis(if lab.quick { 200 } else { 500 });
    let capture = lab.work.join("neighbour.jsonl.zst");
    let mut samples: [Vec<Option<f64>>; WAYS.len()] = Default::default();
    for round in 0..rounds {
        for (way, samples) in WAYS.into_iter().zip(&mut samples) {
            eprint!("\r\x1b[Kbench: round {} of {rounds}: {}", round + 1, way.name());
            pair.until_untraced()?;
            let tracer = way.start(lab, pair.pid(), &capture)?;
            samples.push(Some(pair.measure(DEPTH, time)?.cpu_ns));
            if let Some(tracer) = tracer {
                tracer.stop()?;
            }
        }
    }
    eprint!("\r\x1b[K");
    let mut table = Table::new(&["", "pair, CPU ns", "added ns"]);
    let mut rows = Map::new();
    for (way, its) in WAYS.into_iter().zip(&samples) {
        let pair = Spread::of(its.iter().flatten().copied());
        let added = Spread::of(
            its.iter().zip(&samples[0]).filter_map(|(with, without)| Some((*with)? - (*without)?)),
        );
        table.row(vec![way.name().to_owned(), stats::cell(pair, 0, ""), stats::cell(added, 0, "")]);
        let json = json!({ "cpu_ns": stats::json_or_null(pair), "added_ns": stats::json_or_null(added) });
        rows.insert(way.name().to_owned(), json);
    }
    println!("{table}");
    Ok(Value::Object(rows))
}
