//! Starts a command such that tracing begins with its very first instruction.
//!
//! The child first runs this program again, which waits at a gate: a pipe of ours, opened through
//! `/proc`. When every probe is in place the gate opens, and the child becomes the command by `exec`.
//! If we die meanwhile the pipe ends and the child leaves without running the command.

use std::{
    ffi::OsString,
    fs::File,
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::{fd::AsRawFd as _, unix::process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

/// The name of the hidden command that is the child's first half.
pub const GATE_COMMAND: &str = "__gate";

/// A child that waits for its gate to open.
pub struct Launched {
    child: Child,
    gate: Option<(PipeReader, PipeWriter)>,
}

impl Launched {
    /// # Errors
    /// If no process can be made.
    pub fn new(command: &[OsString]) -> Result<Self> {
        let (reader, writer) = io::pipe().context("make a pipe")?;
        let gate = format!("/proc/{}/fd/{}", std::process::id(), reader.as_raw_fd());
        let child = Command::new("/proc/self/exe")
            .arg0("alloctrace")
            .arg(GATE_COMMAND)
            .arg(gate)
            .arg("--")
            .args(command)
            .stdin(Stdio::inherit())
            .spawn()
            .context("start the command")?;
        Ok(Self { child, gate: Some((reader, writer)) })
    }

    pub fn tgid(&self) -> u32 {
        self.child.id()
    }

    /// Lets the child become the command.
    ///
    /// # Errors
    /// If the child is gone.
    pub fn open_gate(&mut self) -> Result<()> {
        let Some((_reader, mut writer)) = self.gate.take() else { return Ok(()) };
        writer.write_all(b"!").context("start the command")
    }

    /// How the command ended, if it has; this also lets the kernel forget it.
    pub fn try_wait(&mut self) -> Option<std::process::ExitStatus> {
        self.child.try_wait().ok().flatten()
    }
}

/// The child's first half: waits, then becomes the command. Returns only if that fails, with the reason, or
/// `None` if the gate never opened: then the parent has said why.
pub fn wait_at_gate(gate: &Path, command: &[OsString]) -> Option<io::Error> {
    let mut opened = [0];
    File::open(gate).and_then(|mut it| it.read_exact(&mut opened)).ok()?;
    Some(match command {
        [program, arguments @ ..] => Command::new(program).args(arguments).exec(),
        [] => io::Error::from(io::ErrorKind::InvalidInput),
    })
}
