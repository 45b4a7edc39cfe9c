//! Where a process's just-in-time compiler says what it has compiled: by convention `/tmp/perf-PID.map`, in the
//! process's own view of files and of process numbers.

use std::{
    fs::{self, File},
    io::Read as _,
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _},
    path::PathBuf,
};

use procfs::process::Process;

/// More than any compiler has to say; such a file is left alone.
const MAX_BYTES: u64 = 256 << 20;

/// A file of names that the process may write.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PerfMap {
    tgid: u32,
    path: PathBuf,
    /// Whose it must be, unless it is root's: `/tmp` is open to everybody.
    owner: u32,
    /// Inode, length and time of the last change, as they were when it was read.
    seen: Option<(u64, u64, i64, i64)>,
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
        Some(Self {
            tgid,
            path: format!("{root}/tmp/perf-{inner}.map").into(),
            owner: status.euid,
            seen: None,
        })
    }

    /// The process that makes the code.
    pub fn tgid(&self) -> u32 {
        self.tgid
    }

    /// What it says, if that is new.
    pub fn read_new(&mut self) -> Option<String> {
        // Whoever can put something in its place must not have us wait for it, or lead us elsewhere.
        let flags = (rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::NOFOLLOW).bits() as i32;
        let file = File::options().read(true).custom_flags(flags).open(&self.path).ok()?;
        let facts = file.metadata().ok()?;
        let seen = Some((facts.ino(), facts.len(), facts.mtime(), facts.mtime_nsec()));
        let is_theirs = facts.uid() == self.owner || facts.uid() == 0;
        if !facts.is_file() || !is_theirs || facts.len() > MAX_BYTES || self.seen == seen {
            return None;
        }
        let mut bytes = Vec::with_capacity(facts.len() as usize);
        file.take(MAX_BYTES).read_to_end(&mut bytes).ok()?;
        self.seen = seen;
        Some(String::from_utf8_lossy(&bytes).into_owned())
    }
}
