//! Files that nobody is to write to for now: those that are being read, and those with probes for everybody who maps them. The
//! kernel keeps such a probe by its place in the file, and puts it there
//! also if the file has been written over, into the middle of an instruction perhaps (`uprobe_mmap`,
//! kernel/events/uprobes.c). So whoever opens the file to write has to wait until the probes are out: that is what leases are
//! for, see "Leases" in fcntl(2).

use std::{fs::File, io, sync::Arc};

use super::sys::fcntl;

/// Nobody can open the file for writing as long as this is there: who tries waits for it to go, for
/// `/proc/sys/fs/lease-break-time` at most.
pub(crate) struct Lease {
    file: Arc<File>,
}

impl Lease {
    /// # Errors
    /// Somebody writes to the file now, or its file system knows no leases.
    pub(crate) fn take(file: &Arc<File>) -> io::Result<Self> {
        fcntl(file, libc::F_SETLEASE, libc::F_RDLCK)?;
        // No signal comes that would end us.
        fcntl(file, libc::F_SETOWN, 0)?;
        Ok(Self { file: Arc::clone(file) })
    }

    pub(crate) fn file(&self) -> &File {
        &self.file
    }

    /// Somebody waits.
    pub(crate) fn is_wanted_back(&self) -> bool {
        fcntl(&self.file, libc::F_GETLEASE, 0).is_ok_and(|it| it != libc::F_RDLCK)
    }
}

impl Drop for Lease {
    fn drop(&mut self) {
        // It goes with the descriptor in any case.
        let _ = fcntl(&self.file, libc::F_SETLEASE, libc::F_UNLCK);
    }
}

#[cfg(test)]
mod tests {
    use std::{fs, thread, time::Duration};

    use super::*;

    #[test]
    fn who_writes_waits_for_us() {
        let path = std::env::temp_dir().join(format!("alloctrace-lease-{}", std::process::id()));
        fs::write(&path, "old").unwrap();
        let lease = Lease::take(&Arc::new(File::open(&path).unwrap())).unwrap();
        assert!(!lease.is_wanted_back());
        let writer = thread::spawn({
            let path = path.clone();
            move || fs::write(path, "new").unwrap()
        });
        while !lease.is_wanted_back() {
            thread::sleep(Duration::from_millis(1));
        }
        assert_eq!(fs::read_to_string(&path).unwrap(), "old");
        drop(lease);
        writer.join().unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap(), "new");
        fs::remove_file(path).unwrap();
    }
}
