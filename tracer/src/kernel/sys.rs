//! The one place of user space with unsafe code: what aya 0.14 does not offer.
#![expect(unsafe_code, reason = "mmap of a BPF array and registration of a file descriptor")]

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
    ptr::NonNull,
};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};
use tokio::io::{Interest, unix::AsyncFd};

/// The words of a BPF array, mapped into our memory: filling one word by one with system calls would
/// take a hundred times as long.
pub(crate) struct MappedWords {
    start: NonNull<u32>,
    len: usize,
}

// SAFETY: the mapping is owned by this value and tied to no thread.
unsafe impl Send for MappedWords {}

impl MappedWords {
    /// Maps the `len` words of an array that was created with `BPF_F_MMAPABLE` and values of two words
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
