//! Programs as children: their output line by line, their input, their end.

use std::{
    io::{BufRead as _, BufReader, Read, Write as _},
    os::unix::process::ExitStatusExt as _,
    path::{Path, PathBuf},
    process::{Child, ChildStdin, Command, Stdio},
    sync::mpsc::{self, Receiver, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

pub(crate) use rustix::process::Signal;
use rustix::process::{Pid, kill_process};

/// For everything that happens at once on any machine that works. A test never waits this long and passes.
pub(crate) const PATIENCE: Duration = Duration::from_secs(90);

/// A running child with pipes to all its streams. It is killed when it is dropped.
pub(crate) struct Program {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    output: Receiver<String>,
    errors: Receiver<String>,
    /// Lines of standard error that were passed on the way to others.
    seen_errors: Vec<String>,
}

/// How a program ended, and what it said that nobody had read yet.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The exit code; `None` if a signal ended it.
    pub(crate) code: Option<i32>,
    pub(crate) signal: Option<i32>,
    pub(crate) output: String,
    pub(crate) errors: String,
}

impl Program {
    pub(crate) fn start(command: &mut Command) -> Self {
        let name =
            Path::new(command.get_program()).file_name().unwrap_or_default().to_string_lossy().into_owned();
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        let input = child.stdin.take();
        let output = lines(child.stdout.take().expect("its output is a pipe"));
        let errors = lines(child.stderr.take().expect("its errors are a pipe"));
        Self { name, child, input, output, errors, seen_errors: Vec::new() }
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Reads output up to the line `wanted`; returns what came before.
    pub(crate) fn wait_for(&mut self, wanted: &str) -> Vec<String> {
        let mut before = Vec::new();
        loop {
            let line = self.next_line();
            if line == wanted {
                return before;
            }
            before.push(line);
        }
    }

    pub(crate) fn next_line(&mut self) -> String {
        match self.output.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(why) => self.give_up("a line of output", why),
        }
    }

    /// Reads standard error up to a line that begins so, and returns it.
    pub(crate) fn wait_for_error(&mut self, start: &str) -> String {
        loop {
            match self.errors.recv_timeout(PATIENCE) {
                Ok(line) if line.starts_with(start) => return line,
                Ok(line) => self.seen_errors.push(line),
                Err(why) => self.give_up(&format!("the line {start:?} on standard error"), why),
            }
        }
    }

    pub(crate) fn say(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is open");
        writeln!(input, "{line}").unwrap_or_else(|error| panic!("write to {}: {error}", self.name));
    }

    pub(crate) fn close_input(&mut self) {
        self.input = None;
    }

    pub(crate) fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.child);
        kill_process(pid, signal).unwrap_or_else(|error| panic!("signal {}: {error}", self.name));
    }

    pub(crate) fn is_running(&mut self) -> bool {
        self.child.try_wait().expect("it is our child").is_none()
    }

    /// Waits for the end. Close its input first, if that is what ends it.
    pub(crate) fn wait(mut self) -> Ended {
        let status = within(PATIENCE, || self.child.try_wait().expect("it is our child"))
            .unwrap_or_else(|| self.give_up("its end", RecvTimeoutError::Timeout));
        Ended {
            code: status.code(),
            signal: status.signal(),
            output: rest(&self.output),
            errors: std::mem::take(&mut self.seen_errors).join("\n") + &rest(&self.errors),
        }
    }

    fn give_up(&mut self, awaited: &str, why: RecvTimeoutError) -> ! {
        let why = match why {
            RecvTimeoutError::Timeout => format!("did not come within {PATIENCE:?}"),
            RecvTimeoutError::Disconnected => "will not come".to_owned(),
        };
        let status = self.child.try_wait();
        let mut errors = std::mem::take(&mut self.seen_errors);
        errors.extend(self.errors.try_iter());
        panic!("{}: {awaited} {why}; status {status:?}, standard error:\n{}", self.name, errors.join("\n"));
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // It may have ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Runs a command to its end, with nothing to read.
pub(crate) fn run(command: &mut Command) -> Ended {
    let mut program = Program::start(command);
    program.close_input();
    program.wait()
}

/// Asks again and again until there is an answer or the time is over.
pub(crate) fn within<T>(time: Duration, mut ask: impl FnMut() -> Option<T>) -> Option<T> {
    let end = Instant::now() + time;
    loop {
        if let Some(answer) = ask() {
            return Some(answer);
        }
        if Instant::now() > end {
            return None;
        }
        thread::sleep(Duration::from_millis(10));
    }
}

/// The path of a program that a test needs.
pub(crate) fn needed(program: &str, package: &str) -> PathBuf {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).map(|it| it.join(program)).find(|it| it.is_file()).unwrap_or_else(|| {
        panic!("{program} is missing: install the package {package}, or run `cargo xtask test`, which does")
    })
}

/// A directory of its own for one test, empty.
pub(crate) fn scratch(name: &str) -> PathBuf {
    let directory = Path::new(env!("CARGO_TARGET_TMPDIR")).join("scratch").join(name);
    // It may be there from an earlier run, or not.
    let _ = std::fs::remove_dir_all(&directory);
    std::fs::create_dir_all(&directory)
        .unwrap_or_else(|error| panic!("make {}: {error}", directory.display()));
    directory
}

/// The lines of a stream, as a thread of their own reads them, so that no pipe fills up.
fn lines(stream: impl Read + Send + 'static) -> Receiver<String> {
    let (sender, receiver) = mpsc::channel();
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n').map_while(Result::ok) {
            if sender.send(String::from_utf8_lossy(&line).into_owned()).is_err() {
                break;
            }
        }
    });
    receiver
}

/// What is left of a stream whose writer has ended. Another process may still hold the other end.
fn rest(lines: &Receiver<String>) -> String {
    let mut text = String::new();
    while let Ok(line) = lines.recv_timeout(Duration::from_secs(5)) {
        text += &line;
        text.push('\n');
    }
    text
}
