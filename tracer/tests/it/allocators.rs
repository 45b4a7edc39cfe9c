//! The same books under other allocators: linked with the program, shared or static, loaded before it, or wrapped.

use std::{path::PathBuf, process::Command};

use alloctrace::elf::{
    Image,
    allocators::{End, Family, find},
    site::Class,
};

use crate::{
    program::{needed, run},
    truth::{Subject, check_program},
    workload::{Linkage, build, build_as, build_rust_with},
};

/// Linked with the library, as `-lNAME` does.
fn check_linked(library: &'static str) {
    for source in ["calls.c", "threads.c", "large.c", "containers.cc", "operators.cc"] {
        check_as(source, Linkage::With(library));
    }
}

fn check_as(source: &str, linkage: Linkage) {
    let program = build_as(source, linkage);
    let name = program.file_name().expect("a file").to_string_lossy();
    let ends_in_libc = matches!(linkage, Linkage::Musl | Linkage::StaticMusl);
    check_program(&name, &Subject { ends_in_libc, ..Subject::new(&program) });
}

/// A program that knows nothing of it.
fn check_preloaded(source: &str, label: &str, libraries: &[PathBuf]) {
    let list: Vec<String> = libraries.iter().map(|it| it.to_string_lossy().into_owned()).collect();
    let (program, preload) = (build(source), list.join(":"));
    let subject = Subject { preload: Some(&preload), ..Subject::new(&program) };
    check_program(&format!("{source}-{label}"), &subject);
}

/// Where the linker finds it.
fn library(name: &str) -> PathBuf {
    let mut command = Command::new(needed("gcc", "gcc"));
    let found = run(command.arg(format!("-print-file-name=lib{name}.so"))).output;
    std::fs::canonicalize(found.trim()).unwrap_or_else(|error| panic!("lib{name}.so: {error}"))
}

/// Where the probes of each library go. A return probe on what may throw would end the program.
#[test]
fn nothing_that_may_throw_has_a_return_probe() {
    for (name, family) in [
        ("jemalloc", Family::Jemalloc),
        ("tcmalloc_minimal", Family::Tcmalloc),
        ("mimalloc", Family::Mimalloc),
    ] {
        let bytes = std::fs::read(library(name)).expect("read the library");
        let found = find(&Image::parse(&bytes).expect("an object"));
        assert_eq!((found.families(), found.unprobed), (vec![family], Vec::<String>::new()), "{name}");
        let function = |wanted: &str| {
            found
                .functions
                .iter()
                .find(|it| it.name == wanted)
                .unwrap_or_else(|| panic!("{name} has {wanted}"))
        };
        for cheap in ["malloc", "free"] {
            assert_eq!(function(cheap).site.class, Class::Emulated, "{cheap} of {name}");
        }
        assert!(matches!(&function("_Znwm").end, End::At(exits) if !exits.is_empty()), "{name}");
        let wrong = found.functions.iter().find(|it| it.cookie().may_throw() && it.end == End::Return);
        assert!(wrong.is_none(), "{name}: {wrong:?}");
    }
}

#[test]
fn jemalloc_linked() {
    check_linked("jemalloc");
}

#[test]
fn tcmalloc_linked() {
    check_linked("tcmalloc_minimal");
}

#[test]
fn mimalloc_linked() {
    check_linked("mimalloc");
}

#[test]
fn allocators_preloaded() {
    for name in ["jemalloc", "tcmalloc_minimal", "mimalloc"] {
        check_preloaded("rust_growth.rs", name, &[library(name)]);
    }
    check_preloaded("chains.c", "jemalloc", &[library("jemalloc")]);
}

#[test]
fn allocators_linked_statically() {
    for (source, library) in
        [("operators.cc", "jemalloc"), ("operators.cc", "tcmalloc_minimal"), ("mallocx.c", "jemalloc_pic")]
    {
        check_as(source, Linkage::WithArchive(library));
    }
}

#[test]
fn jemalloc_s_functions_with_flags() {
    check_as("mallocx.c", Linkage::With("jemalloc"));
    // Beside libc's malloc.
    check_as("mallocx.c", Linkage::JePrefix);
}

#[test]
fn static_programs() {
    for source in ["calls.c", "threads.c", "chains.c"] {
        check_as(source, Linkage::StaticGlibc);
        check_as(source, Linkage::StaticMusl);
    }
    check_as("operators.cc", Linkage::StaticGlibc);
}

#[test]
fn musl() {
    for source in ["calls.c", "threads.c", "large.c"] {
        check_as(source, Linkage::Musl);
    }
}

#[test]
fn operators_of_the_standard_library() {
    check_as("operators.cc", Linkage::Usual);
}

#[test]
fn global_allocators_of_rust() {
    for feature in ["tikv-jemallocator", "mimalloc", "snmalloc-rs"] {
        let program = build_rust_with(feature);
        check_program(&format!("rust-{feature}"), &Subject::new(&program));
    }
}

#[test]
fn interposers() {
    let (plain, header) =
        (build_as("interposer.c", Linkage::Library), build_as("interposer.c", Linkage::HeaderLibrary));
    check_preloaded("calls.c", "plain", std::slice::from_ref(&plain));
    check_preloaded("threads.c", "header", std::slice::from_ref(&header));
    check_preloaded("containers.cc", "header", std::slice::from_ref(&header));
    check_preloaded("large.c", "header-jemalloc", &[header, library("jemalloc")]);
    // Its operators never come by the wrapper.
    check_preloaded("operators.cc", "plain-jemalloc", &[plain, library("jemalloc")]);
}
