//! Starts a command such that tracing begins with its very first instruction.
//!
//! The child first runs this program again, which waits at a gate: a pipe of ours, opened through
//! `/proc`. When every probe is in place the gate opens, and the child becomes the command by `exec`.
//! If we die meanwhile the pipe ends and the child leaves without running the command.

use std::{
    ffi::{OsStr, OsString},
    fs::{self, File},
    io::{self, PipeReader, PipeWriter, Read as _, Write as _},
    os::{
        fd::{AsFd as _, AsRawFd as _},
        unix::{ffi::OsStrExt as _, fs::PermissionsExt as _, process::CommandExt as _},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context as _, Result};

/// The name of the hidden command that is the child's first half.
pub const GATE_COMMAND: &str = "__gate";

/// Where the streams of a command lead.
#[derive(Clone, Copy, Debug)]
pub enum Streams<'a> {
    /// Where ours do.
    Ours,
    /// Its output to where our errors go: a program reads ours, and wants nothing but the result.
    Errors,
    /// All that it writes into a file, and no input: ours are a screen.
    File(&'a File),
}

/// A child that waits for its gate to open.
pub struct Launched {
    child: Child,
    gate: Option<(PipeReader, PipeWriter)>,
}

impl Launched {
    /// # Errors
    /// If no process can be made.
    pub fn new(command: &[OsString], streams: Streams<'_>) -> Result<Self> {
        let (reader, writer) = io::pipe().context("make a pipe")?;
        let gate = format!("/proc/{}/fd/{}", std::process::id(), reader.as_raw_fd());
        let mut child = Command::new("/proc/self/exe");
        child.arg0("alloctrace").arg(GATE_COMMAND).arg(gate).arg("--").args(command);
        let handing = "hand the streams to the command";
        match streams {
            Streams::Ours => {}
            Streams::Errors => {
                let errors = io::stderr().as_fd().try_clone_to_owned().context(handing)?;
                child.stdout(Stdio::from(errors));
            }
            Streams::File(file) => {
                let file = || file.try_clone().map(Stdio::from).context(handing);
                child.stdin(Stdio::null()).stdout(file()?).stderr(file()?);
            }
        }
        let child = child.spawn().context("start the command")?;
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

/// The file that `execvp(3)` would run for `name`: itself if it contains a slash, otherwise the first
/// executable regular file of that name in the directories of `path` (the value of `PATH`).
pub fn resolve_command(name: &OsStr, path: Option<&OsStr>) -> Option<PathBuf> {
    let runs =
        |it: &PathBuf| fs::metadata(it).is_ok_and(|it| it.is_file() && it.permissions().mode() & 0o111 != 0);
    if name.as_bytes().contains(&b'/') {
        return Some(PathBuf::from(name)).filter(runs);
    }
    if name.is_empty() {
        return None;
    }
    let path = path.unwrap_or(OsStr::new("/bin:/usr/bin"));
    // An empty entry is the current directory.
    let directory = |it: PathBuf| if it.as_os_str().is_empty() { PathBuf::from(".") } else { it };
    std::env::split_paths(path).map(|it| directory(it).join(name)).find(runs)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_found_like_execvp_does() {
        let resolve = |name: &str, path: &str| resolve_command(OsStr::new(name), Some(OsStr::new(path)));
        let exe = std::env::current_exe().unwrap();
        let (directory, name) = (exe.parent().unwrap().to_str().unwrap(), exe.file_name().unwrap());
        let name = name.to_str().unwrap();
        assert_eq!(resolve(name, &format!("/absent:{directory}")), Some(exe.clone()));
        assert_eq!(resolve(exe.to_str().unwrap(), ""), Some(exe.clone()));
        assert_eq!(resolve("passwd", "/etc"), None, "not executable");
        assert_eq!(resolve("etc", "/"), None, "a directory");
        assert_eq!(resolve("", directory), None);
    }
}
