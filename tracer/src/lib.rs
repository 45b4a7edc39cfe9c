//! alloctrace: which call stacks of a running process hold its memory.
//!
//! The rooms, in the order in which an allocation passes through them. A record from the kernel
//! becomes an [`event::Event`]; events are folded into a heap; the heap's intervals go into a
//! capture; a capture is read into a profile; a profile is written as a report.
#![deny(unsafe_code)]

// pub mod cli;
pub mod cost;
pub mod elf;
pub mod event;
pub mod heap;
pub mod interval;
pub mod kernel;
// pub mod live;
#[doc(hidden)]
pub mod script;
pub mod unwind;
