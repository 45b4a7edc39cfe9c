//! What alloctrace says, against what is true. Needs root, and the programs that are traced here;
//! `cargo xtask test` installs them.
//!
//! A workload keeps its own books and tells them; the tests compare. Nothing here knows a figure by heart.

mod agreement;
mod alerts;
mod allocators;
mod black_box;
mod bounded;
mod browser;
mod budget;
mod check;
mod color;
mod consumers;
mod containers;
mod everybody;
mod everyone;
mod exit_sites;
mod families;
mod fleet;
mod formats;
mod groups;
mod growth;
mod http;
mod incidents;
mod input;
mod leaving;
mod memleak;
mod midrun;
mod pages;
mod pools;
mod postgres;
mod program;
mod redis_memory;
mod report;
mod sampled;
mod selection;
mod shares;
mod synthetic;
mod terminal;
mod top;
mod tracer;
mod triggers;
mod truth;
mod windows;
mod workload;
