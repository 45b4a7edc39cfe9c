//! Control groups: where they are mounted, which of them a user means, and who is in them.
//!
//! A system has one hierarchy (version 2), one for each controller (version 1), or both side by side. A selection lies in
//! one hierarchy, so that the probes follow one chain of parents.

use std::{
    collections::BTreeSet,
    fs,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use procfs::process::Process;

use super::StartError;

/// Which tree of groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Hierarchy {
    V2,
    /// Of version 1, by the name of one of its controllers.
    Controller(String),
    /// Of version 1, without a controller: for the bookkeeping of a service manager.
    Named(String),
}

/// Groups of one hierarchy; whoever is in or below one of them is meant.
#[derive(Clone, Debug)]
pub struct Groups {
    pub hierarchy: Hierarchy,
    /// Directories, as the tracer sees them.
    directories: Vec<PathBuf>,
}

/// A mounted hierarchy.
#[derive(Clone, Debug)]
struct Mount {
    hierarchy: Hierarchy,
    root: PathBuf,
}

/// Controllers of version 1 (`SUBSYS` in include/linux/cgroup_subsys.h), the one that accounts memory first.
const CONTROLLERS: [&str; 14] = [
    "memory",
    "cpu",
    "cpuacct",
    "cpuset",
    "pids",
    "devices",
    "freezer",
    "blkio",
    "net_cls",
    "net_prio",
    "perf_event",
    "hugetlb",
    "rdma",
    "misc",
];

/// Of a container's id so many digits tell it from others: what `docker ps` shows.
const MIN_ID_DIGITS: usize = 12;

/// What container engines put before an id in a directory's name, and behind it: cgroupfs and systemd drivers of Docker,
/// containerd, CRI-O and Podman.
const ID_PREFIXES: [&str; 5] = ["", "docker-", "cri-containerd-", "crio-", "libpod-"];
const ID_SUFFIX: &str = ".scope";

impl Groups {
    /// The groups behind what was typed: directories below a mounted hierarchy, paths from the root of one, or
    /// beginnings of containers' ids, which all `containers` are.
    ///
    /// # Errors
    /// What is no group, is several, or lies in another hierarchy than the others.
    pub fn find(paths: &[String], containers: &[String]) -> Result<Self, StartError> {
        Self::find_in(&mounts(), paths, containers)
    }

    fn find_in(mounts: &[Mount], paths: &[String], containers: &[String]) -> Result<Self, StartError> {
        if mounts.is_empty() {
            return Err(StartError::Kernel("no control group hierarchy is mounted".to_owned()));
        }
        let wanted = || paths.iter().map(|it| (it, false)).chain(containers.iter().map(|it| (it, true)));
        for mount in mounts {
            let mut directories = Vec::new();
            for (text, is_container) in wanted() {
                directories.extend(mount.find(text, is_container)?);
            }
            if directories.len() < wanted().count() {
                continue;
            }
            if let Hierarchy::Named(name) = &mount.hierarchy {
                let other = "name the same group by a path in a hierarchy that has one, such as memory";
                return Err(StartError::TargetGone(format!(
                    "{} lies in the hierarchy {name}, which has no controller: {other}",
                    directories[0].display()
                )));
            }
            directories.sort();
            directories.dedup();
            return Ok(Self { hierarchy: mount.hierarchy.clone(), directories });
        }
        let is_nowhere = |(text, is_container): &(&String, bool)| {
            mounts.iter().all(|it| matches!(it.find(text, *is_container), Ok(None)))
        };
        let roots: Vec<String> = mounts.iter().map(|it| it.root.display().to_string()).collect();
        Err(StartError::TargetGone(match wanted().find(is_nowhere) {
            Some((text, true)) if !is_id(text) => {
                format!(
                    "{text} is no container id: {MIN_ID_DIGITS} or more of its hexadecimal digits are needed"
                )
            }
            Some((text, true)) => format!("no container {text} (looked in {})", roots.join(", ")),
            Some((text, false)) => format!("no control group {text} (looked in {})", roots.join(", ")),
            None => "the control groups lie in different hierarchies: name them all in one".to_owned(),
        }))
    }

    /// The number by which the kernel half knows each group; one that is gone has none.
    pub(crate) fn ids(&self) -> Vec<u64> {
        self.directories.iter().filter_map(|it| fs::metadata(it).ok()).map(|it| it.ino()).collect()
    }

    /// Everybody who is in or below one of the groups.
    pub(crate) fn processes(&self) -> BTreeSet<u32> {
        let mut processes = BTreeSet::new();
        for directory in &self.directories {
            walk(directory, &mut |it| {
                let text = fs::read_to_string(it.join("cgroup.procs")).unwrap_or_default();
                processes.extend(text.lines().filter_map(|it| it.parse::<u32>().ok()));
            });
        }
        processes
    }

    /// The last part of the first group's path.
    pub fn name(&self) -> String {
        let name = self.directories.first().and_then(|it| it.file_name());
        name.map_or_else(|| "cgroup".to_owned(), |it| it.to_string_lossy().into_owned())
    }
}

impl Mount {
    /// The directory of a group in this hierarchy, if it is there.
    ///
    /// # Errors
    /// If an id fits several containers.
    fn find(&self, text: &str, is_container: bool) -> Result<Option<PathBuf>, StartError> {
        if is_container {
            return self.container(text);
        }
        let path = Path::new(text);
        let below = path.strip_prefix(&self.root).or_else(|_| path.strip_prefix("/")).unwrap_or(path);
        let goes_up = below.components().any(|it| it == std::path::Component::ParentDir);
        let directory = self.root.join(below);
        if !goes_up && directory.join("cgroup.procs").exists() {
            return Ok(Some(directory));
        }
        if is_id(text) { self.container(text) } else { Ok(None) }
    }

    fn container(&self, text: &str) -> Result<Option<PathBuf>, StartError> {
        if !is_id(text) {
            return Ok(None);
        }
        let mut found = Vec::new();
        walk(&self.root, &mut |it| {
            let name = it.file_name().and_then(|it| it.to_str()).unwrap_or_default();
            found.extend(
                id_in(name).filter(|it| it.starts_with(text)).map(|id| (id.to_owned(), it.to_owned())),
            );
        });
        // A container's groups may lie in one another, as with a container's init below its scope.
        found.sort();
        let Some((id, directory)) = found.first() else { return Ok(None) };
        if found.iter().any(|(other, _)| other != id) {
            let ids: BTreeSet<&str> = found.iter().map(|(id, _)| id.as_str()).collect();
            let ids: Vec<&str> = ids.into_iter().collect();
            return Err(StartError::TargetGone(format!(
                "{text} fits several containers: {}",
                ids.join(", ")
            )));
        }
        Ok(Some(directory.clone()))
    }
}

fn is_id(text: &str) -> bool {
    text.len() >= MIN_ID_DIGITS && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

/// The container's id in the name of a group's directory.
fn id_in(name: &str) -> Option<&str> {
    /// SHA-256 in hexadecimal digits.
    const ID_DIGITS: usize = 64;
    let bare = name.strip_suffix(ID_SUFFIX).unwrap_or(name);
    let id = ID_PREFIXES.iter().filter_map(|it| bare.strip_prefix(it)).find(|it| is_id(it))?;
    (id.len() == ID_DIGITS).then_some(id)
}

/// Calls `visit` with a directory and all below it. Groups may come and go meanwhile.
fn walk(directory: &Path, visit: &mut impl FnMut(&Path)) {
    visit(directory);
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|it| it.is_dir()) {
            walk(&entry.path(), visit);
        }
    }
}

/// The mounted hierarchies, the one that accounts memory first.
fn mounts() -> Vec<Mount> {
    let infos = Process::myself().and_then(|it| it.mountinfo());
    let mut mounts: Vec<Mount> = infos
        .into_iter()
        .flatten()
        .filter_map(|it| {
            let hierarchy = match it.fs_type.as_str() {
                "cgroup2" => Hierarchy::V2,
                "cgroup" => {
                    let options = &it.super_options;
                    let controller = CONTROLLERS.iter().find(|it| options.contains_key(**it));
                    match controller {
                        Some(controller) => Hierarchy::Controller((*controller).to_owned()),
                        None => Hierarchy::Named(options.get("name").cloned().flatten().unwrap_or_default()),
                    }
                }
                _ => return None,
            };
            Some(Mount { hierarchy, root: it.mount_point })
        })
        .collect();
    mounts.sort_by_key(|it| match &it.hierarchy {
        Hierarchy::Controller(name) if name == CONTROLLERS[0] => 0,
        Hierarchy::V2 => 1,
        Hierarchy::Controller(_) => 2,
        Hierarchy::Named(_) => 3,
    });
    mounts
}

impl Hierarchy {
    /// The controller's name in `enum cgroup_subsys_id` (include/linux/cgroup-defs.h); none for version 2.
    pub(crate) fn subsystem(&self) -> Option<String> {
        match self {
            Self::Controller(name) => {
                // Its name in files is older than the code.
                let name = if name == "blkio" { "io" } else { name };
                Some(format!("{name}_cgrp_id"))
            }
            Self::V2 | Self::Named(_) => None,
        }
    }
}

/// The group that accounts the memory of a process, from the root of its hierarchy on.
pub(crate) fn memory_group(process: &Process) -> Option<String> {
    let groups = process.cgroups().ok()?;
    let v1 = groups.0.iter().find(|it| it.controllers.iter().any(|it| it == CONTROLLERS[0]));
    v1.or_else(|| groups.0.iter().find(|it| it.hierarchy == 0)).map(|it| it.pathname.clone())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";
    const OTHER: &str = "0123456789abcdee0123456789abcdef0123456789abcdef0123456789abcdef";

    /// Two hierarchies as directories, each group with its file.
    fn hierarchies(name: &str) -> (PathBuf, Vec<Mount>) {
        let top = std::env::temp_dir().join(format!("alloctrace.{name}.{}", std::process::id()));
        let _ = fs::remove_dir_all(&top);
        let make = |path: &str| {
            fs::create_dir_all(top.join(path)).unwrap();
            fs::write(top.join(path).join("cgroup.procs"), "7\n").unwrap();
        };
        make("memory");
        make("memory/system.slice");
        make(&format!("memory/system.slice/docker-{ID}.scope"));
        make(&format!("memory/system.slice/docker-{ID}.scope/inner"));
        make(&format!("memory/libpod-conmon-{OTHER}.scope"));
        make("unified");
        make("unified/only.here");
        make("systemd");
        make("systemd/named");
        let mount = |hierarchy, name: &str| Mount { hierarchy, root: top.join(name) };
        let mounts = vec![
            mount(Hierarchy::Controller("memory".to_owned()), "memory"),
            mount(Hierarchy::V2, "unified"),
            mount(Hierarchy::Named("systemd".to_owned()), "systemd"),
        ];
        (top, mounts)
    }

    #[test]
    fn groups_are_found_as_they_are_called() {
        let (top, mounts) = hierarchies("groups");
        let find = |paths: &[&str], containers: &[&str]| {
            let own = |it: &[&str]| it.iter().map(|it| (*it).to_owned()).collect::<Vec<String>>();
            Groups::find_in(&mounts, &own(paths), &own(containers)).map_err(|it| it.to_string())
        };
        let scope = top.join(format!("memory/system.slice/docker-{ID}.scope"));
        let full = top.join("memory/system.slice").display().to_string();
        for (path, expected) in [
            ("system.slice", top.join("memory/system.slice")),
            ("/system.slice", top.join("memory/system.slice")),
            (&full, top.join("memory/system.slice")),
            ("only.here", top.join("unified/only.here")),
            (&ID[..12], scope.clone()),
        ] {
            assert_eq!(find(&[path], &[]).unwrap().directories, [expected], "{path}");
        }
        assert_eq!(find(&[], &[ID]).unwrap().directories, [scope]);
        assert_eq!(find(&["only.here"], &[]).unwrap().hierarchy, Hierarchy::V2);
        assert!(find(&["absent"], &[]).unwrap_err().starts_with("no control group absent"));
        assert!(find(&["../memory"], &[]).unwrap_err().starts_with("no control group"));
        assert!(find(&["named"], &[]).unwrap_err().contains("no controller"));
        assert!(find(&["system.slice", "only.here"], &[]).unwrap_err().contains("different hierarchies"));
        assert!(find(&[], &["abc"]).unwrap_err().contains("is no container id"));
        assert!(find(&[], &["ffffffffffff"]).unwrap_err().starts_with("no container ffffffffffff"));
        // The monitor of a container is no container.
        assert!(find(&[], &[OTHER]).unwrap_err().starts_with("no container"));
        fs::create_dir_all(top.join(format!("memory/{OTHER}"))).unwrap();
        assert!(find(&[], &[&ID[..12]]).unwrap_err().contains("fits several containers"));
        assert_eq!(find(&["system.slice"], &[]).unwrap().processes(), BTreeSet::from([7]));
        fs::remove_dir_all(top).unwrap();
    }
}
