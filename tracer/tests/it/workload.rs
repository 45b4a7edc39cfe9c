//! The programs of `tests/workloads`, compiled once per run of the tests.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    process::Command,
    sync::{Mutex, OnceLock, PoisonError},
};

use crate::program::{needed, run};

/// How a program is made of its source.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Linkage {
    /// As distributions do.
    Usual,
    /// With a library of this name (as for `-l`) in libc's place.
    With(&'static str),
    /// With the library's archive, and libc as usual.
    WithArchive(&'static str),
    /// With jemalloc's archive, whose functions have been renamed to `je_…`.
    JePrefix,
    StaticGlibc,
    Musl,
    StaticMusl,
    /// A shared library.
    Library,
    /// The same, with a header of 32 bytes before each block.
    HeaderLibrary,
}

/// The program made from `workloads/SOURCE`, for example `calls.c` or `incidents/cache.rs`.
pub(crate) fn build(source: &str) -> PathBuf {
    build_as(source, if source == "plugin.c" { Linkage::Library } else { Linkage::Usual })
}

pub(crate) fn build_as(source: &str, linkage: Linkage) -> PathBuf {
    build_once(format!("{source} {linkage:?}"), || compile(source, linkage))
}

/// The Rust program with a global allocator of its own; the feature names the crate.
pub(crate) fn build_rust_with(feature: &str) -> PathBuf {
    build_once(format!("rust {feature}"), || {
        let project = workloads().join("global-allocators");
        let target = scratch().join("global-allocators").join(feature);
        let cargo = std::env::var_os("CARGO").map_or_else(|| needed("cargo", "cargo"), PathBuf::from);
        let mut command = Command::new(cargo);
        command.current_dir(&project).args([
            "build",
            "--quiet",
            "--locked",
            "--release",
            "--features",
            feature,
        ]);
        command.arg("--target-dir").arg(&target).env("RUSTFLAGS", "-C force-frame-pointers=no");
        let status = command.status().unwrap_or_else(|error| panic!("start {command:?}: {error}"));
        assert!(status.success(), "{command:?}");
        target.join("release/rust_growth")
    })
}

/// One cell for each, so that a program that fails to compile does not stop the others.
fn build_once(what: String, compile: impl FnOnce() -> PathBuf) -> PathBuf {
    static BUILT: Mutex<BTreeMap<String, &'static OnceLock<PathBuf>>> = Mutex::new(BTreeMap::new());
    let cell = *BUILT
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .entry(what)
        .or_insert_with(|| Box::leak(Box::default()));
    cell.get_or_init(compile).clone()
}

fn workloads() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/workloads")
}

fn scratch() -> PathBuf {
    Path::new(env!("CARGO_TARGET_TMPDIR")).join("workloads")
}

/// What distributions do: optimized, without frame pointers.
fn compile(source: &str, linkage: Linkage) -> PathBuf {
    let path = workloads().join(source);
    let stem = path.file_stem().unwrap_or_default().to_string_lossy();
    let output = scratch().join(match linkage {
        Linkage::Usual => stem.into_owned(),
        Linkage::With(library) => format!("{stem}.{library}"),
        Linkage::WithArchive(library) => format!("{stem}.static-{library}"),
        other => format!("{stem}.{other:?}"),
    });
    std::fs::create_dir_all(scratch())
        .unwrap_or_else(|error| panic!("make {}: {error}", scratch().display()));
    let mut command = match path.extension().and_then(|it| it.to_str()) {
        Some("c") if matches!(linkage, Linkage::Musl | Linkage::StaticMusl) => {
            c_compiler("musl-gcc", "musl-tools", "-std=gnu17")
        }
        Some("c") if matches!(linkage, Linkage::WithArchive(_)) => c_compiler("gcc", "gcc", "-std=gnu17"),
        Some("c") => c_compiler("gcc", "gcc", "-std=gnu17"),
        Some("cc") => c_compiler("g++", "g++", "-std=gnu++17"),
        Some("rs") => {
            let rustc = std::env::var_os("RUSTC").map_or_else(|| needed("rustc", "rustc"), PathBuf::from);
            let mut command = Command::new(rustc);
            command.args(["--edition", "2024", "-O", "-C", "force-frame-pointers=no", "-C", "debuginfo=1"]);
            command
        }
        _ => panic!("{source} is in no language known here"),
    };
    command.arg(&path).arg("-o").arg(&output);
    match linkage {
        Linkage::Usual => {}
        Linkage::With(library) => {
            command.args(["-Wl,--no-as-needed".to_owned(), format!("-l{library}")]);
            command.args(lacks(library));
        }
        Linkage::WithArchive(library) => {
            // All of it: nothing refers to what takes libc's place.
            command.args(["-Wl,--whole-archive".to_owned(), format!("-l:lib{library}.a")]);
            command.args(["-Wl,--no-whole-archive", "-lstdc++", "-lm"]).args(lacks(library));
        }
        Linkage::JePrefix => {
            command.arg("-DPREFIX=je_").arg(renamed_jemalloc()).args(["-lstdc++", "-lm"]);
        }
        Linkage::StaticGlibc => _ = command.arg("-static"),
        Linkage::Musl => _ = command.arg("-DNO_PVALLOC"),
        Linkage::StaticMusl => _ = command.args(["-static", "-DNO_PVALLOC"]),
        Linkage::Library => _ = command.args(["-shared", "-fPIC"]),
        Linkage::HeaderLibrary => _ = command.args(["-shared", "-fPIC", "-DHEADER=32"]),
    }
    let ended = run(&mut command);
    assert_eq!(ended.code, Some(0), "{command:?}:\n{}", ended.errors);
    output
}

/// What an allocator does not have.
fn lacks(library: &str) -> &'static [&'static str] {
    match library {
        "jemalloc" => &["-DNO_PVALLOC"],
        "mimalloc" => &["-DNEVER_THROWS"],
        _ => &[],
    }
}

/// jemalloc as projects build it that use two allocators: `--with-jemalloc-prefix=je_`.
fn renamed_jemalloc() -> PathBuf {
    build_once("je_ archive".to_owned(), || {
        let mut find = Command::new(needed("gcc", "gcc"));
        let archive = run(find.arg("-print-file-name=libjemalloc.a")).output.trim().to_owned();
        let renamed = scratch().join("libjemalloc-je.a");
        std::fs::create_dir_all(scratch()).expect("make a directory");
        let mut command = Command::new(needed("objcopy", "binutils"));
        for name in [
            "malloc",
            "calloc",
            "realloc",
            "free",
            "posix_memalign",
            "aligned_alloc",
            "memalign",
            "valloc",
            "mallocx",
            "rallocx",
            "xallocx",
            "sallocx",
            "dallocx",
            "sdallocx",
            "nallocx",
            "mallctl",
            "mallctlnametomib",
            "mallctlbymib",
            "malloc_stats_print",
            "malloc_usable_size",
            "malloc_message",
            "malloc_conf",
        ] {
            command.args(["--redefine-sym".to_owned(), format!("{name}=je_{name}")]);
        }
        let ended = run(command.arg(&archive).arg(&renamed));
        assert_eq!(ended.code, Some(0), "{command:?}:\n{}", ended.errors);
        renamed
    })
}

fn c_compiler(program: &str, package: &str, standard: &str) -> Command {
    let mut command = Command::new(needed(program, package));
    command.args([standard, "-O2", "-g", "-Wall", "-Wextra", "-fomit-frame-pointer", "-pthread"]);
    command
}
