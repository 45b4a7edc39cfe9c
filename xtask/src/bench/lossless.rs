//! Whether a tight loop overruns the tracer: every pair is counted, or the exact number of lost events is.

use std::time::Duration;

use anyhow::Context as _;
use serde_json::{Value, json};

use super::{
    lab::{self, Lab},
    spin::{Spin, Turn},
    stats::{self, Table},
    tool::{self, Tool},
    tracer::Usage,
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
        "M events/s",
        "pair, CPU ns",
        "tracer CPU",
        "max RSS",
    ];
    let mut table = Table::new(&headings);
    for it in &outcomes {
        table.row(vec![
            it.threads.to_string(),
            stats::grouped(it.pairs),
            stats::grouped(it.allocated),
            stats::grouped(it.freed),
            it.lost().to_string(),
            it.difference().to_string(),
            format!("{:.2}", it.events_per_s() / 1e6),
            format!("{:.0}", it.pair_cpu_ns),
            format!("{:.1} %", it.tracer_s / it.wall_s * 100.0),
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
    let capture = lab.work.join("lossless.jsonl.zst");
    let mut spin = Spin::start(lab)?;
    let running = tool::attach(Tool::Alloctrace, lab, spin.pid(), &capture)?.context("a tracer")?;
    eprint!("\r\x1b[Kbench: {threads} thread(s) for {} s", time.as_secs());
    let before = running.cpu_s();
    let Turn { pairs, pair_cpu_ns, wall_s } = spin.run(threads, time)?;
    let tracer_s = running.cpu_s() - before;
    let usage = tool::detach(Tool::Alloctrace, running)?;
    eprint!("\r\x1b[K");

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

impl Outcome {
    /// Those of the program: each pair is two.
    fn events_per_s(&self) -> f64 {
        2.0 * self.pairs as f64 / self.wall_s
    }

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
            "events_per_s": self.events_per_s(),
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
