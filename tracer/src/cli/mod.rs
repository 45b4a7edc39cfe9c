//! The command line: one file per command, and the only room that knows clap.

mod demo;
mod diff;
mod doctor;
mod exit;
mod floor;
mod memleak;
mod record;
mod report;
mod settings;
mod when;

use std::{ffi::OsString, io, path::PathBuf, process::ExitCode};

use clap::{Parser, Subcommand};

use self::exit::Failure;
use crate::kernel::launch;

/// Says which call stacks hold the memory of a running process, without a restart and without
/// injecting anything into it.
#[derive(Parser)]
#[command(name = "alloctrace", version, arg_required_else_help = true, disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Say more about what is done; twice for the probe sites and unwinding tables.
    #[arg(short, long, global = true, action = clap::ArgAction::Count)]
    verbose: u8,
}

#[derive(Subcommand)]
enum Command {
    Record(record::Args),
    Report(report::Args),
    Diff(diff::Args),
    Doctor(doctor::Args),
    Demo(demo::Args),
    Memleak(memleak::Args),
    /// Place programs that do nothing where `record` places its own: what the traps alone cost.
    #[command(hide = true)]
    BenchFloor(floor::Args),
    /// The first half of a launched command; see [`launch`].
    #[command(name = launch::GATE_COMMAND, hide = true)]
    Gate {
        gate: PathBuf,
        #[arg(last = true)]
        command: Vec<OsString>,
    },
    /// The child that `demo` traces.
    #[command(name = demo::LEAK_COMMAND, hide = true)]
    DemoLeak,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    let args = Args::parse();
    start_log(args.verbose);
    let done = match args.command {
        Command::Record(args) => record::run(args),
        Command::Report(args) => report::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Doctor(args) => doctor::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Memleak(args) => memleak::run(&args),
        Command::BenchFloor(args) => floor::run(&args),
        Command::Gate { gate, command } => match launch::wait_at_gate(&gate, &command) {
            Some(error) => Err(Failure::target_gone(format!("cannot run the command: {error}"))),
            None => Ok(ExitCode::FAILURE),
        },
        Command::DemoLeak => demo::leak(),
    };
    match done {
        Ok(code) => code,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            eprintln!("alloctrace: {failure}");
            failure.code()
        }
    }
}

/// `RUST_LOG` wins over `-v`.
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => "error",
        1 => "info",
        _ => "debug",
    };
    let environment = env_logger::Env::default().default_filter_or(format!("alloctrace={level},aya=warn"));
    let write = |out: &mut env_logger::fmt::Formatter, record: &log::Record<'_>| {
        io::Write::write_fmt(out, format_args!("alloctrace: {}\n", record.args()))
    };
    env_logger::Builder::from_env(environment).format(write).init();
}
