//! `alloctrace demo`: a result within a minute of cloning.

use std::{
    collections::HashMap,
    hint::black_box,
    io::{self, Write as _},
    process::{Command, ExitCode, Stdio},
    thread,
    time::Duration,
};

use super::{exit::Failure, record};
use crate::kernel::LibcBlock;

/// The hidden command that is the traced child.
pub(super) const LEAK_COMMAND: &str = "__demo-leak";

/// Trace a built-in child that leaks, and show what the reports say of it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  alloctrace demo
  alloctrace demo -d 20s

Signals:
  SIGINT, SIGTERM  end the tracing; the report follows")]
pub(super) struct Args {
    /// How long to trace.
    #[arg(short, long, value_name = "DUR", default_value = "5s", value_parser = super::settings::duration)]
    duration: Duration,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut child = Command::new(std::env::current_exe()?).arg(LEAK_COMMAND).stdin(Stdio::piped()).spawn()?;
    eprintln!(
        "alloctrace: process {} runs and forgets some of what it allocates; attaching to it as to any other",
        child.id()
    );
    let recorded = record::demo(child.id(), args.duration);
    // The child ends with its standard input.
    drop(child.stdin.take());
    child.wait()?;
    let path = recorded?;
    let mut out = io::stdout().lock();
    writeln!(out, "\nThe same capture in other forms:")?;
    let forms = [
        ("html -o leak.html", "a page for a browser, offline"),
        ("flamegraph -o leak.svg", "a picture"),
        ("json", "every site, for programs"),
        ("folded", "one line a stack, for flamegraph tools"),
        ("pprof -o leak.pb.gz", "for go tool pprof; also: speedscope, firefox, dhat"),
    ];
    for (form, what) in forms {
        writeln!(out, "  alloctrace report {} --format {form:<22}  {what}", path.display())?;
    }
    Ok(ExitCode::SUCCESS)
}

/// The child: serves requests for ever, and forgets one kind of memory in each.
pub(super) fn leak() -> Result<ExitCode, Failure> {
    thread::spawn(|| {
        // Ends with whoever started us.
        let _ = io::copy(&mut io::stdin().lock(), &mut io::sink());
        std::process::exit(0);
    });
    let mut sessions = Vec::new();
    let mut cache = HashMap::new();
    for request in 0u64.. {
        answer()?;
        remember_session(&mut sessions)?;
        refresh_cache(&mut cache, request)?;
        thread::sleep(Duration::from_millis(1));
    }
    Ok(ExitCode::SUCCESS)
}

/// Healthy: everything is freed again.
#[inline(never)]
fn answer() -> io::Result<()> {
    for part in 1..=20 {
        black_box(LibcBlock::new(part * 100, b'a')?);
    }
    Ok(())
}

/// The leak: sessions are added and never removed.
#[inline(never)]
fn remember_session(sessions: &mut Vec<LibcBlock>) -> io::Result<()> {
    sessions.push(black_box(LibcBlock::new(2048, b's')?));
    Ok(())
}

/// Bounded: grows to a size and stays there.
#[inline(never)]
fn refresh_cache(cache: &mut HashMap<u64, LibcBlock>, request: u64) -> io::Result<()> {
    cache.insert(request % 512, black_box(LibcBlock::new(4096, 0)?));
    Ok(())
}
