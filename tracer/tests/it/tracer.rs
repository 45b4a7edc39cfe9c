//! alloctrace, run as a user runs it.

use std::{
    ffi::OsStr,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, MutexGuard, PoisonError},
};

use crate::{
    program::{Ended, Program, Signal, run},
    report::Report,
};

/// A recording in progress, with every probe in place.
pub(crate) struct Tracer {
    program: Program,
    capture: PathBuf,
}

impl Tracer {
    /// `alloctrace record -p PID`.
    pub(crate) fn attach(pid: u32, capture: &Path, options: &[&str]) -> Self {
        let mut command = alloctrace(["record", "-p", &pid.to_string()]);
        command.args(options);
        Self::start(command, capture)
    }

    /// `alloctrace record` with whatever says whom to trace.
    pub(crate) fn record(options: &[&str], capture: &Path) -> Self {
        let mut command = alloctrace(["record"]);
        command.args(options);
        Self::start(command, capture)
    }

    /// `alloctrace record -- COMMAND`. The command's input and output are ours to use.
    pub(crate) fn launch(command: &[impl AsRef<OsStr>], capture: &Path, options: &[&str]) -> Self {
        Self::launch_with(command, capture, options, None)
    }

    /// The same with libraries before all others. The tracer, which foresees what the command will load, has them in its
    /// environment too.
    pub(crate) fn launch_with(
        command: &[impl AsRef<OsStr>],
        capture: &Path,
        options: &[&str],
        preload: Option<&str>,
    ) -> Self {
        let mut tracer = alloctrace(["record"]);
        tracer.args(options).arg("-o").arg(capture).arg("--").args(command);
        tracer.envs(preload.map(|it| ("LD_PRELOAD", it)));
        Self::wait_until_ready(tracer, capture)
    }

    fn start(mut command: Command, capture: &Path) -> Self {
        command.arg("-o").arg(capture);
        Self::wait_until_ready(command, capture)
    }

    fn wait_until_ready(mut command: Command, capture: &Path) -> Self {
        let mut program = Program::start(&mut command);
        program.wait_for_error("alloctrace: ready");
        Self { program, capture: capture.to_owned() }
    }

    /// The streams: of the tracer, and of what it launched.
    pub(crate) fn program(&mut self) -> &mut Program {
        &mut self.program
    }

    /// The memory that is its own: not the ring, which it shares with the kernel.
    pub(crate) fn own_kib(&self) -> u64 {
        self.status_kib("RssAnon:")
    }

    /// The most memory that it has taken so far, the ring included.
    pub(crate) fn peak_kib(&self) -> u64 {
        self.status_kib("VmHWM:")
    }

    fn status_kib(&self, field: &str) -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", self.program.pid())).expect("it runs");
        let line = status.lines().find_map(|it| it.strip_prefix(field)).expect("its memory");
        line.split_whitespace().next().and_then(|it| it.parse().ok()).expect("a number")
    }

    pub(crate) fn signal(&mut self, signal: Signal) {
        self.program.signal(signal);
    }

    /// Ends it as Ctrl-C does, and leaves the capture to be read by the test: everything that ran on the machine is in
    /// it, and no test knows what that was.
    pub(crate) fn interrupt_unread(self) {
        self.program.signal(Signal::INT);
        let ended = self.program.wait();
        assert_eq!(ended.code, Some(0), "record ended badly: {ended:?}");
    }

    /// Ends it as Ctrl-C does.
    pub(crate) fn interrupt(self) -> Report {
        self.program.signal(Signal::INT);
        self.finish()
    }

    /// Waits until it ends by itself.
    pub(crate) fn finish(self) -> Report {
        let ended = self.program.wait();
        assert_eq!(ended.code, Some(0), "record ended badly: {ended:?}");
        Report::read(&self.capture)
    }

    /// Gives it no chance to tidy up.
    pub(crate) fn kill(self) -> Ended {
        self.program.signal(Signal::KILL);
        self.program.wait()
    }
}

pub(crate) fn alloctrace(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_alloctrace"));
    command.args(arguments).env_remove("RUST_LOG");
    command
}

/// Runs it to its end.
pub(crate) fn alloctrace_says(arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Ended {
    run(&mut alloctrace(arguments))
}

/// To be held while something is traced: probes in a shared library cost all its users time, and a ring that
/// overflows since five tests share two processors says nothing about the tracer.
pub(crate) fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    assert!(
        rustix::process::geteuid().is_root(),
        "tracing needs root: run the tests by `cargo xtask test`, or as root"
    );
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}
