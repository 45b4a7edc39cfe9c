//! The `alloctrace` command: parse, run, say what went wrong, choose the exit code.

/// Probes that everyone meets are met by this process too, and who unwinds the allocations of a machine allocates: with the
/// C library's malloc a third of the time went into our own breakpoints. This one is nobody's but ours.
#[global_allocator]
static ALLOCATOR: dlmalloc::GlobalDlmalloc = dlmalloc::GlobalDlmalloc;

fn main() -> std::process::ExitCode {
    alloctrace::cli::main()
}
