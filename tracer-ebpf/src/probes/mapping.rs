//! From an address of the current process to its object: asks the kernel's own map of the process, and
//! remembers the answer by page. So there is no race with user space: a library is known the moment
//! it is mapped, and a process of two milliseconds is known as well as an old one.

use core::{ffi::c_void, hint::black_box};

use aya_ebpf::{
    bindings::{BPF_NOEXIST, task_struct},
    helpers::generated::bpf_find_vma,
};
use tracer_ebpf::{
    config::Config,
    loss::Loss,
    mapping::{MAX_OBJECTS, Mapped, ObjectKey, PageKey, TABLE_PENDING, VDSO, version},
    record::{Kind, Mapping},
    unwind::Stop,
};

use crate::{
    emit::{Wake, count, flags, head, reserve},
    maps::{CONFIG, NEXT, OBJECTS, PAGES, TABLES},
    path, sync, user,
};

/// `VM_EXEC` of include/linux/mm.h.
const VM_EXEC: u64 = 4;

/// What the kernel says of the mapping around an address.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct Vma {
    start: u64,
    end: u64,
    flags: u64,
    page_offset: u64,
    file: u64,
    key: ObjectKey,
}

impl Vma {
    pub(crate) fn has_file(&self) -> bool {
        self.file != 0
    }

    pub(crate) fn flags(&self) -> u64 {
        self.flags
    }

    /// Whether addresses in it may be in [`PAGES`].
    pub(crate) fn may_hold_code(&self) -> bool {
        self.file != 0 || self.flags & VM_EXEC != 0
    }
}

/// Makes `last` the mapping around `address`, if it is known; `other` was the one before.
#[inline(always)]
pub(crate) fn find(
    (process, generation): (u32, u32),
    (last, other): (&mut Mapped, &mut Mapped),
    address: u64,
) -> bool {
    if address >= last.start && address < last.end {
        return true;
    }
    core::mem::swap(last, other);
    if address >= last.start && address < last.end {
        return true;
    }
    let key = PageKey { process, generation, page: address >> 12 };
    let Some(mapped) = PAGES.get_ptr(key) else { return false };
    // SAFETY: a cached value may be replaced by another page's at any time; the range check below
    // catches that.
    let mapped = unsafe { *mapped };
    let is_it = address >= mapped.start && address < mapped.end;
    if is_it {
        *last = mapped;
    }
    is_it
}

/// Asks the kernel what is mapped at `address`, and tells user space of a mapping or object that it has not seen.
///
/// # Errors
/// `NoMapping` if nothing executable is there; `Pending` if the kernel cannot be asked just now.
#[inline(always)]
pub(crate) fn resolve(process: u32, generation: u32, address: u64, to: &mut Mapped) -> Result<(), Stop> {
    match black_box(resolve_mapping(process, generation, address, to)) {
        RESOLVED => Ok(()),
        code => Err(stop(code)),
    }
}

/// A reason that [`resolve`] gives, of its code.
#[inline(always)]
pub(crate) fn stop(code: u32) -> Stop {
    const NO_MAPPING: u32 = Stop::NoMapping as u32;
    const PENDING: u32 = Stop::Pending as u32;
    match code {
        NO_MAPPING => Stop::NoMapping,
        PENDING => Stop::Pending,
        _ => Stop::NoTable,
    }
}

const RESOLVED: u32 = 0;

/// [`resolve`], as the code of a [`Stop`]. A global function: the verifier follows it once for each program, and not once for
/// each state that a caller can be in.
#[inline(never)]
#[unsafe(no_mangle)]
extern "C" fn resolve_mapping(process: u32, generation: u32, address: u64, to: *mut Mapped) -> u32 {
    // SAFETY: a pointer to a value that nobody else uses meanwhile, as `resolve` has it; the verifier wants to see the check.
    let Some(to) = (unsafe { to.as_mut() }) else { return Stop::NoTable as u32 };
    match ask(process, generation, address) {
        Ok(mapped) => {
            let key = PageKey { process, generation, page: address >> 12 };
            let _ = PAGES.insert(key, mapped, 0);
            *to = mapped;
            RESOLVED
        }
        Err(stop) => stop as u32,
    }
}

#[inline(always)]
fn ask(process: u32, generation: u32, address: u64) -> Result<Mapped, Stop> {
    let vma = vma_at(address)?;
    if vma.flags & VM_EXEC == 0 {
        return Err(Stop::NoMapping);
    }
    let mut key = vma.key;
    let file_offset = vma.page_offset << 12;
    let mut mapped = Mapped {
        start: vma.start,
        end: vma.end,
        file_delta: file_offset.wrapping_sub(vma.start),
        object: 0,
        pad: 0,
    };
    if vma.file == 0 {
        if !is_vdso(vma.start) {
            mapped.file_delta = 0;
            return Ok(mapped);
        }
        key = VDSO;
    }
    mapped.object = object(key, vma.file).ok_or(Stop::NoTable)?;
    announce(process, generation, &vma, key, mapped.object);
    Ok(mapped)
}

/// Tells user space of a mapping once per image.
#[inline(always)]
fn announce(process: u32, generation: u32, vma: &Vma, key: ObjectKey, object: u32) {
    // No page has a number with the highest bit.
    let seen = PageKey { process, generation, page: vma.start | 1 << 63 };
    if PAGES.get_ptr(seen).is_some() {
        return;
    }
    let pending = TABLES.get(object).is_some_and(|it| it.state == TABLE_PENDING);
    let (tgid, _) = user::current_ids();
    // Written in place: the stack is short.
    let Some(mut room) = reserve::<Mapping>() else { return };
    room.write(Mapping {
        head: head(Kind::Mapping, process, 0, 0),
        start: vma.start,
        end: vma.end,
        file_offset: vma.page_offset << 12,
        key,
        object,
        tgid,
    });
    room.submit(flags(if pending { Wake::Now } else { Wake::WhenFilling }));
    let _ = PAGES.insert(seen, Mapped::default(), 0);
}

/// The number of the object that is mapped at `address`; 0 if there is none. User space is not told.
#[inline(always)]
pub(crate) fn object_at(address: u64) -> u32 {
    match vma_at(address) {
        Ok(vma) if vma.file != 0 => object(vma.key, vma.file).unwrap_or(0),
        _ => 0,
    }
}

/// The object's number, a new one if it has none.
#[inline(always)]
fn object(key: ObjectKey, file: u64) -> Option<u32> {
    if let Some(number) = OBJECTS.get_ptr(key) {
        // SAFETY: the place stays the map's. If its element is removed just now it may have another's number, but those
        // that are removed are of files that nobody has had mapped for long.
        return Some(unsafe { *number });
    }
    let number = sync::fetch_add(NEXT.get_ptr_mut(0)?, 1);
    if number >= MAX_OBJECTS {
        count(Loss::ObjectsFull);
        return None;
    }
    if OBJECTS.insert(key, number, BPF_NOEXIST as u64).is_err() {
        // Another CPU was first; its number holds and ours is never used.
        let number = OBJECTS.get_ptr(key)?;
        // SAFETY: as above.
        return Some(unsafe { *number });
    }
    if file != 0 {
        path::send(number, &key, file);
    }
    Some(number)
}

/// The mapping around `address` of the current process.
#[inline(always)]
pub(crate) fn vma_at(address: u64) -> Result<Vma, Stop> {
    /// `-ENOENT`: no mapping. Anything else: the process's memory map is being changed.
    const NO_ENTRY: i64 = -2;
    let mut vma = Vma::default();
    // SAFETY: the callback has the signature that the helper wants, and `vma` outlives the call.
    let result = unsafe {
        bpf_find_vma(user::current_task_typed(), address, read_vma as *mut c_void, (&raw mut vma).cast(), 0)
    };
    match result as i64 {
        0 => Ok(vma),
        NO_ENTRY => Err(Stop::NoMapping),
        _ => Err(Stop::Pending),
    }
}

/// Copies what is wanted of a `struct vm_area_struct`; the callback of `bpf_find_vma`.
extern "C" fn read_vma(_task: *mut task_struct, vma: *const c_void, to: *mut Vma) -> i64 {
    let Some(config) = CONFIG.get(0) else { return 0 };
    let vma = vma as u64;
    // SAFETY: `to` is the pointer that `vma_at` passed.
    let to = unsafe { &mut *to };
    to.start = user::kernel(vma, config.vma_start);
    to.end = user::kernel(vma, config.vma_end);
    to.flags = user::kernel(vma, config.vma_flags);
    to.page_offset = user::kernel(vma, config.vma_file_offset);
    to.file = user::kernel(vma, config.vma_file);
    if to.file != 0 {
        let inode: u64 = user::kernel(to.file, config.file_inode);
        to.key.ino = user::kernel(inode, config.inode_number);
        let seconds: i64 = user::kernel(inode, config.inode_modified_s);
        to.key.version = version(seconds, user::kernel(inode, config.inode_modified_ns));
        let super_block: u64 = user::kernel(inode, config.inode_super_block);
        to.key.dev = user::kernel(super_block, config.super_block_device);
    }
    0
}

#[inline(always)]
fn is_vdso(start: u64) -> bool {
    let Some(config) = CONFIG.get(0) else { return false };
    user::kernel::<u64>(memory(config), config.mm_vdso) == start
}

/// The current process's `mm_struct`.
#[inline(always)]
pub(crate) fn memory(config: &Config) -> u64 {
    user::kernel(user::current_task(), config.task_mm)
}
