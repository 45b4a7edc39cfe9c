//! Unwinding tables that were made before: kept by build id where making one takes longer than reading it. Nothing depends on it;
//! what cannot be read, or is not what it should be, is made anew and replaced.

use std::{
    fs::{self, File},
    io::{self, Read as _},
    os::unix::fs::{DirBuilderExt as _, MetadataExt as _},
    path::{Path, PathBuf},
};

use rustix::fs::{Timespec, Timestamps, UTIME_NOW};

use super::cache_dir::{self, cache_dir};
use crate::{elf::Image, unwind::Table};

/// Tables of less call frame information are made in some ten milliseconds, and most files have less. Measured: 1.7 ms for libc
/// (153 KB of it) against 0.03 ms to read it back, and that for an open and a write more; 47 to 107 ms for libLLVM and rustc's
/// driver (5 to 10 MB) against 1 to 3 ms.
const LEAST_EH_FRAME_BYTES: usize = 1 << 20;

/// All of them together. The largest measured, rustc's driver, has 10 MB.
const MAX_BYTES: u64 = 128 << 20;

/// One of them.
const MAX_FILE_BYTES: u64 = 64 << 20;

/// Ours within the directory of caches.
const NAME: &str = "unwind";
const EXTENSION: &str = "rows";

/// The file's table: read if it was made before, else made. `None` if nothing is known of the file's code.
pub(crate) fn table(image: &Image<'_>) -> Option<Table> {
    let is_large = image.eh_frame().is_some_and(|it| it.data.len() >= LEAST_EH_FRAME_BYTES);
    match (is_large, Table::identity(image), image.build_id()) {
        (true, Some(identity), Some(build_id)) => match directory() {
            Some(directory) => in_directory(&directory, &build_id, identity, || Table::from_image(image)),
            None => Table::from_image(image),
        },
        _ => Table::from_image(image),
    }
}

fn directory() -> Option<PathBuf> {
    let directory = cache_dir()?.join(NAME);
    match fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory) {
        Ok(()) => Some(directory),
        Err(error) => {
            log::info!("{}: no table is kept: {error}", directory.display());
            None
        }
    }
}

fn in_directory(
    directory: &Path,
    build_id: &str,
    identity: u64,
    make: impl FnOnce() -> Option<Table>,
) -> Option<Table> {
    // Two files of one build id may have different tables.
    let path = directory.join(format!("{build_id}-{identity:016x}.{EXTENSION}"));
    if let Some(table) = read(&path).ok().and_then(|it| Table::from_bytes(&it, identity)) {
        return Some(table);
    }
    let table = make()?;
    if let Some(bytes) = table.to_bytes(identity).filter(|it| it.len() as u64 <= MAX_FILE_BYTES) {
        let kept = make_room(directory, bytes.len() as u64).and_then(|()| cache_dir::replace(&path, &bytes));
        if let Err(error) = kept {
            log::info!("{}: the table is not kept: {error}", path.display());
        }
    }
    Some(table)
}

/// Reads a file of ours, and notes that it is used.
fn read(path: &Path) -> io::Result<Vec<u8>> {
    let file = File::open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file()
        || metadata.len() > MAX_FILE_BYTES
        || metadata.uid() != rustix::process::geteuid().as_raw()
    {
        return Err(io::Error::from(io::ErrorKind::InvalidData));
    }
    let mut bytes = Vec::with_capacity(metadata.len() as usize);
    (&file).take(MAX_FILE_BYTES).read_to_end(&mut bytes)?;
    // Of a disk that cannot be written to, nothing has to be removed either.
    let _ = set_used(&file, Timespec { tv_sec: 0, tv_nsec: UTIME_NOW });
    Ok(bytes)
}

fn set_used(file: &File, time: Timespec) -> rustix::io::Result<()> {
    rustix::fs::futimens(file, &Timestamps { last_access: time, last_modification: time })
}

/// Removes those that were used least recently, until `bytes` more fit.
fn make_room(directory: &Path, bytes: u64) -> io::Result<()> {
    let mut kept = Vec::new();
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        let metadata = entry.metadata()?;
        kept.push(((metadata.mtime(), metadata.mtime_nsec()), metadata.len(), entry.path()));
    }
    kept.sort();
    let mut total: u64 = kept.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, len, path) in kept {
        if total + bytes <= MAX_BYTES {
            break;
        }
        fs::remove_file(path)?;
        total -= len;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{cell::Cell, os::unix::fs::PermissionsExt as _};

    use super::*;

    struct Scratch(PathBuf);

    impl Scratch {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("alloctrace-tables-{name}-{}", std::process::id()));
            fs::create_dir(&path).unwrap();
            Self(path)
        }
    }

    impl Drop for Scratch {
        fn drop(&mut self) {
            let _ = fs::remove_dir_all(&self.0);
        }
    }

    fn own_table() -> Table {
        let bytes = fs::read("/proc/self/exe").unwrap();
        Table::from_image(&Image::parse(&bytes).unwrap()).unwrap()
    }

    #[test]
    fn a_table_is_made_once_and_again_when_its_file_is_damaged() {
        let scratch = Scratch::new("once");
        let made = Cell::new(0);
        let get = || {
            let make = || {
                made.set(made.get() + 1);
                Some(own_table())
            };
            in_directory(&scratch.0, "abc", 7, make).unwrap().packed_rows()
        };
        let rows = get();
        assert_eq!((get(), made.get()), (rows, 1));
        let path = scratch.0.join("abc-0000000000000007.rows");
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let good = fs::read(&path).unwrap();
        for (at, bad) in [&good[..good.len() / 2], &[], b"something else"].into_iter().enumerate() {
            fs::write(&path, bad).unwrap();
            assert_eq!((get(), made.get()), (rows, at + 2));
            assert_eq!(fs::read(&path).unwrap(), good, "it is replaced");
        }
    }

    #[test]
    fn a_place_that_cannot_be_written_to_is_no_error() {
        let absent = Path::new("/proc/absent");
        assert!(in_directory(absent, "abc", 7, || Some(own_table())).is_some());
    }

    #[test]
    fn what_was_used_least_recently_makes_room() {
        let scratch = Scratch::new("room");
        for (name, tv_sec) in [("old", 1100), ("new", 1200), ("oldest", 1000)] {
            let file = File::create(scratch.0.join(name)).unwrap();
            file.set_len(MAX_BYTES / 4).unwrap();
            set_used(&file, Timespec { tv_sec, tv_nsec: 0 }).unwrap();
        }
        make_room(&scratch.0, MAX_BYTES / 4).unwrap();
        assert_eq!(fs::read_dir(&scratch.0).unwrap().count(), 3, "there is room for one more");
        make_room(&scratch.0, MAX_BYTES / 2 + 1).unwrap();
        let left: Vec<_> = fs::read_dir(&scratch.0).unwrap().map(|it| it.unwrap().file_name()).collect();
        assert_eq!(left, ["new"]);
    }
}
