//! `cargo xtask ci`: everything that can be checked on this machine.

use anyhow::Result;
use xshell::Shell;

use crate::{bpf, steps::Steps, test, vm};

/// Run all tests, compare the committed kernel object with a rebuilt one where there is a compiler for BPF, and let a machine
/// run out of memory
#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(flatten)]
    test: test::Args,
}

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    let mut steps = Steps::default();
    test::run_steps(sh, &args.test, &mut steps)?;
    match bpf::prepare(sh) {
        Ok(()) => steps.run("bpf --check", || bpf::check(sh, None).map(drop)),
        Err(why) => steps.leave_out("bpf --check", format!("{why:#}")),
    }
    if args.test.no_root {
        steps.leave_out("vm", "--no-root: nothing that traces was tested");
    } else {
        steps.run("vm", || vm::run(sh, &vm::Args::once()));
    }
    steps.finish()
}
