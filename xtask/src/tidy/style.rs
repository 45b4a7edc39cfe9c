//! Rules for single files: beginnings, lengths, unsafe, output, words that must not stay.

use super::{
    Finding,
    source::{LITERAL, Source},
};

const MAX_LINES: usize = 400;
const LONG: &str = "// tidy: long because ";

/// What is written by hand here. Beside it there may be logs and captures that git does not ignore.
const KINDS: [&str; 12] =
    [".rs", ".c", ".cc", ".h", ".md", ".toml", ".yml", ".ci/run", ".js", ".css", ".html", ".py"];

/// What others have written stays as they have published it.
const VENDOR: &str = "/vendor/";

/// Files and folders that may contain unsafe code.
const UNSAFE: [&str; 4] = [
    // Derived `Pod`s are not to be had: the types are shared with the kernel half.
    "tracer-ebpf/src/pod.rs",
    // Helpers of the kernel, values in maps.
    "tracer-ebpf/src/probes/",
    // What aya and rustix do not offer.
    "tracer/src/kernel/sys.rs",
    // Programs that call C's allocation functions.
    "tracer/tests/workloads/",
];

/// Folders that may print. Elsewhere text goes to an `io::Write`, or to the log.
const PRINTING: [&str; 5] =
    ["tracer/src/cli/", "tracer/tests/", "tracer/benches/", "tracer/examples/", "xtask/"];

/// Words that say that a file is not ready.
const UNREADY: [&str; 2] = ["TODO", "FIXME"];

pub(super) fn check(source: &Source<'_>) -> Vec<Finding> {
    let mut findings = Vec::new();
    if source.is_rust() {
        findings.extend(check_beginning(source));
        findings.extend(check_length(source));
    }
    if !KINDS.iter().any(|it| source.path.ends_with(it)) || source.path.contains(VENDOR) {
        return findings;
    }
    for (line, text, code) in source.lines() {
        let mut add = |message: &str| findings.push(Finding::new(line, message));
        // At the end of a line in a string it is part of the string.
        if text.ends_with([' ', '\t', '\r']) && code.last() != Some(&LITERAL) {
            add("whitespace at the end of the line");
        }
        if !source.is_rust() {
            continue;
        }
        for word in UNREADY.iter().filter(|it| names_outside_literals(text, code, it)) {
            add(&format!("{word}: do it, or leave it out"));
        }
        if has_word(code, "dbg", "!") {
            add("dbg! is for the time of writing");
        }
        if has_word(code, "unsafe", "") && !UNSAFE.iter().any(|it| source.path.starts_with(it)) {
            add("unsafe code; the files that may have it are listed in xtask/src/tidy/style.rs");
        }
        let prints = ["print", "println", "eprint", "eprintln"].iter().any(|it| has_word(code, it, "!"));
        if prints && !source.is_test() && !PRINTING.iter().any(|it| source.path.starts_with(it)) {
            add("only cli prints; others are given an io::Write");
        }
    }
    findings
}

fn check_beginning(source: &Source<'_>) -> Option<Finding> {
    let begins = source.text.starts_with("//! ");
    (!begins).then(|| Finding::new(1, "begins without a `//!` line that says what the file is for"))
}

fn check_length(source: &Source<'_>) -> Option<Finding> {
    let lines = source.text.lines().count();
    let has_reason = source.text.lines().any(|it| it.trim_start().starts_with(LONG));
    let message = || format!("{lines} lines, more than {MAX_LINES}: split it, or say `{LONG}…`");
    (lines > MAX_LINES && !has_reason).then(|| Finding::new(1, message()))
}

fn names_outside_literals(text: &str, code: &[u8], word: &str) -> bool {
    text.match_indices(word).any(|(at, _)| code[at] != LITERAL)
}

/// Whether `word`, with `after` right behind it, stands in `code`.
fn has_word(code: &[u8], word: &str, after: &str) -> bool {
    let in_word = |it: Option<&u8>| it.is_some_and(|it| it.is_ascii_alphanumeric() || *it == b'_');
    let wanted = [word.as_bytes(), after.as_bytes()].concat();
    code.windows(wanted.len()).enumerate().any(|(at, it)| {
        let alone = at.checked_sub(1).is_none_or(|it| !in_word(code.get(it)));
        it == wanted && alone && (!after.is_empty() || !in_word(code.get(at + wanted.len())))
    })
}
