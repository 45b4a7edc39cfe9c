//! What `alloctrace watch` costs those that it has nothing to say of: programs do the same work alone and while every
//! process of the machine is watched, turn by turn, and their CPU time is compared. No trigger begins anything.

use std::{fs, process::Command};

use anyhow::ensure;
use serde_json::{Map, Value, json};

use super::{
    budget,
    group::Group,
    lab::{self, Lab},
    launched::Track,
    pair::Pair,
    postgres::{self, Cluster},
    programs::{Sample, is_wanted},
    rounds::{Rounds, in_short},
    stats::{self, Spread, Table},
    tool::{self, Tool},
};

/// What `calls.c` tells of.
const THINGS: [&str; 3] = ["system call", "first touch of a page", "child"];

const POSTGRES: &str = "PostgreSQL";

pub(super) fn run(lab: &Lab, rounds: u32, only: &[String]) -> anyhow::Result<Value> {
    println!(
        "\nUnder `watch --all`, without a trigger, {}: CPU time for the same work, median (least..greatest)",
        stats::rounds(rounds.into())
    );
    let group = Group::new();
    let track = Track { lab, stopwatch: lab.compile("stopwatch")?, group: group.as_ref() };
    let mut canary = Pair::start(lab)?;
    let mut table = Table::new(&["", "CPU s alone", "slowdown", "tracer's memory"]);
    let mut rows = Map::new();
    let mut left_out = Vec::new();
    for name in budget::NAMES.into_iter().chain([POSTGRES]).filter(|it| is_wanted(it, only)) {
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
    let things = if only.is_empty() { things(lab, rounds, &mut canary)? } else { Value::Null };
    Ok(json!({ "rounds": rounds, "by_program": rows, "by_thing": things }))
}

/// What single things cost a process of which the watch has nothing to say: of a program by how many of each it does.
fn things(lab: &Lab, rounds: u32, canary: &mut Pair) -> anyhow::Result<Value> {
    let program = lab.compile("calls")?;
    let count = if lab.quick { "500000" } else { "20000000" };
    let tools = [Tool::Untraced, Tool::Alloctrace];
    let measured = Rounds::measure(lab, "system calls", rounds, &tools, canary, |tool| {
        let watch = if tool == Tool::Alloctrace { Some(tool::watch(lab, &settings(lab)?)?) } else { None };
        let said = lab::output(Command::new(&program).arg(count))?;
        let ns: Vec<f64> = said.split_whitespace().filter_map(|it| it.parse().ok()).collect();
        watch.map(|it| tool::detach(tool, it)).transpose()?;
        ensure!(ns.len() == THINGS.len(), "calls.c said {said:?}");
        Ok(ns)
    })?;
    let mut table = Table::new(&["", "ns alone", "ns more"]);
    let mut rows = Map::new();
    for (at, thing) in THINGS.into_iter().enumerate() {
        let of = |tool| measured.of(tool, |it: &Vec<f64>| Some(it[at]));
        let pairs = of(Tool::Alloctrace).into_iter().zip(of(Tool::Untraced));
        let more = Spread::of(pairs.filter_map(|(watched, alone)| Some(watched? - alone?)));
        let alone = measured.spread(Tool::Untraced, |it| Some(it[at]));
        table.row(vec![thing.to_owned(), stats::cell(alone, 1, ""), stats::cell(more, 1, "")]);
        rows.insert(
            thing.to_owned(),
            json!({ "alone_ns": stats::json_or_null(alone), "more_ns": stats::json_or_null(more) }),
        );
    }
    println!("{table}");
    Ok(Value::Object(rows))
}

fn one(track: &Track<'_>, name: &str, tool: Tool) -> anyhow::Result<Sample> {
    let lab = track.lab;
    let watch = if tool == Tool::Alloctrace { Some(tool::watch(lab, &settings(lab)?)?) } else { None };
    let sample = if name == POSTGRES {
        postgres::run(lab, &Cluster::start()?, track.group, Tool::Untraced)
    } else {
        budget::untraced(track, name)
    };
    let tracer = watch.map(|it| tool::detach(tool, it)).transpose()?;
    Ok(Sample { tracer, ..sample? })
}

/// Nothing is followed, whatever happens.
fn settings(lab: &Lab) -> anyhow::Result<[String; 4]> {
    let path = |name: &str| lab.work.join(name).display().to_string();
    fs::write(path("watch.toml"), "trigger = []\n")?;
    Ok(["--config".to_owned(), path("watch.toml"), "--state-dir".to_owned(), path("watch-state")])
}

fn row(name: &str, rounds: &Rounds<Sample>, table: &mut Table) -> Value {
    let cpu_s = |tool| rounds.of(tool, |it: &Sample| it.cpu_s);
    let slowdown = Spread::ratio(&cpu_s(Tool::Alloctrace), &cpu_s(Tool::Untraced)).map(Spread::percent);
    let alone = rounds.spread(Tool::Untraced, |it| it.cpu_s);
    let rss_mib = rounds.spread(Tool::Alloctrace, |it| Some(it.tracer?.max_rss_kib as f64 / 1024.0));
    table.row(vec![
        name.to_owned(),
        stats::cell(alone, 2, ""),
        stats::cell(slowdown, 2, " %"),
        stats::cell(rss_mib, 0, " MiB"),
    ]);
    for (_, reason) in &rounds.skipped {
        println!("  {name}: {}", in_short(reason));
    }
    json!({
        "alone_cpu_s": stats::json_or_null(alone),
        "slowdown_percent": stats::json_or_null(slowdown),
        "tracer_rss_mib": stats::json_or_null(rss_mib),
    })
}
