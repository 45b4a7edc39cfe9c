//! `alloctrace record`

use std::{
    fs::{File, OpenOptions},
    path::{Path, PathBuf},
    process::ExitCode,
    thread::JoinHandle,
    time::Duration,
};

use anyhow::Context as _;

use super::{
    exit::Failure,
    report,
    sample::SampleArgs,
    settings::{self, TargetArgs},
    tracing::{self, MemoryArgs, PoolArgs, TierName, TracingArgs, runtime},
};
use crate::{
    capture::Writer,
    kernel::Streams,
    live::{self, Options, Recorder, Run, Signals},
    profile::trust::Grade,
};

/// Trace allocations, print a summary, and write a capture.
///
/// An attached process is never stopped or signalled. Ctrl-C ends the recording, not the process.
///
/// In the end the probes are switched off at once. The kernel takes a moment to remove them; a child of this program,
/// "alloctrace: removing probes", waits for that.
#[derive(clap::Args)]
#[command(
    override_usage = "alloctrace record [OPTIONS] -p PID...\n       alloctrace record [OPTIONS] -n COMM | --cgroup PATH | --container ID | -a\n       alloctrace record [OPTIONS] -- COMMAND [ARGS]...",
    after_help = "\
Examples:
  alloctrace record -p 1234 -d 60s
  alloctrace record -n nginx -d 60s
  alloctrace record --cgroup system.slice/app.service
  alloctrace record -o leak.jsonl.zst -- ./server --port 80

Signals:
  SIGINT, SIGTERM  end the recording
  SIGUSR1          takes an interval now
  SIGUSR2          places a mark"
)]
pub(super) struct Args {
    #[command(flatten)]
    pub(super) tracing: TracingArgs,
    /// Where to write the capture [default: alloctrace.NAME.PID.TIME.jsonl.zst].
    #[arg(short, long, value_name = "FILE")]
    pub(super) output: Option<PathBuf>,
    /// Overwrite an existing capture.
    #[arg(long)]
    pub(super) force: bool,
    /// End after this time, for example 60s or 5m [default: when the target ends, or at Ctrl-C].
    #[arg(short, long, value_name = "DUR", value_parser = settings::duration)]
    pub(super) duration: Option<Duration>,
    /// How often the state is written down.
    #[arg(short, long, value_name = "INTERVAL", default_value = "1s", value_parser = settings::duration)]
    pub(super) interval: Duration,
    /// Exit with code 4 if the result deserves less trust than this grade, A to F.
    #[arg(long, value_name = "GRADE")]
    pub(super) min_trust: Option<Grade>,
}

pub(super) fn run(args: Args) -> Result<ExitCode, Failure> {
    let (_, grade) = record(&args, Streams::Ours)?.summary()?;
    match args.min_trust {
        Some(wanted) if grade > wanted => {
            Err(Failure::trust(format!("the result has trust grade {grade}, wanted at least {wanted}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// What `demo` does: an ordinary recording of a running process.
pub(super) fn demo(tgid: u32, duration: Duration) -> Result<PathBuf, Failure> {
    let args = Args {
        tracing: TracingArgs {
            target: TargetArgs { pid: vec![tgid], ..TargetArgs::default() },
            follow: false,
            no_follow: true,
            tier: TierName::Exact,
            max_overhead: None,
            sample: SampleArgs::default(),
            ring: None,
            memory: MemoryArgs::default(),
            pools: PoolArgs::default(),
        },
        output: None,
        force: false,
        duration: Some(duration),
        interval: Duration::from_millis(500),
        min_trust: None,
    };
    let (path, _) = record(&args, Streams::Ours)?.summary()?;
    Ok(path)
}

/// A capture, and the probes on their way out of the kernel.
pub(super) struct Recorded {
    path: PathBuf,
    detaching: JoinHandle<()>,
}

impl Recorded {
    /// Prints the report, then waits for the probes: one thread that ends takes them out one by one.
    fn summary(self) -> Result<(PathBuf, Grade), Failure> {
        let grade = report::summary(&self.path);
        eprintln!("alloctrace: capture written to {}", self.path.display());
        let path = self.path.clone();
        self.detach();
        Ok((path, grade?))
    }

    /// Waits for the probes: the kernel would take them out anyway, but later.
    pub(super) fn detach(self) {
        let _ = self.detaching.join();
    }
}

/// Traces the target and writes the capture; `streams` are those of a launched command.
pub(super) fn record(args: &Args, streams: Streams<'_>) -> Result<Recorded, Failure> {
    let prepared = args.tracing.prepare(streams)?;
    // Before anything is attached: a wrong path must not cost the target a trap.
    let now = jiff::Timestamp::now();
    let path = args.output.clone().unwrap_or_else(|| {
        live::default_capture_path(&prepared.name, prepared.tgid, &now.strftime("%Y%m%dT%H%M%SZ").to_string())
    });
    runtime()?.block_on(async {
        // Before anything is attached, so that a signal never ends us without a word.
        let mut signals = Signals::new()?;
        let output = Output::create(&path, args.force)?;
        let kernel = match tracing::start(&prepared.settings) {
            Ok(kernel) => kernel,
            Err(error) => {
                output.remove();
                return Err(error);
            }
        };
        let about = args.tracing.about(&prepared, &kernel, args.interval, now);
        output.empty()?;
        let purpose = format!("write the capture {}", path.display());
        let writer = Writer::new(output.file, about.header()).with_context(|| purpose.clone())?;
        let recorder =
            Recorder::start(writer, &about, format!("{purpose}; what was written until now is readable"))?;
        let run = Run::new(kernel, recorder, prepared.launched, args.tracing.max_overhead);
        eprintln!("alloctrace: ready");
        let options = Options {
            interval: args.interval,
            duration: args.duration,
            progress: true,
            warnings: true,
            tier: args.tracing.tier.into(),
        };
        let (ending, detaching) = run.follow(&options, &mut signals, live::no_requests()).await?;
        log::info!("ended: {}", ending.name());
        Ok(Recorded { path, detaching })
    })
}

/// The capture's file, as long as nothing is in it.
struct Output {
    file: File,
    path: PathBuf,
    existed: bool,
}

impl Output {
    fn create(path: &Path, force: bool) -> anyhow::Result<Self> {
        let existed = path.exists();
        let mut options = OpenOptions::new();
        // What an old capture holds is given up only when there will be a new one.
        options.write(true).truncate(false);
        if force {
            options.create(true)
        } else {
            options.create_new(true)
        };
        let file = options.open(path).with_context(|| {
            let hint =
                if existed && !force { " (give another name with -o, or --force to overwrite)" } else { "" };
            format!("create the capture {}{hint}", path.display())
        })?;
        Ok(Self { file, path: path.to_owned(), existed })
    }

    /// Gives up what an old capture holds. Devices and pipes hold nothing.
    fn empty(&self) -> anyhow::Result<()> {
        if self.existed && self.file.metadata()?.is_file() {
            self.file.set_len(0).with_context(|| format!("empty the old capture {}", self.path.display()))?;
        }
        Ok(())
    }

    /// Leaves no empty file behind when nothing could be traced.
    fn remove(&self) {
        if !self.existed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}
