//! Control groups for tests: made below the root of a mounted hierarchy, and removed again.

use std::{
    fs,
    path::{Path, PathBuf},
    process::Command,
};

use crate::program::{PATIENCE, Program, within};

/// A new group, and one below it.
pub(crate) struct Group {
    pub(crate) directory: PathBuf,
}

impl Group {
    /// In the hierarchy at `root`.
    pub(crate) fn new(root: &Path, name: &str) -> Self {
        let directory = root.join(format!("alloctrace-{name}.{}", std::process::id()));
        for path in [&directory, &directory.join("inner")] {
            fs::create_dir(path).unwrap_or_else(|error| panic!("make the group {}: {error}", path.display()));
        }
        Self { directory }
    }

    pub(crate) fn path(&self) -> &str {
        self.directory.to_str().expect("its path is text")
    }

    /// Its path from the root of the hierarchy.
    pub(crate) fn name(&self) -> &str {
        self.directory.file_name().and_then(|it| it.to_str()).expect("its name is text")
    }

    /// Moves a running process into the group below.
    pub(crate) fn take(&self, pid: u32) {
        fs::write(self.directory.join("inner/cgroup.procs"), pid.to_string()).expect("move a process");
    }

    /// Starts a program that is in the group below from its first instruction on.
    pub(crate) fn start(&self, program: &Path, arguments: &[&str]) -> Program {
        let procs = self.directory.join("inner/cgroup.procs");
        let script = "echo $$ > \"$0\" && exec \"$@\"";
        Program::start(Command::new("sh").args(["-c", script]).arg(procs).arg(program).args(arguments))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        // The kernel refuses until the last process is gone.
        for path in [self.directory.join("inner"), self.directory.clone()] {
            let _ = within(PATIENCE / 9, || fs::remove_dir(&path).ok());
        }
    }
}

/// The mounted hierarchies that can hold processes: of version 1 the one that accounts memory, and version 2.
pub(crate) fn hierarchies() -> Vec<PathBuf> {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the list of mounts");
    let is_meant = |kind: &str, options: &str| {
        kind == "cgroup2" || (kind == "cgroup" && options.split(',').any(|it| it == "memory"))
    };
    let meant = mounts.lines().filter_map(|line| match line.split(' ').collect::<Vec<_>>()[..] {
        [_, path, kind, options, ..] if is_meant(kind, options) => Some(PathBuf::from(path)),
        _ => None,
    });
    let meant: Vec<PathBuf> = meant.collect();
    assert!(!meant.is_empty(), "a control group hierarchy must be mounted");
    meant
}
