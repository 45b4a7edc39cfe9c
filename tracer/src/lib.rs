//! alloctrace: which call stacks of a running process hold its memory.
//!
//! The rooms, in the order in which an allocation passes through them. A record from the kernel
//! becomes an [`event::Event`]; events are folded into a [`heap::Heap`]; what changed in an interval goes
//! into a [`capture`]; a capture is read into a [`profile::Profile`]; a profile is written as a [`report`].
#![deny(unsafe_code)]

pub mod cost;
pub mod estimate;
pub mod event;
pub mod interval;
pub mod quantity;

pub mod capture;
pub mod check;
pub mod cli;
pub mod elf;
pub mod heap;
pub mod kernel;
pub mod live;
pub mod profile;
pub mod report;
pub mod serve;
pub mod symbol;
pub mod unwind;
pub mod view;
pub mod watch;

#[doc(hidden)]
pub mod script;
