//! What a program is measured under, and how each is started.

use std::{fmt, fs, path::Path, process::Command};

use anyhow::{Context as _, bail};

use super::{
    afterwards::bound,
    lab::{self, Lab},
    memleak,
    tracer::Running,
};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Tool {
    Untraced,
    /// Empty programs at the symbols and returns, where bcc and bpftrace place theirs.
    NaiveFloor,
    /// Empty programs on the probe sites of alloctrace: what the traps alone cost.
    Floor,
    Alloctrace,
    /// The classic script: entry and return of malloc, entry of free, a map by address, a stack each.
    Bpftrace,
    /// Of bcc.
    Memleak,
    /// In the process itself, by `LD_PRELOAD`.
    Heaptrack,
}

impl Tool {
    pub(super) const ALL: [Self; 7] = [
        Self::Untraced,
        Self::NaiveFloor,
        Self::Floor,
        Self::Alloctrace,
        Self::Bpftrace,
        Self::Memleak,
        Self::Heaptrack,
    ];
    /// Those that can come to a process that runs.
    pub(super) const ATTACHED: [Self; 6] =
        [Self::Untraced, Self::NaiveFloor, Self::Floor, Self::Alloctrace, Self::Bpftrace, Self::Memleak];

    /// The name of its figures in JSON.
    pub(super) fn key(self) -> &'static str {
        match self {
            Self::Untraced => "untraced",
            Self::NaiveFloor => "naive_floor",
            Self::Floor => "floor",
            Self::Alloctrace => "alloctrace",
            Self::Bpftrace => "bpftrace",
            Self::Memleak => "memleak",
            Self::Heaptrack => "heaptrack",
        }
    }

    /// Why it cannot be measured here.
    pub(super) fn missing(self, lab: &Lab) -> Option<String> {
        match self {
            Self::Bpftrace => lab::need("bpftrace", &["bpftrace"]).err(),
            Self::Memleak => memleak::missing(lab),
            Self::Heaptrack => lab::need("heaptrack", &["heaptrack", "zstd"]).err(),
            Self::Untraced | Self::NaiveFloor | Self::Floor | Self::Alloctrace => None,
        }
    }
}

impl fmt::Display for Tool {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Untraced => "untraced",
            Self::NaiveFloor => "empty, at symbols",
            Self::Floor => "empty, our sites",
            Self::Alloctrace => "alloctrace",
            Self::Bpftrace => "bpftrace script",
            Self::Memleak => "memleak",
            Self::Heaptrack => "heaptrack",
        })
    }
}

pub(super) const READY: &str = "alloctrace: ready";
const BPFTRACE_READY: &str = "bench: live";

/// Attaches to a running process; `None` for no tracer. `capture` is what alloctrace writes.
pub(super) fn attach(tool: Tool, lab: &Lab, pid: u32, capture: &Path) -> anyhow::Result<Option<Running>> {
    let pid_text = pid.to_string();
    let log = lab.work.join("tracer.log");
    let mut command = match tool {
        Tool::Untraced => return Ok(None),
        Tool::Heaptrack => bail!("heaptrack is measured in launched programs only"),
        Tool::Alloctrace => return record(lab, &["-p".to_owned(), pid_text], capture).map(Some),
        Tool::Floor | Tool::NaiveFloor => {
            let mut command = bound(&lab.alloctrace, "INT");
            command.args(["bench-floor", "-p", &pid_text]);
            command.args((tool == Tool::NaiveFloor).then_some("--naive"));
            let mut running = Running::start(&mut command, log)?;
            running.until_log_says(READY)?;
            return Ok(Some(running));
        }
        Tool::Bpftrace => bpftrace(lab, pid)?,
        Tool::Memleak => memleak::command(lab, pid, &allocator(pid)?)?,
    };
    let mut running = Running::start(&mut command, log)?;
    if tool == Tool::Bpftrace {
        // It greets before it places its probes.
        running.until_log_says(BPFTRACE_READY)?;
    }
    running.until_probes_are_placed()?;
    Ok(Some(running))
}

/// Ends what [`attach`] has started, which may have ended with its target.
pub(super) fn detach(tool: Tool, running: Running) -> anyhow::Result<super::tracer::Usage> {
    // It prints a report of everything that is live, which takes minutes in Python.
    if tool == Tool::Memleak { running.discard() } else { running.finish() }
}

/// Records with `target`, as typed.
pub(super) fn record(lab: &Lab, target: &[String], capture: &Path) -> anyhow::Result<Running> {
    let mut command = bound(&lab.alloctrace, "INT");
    command.args(["record", "--force", "-o"]).arg(capture).args(target);
    let mut running = Running::start(&mut command, lab.work.join("tracer.log"))?;
    running.until_log_says(READY)?;
    Ok(running)
}

/// Watches every process of this machine.
pub(super) fn watch(lab: &Lab, settings: &[String]) -> anyhow::Result<Running> {
    let mut command = bound(&lab.alloctrace, "INT");
    command.args(["watch", "--all", "--listen", "none"]).args(settings);
    let mut running = Running::start(&mut command, lab.work.join("tracer.log"))?;
    running.until_log_says(READY)?;
    Ok(running)
}

const HEAPTRACK_DIR: &str = "/usr/lib/heaptrack";

/// What reads from a process under heaptrack, and what such a process has in its environment: as the script
/// `heaptrack` does it, which would leave processes behind when it is interrupted.
pub(super) fn heaptrack(lab: &Lab) -> anyhow::Result<(Running, [String; 2])> {
    let pipe = lab.pipe("heaptrack.pipe")?;
    let mut reader = bound("sh", "TERM");
    reader.arg("-c").arg(format!(
        "{HEAPTRACK_DIR}/libexec/heaptrack_interpret < {pipe} | zstd -c > {pipe}.zst",
        pipe = pipe.display()
    ));
    let environment = [
        format!("LD_PRELOAD={HEAPTRACK_DIR}/libheaptrack_preload.so"),
        format!("DUMP_HEAPTRACK_OUTPUT={}", pipe.display()),
    ];
    Ok((Running::start(&mut reader, lab.work.join("heaptrack.log"))?, environment))
}

fn bpftrace(lab: &Lab, pid: u32) -> anyhow::Result<Command> {
    let script = lab.work.join("classic.bt");
    fs::write(&script, classic_script(&allocator(pid)?))
        .with_context(|| format!("write {}", script.display()))?;
    let mut command = bound("bpftrace", "INT");
    command.env("BPFTRACE_MAP_KEYS_MAX", "2000000").args(["-B", "none"]).arg(script);
    command.args(["-p", &pid.to_string()]);
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
}
