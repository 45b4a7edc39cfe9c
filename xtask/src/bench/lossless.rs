//! Whether a tight loop overruns the tracer: every pair is counted, or the exact number of lost events is.

use std::{
    io::{BufRead as _, BufReader, Write as _},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{
    lab::{self, Lab},
    stats::Table,
    tracer::{self, Tool, Usage},
};

/// The function of `xtask/bench/spin.c` in which all pairs happen.
const LOOP: &str = "pair_loop";

struct Outcome {
    threads: u32,
    wall_s: f64,
    /// What the program says that it did.
    pairs: u64,
    pair_cpu_ns: f64,
    allocated: u64,
    freed: u64,
    unknown_frees: u64,
    losses: Vec<(String, u64)>,
    /// CPU seconds of the tracer while the loop ran.
    tracer_s: f64,
    usage: Usage,
}

pub(super) fn run(lab: &Lab) -> anyhow::Result<Value> {
    let time = Duration::from_secs(if lab.quick { 10 } else { 60 });
    println!("\nA tight loop of malloc and free for {} s, traced with default settings", time.as_secs());
    let mut outcomes = Vec::new();
    for threads in [1, 2] {
        outcomes.push(measure(lab, threads, time)?);
    }
    let headings = [
        "threads",
        "pairs done",
        "allocations",
        "frees",
        "lost",
        "difference",
        "pairs/s",
        "pair, CPU ns",
        "tracer CPU",
        "max RSS",
    ];
    let mut table = Table::new(&headings);
    for it in &outcomes {
        table.row(vec![
            it.threads.to_string(),
            it.pairs.to_string(),
            it.allocated.to_string(),
            it.freed.to_string(),
            it.lost().to_string(),
            it.difference().to_string(),
            format!("{:.0}", it.pairs as f64 / it.wall_s),
            format!("{:.0}", it.pair_cpu_ns),
            format!("{:.0}%", it.tracer_s / it.wall_s * 100.0),
            format!("{} MiB", it.usage.max_rss_kib / 1024),
        ]);
    }
    println!("{table}");
    for it in &outcomes {
        println!("  {} thread(s): {}", it.threads, it.verdict());
    }
    Ok(Value::Array(outcomes.iter().map(Outcome::json).collect()))
}

fn measure(lab: &Lab, threads: u32, time: Duration) -> anyhow::Result<Outcome> {
    let program = lab.compile("spin")?;
    let capture = lab.work.join("lossless.jsonl.zst");
    let mut child =
        Command::new(program).stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().context("start spin")?;
    let mut ask = child.stdin.take().context("the pipe to spin")?;
    let mut answers = BufReader::new(child.stdout.take().context("the pipe from spin")?);

    let running = tracer::attach(Tool::Alloctrace, lab, child.id(), &capture)?.context("a tracer")?;
    eprint!("\r\x1b[Kbench: {threads} thread(s) for {} s", time.as_secs());
    let (start, before) = (Instant::now(), running.cpu_s());
    writeln!(ask, "{threads} {}", time.as_secs_f64()).context("ask spin")?;
    let mut answer = String::new();
    answers.read_line(&mut answer).context("the answer of spin")?;
    let (pairs, pair_cpu_ns) = parse(&answer).with_context(|| format!("spin answered {answer:?}"))?;
    let (wall_s, tracer_s) = (start.elapsed().as_secs_f64(), running.cpu_s() - before);
    let usage = running.stop()?;
    eprint!("\r\x1b[K");
    drop(ask);
    child.wait()?;

    let report = lab.report(&capture)?;
    let in_loop = |field: &str| {
        let sites = report["sites"].as_array().into_iter().flatten();
        let of_loop = sites.filter(|site| {
            let frames = site["frames"].as_array().into_iter().flatten();
            frames.into_iter().any(|frame| frame["function"] == LOOP)
        });
        of_loop.filter_map(|site| site[field].as_u64()).sum()
    };
    Ok(Outcome {
        threads,
        wall_s,
        pairs,
        pair_cpu_ns,
        allocated: in_loop("allocated_blocks"),
        freed: in_loop("freed_blocks"),
        unknown_frees: report["totals"]["unknown_frees"].as_u64().unwrap_or(0),
        losses: lab::losses(&report),
        tracer_s,
        usage,
    })
}

fn parse(answer: &str) -> Option<(u64, f64)> {
    let (pairs, cpu_ns) = answer.trim().split_once(' ')?;
    Some((pairs.parse().ok()?, cpu_ns.parse().ok()?))
}

impl Outcome {
    fn loss(&self, name: &str) -> u64 {
        self.losses.iter().find(|(it, _)| it == name).map_or(0, |(_, count)| *count)
    }

    fn lost(&self) -> u64 {
        self.loss("lost_events")
    }

    /// Events that the program caused, less those that were counted, less those that are known to be lost:
    /// nothing if the totals are consistent. A block whose free was lost is closed by the next allocation at its
    /// address, and a free whose allocation was lost is one of an unknown block. Without losses, unknown frees have
    /// nothing to do with the loop: a thread that ends frees the blocks of its cache once more.
    fn difference(&self) -> i64 {
        let unknown = if self.lost() > 0 { self.unknown_frees } else { 0 };
        let seen = self.allocated + self.freed - self.loss("lost_frees").min(self.freed) + unknown;
        2 * self.pairs as i64 - seen as i64 - self.lost() as i64
    }

    fn verdict(&self) -> String {
        let losses: Vec<String> = self.losses.iter().map(|(name, count)| format!("{name} {count}")).collect();
        let losses = if losses.is_empty() { "no loss of any kind".to_owned() } else { losses.join(", ") };
        // With losses, other calls of the program (its threads' beginning and end) can be among them.
        let stray = if self.lost() > 0 { u64::from(self.threads) * 20 } else { 0 };
        let totals = match self.difference() {
            0 => "totals agree exactly",
            it if it.unsigned_abs() <= stray => "totals are consistent with the losses",
            _ => "TOTALS DO NOT AGREE",
        };
        format!("{totals}; {losses}")
    }

    fn json(&self) -> Value {
        json!({
            "threads": self.threads,
            "wall_s": self.wall_s,
            "pairs": self.pairs,
            "pair_cpu_ns": self.pair_cpu_ns,
            "allocated_blocks": self.allocated,
            "freed_blocks": self.freed,
            "unknown_frees": self.unknown_frees,
            "losses": self.losses.iter().cloned().collect::<std::collections::BTreeMap<_, _>>(),
            "difference": self.difference(),
            "tracer_cpu_share": self.tracer_s / self.wall_s,
            "tracer": self.usage.json(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outcome(allocated: u64, freed: u64, unknown_frees: u64, losses: &[(&str, u64)]) -> Outcome {
        Outcome {
            threads: 1,
            wall_s: 1.0,
            pairs: 100,
            pair_cpu_ns: 1.0,
            allocated,
            freed,
            unknown_frees,
            losses: losses.iter().map(|&(name, count)| (name.to_owned(), count)).collect(),
            tracer_s: 0.0,
            usage: Usage { cpu_s: 0.0, max_rss_kib: 0, ready_s: None, end_s: None },
        }
    }

    #[test]
    fn nothing_lost_means_nothing_missing() {
        assert_eq!(outcome(100, 100, 0, &[]).difference(), 0);
        assert_eq!(outcome(100, 100, 5, &[]).difference(), 0, "frees of a thread that ends");
        assert!(outcome(100, 100, 0, &[]).verdict().starts_with("totals agree exactly"));
        assert!(outcome(99, 99, 0, &[]).verdict().starts_with("TOTALS DO NOT AGREE"));
    }

    #[test]
    fn lost_allocations_show_as_unknown_frees() {
        assert_eq!(outcome(90, 90, 10, &[("lost_events", 10)]).difference(), 0);
    }

    #[test]
    fn lost_frees_are_closed_by_the_next_allocation() {
        assert_eq!(outcome(100, 100, 0, &[("lost_events", 10), ("lost_frees", 10)]).difference(), 0);
    }
}
