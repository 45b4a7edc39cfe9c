//! Where a process's just-in-time compiler says what it has compiled: by convention `/tmp/perf-PID.map`, in the
//! process's own view of files and of process numbers.

use std::{fs, path::PathBuf};

use procfs::process::Process;

/// A file of names that the process may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerfMap {
    pub path: PathBuf,
    /// Whose it must be, unless it is root's: `/tmp` is open to everybody.
    pub owner: u32,
}

impl PerfMap {
    pub(crate) fn of(tgid: u32) -> Option<Self> {
        let status = Process::new(tgid as i32).ok()?.status().ok()?;
        let inner = status.nspid.as_ref().and_then(|it| it.last().copied()).unwrap_or(tgid as i32);
        let mounts = |process: &str| fs::read_link(format!("/proc/{process}/ns/mnt")).ok();
        let root = fs::read_link(format!("/proc/{tgid}/root")).ok()?;
        // A path of ours holds when the process has ended.
        let is_ours = mounts("self") == mounts(&tgid.to_string()) && root.as_os_str() == "/";
        let root = if is_ours { String::new() } else { format!("/proc/{tgid}/root") };
        Some(Self { path: format!("{root}/tmp/perf-{inner}.map").into(), owner: status.euid })
    }
}
