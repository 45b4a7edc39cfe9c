//! THE table of allocator functions, and where in an object they are.
//!
//! An object is an allocator if it defines `malloc` and `free`: glibc, musl (whose loader *is* its
//! libc), and the libraries of jemalloc, tcmalloc and mimalloc all do, and so does a program that is
//! linked statically with any of them. An object that only wraps one of the two is left alone.

use std::borrow::Cow;

use tracer_ebpf::call::{Cookie, Roles, Via};

use super::{
    Image,
    site::{self, Needs, Site},
};

/// Whether a function hands out a block or takes one back.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Role {
    Alloc,
    Free,
}

/// A function of the C interface to memory.
#[derive(Clone, Copy, Debug)]
struct Known {
    name: &'static str,
    via: Via,
    roles: Roles,
}

const NONE: Roles = Roles { size: 0, count: 0, old: 0, out: 0 };

/// Of names that share their code, the one that comes first here is shown: standard names do.
///
/// `reallocarray` is missing on purpose. It computes the product and then calls or jumps to `realloc`
/// (glibc 2.36 and musl 1.2: `jmp realloc@plt`), which tells all there is to tell. After such a jump
/// both functions would return through one return address: two return probes for one call.
const TABLE: &[Known] = &[
    Known { name: "malloc", via: Via::Malloc, roles: Roles { size: 1, ..NONE } },
    Known { name: "calloc", via: Via::Calloc, roles: Roles { count: 1, size: 2, ..NONE } },
    Known { name: "realloc", via: Via::Realloc, roles: Roles { old: 1, size: 2, ..NONE } },
    Known { name: "posix_memalign", via: Via::PosixMemalign, roles: Roles { out: 1, size: 3, ..NONE } },
    Known { name: "aligned_alloc", via: Via::AlignedAlloc, roles: Roles { size: 2, ..NONE } },
    Known { name: "memalign", via: Via::Memalign, roles: Roles { size: 2, ..NONE } },
    Known { name: "valloc", via: Via::Valloc, roles: Roles { size: 1, ..NONE } },
    Known { name: "pvalloc", via: Via::Pvalloc, roles: Roles { size: 1, ..NONE } },
    Known { name: "free", via: Via::Free, roles: Roles { old: 1, ..NONE } },
    // C23; glibc 2.43, jemalloc 5.3.1.
    Known { name: "free_sized", via: Via::Free, roles: Roles { old: 1, ..NONE } },
    Known { name: "free_aligned_sized", via: Via::Free, roles: Roles { old: 1, ..NONE } },
    // glibc before 2.26; later ones keep it for old programs.
    Known { name: "cfree", via: Via::Free, roles: Roles { old: 1, ..NONE } },
];

/// An allocator function in an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub name: Cow<'static, str>,
    pub via: Via,
    pub role: Role,
    /// Of its first instruction.
    pub file_offset: u64,
    pub site: Site,
    /// Its `ret` instructions, from its first; empty if a return probe may be placed.
    pub exits: Vec<u32>,
    /// What its probes are told beyond the function and its arguments.
    pub(super) traits: Traits,
}

impl Function {
    /// Where in the file its probes go.
    pub fn site_offset(&self) -> u64 {
        self.file_offset + u64::from(self.site.offset)
    }

    /// What its probes are told. It belongs to the site, where arguments may lie elsewhere than at
    /// the entry.
    pub fn cookie(&self) -> Cookie {
        let Traits(traits) = self.traits;
        Cookie(Cookie::new(self.via, self.site.roles).0 | traits.0)
    }
}

/// The flags and the fixed size of a [`Cookie`] that is otherwise empty.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Traits(pub(super) Cookie);

impl Traits {
    pub(super) const NONE: Self = Self(Cookie(0));
}

/// Bytes that are looked at of a function that does not state its size.
const UNKNOWN_SIZE_BYTES: u64 = 64;

/// The allocator functions that `image` defines, one per distinct address, in the order of the table;
/// none if it is no allocator.
pub fn find(image: &Image<'_>) -> Vec<Function> {
    let symbols = image.functions();
    // In each glibc since 2.1, and in no other C library.
    let is_glibc = symbols.iter().any(|it| it.name == b"gnu_get_libc_version");
    // It frees a thread's cache when the thread ends.
    let traits = if is_glibc { Traits(Cookie(0).with_thread_cache()) } else { Traits::NONE };
    let mut found: Vec<(usize, Function)> = symbols
        .into_iter()
        .filter_map(|symbol| {
            let index = TABLE.iter().position(|it| it.name.as_bytes() == symbol.name)?;
            let Known { name, via, roles } = TABLE[index];
            let role = if via == Via::Free { Role::Free } else { Role::Alloc };
            let code = image.at(symbol.address)?;
            let size = if symbol.size == 0 { UNKNOWN_SIZE_BYTES } else { symbol.size };
            let code = &code[..code.len().min(usize::try_from(size).ok()?)];
            let site = site::choose(code, Needs { roles, non_null: role == Role::Free });
            let file_offset = image.file_offset(symbol.address)?;
            Some((
                index,
                Function { name: name.into(), via, role, file_offset, site, exits: Vec::new(), traits },
            ))
        })
        .collect();

    let defines = |name: &str| found.iter().any(|(_, it)| it.name == name);
    if !(defines("malloc") && defines("free")) {
        return Vec::new();
    }
    found.sort_by_key(|(index, it)| (it.file_offset, *index));
    found.dedup_by_key(|(_, it)| it.file_offset);
    found.sort_by_key(|(index, it)| (*index, it.file_offset));
    found.into_iter().map(|(_, it)| it).collect()
}
