//! `cargo xtask test`: installs what the tests need, and passes them all.

use anyhow::{Result, bail};

use crate::{
    apt,
    command::{self, command, output},
    tidy,
};

/// Install what the tests need, and run them all.
///
/// Tests that trace need root. The format and lint checks need rustfmt and clippy.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out the tests that trace real programs.
    #[arg(long)]
    no_root: bool,
}

/// What the tests run, compile with or compare with.
const PACKAGES: [&str; 15] = [
    "gcc",
    "g++",
    "libc6-dev",
    "libc6-dbg",
    "valgrind",
    "sqlite3",
    "perl",
    "python3",
    "jq",
    "git",
    "openssl",
    "redis-server",
    "redis-tools",
    "procps",
    "util-linux",
];

pub(crate) fn run(args: &Args) -> Result<()> {
    if !args.no_root && !apt::is_root() {
        bail!("most tests trace real programs and need root; --no-root runs the others");
    }
    for (component, tool) in [("rustfmt", "fmt"), ("clippy", "clippy")] {
        if output(&mut command("cargo", &[tool, "--version"])).is_none() {
            command::run(&mut command("rustup", &["component", "add", component]))?;
        }
    }
    command::run(&mut command("cargo", &["fmt", "--all", "--check"]))?;
    tidy::run()?;
    command::run(&mut command("cargo", &["clippy", "--workspace", "--all-targets", "--", "-D", "warnings"]))?;
    // With the checks of a debug build; none of these touches the kernel.
    command::run(&mut command("cargo", &["test", "--workspace", "--lib", "--bins"]))?;
    if args.no_root {
        eprintln!("left out with --no-root: the tests that trace real programs");
        return Ok(());
    }
    apt::install(&PACKAGES)?;
    // As users run it: a debug build is too slow for a program that allocates without pause.
    command::run(&mut command("cargo", &["test", "--release", "-p", "tracer", "--test", "it"]))?;
    eprintln!("all tests passed");
    Ok(())
}
