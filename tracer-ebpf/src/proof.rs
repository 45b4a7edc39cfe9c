//! The trial of a proof: what is seen of one call at its entry, inside of it and at its return.

use zerocopy::{FromBytes, Immutable, IntoBytes, KnownLayout};

/// One probe that a call passed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, FromBytes, IntoBytes, Immutable, KnownLayout)]
#[repr(C)]
pub struct Step {
    /// One of the constants below.
    pub what: u32,
    pub tid: u32,
    /// Which function: as the probe's cookie says.
    pub via: u32,
    /// 1: `size_bytes` says something.
    pub knows_size: u32,
    /// Where the return address lies.
    pub sp: u64,
    /// The caller's rbp.
    pub fp: u64,
    pub size_bytes: u64,
    /// rax.
    pub result: u64,
}

pub const ENTER: u32 = 0;
pub const BEGIN: u32 = 1;
pub const END: u32 = 2;
pub const LEAVE: u32 = 3;
