//! The watch under test: what it takes, what it says, what it alarms about.

use std::{
    fs::{self, File},
    io::{Read as _, Write as _},
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;

use super::crew::{BRIEF, SHAPES};

/// What every process of the crew may take. Growth is judged over less than a life.
const CONFIG: &str = "\
[[budget]]
label = 'soak'
command = '*/soak-*'
max-growth = '1MiB/min'
over = 'OVER'
max-rss = '256MiB'
[alerts]
log = 'LOG'
resolve-after = '10s'
[http]
listen = 'unix:SOCKET'
";

pub(super) struct Tracer {
    process: Child,
    directory: PathBuf,
}

/// What it took at some moment.
#[derive(Clone, Copy)]
pub(super) struct Moment {
    pub(super) rss_bytes: f64,
    pub(super) cpu_s: f64,
    /// That it holds open.
    pub(super) files: f64,
}

/// An alert, as the log has it.
pub(super) struct Alert {
    pub(super) pid: u32,
    pub(super) name: String,
    pub(super) is_raised: bool,
    pub(super) severity: String,
    /// Of the stack that comes first.
    pub(super) functions: Vec<String>,
    pub(super) message: String,
}

impl Tracer {
    pub(super) fn start(
        alloctrace: &Path,
        directory: &Path,
        over: Duration,
        everybody: bool,
    ) -> Result<Self> {
        let path = |name: &str| directory.join(name).display().to_string();
        let config = CONFIG
            .replace("OVER", &format!("{}s", over.as_secs()))
            .replace("LOG", &path("alerts.jsonl"))
            .replace("SOCKET", &path("socket"));
        fs::write(directory.join("watch.toml"), config)?;
        let log = directory.join("watch.log");
        let names = SHAPES.iter().map(|it| it.name).chain([BRIEF]);
        let names = names.filter(|_| !everybody).flat_map(|it| ["-n", it]);
        let process = Command::new(alloctrace)
            .args(["watch", "--config", &path("watch.toml"), "--state-dir", &path("state")])
            .args(names)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(File::create(&log)?)
            .spawn()
            .context("start alloctrace")?;
        let mut tracer = Self { process, directory: directory.to_owned() };
        let deadline = Instant::now() + Duration::from_secs(120);
        while !tracer.said().contains("alloctrace: ready") {
            let ended = tracer.process.try_wait()?;
            if ended.is_some() || Instant::now() > deadline {
                bail!("the watch did not begin:\n{}", tracer.said());
            }
            thread::sleep(Duration::from_millis(100));
        }
        Ok(tracer)
    }

    pub(super) fn said(&self) -> String {
        fs::read_to_string(self.directory.join("watch.log")).unwrap_or_default()
    }

    /// What it takes now.
    ///
    /// # Errors
    /// It has ended.
    pub(super) fn moment(&mut self) -> Result<Moment> {
        if let Some(status) = self.process.try_wait()? {
            bail!("the watch ended with {status}:\n{}", self.said());
        }
        let of = |name: &str| fs::read_to_string(format!("/proc/{}/{name}", self.process.id()));
        let status = of("status")?;
        let rss = status.lines().find_map(|it| it.strip_prefix("VmRSS:")).context("no VmRSS")?;
        let rss_kib: f64 = rss.trim().trim_end_matches(" kB").parse()?;
        let stat = of("stat")?;
        // Behind the name, which may have spaces: the 14th and 15th field of all.
        let fields: Vec<&str> = stat.rsplit_once(')').context("no name")?.1.split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|it| it.parse::<f64>().ok()).context("no time");
        let files = fs::read_dir(format!("/proc/{}/fd", self.process.id()))?.count() as f64;
        let cpu_s = (ticks(11)? + ticks(12)?) / TICKS_PER_S;
        Ok(Moment { rss_bytes: rss_kib * 1024.0, cpu_s, files })
    }

    /// A page of it.
    pub(super) fn page(&self, path: &str) -> Result<String> {
        let mut stream = UnixStream::connect(self.directory.join("socket"))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        let answer = String::from_utf8_lossy(&answer).into_owned();
        let (head, body) = answer.split_once("\r\n\r\n").context("no answer")?;
        ensure!(head.starts_with("HTTP/1.1 200"), "{path}: {}", head.lines().next().unwrap_or_default());
        Ok(body.to_owned())
    }

    /// What it counts of this name, by the values of its label.
    pub(super) fn counted(&self, name: &str) -> Result<Vec<(String, f64)>> {
        let page = self.page("/metrics")?;
        let lines = page.lines().filter_map(|it| it.strip_prefix(name)?.split_once(' '));
        let labelled = lines.map(|(label, value)| (label.to_owned(), value.parse().unwrap_or(f64::NAN)));
        Ok(labelled.filter(|it| it.1 != 0.0).collect())
    }

    pub(super) fn alerts(&self) -> Result<Vec<Alert>> {
        let text = fs::read_to_string(self.directory.join("alerts.jsonl")).unwrap_or_default();
        text.lines().map(Alert::read).collect()
    }

    /// Has it end as a service's manager does.
    pub(super) fn leave(mut self) -> Result<()> {
        let pid = self.process.id().to_string();
        let asked = Command::new("kill").args(["-TERM", &pid]).status().context("run kill")?;
        ensure!(asked.success(), "the watch is not there");
        let status = self.process.wait()?;
        ensure!(status.success(), "the watch ended with {status}:\n{}", self.said());
        Ok(())
    }
}

/// `USER_HZ`, which has been this on x86-64 for ever (asm-generic/param.h).
const TICKS_PER_S: f64 = 100.0;

impl Drop for Tracer {
    fn drop(&mut self) {
        // Of one that has ended nothing is left to be killed.
        if let Ok(None) = self.process.try_wait() {
            let _ = self.process.kill();
            let _ = self.process.wait();
        }
    }
}

impl Alert {
    fn read(line: &str) -> Result<Self> {
        let row: Value = serde_json::from_str(line).with_context(|| format!("an alert: {line}"))?;
        let text = |it: &Value| it.as_str().unwrap_or_default().to_owned();
        let functions = row["stacks"][0]["functions"].as_array();
        Ok(Self {
            pid: row["subject"]["pid"].as_u64().and_then(|it| it.try_into().ok()).unwrap_or(0),
            name: text(&row["subject"]["name"]),
            is_raised: row["state"] != "resolved",
            severity: text(&row["severity"]),
            functions: functions.into_iter().flatten().map(text).collect(),
            message: text(&row["message"]),
        })
    }
}
