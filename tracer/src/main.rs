//! The `alloctrace` command: parse, run, say what went wrong, choose the exit code.

fn main() -> std::process::ExitCode {
    alloctrace::cli::main()
}
