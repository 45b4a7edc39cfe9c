//! The contract between the kernel half and the user half of alloctrace.
//!
//! Shapes and arithmetic only: the records that cross the ring buffer, the tables that user space
//! fills for the probes, and one step of stack unwinding as a pure function. Nothing here acts, so
//! everything here is tested on the host and used unchanged in the probes.
#![no_std]
#![deny(unsafe_op_in_unsafe_fn)]

pub mod call;
pub mod config;
pub mod loss;
pub mod mapping;
#[cfg(feature = "user")]
mod pod;
pub mod proof;
pub mod record;
pub mod sampling;
pub mod trail;
pub mod unwind;
