//! A control group that adds up the CPU time of a program and all of its children.

use std::{
    fs,
    path::{Path, PathBuf},
};

use super::afterwards::Afterwards;

/// Wall time says little on a busy machine. Goes away with this value.
pub(super) struct Group {
    directory: PathBuf,
    _end: Afterwards,
}

/// The stopwatch may still be on its way out, and what a measurement that was interrupted has left behind is ended.
const REMOVE: &str = "for turn in $(seq 100); do
    rmdir \"$1\" 2>/dev/null && exit
    [ $turn -gt 20 ] && kill -9 $(cat \"$1/cgroup.procs\") 2>/dev/null
    sleep 0.05
done";

/// Where the hierarchy that counts CPU time is mounted: version 1, then version 2.
const MOUNTS: [&str; 3] = ["/sys/fs/cgroup/cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"];
const COUNTERS: [&str; 2] = ["cpuacct.usage", "cpu.stat"];

impl Group {
    /// `None` where none can be made, as in a container.
    pub(super) fn new() -> Option<Self> {
        let directory = mount(Path::exists)?.join("alloctrace-bench");
        if fs::create_dir(&directory).is_err() && !directory.is_dir() {
            return None;
        }
        let end = Afterwards::run(REMOVE, &directory).ok()?;
        Some(Self { directory, _end: end }).filter(|it| it.cpu_s().is_some())
    }

    /// A process that writes to this file is in.
    pub(super) fn door(&self) -> String {
        self.directory.join("cgroup.procs").display().to_string()
    }

    pub(super) fn add(&self, pid: u32) -> std::io::Result<()> {
        fs::write(self.door(), pid.to_string())
    }

    pub(super) fn cpu_s(&self) -> Option<f64> {
        COUNTERS.iter().find_map(|it| seconds(&fs::read_to_string(self.directory.join(it)).ok()?))
    }
}

fn mount(exists: impl Fn(&Path) -> bool) -> Option<PathBuf> {
    let counts = |it: &&Path| COUNTERS.iter().any(|name| exists(&it.join(name)));
    MOUNTS.iter().map(Path::new).find(counts).map(Path::to_owned)
}

/// Version 1 has one number of nanoseconds, version 2 a line with microseconds.
fn seconds(text: &str) -> Option<f64> {
    if let Ok(ns) = text.trim().parse::<f64>() {
        return Some(ns / 1e9);
    }
    let us: f64 = text.lines().find_map(|it| it.strip_prefix("usage_usec "))?.parse().ok()?;
    Some(us / 1e6)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_are_read() {
        assert_eq!(seconds("2500000000\n"), Some(2.5));
        assert_eq!(seconds("usage_usec 2500000\nuser_usec 2000000\nsystem_usec 500000\n"), Some(2.5));
        assert_eq!(seconds("nr_periods 0\n"), None);
    }

    #[test]
    fn the_hierarchy_with_a_counter_is_taken() {
        let only = |file: &'static str| mount(move |it| it == Path::new(file));
        let (first, second) = ("/sys/fs/cgroup/cpuacct/cpuacct.usage", "/sys/fs/cgroup/cpu.stat");
        assert_eq!(only(first).as_deref(), Some(Path::new("/sys/fs/cgroup/cpuacct")));
        assert_eq!(only(second).as_deref(), Some(Path::new("/sys/fs/cgroup")));
        assert_eq!(only("/sys/fs/cgroup/memory/memory.stat"), None);
    }
}
