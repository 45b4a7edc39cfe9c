//! `alloctrace report`

use std::{
    fs::File,
    io::{self, IsTerminal as _},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::ValueEnum;

use super::{color, exit::Failure, output, settings, when::When};
use crate::{
    capture::{self, Recording},
    event::Kind,
    profile::{By, Profile, Query, Sort, trust::Grade},
    report::{self, Format, Options, words},
    symbol::LineTable,
    watch::STATE_DIR,
};

/// Read a capture and say who holds the memory.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  alloctrace report app.jsonl.zst --sort growth -T 20\n  \
    alloctrace report app.jsonl.zst --from mark:1 --to mark:2\n  \
    alloctrace report app.jsonl.zst --format json | jq '.sites[0]'\n  \
    alloctrace report app.jsonl.zst --format flamegraph -o app.svg\n  \
    alloctrace report app.jsonl.zst --format pprof -o app.pb.gz\n  \
    alloctrace report app.jsonl.zst --format html -o app.html")]
pub(super) struct Args {
    /// The capture that `record` wrote, or an incident that `watch` has kept: its name will do.
    capture: PathBuf,
    /// How to write the report.
    #[arg(long, value_enum, default_value_t = FormatName::Text)]
    format: FormatName,
    /// Where to write the report [default: standard output].
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// The state at this time: 90s since tracing began, -30s before its end, mark:1, 2026-01-31T10:05:00Z.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    at: Option<When>,
    /// Only what was allocated after this time. What of it is live is seen at --to, or at --at if that is later.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<When>,
    /// Only what was allocated up to this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<When>,
    /// Only what was still live at the end and was allocated at least this long before.
    #[arg(long, value_name = "AGE", value_parser = settings::duration)]
    older: Option<Duration>,
    /// Only sites with at least this many live bytes.
    #[arg(long, value_name = "SIZE", value_parser = settings::size)]
    min_size: Option<u64>,
    /// Only sites with at most this many live bytes.
    #[arg(long, value_name = "SIZE", value_parser = settings::size)]
    max_size: Option<u64>,
    /// Which sites come first.
    #[arg(long, value_enum, default_value_t = SortName::Bytes)]
    sort: SortName,
    /// How many sites to show [default: 10 in text, all otherwise].
    #[arg(short = 'T', long, value_name = "N")]
    top: Option<usize>,
    /// Only processes that had this number (repeatable).
    #[arg(long, value_name = "PID")]
    pid: Vec<u32>,
    /// Which processes are looked at as one.
    #[arg(long, value_enum, default_value_t = ByName::Process)]
    by: ByName,
    /// Only blocks of an allocator, only direct mappings, or only what was seen to become resident.
    #[arg(long, value_enum, default_value_t = KindName::All)]
    kind: KindName,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    /// For people.
    Text,
    /// Every number, for programs.
    Json,
    /// One line a stack, for flamegraph tools.
    Folded,
    /// A page for a browser, in one file that works offline.
    Html,
    /// A flame graph to look at in a browser (SVG).
    Flamegraph,
    /// For `go tool pprof`, Pyroscope and Grafana (binary).
    Pprof,
    /// For https://www.speedscope.app
    Speedscope,
    /// For https://profiler.firefox.com
    Firefox,
    /// For valgrind's dh_view.html.
    Dhat,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum SortName {
    Bytes,
    Blocks,
    Growth,
    Age,
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum ByName {
    /// None: each for itself.
    Process,
    /// Those that run the same file.
    Command,
    /// Those of the same control group.
    Cgroup,
    /// All.
    All,
}

impl From<ByName> for By {
    fn from(name: ByName) -> Self {
        match name {
            ByName::Process => Self::Process,
            ByName::Command => Self::Command,
            ByName::Cgroup => Self::Cgroup,
            ByName::All => Self::All,
        }
    }
}

#[derive(Clone, Copy, ValueEnum)]
pub(super) enum KindName {
    Heap,
    Mmap,
    /// Memory that was touched, by samples of page faults.
    Resident,
    /// Heap and mappings; of a recording of the growth tier, resident memory.
    All,
}

impl From<SortName> for Sort {
    fn from(name: SortName) -> Self {
        match name {
            SortName::Bytes => Self::Bytes,
            SortName::Blocks => Self::Blocks,
            SortName::Growth => Self::Growth,
            SortName::Age => Self::Age,
        }
    }
}

impl KindName {
    pub(super) fn query(self) -> Option<String> {
        match self {
            Self::Heap => Some(Kind::Heap.name().to_owned()),
            Self::Mmap => Some(Kind::Mmap.name().to_owned()),
            Self::Resident => Some(Kind::Resident.name().to_owned()),
            Self::All => None,
        }
    }
}

impl Args {
    fn format(&self) -> Format {
        match self.format {
            FormatName::Text => Format::Text,
            FormatName::Json => Format::Json,
            FormatName::Folded => Format::Folded,
            FormatName::Html => Format::Html,
            FormatName::Flamegraph => Format::Flamegraph,
            FormatName::Pprof => Format::Pprof,
            FormatName::Speedscope => Format::Speedscope,
            FormatName::Firefox => Format::Firefox,
            FormatName::Dhat => Format::Dhat,
        }
    }

    fn query(&self, span: &Span) -> Query {
        Query {
            pids: self.pid.clone(),
            by: self.by.into(),
            kind: self.kind.query(),
            older_s: self.older.map(|it| it.as_secs_f64()),
            min_bytes: self.min_size,
            max_bytes: self.max_size,
            sort: self.sort.into(),
            // These tell the kinds apart, and add up each by itself.
            overlapping: matches!(self.format(), Format::Text | Format::Json),
            ..span.query()
        }
    }
}

/// A name that is not here may be one of an incident.
fn find(capture: &Path) -> PathBuf {
    let kept = Path::new(STATE_DIR).join(capture);
    let is_name = capture.file_name() == Some(capture.as_os_str());
    if is_name && !capture.exists() && kept.exists() { kept } else { capture.to_owned() }
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let capture = find(&args.capture);
    let mut options = Options {
        path: capture.display().to_string(),
        top: args.top,
        color: args.output.is_none() && color::on_stdout(),
        ..Options::default()
    };
    let format = args.format();
    if args.output.is_none() && format.is_binary() && io::stdout().is_terminal() {
        let extension = format.extension();
        return Err(Failure::usage(format!(
            "this format is binary and standard output is a terminal: add -o report.{extension}, or a pipe"
        )));
    }
    let span = Span::of(&capture, args.at.as_ref(), args.from.as_ref(), args.to.as_ref())?;
    let mut query = args.query(&span);
    let mut until_s = span.at_s;
    if args.format() == Format::Html {
        // It holds the whole recording, and lets the reader choose another window.
        (options.from_s, options.to_s) = (query.from_s.take(), query.to_s.take());
        until_s = until_s.filter(|_| args.at.is_some());
    }
    let recording = read(&capture, until_s)?;
    let profile = profile(&recording, &query, args.format().shown_sites(&options));
    let is_known = |pid: &&u32| recording.processes.values().any(|it| it.pid == **pid);
    if let Some(pid) = args.pid.iter().find(|it| !is_known(it)) {
        return Err(Failure::target_gone(format!("{} holds no process with pid {pid}", options.path)));
    }
    if args.format() == Format::Folded
        && let Some(sampled) = words::sampled(&profile)
    {
        // The lines have no place for it.
        eprintln!("alloctrace: {sampled}");
    }
    output::fill(args.output.as_deref(), &[&capture], |out| {
        report::write(args.format(), &recording, &profile, &options, out)
    })?;
    Ok(ExitCode::SUCCESS)
}

/// The window in seconds since tracing began; `None`: from the beginning, to the end.
#[derive(Default)]
pub(super) struct Span {
    from_s: Option<f64>,
    to_s: Option<f64>,
    /// How far the capture is to be read.
    pub(super) at_s: Option<f64>,
}

impl Span {
    /// Places what was typed in the capture at `path`.
    pub(super) fn of(
        path: &Path,
        at: Option<&When>,
        from: Option<&When>,
        to: Option<&When>,
    ) -> Result<Self, Failure> {
        if at.is_none() && from.is_none() && to.is_none() {
            return Ok(Self::default());
        }
        let times = open(path)
            .and_then(|file| Ok(capture::read_times(file)?))
            .with_context(|| format!("read the capture {}", path.display()))?;
        let seconds = |option: &str, when: Option<&When>| {
            let resolve =
                |it: &When| it.seconds(&times).map_err(|why| Failure::usage(format!("{option}: {why}")));
            when.map(resolve).transpose()
        };
        let from_s = seconds("--from", from)?;
        let to_s = seconds("--to", to)?;
        // What survives a window is seen at its end, unless a later moment is asked for.
        let at_s = seconds("--at", at)?.or(to_s);
        if let (Some(to_s), Some(at_s)) = (to_s, at_s)
            && at_s < to_s
        {
            return Err(Failure::usage(format!("--at {at_s} s lies before --to {to_s} s")));
        }
        let near = |it: Option<f64>| it.and_then(|it| times.interval_near(it));
        let last = near(to_s.or(at_s).or(Some(f64::MAX)));
        if last.is_none() || near(from_s) >= last {
            let known = match (times.times_s.first(), times.times_s.last()) {
                (Some(first), Some(last)) => {
                    let every = times.header.interval_s;
                    format!("they end every {every} s, the first at {first} s, the last at {last} s")
                }
                _ => "the recording has none".to_owned(),
            };
            return Err(Failure::usage(format!("no interval of the recording ends in that window: {known}")));
        }
        // Up to the interval that is meant, whichever side of the time it ends on.
        let at_s = near(at_s).map(|it| times.times_s[it as usize]);
        Ok(Self { from_s, to_s, at_s })
    }

    pub(super) fn query(&self) -> Query {
        Query { from_s: self.from_s, to_s: self.to_s, ..Query::default() }
    }
}

/// With more, a summary takes those of one program as one.
const MANY_PROCESSES: usize = 5;

/// What `record` says at its end: the report of the capture that was just written.
pub(super) fn summary(path: &Path) -> Result<Grade, Failure> {
    let options =
        Options { path: path.display().to_string(), color: color::on_stdout(), ..Options::default() };
    let recording = read(path, None)?;
    // The same stack in a dozen processes of one program would fill the page.
    let by = if recording.processes.len() > MANY_PROCESSES { By::Command } else { By::Process };
    let query = Query { by, overlapping: true, ..Query::default() };
    let profile = profile(&recording, &query, Format::Text.shown_sites(&options));
    output::fill(None, &[], |out| report::write(Format::Text, &recording, &profile, &options, out))?;
    Ok(profile.grade)
}

fn open(path: &Path) -> anyhow::Result<File> {
    File::open(path).with_context(|| format!("open the capture {}", path.display()))
}

/// The capture, as far as `until_s`.
pub(super) fn read(path: &Path, until_s: Option<f64>) -> anyhow::Result<Recording> {
    let file = open(path)?;
    capture::read(file, until_s).with_context(|| format!("read the capture {}", path.display()))
}

fn profile(recording: &Recording, query: &Query, shown_sites: usize) -> Profile {
    let mut profile = Profile::new(recording, query, shown_sites);
    profile.add_places(&mut LineTable::default());
    profile
}
