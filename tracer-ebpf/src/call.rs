//! Allocator calls: which function, and what its arguments mean.

/// The function that allocated; the `via` of a site. The order is part of the ring format only.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum Via {
    Malloc,
    Calloc,
    Realloc,
    Reallocarray,
    PosixMemalign,
    AlignedAlloc,
    Memalign,
    Valloc,
    Pvalloc,
    Free,
    Mmap,
    Mremap,
    Brk,
}

impl Via {
    pub const ALL: [Self; 13] = [
        Self::Malloc,
        Self::Calloc,
        Self::Realloc,
        Self::Reallocarray,
        Self::PosixMemalign,
        Self::AlignedAlloc,
        Self::Memalign,
        Self::Valloc,
        Self::Pvalloc,
        Self::Free,
        Self::Mmap,
        Self::Mremap,
        Self::Brk,
    ];

    pub fn from_code(code: u8) -> Option<Self> {
        Self::ALL.get(code as usize).copied()
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::Malloc => "malloc",
            Self::Calloc => "calloc",
            Self::Realloc => "realloc",
            Self::Reallocarray => "reallocarray",
            Self::PosixMemalign => "posix_memalign",
            Self::AlignedAlloc => "aligned_alloc",
            Self::Memalign => "memalign",
            Self::Valloc => "valloc",
            Self::Pvalloc => "pvalloc",
            Self::Free => "free",
            Self::Mmap => "mmap",
            Self::Mremap => "mremap",
            Self::Brk => "brk",
        }
    }
}

/// The roles of a function's arguments, as the attach cookie of its probes.
///
/// One byte each: the function, then the positions of the arguments, counted from 1; 0 is "none".
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(pub u64);

impl Cookie {
    pub const fn new(via: Via, roles: Roles) -> Self {
        let Roles { size, count, old, out } = roles;
        Self(via as u64 | (size as u64) << 8 | (count as u64) << 16 | (old as u64) << 24 | (out as u64) << 32)
    }

    #[inline(always)]
    pub fn via(self) -> u8 {
        self.0 as u8
    }

    /// The same, of an allocator that keeps a cache for each thread, and frees what is in it when the thread ends
    /// (glibc since 2.26: `tcache_thread_shutdown`, malloc/malloc.c).
    pub const fn with_thread_cache(self) -> Self {
        Self(self.0 | 1 << 40)
    }

    #[inline(always)]
    pub fn has_thread_cache(self) -> bool {
        self.0 >> 40 & 1 == 1
    }

    /// The argument with the requested size.
    #[inline(always)]
    pub fn size(self) -> u8 {
        (self.0 >> 8) as u8
    }

    /// The argument by which the size is multiplied.
    #[inline(always)]
    pub fn count(self) -> u8 {
        (self.0 >> 16) as u8
    }

    /// The argument with the block to resize.
    #[inline(always)]
    pub fn old(self) -> u8 {
        (self.0 >> 24) as u8
    }

    /// The argument that says where to store the result; the function then returns 0 on success.
    #[inline(always)]
    pub fn out(self) -> u8 {
        (self.0 >> 32) as u8
    }
}

/// Argument positions, counted from 1; 0 is "none".
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Roles {
    pub size: u8,
    pub count: u8,
    pub old: u8,
    pub out: u8,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_gives_back_every_role() {
        let cookie = Cookie::new(Via::Realloc, Roles { size: 2, count: 3, old: 1, out: 4 });
        assert_eq!((cookie.size(), cookie.count(), cookie.old(), cookie.out()), (2, 3, 1, 4));
        assert_eq!(Via::from_code(cookie.via()), Some(Via::Realloc));
        assert!(!cookie.has_thread_cache() && cookie.with_thread_cache().has_thread_cache());
        assert_eq!(cookie.with_thread_cache().out(), 4);
    }

    #[test]
    fn codes_are_positions() {
        for (code, via) in Via::ALL.iter().enumerate() {
            assert_eq!(*via as usize, code);
        }
    }
}
