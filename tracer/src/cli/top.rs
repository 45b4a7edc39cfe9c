//! `alloctrace top`

use std::{
    fs::{File, OpenOptions},
    io::IsTerminal as _,
    os::unix::fs::OpenOptionsExt as _,
    path::PathBuf,
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;

use super::{
    color,
    exit::Failure,
    report::SortName,
    settings,
    tracing::{self, TracingArgs, runtime},
};
use crate::{
    kernel::Streams,
    live::{Ending, Ends, Onlooker, Options, Recorder, Run, Saving, Signals, Style},
    view::View,
};

/// Watch who holds the memory of a running process.
///
/// Takes the terminal over; without one, or with --once, prints blocks of lines. An attached process is
/// never stopped or signalled, and goes on when you quit.
#[derive(clap::Args)]
#[command(
    override_usage = "alloctrace top [OPTIONS] -p PID...\n       alloctrace top [OPTIONS] -n COMM | --cgroup PATH | --container ID | -a\n       alloctrace top [OPTIONS] -- COMMAND [ARGS]...",
    after_help = "\
Examples:
  alloctrace top -p 1234
  alloctrace top -p 1234 --once -d 10s --sort growth
  alloctrace top -- ./server --port 80

Keys:
  ?  shows them all

Signals:
  SIGINT, SIGTERM  end the tracing
  SIGUSR1          takes an interval now
  SIGUSR2          places a mark"
)]
pub(super) struct Args {
    #[command(flatten)]
    tracing: TracingArgs,
    /// How often the view is brought up to date.
    #[arg(short, long, value_name = "INTERVAL", default_value = "1s", value_parser = settings::duration)]
    interval: Duration,
    /// End the tracing after this time, for example 60s or 5m [default: when the target ends, or you quit].
    #[arg(short, long, value_name = "DUR", value_parser = settings::duration)]
    duration: Option<Duration>,
    /// Print one table, after --duration or one interval, and end.
    #[arg(long, conflicts_with = "count")]
    once: bool,
    /// Print this many tables and end.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    count: Option<u32>,
    /// What comes first.
    #[arg(long, value_enum, default_value_t = SortName::Bytes)]
    sort: SortName,
    /// How many sites a printed table shows.
    #[arg(short = 'T', long, value_name = "N", default_value_t = 20)]
    top: usize,
}

impl Args {
    fn style(&self) -> Style {
        let is_screen = std::io::stdout().is_terminal()
            && std::env::var_os("TERM").is_some_and(|it| it != "dumb")
            && !self.once
            && self.count.is_none();
        if is_screen {
            return Style::Screen { has_colours: color::on_stdout() };
        }
        let count = if self.once { Some(1) } else { self.count.map(|it| it as usize) };
        Style::Lines { count, sites: self.top, at_end: self.once && self.duration.is_some() }
    }
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let style = args.style();
    let is_launched = !args.tracing.target.command.is_empty();
    let is_screen = matches!(style, Style::Screen { .. });
    // What a launched command writes would go across the screen.
    let log = if is_screen && is_launched { Some(Log::create()?) } else { None };
    let shown = runtime()?.block_on(show(args, style, log.as_ref()));
    let kept = log.and_then(Log::tidy);
    let ending = shown?;
    if let Some(path) = &kept {
        eprintln!("alloctrace: what the command wrote is in {}", path.display());
    }
    if is_launched && ending != Ending::TargetEnded {
        eprintln!("alloctrace: the command goes on");
    }
    Ok(ExitCode::SUCCESS)
}

async fn show(args: &Args, style: Style, log: Option<&Log>) -> Result<Ending, Failure> {
    let prepared = args.tracing.prepare(log.map_or(Streams::Ours, |it| Streams::File(&it.file)))?;
    let is_screen = matches!(style, Style::Screen { .. });
    // Before anything is attached, so that a signal never ends us without a word.
    let mut signals = Signals::new()?;
    let kernel = tracing::start(&prepared.settings)?;
    let about = args.tracing.about(&prepared, &kernel, args.interval, jiff::Timestamp::now());
    eprintln!("alloctrace: ready");
    if is_screen && std::io::stderr().is_terminal() {
        // It would go across the screen.
        log::set_max_level(log::LevelFilter::Off);
    }
    let saving = Saving { name: prepared.name, tgid: prepared.tgid };
    let (mut onlooker, Ends { sink, requests }) =
        Onlooker::start(View::new(args.sort.into()), style, about.header(), saving)
            .context("show the view")?;
    let recorder = Recorder::start(sink, &about, "show the view".to_owned())?;
    let run = Run::new(kernel, recorder, prepared.launched, args.tracing.max_overhead);
    let options = Options {
        interval: args.interval,
        duration: args.duration,
        progress: false,
        warnings: !is_screen,
        tier: args.tracing.tier.into(),
    };
    let followed = run.follow(&options, &mut signals, requests).await;
    let ending = match &followed {
        // The probes go while the viewer still looks.
        Ok((ending, _)) => Some(*ending),
        Err(_) => None,
    };
    let detaching = followed.map(|(_, detaching)| detaching);
    if matches!(ending, Some(Ending::TargetEnded | Ending::Duration)) {
        tokio::select! {
            () = onlooker.ended() => {}
            () = signals.end() => {}
        }
    }
    // The terminal first: whatever went wrong is to be read there.
    let shown = onlooker.leave();
    let _ = detaching?.join();
    shown.context("show the view")?;
    Ok(ending.unwrap_or(Ending::Signal))
}

/// Where a launched command writes while the screen is taken.
struct Log {
    file: File,
    path: PathBuf,
}

impl Log {
    fn create() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("alloctrace.{}.log", std::process::id()));
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&path)
            .with_context(|| format!("create {} for what the command writes", path.display()))?;
        Ok(Self { file, path })
    }

    /// Where it is, if there is anything in it.
    fn tidy(self) -> Option<PathBuf> {
        if self.file.metadata().is_ok_and(|it| it.len() > 0) {
            return Some(self.path);
        }
        let _ = std::fs::remove_file(&self.path);
        None
    }
}
