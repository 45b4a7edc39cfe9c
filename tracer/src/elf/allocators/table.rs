//! THE table: families of allocators, their functions, and what the arguments mean.
//!
//! A family is told by a function that only it has. Its functions have the names of the C library, or these
//! behind a prefix: `je_malloc`, `mi_malloc`, `tc_malloc`.

use tracer_ebpf::call::{Roles, Via};

/// Whose function it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Family {
    Glibc,
    Musl,
    Jemalloc,
    Tcmalloc,
    Mimalloc,
    Snmalloc,
    /// Defines the functions and calls those of another object.
    Interposer,
    Unknown,
}

impl Family {
    /// For people.
    pub fn name(self) -> &'static str {
        match self {
            Self::Glibc => "glibc",
            Self::Musl => "musl",
            Self::Jemalloc => "jemalloc",
            Self::Tcmalloc => "tcmalloc",
            Self::Mimalloc => "mimalloc",
            Self::Snmalloc => "snmalloc",
            Self::Interposer => "interposer",
            Self::Unknown => "allocator without a name",
        }
    }
}

/// What a call of a function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Effect {
    Allocates,
    /// The same, or an exception leaves it.
    AllocatesOrThrows,
    /// Resizes, or frees what it cannot resize.
    ReallocatesOrFrees,
    /// Resizes in place, or does nothing, and returns the size.
    ResizesInPlace,
    Frees,
    /// Allocates or frees in a way that its arguments and its result do not tell.
    Unfollowed,
}

/// A function of a family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Known {
    pub(super) name: &'static str,
    pub(super) via: Via,
    pub(super) roles: Roles,
    pub(super) effect: Effect,
}

const NONE: Roles = Roles { size: 0, count: 0, old: 0, out: 0 };

const fn known(name: &'static str, via: Via, roles: Roles, effect: Effect) -> Known {
    Known { name, via, roles, effect }
}

const fn allocates(name: &'static str, via: Via, roles: Roles) -> Known {
    known(name, via, roles, Effect::Allocates)
}

const fn throws(name: &'static str, via: Via, roles: Roles) -> Known {
    known(name, via, roles, Effect::AllocatesOrThrows)
}

const fn frees(name: &'static str) -> Known {
    known(name, Via::Free, Roles { old: 1, ..NONE }, Effect::Frees)
}

const fn unfollowed(name: &'static str) -> Known {
    known(name, Via::Malloc, NONE, Effect::Unfollowed)
}

const fn size(position: u8) -> Roles {
    Roles { size: position, ..NONE }
}

const RESIZE: Roles = Roles { old: 1, size: 2, ..NONE };
const RESIZE_ARRAY: Roles = Roles { old: 1, count: 2, size: 3, ..NONE };

/// The C library's. Of names that share their code, the one that comes first is shown.
const C: &[Known] = &[
    allocates("malloc", Via::Malloc, size(1)),
    allocates("calloc", Via::Calloc, Roles { count: 1, size: 2, ..NONE }),
    allocates("realloc", Via::Realloc, RESIZE),
    allocates("reallocarray", Via::Reallocarray, RESIZE_ARRAY),
    allocates("posix_memalign", Via::PosixMemalign, Roles { out: 1, size: 3, ..NONE }),
    allocates("aligned_alloc", Via::AlignedAlloc, size(2)),
    allocates("memalign", Via::Memalign, size(2)),
    allocates("valloc", Via::Valloc, size(1)),
    allocates("pvalloc", Via::Pvalloc, size(1)),
    // BSD's.
    known("reallocf", Via::Realloc, RESIZE, Effect::ReallocatesOrFrees),
    allocates("recallocarray", Via::Reallocarray, Roles { old: 1, count: 3, size: 4, ..NONE }),
    frees("free"),
    // C23; glibc 2.43, jemalloc 5.3.1.
    frees("free_sized"),
    frees("free_aligned_sized"),
    // glibc before 2.26; later ones keep it for old programs.
    frees("cfree"),
    frees("vfree"),
];

/// musl: behind `malloc` and `free`, for itself.
const MUSL: &[Known] = &[allocates("malloc_impl", Via::Malloc, size(1))];

/// jemalloc, with flags.
const MALLOCX: &[Known] = &[
    allocates("mallocx", Via::Mallocx, size(1)),
    allocates("rallocx", Via::Rallocx, RESIZE),
    known("xallocx", Via::Xallocx, RESIZE, Effect::ResizesInPlace),
    frees("dallocx"),
    frees("sdallocx"),
];

/// tcmalloc, beside those of [`C`] and [`cxx`].
const TCMALLOC: &[Known] = &[
    allocates("malloc_skip_new_handler", Via::Malloc, size(1)),
    throws("new", Via::New, size(1)),
    throws("newarray", Via::NewArray, size(1)),
    throws("new_aligned", Via::New, size(1)),
    throws("newarray_aligned", Via::NewArray, size(1)),
    allocates("new_nothrow", Via::New, size(1)),
    allocates("newarray_nothrow", Via::NewArray, size(1)),
    allocates("new_aligned_nothrow", Via::New, size(1)),
    allocates("newarray_aligned_nothrow", Via::NewArray, size(1)),
    frees("delete"),
    frees("deletearray"),
    frees("delete_sized"),
    frees("deletearray_sized"),
    frees("delete_nothrow"),
    frees("deletearray_nothrow"),
    frees("delete_aligned"),
    frees("deletearray_aligned"),
    frees("delete_sized_aligned"),
    frees("deletearray_sized_aligned"),
];

/// mimalloc, beside those of [`C`]. Each may have `heap_` before it, with the heap as a further first argument, and
/// one of [`MIMALLOC_SUFFIXES`] behind it, with further last arguments.
const MIMALLOC: &[Known] = &[
    allocates("zalloc", Via::Calloc, size(1)),
    allocates("mallocn", Via::Calloc, Roles { count: 1, size: 2, ..NONE }),
    allocates("reallocn", Via::Reallocarray, RESIZE_ARRAY),
    allocates("rezalloc", Via::Realloc, RESIZE),
    allocates("recalloc", Via::Reallocarray, RESIZE_ARRAY),
    allocates("expand", Via::Realloc, RESIZE),
    throws("new", Via::New, size(1)),
    throws("new_n", Via::New, Roles { count: 1, size: 2, ..NONE }),
    throws("alloc_new", Via::New, size(1)),
    throws("alloc_new_n", Via::New, Roles { count: 1, size: 2, ..NONE }),
    allocates("new_nothrow", Via::New, size(1)),
    allocates("new_aligned_nothrow", Via::New, size(1)),
    throws("new_realloc", Via::Realloc, RESIZE),
    throws("new_reallocn", Via::Reallocarray, RESIZE_ARRAY),
    // Version 3: these also tell the usable size.
    allocates("umalloc", Via::Malloc, size(1)),
    allocates("ucalloc", Via::Calloc, Roles { count: 1, size: 2, ..NONE }),
    allocates("uzalloc", Via::Calloc, size(1)),
    allocates("urealloc", Via::Realloc, RESIZE),
    frees("ufree"),
    frees("free_size"),
    frees("free_size_aligned"),
    frees("free_aligned"),
    frees("free_small"),
    unfollowed("destroy"),
    unfollowed("strdup"),
    unfollowed("strndup"),
    unfollowed("realpath"),
    unfollowed("wcsdup"),
    unfollowed("mbsdup"),
    unfollowed("dupenv_s"),
];

const MIMALLOC_SUFFIXES: [&str; 3] = ["_small", "_aligned", "_aligned_at"];

/// snmalloc's for Rust (snmalloc-sys, src/lib.rs), beside those of [`C`].
const SNMALLOC: &[Known] = &[
    allocates("rust_alloc", Via::Malloc, size(2)),
    allocates("rust_alloc_zeroed", Via::Calloc, size(2)),
    allocates("rust_realloc", Via::Realloc, Roles { old: 1, size: 4, ..NONE }),
    frees("rust_dealloc"),
];

/// What the names in an object say of its allocators.
#[derive(Debug, Default)]
pub(super) struct Families<'data> {
    /// Of the names without a prefix.
    plain: Option<Family>,
    /// Before jemalloc's names; empty if they have none.
    jemalloc_prefixes: Vec<&'data str>,
}

/// Functions that only glibc has; the first in its shared form, the others in its static one.
const GLIBC_MARKERS: [&str; 3] =
    ["gnu_get_libc_version", "__malloc_arena_thread_freeres", "__malloc_hugepage_config"];

/// Functions that only musl has: in its loader, and in programs that are linked with it.
const MUSL_MARKERS: [&str; 4] = ["__dls3", "__libc_malloc_impl", "__malloc_allzerop", "__malloc0"];

/// Functions by which an object reaches the one that it stands before.
const NEXT_MARKERS: [&str; 4] = ["dlsym", "dlvsym", "__libc_malloc", "__libc_memalign"];

impl<'data> Families<'data> {
    /// `names` are those of the object's own functions.
    pub(super) fn of(
        names: impl Iterator<Item = &'data str>,
        mut imports: impl Iterator<Item = &'data str>,
    ) -> Self {
        let mut families = Self::default();
        let (mut controls, mut with_flags) = (Vec::new(), Vec::new());
        for name in names {
            controls.extend(name.strip_suffix("mallctl"));
            with_flags.extend(name.strip_suffix("mallocx"));
            let family = match name {
                "mallctl" => Family::Jemalloc,
                "tc_version" | "tc_malloc" | "TCMalloc_Internal_GetStats" => Family::Tcmalloc,
                _ if name.starts_with("MallocExtension_") => Family::Tcmalloc,
                "mi_version" | "mi_malloc" => Family::Mimalloc,
                _ if name.starts_with("_ZN8snmalloc") => Family::Snmalloc,
                _ if GLIBC_MARKERS.contains(&name) => Family::Glibc,
                _ if MUSL_MARKERS.contains(&name) => Family::Musl,
                _ => continue,
            };
            // A program that is linked statically has marks of its libc as well; that comes last.
            let rank = |it: Family| matches!(it, Family::Glibc | Family::Musl);
            if families.plain.is_none_or(|before| rank(before) && !rank(family)) {
                families.plain = Some(family);
            }
        }
        families.jemalloc_prefixes = controls.into_iter().filter(|it| with_flags.contains(it)).collect();
        if families.plain.is_none() && imports.any(|it| NEXT_MARKERS.contains(&it)) {
            families.plain = Some(Family::Interposer);
        }
        families
    }

    /// The place in the order of names, the prefix, and what is known of the function with this name.
    pub(super) fn known(&self, name: &str) -> Option<(usize, Family, &str, Known)> {
        self.prefixed(name).or_else(|| {
            let family = self.plain.unwrap_or(Family::Unknown);
            let bare = name.strip_prefix("__libc_");
            // C libraries have no operators: in a static program they are libstdc++'s, which call malloc and free.
            let has_operators = !matches!(self.plain, Some(Family::Glibc | Family::Musl));
            let (index, known) = find(&[C], name)
                .or_else(|| cxx(name).filter(|_| has_operators))
                .or_else(|| self.jemalloc_prefixes.contains(&"").then(|| find(&[MALLOCX], name))?)
                .or_else(|| find(&[C, MUSL], bare?).map(|(index, known)| (1000 + index, known)))?;
            Some((index, family, "", known))
        })
    }

    fn prefixed(&self, name: &str) -> Option<(usize, Family, &'data str, Known)> {
        let behind = |prefix: &'static str, family, find: &dyn Fn(&str) -> Option<(usize, Known)>| {
            let (index, known) = find(name.strip_prefix(prefix)?)?;
            Some((1000 + index, family, prefix, known))
        };
        behind("mi_", Family::Mimalloc, &mimalloc)
            .or_else(|| behind("tc_", Family::Tcmalloc, &|it| find(&[C, TCMALLOC], it)))
            .or_else(|| behind("sn_", Family::Snmalloc, &|it| find(&[C, SNMALLOC], it)))
            .or_else(|| {
                self.jemalloc_prefixes.iter().filter(|it| !it.is_empty()).find_map(|prefix| {
                    let (index, known) = find(&[C, MALLOCX], name.strip_prefix(prefix)?)?;
                    Some((1000 + index, Family::Jemalloc, *prefix, known))
                })
            })
    }
}

fn find(tables: &[&[Known]], name: &str) -> Option<(usize, Known)> {
    tables.iter().flat_map(|it| it.iter()).copied().enumerate().find(|(_, it)| it.name == name)
}

/// C++'s `operator new` and `operator delete`, in all their forms, as the Itanium ABI writes them: their first
/// argument is the size, or the block, and only those with `std::nothrow_t` do not throw.
fn cxx(name: &str) -> Option<(usize, Known)> {
    let (via, index) = match name.get(..4)? {
        "_Znw" => (Via::New, 100),
        "_Zna" => (Via::NewArray, 101),
        "_Zdl" | "_Zda" => (Via::Free, 102),
        _ => return None,
    };
    let rest = &name[4..];
    let known = match via {
        Via::Free => rest.starts_with("Pv").then(|| frees("operator delete"))?,
        _ if !rest.starts_with('m') => return None,
        _ if rest.contains("nothrow_t") => allocates("operator new", via, size(1)),
        _ => throws("operator new", via, size(1)),
    };
    Some((index, known))
}

fn mimalloc(name: &str) -> Option<(usize, Known)> {
    let (name, shift) = match name.strip_prefix("heap_").or_else(|| name.strip_prefix("theap_")) {
        Some(rest) => (rest, 1),
        None => (name, 0),
    };
    // Without a heap, and with one, these are other functions: the latter make heaps.
    if name == "destroy" && shift == 0 || name.starts_with("new") && shift == 1 {
        return None;
    }
    let bare = || MIMALLOC_SUFFIXES.iter().find_map(|it| name.strip_suffix(it));
    let (index, mut known) = find(&[C, MIMALLOC], name).or_else(|| find(&[C, MIMALLOC], bare()?))?;
    let moved = |position: u8| if position == 0 { 0 } else { position + shift };
    let Roles { size, count, old, out } = known.roles;
    known.roles = Roles { size: moved(size), count: moved(count), old: moved(old), out: moved(out) };
    Some((index + usize::from(shift) * 100, known))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roles(names: &[&'static str], name: &str) -> Option<(Family, Via, Roles)> {
        let families = Families::of(names.iter().copied(), std::iter::empty());
        families.known(name).map(|(_, family, _, it)| (family, it.via, it.roles))
    }

    #[test]
    fn prefixes_and_suffixes() {
        let rust = ["_rjem_mallctl", "_rjem_mallocx", "gnu_get_libc_version"];
        assert_eq!(roles(&rust, "_rjem_malloc"), Some((Family::Jemalloc, Via::Malloc, size(1))));
        assert_eq!(roles(&rust, "_rjem_sdallocx").map(|it| it.1), Some(Via::Free));
        assert_eq!(roles(&rust, "malloc"), Some((Family::Glibc, Via::Malloc, size(1))));
        assert_eq!(roles(&rust, "mallocx"), None);
        assert_eq!(roles(&[], "_rjem_malloc"), None);
        assert_eq!(roles(&[], "sn_rust_alloc"), Some((Family::Snmalloc, Via::Malloc, size(2))));
        let calloc = Roles { count: 2, size: 3, ..NONE };
        assert_eq!(roles(&[], "mi_heap_calloc_aligned_at"), Some((Family::Mimalloc, Via::Calloc, calloc)));
        assert_eq!(roles(&[], "mi_aligned_alloc"), Some((Family::Mimalloc, Via::AlignedAlloc, size(2))));
        assert_eq!(roles(&[], "mi_free_size_aligned").map(|it| it.1), Some(Via::Free));
        assert_eq!(roles(&[], "mi_heap_destroy").map(|it| it.0), Some(Family::Mimalloc));
        for none in ["mi_destroy", "mi_version", "mi_heap_new", "mallocate", "_Znumber", "_ZdaBomb", "tc_"] {
            assert_eq!(roles(&[], none), None, "{none}");
        }
    }

    #[test]
    fn cxx_operators() {
        let effect = |name: &str| cxx(name).map(|(_, it)| (it.via, it.effect));
        assert_eq!(effect("_Znwm"), Some((Via::New, Effect::AllocatesOrThrows)));
        assert_eq!(effect("_ZnamSt11align_val_t"), Some((Via::NewArray, Effect::AllocatesOrThrows)));
        assert_eq!(effect("_ZnwmRKSt9nothrow_t"), Some((Via::New, Effect::Allocates)));
        assert_eq!(effect("_ZnwmSt11align_val_tRKSt9nothrow_t"), Some((Via::New, Effect::Allocates)));
        assert_eq!(effect("_ZdaPvmSt11align_val_t"), Some((Via::Free, Effect::Frees)));
    }

    #[test]
    fn the_libc_of_a_static_program_comes_last() {
        for names in [["__libc_malloc_impl", "mi_version"], ["mi_version", "__libc_malloc_impl"]] {
            assert_eq!(roles(&names, "malloc").map(|it| it.0), Some(Family::Mimalloc));
        }
        let wrapper = Families::of(["malloc", "free"].into_iter(), ["dlsym"].into_iter());
        assert_eq!(wrapper.known("free").map(|it| it.1), Some(Family::Interposer));
    }
}
