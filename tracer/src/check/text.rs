//! For a person who reads the log of a build that failed.

use std::io::{self, Write};

use super::{Case, Finding, Judgement, Options, Outcome, Status, Suppressed};
use crate::{
    profile::Profile,
    report::{
        self,
        paper::{Look, Paper},
        units,
    },
};

pub(super) fn write(
    outcome: &Outcome,
    case: &Case,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let out = &mut Paper::new(out, options.color);
    let headline = format!("alloctrace check: {}", outcome.headline());
    match outcome.status() {
        Status::Kept => out.put(Look::Head, headline)?,
        Status::Undecided => out.put(Look::Caution, headline)?,
        Status::Breached | Status::CommandFailed => out.put(Look::Alarm, headline)?,
    }
    writeln!(out)?;
    header(&case.whole.profile, options, out)?;
    report::write_trust(&case.whole.profile, out)?;
    for doubt in &outcome.doubts {
        writeln!(out, "doubt    {doubt}")?;
    }
    writeln!(out)?;
    for finding in &outcome.findings {
        budget(finding, out)?;
    }
    for finding in outcome.findings.iter().filter(|it| it.result == Judgement::Breached) {
        sites(finding, case, options, out)?;
    }
    suppressed(&outcome.suppressed, options.verbose, out)
}

fn header(profile: &Profile, options: &Options, out: &mut Paper<'_>) -> io::Result<()> {
    let header = &profile.header;
    writeln!(out, "target   {}   on {}, {}", header.target, header.host, header.started)?;
    let judged = match profile.from_s {
        0.0 => "all of it judged".to_owned(),
        from_s => format!("judged from {} on", units::seconds(from_s)),
    };
    write!(out, "traced   {}, {judged}", units::seconds(profile.duration_s))?;
    match &options.path {
        Some(path) => writeln!(out, "   {path}"),
        None => writeln!(out),
    }
}

/// A budget on one line.
fn budget(finding: &Finding, out: &mut Paper<'_>) -> io::Result<()> {
    let result = format!("{:<9}", finding.result.name());
    match finding.result {
        Judgement::Kept => write!(out, "{result}")?,
        Judgement::Undecided => out.put(Look::Caution, result)?,
        Judgement::Breached => out.put(Look::Alarm, result)?,
    }
    writeln!(out, "  {}: {}", finding.budget.flag(), sentence(finding))
}

/// What was measured, and what is allowed.
pub(super) fn sentence(finding: &Finding) -> String {
    let budget = &finding.budget;
    let allowed = budget.show(budget.allowed());
    let Some(measured) = finding.measured else { return format!("{allowed} allowed: {}", finding.detail) };
    let (measured, allowed) = match budget.show(measured) {
        // What is breached must not look as if it were kept.
        same if same == allowed && finding.result == Judgement::Breached => {
            (budget.show_exactly(measured), budget.show_exactly(budget.allowed()))
        }
        measured => (measured, allowed),
    };
    format!("{measured} measured, {allowed} allowed: {}", finding.detail)
}

/// Who breached it, without colours.
pub(super) fn plain_sites(finding: &Finding, case: &Case, options: &Options) -> io::Result<String> {
    let mut text = Vec::new();
    sites(finding, case, options, &mut Paper::new(&mut text, false))?;
    Ok(String::from_utf8_lossy(&text).trim().to_owned())
}

fn sites(finding: &Finding, case: &Case, options: &Options, out: &mut Paper<'_>) -> io::Result<()> {
    if finding.sites.is_empty() || options.top == 0 {
        return Ok(());
    }
    let profile = &case.evidence(&finding.budget).profile;
    writeln!(out)?;
    out.put(Look::Head, format!("{}: {}", finding.budget.flag(), finding.budget.deed()))?;
    writeln!(out)?;
    for (place, it) in (1..).zip(finding.sites.iter().take(options.top)) {
        report::write_site(profile, place, &profile.sites[it.site], it.cost, it.share, out)?;
    }
    let rest = finding.sites.len().saturating_sub(options.top);
    if rest > 0 {
        writeln!(out, "\n     … and {} more (-T shows more)", units::count(rest as i64))?;
    }
    Ok(())
}

/// As LeakSanitizer does.
fn suppressed(all: &[Suppressed], verbose: bool, out: &mut Paper<'_>) -> io::Result<()> {
    let (used, unused): (Vec<&Suppressed>, Vec<&Suppressed>) =
        all.iter().filter(|it| verbose || !it.is_built_in).partition(|it| it.sites > 0);
    if !used.is_empty() {
        writeln!(out)?;
        out.put(Look::Head, "Suppressions used:")?;
        writeln!(out, "\n     blocks        bytes  pattern")?;
        for it in used {
            let (blocks, bytes) = (units::count(it.cost.blocks), units::count(it.cost.bytes));
            let whose = if it.is_built_in { "  (built in)" } else { "" };
            writeln!(out, "{blocks:>11}  {bytes:>11}  leak:{}{whose}", it.pattern)?;
        }
    }
    if verbose && unused.iter().any(|it| !it.is_built_in) {
        writeln!(out)?;
        out.put(Look::Head, "Suppressions that nothing matched:")?;
        writeln!(out)?;
        for it in unused.iter().filter(|it| !it.is_built_in) {
            writeln!(out, "  leak:{}", it.pattern)?;
        }
    }
    Ok(())
}
