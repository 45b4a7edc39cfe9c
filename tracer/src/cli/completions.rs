//! `alloctrace completions`: what a shell completes.

use std::{
    io::{self, Write as _},
    process::ExitCode,
};

use clap_complete::Shell;

use super::exit::Failure;

/// Print the completions for a shell.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  alloctrace completions bash > /etc/bash_completion.d/alloctrace
  alloctrace completions zsh > /usr/local/share/zsh/site-functions/_alloctrace
  alloctrace completions fish > ~/.config/fish/completions/alloctrace.fish")]
pub(super) struct Args {
    /// The shell that completes.
    #[arg(value_enum)]
    shell: Shell,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut super::public_command(), "alloctrace", &mut script);
    io::stdout().write_all(&script)?;
    Ok(ExitCode::SUCCESS)
}
