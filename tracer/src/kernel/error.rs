//! Why tracing cannot begin, as far as a caller decides by it.

use std::io;

/// Each has its own exit code; the text says what, where and what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The target does not exist, or ended before tracing began.
    #[error("{0}")]
    TargetGone(String),
    /// The target exists and cannot be traced by this tool.
    #[error("{0}")]
    UnsupportedTarget(String),
    /// Root or a capability is missing.
    #[error("{0}")]
    Privilege(String),
    /// The kernel lacks something.
    #[error("{0}")]
    Kernel(String),
    #[error(transparent)]
    Other(#[from] anyhow::Error),
}

impl StartError {
    /// Sorts an error of the kernel interface by its cause.
    pub(crate) fn from_kernel(error: anyhow::Error) -> Self {
        let kind = |it: &(dyn std::error::Error + 'static)| match it.downcast_ref::<rustix::io::Errno>() {
            Some(error) => Some(error.kind()),
            None => it.downcast_ref::<io::Error>().map(io::Error::kind),
        };
        let cause = error.chain().find_map(kind);
        match cause {
            Some(io::ErrorKind::PermissionDenied) => Self::Privilege(format!(
                "{error:#}\nThe kernel refused. Run as root, or see `alloctrace doctor` for what is missing."
            )),
            Some(io::ErrorKind::NotFound) => Self::Kernel(format!(
                "{error:#}\nThis kernel lacks something that tracing needs; see `alloctrace doctor`."
            )),
            _ => Self::Other(error),
        }
    }
}
