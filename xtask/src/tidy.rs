//! `cargo xtask tidy`: the rules of CONTRIBUTING.md that a program can check.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};

use crate::command::{command, output, root};

/// Which rooms of `tracer/src` a room may name: the table of ARCHITECTURE.md.
const IMPORTS: [(&str, &[&str]); 15] = [
    ("event", &[]),
    ("cost", &[]),
    ("interval", WORDS),
    ("script", WORDS),
    ("heap", &["event", "cost", "interval", "script"]),
    ("elf", &[]),
    ("unwind", &["event", "cost", "interval", "elf"]),
    ("kernel", &["event", "cost", "interval", "elf", "unwind"]),
    ("capture", WORDS),
    ("symbol", &[]),
    ("profile", &["event", "cost", "interval", "capture", "symbol"]),
    ("report", &["event", "cost", "interval", "profile", "symbol"]),
    ("live", &["event", "cost", "interval", "capture", "heap", "kernel", "profile", "report", "symbol"]),
    ("cli", &["event", "cost", "interval", "capture", "kernel", "live", "profile", "report", "symbol"]),
    ("lib", &[]),
];

const WORDS: &[&str] = &["event", "cost", "interval"];

/// Crates that only some rooms may name.
const EDGES: [(&str, &[&str]); 5] = [
    ("aya", &["kernel"]),
    ("procfs", &["kernel"]),
    ("rustix", &["kernel", "live"]),
    ("clap", &["cli"]),
    ("tokio", &["kernel", "live", "cli"]),
];

/// Where `unsafe` may be: what talks to the kernel.
const UNSAFE: [&str; 3] = ["tracer-ebpf/src/probes/", "tracer-ebpf/src/pod.rs", "tracer/src/kernel/sys.rs"];

/// Where output may be written to the user.
const PRINTING: [&str; 4] = ["tracer/src/cli/", "tracer/benches/", "tracer/tests/", "xtask/"];

/// Beyond this a file usually has a seam.
const MAX_LINES: usize = 400;

const MAX_ARCHITECTURE_LINES: usize = 200;
const MAX_OBJECT_BYTES: u64 = 256 << 10;

pub(crate) fn run() -> Result<()> {
    let root = root();
    let listed = output(&mut command("git", &["ls-files", "--cached", "--others", "--exclude-standard"]))
        .context("git ls-files")?;
    let mut findings = Vec::new();
    for path in listed.lines().map(PathBuf::from).filter(|it| root.join(it).is_file()) {
        let Ok(text) = fs::read_to_string(root.join(&path)) else { continue };
        findings.extend(check(&path, &text));
        if path.extension().is_some_and(|it| it == "md") {
            findings.extend(dead_links(&root, &path, &text));
        }
    }
    let object = fs::metadata(root.join("tracer/bpf/probes.o")).context("tracer/bpf/probes.o")?.len();
    if object > MAX_OBJECT_BYTES {
        findings.push(format!("tracer/bpf/probes.o: {object} bytes: it was not stripped"));
    }
    if !findings.is_empty() {
        bail!("{} findings of tidy:\n{}", findings.len(), findings.join("\n"));
    }
    eprintln!("tidy: nothing found");
    Ok(())
}

/// What is wrong with one file.
fn check(path: &Path, text: &str) -> Vec<String> {
    let name = path.to_string_lossy();
    let mut found = Vec::new();
    let mut find = |line: usize, what: &str| found.push(format!("{name}:{line}: {what}"));
    for (number, line) in (1..).zip(text.lines()) {
        if line.ends_with([' ', '\t']) && !name.starts_with("LICENSE") {
            find(number, "blank at the end of the line");
        }
    }
    let lines = text.lines().count();
    if name == "ARCHITECTURE.md" && lines > MAX_ARCHITECTURE_LINES {
        find(lines, "a map should be short: at most 200 lines");
    }
    if path.extension().is_none_or(|it| it != "rs") {
        return found;
    }
    let mut find = |line: usize, what: &str| found.push(format!("{name}:{line}: {what}"));
    if !text.starts_with("//!") {
        find(1, "does not say what it is for (`//!`)");
    }
    if lines > MAX_LINES && !text.contains("tidy: long because") {
        find(lines, "over 400 lines: find the seam, or say why not (`// tidy: long because …`)");
    }
    let room = room(&name);
    for (number, line) in (1..).zip(text.lines()) {
        let code = line.trim_start();
        if code.starts_with("//") {
            continue;
        }
        if has_word(code, "unsafe")
            && !UNSAFE.iter().any(|it| name.starts_with(it))
            && !name.starts_with("xtask/")
        {
            find(number, "`unsafe` outside of the files that talk to the kernel");
        }
        let prints = code.starts_with("println!") || code.starts_with("eprintln!");
        if prints && !PRINTING.iter().any(|it| name.starts_with(it)) {
            find(number, "prints; only `cli` does");
        }
        let Some(room) = room else { continue };
        for (edge, rooms) in EDGES {
            if names_crate(code, edge) && !rooms.contains(&room) {
                find(number, &format!("`{room}` names {edge}; only {} may", rooms.join(", ")));
            }
        }
        for (other, _) in IMPORTS {
            let named = names_room(text, code, other);
            let allowed = IMPORTS.iter().any(|(it, allowed)| *it == room && allowed.contains(&other));
            if named && other != room && !allowed {
                find(number, &format!("`{room}` names `{other}`, against the table of ARCHITECTURE.md"));
            }
        }
    }
    found
}

/// The room of a file of `tracer/src`; none for the crate's two roots, which name them all.
fn room(name: &str) -> Option<&str> {
    let below = name.strip_prefix("tracer/src/")?;
    let room = below.split('/').next()?.trim_end_matches(".rs");
    (!["main", "lib"].contains(&room)).then_some(room)
}

fn has_word(code: &str, word: &str) -> bool {
    code.split(|it: char| !it.is_alphanumeric() && it != '_').any(|it| it == word)
}

fn names_crate(code: &str, name: &str) -> bool {
    has_word(code, name) && code.contains(&format!("{name}::"))
}

/// `crate::ROOM`, or the line `ROOM::…` of a grouped `use crate::{`.
fn names_room(text: &str, code: &str, room: &str) -> bool {
    if code.contains(&format!("crate::{room}::")) || code.contains(&format!("crate::{room};")) {
        return true;
    }
    let grouped = code.starts_with(&format!("{room}::")) || code.starts_with(&format!("{room},"));
    let Some(group) = text.find("use crate::{").filter(|_| grouped) else { return false };
    let end = text[group..].find("};").map_or(text.len(), |it| group + it);
    text[group..end].contains(code)
}

/// Links of a page to files that are not there.
fn dead_links(root: &Path, path: &Path, text: &str) -> Vec<String> {
    let targets = text.split("](").skip(1).filter_map(|it| it.split([')', '#']).next());
    targets
        .filter(|it| !it.is_empty() && !it.contains("://"))
        .filter(|it| !root.join(path).with_file_name("").join(it).exists())
        .map(|it| format!("{}: no file {it}", path.display()))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn expect(path: &str, text: &str, expected: &[&str]) {
        assert_eq!(check(Path::new(path), text), expected, "{text}");
    }

    #[test]
    fn a_file_says_what_it_is_for() {
        expect("tracer/src/cost.rs", "//! Costs.\n", &[]);
        expect(
            "tracer/src/cost.rs",
            "use std::fmt;\n",
            &["tracer/src/cost.rs:1: does not say what it is for (`//!`)"],
        );
    }

    #[test]
    fn rooms_keep_to_the_table() {
        let wrong = "tracer/src/heap/mod.rs:2: `heap` names `kernel`, against the table of ARCHITECTURE.md";
        expect("tracer/src/heap/mod.rs", "//! Heap.\nuse crate::kernel::Kernel;\n", &[wrong]);
        expect("tracer/src/heap/mod.rs", "//! Heap.\nuse crate::event::Event;\n", &[]);
        let grouped = "//! Heap.\nuse crate::{\n    event::Event,\n    kernel::Kernel,\n};\n";
        expect("tracer/src/heap/mod.rs", grouped, &[&wrong.replace(":2:", ":4:")]);
    }

    #[test]
    fn edges_are_named_where_they_belong() {
        let wrong = "tracer/src/heap/mod.rs:2: `heap` names aya; only kernel may";
        expect("tracer/src/heap/mod.rs", "//! Heap.\nuse aya::Ebpf;\n", &[wrong]);
        expect("tracer/src/kernel/mod.rs", "//! Edge.\nuse aya::Ebpf;\n", &[]);
    }

    #[test]
    fn unsafe_and_printing_have_their_places() {
        let wrong = "tracer/src/cost.rs:2: `unsafe` outside of the files that talk to the kernel";
        expect("tracer/src/cost.rs", "//! C.\nlet it = unsafe { read() };\n", &[wrong]);
        expect("tracer/src/kernel/sys.rs", "//! C.\nlet it = unsafe { read() };\n", &[]);
        expect(
            "tracer/src/cost.rs",
            "//! C.\nprintln!();\n",
            &["tracer/src/cost.rs:2: prints; only `cli` does"],
        );
    }

    #[test]
    fn blanks_and_length() {
        expect("a.md", "x \n", &["a.md:1: blank at the end of the line"]);
        let long = format!("//! L.\n{}", "\n".repeat(400));
        expect(
            "tracer/src/a.rs",
            &long,
            &[
                "tracer/src/a.rs:401: over 400 lines: find the seam, or say why not (`// tidy: long because …`)",
            ],
        );
    }
}
