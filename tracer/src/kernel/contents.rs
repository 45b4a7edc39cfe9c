//! Reading executable files whole, but for what is in them for debuggers, which may be most of a gigabyte.

use std::{
    fs::File,
    io, iter,
    ops::{Deref, Range},
    os::{fd::AsRawFd as _, unix::fs::FileExt as _},
    path::Path,
    sync::Arc,
};

use memmap2::{Mmap, MmapMut};
use object::{
    LittleEndian, ReadCache,
    elf::{FileHeader64, SHF_ALLOC},
    read::elf::{FileHeader as _, SectionHeader as _},
};

use super::{lease::Lease, sys};

/// What a file has, at the places where the file has it.
///
/// The file's own pages, as long as nobody can write to it meanwhile: whoever cuts a mapped file short would end us.
/// Otherwise a copy, in which what is for debuggers is zeros; and no block of the heap, so that pages which nobody writes
/// are never there, and all go back to the system at once.
pub(crate) struct Contents {
    bytes: Mmap,
    /// Goes after the bytes.
    _lease: Option<Lease>,
}

impl Deref for Contents {
    type Target = [u8];

    fn deref(&self) -> &[u8] {
        &self.bytes
    }
}

impl AsRef<[u8]> for Contents {
    fn as_ref(&self) -> &[u8] {
        self
    }
}

/// # Errors
/// If the file cannot be read, or is cut short meanwhile.
pub(crate) fn read(file: &File) -> io::Result<Contents> {
    // Leases belong to what was opened, and the file may have one already.
    let lease =
        File::open(format!("/proc/self/fd/{}", file.as_raw_fd())).and_then(|it| Lease::take(&Arc::new(it)));
    match lease.and_then(|it| Ok((sys::map(&it)?, it))) {
        Ok((bytes, lease)) => Ok(Contents { bytes, _lease: Some(lease) }),
        Err(_) => Ok(Contents { bytes: copy(file)?, _lease: None }),
    }
}

fn copy(file: &File) -> io::Result<Mmap> {
    let size = file.metadata()?.len();
    let mut bytes = MmapMut::map_anon(usize::try_from(size).map_err(io::Error::other)?)?;
    let mut at = 0;
    for left_out in for_debuggers(file, size).into_iter().chain(iter::once(size..size)) {
        if at < left_out.start {
            file.read_exact_at(&mut bytes[at as usize..left_out.start as usize], at)?;
        }
        at = at.max(left_out.end);
    }
    bytes.make_read_only()
}

/// As [`read`]; `None` if there is nothing to be read.
pub(crate) fn read_path(path: &Path) -> Option<Contents> {
    read(&File::open(path).ok()?).ok()
}

/// Where the sections for debuggers lie, in the order of the file. Nothing of a file that is not of this form, which is
/// for others to complain about.
fn for_debuggers(file: &File, size: u64) -> Vec<Range<u64>> {
    let cache = ReadCache::new(file);
    let Ok(header) = FileHeader64::<LittleEndian>::parse(&cache) else { return Vec::new() };
    let Ok(sections) = header.sections(LittleEndian, &cache) else { return Vec::new() };
    let mut places: Vec<Range<u64>> = sections
        .iter()
        .filter(|it| it.sh_flags(LittleEndian) & u64::from(SHF_ALLOC) == 0)
        .filter(|it| sections.section_name(LittleEndian, it).is_ok_and(is_for_debuggers))
        .filter_map(|it| {
            let (start, length) = it.file_range(LittleEndian)?;
            Some(start..start.checked_add(length).filter(|end| *end <= size)?)
        })
        .collect();
    places.sort_unstable_by_key(|it| it.start);
    places
}

fn is_for_debuggers(name: &[u8]) -> bool {
    name.starts_with(b".debug_") || name.starts_with(b".zdebug_")
}

#[cfg(test)]
mod tests {
    use std::io::Write as _;

    use super::*;
    use crate::elf::Image;

    #[test]
    fn all_but_the_debug_sections_is_read() {
        let path = std::env::current_exe().unwrap();
        let whole = std::fs::read(&path).unwrap();
        let file = File::open(&path).unwrap();
        let read = copy(&file).unwrap();
        let left_out = for_debuggers(&file, whole.len() as u64);
        assert!(!left_out.is_empty(), "tests are built with what debuggers need");
        assert_eq!(read.len(), whole.len());
        let mut at = 0;
        for it in left_out.iter().chain([&(whole.len() as u64..whole.len() as u64)]) {
            assert!(read[at..it.start as usize] == whole[at..it.start as usize]);
            at = it.end as usize;
        }
        let [own, wholes] = [&read[..], &whole].map(|it| Image::parse(it).unwrap());
        assert!(own.has_symbol_table());
        assert_eq!(own.build_id(), wholes.build_id());
        assert_eq!(own.function_ranges(&["main"]), wholes.function_ranges(&["main"]));
    }

    #[test]
    fn other_files_are_read_as_they_are() {
        for content in [&b""[..], b"#!/bin/sh\n", b"\x7fELF", &[0x7f; 70_000]] {
            let mut file = tempfile();
            file.write_all(content).unwrap();
            assert_eq!(&copy(&file).unwrap()[..], content);
            assert_eq!(&read(&file).unwrap()[..], content);
        }
    }

    fn tempfile() -> File {
        let name = rustix::fs::memfd_create("contents", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
        name.into()
    }
}
