//! Processes as `/proc` tells of them.

use std::{
    ffi::OsStr,
    fs, io,
    path::{Path, PathBuf},
    time::Duration,
};

use procfs::{
    ProcError,
    process::{MMPermissions, MMapPath, Process},
};
use tracer_ebpf::mapping::{Mapped, ObjectKey, VDSO};

use super::{StartError, cgroup, contents, object};
use crate::elf::closure;

/// What a report says of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Description {
    pub name: String,
    pub command: String,
    pub exe: String,
    /// The lowest memory limit of the control groups it is in.
    pub limit_bytes: Option<u64>,
    /// The control group that accounts its memory, from the root of the hierarchy on.
    pub cgroup: Option<String>,
}

/// An executable mapping of a file, or the vDSO.
#[derive(Clone, Debug)]
pub(crate) struct CodeMapping {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) file_offset: u64,
    pub(crate) key: ObjectKey,
    /// As the process sees it; it may have been deleted since.
    pub(crate) path: String,
}

impl CodeMapping {
    pub(crate) fn mapped(&self, object: u32) -> Mapped {
        Mapped {
            start: self.start,
            end: self.end,
            file_delta: self.file_offset.wrapping_sub(self.start),
            object,
            pad: 0,
        }
    }
}

/// The executable mappings, in the order of their addresses.
///
/// # Errors
/// If the process is gone or may not be looked at.
pub(crate) fn code_mappings(tgid: u32) -> Result<Vec<CodeMapping>, ProcError> {
    let maps = Process::new(tgid as i32)?.maps()?;
    let code = maps.iter().filter(|it| it.perms.contains(MMPermissions::EXECUTE));
    Ok(code.filter_map(|it| code_mapping(tgid, it)).collect())
}

fn code_mapping(tgid: u32, map: &procfs::process::MemoryMap) -> Option<CodeMapping> {
    let (path, key) = match &map.pathname {
        MMapPath::Path(path) => {
            // The kernel's internal device number has 20 bits for the minor part.
            let dev = (map.dev.0 as u32) << 20 | map.dev.1 as u32;
            let (start, end) = map.address;
            // As in `Object::of_mapping`.
            let file = fs::metadata(format!("/proc/{tgid}/map_files/{start:x}-{end:x}"))
                .or_else(|_| fs::metadata(format!("/proc/{tgid}/root{}", path.display())));
            let version = file.map_or(0, |it| object::version(&it));
            (path.to_string_lossy().into_owned(), ObjectKey { dev, version, ino: map.inode })
        }
        MMapPath::Vdso => ("[vdso]".to_owned(), VDSO),
        _ => return None,
    };
    Some(CodeMapping { start: map.address.0, end: map.address.1, file_offset: map.offset, key, path })
}

/// Executable memory without a file, as start and end.
pub(crate) fn generated_code(tgid: u32) -> Vec<(u64, u64)> {
    let maps = Process::new(tgid as i32).and_then(|it| it.maps());
    let is_code = |it: &&procfs::process::MemoryMap| {
        it.perms.contains(MMPermissions::EXECUTE) && matches!(it.pathname, MMapPath::Anonymous)
    };
    maps.map(|it| it.iter().filter(is_code).map(|it| it.address).collect()).unwrap_or_default()
}

/// Where the heap segment ends, if there is one.
pub(crate) fn break_end(tgid: u32) -> Option<u64> {
    let maps = Process::new(tgid as i32).ok()?.maps().ok()?;
    maps.iter().find(|it| it.pathname == MMapPath::Heap).map(|it| it.address.1)
}

/// Resident bytes; `None` once the process has ended.
pub fn rss_bytes(tgid: u32) -> Option<u64> {
    let resident = Process::new(tgid as i32).ok()?.statm().ok()?.resident;
    (resident > 0).then(|| resident * rustix::param::page_size() as u64)
}

/// The CPU time that all its threads have used; `None` once it has ended.
pub fn cpu_time(tgid: u32) -> Option<Duration> {
    let stat = Process::new(tgid as i32).ok()?.stat().ok()?;
    let ticks = stat.utime + stat.stime;
    Some(Duration::from_millis(ticks * 1000 / rustix::param::clock_ticks_per_second()))
}

/// Whether a process with this number exists and has not ended.
pub(crate) fn is_alive(tgid: u32) -> bool {
    Process::new(tgid as i32).and_then(|it| it.stat()).is_ok_and(|it| it.state != 'Z' && it.state != 'X')
}

/// Everything that is empty if the process is gone.
pub fn describe(tgid: u32) -> Description {
    let Ok(process) = Process::new(tgid as i32) else { return Description::default() };
    let command = process.cmdline().map(|it| it.join(" ")).unwrap_or_default();
    Description {
        name: process.stat().map(|it| it.comm).unwrap_or_default(),
        command,
        exe: process.exe().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default(),
        limit_bytes: memory_limit(&process),
        cgroup: cgroup::memory_group(&process),
    }
}

/// The files that a process which has just begun will map, as they are reached from here.
pub(crate) fn closure(tgid: u32) -> Vec<PathBuf> {
    let Ok(exe) = fs::read_link(format!("/proc/{tgid}/exe")) else { return Vec::new() };
    // Of a changed root the link tells only where it was; what is below it is what the process sees.
    let root = fs::read_link(format!("/proc/{tgid}/root")).unwrap_or_default();
    let exe = exe.strip_prefix(&root).map_or_else(|_| exe.clone(), |it| Path::new("/").join(it));
    let environment = Process::new(tgid as i32).and_then(|it| it.environ()).unwrap_or_default();
    let environment = closure::SearchEnv {
        ld_preload: environment.get(OsStr::new("LD_PRELOAD")).cloned(),
        ld_library_path: environment.get(OsStr::new("LD_LIBRARY_PATH")).cloned(),
        root: format!("/proc/{tgid}/root").into(),
    };
    closure::predict(&exe, &environment, &contents::read_path)
}

/// What our own control group may have.
pub(crate) fn own_memory_limit() -> Option<u64> {
    memory_limit(&Process::myself().ok()?)
}

/// The smallest limit on the way from the process's memory control group to the root, v1 or v2.
fn memory_limit(process: &Process) -> Option<u64> {
    let groups = process.cgroups().ok()?;
    groups
        .into_iter()
        .flat_map(|group| {
            let v1 = group.controllers.iter().any(|it| it == "memory");
            let (roots, file): (&[&str], _) = if v1 {
                (&["/sys/fs/cgroup/memory"], "memory.limit_in_bytes")
            } else if group.hierarchy == 0 {
                (&["/sys/fs/cgroup", "/sys/fs/cgroup/unified"], "memory.max")
            } else {
                (&[], "")
            };
            roots.iter().filter_map(|root| lowest_limit(root, &group.pathname, file)).collect::<Vec<_>>()
        })
        .min()
}

fn lowest_limit(root: &str, group: &str, file: &str) -> Option<u64> {
    /// Version 1 writes "no limit" as the largest number of whole pages.
    const NO_LIMIT: u64 = 1 << 62;
    let mut path = std::path::PathBuf::from(format!("{root}{group}"));
    let mut lowest = None;
    while path.starts_with(root) {
        if let Ok(text) = fs::read_to_string(path.join(file))
            && let Ok(limit) = text.trim().parse::<u64>()
            && limit < NO_LIMIT
        {
            lowest = Some(lowest.map_or(limit, |it: u64| it.min(limit)));
        }
        if !path.pop() {
            break;
        }
    }
    lowest
}

/// Refuses what has no memory of its own, is gone, or is closed to us.
///
/// # Errors
/// `TargetGone`, `Privilege` or `UnsupportedTarget`, with the reason.
pub(crate) fn check(tgid: u32) -> Result<(), StartError> {
    let gone = || StartError::TargetGone(format!("no process with pid {tgid}"));
    let process = Process::new(tgid as i32).map_err(|_| gone())?;
    let status = process.status().map_err(|_| gone())?;
    if status.tgid as u32 != tgid {
        return Err(StartError::TargetGone(format!(
            "{tgid} is a thread of process {}; give that pid",
            status.tgid
        )));
    }
    let state = process.stat().map_err(|_| gone())?.state;
    if state == 'Z' || state == 'X' {
        return Err(StartError::TargetGone(format!("process {tgid} has ended (it is a zombie)")));
    }
    match process.maps() {
        Ok(maps) if maps.len() == 0 => Err(StartError::UnsupportedTarget(format!(
            "{tgid} ({}) is a kernel thread: it has no user memory to trace",
            status.name
        ))),
        Ok(_) => Ok(()),
        Err(ProcError::PermissionDenied(_)) => Err(StartError::Privilege(format!(
            "process {tgid} ({}) may not be looked at: run as root or with CAP_SYS_PTRACE",
            status.name
        ))),
        Err(ProcError::Io(error, _)) if error.kind() == io::ErrorKind::PermissionDenied => {
            Err(StartError::Privilege(format!("process {tgid}: {error}; run as root")))
        }
        Err(_) => Err(gone()),
    }
}
