//! Processes that are traced without having been named one by one: who is meant, and who of them runs now.

use std::{collections::BTreeSet, fs};

use procfs::process::Process;

use super::cgroup::Groups;

/// Whose processes: those there are, and those that come.
#[derive(Clone, Debug)]
pub enum Selection {
    /// Every process but the tracer.
    All,
    /// Those whose program has one of these names, as `ps -o comm` shows them.
    Names(Vec<String>),
    /// Those in or below one of these control groups.
    Groups(Groups),
}

/// `PF_KTHREAD` of include/linux/sched.h.
const KERNEL_THREAD: u32 = 0x0020_0000;
/// `PF_EXITING`: set before the kernel half is told of the end, and long before the process is a zombie.
const EXITING: u32 = 0x4;

impl Selection {
    /// The selected processes that run now, without kernel threads and ourselves.
    pub(crate) fn running(&self) -> BTreeSet<u32> {
        let mut candidates = match self {
            Self::All => all(),
            Self::Names(names) => {
                let is_named = |it: &u32| name(*it).is_some_and(|it| names.contains(&it));
                all().into_iter().filter(is_named).collect()
            }
            Self::Groups(groups) => groups.processes(),
        };
        candidates.remove(&std::process::id());
        candidates
    }

    /// Whether nobody is selected now.
    pub fn is_empty(&self) -> bool {
        !self.running().into_iter().any(is_traceable)
    }

    /// In words, for the user.
    pub fn describe(&self) -> String {
        match self {
            Self::All => "all processes".to_owned(),
            Self::Names(names) => format!("processes named {}", names.join(", ")),
            Self::Groups(groups) => format!("processes in the control group {}", groups.name()),
        }
    }
}

/// Whether there is user memory to trace: not in a kernel thread, nor in a process that has ended.
pub(crate) fn is_traceable(tgid: u32) -> bool {
    let stat = Process::new(tgid as i32).and_then(|it| it.stat());
    stat.is_ok_and(|it| it.flags & (KERNEL_THREAD | EXITING) == 0 && it.state != 'Z' && it.state != 'X')
}

/// The number of every process.
fn all() -> BTreeSet<u32> {
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    entries.filter_map(|it| it.file_name().to_str()?.parse().ok()).collect()
}

/// The name of a process's program, as the kernel has it.
fn name(tgid: u32) -> Option<String> {
    let name = fs::read_to_string(format!("/proc/{tgid}/comm")).ok()?;
    Some(name.strip_suffix('\n').unwrap_or(&name).to_owned())
}
