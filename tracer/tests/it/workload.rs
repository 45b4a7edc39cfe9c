//! The programs of `tests/workloads`, compiled once per run of the tests.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
};

use crate::program::{needed, run};

/// The program made from `workloads/SOURCE`, for example `calls.c` or `incidents/cache.rs`.
pub(crate) fn build(source: &str) -> PathBuf {
    /// One cell for each, so that a program that fails to compile does not stop the others.
    static BUILT: Mutex<BTreeMap<String, &'static OnceLock<PathBuf>>> = Mutex::new(BTreeMap::new());
    let cell = *BUILT
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(source.to_owned())
        .or_insert_with(|| Box::leak(Box::default()));
    cell.get_or_init(|| compile(source)).clone()
}

/// What distributions do: optimized, without frame pointers.
fn compile(source: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads").join(source);
    let output =
        Path::new(env!("CARGO_TARGET_TMPDIR")).join("workloads").join(path.file_stem().unwrap_or_default());
    let directory = output.parent().expect("it lies in a directory");
    std::fs::create_dir_all(directory)
        .unwrap_or_else(|error| panic!("make {}: {error}", directory.display()));
    let mut command = match path.extension().and_then(|it| it.to_str()) {
        Some("c") => {
            let mut command = c_compiler("gcc", "gcc", "-std=gnu17");
            if source == "plugin.c" {
                command.args(["-shared", "-fPIC"]);
            }
            command
        }
        Some("cc") => c_compiler("g++", "g++", "-std=gnu++17"),
        Some("rs") => {
            let rustc = std::env::var_os("RUSTC").map_or_else(|| needed("rustc", "rustc"), PathBuf::from);
            let mut command = Command::new(rustc);
            command.args(["--edition", "2024", "-O", "-C", "force-frame-pointers=no", "-C", "debuginfo=1"]);
            command
        }
        _ => panic!("{source} is in no language known here"),
    };
    let ended = run(command.arg(&path).arg("-o").arg(&output));
    assert_eq!(ended.code, Some(0), "{command:?}:\n{}", ended.errors);
    output
}

fn c_compiler(program: &str, package: &str, standard: &str) -> Command {
    let mut command = Command::new(needed(program, package));
    command.args([standard, "-O2", "-g", "-Wall", "-Wextra", "-fomit-frame-pointer", "-pthread"]);
    command
}
