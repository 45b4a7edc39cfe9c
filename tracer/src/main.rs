//! The `alloctrace` command.
fn main() { if let Err(e) = alloctrace::kernel::try_load() { println!("{e:#}"); } }
