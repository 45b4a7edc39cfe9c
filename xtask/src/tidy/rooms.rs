//! Who may name whom in `tracer/src`.
//!
//! Which room may name which other is read from the table in ARCHITECTURE.md, so that there is one such table. Which room
//! may name what of the outside is here.

use std::collections::{BTreeMap, BTreeSet};

use super::{Finding, docs::ARCHITECTURE, paths, source::Source};

/// A path of the outside and the rooms that may name it. What is not listed may be named by all.
const OUTSIDE: [(&str, &[&str]); 24] = [
    // The kernel.
    ("aya", &["kernel"]),
    ("aya_log", &["kernel"]),
    ("aya_obj", &["kernel"]),
    ("procfs", &["kernel"]),
    ("rustix", &["kernel", "live"]),
    // Time, files and waiting: the rooms between the edges are given values and bytes.
    ("tokio", &["kernel", "live", "serve", "cli"]),
    ("std::fs", &["kernel", "live", "cli"]),
    ("std::net", &["live", "serve", "cli"]),
    ("std::process", &["kernel", "live", "cli"]),
    ("std::time::Instant", &["live", "cli"]),
    ("std::time::SystemTime", &["live", "cli"]),
    // The command line.
    ("clap", &["cli"]),
    // The terminal.
    ("ratatui", &["view", "live"]),
    // Errors that are only shown.
    ("anyhow", &["kernel", "live", "cli"]),
    // Formats: `Event` and `Profile` have none, so that none freezes them.
    ("serde", &["capture", "report", "watch", "serve"]),
    ("toml", &["watch"]),
    ("zstd", &["capture"]),
    // Answers to questions over HTTP, and questions of ours.
    ("hyper", &["serve"]),
    ("hyper_util", &["serve"]),
    ("prometheus_client", &["serve"]),
    ("ureq", &["live"]),
    // One expert for each kind of bytes.
    ("blazesym", &["symbol"]),
    ("gimli", &["unwind"]),
    ("iced_x86", &["elf"]),
];

/// Rooms, and the rooms that each may name.
#[derive(Default)]
pub(super) struct Table {
    rooms: BTreeMap<String, BTreeSet<String>>,
}

impl Table {
    /// Reads the lines behind `| room | what it is for | may name |`. The last column lists rooms, or `words` (the rooms of the
    /// row that may name `each other`), `all`, `all but ROOM`, and `the contract`, which is free to all.
    pub(super) fn read(architecture: &str) -> Result<Table, Finding> {
        let mut rows = Vec::new();
        for (line, text) in
            (1..).zip(architecture.lines()).skip_while(|(_, it)| !it.starts_with("| room |")).skip(2)
        {
            let [_, names, _, may_name, _] = text.split('|').collect::<Vec<_>>()[..] else { break };
            let names: Vec<&str> = names.split('`').skip(1).step_by(2).collect();
            rows.push((line, names, may_name.trim()));
        }
        let all: BTreeSet<&str> = rows.iter().flat_map(|(_, names, _)| names).copied().collect();
        let words = rows
            .iter()
            .find(|(.., it)| it.contains("each other"))
            .map_or(vec![], |(_, names, _)| names.clone());

        let mut rooms = BTreeMap::new();
        for (line, names, may_name) in &rows {
            let mut allowed = BTreeSet::new();
            for part in may_name.split(", ") {
                match (part, part.strip_prefix("all but ")) {
                    ("words" | "each other", _) => allowed.extend(words.iter().copied()),
                    ("the contract" | "nothing", _) => {}
                    // Tests are not checked; it is said for the reader.
                    (it, _) if it.ends_with(" in tests") => {}
                    ("all", _) => allowed.extend(&all),
                    (_, Some(but)) => allowed.extend(all.iter().filter(|it| **it != but)),
                    (room, None) if all.contains(room) => allowed.extend([room]),
                    _ => {
                        return Err(Finding::new(
                            *line,
                            format!("tidy does not understand `{part}` in the table of rooms"),
                        ));
                    }
                }
            }
            let allowed: BTreeSet<String> = allowed.into_iter().map(str::to_owned).collect();
            rooms.extend(names.iter().map(|it| ((*it).to_owned(), allowed.clone())));
        }
        if rooms.is_empty() {
            return Err(Finding::new(1, "no table that begins with `| room |`"));
        }
        Ok(Table { rooms })
    }

    /// Tests may name what they like.
    pub(super) fn check(&self, source: &Source<'_>) -> Vec<Finding> {
        let Some(inside) = source.path.strip_prefix("tracer/src/") else { return Vec::new() };
        let modules = modules(inside);
        let Some(room) = modules.first().copied() else { return check_front(source) };
        let Some(allowed) = self.rooms.get(room) else {
            return vec![Finding::new(1, format!("room `{room}` is not in the table of {ARCHITECTURE}"))];
        };
        let mut findings = Vec::new();
        for path in paths::paths(source.product_code()) {
            if let Some(other) = room_named(&path.segments, &modules)
                && other != room
                && self.rooms.contains_key(other)
                && !allowed.contains(other)
            {
                findings.push(Finding::new(path.line, format!("room `{room}` may not name room `{other}`")));
            }
            for (outside, _) in OUTSIDE.iter().filter(|(_, rooms)| !rooms.contains(&room)) {
                if outside.split("::").eq(path.segments.iter().take(outside.split("::").count())) {
                    findings.push(Finding::new(path.line, format!("room `{room}` may not name `{outside}`")));
                }
            }
        }
        findings.extend(check_proc(source, room));
        findings.dedup();
        findings
    }
}

/// `main.rs` names `cli` and nothing else of ours; `lib.rs` names nobody.
fn check_front(source: &Source<'_>) -> Vec<Finding> {
    let paths = paths::paths(source.product_code());
    let ours = |it: &&paths::Path| it.segments[0] == "alloctrace" && it.segments[1] != "cli";
    paths.iter().filter(ours).map(|it| Finding::new(it.line, "main names `cli` and no other room")).collect()
}

/// What is in `/proc` arrives as events; `/proc/self` is about ourselves.
fn check_proc(source: &Source<'_>, room: &str) -> Vec<Finding> {
    let end = source.product_code().len();
    let product = source.text.get(..end).unwrap_or_default();
    // `/processes` is another thing.
    let is_proc = |it: &str| it.starts_with(['/', '"']) && !it.starts_with("/self/");
    let reads = |it: &&str| it.split("\"/proc").skip(1).any(is_proc);
    (1..)
        .zip(product.lines())
        .filter(|(_, it)| room != "kernel" && !it.trim_start().starts_with("//") && reads(it))
        .map(|(line, _)| Finding::new(line, format!("room `{room}` may not read /proc")))
        .collect()
}

/// `heap/sites.rs` -> heap, sites. None for `lib.rs` and `main.rs`.
fn modules(inside: &str) -> Vec<&str> {
    let parts = inside.trim_end_matches(".rs").split('/');
    parts.filter(|it| !matches!(*it, "mod" | "lib" | "main")).collect()
}

/// The room that a path leads to through `crate::` or enough `super::`.
fn room_named<'a>(segments: &'a [String], modules: &[&str]) -> Option<&'a str> {
    let ups = segments.iter().take_while(|it| *it == "super").count();
    let at = if segments[0] == "crate" { 1 } else { ups };
    let leads_to_root = segments[0] == "crate" || ups == modules.len();
    segments.get(at).filter(|_| leads_to_root).map(String::as_str)
}
