//! The results as Markdown, and their place in the README: between `<!-- bench:begin -->` and `<!-- bench:end -->`, in sections
//! of which each begins with `<!-- bench:NAME -->`, so that a run of some parts leaves the others as they are.

use anyhow::Context as _;
use serde_json::{Map, Value};

use super::{
    stats::{self, grouped},
    tool::Tool,
};

const BEGIN: &str = "<!-- bench:begin -->\n";
const END: &str = "<!-- bench:end -->";

/// A part of the results: its name, and what the README says of it.
pub(super) type Section = (&'static str, String);

type Part = (&'static str, fn(&Value) -> String);

/// In the order of the README.
const PARTS: [Part; 4] =
    [("micro", micro), ("programs", programs), ("lossless", lossless), ("budget", budget)];

/// Of every part that was measured.
pub(super) fn sections(results: &Map<String, Value>) -> Vec<Section> {
    let circumstances = circumstances(results);
    let measured = PARTS.into_iter().filter_map(|(name, text)| Some((name, text(results.get(name)?))));
    measured.map(|(name, text)| (name, text.replace("CIRCUMSTANCES", &circumstances))).collect()
}

fn circumstances(results: &Map<String, Value>) -> String {
    let machine = results.get("machine").unwrap_or(&Value::Null);
    let word = |field: &str| machine[field].as_str().unwrap_or("?");
    let kernel: Vec<&str> = word("kernel").split('.').take(2).collect();
    let quick = results.get("quick").is_some_and(|it| it == &Value::Bool(true));
    format!(
        "{} × {}, Linux {}, {}{}",
        machine["cpus"],
        word("cpu"),
        kernel.join("."),
        word("date"),
        if quick { ", a `--quick` run" } else { "" }
    )
}

/// The text with these sections in place of their predecessors.
pub(super) fn update(readme: &str, sections: &[Section]) -> anyhow::Result<String> {
    let (before, rest) = readme.split_once(BEGIN).context("the README has no <!-- bench:begin -->")?;
    let (block, after) = rest.split_once(END).context("the README has no <!-- bench:end -->")?;
    let mut all: Vec<(String, String)> = Vec::new();
    for line in block.lines() {
        match line.strip_prefix("<!-- bench:").and_then(|it| it.strip_suffix(" -->")) {
            Some(name) => all.push((name.to_owned(), String::new())),
            None => {
                if let Some((_, text)) = all.last_mut() {
                    *text += line;
                    *text += "\n";
                }
            }
        }
    }
    for (name, text) in sections {
        match all.iter_mut().find(|(it, _)| it == name) {
            Some((_, old)) => old.clone_from(text),
            None => all.push(((*name).to_owned(), text.clone())),
        }
    }
    all.sort_by_key(|(name, _)| PARTS.iter().position(|(it, _)| it == name));
    let block: Vec<String> =
        all.iter().map(|(name, text)| format!("<!-- bench:{name} -->\n{}\n", text.trim_end())).collect();
    Ok(format!("{before}{BEGIN}{}{END}{after}", block.join("\n")))
}

fn rounds(count: &Value) -> String {
    stats::rounds(count.as_u64().unwrap_or(0))
}

fn median(spread: &Value) -> Option<f64> {
    spread["median"].as_f64()
}

/// No more digits than a noisy machine is good for.
fn short(value: f64) -> String {
    match value.abs() {
        it if it >= 9.95 => format!("{value:.0}"),
        it if it >= 2.995 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    }
}

fn plain(spread: &Value, unit: &str) -> String {
    median(spread).map_or_else(|| "–".to_owned(), |it| short(it) + unit)
}

fn spread(value: &Value) -> String {
    let part = |name: &str| value[name].as_f64().map(short);
    match (part("median"), part("min"), part("max")) {
        (Some(median), Some(min), Some(max)) if min == max => median,
        (Some(median), Some(min), Some(max)) => format!("{median} ({min}–{max})"),
        _ => "–".to_owned(),
    }
}

fn table(headings: &[&str], rows: &[Vec<String>]) -> String {
    let line = |cells: &[String]| format!("| {} |\n", cells.join(" | "));
    let rule = format!("|---|{}\n", "--:|".repeat(headings.len() - 1));
    let headings: Vec<String> = headings.iter().map(|&it| it.to_owned()).collect();
    // What nothing was measured of says nothing.
    let is_telling = |row: &&Vec<String>| row[1..].iter().any(|it| it != "–");
    line(&headings) + &rule + &rows.iter().filter(is_telling).map(|it| line(it)).collect::<String>()
}

const TOOLS: [(Tool, &str); 6] = [
    (Tool::NaiveFloor, "empty probes at the symbols, where other tools place theirs"),
    (Tool::Floor, "empty probes where alloctrace places its own"),
    (Tool::Alloctrace, "**alloctrace**"),
    (Tool::Bpftrace, "bpftrace script (`malloc`, `free`, one map)"),
    (Tool::Memleak, "bcc's memleak"),
    (Tool::Heaptrack, "heaptrack (in the process)"),
];

fn micro(micro: &Value) -> String {
    let columns = [
        ("5 frames", "by_frames", "5"),
        ("27 frames", "by_frames", "27"),
        ("100 frames", "by_frames", "100"),
        ("2 threads", "by_threads", "2"),
        ("4 threads", "by_threads", "4"),
        ("among 1 M live blocks", "by_live_blocks", "1000000"),
        ("among 10 M", "by_live_blocks", "10000000"),
    ];
    let of = |tool: Tool, field: &str, text: &dyn Fn(&Value) -> String| -> Vec<String> {
        columns.iter().map(|(_, part, case)| text(&micro[part][case][tool.key()][field])).collect()
    };
    let micros = |it: &Value| median(it).map_or_else(|| "–".to_owned(), |ns| short(ns / 1e3) + " µs");
    let mut rows: Vec<Vec<String>> = Vec::new();
    let mut row = |name: &str, cells: Vec<String>| rows.push([vec![name.to_owned()], cells].concat());
    for (tool, name) in TOOLS {
        row(name, of(tool, "added_cpu_ns", &micros));
    }
    for (field, name) in [
        ("added_of_floor", "alloctrace / our empty probes"),
        ("added_of_naive_floor", "alloctrace / empty probes at the symbols"),
        ("added_of_bpftrace", "alloctrace / bpftrace script"),
        ("added_of_memleak", "alloctrace / memleak"),
    ] {
        row(name, of(Tool::Alloctrace, field, &spread));
    }
    row("CPU time of the tracer's own for each pair", of(Tool::Alloctrace, "tracer_cpu_ns", &micros));
    row(
        "its memory for each live block",
        of(Tool::Alloctrace, "tracer_bytes_per_live_block", &|it| {
            median(it).map_or_else(|| "–".to_owned(), |bytes| format!("{bytes:.0} bytes"))
        }),
    );
    let headings: Vec<&str> = [""].into_iter().chain(columns.iter().map(|it| it.0)).collect();
    format!(
        "What one pair of `malloc` and `free` costs in added CPU time, below so many callers, on so many threads, or in place of any one \
         of so many live blocks (CIRCUMSTANCES; median of {}; of ratios also the least and the greatest; lost events: {}):\n\n{}",
        rounds(&micro["rounds"]),
        micro["lost_events"],
        table(&headings, &rows)
    )
}

fn programs(programs: &Value) -> String {
    let empty = Map::new();
    let all = programs["by_program"].as_object().unwrap_or(&empty);
    let by_tool = |rows: &Value| TOOLS.map(|(tool, _)| plain(&rows[tool.key()]["cpu_of_untraced"], ""));
    let costs: Vec<Vec<String>> = all
        .iter()
        .map(|(name, rows)| {
            [vec![name.clone(), plain(&rows["untraced"]["cpu_s"], " s")], by_tool(rows).to_vec()].concat()
        })
        .collect();
    let own: Vec<Vec<String>> = all
        .iter()
        .map(|(name, rows)| {
            let its = &rows["alloctrace"];
            let lost = its["losses"]["lost_events"].as_u64().map_or_else(|| "–".to_owned(), grouped);
            let memory = its["tracer_max_rss_mib"]["max"].as_f64();
            vec![
                name.clone(),
                spread(&its["cpu_of_untraced"]),
                spread(&its["cpu_of_floor"]),
                spread(&its["cpu_of_naive_floor"]),
                spread(&its["cpu_of_bpftrace"]),
                spread(&its["cpu_of_memleak"]),
                spread(&its["throughput_of_untraced"]),
                plain(&its["tracer_cpu_s"], " s"),
                memory.map_or_else(|| "–".to_owned(), |it| format!("{it:.0} MiB")),
                lost,
            ]
        })
        .collect();
    let costs_headings = [
        "CPU time × untraced",
        "untraced",
        "empty probes at symbols",
        "empty probes, our places",
        "**alloctrace**",
        "bpftrace script",
        "memleak",
        "heaptrack",
    ];
    let own_headings = [
        "alloctrace: CPU time",
        "× untraced",
        "× our empty probes",
        "× those at symbols",
        "× bpftrace script",
        "× memleak",
        "throughput × untraced",
        "tracer's CPU time",
        "its memory",
        "lost events",
    ];
    format!(
        "Whole programs, their own CPU time, traps included (CIRCUMSTANCES; median of {}, below with the least and the \
         greatest). The servers run when the tools attach, to PostgreSQL's at the one backend of pgbench; heaptrack is in a program from its \
         start:\n\n{}\n{}",
        rounds(&programs["rounds"]),
        table(&costs_headings, &costs),
        table(&own_headings, &own)
    )
}

fn lossless(outcomes: &Value) -> String {
    let row = |it: &Value| {
        let number = |field: &str| it[field].as_u64().map_or_else(|| "–".to_owned(), grouped);
        let share = it["tracer_cpu_share"].as_f64().unwrap_or(f64::NAN) * 100.0;
        let memory = it["tracer"]["max_rss_kib"].as_f64().unwrap_or(f64::NAN) / 1024.0;
        vec![
            it["threads"].to_string(),
            format!("{:.0} s", it["wall_s"].as_f64().unwrap_or(f64::NAN)),
            number("pairs"),
            short(it["events_per_s"].as_f64().unwrap_or(f64::NAN) / 1e6),
            it["losses"]["lost_events"].as_u64().unwrap_or(0).to_string(),
            if it["difference"] == 0 { "agree exactly".to_owned() } else { "do not agree".to_owned() },
            format!("{share:.1} %"),
            format!("{memory:.0} MiB"),
        ]
    };
    let headings = [
        "threads",
        "time",
        "pairs",
        "million events/s",
        "lost events",
        "totals",
        "tracer, of one CPU",
        "its memory",
    ];
    let rows: Vec<Vec<String>> = outcomes.as_array().into_iter().flatten().map(row).collect();
    format!(
        "A loop of `malloc` and `free` without pause, with default settings (CIRCUMSTANCES):\n\n{}",
        table(&headings, &rows)
    )
}

fn budget(budget: &Value) -> String {
    let empty = Map::new();
    let row = |(name, its): (&String, &Value)| {
        let grade = its["losses"]["grade"].as_str().unwrap_or("–").to_owned();
        vec![
            name.clone(),
            plain(&its["untraced_cpu_s"], " s"),
            spread(&its["slowdown_percent"]) + " %",
            median(&its["allocations_per_s"]).map_or_else(|| "–".to_owned(), |it| grouped(it as u64)),
            grade,
        ]
    };
    let rows: Vec<Vec<String>> = budget["by_program"].as_object().unwrap_or(&empty).iter().map(row).collect();
    let headings = ["", "CPU time untraced", "slowdown", "allocations/s counted", "grade"];
    format!(
        "`record --max-overhead {}%`: CPU time for the same work against untraced runs in turn (CIRCUMSTANCES; median of {}, least \
         and greatest):\n\n{}",
        budget["budget_percent"].as_f64().unwrap_or(f64::NAN),
        rounds(&budget["rounds"]),
        table(&headings, &rows)
    )
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_measured_is_replaced_and_the_rest_stays() {
        let readme = "a\n<!-- bench:begin -->\n<!-- bench:micro -->\nold\n\n<!-- bench:lossless -->\nkept\n<!-- bench:end -->\nz\n";
        let updated = update(readme, &[("micro", "new\n".to_owned()), ("budget", "more\n".to_owned())]);
        let expected = "a\n<!-- bench:begin -->\n<!-- bench:micro -->\nnew\n\n<!-- bench:lossless -->\nkept\n\n<!-- bench:budget -->\nmore\n<!-- bench:end -->\nz\n";
        assert_eq!(updated.expect("a block"), expected);
        assert!(update("no block", &[]).is_err());
    }

    #[test]
    fn a_second_update_changes_nothing() {
        let readme = "<!-- bench:begin -->\n<!-- bench:end -->\n";
        let sections = [("micro", "new\n".to_owned())];
        let once = update(readme, &sections).expect("a block");
        assert_eq!(update(&once, &sections).expect("a block"), once);
    }

    #[test]
    fn nothing_is_made_up_where_nothing_was_measured() {
        let spread = json!({ "median": 1.64, "min": 1.6, "max": 31.2 });
        let results = json!({
            "machine": { "cpu": "Z80", "cpus": 2, "kernel": "6.18.4-x", "date": "2026-11-21" },
            "micro": { "rounds": 7, "lost_events": 0, "by_frames": { "5": { "alloctrace": { "added_of_floor": spread } } } },
        });
        let sections = sections(results.as_object().expect("an object"));
        let [("micro", text)] = &sections[..] else { panic!("{sections:?}") };
        assert!(text.contains("(2 × Z80, Linux 6.18, 2026-11-21; median of 7 rounds"), "{text}");
        assert!(text.contains("| alloctrace / our empty probes | 1.64 (1.60–31) | – |"), "{text}");
        assert!(!text.contains("heaptrack"), "{text}");
    }
}
