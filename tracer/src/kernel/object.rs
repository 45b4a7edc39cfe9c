//! Executable files of the traced processes, held open from the first sight on, so that names can be
//! found after the process has ended or the file was deleted.

use std::{
    fs::{self, File, Metadata},
    io,
    ops::Range,
    os::{fd::AsRawFd as _, unix::fs::MetadataExt as _},
    path::Path,
    sync::Arc,
};

use procfs::process::{MMapPath, Process};
use tracer_ebpf::{
    mapping::{self, ObjectKey, VDSO},
    record::Frame,
};

use super::{
    contents::{self, Contents},
    process::CodeMapping,
    table_cache,
};
use crate::{
    elf::{
        Image,
        allocators::{self, Found, Function},
        pools::{self, Pools},
    },
    unwind,
};

/// An executable file, or the vDSO.
pub(crate) struct Object {
    pub(crate) path: String,
    pub(crate) build_id: Option<String>,
    /// `None` for the vDSO.
    pub(crate) file: Option<Arc<File>>,
    /// As in its key.
    pub(crate) version: u32,
    /// Where to probe, if it is an allocator.
    pub(crate) functions: Vec<Function>,
    /// The allocators that it defines, by name.
    pub(crate) allocators: Vec<&'static str>,
    /// Allocator functions that cannot be probed.
    pub(crate) unprobed: Vec<String>,
    /// File offset of what makes C++ exceptions.
    pub(crate) throwing: Option<u64>,
    /// File offsets of what raises exceptions, which may leave a function of the user's own pools.
    pub(crate) raising: Vec<u64>,
    /// File offsets of the functions that are named `via` and not a caller: mmap and its relatives.
    syscall_wrappers: Vec<Range<u64>>,
    /// `None` also when the probes have it.
    pub(crate) table: Option<unwind::Table>,
    pub(crate) is_go: bool,
}

/// The C library's ways to the system calls that [`crate::event::Via`] names.
const SYSCALL_WRAPPERS: [&str; 6] = ["mmap", "mmap64", "mremap", "brk", "sbrk", "__sbrk"];

impl Object {
    /// Opens what a process has mapped, even if it was deleted or lies in another mount namespace.
    ///
    /// # Errors
    /// If the file cannot be opened or read, or is not an ELF file for this machine.
    pub(crate) fn of_mapping(tgid: u32, mapping: &CodeMapping) -> io::Result<Self> {
        if mapping.key == VDSO {
            return Self::vdso();
        }
        let mapped = format!("/proc/{tgid}/map_files/{:x}-{:x}", mapping.start, mapping.end);
        // map_files wants a capability that a container may lack; the path is as good unless replaced.
        let file = File::open(mapped).or_else(|_| {
            let file = File::open(format!("/proc/{tgid}/root{}", mapping.path))?;
            if key_of(&file)? == mapping.key {
                Ok(file)
            } else {
                Err(io::Error::from(io::ErrorKind::NotFound))
            }
        })?;
        Self::read(file, mapping.path.clone())
    }

    /// Opens a file that a process is expected to map.
    ///
    /// # Errors
    /// As `of_mapping`.
    pub(crate) fn of_path(path: &Path) -> io::Result<(ObjectKey, Self)> {
        let file = File::open(path)?;
        let key = key_of(&file)?;
        // Without links, and as whoever maps it calls it if that is in another mount namespace.
        let path =
            fs::read_link(format!("/proc/self/fd/{}", file.as_raw_fd())).unwrap_or_else(|_| path.to_owned());
        Ok((key, Self::read(file, path.to_string_lossy().into_owned())?))
    }

    /// The code that the kernel maps into every process; ours is the same as the others'.
    pub(crate) fn vdso() -> io::Result<Self> {
        let maps = Process::myself().and_then(|it| it.maps()).map_err(io::Error::other)?;
        let map = maps.iter().find(|it| it.pathname == MMapPath::Vdso);
        let (start, end) = map.ok_or_else(|| io::Error::from(io::ErrorKind::NotFound))?.address;
        let mut bytes = vec![0; (end - start) as usize];
        std::os::unix::fs::FileExt::read_exact_at(&File::open("/proc/self/mem")?, &mut bytes, start)?;
        Self::parse(&bytes, None, "[vdso]".to_owned())
    }

    fn read(file: File, path: String) -> io::Result<Self> {
        let version = version_of(&file)?;
        let bytes = contents::read(&file)?;
        let object = Self::parse(&bytes, Some(Arc::new(file)), path)?;
        Ok(Self { version, ..object })
    }

    fn parse(bytes: &[u8], file: Option<Arc<File>>, path: String) -> io::Result<Self> {
        let image = Image::parse(bytes).map_err(io::Error::other)?;
        let table = table_cache::table(&image);
        if let Some(skipped) = table.as_ref().map(|it| it.skipped_functions).filter(|it| *it > 0) {
            log::debug!("{path}: unwind information of {skipped} functions cannot be used");
        }
        let found = allocators::find(&image);
        let allocators = found.families().into_iter().map(|it| it.name()).collect();
        let Found { functions, unprobed, throwing } = found;
        Ok(Self {
            build_id: image.build_id(),
            version: 0,
            functions,
            allocators,
            unprobed,
            throwing,
            raising: Vec::new(),
            syscall_wrappers: image.function_ranges(&SYSCALL_WRAPPERS),
            table,
            is_go: image.is_go(),
            path,
            file,
        })
    }

    /// Adds those functions of the user's own pools that the file defines. Returns those that cannot be probed, by their
    /// position, with the reason.
    ///
    /// # Errors
    /// If the file cannot be read any more.
    pub(crate) fn add_pools(&mut self, pools: &Pools) -> io::Result<Vec<(usize, String)>> {
        let Some(bytes) = self.bytes()? else { return Ok(Vec::new()) };
        let image = Image::parse(&bytes).map_err(io::Error::other)?;
        let found = pools::find(&image, &self.path, pools);
        // What the user says of a function holds.
        self.functions.retain(|it| found.functions.iter().all(|own| own.file_offset != it.file_offset));
        self.functions.extend(found.functions);
        self.raising = found.raising;
        Ok(found.problems)
    }

    /// The file as it is now, see [`contents::read`]; `None` for the vDSO.
    pub(crate) fn bytes(&self) -> io::Result<Option<Contents>> {
        self.file.as_deref().map(contents::read).transpose()
    }

    pub(crate) fn has_probes(&self) -> bool {
        !self.functions.is_empty() || !self.raising.is_empty() || self.throwing.is_some()
    }

    /// For people, as in `jemalloc (/usr/lib/libjemalloc.so.2)`.
    pub(crate) fn allocator_names(&self) -> impl Iterator<Item = String> {
        self.allocators.iter().map(|it| format!("{it} ({})", self.path))
    }

    /// A path by which the kernel and the symbolizer reach the held file itself.
    pub(crate) fn held_path(&self) -> Option<String> {
        self.file.as_ref().map(|it| format!("/proc/self/fd/{}", it.as_raw_fd()))
    }

    /// Whether a frame is in a function that only makes a system call.
    pub(crate) fn is_syscall_wrapper(&self, frame: Frame) -> bool {
        self.syscall_wrappers.iter().any(|it| it.contains(&frame.offset()))
    }
}

/// The key of the file at `path`, which is not read.
///
/// # Errors
/// Those of `open(2)`.
pub(crate) fn key_at(path: &Path) -> io::Result<ObjectKey> {
    key_of(&File::open(path)?)
}

/// As the kernel holds it: its own device numbers have 20 bits for the minor part.
fn key_of(file: &File) -> io::Result<ObjectKey> {
    let metadata = file.metadata()?;
    let (major, minor) = (rustix::fs::major(metadata.dev()), rustix::fs::minor(metadata.dev()));
    Ok(ObjectKey { dev: major << 20 | minor, version: version(&metadata), ino: metadata.ino() })
}

/// Of the file as it is now.
pub(crate) fn version_of(file: &File) -> io::Result<u32> {
    file.metadata().map(|it| version(&it))
}

pub(crate) fn version(metadata: &Metadata) -> u32 {
    mapping::version(metadata.mtime(), metadata.mtime_nsec() as u32)
}
