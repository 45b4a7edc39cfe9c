//! `alloctrace incidents`

use std::{
    io::{self, BufWriter, Write},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use serde_json::{Value, json};

use super::exit::Failure;
use crate::{
    capture::IncidentRow,
    live::{self, Incidents, Kept},
    report::{
        escape::printable,
        units,
        words::{self, shorten},
    },
    watch::STATE_DIR,
};

/// List what `watch` has kept of processes that were killed, the newest first.
#[derive(clap::Args)]
#[command(after_help = "Examples:
  alloctrace incidents
  alloctrace report incident.app.1234.20260131T100500Z.jsonl.zst
  alloctrace incidents --json | jq -r '.[0].path'")]
pub(super) struct Args {
    /// Where they are kept [default: /var/lib/alloctrace].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Everything that is known of each but its stacks, for programs.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let directory = args.state_dir.as_deref().unwrap_or(Path::new(STATE_DIR));
    let Incidents { kept, unreadable } = live::incidents(directory)
        .with_context(|| format!("list the incidents in {}", directory.display()))?;
    let mut out = BufWriter::new(io::stdout().lock());
    if args.json {
        let all =
            kept.iter().map(row).collect::<serde_json::Result<Vec<Value>>>().map_err(io::Error::from)?;
        serde_json::to_writer(&mut out, &all).map_err(io::Error::from)?;
        writeln!(out)?;
    } else if kept.is_empty() {
        eprintln!("alloctrace: no incidents in {}", directory.display());
    } else {
        table(&kept, &mut out)?;
    }
    out.flush()?;
    for (path, why) in unreadable {
        eprintln!("alloctrace: {}: {}", printable(&path.to_string_lossy()), printable(&why));
    }
    Ok(ExitCode::SUCCESS)
}

fn row(kept: &Kept) -> serde_json::Result<Value> {
    let mut row = serde_json::to_value(&kept.incident)?;
    row["path"] = json!(kept.path.to_string_lossy());
    Ok(row)
}

/// Enough to recognise a function that is a page long.
const FUNCTION_CHARS: usize = 40;

fn table(kept: &[Kept], out: &mut impl Write) -> io::Result<()> {
    let titles = ["TIME", "KIND", "VICTIM", "HELD", "MOST IN", "FILE"].map(str::to_owned);
    let rows: Vec<[String; 6]> = std::iter::once(titles).chain(kept.iter().map(cells)).collect();
    let width = |column: usize| rows.iter().map(|it| it[column].chars().count()).max().unwrap_or(0);
    let widths: [usize; 6] = std::array::from_fn(width);
    for row in &rows {
        let [time, kind, victim, held, function, file] = row;
        let [time_width, kind_width, victim_width, held_width, function_width, _] = widths;
        writeln!(
            out,
            "{time:time_width$}  {kind:kind_width$}  {victim:victim_width$}  {held:>held_width$}  {function:function_width$}  {file}"
        )?;
    }
    Ok(())
}

fn cells(Kept { path, incident }: &Kept) -> [String; 6] {
    let IncidentRow { time, victim, .. } = incident;
    let victim = victim.as_ref();
    let file = path.file_name().unwrap_or_default().to_string_lossy();
    [
        printable(time).into_owned(),
        words::incident_kind(incident),
        victim.map_or_else(String::new, |it| format!("{} ({})", printable(&it.name), it.pid)),
        victim.map_or_else(String::new, |it| units::bytes(it.live_bytes)),
        victim
            .and_then(|it| it.function.as_deref())
            .map_or_else(String::new, |it| shorten(it, FUNCTION_CHARS)),
        printable(&file).into_owned(),
    ]
}
