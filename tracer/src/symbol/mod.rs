//! File offsets to names. Opens object files, and nothing else.
//!
//! Two depths, since they cost a hundredfold: names from symbol tables for every frame that is recorded,
//! and lines and inlined functions from DWARF for the stacks that somebody looks at.

mod object;
mod perf_map;

pub use self::{
    object::{LineTable, NameTable},
    perf_map::PerfMapNames,
};

/// Where in the source a frame is.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Place {
    pub function: Option<String>,
    pub file: Option<String>,
    pub line: Option<u32>,
    /// The compiler has put the function into the next one; there is no frame of its own on the stack.
    pub inlined: bool,
}

/// A function, and how far into it an offset lies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symbol {
    pub name: String,
    pub offset: u64,
}

/// Knows places by (file, offset). An object of another build than `build_id` says gives nothing: a wrong
/// line is worse than none.
pub trait Places {
    /// Innermost first, inlined functions included; empty if nothing is known.
    fn places(&mut self, path: &str, build_id: Option<&str>, offset: u64) -> Vec<Place>;
}
