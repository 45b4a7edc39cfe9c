//! `alloctrace watch`

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::Context as _;
use tokio::signal::unix::{SignalKind, signal};

use super::{
    exit::Failure,
    settings,
    tracing::{self, TracingArgs, runtime},
};
use crate::{
    kernel::{MemoryBound, Streams, endure},
    live::{BlackBox, Ends, Guard, Options, Place, Reception, Recorder, Run, Signals},
    serve::Limits,
    watch::{Config, HttpConfig, Listen, STATE_DIR, Trigger},
};

/// Watch processes for as long as it takes, nearly for free, and look closely at those that grow.
///
/// Without a target it is about every process of this machine. No process is stopped or signalled.
#[derive(clap::Args)]
#[command(
    override_usage = "alloctrace watch [OPTIONS] [-p PID... | -n COMM | --cgroup PATH | --container ID | -a]\n       alloctrace watch [OPTIONS] -- COMMAND [ARGS]...",
    mut_group("TargetArgs", |it| it.required(false)),
    mut_arg("tier", |it| it.default_value("auto")),
    mut_arg("max_memory", |it| it.help(MAX_MEMORY).long_help(MAX_MEMORY)),
    mut_arg("ring", |it| it.help(RING).long_help(RING)),
    after_help = "\
Examples:
  alloctrace watch
  alloctrace watch -n postgres --trigger cgroup-share=70%,growth=1MiB/min --trigger suspicious
  alloctrace watch --cgroup system.slice --config /etc/alloctrace/watch.toml

Signals:
  SIGINT, SIGTERM  end the watch
  SIGHUP           reads the configuration again; if that is wrong, the old one stays

The watch of -p and of a command ends with the last of these processes; any other waits for whoever
comes."
)]
pub(super) struct Args {
    #[command(flatten)]
    tracing: TracingArgs,
    /// What to look out for, and what to do then, in TOML.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where incidents are kept, and the black box [default: /var/lib/alloctrace].
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Where questions over HTTP are answered: HOST:PORT, unix:PATH or none [default: 127.0.0.1:9464]
    #[arg(long, value_name = "WHERE")]
    listen: Option<Listen>,
    /// When to follow every allocation of a process, as 'rss-share=80%,growth=1MiB/min'; repeat for several.
    ///
    /// All conditions of one must hold, and any one is enough:
    ///   rss-share=SHARE       resident memory, of what the process may have
    ///   cgroup-share=SHARE    memory of a control group it is in, of what that may have, without files' pages that
    ///                         nobody has used lately
    ///   growth=RATE           resident memory grows faster than, for example, 1MiB/min
    ///   pressure=SHARE        of the last 10 s in which somebody in its group, or on the machine, waited for memory
    ///   time-to-limit=TIME    if growth goes on, until it or its group has all that it may have
    ///   suspicious            resident memory has grown by 1 MiB and 2 %, and goes on
    /// and besides:
    ///   for=TIME              the time of that growth [default: 1m]; without growth, how long all must have held
    ///   calm=TIME             how long they must not hold before the process is let go [default: 1m]
    ///   name=COMM, cgroup=PATH  only for such processes
    /// In a configuration file each is a table [[trigger]] with the same names. Without any: suspicious; and growth of
    /// 1MiB/min for 10s with rss-share or cgroup-share of 80% or a time-to-limit of 2m. At most 30 processes are followed
    /// at once, those nearest to what they may have first.
    #[arg(long = "trigger", value_name = "SPEC", verbatim_doc_comment)]
    triggers: Vec<Trigger>,
    /// How often it is looked where everybody stands.
    #[arg(short, long, value_name = "INTERVAL", default_value = "1s", value_parser = settings::duration)]
    interval: Duration,
}

/// It is to run beside others for as long as the machine does.
const MOST_MEMORY_BYTES: u64 = 1 << 30;

/// Most of what is watched says little, and a process that is followed is one of few.
const RING_BYTES: u32 = 16 << 20;

const MAX_MEMORY: &str = "The most memory that alloctrace itself may take, as `ps` shows it and with its maps in the kernel \
    [default: 1GiB, or a quarter of what the machine or our control group has if that is less]. Every live block of a \
    process that is followed takes 16 to 23 bytes; blocks for which there is no room count as freed at once, and are \
    counted as untracked_blocks and untracked_bytes";

const RING: &str = "Memory for events on their way to us; a power of two [default: 16MiB, or a sixteenth of --max-memory if \
    that is less]";

pub(super) fn run(mut args: Args) -> Result<ExitCode, Failure> {
    let bound = MemoryBound(MemoryBound::usual().0.min(MOST_MEMORY_BYTES));
    let bound = MemoryBound(*args.tracing.memory.max_memory.get_or_insert(bound.0));
    args.tracing.ring.get_or_insert(bound.ring_bytes().min(RING_BYTES));
    runtime()?.block_on(keep_watch(&args))?;
    Ok(ExitCode::SUCCESS)
}

async fn keep_watch(args: &Args) -> Result<(), Failure> {
    let config = args.config()?;
    // Before anything is attached: a wrong directory must not cost the targets a trap.
    let state_dir = args.state_dir.clone().or(config.state_dir.clone()).unwrap_or_else(|| STATE_DIR.into());
    let black_box = BlackBox::open(&state_dir, &config)?;
    let http = config.http.clone();
    let place = take_place(args, &http)?;
    let prepared = args.tracing.prepare(Streams::Ours)?;
    // Before anything is attached, so that a signal never ends us without a word.
    let mut signals = Signals::new()?;
    let mut reload = signal(SignalKind::hangup())?;
    let kernel = tracing::start(&prepared.settings)?;
    // A command that was launched has begun by now, and is not to be like us.
    for missing in endure() {
        eprintln!("alloctrace: {missing}");
    }
    let about = args.tracing.about(&prepared, &kernel, args.interval, jiff::Timestamp::now());
    let (guard, Ends { sink, requests }) =
        Guard::start(about.header(), config, black_box).context("keep watch")?;
    let usual = Limits::default();
    let limits = Limits {
        processes: http.max_processes.unwrap_or(usual.processes),
        sites: http.max_sites.unwrap_or(usual.sites),
    };
    let open = |it: Place| Reception::open(it, guard.asker(), state_dir, limits);
    let reception = place.map(open).transpose().context("answer over HTTP")?;
    let recorder = Recorder::start(sink, &about, "keep watch".to_owned())?;
    let mut run = Run::new(kernel, recorder, prepared.launched, args.tracing.max_overhead);
    run.keep_lean();
    eprintln!("alloctrace: ready");
    let options = Options {
        interval: args.interval,
        duration: None,
        progress: false,
        warnings: true,
        tier: args.tracing.tier.into(),
    };
    let followed = {
        let follow = run.follow(&options, &mut signals, requests);
        tokio::pin!(follow);
        loop {
            tokio::select! {
                followed = &mut follow => break followed,
                _ = reload.recv() => match args.config() {
                    Ok(config) => {
                        guard.configure(config);
                        eprintln!("alloctrace: the configuration has been read again");
                    }
                    // What held goes on to hold.
                    Err(failure) => eprintln!("alloctrace: the old configuration goes on to hold: {failure}"),
                },
            }
        }
    };
    if let Some(reception) = reception {
        reception.close();
    }
    guard.leave();
    let _ = followed?.1.join();
    Ok(())
}

impl Args {
    /// What the file says, and what was typed besides.
    fn config(&self) -> Result<Config, Failure> {
        let mut config = self.config.as_deref().map(read).transpose()?.unwrap_or_default();
        if !self.triggers.is_empty() {
            config.triggers.get_or_insert_default().extend_from_slice(&self.triggers);
        }
        Ok(config)
    }
}

fn read(path: &Path) -> Result<Config, Failure> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("read the configuration {}", path.display()))
        .map_err(Failure::from)?;
    Config::parse(&text).map_err(|error| Failure::usage(format!("{}: {error}", path.display())))
}

/// Before anything is attached: that a port is taken should be known at once.
fn take_place(args: &Args, http: &HttpConfig) -> Result<Option<Place>, Failure> {
    let usual = Listen::Tcp(Listen::USUAL.to_owned());
    let listen = args.listen.as_ref().or(http.listen.as_ref()).unwrap_or(&usual);
    let place = Place::take(listen)
        .with_context(|| format!("listen at {listen}; --listen takes another place, or none"))?;
    if let Some(place) = &place {
        eprintln!("alloctrace: answers at {}", place.name());
        if place.is_public() {
            eprintln!("alloctrace: whoever can reach this machine can read there what its processes do");
        }
    }
    Ok(place)
}
