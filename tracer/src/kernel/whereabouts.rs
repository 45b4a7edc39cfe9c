//! Files by what the kernel half says of them: opened through our own mounts, when the process that had mapped them is
//! gone.

use std::{
    collections::HashMap,
    ffi::OsStr,
    os::unix::ffi::OsStrExt as _,
    path::{Path, PathBuf},
};

use procfs::process::Process;
use tracer_ebpf::{mapping::ObjectKey, record};

/// Paths from the root of their file system, by object number, of objects that have not been opened yet.
#[derive(Default)]
pub(crate) struct Whereabouts {
    paths: HashMap<u32, (ObjectKey, PathBuf)>,
}

impl Whereabouts {
    pub(crate) fn note(&mut self, record: &record::Path) {
        let names = &record.names[..(record.bytes as usize).min(record.names.len())];
        self.paths.insert(record.object, (record.key, path_of(names)));
    }

    /// Where an object may be found from here, and which file it is.
    pub(crate) fn candidates(&self, object: u32) -> Option<(ObjectKey, Vec<PathBuf>)> {
        let (key, path) = self.paths.get(&object)?;
        let mounts = Process::myself().and_then(|it| it.mountinfo()).into_iter().flatten();
        let below = |mount: procfs::process::MountInfo| {
            let (major, minor) = mount.majmin.split_once(':')?;
            let dev = major.parse::<u32>().ok()? << 20 | minor.parse::<u32>().ok()?;
            let inside = path.strip_prefix(&mount.root).ok()?;
            (dev == key.dev).then(|| mount.mount_point.join(inside))
        };
        Some((*key, mounts.filter_map(below).collect()))
    }

    /// It has been opened.
    pub(crate) fn forget(&mut self, object: u32) {
        self.paths.remove(&object);
    }
}

/// The names come as the kernel half met them: the file's first.
fn path_of(names: &[u8]) -> PathBuf {
    let names: Vec<&[u8]> = names.split(|it| *it == 0).filter(|it| !it.is_empty()).collect();
    let mut path = Path::new("/").to_owned();
    path.extend(names.iter().rev().map(|it| OsStr::from_bytes(it)));
    path
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_a_path() {
        assert_eq!(path_of(b"cc1\0x86_64-linux-gnu\0usr\0"), Path::new("/usr/x86_64-linux-gnu/cc1"));
        assert_eq!(path_of(b""), Path::new("/"));
    }
}
