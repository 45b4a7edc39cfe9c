//! What tracing costs whole programs of the distribution.

use std::{
    fs,
    path::Path,
    thread,
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::{Map, Value, json};

use super::{
    group::Group,
    lab::{self, Lab},
    pair::Pair,
    stats::{self, Spread, Table},
    tracer::{self, Tool, Usage},
    workload::{self, Launched, Server},
};

/// One run.
struct Sample {
    /// From the first instruction of the program to its end.
    wall_s: f64,
    /// With the start of the tracer, its report and its end.
    whole_s: f64,
    /// Of the program and its children, with the traps; where we can know it.
    cpu_s: Option<f64>,
    tracer: Option<Usage>,
    report: Option<Value>,
}

const TOOLS: [Tool; 5] = [Tool::Untraced, Tool::Floor, Tool::Alloctrace, Tool::Bpftrace, Tool::Heaptrack];
/// How often a run is tried that another tracer on this machine has disturbed.
const TRIES: u32 = 5;

pub(super) fn run(lab: &Lab, rounds: u32) -> anyhow::Result<Value> {
    println!("\nWhole programs, {rounds} rounds: median (least..greatest)");
    let stopwatch = lab.compile("stopwatch")?;
    let group = Group::new();
    let mut pair = Pair::start(lab)?;
    let mut results = Map::new();
    for program in [workload::sqlite(lab), workload::compiler(lab)] {
        match program {
            Ok(program) => {
                let tools = [Tool::Untraced, Tool::Alloctrace, Tool::Bpftrace, Tool::Heaptrack];
                let one = |tool| launched(lab, &stopwatch, group.as_ref(), &program, tool);
                results
                    .insert(program.name.to_owned(), measure(program.name, rounds, &tools, &mut pair, one)?);
            }
            Err(reason) => println!("  skipped: {reason:#}"),
        }
    }
    match lab::need("redis-server", &["redis-server"])
        .and_then(|()| lab::need("redis-benchmark", &["redis-tools"]))
    {
        Ok(()) => {
            let tools = [Tool::Untraced, Tool::Floor, Tool::Alloctrace, Tool::Bpftrace];
            let name = "redis-benchmark";
            results
                .insert(name.to_owned(), measure(name, rounds, &tools, &mut pair, |tool| redis(lab, tool))?);
        }
        Err(reason) => println!("  skipped: {reason}"),
    }
    Ok(Value::Object(results))
}

/// All rounds of one program under all tools, and the table of it.
fn measure(
    name: &str,
    rounds: u32,
    tools: &[Tool],
    pair: &mut Pair,
    one: impl Fn(Tool) -> anyhow::Result<Sample>,
) -> anyhow::Result<Value> {
    let mut samples: Vec<Vec<Option<Sample>>> = TOOLS.iter().map(|_| Vec::new()).collect();
    let mut skipped = Vec::new();
    for &tool in tools {
        let there = match tool {
            Tool::Bpftrace => lab::need("bpftrace", &["bpftrace"]),
            Tool::Heaptrack => lab::need("heaptrack", &["heaptrack", "zstd"]),
            _ => Ok(()),
        };
        skipped.extend(there.err().map(|reason| (tool, reason)));
    }
    for round in 0..rounds {
        for &tool in tools {
            if skipped.iter().any(|(it, _)| *it == tool) {
                continue;
            }
            eprint!("\r\x1b[Kbench: {name}, round {} of {rounds}: {tool}", round + 1);
            match undisturbed(pair, || one(tool)) {
                Ok(sample) => samples[index(tool)].push(sample),
                Err(error) if tool != Tool::Untraced => {
                    eprintln!("\nbench: {name} under {tool}: {error:#}");
                    skipped.push((tool, format!("{error:#}")));
                }
                Err(error) => return Err(error),
            }
        }
    }
    eprint!("\r\x1b[K");
    let result = print(name, &samples);
    for (tool, reason) in &skipped {
        println!("  without {tool}: {}", reason.lines().next().unwrap_or_default());
    }
    Ok(result)
}

fn index(tool: Tool) -> usize {
    TOOLS.iter().position(|it| *it == tool).unwrap_or_default()
}

/// Nothing else may trace the C library before and after; `None` if that did not come about.
fn undisturbed(pair: &mut Pair, one: impl Fn() -> anyhow::Result<Sample>) -> anyhow::Result<Option<Sample>> {
    for _ in 0..TRIES {
        pair.until_untraced()?;
        let sample = one()?;
        if !pair.is_traced()? {
            return Ok(Some(sample));
        }
    }
    Ok(None)
}

fn print(name: &str, samples: &[Vec<Option<Sample>>]) -> Value {
    let headings = [
        name,
        "wall s",
        "wall x untraced",
        "CPU x untraced",
        "ready s",
        "end s",
        "whole s",
        "tracer CPU s",
        "tracer RSS",
        "allocations",
        "losses",
    ];
    let mut table = Table::new(&headings);
    let mut rows = Map::new();
    let values = |tool: Tool, value: &dyn Fn(&Sample) -> Option<f64>| -> Vec<Option<f64>> {
        samples[index(tool)].iter().map(|it| it.as_ref().and_then(value)).collect()
    };
    let spread = |values: Vec<Option<f64>>| Spread::of(values.into_iter().flatten());
    for tool in TOOLS {
        let wall = values(tool, &|it| Some(it.wall_s));
        if wall.iter().all(Option::is_none) {
            continue;
        }
        let slower = Spread::ratio(&wall, &values(Tool::Untraced, &|it| Some(it.wall_s)));
        let dearer = Spread::ratio(&values(tool, &|it| it.cpu_s), &values(Tool::Untraced, &|it| it.cpu_s));
        let (wall, whole) = (spread(wall), spread(values(tool, &|it| Some(it.whole_s))));
        let ready = spread(values(tool, &|it| it.tracer?.ready_s));
        let end = spread(values(tool, &|it| it.tracer?.end_s));
        let cpu = spread(values(tool, &|it| it.tracer.map(|it| it.cpu_s)));
        let rss = spread(values(tool, &|it| Some(it.tracer?.max_rss_kib as f64 / 1024.0)));
        let rss = if tool == Tool::Heaptrack { None } else { rss };
        let last = samples[index(tool)].iter().flatten().next_back().and_then(|it| it.report.as_ref());
        table.row(vec![
            tool.to_string(),
            stats::cell(wall, 2, ""),
            stats::cell(slower, 2, ""),
            stats::cell(dearer, 2, ""),
            median(ready),
            median(end),
            median(whole),
            median(cpu),
            rss.map_or_else(|| "-".to_owned(), |it| format!("{:.0} MiB", it.max)),
            last.map_or_else(|| "-".to_owned(), |it| it["totals"]["allocated_blocks"].to_string()),
            last.map_or_else(|| "-".to_owned(), named_losses),
        ]);
        rows.insert(
            tool.to_string(),
            json!({
                "wall_s": stats::json_or_null(wall),
                "wall_of_untraced": stats::json_or_null(slower),
                "cpu_of_untraced": stats::json_or_null(dearer),
                "ready_s": stats::json_or_null(ready),
                "end_s": stats::json_or_null(end),
                "whole_s": stats::json_or_null(whole),
                "tracer_cpu_s": stats::json_or_null(cpu),
                "tracer_max_rss_mib": stats::json_or_null(rss),
                "totals": last.map_or(Value::Null, |it| it["totals"].clone()),
                "losses": last.map_or(Value::Null, |it| it["loss"].clone()),
            }),
        );
    }
    println!("{table}");
    Value::Object(rows)
}

fn median(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "-".to_owned(), |it| format!("{:.2}", it.median))
}

fn named_losses(report: &Value) -> String {
    let losses = lab::losses(report);
    let named: Vec<String> = losses.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if named.is_empty() { "none".to_owned() } else { named.join(", ") }
}

fn launched(
    lab: &Lab,
    stopwatch: &Path,
    group: Option<&Group>,
    program: &Launched,
    tool: Tool,
) -> anyhow::Result<Sample> {
    let out = lab.fresh("stopwatch.out")?;
    let capture = lab.work.join("program.jsonl.zst");
    let one_only = matches!(tool, Tool::Bpftrace | Tool::Heaptrack);
    let door = group.map_or_else(|| "-".to_owned(), Group::door);
    let mut command = vec![stopwatch.display().to_string(), out.display().to_string(), door];
    command.extend_from_slice(if one_only { &program.alone } else { &program.command });
    let (start, before) = (Instant::now(), group.and_then(Group::cpu_s));
    let tracer = tracer::launch(tool, lab, &command, &capture)?;
    let whole_s = start.elapsed().as_secs_f64();
    let wall_s = read_stopwatch(&out)?;
    let cpu_s = group.and_then(Group::cpu_s).zip(before).map(|(after, before)| after - before);
    let tracer = tracer.map(|it| Usage { end_s: it.ready_s.map(|ready_s| whole_s - ready_s - wall_s), ..it });
    let report = if tool == Tool::Alloctrace { Some(lab.report(&capture)?) } else { None };
    Ok(Sample { wall_s, whole_s, cpu_s, tracer, report })
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

fn redis(lab: &Lab, tool: Tool) -> anyhow::Result<Sample> {
    let capture = lab.work.join("redis.jsonl.zst");
    let server = Server::start(lab)?;
    server.benchmark(2000)?;
    let start = Instant::now();
    let running = tracer::attach(tool, lab, server.pid(), &capture)?;
    let (requests, before) = (Instant::now(), tracer::cpu_s(server.pid()));
    server.benchmark(if lab.quick { 20_000 } else { 100_000 })?;
    let wall_s = requests.elapsed().as_secs_f64();
    let cpu_s = tracer::cpu_s(server.pid()).zip(before).map(|(after, before)| after - before);
    let tracer = running.map(tracer::Running::stop).transpose()?;
    let whole_s = start.elapsed().as_secs_f64();
    let report = if tool == Tool::Alloctrace { Some(lab.report(&capture)?) } else { None };
    Ok(Sample { wall_s, whole_s, cpu_s, tracer, report })
}
