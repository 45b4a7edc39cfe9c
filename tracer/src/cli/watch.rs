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
    kernel::Streams,
    live::{About, BlackBox, Ends, Guard, Options, Place, Reception, Recorder, Run, Signals},
    serve::Limits,
    watch::{Config, HttpConfig, Listen, STATE_DIR},
};

/// Watch processes for as long as it takes, nearly for free, and look closely at those that grow.
///
/// Without a target it is about every process of this machine. No process is stopped or signalled.
#[derive(clap::Args)]
#[command(
    override_usage = "alloctrace watch [OPTIONS] [-p PID... | -n COMM | --cgroup PATH | --container ID | -a]\n       alloctrace watch [OPTIONS] -- COMMAND [ARGS]...",
    mut_group("TargetArgs", |it| it.required(false)),
    mut_arg("tier", |it| it.default_value("auto")),
    after_help = "\
Examples:
  alloctrace watch
  alloctrace watch --cgroup system.slice --config /etc/alloctrace/watch.toml

Signals:
  SIGINT, SIGTERM  end the watch
  SIGHUP           reads the configuration again"
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
    /// How often it is looked where everybody stands.
    #[arg(short, long, value_name = "INTERVAL", default_value = "1s", value_parser = settings::duration)]
    interval: Duration,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    runtime()?.block_on(keep_watch(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn keep_watch(args: &Args) -> Result<(), Failure> {
    let config = args.config.as_deref().map(read).transpose()?.unwrap_or_default();
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
    let about = About {
        started: jiff::Timestamp::now().to_string(),
        target: prepared.description,
        interval: args.interval,
        tier: args.tracing.tier.into(),
        max_overhead: args.tracing.max_overhead,
        is_calibrated: kernel.prices().traps.is_calibrated,
        started_ns: crate::kernel::now_ns(),
        pools: prepared.settings.pools.names(),
        sample_bytes: prepared.settings.sample_bytes(),
    };
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
    let run = Run::new(kernel, recorder, prepared.launched, args.tracing.max_overhead);
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
                _ = reload.recv() => match args.config.as_deref().map(read).transpose() {
                    Ok(config) => {
                        guard.configure(config.unwrap_or_default());
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
