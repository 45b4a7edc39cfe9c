//! `cargo xtask tidy`: what neither the compiler nor a reviewer should have to look at.
//!
//! Each check reads text and says which lines break a rule; none changes a file.

mod docs;
mod paths;
mod rooms;
mod source;
mod style;
#[cfg(test)]
mod tests;

use std::{collections::BTreeMap, fs};

use anyhow::{Context as _, Result, bail};
use xshell::{Shell, cmd};

use self::source::Source;
use crate::root;

/// Check the rules that the compiler does not know: layout, import table, where unsafe and output may be, links
///
/// The import table is the one of ARCHITECTURE.md; the other tables are in xtask/src/tidy.
#[derive(clap::Args)]
pub(crate) struct Args {}

pub(crate) fn run(sh: &Shell, _: &Args) -> Result<()> {
    let files = read_project(sh)?;
    let findings = check_all(&files);
    for (path, finding) in &findings {
        println!("{path}:{}: {}", finding.line, finding.message);
    }
    match findings.len() {
        0 => println!("tidy: {} files, nothing to say", files.len()),
        count => bail!("tidy: {count} findings in {} files", files.len()),
    }
    Ok(())
}

#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Finding {
    /// From 1; 1 also if it is about the whole file.
    line: usize,
    message: String,
}

impl Finding {
    fn new(line: usize, message: impl Into<String>) -> Finding {
        Finding { line, message: message.into() }
    }
}

/// The files of the project: path from the root -> contents.
type Files = BTreeMap<String, Vec<u8>>;

/// All that git follows or would follow.
fn read_project(sh: &Shell) -> Result<Files> {
    let listed = cmd!(sh, "git ls-files --cached --others --exclude-standard").quiet().read()?;
    let mut files = Files::new();
    for path in listed.lines() {
        let full = root().join(path);
        // Deleted, but not yet for git; or a link to somewhere else.
        if full.is_file() {
            files.insert(path.to_owned(), fs::read(&full).with_context(|| format!("read {path}"))?);
        }
    }
    Ok(files)
}

fn check_all(files: &Files) -> Vec<(String, Finding)> {
    let architecture = text(files, docs::ARCHITECTURE).unwrap_or_default();
    let mut findings = Vec::new();
    let mut add =
        |path: &str, found: Vec<Finding>| findings.extend(found.into_iter().map(|it| (path.to_owned(), it)));

    let table = rooms::Table::read(architecture).unwrap_or_else(|finding| {
        add(docs::ARCHITECTURE, vec![finding]);
        rooms::Table::default()
    });
    for (path, bytes) in files {
        add(path, docs::check_size(path, bytes.len()).into_iter().collect());
        let Ok(text) = std::str::from_utf8(bytes) else { continue };
        let source = Source::new(path, text);
        add(path, style::check(&source));
        if path.ends_with(".md") {
            add(path, docs::check_links(&source, files));
        }
        if path.ends_with(".rs") {
            add(path, table.check(&source));
        }
    }
    findings.sort();
    findings
}

fn text<'a>(files: &'a Files, path: &str) -> Option<&'a str> {
    std::str::from_utf8(files.get(path)?).ok()
}
