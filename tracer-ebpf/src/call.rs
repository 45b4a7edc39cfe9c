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
    /// C++'s `operator new`, where an allocator defines it itself.
    New,
    NewArray,
    /// jemalloc's functions with flags.
    Mallocx,
    Rallocx,
    Xallocx,
    /// No function: a page was touched for the first time.
    PageFault,
    /// A function that the user named; the number is its place on the command line.
    Custom(u8),
}

/// The code of the first function that the user named.
const FIRST_CUSTOM: u8 = 0x80;

/// Functions that the user may name: what a command line can still say, and a number fits into [`Via::code`] many times.
pub const MAX_CUSTOM: usize = 16;

/// Set in the addresses of the blocks of a user's own pools. The first block of a slab lies where the slab lies that
/// malloc gave: the two must not look like one. User addresses have at most 56 bits.
pub const POOL_BLOCK: u64 = 1 << 62;

impl Via {
    /// All but those that the user names.
    pub const ALL: [Self; 19] = [
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
        Self::New,
        Self::NewArray,
        Self::Mallocx,
        Self::Rallocx,
        Self::Xallocx,
        Self::PageFault,
    ];

    pub fn from_code(code: u8) -> Option<Self> {
        match code.checked_sub(FIRST_CUSTOM) {
            Some(number) => Some(Self::Custom(number)),
            None => Self::ALL.get(code as usize).copied(),
        }
    }

    /// As the first byte of a [`Cookie`] and in records.
    pub const fn code(self) -> u8 {
        match self {
            Self::Malloc => 0,
            Self::Calloc => 1,
            Self::Realloc => 2,
            Self::Reallocarray => 3,
            Self::PosixMemalign => 4,
            Self::AlignedAlloc => 5,
            Self::Memalign => 6,
            Self::Valloc => 7,
            Self::Pvalloc => 8,
            Self::Free => 9,
            Self::Mmap => 10,
            Self::Mremap => 11,
            Self::Brk => 12,
            Self::New => 13,
            Self::NewArray => 14,
            Self::Mallocx => 15,
            Self::Rallocx => 16,
            Self::Xallocx => 17,
            Self::PageFault => 18,
            Self::Custom(number) => FIRST_CUSTOM | number,
        }
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
            Self::New => "operator new",
            Self::NewArray => "operator new[]",
            Self::Mallocx => "mallocx",
            Self::Rallocx => "rallocx",
            Self::Xallocx => "xallocx",
            Self::PageFault => "page fault",
            Self::Custom(_) => "custom",
        }
    }
}

/// The roles of a function's arguments, as the attach cookie of its probes.
///
/// From the lowest bit: the function (8 bits), the positions of the arguments (4 bits each), flags (8), and a size that
/// does not come from an argument (32; 0 is "none"), or, for a probe inside of a function, its [`Frame`].
///
/// A position is 0 for "none", 1 to 6 for the registers of arguments, and from [`FIRST_SAVED`] on, where a call is seen
/// at its end only, for those that a function keeps for its caller: rbx, rbp, r12, r13, r14, r15.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(pub u64);

/// The position of rbx; see [`Cookie`].
pub const FIRST_SAVED: u8 = 7;

/// The allocator keeps a cache for each thread, and frees what is in it when the thread ends (glibc since 2.26:
/// `tcache_thread_shutdown`, malloc/malloc.c).
const THREAD_CACHE: u64 = 1 << 24;
/// What other allocators do inside belongs to this call, frees too.
const ENCLOSING: u64 = 1 << 25;
/// The function returns a size and leaves the block where it is.
const RESULT_IS_SIZE: u64 = 1 << 26;
/// The function takes a block back, and its return is looked at only to know where it ends.
const TAKES_BACK: u64 = 1 << 27;
/// A C++ exception may leave the function, which then does not return.
const MAY_THROW: u64 = 1 << 28;
/// If the function fails to resize a block, it frees it.
const FREES_ON_FAILURE: u64 = 1 << 29;
/// The call was begun inside of the function.
const BEGUN: u64 = 1 << 30;

impl Cookie {
    pub const fn new(via: Via, roles: Roles) -> Self {
        let Roles { size, count, old, out } = roles;
        Self(
            via.code() as u64
                | (size as u64 & 0xf) << 8
                | (count as u64 & 0xf) << 12
                | (old as u64 & 0xf) << 16
                | (out as u64 & 0xf) << 20,
        )
    }

    #[inline(always)]
    pub fn via(self) -> u8 {
        self.0 as u8
    }

    pub const fn with_thread_cache(self) -> Self {
        Self(self.0 | THREAD_CACHE)
    }

    #[inline(always)]
    pub fn has_thread_cache(self) -> bool {
        self.0 & THREAD_CACHE != 0
    }

    pub const fn enclosing(self) -> Self {
        Self(self.0 | ENCLOSING)
    }

    /// Whether what other allocators do inside belongs to this call, frees too.
    #[inline(always)]
    pub fn is_enclosing(self) -> bool {
        self.0 & ENCLOSING != 0
    }

    pub const fn with_size_result(self) -> Self {
        Self(self.0 | RESULT_IS_SIZE)
    }

    /// Whether the function returns a size, and not a block.
    #[inline(always)]
    pub fn returns_size(self) -> bool {
        self.0 & RESULT_IS_SIZE != 0
    }

    pub const fn taking_back(self) -> Self {
        Self(self.0 | TAKES_BACK)
    }

    /// Whether the function takes a block back, so that its result says nothing.
    #[inline(always)]
    pub fn takes_back(self) -> bool {
        self.0 & TAKES_BACK != 0
    }

    pub const fn throwing(self) -> Self {
        Self(self.0 | MAY_THROW)
    }

    /// Whether the call may end by an exception.
    #[inline(always)]
    pub fn may_throw(self) -> bool {
        self.0 & MAY_THROW != 0
    }

    pub const fn freeing_on_failure(self) -> Self {
        Self(self.0 | FREES_ON_FAILURE)
    }

    /// Whether the block that could not be resized is gone.
    #[inline(always)]
    pub fn frees_on_failure(self) -> bool {
        self.0 & FREES_ON_FAILURE != 0
    }

    /// What a block at `address` is called: the same, but for blocks of a pool.
    #[inline(always)]
    pub fn block(self, address: u64) -> u64 {
        if self.via() >= FIRST_CUSTOM && address != 0 { address | POOL_BLOCK } else { address }
    }

    pub const fn with_fixed_size(self, bytes: u32) -> Self {
        Self(self.0 | (bytes as u64) << 32)
    }

    /// What every call allocates; 0 if an argument says.
    #[inline(always)]
    pub fn fixed_size_bytes(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// With another number in the place of the function's.
    pub const fn with_via(self, via: u8) -> Self {
        Self(self.0 & !0xff | via as u64)
    }

    /// The same function with its arguments elsewhere.
    pub const fn with_roles(self, roles: Roles) -> Self {
        let Roles { size, count, old, out } = roles;
        let roles = (size as u64 & 0xf) << 8
            | (count as u64 & 0xf) << 12
            | (old as u64 & 0xf) << 16
            | (out as u64 & 0xf) << 20;
        Self(self.0 & !0xffff00 | roles)
    }

    /// For a probe inside of a function, which has no fixed size.
    pub const fn with_frame(self, frame: Frame) -> Self {
        Self(self.0 & 0xffff_ffff | (frame.words as u64) << 32 | (frame.fp_words as u64) << 48)
    }

    /// How far the probe is from the return address: nothing, where it is at the entry or at the `ret`.
    #[inline(always)]
    pub fn frame(self) -> Frame {
        Frame { words: (self.0 >> 32) as u16, fp_words: (self.0 >> 48) as u16 }
    }

    pub const fn begun(self) -> Self {
        Self(self.0 | BEGUN)
    }

    /// Whether the call in progress was begun inside of the function, and will be ended there.
    #[inline(always)]
    pub fn is_begun(self) -> bool {
        self.0 & BEGUN != 0
    }

    /// The argument with the requested size.
    #[inline(always)]
    pub fn size(self) -> u8 {
        (self.0 >> 8) as u8 & 0xf
    }

    /// The argument by which the size is multiplied.
    #[inline(always)]
    pub fn count(self) -> u8 {
        (self.0 >> 12) as u8 & 0xf
    }

    /// The argument with the block to resize or to free.
    #[inline(always)]
    pub fn old(self) -> u8 {
        (self.0 >> 16) as u8 & 0xf
    }

    /// The argument that says where to store the result; the function then returns 0 on success.
    #[inline(always)]
    pub fn out(self) -> u8 {
        (self.0 >> 20) as u8 & 0xf
    }
}

/// Where the stack is at a place inside of a function, in words.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Frame {
    /// From the stack pointer to the return address.
    words: u16,
    /// From the stack pointer to the caller's rbp, and one; 0 if rbp is still the caller's.
    fp_words: u16,
}

impl Frame {
    /// `fp_words` says where the caller's rbp lies if it is on the stack. `None` if it is too far.
    pub fn new(words: u16, fp_words: Option<u16>) -> Option<Self> {
        let fp_words = fp_words.map_or(Some(0), |it| it.checked_add(1))?;
        Some(Self { words, fp_words })
    }

    #[inline(always)]
    pub fn bytes(self) -> u64 {
        self.words as u64 * 8
    }

    /// Where the caller's rbp lies, in bytes from the stack pointer; `None`: it is in its register.
    #[inline(always)]
    pub fn fp_bytes(self) -> Option<u64> {
        self.fp_words.checked_sub(1).map(|it| it as u64 * 8)
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
        let cookie = Cookie::new(Via::Realloc, Roles { size: 2, count: 3, old: 1, out: 6 });
        assert_eq!((cookie.size(), cookie.count(), cookie.old(), cookie.out()), (2, 3, 1, 6));
        assert_eq!(Via::from_code(cookie.via()), Some(Via::Realloc));
        assert!(!cookie.has_thread_cache() && !cookie.is_enclosing() && !cookie.returns_size());
        assert!(!cookie.takes_back() && cookie.taking_back().takes_back());
        assert!(!cookie.may_throw() && cookie.throwing().may_throw());
        assert!(!cookie.frees_on_failure() && cookie.freeing_on_failure().frees_on_failure());
        assert_eq!(cookie.fixed_size_bytes(), 0);
        let flagged = cookie.with_thread_cache().enclosing().with_size_result().with_fixed_size(u32::MAX);
        assert!(flagged.has_thread_cache() && flagged.is_enclosing() && flagged.returns_size());
        assert_eq!((flagged.fixed_size_bytes(), flagged.out(), flagged.via()), (u32::MAX, 6, cookie.via()));
    }

    #[test]
    fn a_cookie_says_where_the_return_address_is() {
        let at_entry = Cookie::new(Via::Malloc, Roles { size: 1, ..Roles::default() }).with_thread_cache();
        let frame = Frame::new(5, Some(3)).unwrap();
        let inside = at_entry.with_roles(Roles { size: 7, count: 8, ..Roles::default() }).with_frame(frame);
        assert_eq!((inside.via(), inside.size(), inside.count(), inside.old()), (at_entry.via(), 7, 8, 0));
        assert_eq!((inside.frame().bytes(), inside.frame().fp_bytes()), (40, Some(24)));
        assert!(inside.has_thread_cache() && !inside.is_begun() && inside.begun().is_begun());
        assert_eq!(at_entry.frame(), Frame::default());
        assert_eq!(Frame::new(2, None).unwrap().fp_bytes(), None, "still in its register");
        assert_eq!(Frame::new(2, Some(u16::MAX)), None);
    }

    #[test]
    fn a_block_of_a_pool_is_none_of_malloc() {
        let of = |via| Cookie::new(via, Roles::default());
        assert_eq!(of(Via::Malloc).block(0x1000), 0x1000);
        assert_eq!(of(Via::Custom(0)).block(0x1000), 0x1000 | POOL_BLOCK);
        assert_eq!(of(Via::Custom(15)).block(0x1000), of(Via::Custom(0)).block(0x1000));
        assert_eq!(of(Via::Custom(0)).block(0), 0, "NULL is no block");
    }

    #[test]
    fn codes_are_positions() {
        for (code, via) in Via::ALL.iter().enumerate() {
            assert_eq!(usize::from(via.code()), code);
            assert_eq!(Via::from_code(via.code()), Some(*via));
        }
        assert_eq!(Via::from_code(Via::Custom(3).code()), Some(Via::Custom(3)));
        assert_eq!(Via::from_code(Via::ALL.len() as u8), None);
    }
}
