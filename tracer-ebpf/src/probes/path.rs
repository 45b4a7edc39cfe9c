//! Where a file lies, as the kernel knows it: so that user space can open the file although the process that had
//! mapped it is gone.

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

/// Directories that lie in one another. The verifier goes through the loop as often, wherever a walk may meet a new object.
const MAX_DEPTH: u32 = 24;

/// Tells user space the names of a new object's file and of the directories above it, up to the root of its file system.
#[inline(never)]
pub(crate) fn send(object: u32, key: &ObjectKey, file: u64) -> Option<()> {
    let config = CONFIG.get(0)?;
    let mut room = reserve::<Path>()?;
    let record = room.as_mut_ptr();
    let mut entry: u64 = user::kernel(file, config.file_dentry);
    let mut used: u32 = 0;
    // SAFETY: the pointer leads to room for a record on the ring; every field is written before it is submitted, but for
    // the names behind `used`, which nobody reads.
    unsafe {
        (&raw mut (*record).head).write(head(Kind::Path, 0, 0, 0));
        (&raw mut (*record).object).write(object);
        (&raw mut (*record).dev).write(key.dev);
        (&raw mut (*record).ino).write(key.ino);
    }
    for _ in 0..MAX_DEPTH {
        let parent: u64 = user::kernel(entry, config.dentry_parent);
        if parent == entry || parent == 0 || used > (PATH_BYTES - NAME_BYTES) as u32 {
            break;
        }
        // SAFETY: `used` was just checked, so that there is room for one more name.
        let to = unsafe { (&raw mut (*record).names).cast::<u8>().add(used as usize) };
        let name: u64 = user::kernel(entry, config.dentry_name);
        used += user::kernel_string::<NAME_BYTES>(to, name);
        entry = parent;
    }
    // SAFETY: as above.
    unsafe { (&raw mut (*record).bytes).write(used) };
    room.submit(flags(Wake::WhenFilling));
    Some(())
}
