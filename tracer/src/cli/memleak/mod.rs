//! `alloctrace memleak`: the flags and the text of bcc's memleak, for people and scripts that know it.

mod printer;

use std::{ffi::OsString, ops::RangeInclusive, path::Path, process::ExitCode, time::Duration};

use clap::ValueEnum;

use self::printer::Printer;
use super::{
    exit::Failure,
    sample::SampleArgs,
    settings::{self, TargetArgs},
    tracing::{self, MemoryArgs, PoolArgs, TierName, TracingArgs, runtime},
};
use crate::{
    kernel::Streams,
    live::{
        Signals,
        outstanding::{self, News, Outstanding, Question, Schedule},
    },
    report::{
        memleak::{self as layout, Layout},
        words,
    },
};

/// What bcc's memleak prints, with its flags: outstanding allocations by stack.
///
/// Flags and text are those of memleak.py and of memleak in libbpf-tools; the numbers are those of the other
/// commands: nothing is sampled, and stacks need no frame pointers.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  alloctrace memleak -p 1234           what is older than 500 ms, every 5 seconds
  alloctrace memleak -p 1234 -a 10 3   with each block, every 10 s, 3 times
  alloctrace memleak -p 1234 -o 60000  what is older than a minute
  alloctrace memleak -p 1234 -t        each call as it happens
  alloctrace memleak -o 0 -c './app'   what a command has not freed when it ends

Signals:
  SIGINT, SIGTERM  print a last report and end

-o is kept to a fiftieth of OLDER, at best to 10 ms: what is listed is at least
that old. Mappings that the dynamic loader makes for itself are left out, and the
kernel's allocations are not traced.")]
pub(super) struct Args {
    /// The process to trace.
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=i32::MAX as i64))]
    pid: Option<u32>,
    /// Run a command, split at blanks, and trace it.
    #[arg(short, long, value_name = "COMMAND", conflicts_with = "pid")]
    command: Option<String>,
    /// Print each call that allocates or frees, when it returns; no reports then with the layout of memleak.py.
    #[arg(short, long)]
    trace: bool,
    /// List the address and size of each outstanding block.
    #[arg(short = 'a', long)]
    show_allocs: bool,
    /// Only blocks at least this old, in milliseconds.
    #[arg(short, long, value_name = "OLDER", default_value_t = 500)]
    older: u64,
    /// Totals of each stack, whatever the age of its blocks.
    #[arg(short = 'C', long)]
    combined_only: bool,
    /// How many stacks to show.
    #[arg(short = 'T', long, value_name = "TOP", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    top: u32,
    /// Only blocks of at least this size.
    #[arg(short = 'z', long, value_name = "SIZE", value_parser = settings::size)]
    min_size: Option<u64>,
    /// Only blocks of at most this size.
    #[arg(short = 'Z', long, value_name = "SIZE", value_parser = settings::size)]
    max_size: Option<u64>,
    /// What makes a stack large.
    #[arg(long, value_enum, default_value_t = SortKey::Size)]
    sort: SortKey,
    /// An object that must be an allocator of the process: a path, or "c" as in -lc.
    #[arg(short = 'O', long, value_name = "OBJ")]
    obj: Option<String>,
    /// Whose text: memleak.py lists the largest stack last, memleak of libbpf-tools first.
    #[arg(long, value_enum, default_value_t = LayoutName::Python)]
    layout: LayoutName,
    /// Print the probes of bcc's memleak: refused, there is no source text here.
    #[arg(long, hide = true)]
    ebpf: bool,
    /// Refused: single blocks are listed here.
    #[arg(long, hide = true)]
    sample: Option<String>,
    /// Seconds between reports.
    #[arg(default_value_t = 5, value_parser = clap::value_parser!(u64).range(1..=u32::MAX as u64))]
    interval: u64,
    /// How many reports, and then exit.
    #[arg(value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    pools: PoolArgs,
    #[command(flatten)]
    without_effect: WithoutEffect,
}

/// Accepted, so that nobody's script fails.
#[derive(clap::Args)]
#[command(next_help_heading = "Accepted without effect")]
struct WithoutEffect {
    /// Every allocation is counted.
    #[arg(short, long, value_name = "RATE", default_value_t = 1)]
    sample_rate: u64,
    /// Is about the kernel's allocations.
    #[arg(short = 'F', long)]
    wa_missing_free: bool,
    /// Is about the kernel's allocations.
    #[arg(short = 'P', long)]
    percpu: bool,
    /// Prefixes of allocator functions are not followed; only the empty one is accepted.
    #[arg(short = 'S', long, value_name = "PREFIX")]
    symbols_prefix: Option<String>,
    /// Stacks have up to 127 frames.
    #[arg(long, value_name = "FRAMES")]
    perf_max_stack_depth: Option<u64>,
    /// There is room for half a million stacks.
    #[arg(long, value_name = "STACKS")]
    stack_storage_size: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum SortKey {
    Size,
    Count,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum LayoutName {
    Python,
    Libbpf,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (sizes, command) = (args.sizes()?, args.refuse_what_is_not_there()?);
    args.without_effect.say();
    let layout = match args.layout {
        LayoutName::Python => Layout::Python,
        LayoutName::Libbpf => Layout::Libbpf,
    };
    let target = TargetArgs { pid: args.pid.into_iter().collect(), command, ..TargetArgs::default() };
    // Both tools trace one process, and not its children.
    let prepared = TracingArgs {
        target,
        follow: false,
        no_follow: true,
        tier: TierName::Exact,
        sample: SampleArgs::default(),
        max_overhead: None,
        ring: None,
        memory: args.memory.clone(),
        pools: args.pools.clone(),
    }
    .prepare(Streams::Ours)?;
    runtime()?.block_on(async {
        let signals = Signals::new()?;
        let kernel = tracing::start(&prepared.settings)?;
        args.check_object(&kernel.allocators())?;
        let outstanding = Outstanding::new(kernel, prepared.launched, args.question(layout, sizes))?;
        let options = layout::Options { layout, top: args.top as usize, combined_only: args.combined_only };
        let mut printer = Printer::start(options, prepared.tgid.unwrap_or_default())?;
        printer.attached(args.command.as_deref());
        eprintln!("alloctrace: ready");
        let schedule = Schedule {
            every: args.wants_reports(layout).then(|| Duration::from_secs(args.interval)),
            count: args.count,
        };
        let (losses, kernel) =
            outstanding.follow(&schedule, signals, |news: News| printer.tell(news)).await?;
        printer.finish()?;
        for (loss, count) in losses.iter() {
            eprintln!("alloctrace: {count} {}: {}", loss.name(), words::explain(loss));
        }
        drop(kernel);
        Ok(ExitCode::SUCCESS)
    })
}

impl Args {
    fn sizes(&self) -> Result<RangeInclusive<u64>, Failure> {
        let (min, max) = (self.min_size.unwrap_or(0), self.max_size.unwrap_or(u64::MAX));
        if min > max {
            return Err(Failure::usage(format!(
                "no block has at least {min} (-z) and at most {max} bytes (-Z)"
            )));
        }
        Ok(min..=max)
    }

    /// The words of the command, if there is one.
    fn refuse_what_is_not_there(&self) -> Result<Vec<OsString>, Failure> {
        let words = self.command.iter().flat_map(|it| it.split_whitespace()).map(OsString::from);
        let words: Vec<OsString> = words.collect();
        let refused = if self.ebpf {
            "--ebpf: there is no source text to print; the probes are compiled into this program"
        } else if self.sample.is_some() {
            "--sample: single blocks are listed here, and of a sample most would be missing; `alloctrace record --sample` \
             estimates what the stacks hold"
        } else if self.without_effect.symbols_prefix.as_ref().is_some_and(|it| !it.is_empty()) {
            "--symbols-prefix: allocator functions are found by their own names only"
        } else if self.pid.is_none() && self.command.is_none() {
            "the kernel's own allocations are not traced: give a process by -p PID or a command by -c COMMAND, or \
             use bcc's memleak for the kernel"
        } else if self.pid.is_none() && words.is_empty() {
            "-c: no command given"
        } else {
            return Ok(words);
        };
        Err(Failure::usage(refused.to_owned()))
    }

    fn question(&self, layout: Layout, sizes: RangeInclusive<u64>) -> Question {
        Question {
            older: if self.combined_only { Duration::ZERO } else { Duration::from_millis(self.older) },
            sizes,
            sort: match self.sort {
                SortKey::Size => outstanding::Sort::Bytes,
                SortKey::Count => outstanding::Sort::Blocks,
            },
            top: self.top as usize,
            // Neither tool lists blocks that it knows only in sum.
            listed: self.show_allocs && !self.combined_only && self.wants_reports(layout),
            calls: self.trace,
        }
    }

    /// `memleak.py -t` prints calls and nothing else.
    fn wants_reports(&self, layout: Layout) -> bool {
        !self.trace || layout == Layout::Libbpf
    }

    /// What is traced are all allocators of the process; whoever names another waits for what will not come.
    fn check_object(&self, allocators: &[String]) -> Result<(), Failure> {
        let Some(wanted) = &self.obj else { return Ok(()) };
        if allocators.iter().any(|it| is_named(it, wanted)) {
            return Ok(());
        }
        Err(anyhow::anyhow!(
            "-O {wanted}: the process allocates by {}; leave -O out, they are found without it",
            allocators.join(" and ")
        )
        .into())
    }
}

impl WithoutEffect {
    fn say(&self) {
        for (given, why) in [
            (self.sample_rate != 1, "--sample-rate has no effect: every allocation is counted"),
            (self.wa_missing_free, "--wa-missing-free has no effect: it is about the kernel's allocations"),
            (self.percpu, "--percpu has no effect: it is about the kernel's allocations"),
            (self.perf_max_stack_depth.is_some(), "--perf-max-stack-depth has no effect"),
            (self.stack_storage_size.is_some(), "--stack-storage-size has no effect"),
        ] {
            if given {
                eprintln!("alloctrace: {why}");
            }
        }
    }
}

/// Whether `wanted` is the file at `path`: its path, its name, or as in `-lc`.
fn is_named(path: &str, wanted: &str) -> bool {
    let name = path.rsplit('/').next().unwrap_or(path);
    let same_file = || {
        let real = |it: &str| std::fs::canonicalize(it).ok();
        wanted.contains('/')
            && (Path::new(path) == Path::new(wanted) || real(wanted).is_some_and(|it| real(path) == Some(it)))
    };
    let of_library = || name.strip_prefix("lib").and_then(|it| it.strip_prefix(wanted));
    name == wanted
        || same_file()
        || of_library().is_some_and(|it| it.starts_with(".so") || it.starts_with('-'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn objects_as_upstream_names_them() {
        let libc = "/usr/lib/x86_64-linux-gnu/libc.so.6";
        for right in ["c", "libc.so.6", libc] {
            assert!(is_named(libc, right), "{right}");
        }
        for wrong in ["", "jemalloc", "libc", "/lib/libc.so.7", "c++"] {
            assert!(!is_named(libc, wrong), "{wrong}");
        }
        assert!(is_named("/lib/libc-2.31.so", "c"));
        let this = std::env::current_exe().unwrap();
        assert!(is_named(this.to_str().unwrap(), "/proc/self/exe"));
    }
}
