//! What one malloc+free pair costs in a tight loop, below a short and a long call stack.

use std::{collections::BTreeMap, thread, time::Duration};

use serde_json::{Map, Value, json};

use super::{
    lab::{self, Lab},
    pair::Pair,
    stats::{self, Spread, Table},
    tracer::{self, Tool},
};

const DEPTHS: [u32; 2] = [4, 27];
const TOOLS: [Tool; 4] = [Tool::Untraced, Tool::Floor, Tool::Alloctrace, Tool::Bpftrace];
/// How often a round is tried that another tracer on this machine has disturbed.
const TRIES: u32 = 5;

/// One tool in one round, by depth.
#[derive(Clone, Copy, Default)]
struct Sample {
    cpu_ns: f64,
    wall_ns: f64,
    /// CPU time of the tracer itself, per pair.
    tracer_ns: Option<f64>,
}

/// Samples of one tool at one depth; `None` where a round could not be measured.
type Rounds = Vec<Option<Sample>>;

struct Results {
    rounds: BTreeMap<(usize, u32), Rounds>,
    lost_events: u64,
}

pub(super) fn run(lab: &Lab, rounds: u32) -> anyhow::Result<Value> {
    println!("\nOne malloc+free pair in a tight loop, {rounds} rounds: median (least..greatest)");
    let mut skipped = Vec::new();
    if let Err(reason) = lab::need("bpftrace", &["bpftrace"]) {
        skipped.push((Tool::Bpftrace, reason));
    }
    let mut pair = Pair::start(lab)?;
    let mut results = Results { rounds: BTreeMap::new(), lost_events: 0 };
    for round in 0..rounds {
        for (index, tool) in TOOLS.into_iter().enumerate() {
            if skipped.iter().any(|(it, _)| *it == tool) {
                continue;
            }
            eprint!("\r\x1b[Kbench: round {} of {rounds}: {tool}", round + 1);
            let samples = match undisturbed(lab, &mut pair, tool, &mut results.lost_events) {
                Ok(samples) => samples,
                // The figures of the other tools are still worth having.
                Err(error) if tool != Tool::Untraced => {
                    eprintln!("\nbench: {tool}: {error:#}");
                    skipped.push((tool, format!("{error:#}")));
                    continue;
                }
                Err(error) => return Err(error),
            };
            for (depth, sample) in DEPTHS.into_iter().zip(samples) {
                results.rounds.entry((index, depth)).or_default().push(sample);
            }
        }
    }
    eprint!("\r\x1b[K");
    for (tool, reason) in &skipped {
        println!("  without {tool}: {}", reason.lines().next().unwrap_or_default());
    }
    Ok(results.print())
}

/// One tool at all depths. Nothing else may trace the process before and after.
fn undisturbed(
    lab: &Lab,
    pair: &mut Pair,
    tool: Tool,
    lost: &mut u64,
) -> anyhow::Result<[Option<Sample>; DEPTHS.len()]> {
    for _ in 0..TRIES {
        pair.until_untraced()?;
        let samples = measure(lab, pair, tool, lost)?;
        if !pair.is_traced()? {
            return Ok(samples.map(Some));
        }
    }
    Ok([None; DEPTHS.len()])
}

fn measure(lab: &Lab, pair: &mut Pair, tool: Tool, lost: &mut u64) -> anyhow::Result<[Sample; DEPTHS.len()]> {
    let time = Duration::from_millis(if lab.quick { 200 } else { 500 });
    let capture = lab.work.join("micro.jsonl.zst");
    let running = tracer::attach(tool, lab, pair.pid(), &capture)?;
    if running.is_some() {
        pair.until_traced()?;
    }
    let mut samples = [Sample::default(); DEPTHS.len()];
    for (sample, depth) in samples.iter_mut().zip(DEPTHS) {
        let before = running.as_ref().map(tracer::Running::cpu_s);
        let cost = pair.measure(depth, time)?;
        if running.is_some() {
            // What is still on its way to the tracer belongs to these pairs.
            thread::sleep(Duration::from_millis(200));
        }
        let used = running.as_ref().zip(before).map(|(it, before)| it.cpu_s() - before);
        let tracer_ns = used.map(|seconds| seconds * 1e9 / cost.pairs as f64);
        *sample = Sample { cpu_ns: cost.cpu_ns, wall_ns: cost.wall_ns, tracer_ns };
    }
    if let Some(running) = running {
        running.stop()?;
    }
    if tool == Tool::Alloctrace {
        let report = lab.report(&capture)?;
        *lost += report["loss"]["lost_events"].as_u64().unwrap_or(0);
    }
    Ok(samples)
}

impl Results {
    fn of(&self, tool: Tool, depth: u32, value: impl Fn(&Sample) -> Option<f64>) -> Vec<Option<f64>> {
        let index = TOOLS.iter().position(|it| *it == tool).unwrap_or_default();
        let rounds = self.rounds.get(&(index, depth)).map(Vec::as_slice).unwrap_or_default();
        rounds.iter().map(|it| it.as_ref().and_then(&value)).collect()
    }

    /// CPU time over the untraced pair of the same round.
    fn added(&self, tool: Tool, depth: u32) -> Vec<Option<f64>> {
        let base = self.of(Tool::Untraced, depth, |it| Some(it.cpu_ns));
        let with = self.of(tool, depth, |it| Some(it.cpu_ns));
        with.iter().zip(base).map(|(with, base)| Some((*with)? - base?)).collect()
    }

    fn print(&self) -> Value {
        let spread = |values: Vec<Option<f64>>| Spread::of(values.into_iter().flatten());
        let mut depths = Map::new();
        for depth in DEPTHS {
            let floor = self.added(Tool::Floor, depth);
            let script = self.added(Tool::Bpftrace, depth);
            let headings =
                ["", "pair, CPU ns", "added ns", "x empty programs", "x bpftrace", "tracer's CPU, ns"];
            let mut table = Table::new(&headings);
            let mut rows = Map::new();
            for tool in TOOLS {
                let pair = spread(self.of(tool, depth, |it| Some(it.cpu_ns)));
                if pair.is_none() {
                    continue;
                }
                let added = self.added(tool, depth);
                let traced = tool != Tool::Untraced;
                let of = |base: &[Option<f64>]| traced.then(|| Spread::ratio(&added, base)).flatten();
                let (of_floor, of_script) = (of(&floor), of(&script));
                let added = if traced { spread(added.clone()) } else { None };
                let tracer = spread(self.of(tool, depth, |it| it.tracer_ns));
                table.row(vec![
                    tool.to_string(),
                    stats::cell(pair, if traced { 0 } else { 1 }, ""),
                    stats::cell(added, 0, ""),
                    stats::cell(of_floor, 2, ""),
                    stats::cell(of_script, 2, ""),
                    stats::cell(tracer, 0, ""),
                ]);
                rows.insert(
                    tool.to_string(),
                    json!({
                        "pair_cpu_ns": stats::json_or_null(pair),
                        "pair_wall_ns": stats::json_or_null(spread(self.of(tool, depth, |it| Some(it.wall_ns)))),
                        "added_cpu_ns": stats::json_or_null(added),
                        "added_of_floor": stats::json_or_null(of_floor),
                        "added_of_bpftrace": stats::json_or_null(of_script),
                        "tracer_cpu_ns": stats::json_or_null(tracer),
                    }),
                );
            }
            println!("{depth} frames\n{table}");
            depths.insert(depth.to_string(), Value::Object(rows));
        }
        println!("  events lost by alloctrace: {}", self.lost_events);
        json!({ "by_frames": depths, "lost_events": self.lost_events })
    }
}
