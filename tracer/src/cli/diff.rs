//! `alloctrace diff`

use std::{
    io::{self, Write},
    path::PathBuf,
    process::ExitCode,
};

use clap::ValueEnum;

use super::{
    color,
    exit::Failure,
    output,
    report::{ByName, KindName, Span, read},
    settings,
    when::When,
};
use crate::{
    profile::{Difference, Profile, Query},
    report::{
        Options,
        difference::{self, Paths},
    },
    symbol::LineTable,
};

/// Compare two captures of one program, before and after a change.
///
/// Sites are matched by the names along their stacks, so the two may be of different builds. A site is noise if it
/// does not grow and the change is no larger than what its live bytes move by within the recordings.
#[derive(clap::Args)]
#[command(after_help = "Examples:\n  alloctrace diff before.jsonl.zst after.jsonl.zst\n  \
    alloctrace diff before.jsonl.zst after.jsonl.zst --format json | jq '.sites[0]'\n  \
    alloctrace diff before.jsonl.zst after.jsonl.zst --format html -o diff.html\n  \
    alloctrace diff before.jsonl.zst after.jsonl.zst --format flamegraph -o diff.svg\n  \
    alloctrace diff a.jsonl.zst b.jsonl.zst --normalize --fail-on-growth 64KiB\n\n\
    Exit code 3: a site has grown, with --fail-on-growth.")]
pub(super) struct Args {
    /// The capture from before the change.
    before: PathBuf,
    /// The capture from after it.
    after: PathBuf,
    /// How to write the report.
    #[arg(long, value_enum, default_value_t = FormatName::Text)]
    format: FormatName,
    /// Where to write the report [default: standard output].
    #[arg(short, long, value_name = "OUT")]
    output: Option<PathBuf>,
    /// Show what was before as if it had been watched as long as what is after: allocations go on at their rate, and
    /// sites that grew go on growing.
    #[arg(long)]
    normalize: bool,
    /// Exit with code 3 if the live bytes of any site have grown by more than this, beyond noise.
    #[arg(long, value_name = "SIZE", num_args = 0..=1, default_missing_value = "0", value_parser = settings::size)]
    fail_on_growth: Option<u64>,
    /// In both captures, only what was allocated after this time; forms as in `report`.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    from: Option<When>,
    /// In both captures, only what was allocated up to this time.
    #[arg(long, value_name = "TIME", allow_hyphen_values = true)]
    to: Option<When>,
    /// How many sites to show [default: 10 in text, all otherwise].
    #[arg(short = 'T', long, value_name = "N")]
    top: Option<usize>,
    /// Which processes are looked at as one; processes of one name always are.
    #[arg(long, value_enum, default_value_t = ByName::Process)]
    by: ByName,
    /// Only blocks of an allocator, or only direct mappings.
    #[arg(long, value_enum, default_value_t = KindName::All)]
    kind: KindName,
}

#[derive(Clone, Copy, ValueEnum)]
enum FormatName {
    /// For people.
    Text,
    /// Every number, for programs.
    Json,
    /// A line for each stack: its bytes before and after.
    Folded,
    /// A picture: red where it is more after, blue where it is less.
    Flamegraph,
    /// A page for a browser, in one file.
    Html,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let (before, after) = (profile(args, &args.before)?, profile(args, &args.after)?);
    let mut difference = Difference::new(before, after, args.normalize);
    difference.add_places(&mut LineTable::default());
    output::fill(args.output.as_deref(), &[&args.before, &args.after], |out| write(args, &difference, out))?;
    match args.fail_on_growth {
        Some(allowed_bytes) => judge(&difference, allowed_bytes),
        None => Ok(ExitCode::SUCCESS),
    }
}

fn profile(args: &Args, path: &std::path::Path) -> Result<Profile, Failure> {
    let span = Span::of(path, None, args.from.as_ref(), args.to.as_ref())?;
    let query = Query { kind: args.kind.query(), by: args.by.into(), ..span.query() };
    Ok(Profile::new(&read(path, span.at_s)?, &query, usize::MAX))
}

fn write(args: &Args, difference: &Difference, out: &mut dyn Write) -> io::Result<()> {
    let paths = Paths { before: args.before.display().to_string(), after: args.after.display().to_string() };
    let options = Options {
        path: paths.after.clone(),
        top: args.top,
        color: args.output.is_none() && color::on_stdout(),
        ..Options::default()
    };
    match args.format {
        FormatName::Text => difference::write_text(difference, &paths, &options, out),
        FormatName::Json => difference::write_json(difference, &paths, &options, out),
        FormatName::Html => difference::write_html(difference, &paths, &options, out),
        FormatName::Folded => difference::write_folded(difference, &options, out),
        FormatName::Flamegraph => difference::write_flamegraph(difference, &options, out),
    }
}

fn judge(difference: &Difference, allowed_bytes: u64) -> Result<ExitCode, Failure> {
    let change = |it: &crate::profile::Pair| it.live_change().bytes;
    let grown = difference.pairs.iter().filter(|it| !it.is_noise && change(it) > allowed_bytes as i64);
    match grown.count() {
        0 => Ok(ExitCode::SUCCESS),
        count => Err(Failure::breach(format!(
            "{count} {} grown by more than {} between the two captures",
            if count == 1 { "site has" } else { "sites have" },
            crate::report::units::bytes(allowed_bytes as i64)
        ))),
    }
}
