//! `cargo xtask bench`: what tracing costs, as ratios against a baseline of the same run.
//!
//! * [`micro`]: one malloc+free pair in a tight loop, below short and long call stacks
//! * [`programs`]: whole programs from the distribution
//! * [`lossless`]: whether a tight loop overruns the tracer
//! * [`scale`]: a thousand processes at once
//! * [`system`]: a build with hundreds of short processes, and a neighbour that is not traced
//! * [`growth`]: the growth tier, where memory is taken as fast as it can be
//! * [`reports`]: what it costs to read a large capture
//!
//! [`tracer`] starts and stops what traces, [`pair`] is the program of the tight loop, [`workload`] the whole
//! programs, [`group`] what they use, [`lab`] the place where all of it happens, [`stats`] medians and tables.

mod group;
mod growth;
mod lab;
mod lossless;
mod micro;
mod pair;
mod programs;
mod reports;
mod scale;
mod stats;
mod system;
mod tracer;
mod workload;

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use serde_json::{Map, json};

use self::lab::Lab;

/// Measure what tracing costs.
///
/// Machines are noisy: every figure is the median of interleaved rounds with the least and the greatest
/// of them, and only the ratios within one run are to be trusted. Needs root.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// What to measure [default: all].
    #[arg(value_enum)]
    parts: Vec<Part>,
    /// Write every figure to this file as well.
    #[arg(long, value_name = "OUT")]
    json: Option<PathBuf>,
    /// Shorter measurements and fewer rounds, to see that it works.
    #[arg(long)]
    quick: bool,
    /// How many rounds [default: 7 of micro, 3 of the others; 2 with --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// One malloc+free pair in a tight loop.
    Micro,
    /// Whole programs: sqlite3, g++, redis.
    Programs,
    /// Whether a tight loop of a minute overruns the tracer.
    Lossless,
    /// A thousand processes at once: attach, memory, detach.
    Scale,
    /// A build of hundreds of short processes under `record -a`, and what a process pays that is not traced.
    System,
    /// The growth tier on programs in Go, JavaScript and Java that do nothing but take memory.
    Growth,
    /// Every format of `report` on a capture of 50,000 sites and 1,000 intervals; needs no root.
    Reports,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let lab = Lab::open(args.quick)?;
    let rounds = |usual: u32| args.rounds.unwrap_or(if args.quick { 2 } else { usual });
    let wanted = |part| args.parts.is_empty() || args.parts.contains(&part);
    println!("{}", lab.machine_line());

    let mut results = Map::new();
    results.insert("schema".to_owned(), json!("alloctrace.bench/1"));
    results.insert("machine".to_owned(), lab.machine());
    if wanted(Part::Micro) {
        results.insert("micro".to_owned(), micro::run(&lab, rounds(7))?);
    }
    if wanted(Part::Programs) {
        results.insert("programs".to_owned(), programs::run(&lab, rounds(3))?);
    }
    if wanted(Part::Lossless) {
        results.insert("lossless".to_owned(), lossless::run(&lab)?);
    }
    if wanted(Part::Scale) {
        results.insert("scale".to_owned(), scale::run(&lab, rounds(3))?);
    }
    if wanted(Part::System) {
        results.insert("system".to_owned(), system::run(&lab, rounds(3))?);
    }
    if wanted(Part::Growth) {
        results.insert("growth".to_owned(), growth::run(&lab, rounds(7))?);
    }
    if wanted(Part::Reports) {
        results.insert("reports".to_owned(), reports::run(&lab, rounds(3))?);
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&results)? + "\n";
        fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}
