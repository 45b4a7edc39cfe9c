//! What is put in order however a measurement ends: at the end of a value, at Ctrl-C, and if this process is killed.

use std::{
    ffi::OsStr,
    process::{Child, Command, Stdio},
};

use anyhow::Context as _;

/// A shell that waits until our end of a pipe is closed, which is when this value or this process ends.
pub(super) struct Afterwards {
    shell: Child,
}

/// Ctrl-C reaches the shell too, and is not for it.
const WAIT: &str = "trap '' INT TERM HUP; read nothing; ";

impl Afterwards {
    /// Runs `script` with `argument` as `$1` then.
    pub(super) fn run(script: &str, argument: impl AsRef<OsStr>) -> anyhow::Result<Self> {
        let shell = Command::new("sh")
            .args(["-c", &format!("{WAIT}{script}"), "sh"])
            .arg(argument)
            .stdin(Stdio::piped())
            .spawn()
            .context("start a shell")?;
        Ok(Self { shell })
    }
}

impl Drop for Afterwards {
    fn drop(&mut self) {
        drop(self.shell.stdin.take());
        let _ = self.shell.wait();
    }
}

/// `program` as a command that gets `signal` when this process ends before it does.
pub(super) fn bound(program: impl AsRef<OsStr>, signal: &str) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", signal]).arg(program);
    command
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_script_runs_at_the_end_and_not_before() {
        let path = std::env::temp_dir().join(format!("alloctrace-afterwards-{}", std::process::id()));
        let afterwards = Afterwards::run("touch \"$1\"", &path).expect("a shell");
        assert!(!path.exists());
        drop(afterwards);
        std::fs::remove_file(path).expect("what the script has made");
    }
}
