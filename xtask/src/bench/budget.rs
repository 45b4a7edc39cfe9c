//! Whether `record --max-overhead` keeps what it promises: programs of very different rates do the same work untraced and
//! under a budget, turn by turn, and their CPU time is compared.

use std::{
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{bail, ensure};
use serde_json::{Map, Value, json};

use super::{
    group::Group,
    lab::{self, Lab},
    launched::{Track, cpu_s_of},
    pair::Pair,
    programs::{Sample, is_wanted},
    redis,
    rounds::{Rounds, in_short},
    stats::{self, Spread, Table},
    tool::{self, Tool},
    workload,
};

const OPTION: &str = "--max-overhead";
const BUDGET_PERCENT: f64 = 5.0;
/// From seldom to almost nothing but allocations.
pub(super) const NAMES: [&str; 5] =
    ["redis-server, nearly idle", "g++", "python3", "redis-server, at its limit", "sqlite3"];

/// Why there is nothing to measure yet.
pub(super) fn missing(lab: &Lab) -> Option<String> {
    let help = lab::output(Command::new(&lab.alloctrace).args(["record", "--help"]));
    let has_option = help.is_ok_and(|it| it.contains(OPTION));
    (!has_option).then(|| format!("`alloctrace record` has no {OPTION}: there is no budget to keep"))
}

pub(super) fn run(lab: &Lab, rounds: u32, only: &[String]) -> anyhow::Result<Value> {
    if let Some(reason) = missing(lab) {
        bail!("{reason}");
    }
    println!(
        "\nA budget of {BUDGET_PERCENT} %, {}: CPU time for the same work, median (least..greatest)",
        stats::rounds(rounds.into())
    );
    let group = Group::new();
    let track = Track { lab, stopwatch: lab.compile("stopwatch")?, group: group.as_ref() };
    let mut canary = Pair::start(lab)?;
    let headings = ["", "CPU s untraced", "slowdown", "budget", "allocations/s seen", "grade", "losses"];
    let mut table = Table::new(&headings);
    let mut rows = Map::new();
    let mut left_out = Vec::new();
    for name in NAMES.into_iter().filter(|it| is_wanted(it, only)) {
        let tools = [Tool::Untraced, Tool::Alloctrace];
        match Rounds::measure(lab, name, rounds, &tools, &mut canary, |tool| one(&track, name, tool)) {
            Ok(measured) => {
                rows.insert(name.to_owned(), row(name, &measured, &mut table));
            }
            Err(reason) => left_out.push(format!("  without {name}: {reason:#}")),
        }
    }
    println!("{table}");
    left_out.iter().for_each(|it| println!("{it}"));
    Ok(json!({ "rounds": rounds, "budget_percent": BUDGET_PERCENT, "by_program": rows }))
}

/// The program's work alone.
pub(super) fn untraced(track: &Track<'_>, name: &str) -> anyhow::Result<Sample> {
    one(track, name, Tool::Untraced)
}

fn one(track: &Track<'_>, name: &str, tool: Tool) -> anyhow::Result<Sample> {
    let lab = track.lab;
    // Half a minute, since a budget is kept on the average of some ten seconds; five seconds to see that it works.
    let size = |quick: u32, usual: u32| if lab.quick { quick } else { usual };
    let program = match name {
        "redis-server, nearly idle" => return server(lab, tool, nearly_idle),
        "redis-server, at its limit" => return server(lab, tool, at_its_limit),
        "g++" => workload::compiler(lab, workload::ALL_HEADERS, size(6, 60))?,
        "python3" => workload::python(lab, size(6_000_000, 40_000_000), &[])?,
        _ => workload::sqlite(lab, 150_000, size(25, 150) as usize)?,
    };
    if tool == Tool::Untraced { track.run(&program, tool) } else { track.record(&program, &options()) }
}

fn options() -> [String; 2] {
    [OPTION.to_owned(), format!("{BUDGET_PERCENT}%")]
}

fn server(
    lab: &Lab,
    tool: Tool,
    work: fn(&Lab, &redis::Server) -> anyhow::Result<()>,
) -> anyhow::Result<Sample> {
    redis::missing().map_or(Ok(()), |reason| Err(anyhow::Error::msg(reason)))?;
    let server = redis::Server::start(lab, &[])?;
    server.benchmark(2000, &[])?;
    let capture = lab.work.join("budget.jsonl.zst");
    let start = Instant::now();
    let target: Vec<String> =
        ["-p".to_owned(), server.pid().to_string()].into_iter().chain(options()).collect();
    let running = if tool == Tool::Untraced { None } else { Some(tool::record(lab, &target, &capture)?) };
    let (begin, before) = (Instant::now(), cpu_s_of(server.pid()));
    work(lab, &server)?;
    let wall_s = begin.elapsed().as_secs_f64();
    let cpu_s = cpu_s_of(server.pid()).zip(before).map(|(after, before)| after - before);
    let is_traced = running.is_some();
    let tracer = running.map(|it| tool::detach(tool, it)).transpose()?;
    let whole_s = start.elapsed().as_secs_f64();
    let report = if is_traced { Some(lab.report(&capture)?) } else { None };
    Ok(Sample { wall_s, whole_s, cpu_s, work_per_s: None, tracer, report })
}

/// Some hundred requests, and a pause.
fn nearly_idle(lab: &Lab, server: &redis::Server) -> anyhow::Result<()> {
    let begin = Instant::now();
    for turn in 1..=if lab.quick { 25 } else { 150 } {
        server.benchmark(100, &["-c", "1"])?;
        // The same number of turns in the same time, however long one takes.
        let next = Duration::from_millis(200) * turn;
        ensure!(begin.elapsed() < 10 * next, "the server is not idle at all");
        thread::sleep(next.saturating_sub(begin.elapsed()));
    }
    Ok(())
}

fn at_its_limit(lab: &Lab, server: &redis::Server) -> anyhow::Result<()> {
    server.benchmark(if lab.quick { 300_000 } else { 2_000_000 }, &[])
}

fn row(name: &str, rounds: &Rounds<Sample>, table: &mut Table) -> Value {
    let cpu_s = |tool| rounds.of(tool, |it: &Sample| it.cpu_s);
    let slowdown = Spread::ratio(&cpu_s(Tool::Alloctrace), &cpu_s(Tool::Untraced));
    let percent = slowdown.map(Spread::percent);
    let untraced = rounds.spread(Tool::Untraced, |it| it.cpu_s);
    let report = rounds.last(Tool::Alloctrace).and_then(|it| it.report.as_ref());
    let seen = rounds.spread(Tool::Alloctrace, |it| {
        Some(it.report.as_ref()?["totals"]["allocated_blocks"].as_f64()? / it.wall_s)
    });
    let grade = report.and_then(|it| it["loss"]["grade"].as_str()).unwrap_or("-").to_owned();
    table.row(vec![
        name.to_owned(),
        stats::cell(untraced, 2, ""),
        stats::cell(percent, 1, " %"),
        percent.map_or("-", |it| if it.median <= BUDGET_PERCENT { "kept" } else { "NOT KEPT" }).to_owned(),
        seen.map_or_else(|| "-".to_owned(), |it| stats::grouped(it.median as u64)),
        grade,
        report.map_or_else(|| "-".to_owned(), lab::named_losses),
    ]);
    for (_, reason) in &rounds.skipped {
        println!("  {name}: {}", in_short(reason));
    }
    json!({
        "untraced_cpu_s": stats::json_or_null(untraced),
        "slowdown_percent": stats::json_or_null(percent),
        "allocations_per_s": stats::json_or_null(seen),
        "losses": report.map_or(Value::Null, |it| it["loss"].clone()),
    })
}
