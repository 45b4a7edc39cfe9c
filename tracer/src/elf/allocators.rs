//! The allocator functions: which there are, what their arguments mean, and where a file defines them.

use tracer_ebpf::call::{Cookie, Roles, Via};

use super::{
    Image,
    site::{self, Site},
};

/// What a call of the function does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Alloc,
    Free,
}

/// A known function: its argument positions are counted from 1.
struct Known {
    name: &'static str,
    via: Via,
    roles: Roles,
}

const fn alloc(name: &'static str, via: Via, size: u8, count: u8, old: u8, out: u8) -> Known {
    Known { name, via, roles: Roles { size, count, old, out } }
}

const fn free(name: &'static str) -> Known {
    Known { name, via: Via::Free, roles: Roles { size: 0, count: 0, old: 0, out: 0 } }
}

/// ISO C, POSIX and what C libraries have besides. Where several names share their code, the first here
/// is the one that is shown.
///
/// `reallocarray` is left out: it ends in a call of `realloc`, or a jump to it, in every known library.
const KNOWN: [Known; 13] = [
    alloc("malloc", Via::Malloc, 1, 0, 0, 0),
    alloc("calloc", Via::Calloc, 1, 2, 0, 0),
    alloc("realloc", Via::Realloc, 2, 0, 1, 0),
    alloc("posix_memalign", Via::PosixMemalign, 3, 0, 0, 1),
    alloc("aligned_alloc", Via::AlignedAlloc, 2, 0, 0, 0),
    alloc("memalign", Via::Memalign, 2, 0, 0, 0),
    alloc("valloc", Via::Valloc, 1, 0, 0, 0),
    alloc("pvalloc", Via::Pvalloc, 1, 0, 0, 0),
    free("free"),
    free("cfree"),
    free("free_sized"),
    free("free_aligned_sized"),
    free("__libc_free"),
];

/// A function to probe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    pub name: String,
    pub via: Via,
    pub role: Role,
    pub roles: Roles,
    /// Of its first instruction.
    pub file_offset: u64,
    pub site: Site,
}

impl Function {
    /// Where in the file the probe goes.
    pub fn site_offset(&self) -> u64 {
        self.file_offset + self.site.offset as u64
    }

    /// What its probes are told.
    pub fn cookie(&self) -> Cookie {
        Cookie::new(self.via, self.roles)
    }
}

/// The allocator functions that the file defines, one for each distinct place; none unless it defines at
/// least `malloc` and `free`: a file with only some of them is a wrapper around another's.
pub fn find(image: &Image<'_>) -> Vec<Function> {
    let mut found: Vec<(usize, u64, u64)> = image
        .functions()
        .filter_map(|(name, address, size)| {
            Some((KNOWN.iter().position(|it| it.name == name)?, address, size))
        })
        .collect();
    found.sort_unstable();
    let defines = |name| found.iter().any(|(at, ..)| KNOWN[*at].name == name);
    if !defines("malloc") || !defines("free") {
        return Vec::new();
    }
    let mut functions: Vec<Function> = Vec::new();
    for (known, address, size) in found {
        let (Some(file_offset), Some(code)) = (image.file_offset(address), image.bytes_at(address)) else {
            continue;
        };
        // Aliases share their code; probing it twice would count every call twice.
        if functions.iter().any(|it| it.file_offset == file_offset) {
            continue;
        }
        let known = &KNOWN[known];
        let size = if size == 0 { site::UNKNOWN_SIZE_BYTES } else { size as usize };
        let role = if known.via == Via::Free { Role::Free } else { Role::Alloc };
        let site = site::choose(&code[..size.min(code.len())]);
        let (name, via, roles) = (known.name.to_owned(), known.via, known.roles);
        functions.push(Function { name, via, role, roles, file_offset, site });
    }
    functions
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The C library that this test runs with.
    fn own_libc() -> Vec<u8> {
        let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
        let path = maps.split_whitespace().find(|it| it.contains("libc.so")).expect("a shared C library");
        std::fs::read(path).unwrap()
    }

    #[test]
    fn every_function_of_the_c_library_has_a_cheap_site() {
        let bytes = own_libc();
        let functions = find(&Image::parse(&bytes).unwrap());
        for name in
            ["malloc", "calloc", "realloc", "posix_memalign", "aligned_alloc", "valloc", "pvalloc", "free"]
        {
            let function = functions.iter().find(|it| it.name == name).unwrap_or_else(|| panic!("no {name}"));
            assert!(!function.site.is_single_step(), "{function:?}");
        }
        let mut offsets: Vec<u64> = functions.iter().map(|it| it.file_offset).collect();
        offsets.dedup();
        assert_eq!(offsets.len(), functions.len(), "one probe for each place");
    }

    #[test]
    fn an_importer_of_malloc_is_no_allocator() {
        let bytes = std::fs::read("/bin/ls").unwrap();
        assert_eq!(find(&Image::parse(&bytes).unwrap()), []);
    }
}
