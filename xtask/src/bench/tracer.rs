//! A tracer at work: when it is ready, what it uses, its end.

use std::{
    fs,
    path::PathBuf,
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, ensure};
use serde_json::{Value, json};

/// Which clock ticks `/proc/PID/stat` counts in; the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(2);
const BACKLOG: Duration = Duration::from_secs(30);
/// Longer than a tracer takes from one probe to the next.
const SETTLED: Duration = Duration::from_millis(400);

/// A tracer at work. Ends with this value.
pub(super) struct Running {
    child: Child,
    log: PathBuf,
    max_rss_kib: u64,
    ready_s: Option<f64>,
}

/// What a tracer used from its start to its end.
#[derive(Clone, Copy, Debug)]
pub(super) struct Usage {
    pub(super) cpu_s: f64,
    pub(super) max_rss_kib: u64,
    /// From its start until it said that it was ready.
    pub(super) ready_s: Option<f64>,
    /// From Ctrl-C to its end; of attached ones only.
    pub(super) end_s: Option<f64>,
}

impl Usage {
    pub(super) fn json(self) -> Value {
        json!({
            "cpu_s": self.cpu_s,
            "max_rss_kib": self.max_rss_kib,
            "ready_s": self.ready_s,
            "end_s": self.end_s,
        })
    }
}

impl Running {
    /// What it says goes to the file `log`.
    pub(super) fn start(command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self { child, log, max_rss_kib: 0, ready_s: None })
    }

    pub(super) fn until_log_says(&mut self, ready: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        while !self.log_text().contains(ready) {
            ensure!(self.is_running(), "the tracer ended before it was ready:\n{}", self.log_text());
            ensure!(start.elapsed() < PATIENCE, "the tracer did not get ready:\n{}", self.log_text());
            thread::sleep(POLL);
        }
        self.ready_s = Some(start.elapsed().as_secs_f64());
        Ok(())
    }

    /// For those that say nothing when their probes are in place: until no more come.
    pub(super) fn until_probes_are_placed(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        let (mut count, mut since) = (0, Instant::now());
        while count == 0 || since.elapsed() < SETTLED {
            ensure!(self.is_running(), "the tracer ended before it was ready:\n{}", self.log_text());
            ensure!(start.elapsed() < PATIENCE, "the tracer places no probes:\n{}", self.log_text());
            let now = perf_events(self.child.id());
            if now != count {
                (count, since) = (now, Instant::now());
            }
            thread::sleep(POLL);
        }
        self.ready_s = Some(self.ready_s.unwrap_or(0.0) + (since - start).as_secs_f64());
        Ok(())
    }

    fn log_text(&self) -> String {
        fs::read(&self.log).map(|it| String::from_utf8_lossy(&it).into_owned()).unwrap_or_default()
    }

    pub(super) fn pid(&self) -> u32 {
        self.child.id()
    }

    /// CPU seconds so far of the threads that there are: less than before if one has ended.
    pub(super) fn cpu_s(&self) -> f64 {
        super::launched::cpu_s_of(self.child.id()).unwrap_or(0.0)
    }

    /// Looks at the memory now, too: the kernel forgets the maximum when a process has ended.
    fn is_running(&mut self) -> bool {
        if let Some(rss) = max_rss_kib(self.child.id()) {
            self.max_rss_kib = self.max_rss_kib.max(rss);
        }
        stat(self.child.id()).is_some_and(|it| it.state != 'Z')
    }

    /// Seconds from its start until it was ready.
    pub(super) fn ready_s(&self) -> Option<f64> {
        self.ready_s
    }

    /// Memory of its own. What it maps of the kernel's maps counts as resident too, the ring even twice.
    pub(super) fn own_mib(&self) -> Option<f64> {
        kib_in_status(self.child.id(), "RssAnon:").map(|it| it as f64 / 1024.0)
    }

    /// Until it has nothing to do but to write its intervals, or for half a minute.
    pub(super) fn until_idle(&self) {
        let start = Instant::now();
        while start.elapsed() < BACKLOG {
            let before = self.cpu_s();
            thread::sleep(SETTLED);
            if self.cpu_s() - before < SETTLED.as_secs_f64() / 5.0 {
                return;
            }
        }
    }

    /// What its maps take of the kernel's memory.
    pub(super) fn maps_mib(&self) -> f64 {
        let files = fs::read_dir(format!("/proc/{}/fdinfo", self.child.id())).into_iter().flatten();
        let texts = files.filter_map(|it| fs::read_to_string(it.ok()?.path()).ok());
        let bytes = |text: String| {
            text.contains("map_type:").then(|| {
                text.lines().find_map(|it| it.strip_prefix("memlock:")?.trim().parse::<u64>().ok())
            })?
        };
        texts.filter_map(bytes).sum::<u64>() as f64 / (1 << 20) as f64
    }

    /// Ends it without a chance to tidy up. Returns the seconds until it was gone, and with it everything it had
    /// in the kernel.
    pub(super) fn kill(mut self) -> anyhow::Result<f64> {
        let start = Instant::now();
        self.child.kill().context("kill the tracer")?;
        self.child.wait()?;
        Ok(start.elapsed().as_secs_f64())
    }

    /// Ends one whose report nobody needs.
    pub(super) fn discard(mut self) -> anyhow::Result<Usage> {
        ensure!(self.is_running(), "the tracer ended before it was told to:\n{}", self.log_text());
        let usage =
            Usage { cpu_s: self.cpu_s(), max_rss_kib: self.max_rss_kib, ready_s: self.ready_s, end_s: None };
        self.kill()?;
        Ok(usage)
    }

    /// As [`Self::stop`], if it has not ended with its target.
    pub(super) fn finish(mut self) -> anyhow::Result<Usage> {
        if self.is_running() { self.stop() } else { self.wait() }
    }

    /// As Ctrl-C does, and waits for the end.
    pub(super) fn stop(mut self) -> anyhow::Result<Usage> {
        ensure!(self.is_running(), "the tracer ended before it was told to:\n{}", self.log_text());
        super::lab::run(Command::new("kill").args(["-INT", &self.child.id().to_string()]))?;
        let start = Instant::now();
        let usage = self.wait()?;
        Ok(Usage { end_s: Some(start.elapsed().as_secs_f64()), ..usage })
    }

    /// Until it ends by itself.
    pub(super) fn wait(mut self) -> anyhow::Result<Usage> {
        let start = Instant::now();
        while self.is_running() {
            ensure!(start.elapsed() < 5 * PATIENCE, "still running:\n{}", self.log_text());
            thread::sleep(POLL);
        }
        // A process that has ended keeps its times until it is waited for. Those of its children are added only
        // for a shell, which is the one that waits for nothing but its own helpers.
        let used = stat(self.child.id()).context("a child that nobody has waited for")?;
        let cpu_s = if used.name == "sh" { used.own_s + used.children_s } else { used.own_s };
        let status = self.child.wait()?;
        ensure!(status.success(), "{status}:\n{}", self.log_text());
        Ok(Usage { cpu_s, max_rss_kib: self.max_rss_kib, ready_s: self.ready_s, end_s: None })
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Only on the way out of an error: it has been waited for otherwise, and this does nothing.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

struct Stat {
    name: String,
    state: char,
    own_s: f64,
    children_s: f64,
}

fn stat(pid: u32) -> Option<Stat> {
    parse_stat(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
}

fn parse_stat(text: &str) -> Option<Stat> {
    // The name may hold spaces and parentheses.
    let (start, rest) = text.rsplit_once(')')?;
    let name = start.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let seconds = |field: usize| Some(fields.get(field)?.parse::<f64>().ok()? / TICKS_PER_SECOND);
    Some(Stat {
        name,
        state: fields.first()?.chars().next()?,
        own_s: seconds(11)? + seconds(12)?,
        children_s: seconds(13)? + seconds(14)?,
    })
}

/// How many probes, and buffers of events, a process has open.
fn perf_events(pid: u32) -> usize {
    let files = fs::read_dir(format!("/proc/{pid}/fd")).into_iter().flatten().flatten();
    let names = files.filter_map(|it| fs::read_link(it.path()).ok());
    names.filter(|it| it.as_os_str() == "anon_inode:[perf_event]").count()
}

fn max_rss_kib(pid: u32) -> Option<u64> {
    kib_in_status(pid, "VmHWM:")
}

fn kib_in_status(pid: u32, field: &str) -> Option<u64> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    status.lines().find_map(|it| it.strip_prefix(field))?.trim().strip_suffix(" kB")?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_found_behind_any_name() {
        let line = "12 (a) b (c) Z 1 2 3 4 -1 6 7 8 9 10 150 50 25 75 20 0 1 0 5";
        let stat = parse_stat(line).expect("a whole line");
        assert_eq!((stat.name.as_str(), stat.state), ("a) b (c", 'Z'));
        assert_eq!((stat.own_s, stat.children_s), (2.0, 1.0));
    }
}
