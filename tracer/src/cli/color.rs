//! `--color`: whether what we print has colours.

use std::io;

use anstream::{AutoStream, ColorChoice};

/// When to use colours.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum When {
    /// On a terminal, unless NO_COLOR, CLICOLOR=0 or (where CI is not set) TERM=dumb forbids it;
    /// elsewhere if CLICOLOR_FORCE asks for it.
    Auto,
    Always,
    Never,
}

impl When {
    /// For all that is printed from now on.
    pub(super) fn decide(self) {
        let choice = match self {
            Self::Auto => return,
            Self::Always => ColorChoice::Always,
            Self::Never => ColorChoice::Never,
        };
        choice.write_global();
    }
}

/// Whether standard output takes colours.
pub(super) fn on_stdout() -> bool {
    AutoStream::choice(&io::stdout()) != ColorChoice::Never
}
