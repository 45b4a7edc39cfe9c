//! How a command fails: what the user reads, and the exit code that scripts branch on.

use std::{fmt, io, process::ExitCode};

use crate::kernel::StartError;

/// An error with its exit code.
#[derive(Debug)]
pub(super) struct Failure {
    error: anyhow::Error,
    code: u8,
}

/// Exit codes of the contract, and what they mean.
pub(super) const CODES: [(u8, &str); 7] = [
    (0, "fine"),
    (ERROR, "an error, which the message names"),
    (USAGE, "the command line is wrong"),
    (BREACH, "a budget is breached, or something has grown that must not"),
    (TRUST, "the result deserves less trust than --min-trust asks for"),
    (PRIVILEGE, "a privilege or a kernel feature is missing; alloctrace doctor says which"),
    (TARGET_GONE, "the target is not there"),
];

const ERROR: u8 = 1;
/// clap's too.
const USAGE: u8 = 2;
const BREACH: u8 = 3;
const TRUST: u8 = 4;
const PRIVILEGE: u8 = 5;
const TARGET_GONE: u8 = 6;

impl Failure {
    pub(super) fn usage(message: String) -> Self {
        Self { error: anyhow::Error::msg(message), code: USAGE }
    }

    pub(super) fn target_gone(message: String) -> Self {
        Self { error: anyhow::Error::msg(message), code: TARGET_GONE }
    }

    pub(super) fn kernel(message: String) -> Self {
        Self { error: anyhow::Error::msg(message), code: PRIVILEGE }
    }

    pub(super) fn breach(message: String) -> Self {
        Self { error: anyhow::Error::msg(message), code: BREACH }
    }

    pub(super) fn trust(message: String) -> Self {
        Self { error: anyhow::Error::msg(message), code: TRUST }
    }

    pub(super) fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }

    /// The reader of our output has seen enough, as `head` does.
    pub(super) fn is_broken_pipe(&self) -> bool {
        let kinds = self.error.chain().filter_map(|it| it.downcast_ref::<io::Error>()).map(io::Error::kind);
        kinds.into_iter().any(|it| it == io::ErrorKind::BrokenPipe)
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{:#}", self.error)
    }
}

impl From<anyhow::Error> for Failure {
    fn from(error: anyhow::Error) -> Self {
        Self { error, code: ERROR }
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self { error: error.into(), code: ERROR }
    }
}

impl From<StartError> for Failure {
    fn from(error: StartError) -> Self {
        let code = match &error {
            StartError::TargetGone(_) => TARGET_GONE,
            StartError::Privilege(_) | StartError::Kernel(_) => PRIVILEGE,
            StartError::UnsupportedTarget(_) | StartError::Other(_) => ERROR,
        };
        let error = match error {
            StartError::Other(error) => error,
            named => named.into(),
        };
        Self { error, code }
    }
}
