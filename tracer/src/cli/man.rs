//! `alloctrace man`: the manual pages, made of what `--help` says.

use std::{
    fs,
    io::{self, Write as _},
    path::{Path, PathBuf},
    process::ExitCode,
};

use anyhow::Context as _;
use clap::Command;
use clap_mangen::{
    Man,
    roff::{Roff, bold, roman},
};

use super::exit::{CODES, Failure};

/// Print a manual page, or write all of them.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  alloctrace man | man -l -
  alloctrace man record | man -l -
  alloctrace man -o /usr/local/share/man/man1")]
pub(super) struct Args {
    /// The command whose page is printed [default: the page of alloctrace itself].
    command: Option<String>,
    /// Write all pages into this directory.
    #[arg(short, long, value_name = "DIR", conflicts_with = "command")]
    output: Option<PathBuf>,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let pages = pages(super::public_command())?;
    match &args.output {
        Some(directory) => write_all(&pages, directory)?,
        None => {
            let name = args.command.as_ref().map_or("alloctrace".to_owned(), |it| format!("alloctrace-{it}"));
            let Some(page) = pages.iter().find(|it| it.name == name) else {
                return Err(Failure::usage(format!("there is no page {name}(1)")));
            };
            io::stdout().write_all(&page.text)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn write_all(pages: &[Page], directory: &Path) -> anyhow::Result<()> {
    fs::create_dir_all(directory).with_context(|| format!("make the directory {}", directory.display()))?;
    for page in pages {
        let path = directory.join(format!("{}.1", page.name));
        fs::write(&path, &page.text).with_context(|| format!("write the page {}", path.display()))?;
    }
    Ok(())
}

struct Page {
    name: String,
    text: Vec<u8>,
}

/// Of the program, and of each of its commands.
fn pages(mut program: Command) -> io::Result<Vec<Page>> {
    program.build();
    let names: Vec<String> = std::iter::once("alloctrace".to_owned())
        .chain(program.get_subcommands().map(|it| format!("alloctrace-{}", it.get_name())))
        .collect();
    let commands = std::iter::once(&program).chain(program.get_subcommands());
    commands.zip(&names).map(|(it, name)| page(it, name, &names)).collect()
}

fn page(command: &Command, name: &str, names: &[String]) -> io::Result<Page> {
    let man = Man::new(command.clone())
        .title(name)
        .date(DATE)
        .source(concat!("alloctrace ", env!("CARGO_PKG_VERSION")))
        .manual("alloctrace");
    let mut text = Vec::new();
    man.render_title(&mut text)?;
    man.render_name_section(&mut text)?;
    synopsis(command).to_writer(&mut text)?;
    man.render_description_section(&mut text)?;
    let mut options = Vec::new();
    man.render_options_section(&mut options)?;
    // Between the help and the values of an option: formatters warn of three breaks in a row.
    text.extend(String::from_utf8_lossy(&options).replace("\n.br\n\n.br\n", "\n.br\n").bytes());
    if command.has_subcommands() {
        man.render_subcommands_section(&mut text)?;
    }
    let mut roff = Roff::new();
    let paragraphs = command.get_after_help().map(ToString::to_string).unwrap_or_default();
    let paragraphs = paragraphs.split("\n\n").collect::<Vec<_>>();
    let (notes, sections): (Vec<&str>, Vec<&str>) = paragraphs.iter().partition(|it| heading(it).is_none());
    for (title, body) in
        sections.iter().filter_map(|it| heading(it)).filter(|(title, _)| *title != CODES_TITLE)
    {
        roff.control("SH", [title.to_uppercase().as_str()]);
        as_typed(&mut roff, body);
    }
    if !sections.iter().any(|it| it.starts_with(SIGNALS_TITLE)) {
        roff.control("SH", ["SIGNALS"]);
        roff.text([roman("No signal is handled: each ends the command.")]);
    }
    roff.control("SH", ["EXIT STATUS"]);
    let own = sections.iter().filter_map(|it| heading(it)).find(|(title, _)| *title == CODES_TITLE);
    match own {
        Some((_, codes)) => as_typed(&mut roff, codes),
        None => {
            for (code, meaning) in CODES {
                roff.control("TP", []).text([bold(code.to_string())]).text([roman(meaning)]);
            }
        }
    }
    for (at, note) in notes.iter().filter(|it| !it.is_empty()).enumerate() {
        if at == 0 {
            roff.control("SH", ["NOTES"])
        } else {
            roff.control("PP", [])
        };
        roff.text([roman(*note)]);
    }
    for (title, entries) in [("FILES", FILES), ("ENVIRONMENT", ENVIRONMENT)] {
        roff.control("SH", [title]);
        for (entry, meaning) in entries {
            roff.control("TP", []).text([bold(*entry)]).text([roman(*meaning)]);
        }
    }
    roff.control("SH", ["SEE ALSO"]);
    let others = names.iter().filter(|it| *it != name).map(|it| format!("{it}(1)"));
    roff.text([roman(others.collect::<Vec<_>>().join(", "))]);
    roff.to_writer(&mut text)?;
    Ok(Page { name: name.to_owned(), text })
}

/// As `--help` has it, which is shorter than all options in a row.
fn synopsis(command: &Command) -> Roff {
    let usage = command.clone().render_usage().to_string();
    let mut roff = Roff::new();
    roff.control("SH", ["SYNOPSIS"]);
    for (at, line) in usage.trim_start_matches("Usage: ").lines().enumerate() {
        if at > 0 {
            roff.control("br", []);
        }
        roff.text([roman(line.trim())]);
    }
    roff
}

/// Of a paragraph that begins with `Title:` on a line of its own.
fn heading(paragraph: &str) -> Option<(&str, &str)> {
    let (title, body) = paragraph.split_once(":\n")?;
    (!title.contains([' ', '\n']) || title == CODES_TITLE).then_some((title, body))
}

/// Without the indentation of the first line, and otherwise line by line.
fn as_typed(roff: &mut Roff, body: &str) {
    let indented = body.len() - body.trim_start_matches(' ').len();
    roff.control("nf", []);
    for line in body.lines() {
        roff.text([roman(line.get(indented..).unwrap_or(line.trim_start()))]);
    }
    roff.control("fi", []);
}

/// When the pages last changed in substance.
const DATE: &str = "2026-11-21";

const SIGNALS_TITLE: &str = "Signals:\n";

/// In the help of the program, and of commands that mean something else by some; each page has it as a section.
pub(super) const CODES_TITLE: &str = "Exit codes";

const FILES: &[(&str, &str)] = &[
    ("alloctrace.NAME.PID.TIME.jsonl.zst", "A capture, in the current directory unless -o says otherwise."),
    ("/sys/kernel/btf/vmlinux", "Describes the structures of the kernel; needed."),
    ("/sys/kernel/tracing", "Lists the tracepoints of the kernel; mounted if it is not."),
];

const ENVIRONMENT: &[(&str, &str)] = &[
    ("RUST_LOG", "What is logged on standard error, for example alloctrace=debug; wins over -v."),
    ("NO_COLOR, CLICOLOR, CLICOLOR_FORCE, TERM, CI", "Whether text is coloured, unless --color says so."),
    ("TZ", "The zone of times of day."),
    ("ALLOCTRACE_EXIT_SITES", "off: every call is seen at entry and return, as for comparison."),
];

#[cfg(test)]
mod tests {
    use super::*;

    const SECTIONS: [&str; 10] = [
        "NAME",
        "SYNOPSIS",
        "DESCRIPTION",
        "OPTIONS",
        "EXAMPLES",
        "SIGNALS",
        "EXIT STATUS",
        "FILES",
        "ENVIRONMENT",
        "SEE ALSO",
    ];

    #[test]
    fn every_page_has_every_section_once() {
        let pages = pages(super::super::public_command()).unwrap();
        assert!(pages.len() > 5 && pages[0].name == "alloctrace");
        for page in pages {
            let text = String::from_utf8(page.text).unwrap();
            for section in SECTIONS {
                let title = if section.contains(' ') {
                    format!(".SH \"{section}\"")
                } else {
                    format!(".SH {section}")
                };
                let count = text.lines().filter(|it| *it == title).count();
                assert_eq!(count, 1, "{section} in {}:\n{text}", page.name);
            }
            assert!(!text.contains("__"), "hidden commands stay hidden in {}", page.name);
        }
    }

    #[test]
    fn headings() {
        assert_eq!(heading("Examples:\n  a\n  b"), Some(("Examples", "  a\n  b")));
        for text in ["", "A note: this\nis one.", "No heading:\n  a"] {
            assert_eq!(heading(text), None, "{text:?}");
        }
    }
}
