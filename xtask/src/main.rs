//! Developer commands: `cargo xtask COMMAND`. Each command has a file of its own.

mod bench;
mod bpf;
mod ci;
mod consumers;
mod packages;
mod soak;
mod steps;
mod test;
mod tidy;
mod vendor;
mod vm;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Result;
use clap::Parser;
use xshell::{Shell, cmd};

/// Developer commands of alloctrace
#[derive(Parser)]
#[command(bin_name = "cargo xtask")]
enum Command {
    Bench(bench::Args),
    Bpf(bpf::Args),
    Soak(soak::Args),
    Test(test::Args),
    Tidy(tidy::Args),
    Ci(ci::Args),
    Vendor(vendor::Args),
    Vm(vm::Args),
}

fn main() -> ExitCode {
    match run(Command::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> Result<()> {
    let sh = Shell::new()?;
    sh.change_dir(root());
    match command {
        Command::Bench(args) => bench::run(&args),
        Command::Bpf(args) => bpf::run(&sh, &args),
        Command::Soak(args) => soak::run(&sh, &args),
        Command::Test(args) => test::run(&sh, &args),
        Command::Tidy(args) => tidy::run(&sh, &args),
        Command::Ci(args) => ci::run(&sh, &args),
        Command::Vendor(args) => vendor::run(&sh, &args),
        Command::Vm(args) => vm::run(&sh, &args),
    }
}

/// The folder of the workspace.
fn root() -> PathBuf {
    // Asked when run, not when compiled: cargo takes one copy of the project for another if they share a target folder.
    let of_crate =
        std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut root = PathBuf::from(of_crate);
    root.pop();
    root
}

/// Where cargo puts what it builds.
fn target_dir() -> PathBuf {
    // A relative CARGO_TARGET_DIR counts from the folder in which cargo was started; here that is the root.
    root().join(std::env::var_os("CARGO_TARGET_DIR").unwrap_or_else(|| "target".into()))
}

/// The cargo that runs us: the one the developer has chosen.
fn cargo() -> PathBuf {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()).into()
}

/// The alloctrace that is given, or else the one of this project as it is now.
fn built(sh: &Shell, given: Option<&Path>) -> Result<PathBuf> {
    if let Some(given) = given {
        return Ok(given.to_owned());
    }
    let cargo = cargo();
    cmd!(sh, "{cargo} build --locked --release --package=tracer").run()?;
    Ok(target_dir().join("release/alloctrace"))
}
