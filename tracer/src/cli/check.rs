//! `alloctrace check`

use std::{
    ffi::OsString,
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::{ArgGroup, ValueEnum};

use super::{
    color,
    exit::Failure,
    record, report,
    sample::SampleArgs,
    settings::{self, TargetArgs},
    tracing::{MemoryArgs, PoolArgs, TierName, TracingArgs},
};
use crate::{
    check::{self, Budget, Case, Format, Options, Outcome, Rate, Rules, Status, Suppressions},
    kernel::Streams,
    profile::trust::Grade,
    symbol::LineTable,
};

/// Fail when a program takes more memory than it may: budgets as an exit code, for CI.
///
/// Traces a command to its end, or a running process for a while, and compares the heap with each budget. A budget
/// that is breached is shown with the call stacks that are to blame.
#[derive(clap::Args)]
#[command(
    override_usage = "alloctrace check BUDGETS [OPTIONS] -- COMMAND [ARGS]...\n       \
        alloctrace check BUDGETS [OPTIONS] -p PID...\n       alloctrace check BUDGETS [OPTIONS] --capture FILE",
    after_help = "\
Examples:
  alloctrace check --max-growth 1MiB/min --warm-up 10s -- ./soak-test
  alloctrace check --max-leaked 0 --suppressions lsan.supp -- ./unit-tests
  alloctrace check --max-growth 512KiB/h -p 1234 -d 10m --format github
  alloctrace check --max-live 64MiB --capture run.jsonl.zst --format junit

Signals:
  SIGINT, SIGTERM  end the tracing; what was seen is judged
  SIGUSR1          takes an interval now

Exit codes:
  0  within all budgets
  1  the command failed, or an error, which the message names
  2  the command line is wrong
  3  a budget is breached
  4  undecided: within the budgets as far as was seen, but events were lost, or
     there is too little to judge by
  5  a privilege or a kernel feature is missing; alloctrace doctor says which
  6  the target is not there",
    group = ArgGroup::new("source").required(true).args(["pid", "capture", "command"])
)]
pub(super) struct Args {
    /// A running process; repeat for several. It is neither stopped nor signalled.
    #[arg(short, long = "pid", value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=i32::MAX as i64))]
    pid: Vec<u32>,
    /// Judge a capture that was recorded before.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["duration", "interval", "keep_capture", "no_follow", "sample", "max_overhead", "alloc", "free"])]
    capture: Option<PathBuf>,
    /// Start a command and trace it and its children from their first instruction on. If it fails, so does the check.
    #[arg(last = true, value_name = "COMMAND")]
    command: Vec<OsString>,
    /// What happens before this time does not count: growth, leaks and highest values are those after it.
    #[arg(long, value_name = "DUR", value_parser = settings::duration)]
    warm_up: Option<Duration>,
    /// End the check after this time [default: when the target ends, or at Ctrl-C]. A command that was started goes
    /// on; to end it as well, start `timeout 60s COMMAND`.
    #[arg(short, long, value_name = "DUR", value_parser = settings::duration)]
    duration: Option<Duration>,
    /// How often the state is looked at.
    #[arg(short, long, value_name = "INTERVAL", default_value = "1s", value_parser = settings::duration)]
    interval: Duration,
    /// What is known and does not count, in LeakSanitizer's syntax: lines of leak:PATTERN; repeat for several files.
    ///
    /// A pattern is looked for in the function, the source file and the module of every frame; * stands for anything,
    /// ^ for the beginning and $ for the end.
    #[arg(long, value_name = "FILE")]
    suppressions: Vec<PathBuf>,
    /// Count as leaked also what runtimes are known to keep to their end, as buffers of standard output.
    #[arg(long)]
    no_built_in_suppressions: bool,
    /// Judge even if the command fails.
    #[arg(long)]
    ignore_exit_code: bool,
    /// A run of less trust than this grade, A to F, is undecided unless a budget is breached.
    ///
    /// Down to C every number is exact.
    #[arg(long, value_name = "GRADE", default_value = "C")]
    min_trust: Grade,
    /// How to write what was found.
    #[arg(long, value_enum, default_value_t = FormatName::Text)]
    format: FormatName,
    /// Where to write the result [default: standard output; what COMMAND writes there goes to standard error if the
    /// result is for a program].
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// How many call stacks to show of each breach.
    #[arg(short = 'T', long, value_name = "N", default_value_t = 5)]
    top: usize,
    /// Keep the recording, for `alloctrace report`; an older one of that name is replaced.
    #[arg(long, value_name = "FILE")]
    keep_capture: Option<PathBuf>,
    /// Do not trace the children of a launched command.
    #[arg(long)]
    no_follow: bool,
    /// Look less closely rather than make the command this much slower, for example 5%.
    ///
    /// What was not followed is not known: budgets are then undecided.
    #[arg(long, value_name = "SHARE", value_parser = settings::share)]
    max_overhead: Option<f64>,
    #[command(flatten, next_help_heading = "Budgets")]
    budgets: BudgetArgs,
    #[command(flatten)]
    sample: SampleArgs,
    #[command(flatten)]
    memory: MemoryArgs,
    #[command(flatten)]
    pools: PoolArgs,
}

/// Direct mappings do not count, only the heap does, but for RSS.
#[derive(clap::Args)]
struct BudgetArgs {
    /// How fast the live heap bytes of all processes may grow, for example 1MiB/min, 512KiB/h or 100B/s: a robust
    /// slope, which start-up and a few outliers do not move.
    #[arg(long, value_name = "RATE")]
    max_growth: Option<Rate>,
    /// How fast one call stack may grow that grows to the end: a small leak beside large caches.
    #[arg(long, value_name = "RATE")]
    max_growth_per_site: Option<Rate>,
    /// The most live heap bytes of a process at the end of any interval.
    #[arg(long, value_name = "SIZE", value_parser = settings::size)]
    max_live: Option<u64>,
    /// The most live heap bytes of one call stack at the end of any interval.
    #[arg(long, value_name = "SIZE", value_parser = settings::size)]
    max_live_per_site: Option<u64>,
    /// The most heap bytes that a process may leave behind unfreed when it ends, reachable ones too.
    #[arg(long, value_name = "SIZE", value_parser = settings::size)]
    max_leaked: Option<u64>,
    /// The most resident bytes of a process at the end of any interval.
    #[arg(long, value_name = "SIZE", value_parser = settings::size)]
    max_rss: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum FormatName {
    /// For people.
    Text,
    /// Workflow commands of GitHub Actions, and a summary of the step where $GITHUB_STEP_SUMMARY says.
    Github,
    /// Test results in XML, for Jenkins, GitLab and others.
    Junit,
    /// Every number, for programs.
    Json,
}

impl BudgetArgs {
    fn budgets(&self) -> Vec<Budget> {
        let all = [
            self.max_growth.map(Budget::Growth),
            self.max_growth_per_site.map(Budget::GrowthPerSite),
            self.max_live.map(Budget::Live),
            self.max_live_per_site.map(Budget::LivePerSite),
            self.max_leaked.map(Budget::Leaked),
            self.max_rss.map(Budget::Rss),
        ];
        all.into_iter().flatten().collect()
    }
}

impl FormatName {
    fn format(self) -> Format {
        match self {
            Self::Text => Format::Text,
            Self::Github => Format::Github,
            Self::Junit => Format::Junit,
            Self::Json => Format::Json,
        }
    }
}

pub(super) fn run(args: &Args, verbose: bool) -> Result<ExitCode, Failure> {
    let rules = rules(args)?;
    // Found wrong now rather than after an hour of tracing.
    let output = args.output.as_ref().map(|path| create(path)).transpose()?;
    let outcome = match &args.capture {
        Some(path) => judge(args, &rules, path, Some(path), output, verbose)?,
        None => {
            let capture = Capture::new(args.keep_capture.as_deref());
            let recorded = record::record(&record_args(args, &capture), streams(args))?;
            let outcome = judge(args, &rules, &capture.path, args.keep_capture.as_deref(), output, verbose);
            recorded.detach();
            outcome?
        }
    };
    let headline = outcome.headline();
    match outcome.status() {
        Status::CommandFailed => Err(anyhow::Error::msg(headline).into()),
        Status::Breached => Err(Failure::breach(headline)),
        Status::Undecided => Err(Failure::trust(headline)),
        Status::Kept => {
            if args.output.is_some() || args.format != FormatName::Text {
                eprintln!("alloctrace: {headline}");
            }
            Ok(ExitCode::SUCCESS)
        }
    }
}

fn rules(args: &Args) -> Result<Rules, Failure> {
    let budgets = args.budgets.budgets();
    if budgets.is_empty() {
        return Err(Failure::usage(
            "no budget is given, so nothing could fail: give --max-growth RATE, --max-growth-per-site RATE, \
             --max-live SIZE, --max-live-per-site SIZE, --max-leaked SIZE or --max-rss SIZE"
                .to_owned(),
        ));
    }
    let warm_up = args.warm_up.unwrap_or_default();
    if let Some(duration) = args.duration
        && warm_up >= duration
    {
        return Err(Failure::usage(format!(
            "--warm-up {warm_up:?} leaves nothing to judge of --duration {duration:?}"
        )));
    }
    let mut suppressions = Suppressions::default();
    for path in &args.suppressions {
        let text = std::fs::read_to_string(path)
            .map_err(|why| Failure::usage(format!("read the suppressions {}: {why}", path.display())))?;
        suppressions
            .add(&text)
            .map_err(|it| Failure::usage(format!("{}:{}: {}", path.display(), it.line, it.why)))?;
    }
    if !args.no_built_in_suppressions {
        suppressions.add_built_in();
    }
    Ok(Rules {
        budgets,
        suppressions,
        warm_up_s: warm_up.as_secs_f64(),
        min_trust: args.min_trust,
        ignores_exit_code: args.ignore_exit_code,
    })
}

/// A command that writes to standard output must not spoil a result that goes there for a program.
fn streams(args: &Args) -> Streams<'static> {
    match args.format {
        FormatName::Junit | FormatName::Json if args.output.is_none() => Streams::Errors,
        _ => Streams::Ours,
    }
}

fn record_args(args: &Args, capture: &Capture) -> record::Args {
    record::Args {
        tracing: TracingArgs {
            target: TargetArgs {
                pid: args.pid.clone(),
                command: args.command.clone(),
                ..TargetArgs::default()
            },
            follow: false,
            no_follow: args.no_follow,
            tier: TierName::Exact,
            max_overhead: args.max_overhead,
            sample: args.sample,
            ring: None,
            memory: args.memory.clone(),
            pools: args.pools.clone(),
        },
        output: Some(capture.path.clone()),
        force: !capture.is_temporary,
        duration: args.duration,
        interval: args.interval,
        min_trust: None,
    }
}

fn create(path: &Path) -> anyhow::Result<File> {
    File::create(path).with_context(|| format!("create the result {}", path.display()))
}

/// Where the run is recorded; a temporary one is removed in the end.
struct Capture {
    path: PathBuf,
    is_temporary: bool,
}

impl Capture {
    fn new(kept: Option<&Path>) -> Self {
        let temporary = || {
            let name = format!("alloctrace-check.{}.jsonl.zst", std::process::id());
            std::env::temp_dir().join(name)
        };
        Self { path: kept.map_or_else(temporary, Path::to_owned), is_temporary: kept.is_none() }
    }
}

impl Drop for Capture {
    fn drop(&mut self) {
        if self.is_temporary {
            // It may never have been made.
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Judges the capture at `path` and writes the result; `shown` is what it is called there.
fn judge(
    args: &Args,
    rules: &Rules,
    path: &Path,
    shown: Option<&Path>,
    output: Option<File>,
    verbose: bool,
) -> Result<Outcome, Failure> {
    let recording = report::read(path, None)?;
    let mut places = LineTable::default();
    let before_end = match rules.growth_until_s(&recording) {
        Some(until_s) => Some(rules.evidence(report::read(path, Some(until_s))?, &mut places)),
        None => None,
    };
    let case = Case { whole: rules.evidence(recording, &mut places), before_end };
    let outcome = check::judge(&case, rules);
    let options = Options {
        path: shown.map(|it| it.display().to_string()),
        top: args.top,
        verbose,
        color: args.output.is_none() && color::on_stdout(),
        workspace: std::env::var("GITHUB_WORKSPACE").ok().or_else(current_dir),
    };
    let format = args.format.format();
    match output {
        Some(file) => write(format, &outcome, &case, &options, file).with_context(|| {
            format!("write the result {}", args.output.clone().unwrap_or_default().display())
        })?,
        None => match write(format, &outcome, &case, &options, io::stdout().lock()) {
            // Whoever reads has seen enough; the exit code still counts.
            Err(error) if error.kind() == io::ErrorKind::BrokenPipe => {}
            done => done?,
        },
    }
    if args.format == FormatName::Github
        && let Some(path) = std::env::var_os("GITHUB_STEP_SUMMARY").filter(|it| !it.is_empty())
    {
        let path = Path::new(&path);
        OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .and_then(|mut it| check::write_summary(&outcome, &case, &options, &mut it))
            .with_context(|| format!("write the summary of the step, {}", path.display()))?;
    }
    Ok(outcome)
}

fn current_dir() -> Option<String> {
    Some(std::env::current_dir().ok()?.to_str()?.to_owned())
}

fn write(
    format: Format,
    outcome: &Outcome,
    case: &Case,
    options: &Options,
    out: impl Write,
) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    check::write(format, outcome, case, options, &mut out)?;
    out.flush()
}
