//! `cargo xtask vm`: a machine of its own runs out of memory, and what the tracer has kept of the victim must be the truth.
//!
//! The machine is emulated, so that this works where no other can be made; nothing on this one is disturbed.

mod image;
mod kernel;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use xshell::{Shell, cmd};

use crate::{built, packages, target_dir};

/// Let a machine run out of memory (emulated by QEMU), and check what alloctrace tells of the process that was killed
///
/// The machine boots a kernel of Debian's and has a program leak through one function until the kernel kills it. That function
/// must come first, with the bytes that the program says. Missing packages are installed by apt-get, as root; the kernel is
/// downloaded into target/vm, and not installed.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often
    #[arg(long, default_value_t = 1)]
    runs: u32,
    /// Boot the newest of Debian's kernels of this series: 6.1, 6.12 and 6.18 are maintained for years
    #[arg(long, value_name = "VERSION", default_value = SERIES)]
    series: String,
    /// Boot this kernel (a bzImage)
    #[arg(long, value_name = "FILE", conflicts_with = "series")]
    kernel: Option<PathBuf>,
    /// Use this build of alloctrace; that of the sources, built first, if not given
    #[arg(long, value_name = "FILE")]
    alloctrace: Option<PathBuf>,
    /// Seconds after which a run is given up
    #[arg(long, value_name = "SECONDS", default_value_t = TIME_LIMIT_S)]
    time_limit: u64,
}

const SERIES: &str = "6.18";

const TIME_LIMIT_S: u64 = 300;

impl Args {
    /// As it is without options.
    pub(crate) fn once() -> Self {
        Self { runs: 1, series: SERIES.to_owned(), kernel: None, alloctrace: None, time_limit: TIME_LIMIT_S }
    }
}

const PACKAGES: [&str; 6] = ["qemu-system-x86", "busybox-static", "cpio", "gcc", "libc6-dev", "binutils"];

/// Of the machine. The tracer takes less than a third of it.
const MEMORY: &str = "1G";

/// What may be missing or too much.
const TOLERANCE: f64 = 0.01;

pub(crate) fn run(sh: &Shell, args: &Args) -> Result<()> {
    packages::ensure(sh, &PACKAGES)?;
    let work = target_dir().join("vm");
    sh.create_dir(&work)?;
    let kernel = match &args.kernel {
        Some(it) => kernel::given(it)?,
        None => kernel::find_or_download(sh, &work, &args.series)?,
    };
    let alloctrace = built(sh, args.alloctrace.as_deref())?;
    let archive = image::build(sh, &work, &alloctrace)?;
    let mut failed = 0;
    for number in 1..=args.runs {
        let started = Instant::now();
        let out = work.join(format!("run-{number}"));
        let machine = Machine { kernel: &kernel, archive: &archive, out };
        let outcome = machine
            .run(sh, Duration::from_secs(args.time_limit))
            .and_then(|()| check(sh, &alloctrace, &machine.out));
        let took_s = started.elapsed().as_secs_f64();
        match outcome {
            Ok(told) => println!("run {number}: {told}; {took_s:.0} s"),
            Err(error) => {
                failed += 1;
                println!("run {number} FAILED after {took_s:.0} s: {error:#}");
            }
        }
    }
    ensure!(failed == 0, "{failed} of {} runs failed; their files are in {}", args.runs, work.display());
    Ok(())
}

struct Machine<'a> {
    kernel: &'a Path,
    archive: &'a Path,
    /// Where its files go.
    out: PathBuf,
}

impl Machine<'_> {
    /// Runs it to its end, and unpacks what it has sent.
    fn run(&self, sh: &Shell, limit: Duration) -> Result<()> {
        sh.remove_path(&self.out)?;
        sh.create_dir(&self.out)?;
        let (console, sent) = (self.out.join("console"), self.out.join("sent"));
        let mut qemu = Command::new("qemu-system-x86_64")
            // No network, no disk, no screen: two serial lines.
            .args(["-nodefaults", "-no-user-config", "-display", "none", "-no-reboot"])
            .args(["-accel", "tcg", "-smp", "2", "-m", MEMORY])
            .arg("-kernel")
            .arg(self.kernel)
            .arg("-initrd")
            .arg(self.archive)
            .args(["-append", "console=ttyS0 panic=-1 quiet"])
            .args(["-serial", &format!("file:{}", console.display())])
            .args(["-serial", &format!("file:{}", sent.display())])
            .stdin(Stdio::null())
            .spawn()
            .context("start qemu-system-x86_64")?;
        let deadline = Instant::now() + limit;
        let status = loop {
            if let Some(status) = qemu.try_wait()? {
                break status;
            }
            if Instant::now() > deadline {
                qemu.kill()?;
                qemu.wait()?;
                bail!("it has not ended after {} s; its last words:\n{}", limit.as_secs(), end_of(&console));
            }
            thread::sleep(Duration::from_millis(100));
        };
        ensure!(status.success(), "qemu ended with {status}; its last words:\n{}", end_of(&console));
        let out = &self.out;
        let packed = out.join("sent.tar");
        let bytes = cmd!(sh, "base64 --decode --ignore-garbage {sent}").quiet().output()?.stdout;
        sh.write_file(&packed, bytes)?;
        cmd!(sh, "tar --extract --file {packed} --directory {out}")
            .quiet()
            .run()
            .with_context(|| format!("it has not sent its files; its last words:\n{}", end_of(&console)))
    }
}

/// The last lines of a file.
fn end_of(path: &Path) -> String {
    let text = fs::read(path).map(|it| String::from_utf8_lossy(&it).into_owned()).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}

/// Compares what is told of the victim with what it said itself.
fn check(sh: &Shell, alloctrace: &Path, out: &Path) -> Result<String> {
    let read = |name: &str| fs::read_to_string(out.join(name)).with_context(|| format!("read {name}"));
    let log = read("tracer.log")?;
    let status = read("leak.status")?;
    ensure!(status.trim() == "137", "the program that leaks was not killed, but ended with {status}{log}");
    ensure!(
        read("kernel.log")?.contains("Out of memory: Killed process"),
        "the kernel tells of no lack of memory"
    );
    let ended = read("tracer.status")?;
    ensure!(ended.trim() == "0", "the tracer ended with {ended}{log}");
    let leaked: f64 = read("books")?.trim().parse().context("what the program says")?;

    let state = out.join("state");
    let listed = cmd!(sh, "{alloctrace} incidents --json --state-dir {state}").quiet().read()?;
    let listed: Vec<Value> = serde_json::from_str(&listed).context("read the list of incidents")?;
    let [incident] = listed.as_slice() else { bail!("{} incidents, one expected\n{log}", listed.len()) };
    let said = |name: &str| incident[name].as_str().unwrap_or("nothing");
    let constraint = said("constraint");
    ensure!(said("kind") == "oom-kill" && constraint == "machine", "{} of {constraint}\n{log}", said("kind"));
    ensure!(incident["victim"]["name"] == image::LEAKING.0, "the victim is {}", incident["victim"]["name"]);
    let path = said("path");
    let report = cmd!(sh, "{alloctrace} report {path} --format json").quiet().read()?;
    let report: Value = serde_json::from_str(&report).context("read the report")?;
    let sites = report["sites"].as_array().context("a report without sites")?;
    let first = sites.first().context("no site")?;
    let function = first["frames"][0]["function"].as_str().unwrap_or("nothing");
    ensure!(function == image::LEAKING.1, "{function} comes first");
    let told = first["live_bytes"].as_f64().context("no live bytes")?;
    let off = told / leaked - 1.0;
    ensure!(off.abs() <= TOLERANCE, "{told} bytes are told of {leaked}: {:+.2} %", 100.0 * off);
    Ok(format!("{function} is first, with {told} of {leaked} bytes ({:+.3} %)", 100.0 * off))
}
