//! Starting and stopping what traces, and what it used.

use std::{
    fmt, fs,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, bail, ensure};
use serde_json::{Value, json};

use super::lab::Lab;

/// What a program is measured under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Tool {
    Untraced,
    /// Empty programs on the probe sites of alloctrace: what the traps alone cost.
    Floor,
    Alloctrace,
    /// The classic script: entry and return of malloc, entry of free, a map by address, a stack each.
    Bpftrace,
    /// In the process itself, by `LD_PRELOAD`.
    Heaptrack,
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Untraced => "untraced",
            Self::Floor => "empty programs",
            Self::Alloctrace => "alloctrace",
            Self::Bpftrace => "bpftrace script",
            Self::Heaptrack => "heaptrack",
        })
    }
}

/// Which clock ticks `/proc/PID/stat` counts in; the same on every Linux.
const TICKS_PER_SECOND: f64 = 100.0;
const PATIENCE: Duration = Duration::from_secs(120);
const POLL: Duration = Duration::from_millis(2);

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

/// Attaches to a running process; `None` for no tracer. `capture` is what alloctrace writes.
pub(super) fn attach(tool: Tool, lab: &Lab, pid: u32, capture: &Path) -> anyhow::Result<Option<Running>> {
    let pid_text = pid.to_string();
    let (mut command, ready) = match tool {
        Tool::Untraced => return Ok(None),
        Tool::Heaptrack => bail!("heaptrack is measured in launched programs only"),
        Tool::Floor => {
            let mut command = Command::new(&lab.alloctrace);
            command.args(["bench-floor", "-p", &pid_text]);
            (command, READY)
        }
        Tool::Alloctrace => {
            let mut command = Command::new(&lab.alloctrace);
            command.args(["record", "-p", &pid_text, "--force", "-o"]).arg(capture);
            (command, READY)
        }
        Tool::Bpftrace => {
            let mut command = bpftrace(lab, &allocator(pid)?)?;
            command.args(["-p", &pid_text]);
            (command, BPFTRACE_READY)
        }
    };
    let mut running = Running::start(&mut command, lab.work.join("tracer.log"))?;
    running.until_log_says(ready)?;
    if tool == Tool::Bpftrace {
        // It greets before it places its probes. Whoever can ask the target does that too.
        thread::sleep(Duration::from_millis(500));
    }
    Ok(Some(running))
}

/// Records with `target`, as typed.
pub(super) fn record(lab: &Lab, target: &[String], capture: &Path) -> anyhow::Result<Running> {
    let mut command = Command::new(&lab.alloctrace);
    command.args(["record", "--force", "-o"]).arg(capture).args(target);
    let mut running = Running::start(&mut command, lab.work.join("tracer.log"))?;
    running.until_log_says(READY)?;
    Ok(running)
}

const READY: &str = "alloctrace: ready";
const BPFTRACE_READY: &str = "bench: live";

/// Launches `command` under the tool and waits for both.
pub(super) fn launch(
    tool: Tool,
    lab: &Lab,
    command: &[String],
    capture: &Path,
) -> anyhow::Result<Option<Usage>> {
    let (program, args) = command.split_first().context("a program to launch")?;
    let mut plain = Command::new(program);
    plain.args(args);
    let log = lab.work.join("tracer.log");
    match tool {
        Tool::Untraced => Running::start(&mut plain, log)?.wait().map(|_| None),
        Tool::Floor => bail!("empty programs are attached to running processes only"),
        Tool::Alloctrace => {
            let mut tracer = Command::new(&lab.alloctrace);
            tracer.args(["record", "--force", "-o"]).arg(capture).arg("--").args(command);
            let mut tracer = Running::start(&mut tracer, log)?;
            tracer.until_log_says(READY)?;
            tracer.wait().map(Some)
        }
        Tool::Bpftrace => {
            // Its command is one word, cut at spaces.
            ensure!(command.iter().all(|it| !it.contains(' ')), "bpftrace cannot launch {command:?}");
            let mut tracer = bpftrace(lab, &allocator(std::process::id())?)?;
            tracer.args(["-c", &command.join(" ")]);
            Running::start(&mut tracer, log)?.wait().map(Some)
        }
        Tool::Heaptrack => {
            let pipe = heaptrack_pipe(lab)?;
            let mut reader = Command::new("sh");
            reader.arg("-c").arg(format!(
                "{HEAPTRACK_DIR}/libexec/heaptrack_interpret < {pipe} | zstd -c > {pipe}.zst",
                pipe = pipe.display()
            ));
            let reader = Running::start(&mut reader, lab.work.join("heaptrack.log"))?;
            // The stopwatch comes first and is not measured: only what it becomes shall have the library.
            let [stopwatch, out, group, rest @ ..] = command else { bail!("no stopwatch in {command:?}") };
            let mut traced = Command::new(stopwatch);
            traced.args([out, group, "env"]);
            traced.arg(format!("LD_PRELOAD={HEAPTRACK_DIR}/libheaptrack_preload.so"));
            traced.arg(format!("DUMP_HEAPTRACK_OUTPUT={}", pipe.display())).args(rest);
            Running::start(&mut traced, log)?.wait()?;
            reader.wait().map(Some)
        }
    }
}

const HEAPTRACK_DIR: &str = "/usr/lib/heaptrack";

fn heaptrack_pipe(lab: &Lab) -> anyhow::Result<PathBuf> {
    let pipe = lab.fresh("heaptrack.pipe")?;
    super::lab::run(Command::new("mkfifo").arg(&pipe))?;
    Ok(pipe)
}

fn bpftrace(lab: &Lab, allocator: &str) -> anyhow::Result<Command> {
    let script = lab.work.join("classic.bt");
    fs::write(&script, classic_script(allocator)).with_context(|| format!("write {}", script.display()))?;
    let mut command = Command::new("bpftrace");
    command.env("BPFTRACE_MAP_KEYS_MAX", "2000000").args(["-B", "none"]).arg(script);
    Ok(command)
}

fn classic_script(allocator: &str) -> String {
    format!(
        "BEGIN {{ printf(\"{BPFTRACE_READY}\\n\"); }}
uprobe:{allocator}:malloc {{ @size[tid] = arg0; }}
uretprobe:{allocator}:malloc /@size[tid]/ {{ @blocks[retval] = (@size[tid], ustack); delete(@size[tid]); }}
uprobe:{allocator}:free /arg0/ {{ delete(@blocks[arg0]); }}
END {{ clear(@size); clear(@blocks); }}
"
    )
}

/// The library that serves the process's malloc, as its mappings tell.
fn allocator(pid: u32) -> anyhow::Result<String> {
    let maps =
        fs::read_to_string(format!("/proc/{pid}/maps")).with_context(|| format!("read mappings of {pid}"))?;
    allocator_in(&maps).with_context(|| format!("process {pid} maps no C library"))
}

fn allocator_in(maps: &str) -> Option<String> {
    let code =
        || maps.lines().filter(|it| it.contains(" r-xp ")).filter_map(|it| it.find('/').map(|at| &it[at..]));
    let named =
        |start: &str| code().find(|it| it.rsplit('/').next().is_some_and(|name| name.starts_with(start)));
    let library =
        ["libjemalloc", "libtcmalloc", "libmimalloc", "libc.so", "libc-"].iter().find_map(|it| named(it));
    library.map(str::to_owned)
}

impl Running {
    fn start(command: &mut Command, log: PathBuf) -> anyhow::Result<Self> {
        let file = fs::File::create(&log).with_context(|| format!("create {}", log.display()))?;
        let child = command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file)
            .spawn()
            .with_context(|| format!("start {command:?}"))?;
        Ok(Self { child, log, max_rss_kib: 0, ready_s: None })
    }

    fn until_log_says(&mut self, ready: &str) -> anyhow::Result<()> {
        let start = Instant::now();
        while !self.log_text().contains(ready) {
            ensure!(self.is_running(), "the tracer ended before it was ready:\n{}", self.log_text());
            ensure!(start.elapsed() < PATIENCE, "the tracer did not get ready:\n{}", self.log_text());
            thread::sleep(POLL);
        }
        self.ready_s = Some(start.elapsed().as_secs_f64());
        Ok(())
    }

    fn log_text(&self) -> String {
        fs::read(&self.log).map(|it| String::from_utf8_lossy(&it).into_owned()).unwrap_or_default()
    }

    /// CPU seconds so far, without those of children.
    pub(super) fn cpu_s(&self) -> f64 {
        stat(self.child.id()).map_or(0.0, |it| it.own_s)
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

    /// As Ctrl-C does, and waits for the end.
    pub(super) fn stop(mut self) -> anyhow::Result<Usage> {
        ensure!(self.is_running(), "the tracer ended before it was told to:\n{}", self.log_text());
        super::lab::run(Command::new("kill").args(["-INT", &self.child.id().to_string()]))?;
        let start = Instant::now();
        let usage = self.wait()?;
        Ok(Usage { end_s: Some(start.elapsed().as_secs_f64()), ..usage })
    }

    /// Until it ends by itself.
    fn wait(mut self) -> anyhow::Result<Usage> {
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

/// CPU seconds of any process.
pub(super) fn cpu_s(pid: u32) -> Option<f64> {
    stat(pid).map(|it| it.own_s)
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
    fn another_allocator_goes_before_the_c_library() {
        let libc = "7f00-7f01 r-xp 00028000 fe:00 77 /usr/lib/x86_64-linux-gnu/libc.so.6";
        let jemalloc = "7e00-7e01 r-xp 00005000 fe:00 78 /usr/lib/x86_64-linux-gnu/libjemalloc.so.2";
        let data = "7d00-7d01 rw-p 00005000 fe:00 78 /usr/lib/x86_64-linux-gnu/libtcmalloc.so.4";
        let path = |maps: &str| allocator_in(maps);
        assert_eq!(path(libc).as_deref(), Some("/usr/lib/x86_64-linux-gnu/libc.so.6"));
        let all = format!("{libc}\n{data}\n{jemalloc}\n");
        assert_eq!(path(&all).as_deref(), Some("/usr/lib/x86_64-linux-gnu/libjemalloc.so.2"));
        assert_eq!(path("7f00-7f01 r-xp 00000000 00:00 0 [vdso]"), None);
    }

    #[test]
    fn times_are_found_behind_any_name() {
        let line = "12 (a) b (c) Z 1 2 3 4 -1 6 7 8 9 10 150 50 25 75 20 0 1 0 5";
        let stat = parse_stat(line).expect("a whole line");
        assert_eq!((stat.name.as_str(), stat.state), ("a) b (c", 'Z'));
        assert_eq!((stat.own_s, stat.children_s), (2.0, 1.0));
    }
}
