//! `alloctrace report`

use std::{
    fs::File,
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use clap::ValueEnum;

use super::{exit::Failure, settings};
use crate::{
    capture,
    event::Kind,
    profile::{Profile, Query, Sort, trust::Grade},
    report::{self, Format, Options},
    symbol::LineTable,
};

/// Read a capture and say who holds the memory.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  alloctrace report app.jsonl.zst --sort growth -T 20\n  \
    alloctrace report app.jsonl.zst --format json | jq '.sites[0]'\n  \
    alloctrace report app.jsonl.zst --format folded -o app.folded")]
pub(super) struct Args {
    capture: PathBuf,
    #[arg(long, value_enum, default_value_t = FormatName::Text)]
    format: FormatName,
    /// Where to write the report [default: standard output].
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Only what was still live at the end and was allocated at least this long before.
    #[arg(long, value_name = "AGE", value_parser = settings::duration)]
    older: Option<Duration>,
    /// Only sites with at least this many live bytes.
    #[arg(long, value_name = "SIZE", value_parser = settings::size)]
    min_size: Option<u64>,
    /// Only sites with at most this many live bytes.
    #[arg(long, value_name = "SIZE", value_parser = settings::size)]
    max_size: Option<u64>,
    #[arg(long, value_enum, default_value_t = SortName::Bytes)]
    sort: SortName,
    /// How many sites to show [default: 10 in text, all otherwise].
    #[arg(short = 'T', long, value_name = "N")]
    top: Option<usize>,
    /// Only this process.
    #[arg(long, value_name = "PID")]
    pid: Option<u32>,
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
}

#[derive(Clone, Copy, ValueEnum)]
enum SortName {
    Bytes,
    Blocks,
    Growth,
    Age,
}

#[derive(Clone, Copy, ValueEnum)]
enum KindName {
    Heap,
    Mmap,
    All,
}

impl Args {
    fn format(&self) -> Format {
        match self.format {
            FormatName::Text => Format::Text,
            FormatName::Json => Format::Json,
            FormatName::Folded => Format::Folded,
        }
    }

    fn query(&self) -> Query {
        Query {
            from_s: None,
            to_s: None,
            pid: self.pid,
            kind: match self.kind {
                KindName::Heap => Some(Kind::Heap.name().to_owned()),
                KindName::Mmap => Some(Kind::Mmap.name().to_owned()),
                KindName::All => None,
            },
            older_s: self.older.map(|it| it.as_secs_f64()),
            min_bytes: self.min_size,
            max_bytes: self.max_size,
            sort: match self.sort {
                SortName::Bytes => Sort::Bytes,
                SortName::Blocks => Sort::Blocks,
                SortName::Growth => Sort::Growth,
                SortName::Age => Sort::Age,
            },
        }
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let options = Options { path: args.capture.display().to_string(), top: args.top };
    let profile = profile(&args.capture, &args.query(), args.format().shown_sites(&options))?;
    if let Some(pid) = args.pid
        && profile.processes.is_empty()
    {
        return Err(Failure::target_gone(format!("{} holds no process with pid {pid}", options.path)));
    }
    match &args.output {
        None => write(args.format(), &profile, &options, io::stdout().lock())?,
        Some(path) => {
            let file = File::create(path).with_context(|| format!("create the report {}", path.display()))?;
            write(args.format(), &profile, &options, file)
                .with_context(|| format!("write the report {}", path.display()))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// What `record` says at its end: the report of the capture that was just written.
pub(super) fn summary(path: &Path) -> Result<Grade, Failure> {
    let options = Options { path: path.display().to_string(), top: None };
    let profile = profile(path, &Query::default(), Format::Text.shown_sites(&options))?;
    write(Format::Text, &profile, &options, io::stdout().lock())?;
    Ok(profile.grade)
}

fn profile(path: &Path, query: &Query, shown_sites: usize) -> anyhow::Result<Profile> {
    let file = File::open(path).with_context(|| format!("open the capture {}", path.display()))?;
    let recording =
        capture::read(file, None).with_context(|| format!("read the capture {}", path.display()))?;
    let mut profile = Profile::new(&recording, query, shown_sites);
    profile.add_places(&mut LineTable::default());
    Ok(profile)
}

fn write(format: Format, profile: &Profile, options: &Options, out: impl Write) -> io::Result<()> {
    let mut out = BufWriter::new(out);
    report::write(format, profile, options, &mut out)?;
    out.flush()
}
