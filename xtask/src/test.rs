//! `cargo xtask test`: install what the tests need, and run them all.

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use crate::{cargo, consumers, packages, steps::Steps, tidy};

/// Install what the tests need, and run them all: format, tidy, clippy, unit tests, and tests on real programs
///
/// The tests on real programs trace them through the kernel, which takes root. Missing packages are installed by
/// apt-get (as root, without starting the services in them), rustfmt and clippy by rustup.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// Leave out the tests on real programs; without this they are required, so without root the command fails
    #[arg(long)]
    pub(crate) no_root: bool,
}

/// What the tests compile with, trace, and compare with.
const PACKAGES: [&str; 39] = [
    "gcc",
    "g++",
    "libc6-dev",
    // Names of functions in the C library.
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
    "postgresql",
    "coreutils",
    "procps",
    // For setpriv, and mount of a small disk to fill.
    "util-linux",
    "mount",
    // The HTML report is used in a browser.
    "chromium",
    "chromium-driver",
    "python3-selenium",
    // What formats manual pages, and what finds fault with them.
    "groff-base",
    "mandoc",
    // Allocators to trace, and what builds those of Rust's crates.
    "libjemalloc-dev",
    "libgoogle-perftools-dev",
    "libmimalloc-dev",
    "musl-tools",
    "binutils",
    "cmake",
    "make",
    // For zstdcat, and for script, which gives a command a terminal.
    "zstd",
    "bsdutils",
    // A terminal for the live view.
    "tmux",
    // Programs without malloc.
    "golang-go",
    "nodejs",
    "default-jdk-headless",
    // What reads our metrics, rules, unit and manifests.
    "prometheus",
    "systemd",
    "python3-yaml",
];

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let mut steps = Steps::default();
    run_steps(sh, args, &mut steps)?;
    steps.finish()
}

/// The steps of this command, for others that have more.
pub(crate) fn run_steps(sh: &Shell, args: &Args, steps: &mut Steps) -> Result<()> {
    if !args.no_root {
        if !packages::is_root() {
            bail!(
                "most tests trace real programs, which takes root: sudo -E env PATH=\"$PATH\" cargo xtask test; \
                 or leave them out: cargo xtask test --no-root"
            );
        }
        packages::ensure(sh, &PACKAGES)?;
        consumers::ensure(sh)?;
    }
    let cargo = &cargo();
    match component(sh, "fmt", "rustfmt") {
        Ok(()) => steps.run("format", || Ok(cmd!(sh, "{cargo} fmt --all --check").run()?)),
        Err(why) => steps.leave_out("format", format!("{why:#}")),
    }
    steps.run("tidy", || tidy::run(sh, &tidy::Args {}));
    match component(sh, "clippy", "clippy") {
        Ok(()) => steps.run("clippy", || {
            Ok(cmd!(sh, "{cargo} clippy --locked --workspace --all-targets -- -D warnings").run()?)
        }),
        Err(why) => steps.leave_out("clippy", format!("{why:#}")),
    }
    // With overflow checks and assertions. None of these needs the kernel.
    steps.run("unit tests", || Ok(cmd!(sh, "{cargo} test --locked --workspace --lib --bins").run()?));
    if args.no_root {
        steps.leave_out("real programs", "--no-root: nothing that traces was tested");
    } else {
        // As users run it: a debug build falls behind a program that allocates without pause.
        steps.run("real programs", || {
            Ok(cmd!(sh, "{cargo} test --locked --release --package=tracer --test=*").run()?)
        });
    }
    Ok(())
}

/// Sees to it that `cargo SUBCOMMAND` works.
fn component(sh: &Shell, subcommand: &str, component: &str) -> Result<()> {
    let cargo = &cargo();
    let works =
        || cmd!(sh, "{cargo} {subcommand} --version").quiet().ignore_stdout().ignore_stderr().run().is_ok();
    if works() {
        return Ok(());
    }
    // rustup adds to the toolchain that runs us; Debian has packages.
    let added = cmd!(sh, "rustup component add {component}").run().context("there is no rustup to add it");
    let added = added
        .or_else(|_| packages::ensure(sh, &[if subcommand == "fmt" { "rustfmt" } else { "rust-clippy" }]));
    match added {
        Ok(()) if works() => Ok(()),
        Ok(()) => bail!("{component} was installed, but `cargo {subcommand}` does not run"),
        Err(error) => Err(error.context(format!("{component} is missing"))),
    }
}
