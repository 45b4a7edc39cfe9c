//! Workflow commands of GitHub Actions: a breach appears beside the line that allocated.
//!
//! `::error file=NAME,line=N,title=TITLE::MESSAGE`, where the value of a property must not hold `%`, CR, LF, `:` or
//! `,` as they are, nor the message the first three (docs.github.com, "Workflow commands for GitHub Actions").

use std::io::{self, Write};

use super::{Case, Finding, Judgement, Options, Outcome, text};
use crate::profile::Frame;

pub(super) fn write(
    outcome: &Outcome,
    case: &Case,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    if let Some(failure) = &outcome.failure {
        error("alloctrace check: the command failed", None, failure, out)?;
    }
    for doubt in &outcome.doubts {
        error("alloctrace check: undecided", None, doubt, out)?;
    }
    for finding in &outcome.findings {
        let title = format!("alloctrace check: {} {}", finding.budget.flag(), finding.result.name());
        match finding.result {
            Judgement::Kept => command("notice", &title, None, &text::sentence(finding), out)?,
            Judgement::Undecided => error(&title, None, &text::sentence(finding), out)?,
            Judgement::Breached => {
                let message = message(finding, case, options)?;
                error(&title, place(finding, case, options).as_ref(), &message, out)?;
            }
        }
    }
    Ok(())
}

/// The budget and its stacks.
fn message(finding: &Finding, case: &Case, options: &Options) -> io::Result<String> {
    let stacks = text::plain_sites(finding, case, options)?;
    Ok(format!("{}\n\n{stacks}", text::sentence(finding)).trim_end().to_owned())
}

/// The innermost frame of the worst site whose source is known and of the project, as far as can be told: not a
/// library's that was compiled elsewhere.
fn place<'a>(finding: &Finding, case: &'a Case, options: &Options) -> Option<(&'a str, Option<u32>)> {
    let worst = finding.sites.first()?;
    let workspace = options.workspace.as_deref().map(|it| format!("{}/", it.trim_end_matches('/')));
    let relative = |frame: &'a Frame| {
        let file = frame.file.as_deref()?;
        let inside = workspace.as_deref().and_then(|it| file.strip_prefix(it));
        Some((inside.unwrap_or(file), frame.line, inside.is_some() || !file.starts_with('/')))
    };
    let profile = &case.evidence(&finding.budget).profile;
    let frames: Vec<_> = profile
        .stack(&profile.sites[worst.site])
        .filter(|it| !it.is_plumbing())
        .filter_map(relative)
        .collect();
    let inside = frames.iter().find(|(.., is_inside)| *is_inside);
    inside.or(frames.first()).map(|(file, line, _)| (*file, *line))
}

fn error(
    title: &str,
    place: Option<&(&str, Option<u32>)>,
    message: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    command("error", title, place, message, out)
}

fn command(
    name: &str,
    title: &str,
    place: Option<&(&str, Option<u32>)>,
    message: &str,
    out: &mut dyn Write,
) -> io::Result<()> {
    write!(out, "::{name} ")?;
    if let Some((file, line)) = place {
        write!(out, "file={},", property(file))?;
        if let Some(line) = line {
            write!(out, "line={line},")?;
        }
    }
    writeln!(out, "title={}::{}", property(title), data(message))
}

fn data(text: &str) -> String {
    text.replace('%', "%25").replace('\r', "%0D").replace('\n', "%0A")
}

fn property(text: &str) -> String {
    data(text).replace(':', "%3A").replace(',', "%2C")
}

/// For the file that `$GITHUB_STEP_SUMMARY` names.
pub(super) fn write_summary(
    outcome: &Outcome,
    case: &Case,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    writeln!(out, "### alloctrace check: {}\n", markdown(&outcome.headline()))?;
    writeln!(out, "`{}`\n", case.whole.profile.header.target.replace('`', "'"))?;
    writeln!(out, "| budget | allowed | measured | | |\n|---|--:|--:|---|---|")?;
    for it in &outcome.findings {
        let measured = it.measured.map_or_else(|| "–".to_owned(), |measured| it.budget.show(measured));
        writeln!(
            out,
            "| `{}` | {} | {measured} | {} | {} |",
            it.budget.flag(),
            it.budget.show(it.budget.allowed()),
            it.result.name(),
            markdown(&it.detail)
        )?;
    }
    for finding in outcome.findings.iter().filter(|it| it.result == Judgement::Breached) {
        let stacks = text::plain_sites(finding, case, options)?;
        if !stacks.is_empty() {
            writeln!(out, "\n```\n{}\n```", stacks.replace("```", "'''"))?;
        }
    }
    let profile = &case.whole.profile;
    writeln!(out, "\nTrust {}: {}.", profile.grade, profile.trust())
}

/// Text that means nothing to Markdown, also inside a table.
fn markdown(text: &str) -> String {
    let mut escaped = String::new();
    for it in text.chars() {
        if "\\`*_{}[]<>()#+!|~".contains(it) {
            escaped.push('\\');
        }
        escaped.push(if it == '\n' { ' ' } else { it });
    }
    escaped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_github_would_read_as_syntax_is_escaped() {
        let check = |title: &str, file: &str, message: &str, expected: &str| {
            let mut out = Vec::new();
            error(title, Some(&(file, Some(7))), message, &mut out).unwrap();
            assert_eq!(String::from_utf8(out).unwrap(), expected);
        };
        check("a", "b.c", "c", "::error file=b.c,line=7,title=a::c\n");
        check(
            "50%, or: more",
            "a,b:c.rs",
            "100 %\r\nx: y, z",
            "::error file=a%2Cb%3Ac.rs,line=7,title=50%25%2C or%3A more::100 %25%0D%0Ax: y, z\n",
        );
    }
}
