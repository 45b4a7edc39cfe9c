//! The place where measurements happen: built programs, a directory for their files, tools that are there.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use xshell::Shell;

use crate::root;

pub(super) struct Lab {
    /// Sources of the measured programs.
    sources: PathBuf,
    /// Where cargo puts what it builds for us.
    release: PathBuf,
    /// Everything that is written.
    pub(super) work: PathBuf,
    pub(super) alloctrace: PathBuf,
    /// One that the user has named.
    pub(super) memleak: Option<PathBuf>,
    pub(super) quick: bool,
}

impl Lab {
    /// Builds the tracer, if there is none to measure, and makes the directory.
    pub(super) fn open(
        quick: bool,
        memleak: Option<PathBuf>,
        alloctrace: Option<PathBuf>,
    ) -> anyhow::Result<Self> {
        let root = root();
        if alloctrace.is_none() {
            run(cargo(&root).args(["build", "--release", "--package", "tracer"]))?;
        }
        let metadata = output(cargo(&root).args(["metadata", "--format-version", "1", "--no-deps"]))?;
        let metadata: Value = serde_json::from_str(&metadata).context("read the answer of cargo metadata")?;
        let target =
            metadata["target_directory"].as_str().context("cargo metadata names no target directory")?;
        let work = Path::new(target).join("bench");
        fs::create_dir_all(&work).with_context(|| format!("create {}", work.display()))?;
        let release = Path::new(target).join("release");
        let alloctrace = alloctrace.unwrap_or_else(|| release.join("alloctrace"));
        ensure!(alloctrace.exists(), "there is no {}", alloctrace.display());
        Ok(Self { sources: root.join("xtask/bench"), release, work, alloctrace, memleak, quick })
    }

    /// Compiles one of our C programs as a distribution would: optimized and without frame pointers.
    pub(super) fn compile(&self, name: &str) -> anyhow::Result<PathBuf> {
        self.compile_with(name, &[], name)
    }

    /// The same with further options, as a program of the name `output`.
    pub(super) fn compile_with(&self, name: &str, options: &[&str], output: &str) -> anyhow::Result<PathBuf> {
        need("gcc", &["gcc", "libc6-dev"]).map_err(anyhow::Error::msg)?;
        let program = self.work.join(output);
        run(Command::new("gcc")
            .args(["-O2", "-g", "-fomit-frame-pointer", "-Wall", "-pthread"])
            .args(options)
            .arg("-o")
            .arg(&program)
            .arg(self.sources.join(name).with_extension("c")))?;
        Ok(program)
    }

    /// Builds one of the tracer's examples.
    pub(super) fn example(&self, name: &str) -> anyhow::Result<PathBuf> {
        run(cargo(&root()).args(["build", "--release", "--package", "tracer", "--example", name]))?;
        Ok(self.release.join("examples").join(name))
    }

    /// A file of ours that is not there yet.
    pub(super) fn fresh(&self, name: &str) -> anyhow::Result<PathBuf> {
        let path = self.work.join(name);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", path.display()))
            }
            _ => Ok(path),
        }
    }

    /// A named pipe of ours.
    pub(super) fn pipe(&self, name: &str) -> anyhow::Result<PathBuf> {
        let pipe = self.fresh(name)?;
        run(Command::new("mkfifo").arg(&pipe))?;
        Ok(pipe)
    }

    /// A capture as the JSON report tells it.
    pub(super) fn report(&self, capture: &Path) -> anyhow::Result<Value> {
        let text =
            output(Command::new(&self.alloctrace).arg("report").arg(capture).args(["--format", "json"]))?;
        serde_json::from_str(&text).context("read the JSON report")
    }

    pub(super) fn machine(&self) -> Value {
        let cpus = std::thread::available_parallelism().map_or(0, usize::from);
        json!({
            "cpu": cpu_model(),
            "cpus": cpus,
            "kernel": first_word_of("/proc/sys/kernel/osrelease"),
            "load": load(),
            "date": today(),
        })
    }

    pub(super) fn machine_line(&self) -> String {
        let machine = self.machine();
        let word = |field: &str| machine[field].as_str().unwrap_or("?").to_owned();
        format!("{} x {}, Linux {}, load {:.1} before", machine["cpus"], word("cpu"), word("kernel"), load())
    }
}

/// The losses of a report in a cell.
pub(super) fn named_losses(report: &Value) -> String {
    let losses = losses(report);
    let named: Vec<String> = losses.iter().map(|(name, count)| format!("{name} {count}")).collect();
    if named.is_empty() { "none".to_owned() } else { named.join(", ") }
}

/// What is not nothing among the losses of a JSON report.
pub(super) fn losses(report: &Value) -> Vec<(String, u64)> {
    let fields = report["loss"].as_object().into_iter().flatten();
    fields
        .filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)))
        .filter(|(_, count)| *count > 0)
        .collect()
}

/// Makes sure that a program is there: installs it where that is possible, else says why it is not there.
pub(super) fn need(program: &str, packages: &[&str]) -> Result<(), String> {
    if find(program).is_some() {
        return Ok(());
    }
    let installed = Shell::new().map_err(Into::into).and_then(|sh| crate::packages::ensure(&sh, packages));
    installed.map_err(|error| format!("{program} is not there: {error:#}"))?;
    find(program).map(drop).ok_or_else(|| format!("{program} is not in {packages:?}"))
}

fn find(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|it| it.join(program)).find(|it| it.is_file())
}

fn cargo(root: &Path) -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").as_deref().unwrap_or(OsStr::new("cargo")));
    cargo.current_dir(root);
    cargo
}

/// Runs a command that has to succeed.
pub(super) fn run(command: &mut Command) -> anyhow::Result<()> {
    let status = command.status().with_context(|| format!("start {command:?}"))?;
    ensure!(status.success(), "{command:?} failed: {status}");
    Ok(())
}

/// Standard output of a command that has to succeed.
pub(super) fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().with_context(|| format!("start {command:?}"))?;
    if !output.status.success() {
        bail!("{command:?} failed: {}\n{}", output.status, String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let model = text.lines().find(|it| it.starts_with("model name")).and_then(|it| it.split(": ").nth(1));
    model.unwrap_or("unknown CPU").to_owned()
}

fn today() -> String {
    output(Command::new("date").arg("+%Y-%m-%d")).map_or_else(|_| "?".to_owned(), |it| it.trim().to_owned())
}

fn first_word_of(path: &str) -> String {
    let text = fs::read_to_string(path).unwrap_or_default();
    text.split_whitespace().next().unwrap_or("?").to_owned()
}

/// How many tasks wanted a CPU in the last minute.
fn load() -> f64 {
    first_word_of("/proc/loadavg").parse().unwrap_or(f64::NAN)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_losses_that_happened_are_named() {
        let report = json!({ "loss": { "grade": "B", "lost_events": 3, "lost_stacks": 0 } });
        assert_eq!(losses(&report), [("lost_events".to_owned(), 3)]);
        assert_eq!(losses(&json!({})), []);
    }
}
