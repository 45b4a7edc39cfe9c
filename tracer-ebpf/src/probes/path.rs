//! Where a file lies, as the kernel knows it: so that user space can open the file although the process that had
//! mapped it is gone.

use core::ffi::c_void;

use aya_ebpf::helpers::generated::bpf_loop;
use tracer_ebpf::{
    mapping::ObjectKey,
    record::{Kind, PATH_BYTES, Path},
};

use crate::{
    emit::{Wake, flags, head, reserve},
    maps::CONFIG,
    user,
};

/// A name has 255 bytes at most (`NAME_MAX`), and its zero.
const NAME_BYTES: usize = 256;

/// Directories that lie in one another.
const MAX_DEPTH: u32 = 64;

/// On the way from a file to the root of its file system.
#[repr(C)]
struct Climb {
    record: *mut Path,
    /// The file or directory that is named next.
    entry: u64,
    /// Bytes of names so far.
    used: u64,
    /// Of the kernel's `struct dentry`.
    name_offset: u32,
    parent_offset: u32,
}

/// Tells user space the names of a new object's file and of the directories above it, up to the root of its file system.
#[inline(never)]
pub(crate) fn send(object: u32, key: &ObjectKey, file: u64) -> Option<()> {
    let config = CONFIG.get(0)?;
    let mut room = reserve::<Path>()?;
    let record = room.as_mut_ptr();
    // SAFETY: the pointer leads to room for a record on the ring; every field is written before it is submitted, but for
    // the names behind `used`, which nobody reads.
    unsafe {
        (&raw mut (*record).head).write(head(Kind::Path, 0, 0, 0));
        (&raw mut (*record).object).write(object);
        (&raw mut (*record).key).write(*key);
    }
    let mut climb = Climb {
        record,
        entry: user::kernel(file, config.file_dentry),
        used: 0,
        name_offset: config.dentry_name,
        parent_offset: config.dentry_parent,
    };
    // SAFETY: the callback has the signature that the helper wants, and `climb` outlives the call.
    unsafe { bpf_loop(MAX_DEPTH, name_one as *mut c_void, (&raw mut climb).cast(), 0) };
    // SAFETY: as above.
    unsafe { (&raw mut (*record).bytes).write(climb.used as u32) };
    room.submit(flags(Wake::WhenFilling));
    Some(())
}

/// Writes one name down and goes up; the callback of `bpf_loop`, so that the verifier follows it once. 1 ends the way.
extern "C" fn name_one(_index: u64, climb: *mut Climb) -> i64 {
    // SAFETY: `climb` is the pointer that `send` passed, and `send` does not touch it while the loop runs.
    let climb = unsafe { &mut *climb };
    let parent: u64 = user::kernel(climb.entry, climb.parent_offset);
    let used = climb.used;
    if parent == climb.entry || parent == 0 || used > (PATH_BYTES - NAME_BYTES) as u64 {
        return 1;
    }
    // SAFETY: `used` was just checked, so that there is room for one more name.
    let to = unsafe { (&raw mut (*climb.record).names).cast::<u8>().add(used as usize) };
    let name: u64 = user::kernel(climb.entry, climb.name_offset);
    climb.used = used + user::kernel_string::<NAME_BYTES>(to, name) as u64;
    climb.entry = parent;
    0
}
