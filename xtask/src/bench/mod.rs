//! `cargo xtask bench`: what tracing costs, as ratios against a baseline of the same run.
//!
//! * [`micro`]: one malloc+free pair in a tight loop, by depth of the stack, number of threads, and live blocks
//! * [`programs`]: whole programs from the distribution
//! * [`lossless`]: whether a tight loop overruns the tracer
//! * [`budget`]: whether `--max-overhead` is kept
//! * [`scale`]: a thousand processes at once
//! * [`system`]: a build with hundreds of short processes, and a neighbour that is not traced
//! * [`growth`]: the growth tier, where memory is taken as fast as it can be
//! * [`watch`]: what it costs to be watched
//! * [`reports`]: what it costs to read a large capture
//!
//! [`tool`] knows how each tracer is started, [`memleak`] one that needs much for that, [`tracer`] one at work. [`rounds`] gives each its
//! turns. [`pair`] and [`spin`] are the programs of the tight loop and [`grid`] their tables; [`workload`] has the whole programs that
//! [`launched`] runs, beside [`redis`] and [`postgres`]; [`group`] says what they use. [`lab`] is the place where all of it happens,
//! [`afterwards`] leaves it as it was, [`stats`] has medians and tables, and [`markdown`] fills the README.

mod afterwards;
mod budget;
mod grid;
mod group;
mod growth;
mod lab;
mod launched;
mod lossless;
mod markdown;
mod memleak;
mod micro;
mod pair;
mod postgres;
mod programs;
mod redis;
mod reports;
mod rounds;
mod scale;
mod spin;
mod stats;
mod system;
mod tool;
mod tracer;
mod watch;
mod workload;

use std::{fs, path::PathBuf};

use anyhow::Context as _;
use serde_json::{Map, json};

use self::lab::Lab;
use crate::root;

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
    /// How many rounds [default: 5 of micro and watch, 7 of growth, 3 of the others; 1 or 2 with --quick].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    rounds: Option<u32>,
    /// Of programs, budget and watch, only those whose name has this in it; repeat for several.
    #[arg(long, value_name = "NAME")]
    only: Vec<String>,
    /// The memleak to compare with: one of libbpf-tools [default: memleak-bpfcc of the package bpfcc-tools].
    #[arg(long, value_name = "PATH", env = "BENCH_MEMLEAK")]
    memleak: Option<PathBuf>,
    /// Measure this build of alloctrace [default: that of the sources, built first].
    #[arg(long, value_name = "PATH")]
    alloctrace: Option<PathBuf>,
    /// Write tables in Markdown to this file.
    #[arg(long, value_name = "OUT")]
    markdown: Option<PathBuf>,
    /// Put them into README.md, in place of what it says of the same parts.
    #[arg(long, conflicts_with = "only")]
    update_readme: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, clap::ValueEnum)]
enum Part {
    /// One malloc+free pair in a tight loop, by depth, threads and live blocks.
    Micro,
    /// Whole programs: redis-server, PostgreSQL, sqlite3, python3, g++.
    Programs,
    /// Whether a tight loop of a minute overruns the tracer.
    Lossless,
    /// Whether `record --max-overhead 5%` is kept by programs of very different rates.
    Budget,
    /// A thousand processes at once: attach, memory, detach.
    Scale,
    /// A build of hundreds of short processes under `record -a`, and what a process pays that is not traced.
    System,
    /// The growth tier on programs in Go, JavaScript and Java that do nothing but take memory.
    Growth,
    /// What `watch --all` costs programs of which it has nothing to say.
    Watch,
    /// Every format of `report` on a capture of 50,000 sites and 1,000 intervals; needs no root.
    Reports,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let lab = Lab::open(args.quick, args.memleak.clone(), args.alloctrace.clone())?;
    let rounds = |usual: u32| args.rounds.unwrap_or(if args.quick { 2 } else { usual });
    // Of those that are many programs under many tools.
    let long_rounds = |usual: u32| args.rounds.unwrap_or(if args.quick { 1 } else { usual });
    let wanted = |part| args.parts.is_empty() || args.parts.contains(&part);
    println!("{}", lab.machine_line());

    let mut results = Map::new();
    results.insert("schema".to_owned(), json!("alloctrace.bench/1"));
    results.insert("machine".to_owned(), lab.machine());
    results.insert("quick".to_owned(), json!(args.quick));
    if wanted(Part::Micro) {
        results.insert("micro".to_owned(), micro::run(&lab, long_rounds(5))?);
    }
    if wanted(Part::Programs) {
        results.insert("programs".to_owned(), programs::run(&lab, long_rounds(3), &args.only)?);
    }
    if wanted(Part::Lossless) {
        results.insert("lossless".to_owned(), lossless::run(&lab)?);
    }
    if wanted(Part::Budget) {
        match budget::missing(&lab).filter(|_| args.parts.is_empty()) {
            Some(reason) => println!("\nwithout budget: {reason}"),
            None => {
                results.insert("budget".to_owned(), budget::run(&lab, long_rounds(3), &args.only)?);
            }
        }
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
    if wanted(Part::Watch) {
        results.insert("watch".to_owned(), watch::run(&lab, long_rounds(5), &args.only)?);
    }
    if wanted(Part::Reports) {
        results.insert("reports".to_owned(), reports::run(&lab, rounds(3))?);
    }
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&results)? + "\n";
        fs::write(path, text).with_context(|| format!("write {}", path.display()))?;
    }
    let sections = markdown::sections(&results);
    if let Some(path) = &args.markdown {
        let text: Vec<&str> = sections.iter().map(|(_, text)| text.as_str()).collect();
        fs::write(path, text.join("\n")).with_context(|| format!("write {}", path.display()))?;
    }
    if args.update_readme {
        let path = root().join("README.md");
        let readme = fs::read_to_string(&path).with_context(|| format!("read {}", path.display()))?;
        fs::write(&path, markdown::update(&readme, &sections)?)?;
    }
    Ok(())
}
