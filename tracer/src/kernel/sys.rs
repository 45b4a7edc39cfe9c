//! The one place of user space with unsafe code: what aya 0.14 does not offer.
#![expect(
    unsafe_code,
    reason = "mmap of a BPF array, bpf(2), registration of a file descriptor, leases, blocks of libc"
)]

use std::{
    alloc::{GlobalAlloc as _, Layout, System},
    ffi::{CStr, c_char},
    fs::File,
    io,
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, FromRawFd as _, OwnedFd, RawFd},
    ptr::NonNull,
    sync::atomic::{AtomicBool, Ordering},
};

use aya_obj::{
    Function,
    generated::{
        BPF_F_UPROBE_MULTI_RETURN, bpf_attach_type::BPF_TRACE_UPROBE_MULTI, bpf_attr, bpf_cmd, bpf_insn,
        bpf_prog_info, bpf_prog_type::BPF_PROG_TYPE_KPROBE,
    },
};
use memmap2::Mmap;
use rustix::{
    io::{FdFlags, fcntl_getfd, fcntl_setfd},
    mm::{MapFlags, ProtFlags, mmap, munmap},
};
use tokio::io::{Interest, unix::AsyncFd};

use super::lease::Lease;

/// One of the commands that take a number.
///
/// # Errors
/// Those of `fcntl(2)`.
pub(crate) fn fcntl(file: &File, command: i32, number: i32) -> io::Result<i32> {
    // SAFETY: with a number these commands touch no memory of ours, and the descriptor is open.
    match unsafe { libc::fcntl(file.as_raw_fd(), command, number) } {
        -1 => Err(io::Error::last_os_error()),
        result => Ok(result),
    }
}

/// Maps a file that nobody can write to. To be dropped before the lease.
///
/// # Errors
/// Those of `mmap(2)`.
pub(crate) fn map(lease: &Lease) -> io::Result<Mmap> {
    // SAFETY: nobody writes to the file or cuts it short as long as the lease is there. The kernel takes it away only
    // after `lease-break-time`, 45 s, in which hundreds of files are read.
    unsafe { Mmap::map(lease.file()) }
}

/// The words of a BPF array, mapped into our memory: filling one word by one with system calls would
/// take a hundred times as long.
pub(crate) struct MappedWords {
    start: NonNull<u32>,
    len: usize,
}

// SAFETY: the mapping is owned by this value and tied to no thread.
unsafe impl Send for MappedWords {}

impl MappedWords {
    /// Maps the `len` words of an array that was created with `BPF_F_MMAPABLE` and values of two words or a multiple
    /// (Linux 5.5).
    ///
    /// # Errors
    /// Those of `mmap(2)`.
    pub(crate) fn new(fd: BorrowedFd<'_>, len: usize) -> io::Result<Self> {
        // SAFETY: a new mapping at an address of the kernel's choice touches no other memory.
        let start = unsafe {
            mmap(std::ptr::null_mut(), len * 4, ProtFlags::READ | ProtFlags::WRITE, MapFlags::SHARED, fd, 0)
        }?;
        let start = NonNull::new(start.cast()).ok_or_else(|| io::Error::other("mmap returned null"))?;
        Ok(Self { start, len })
    }

    /// Writes `words` from position `at` on. The probes may be reading other positions meanwhile; what
    /// is written here must not have been announced to them yet.
    ///
    /// # Panics
    /// If the words do not fit; the caller has reserved the room.
    pub(crate) fn write(&mut self, at: usize, words: &[u32]) {
        assert!(at.checked_add(words.len()).is_some_and(|end| end <= self.len), "room was reserved");
        // SAFETY: the range lies within the mapping (asserted), and `words` is other memory.
        unsafe { self.start.add(at).copy_from_nonoverlapping(NonNull::from(words).cast(), words.len()) };
    }

    /// The word at a position, if there is one. Of what others write meanwhile it is the old one or the new one.
    pub(crate) fn get(&self, at: usize) -> Option<u32> {
        // SAFETY: the place lies within the mapping (checked) and is aligned.
        (at < self.len).then(|| unsafe { self.start.add(at).read_volatile() })
    }

    /// Writes one word, at any time: the probes see the old one or the new one.
    ///
    /// # Panics
    /// If there is no such word.
    pub(crate) fn put(&mut self, at: usize, word: u32) {
        assert!(at < self.len, "a word of the array");
        // SAFETY: the place lies within the mapping (asserted) and is aligned, so that the word is written at once.
        unsafe { self.start.add(at).write_volatile(word) };
    }
}

impl Drop for MappedWords {
    fn drop(&mut self) {
        // SAFETY: mapped in `new` with this length, and nothing refers to it any more. A failure would
        // leave the mapping to the end of the process.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.len * 4) };
    }
}

/// Registers a readable file descriptor with the runtime.
///
/// # Errors
/// Those of `epoll_ctl(2)`.
pub(crate) fn register<T: AsFd + std::os::fd::AsRawFd>(fd: T) -> io::Result<AsyncFd<T>> {
    // SAFETY: `AsyncFd` owns `fd`, and the types it is used with (ring buffer, pidfd) keep the same
    // descriptor open for as long as they live.
    unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(Into::into)
}

/// A program for links of many probes, relocated already; `btf` describes its functions.
///
/// # Errors
/// Those of `bpf(2)`; the end of `log` then says why.
pub(crate) fn load_uprobe_multi(
    name: &str,
    program: &Function,
    license: &CStr,
    btf: BorrowedFd<'_>,
    log: &mut [u8],
) -> io::Result<OwnedFd> {
    let (functions, lines) = (program.func_info.func_info_bytes(), program.line_info.line_info_bytes());
    let instructions: &[bpf_insn] = &program.instructions;
    let mut attr = zeroed();
    // SAFETY: all bits of the union are zero, which is a value of each of its members.
    let load = unsafe { &mut attr.__bindgen_anon_3 };
    load.prog_type = BPF_PROG_TYPE_KPROBE as u32;
    load.expected_attach_type = BPF_TRACE_UPROBE_MULTI as u32;
    load.insns = instructions.as_ptr() as u64;
    load.insn_cnt = instructions.len() as u32;
    load.license = license.as_ptr() as u64;
    // One byte stays zero: the name's end.
    let room = load.prog_name.len() - 1;
    for (to, from) in load.prog_name[..room].iter_mut().zip(name.bytes()) {
        *to = from as c_char;
    }
    load.prog_btf_fd = btf.as_raw_fd() as u32;
    load.func_info = functions.as_ptr() as u64;
    load.func_info_cnt = program.func_info.len() as u32;
    load.func_info_rec_size = program.func_info_rec_size as u32;
    load.line_info = lines.as_ptr() as u64;
    load.line_info_cnt = program.line_info.len() as u32;
    load.line_info_rec_size = program.line_info_rec_size as u32;
    if !log.is_empty() {
        load.log_level = 1;
        load.log_buf = log.as_mut_ptr() as u64;
        load.log_size = log.len() as u32;
    }
    // SAFETY: every pointer leads to memory that is borrowed until the call returns, with its length beside it.
    unsafe { bpf(bpf_cmd::BPF_PROG_LOAD, &attr) }
}

/// A link of `program` to places of one file, each with its cookie, in one process or in all; gone when it is closed.
///
/// # Errors
/// Those of `bpf(2)`.
pub(crate) fn link_uprobe_multi(
    program: BorrowedFd<'_>,
    path: &CStr,
    points: &[(u64, u64)],
    at_return: bool,
    tgid: Option<u32>,
) -> io::Result<OwnedFd> {
    let (offsets, cookies): (Vec<u64>, Vec<u64>) = points.iter().copied().unzip();
    let mut attr = zeroed();
    // SAFETY: all bits of the union are zero, which is a value of each of its members.
    let create = unsafe { &mut attr.link_create };
    create.__bindgen_anon_1.prog_fd = program.as_raw_fd() as u32;
    create.attach_type = BPF_TRACE_UPROBE_MULTI as u32;
    // SAFETY: as above.
    let multi = unsafe { &mut create.__bindgen_anon_3.uprobe_multi };
    multi.path = path.as_ptr() as u64;
    multi.offsets = offsets.as_ptr() as u64;
    multi.cookies = cookies.as_ptr() as u64;
    multi.cnt = points.len() as u32;
    multi.pid = tgid.unwrap_or(0);
    multi.flags = if at_return { BPF_F_UPROBE_MULTI_RETURN } else { 0 };
    // SAFETY: the path ends with a zero, and both arrays have `cnt` elements; all live until the call returns.
    unsafe { bpf(bpf_cmd::BPF_LINK_CREATE, &attr) }
}

/// Type information that the kernel has.
///
/// # Errors
/// Those of `bpf(2)`.
pub(crate) fn btf_by_id(id: u32) -> io::Result<OwnedFd> {
    let mut attr = zeroed();
    attr.__bindgen_anon_6.__bindgen_anon_1.btf_id = id;
    // SAFETY: no pointers are involved.
    unsafe { bpf(bpf_cmd::BPF_BTF_GET_FD_BY_ID, &attr) }
}

/// Whether a descriptor of ours stays open in what we become by `exec`, and in the children that we start from now on.
///
/// # Errors
/// If it is not open.
pub(crate) fn keep_at_exec(fd: RawFd, keep: bool) -> io::Result<()> {
    // SAFETY: the descriptor is only looked up by its number; if nothing has that number, the call fails.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    let flags = if keep { FdFlags::empty() } else { FdFlags::CLOEXEC };
    fcntl_setfd(fd, flags).map_err(Into::into)
}

/// Takes over the descriptors that whoever started this program has left open, but for the three streams. The second time
/// there are none left.
///
/// # Errors
/// If they cannot be listed.
pub(crate) fn take_inherited() -> io::Result<Vec<OwnedFd>> {
    static TAKEN: AtomicBool = AtomicBool::new(false);
    if TAKEN.swap(true, Ordering::Relaxed) {
        return Ok(Vec::new());
    }
    let names = std::fs::read_dir("/proc/self/fd")?;
    let numbers = names.filter_map(|it| it.ok()?.file_name().to_str()?.parse().ok());
    // What this program opens itself is closed at the next exec.
    let is_inherited = |it: &RawFd| {
        // SAFETY: the descriptor is only looked up by its number; if nothing has that number, the call fails.
        let fd = unsafe { BorrowedFd::borrow_raw(*it) };
        *it > libc::STDERR_FILENO && fcntl_getfd(fd).is_ok_and(|it| !it.contains(FdFlags::CLOEXEC))
    };
    // SAFETY: open; nobody in this program has opened it, and whoever asks a second time gets none.
    Ok(numbers.filter(is_inherited).map(|it| unsafe { OwnedFd::from_raw_fd(it) }).collect())
}

/// How often a program has run and for how many nanoseconds, while somebody had that counted.
///
/// # Errors
/// Those of `bpf(2)`.
pub(crate) fn program_runs(program: BorrowedFd<'_>) -> io::Result<(u64, u64)> {
    // SAFETY: a structure of integers, each of which may be zero.
    let mut info: bpf_prog_info = unsafe { std::mem::zeroed() };
    let mut attr = zeroed();
    attr.info.bpf_fd = program.as_raw_fd() as u32;
    attr.info.info_len = size_of::<bpf_prog_info>() as u32;
    attr.info.info = std::ptr::from_mut(&mut info) as u64;
    // SAFETY: the kernel writes `info_len` bytes at most to `info`, which lives until the call returns. What `info` asks for
    // through its pointers is nothing, since they are null.
    let result = unsafe {
        libc::syscall(
            libc::SYS_bpf,
            bpf_cmd::BPF_OBJ_GET_INFO_BY_FD as u32,
            std::ptr::from_mut(&mut attr),
            size_of::<bpf_attr>(),
        )
    };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok((info.run_cnt, info.run_time_ns)) }
}

/// The CPU time of a process, all its threads together, in nanoseconds; `None` if there is no such process.
pub(crate) fn cpu_ns(tgid: u32) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    let mut clock = 0;
    // SAFETY: both results are written to variables of the right type that live until the calls return.
    let failed = unsafe {
        libc::clock_getcpuclockid(tgid as libc::pid_t, &raw mut clock) != 0
            || libc::clock_gettime(clock, &raw mut time) != 0
    };
    (!failed).then_some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

fn zeroed() -> bpf_attr {
    // SAFETY: a union of structures of integers, each of which may be zero.
    unsafe { std::mem::zeroed() }
}

/// # Safety
/// The pointers in `attr` must be what `command` expects, and `command` one that answers with a new descriptor.
unsafe fn bpf(command: bpf_cmd, attr: &bpf_attr) -> io::Result<OwnedFd> {
    // SAFETY: the kernel reads `attr` as far as its size says; the rest is the caller's promise.
    let fd = unsafe {
        libc::syscall(libc::SYS_bpf, command as u32, std::ptr::from_ref(attr), size_of::<bpf_attr>())
    };
    if fd < 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: new, and nobody else's.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// A block of the C library, which is not what this program itself allocates with: for a child that is there to be traced.
pub struct LibcBlock {
    start: NonNull<u8>,
    layout: Layout,
}

impl LibcBlock {
    /// `bytes` of malloc, filled with `byte`; of calloc if that is 0.
    ///
    /// # Errors
    /// If there is no memory, or nothing is asked for.
    #[inline(always)]
    pub fn new(bytes: usize, byte: u8) -> io::Result<Self> {
        let layout = Layout::array::<u8>(bytes).map_err(io::Error::other)?;
        if bytes == 0 {
            return Err(io::Error::from(io::ErrorKind::InvalidInput));
        }
        // SAFETY: the size is not zero.
        let start = unsafe { if byte == 0 { System.alloc_zeroed(layout) } else { System.alloc(layout) } };
        let start = NonNull::new(start).ok_or_else(|| io::Error::from(io::ErrorKind::OutOfMemory))?;
        // SAFETY: the block has so many bytes and is ours.
        unsafe { start.write_bytes(byte, bytes) };
        Ok(Self { start, layout })
    }
}

impl Drop for LibcBlock {
    fn drop(&mut self) {
        // SAFETY: allocated in `new` by the same allocator with this layout, and nothing else refers to it.
        unsafe { System.dealloc(self.start.as_ptr(), self.layout) };
    }
}

/// A block of the C library that is not touched, of whatever size; gone when it is dropped.
pub(crate) struct RawBlock(NonNull<libc::c_void>);

impl RawBlock {
    /// `malloc(bytes)`; `None` if that fails.
    #[inline(never)]
    pub(crate) fn of(bytes: usize) -> Option<Self> {
        // SAFETY: malloc has no preconditions.
        NonNull::new(unsafe { libc::malloc(bytes) }).map(Self)
    }

    /// `calloc(count, bytes)`.
    #[inline(never)]
    pub(crate) fn zeroed(count: usize, bytes: usize) -> Option<Self> {
        // SAFETY: calloc has no preconditions.
        NonNull::new(unsafe { libc::calloc(count, bytes) }).map(Self)
    }

    /// `aligned_alloc(alignment, bytes)`.
    #[inline(never)]
    pub(crate) fn aligned(alignment: usize, bytes: usize) -> Option<Self> {
        // SAFETY: what is no alignment makes it fail.
        NonNull::new(unsafe { libc::aligned_alloc(alignment, bytes) }).map(Self)
    }
}

impl Drop for RawBlock {
    fn drop(&mut self) {
        // SAFETY: from the same C library, and nobody else's.
        unsafe { libc::free(self.0.as_ptr()) };
    }
}
