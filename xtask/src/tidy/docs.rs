//! Documents lead to files that exist, and stay short; so does the committed object.

use super::{Files, Finding, source::Source};

pub(super) const ARCHITECTURE: &str = "ARCHITECTURE.md";
const ARCHITECTURE_MAX_LINES: usize = 200;

/// Beside sources nothing in the repository is large. What is must be worth its place in every clone.
const MAX_BYTES: usize = 1 << 20;

pub(super) fn check_size(path: &str, bytes: usize) -> Option<Finding> {
    (bytes >= MAX_BYTES)
        .then(|| Finding::new(1, format!("{path} has {bytes} bytes; less than {MAX_BYTES} is wanted")))
}

pub(super) fn check_links(source: &Source<'_>, files: &Files) -> Vec<Finding> {
    let mut findings = Vec::new();
    let lines = source.text.lines().count();
    if source.path == ARCHITECTURE && lines >= ARCHITECTURE_MAX_LINES {
        findings
            .push(Finding::new(1, format!("{lines} lines; a map has less than {ARCHITECTURE_MAX_LINES}")));
    }
    let mut in_block = false;
    for (line, text) in (1..).zip(source.text.lines()) {
        if text.trim_start().starts_with("```") {
            in_block = !in_block;
        } else if !in_block {
            let links = links(text).filter(|it| !leads_somewhere(source.path, it, files));
            let names = names(text).filter(|it| !is_a_file(it, files));
            findings.extend(links.chain(names).map(|it| Finding::new(line, format!("there is no {it}"))));
        }
    }
    findings
}

/// The targets in `[text](target)` that are files.
fn links(text: &str) -> impl Iterator<Item = &str> {
    let targets = text.split("](").skip(1).filter_map(|it| it.split(')').next());
    targets.map(|it| it.split('#').next().unwrap_or(it)).filter(|it| !it.is_empty() && !it.contains(':'))
}

/// What stands in backquotes and looks like a file of ours: `kernel/btf.rs`.
fn names(text: &str) -> impl Iterator<Item = &str> {
    let is_name = |it: &&str| it.ends_with(".rs") && !it.contains(['*', ' ', '{', '<']);
    text.split('`').skip(1).step_by(2).filter(is_name)
}

fn leads_somewhere(from: &str, target: &str, files: &Files) -> bool {
    let mut parts: Vec<&str> = from.split('/').collect();
    parts.pop();
    for part in target.split('/').filter(|it| !matches!(*it, "." | "")) {
        match part {
            ".." => parts.truncate(parts.len().saturating_sub(1)),
            _ => parts.push(part),
        }
    }
    let path = parts.join("/");
    let folder = format!("{path}/");
    files.contains_key(&path) || files.keys().any(|it| it.starts_with(&folder))
}

/// Names may leave out the beginning of the path.
fn is_a_file(name: &str, files: &Files) -> bool {
    files.keys().any(|it| it.strip_suffix(name).is_some_and(|it| it.is_empty() || it.ends_with('/')))
}
