//! What tracing costs whole programs of the distribution: CPU time of the program first, since wall time says little on a busy
//! machine, then throughput or wall time, then what the tracer itself takes.

use serde_json::{Map, Value, json};

use super::{
    group::Group,
    lab::{self, Lab},
    launched::Track,
    memleak,
    pair::Pair,
    postgres::{self, Cluster},
    redis,
    rounds::Rounds,
    stats::{self, Spread, Table},
    tool::Tool,
    tracer::Usage,
    workload,
};

/// One run.
pub(super) struct Sample {
    /// Of the program's work alone.
    pub(super) wall_s: f64,
    /// With the start of the tracer, its report and its end.
    pub(super) whole_s: f64,
    /// Of the program, with the traps; where we can know it.
    pub(super) cpu_s: Option<f64>,
    /// Requests or transactions, of a server.
    pub(super) work_per_s: Option<f64>,
    pub(super) tracer: Option<Usage>,
    pub(super) report: Option<Value>,
}

/// What is divided by: heading, name in JSON.
const BASES: [(Tool, &str, &str); 5] = [
    (Tool::Untraced, "x untraced", "cpu_of_untraced"),
    (Tool::Floor, "x our floor", "cpu_of_floor"),
    (Tool::NaiveFloor, "x naive floor", "cpu_of_naive_floor"),
    (Tool::Bpftrace, "x bpftrace", "cpu_of_bpftrace"),
    (Tool::Memleak, "x memleak", "cpu_of_memleak"),
];

/// What is measured, in this order, and how the tools come to it.
const NAMES: [(&str, &str); 6] = [
    ("redis-server", "attached"),
    ("PostgreSQL", "attached to the backend of pgbench's one session"),
    ("sqlite3", "from its first instruction on"),
    ("python3", "from its first instruction on"),
    ("python3, PYTHONMALLOC=malloc", "from its first instruction on"),
    ("g++", "its cc1plus, from its first instruction on"),
];

pub(super) fn run(lab: &Lab, rounds: u32, only: &[String]) -> anyhow::Result<Value> {
    println!(
        "\nWhole programs, {}: median (least..greatest) of the CPU time of the program alone; {}",
        stats::rounds(rounds.into()),
        memleak::which(lab)
    );
    let group = Group::new();
    if group.is_none() {
        println!("  no control group can be made here: CPU time is known of redis-server only");
    }
    let track = Track { lab, stopwatch: lab.compile("stopwatch")?, group: group.as_ref() };
    let mut canary = Pair::start(lab)?;
    let mut results = Map::new();
    for (name, how) in NAMES {
        if !is_wanted(name, only) {
            continue;
        }
        match one(&track, name, rounds, &mut canary) {
            Ok(measured) => {
                results.insert(name.to_owned(), print(name, how, &measured));
            }
            Err(reason) => println!("  without {name}: {reason:#}"),
        }
    }
    Ok(json!({ "rounds": rounds, "by_program": results }))
}

/// Whether the user has asked for it, by a part of its name.
pub(super) fn is_wanted(name: &str, only: &[String]) -> bool {
    only.is_empty() || only.iter().any(|it| name.to_lowercase().contains(&it.to_lowercase()))
}

fn one(track: &Track<'_>, name: &str, rounds: u32, canary: &mut Pair) -> anyhow::Result<Rounds<Sample>> {
    let lab = track.lab;
    let launched = match name {
        "redis-server" => {
            redis::missing().map_or(Ok(()), |reason| Err(anyhow::Error::msg(reason)))?;
            return Rounds::measure(lab, name, rounds, &Tool::ALL, canary, |tool| redis::run(lab, tool));
        }
        "PostgreSQL" => {
            let cluster = Cluster::start()?;
            // heaptrack would have to be in the whole server from its start.
            return Rounds::measure(lab, name, rounds, &Tool::ATTACHED, canary, |tool| {
                postgres::run(lab, &cluster, track.group, tool)
            });
        }
        "sqlite3" => workload::sqlite(lab, if lab.quick { 30_000 } else { 150_000 }, 1)?,
        "python3" => workload::python(lab, if lab.quick { 50_000 } else { 300_000 }, &[])?,
        "python3, PYTHONMALLOC=malloc" => {
            let rows = if lab.quick { 5_000 } else { 60_000 };
            workload::python(lab, rows, &[("PYTHONMALLOC", "malloc")])?
        }
        _ if lab.quick => workload::compiler(lab, 2, 0)?,
        _ => workload::compiler(lab, workload::ALL_HEADERS, 2)?,
    };
    Rounds::measure(lab, name, rounds, &Tool::ALL, canary, |tool| track.run(&launched, tool))
}

fn print(name: &str, how: &str, rounds: &Rounds<Sample>) -> Value {
    println!("{name} ({how})");
    let bases: Vec<_> = BASES.iter().filter(|(tool, ..)| rounds.last(*tool).is_some()).collect();
    let has_work = rounds.last(Tool::Untraced).is_some_and(|it| it.work_per_s.is_some());
    let mut headings = vec!["", "CPU s"];
    headings.extend(bases.iter().map(|(_, heading, _)| *heading));
    headings.push(if has_work { "throughput x" } else { "wall x" });
    let mut costs = Table::new(&headings);
    let mut tracers = Table::new(&[
        "",
        "ready s",
        "end s",
        "whole s",
        "tracer CPU s",
        "tracer RSS",
        "allocations",
        "losses",
    ]);
    let mut rows = Map::new();
    for tool in rounds.tools() {
        let cpu_s = |tool| rounds.of(tool, |it| it.cpu_s);
        let mut row = Map::new();
        let mut cells = vec![tool.to_string(), stats::cell(rounds.spread(tool, |it| it.cpu_s), 3, "")];
        row.insert("cpu_s".to_owned(), stats::json_or_null(rounds.spread(tool, |it| it.cpu_s)));
        for (base, _, name) in &bases {
            let ratio = Spread::ratio(&cpu_s(tool), &cpu_s(*base)).filter(|_| *base != tool);
            cells.push(stats::cell(ratio, 2, ""));
            row.insert((*name).to_owned(), stats::json_or_null(ratio));
        }
        let of_untraced = |value: fn(&Sample) -> Option<f64>| {
            Spread::ratio(&rounds.of(tool, value), &rounds.of(Tool::Untraced, value))
                .filter(|_| tool != Tool::Untraced)
        };
        let slower = of_untraced(|it| Some(it.wall_s));
        let throughput = of_untraced(|it| it.work_per_s);
        cells.push(stats::cell(if has_work { throughput } else { slower }, 2, ""));
        costs.row(cells);
        row.insert("wall_of_untraced".to_owned(), stats::json_or_null(slower));
        row.insert("throughput_of_untraced".to_owned(), stats::json_or_null(throughput));
        row.insert("work_per_s".to_owned(), stats::json_or_null(rounds.spread(tool, |it| it.work_per_s)));
        row.insert("wall_s".to_owned(), stats::json_or_null(rounds.spread(tool, |it| Some(it.wall_s))));
        row.extend(tracer_row(tool, rounds, &mut tracers));
        rows.insert(tool.key().to_owned(), Value::Object(row));
    }
    println!("{costs}\n{tracers}");
    rounds.print_skipped();
    Value::Object(rows)
}

/// What the tracer itself took.
fn tracer_row(tool: Tool, rounds: &Rounds<Sample>, table: &mut Table) -> Map<String, Value> {
    let ready = rounds.spread(tool, |it| it.tracer?.ready_s);
    let end = rounds.spread(tool, |it| it.tracer?.end_s);
    let whole = rounds.spread(tool, |it| Some(it.whole_s));
    let cpu = rounds.spread(tool, |it| it.tracer.map(|it| it.cpu_s));
    let rss =
        rounds.spread(tool, |it| it.tracer.map(|it| it.max_rss_kib as f64 / 1024.0).filter(|it| *it > 0.0));
    let report = rounds.last(tool).and_then(|it| it.report.as_ref());
    let losses = match tool {
        Tool::Alloctrace => report.map_or_else(|| "-".to_owned(), lab::named_losses),
        Tool::Bpftrace | Tool::Memleak => "not counted".to_owned(),
        _ => "-".to_owned(),
    };
    if tool != Tool::Untraced {
        let allocations = report.and_then(|it| it["totals"]["allocated_blocks"].as_u64());
        table.row(vec![
            tool.to_string(),
            median(ready),
            median(end),
            median(whole),
            median(cpu),
            rss.map_or_else(|| "-".to_owned(), |it| format!("{:.0} MiB", it.max)),
            allocations.map_or_else(|| "-".to_owned(), stats::grouped),
            losses,
        ]);
    }
    let json = json!({
        "ready_s": stats::json_or_null(ready),
        "end_s": stats::json_or_null(end),
        "whole_s": stats::json_or_null(whole),
        "tracer_cpu_s": stats::json_or_null(cpu),
        "tracer_max_rss_mib": stats::json_or_null(rss),
        "totals": report.map_or(Value::Null, |it| it["totals"].clone()),
        "losses": report.map_or(Value::Null, |it| it["loss"].clone()),
    });
    json.as_object().cloned().unwrap_or_default()
}

fn median(spread: Option<Spread>) -> String {
    spread.map_or_else(|| "-".to_owned(), |it| format!("{:.2}", it.median))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_a_name_will_do() {
        assert!(is_wanted("PostgreSQL", &[]));
        assert!(is_wanted("PostgreSQL", &["redis".to_owned(), "postgres".to_owned()]));
        assert!(!is_wanted("g++", &["redis".to_owned()]));
    }
}
