//! Each rule once broken and once kept.

use super::{Files, check_all, docs::ARCHITECTURE};

const TABLE: &str = "\
# Map

| room | what it is for | may name |
|---|---|---|
| `event`, `cost` | the words | each other, the contract |
| `symbol` | names | nothing |
| `heap` | state | words, profile in tests |
| `kernel` | the edge | words |
| `profile` | questions | words, heap |
| `live` | a run | all but cli |
| `cli` | commands | all |
";

/// `expected` lists `LINE part of the message`.
#[track_caller]
fn check(path: &str, text: &str, expected: &[&str]) {
    let mut files: Files =
        [(ARCHITECTURE, TABLE), (path, text)].map(|(path, text)| (path.to_owned(), text.into())).into();
    files.entry("tracer/src/kernel/btf.rs".to_owned()).or_insert_with(|| b"//! Offsets.\n".to_vec());
    let found: Vec<_> =
        check_all(&files).into_iter().filter(|(it, _)| it == path).map(|(_, it)| it).collect();
    let matches = found.len() == expected.len()
        && found.iter().zip(expected).all(|(found, expected)| {
            let (line, message) = expected.split_once(' ').unwrap();
            found.line.to_string() == line && found.message.contains(message)
        });
    assert!(matches, "expected {expected:#?}, found {found:#?}");
}

/// A file of room `heap` with this line as its second.
#[track_caller]
fn check_heap(line: &str, expected: &[&str]) {
    check("tracer/src/heap/sites.rs", &format!("//! Sites.\n{line}\n"), expected);
}

#[test]
fn files_say_what_they_are_for() {
    check("xtask/src/a.rs", "//! What it is for.\n", &[]);
    check("xtask/src/a.rs", "use a;\n", &["1 begins without"]);
    check("xtask/src/a.rs", "", &["1 begins without"]);
}

#[test]
fn files_are_short_or_say_why_not() {
    let long = format!("//! A.\n{}", "\n".repeat(400));
    check("xtask/src/a.rs", &long[..long.len() - 1], &[]);
    check("xtask/src/a.rs", &long, &["1 401 lines, more than 400"]);
    check("xtask/src/a.rs", &format!("{long}// tidy: long because of the table\n"), &[]);
}

#[test]
fn unsafe_code_has_its_files() {
    let text = "//! A.\nunsafe impl Send for A {}\n";
    check("tracer/src/kernel/sys.rs", text, &[]);
    check("tracer-ebpf/src/probes/walk.rs", text, &[]);
    check("tracer/src/kernel/load.rs", text, &["2 unsafe code"]);
    check(
        "xtask/src/a.rs",
        "//! A.\n#![deny(unsafe_code)] // no unsafe \"unsafe\"\nlet a = \"unsafe\";\n",
        &[],
    );
}

#[test]
fn printing_is_for_the_command_line() {
    check_heap("fn a() { println!(\"a\") }", &["2 only cli prints"]);
    check_heap("fn a() { eprint!(\"a\") }", &["2 only cli prints"]);
    check_heap("/// Like println!", &[]);
    check("tracer/src/cli/record.rs", "//! A.\nfn a() { eprintln!(\"a\") }\n", &[]);
}

#[test]
fn unready_code_does_not_stay() {
    check_heap("// TODO: all", &["2 TODO"]);
    check_heap("fn a() { dbg!(1); }", &["2 dbg!"]);
    check_heap("const WORDS: &str = \"FIXME\";", &[]);
}

#[test]
fn lines_end_with_text() {
    check_heap("fn a() {} ", &["2 whitespace"]);
    check_heap("const A: &str = \"a \nb\";", &[]);
    check("notes.md", "a \nb\n", &["1 whitespace"]);
}

#[test]
fn rooms_name_what_the_table_allows() {
    check_heap("use crate::event::Event;", &[]);
    check_heap("use crate::kernel::Kernel;", &["2 room `heap` may not name room `kernel`"]);
    check_heap(
        "use crate::{\n    event::Event,\n    kernel::{Kernel, ring},\n};",
        &["4 room `heap` may not name room `kernel`"],
    );
    check_heap("use super::super::kernel;", &["2 room `heap` may not name room `kernel`"]);
    check_heap("use super::kernel;", &[]);
    check_heap("fn a(_: crate::profile::Profile) {}", &["2 room `heap` may not name room `profile`"]);
    check_heap("#[cfg(test)]\nmod tests {\n    use crate::kernel;\n}", &[]);
    check("tracer/src/heap/tests/laws.rs", "//! A.\nuse crate::kernel;\n", &[]);
    check(
        "tracer/src/live/mod.rs",
        "//! A.\nuse crate::kernel;\nuse crate::cli;\n",
        &["3 room `live` may not name room `cli`"],
    );
    check("tracer/src/attic.rs", "//! A.\n", &["1 room `attic` is not in the table"]);
    check("tracer/src/main.rs", "//! A.\nuse alloctrace::{cli, heap::Heap};\n", &["2 main names `cli`"]);
}

#[test]
fn rooms_name_the_outside_where_it_belongs() {
    check_heap("use aya::Ebpf;", &["2 room `heap` may not name `aya`"]);
    check_heap("use std::{fmt, fs::File};", &["2 room `heap` may not name `std::fs`"]);
    check_heap("fn a() { std::fs::read(\"a\"); }", &["2 room `heap` may not name `std::fs`"]);
    check_heap("fn a() { open(\"/proc/1/maps\") }", &["2 room `heap` may not read /proc"]);
    check_heap("fn a() { open(\"/proc\") }", &["2 room `heap` may not read /proc"]);
    check_heap("fn a() { serve(\"/processes\") }", &[]);
    check_heap("use std::{fmt, time::Duration};", &[]);
    check(
        "tracer/src/kernel/load.rs",
        "//! A.\nuse aya::Ebpf;\nuse clap::Args;\n",
        &["3 room `kernel` may not name `clap`"],
    );
}

#[test]
fn the_table_of_rooms_is_understood() {
    check(ARCHITECTURE, TABLE, &[]);
    check(ARCHITECTURE, &TABLE.replace("words, heap", "words, attic"), &["9 does not understand `attic`"]);
    check(ARCHITECTURE, "# Map\n", &["1 no table"]);
}

#[test]
fn documents_lead_to_files() {
    check("README.md", "[map](ARCHITECTURE.md#rooms), [home](https://example.org), `kernel/btf.rs`\n", &[]);
    check(
        "README.md",
        "[map](MAP.md)\n`kernel/bft.rs`\n",
        &["1 there is no MAP.md", "2 there is no kernel/bft.rs"],
    );
    check("tracer/README.md", "[map](../ARCHITECTURE.md) [room](src/kernel)\n", &[]);
    check(ARCHITECTURE, &format!("{TABLE}{}", "\n".repeat(200)), &["1 a map has less than 200"]);
}

#[test]
fn nothing_large_is_committed() {
    check("tracer/bpf/probes.o", &"x".repeat(1 << 20), &["1 less than 1048576"]);
}
