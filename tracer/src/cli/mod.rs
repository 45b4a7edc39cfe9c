//! The command line: one file per command, and the only room that knows clap.

mod check;
mod color;
mod completions;
mod demo;
mod diff;
mod doctor;
mod exit;
mod floor;
mod incidents;
mod man;
mod memleak;
mod output;
mod record;
mod report;
mod sample;
mod settings;
mod top;
mod tracing;
mod watch;
mod when;

use std::{ffi::OsString, io, path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};

use self::exit::Failure;
use crate::{
    kernel::{calibrate, launch, leaving, proof},
    report::escape::printable,
};

/// Says which call stacks hold the memory of a running process.
///
/// Follows every allocation and free through kernel probes (eBPF). The target is neither restarted nor stopped, and
/// nothing is put into it.
#[derive(Parser)]
#[command(name = "alloctrace", version, arg_required_else_help = true, disable_help_subcommand = true)]
#[command(after_help = after_help())]
struct Args {
    #[command(subcommand)]
    command: Command,
    /// Say more about what is done; twice for the probe sites and unwinding tables.
    // Options of all commands stand behind their own.
    #[arg(short, long, global = true, action = clap::ArgAction::Count, display_order = 1000)]
    verbose: u8,
    /// When to use colours.
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t = color::When::Auto, display_order = 1001)]
    color: color::When,
}

fn after_help() -> String {
    let codes: Vec<String> =
        exit::CODES.iter().map(|(code, meaning)| format!("  {code}  {meaning}")).collect();
    format!(
        "Examples:
  alloctrace demo                            see what a result looks like
  alloctrace record -p 1234 -d 60s           what holds the memory of a process
  alloctrace record -o a.jsonl.zst -- ./app  a command, from its first instruction
  alloctrace report a.jsonl.zst -T 20        read the capture again
  alloctrace COMMAND --help                  more examples

{}:\n{}",
        man::CODES_TITLE,
        codes.join("\n")
    )
}

#[derive(Subcommand)]
enum Command {
    Record(record::Args),
    Top(top::Args),
    Watch(watch::Args),
    Incidents(incidents::Args),
    Report(report::Args),
    Diff(diff::Args),
    Check(check::Args),
    Doctor(doctor::Args),
    Demo(demo::Args),
    Memleak(memleak::Args),
    Man(man::Args),
    Completions(completions::Args),
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
    /// The child on which proofs are tried; see [`proof`].
    #[command(name = proof::COMMAND, hide = true)]
    Exercise,
    /// The child in which it is measured what a probe costs.
    #[command(name = calibrate::CALIBRATE_COMMAND, hide = true)]
    Calibrate,
    /// The child that `demo` traces.
    #[command(name = demo::LEAK_COMMAND, hide = true)]
    DemoLeak,
}

/// Runs the command line of this process.
pub fn main() -> ExitCode {
    if std::env::args_os().next().is_some_and(|it| it == leaving::CHILD_NAME) {
        leaving::remove_probes();
        return ExitCode::SUCCESS;
    }
    let Args { command, verbose, color } = Args::parse();
    start_log(verbose);
    color.decide();
    let done = match command {
        Command::Record(args) => record::run(args),
        Command::Top(args) => top::run(&args),
        Command::Watch(args) => watch::run(args),
        Command::Incidents(args) => incidents::run(&args),
        Command::Report(args) => report::run(&args),
        Command::Diff(args) => diff::run(&args),
        Command::Check(args) => check::run(&args, verbose > 0),
        Command::Doctor(args) => doctor::run(&args),
        Command::Demo(args) => demo::run(&args),
        Command::Memleak(args) => memleak::run(&args),
        Command::Man(args) => man::run(&args),
        Command::Completions(args) => completions::run(&args),
        Command::BenchFloor(args) => floor::run(&args),
        Command::Gate { gate, command } => match launch::wait_at_gate(&gate, &command) {
            Some(error) => Err(Failure::target_gone(format!("cannot run the command: {error}"))),
            None => Ok(ExitCode::FAILURE),
        },
        Command::Exercise => proof::exercise().map(|()| ExitCode::SUCCESS).map_err(Failure::from),
        Command::Calibrate => calibrate::run_child().map(|()| ExitCode::SUCCESS).map_err(Failure::from),
        Command::DemoLeak => demo::leak(),
    };
    match done {
        Ok(code) => code,
        Err(failure) if failure.is_broken_pipe() => ExitCode::SUCCESS,
        Err(failure) => {
            // It may name files and processes, which may be called anything.
            for (at, line) in failure.to_string().lines().enumerate() {
                eprintln!("{}{}", if at == 0 { "alloctrace: " } else { "  " }, printable(line));
            }
            failure.code()
        }
    }
}

/// What users are told of: everything but the hidden commands.
fn public_command() -> clap::Command {
    let all = Args::command();
    clap::Command::new("alloctrace")
        .version(env!("CARGO_PKG_VERSION"))
        .disable_help_subcommand(true)
        .subcommand_required(true)
        .about(all.get_about().cloned().unwrap_or_default())
        .long_about(all.get_long_about().cloned().unwrap_or_default())
        .after_help(after_help())
        .args(all.get_arguments())
        .subcommands(all.get_subcommands().filter(|it| !it.is_hide_set()))
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
        io::Write::write_fmt(out, format_args!("alloctrace: {}\n", printable(&record.args().to_string())))
    };
    env_logger::Builder::from_env(environment).format(write).init();
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clap_finds_no_fault() {
        Args::command().debug_assert();
    }

    #[test]
    fn help_has_examples_and_says_what_each_argument_is() {
        let program = public_command();
        for command in std::iter::once(&program).chain(program.get_subcommands()) {
            let name = command.get_name();
            let after = command.get_after_help().map(ToString::to_string).unwrap_or_default();
            assert!(after.contains("Examples:\n  alloctrace "), "{name} has no examples");
            assert!(
                after.lines().all(|it| it.chars().count() <= 100),
                "{name}: too wide for a terminal\n{after}"
            );
            assert!(command.get_about().is_some(), "{name} does not say what it does");
            for argument in command.get_arguments().filter(|it| !it.is_hide_set()) {
                assert!(argument.get_help().is_some(), "{name} says nothing of {}", argument.get_id());
            }
        }
    }

    #[test]
    fn hidden_commands_are_not_told_of() {
        let program = public_command();
        assert!(program.get_subcommands().count() > 5);
        assert!(program.get_subcommands().all(|it| !it.get_name().starts_with("__")));
    }
}
