//! `alloctrace.check/1`: the outcome for programs. Field names are a contract.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::{Case, Finding, Options, Outcome, Suspect};
use crate::{profile::Profile, report};

pub(super) fn write(
    outcome: &Outcome,
    case: &Case,
    options: &Options,
    out: &mut dyn Write,
) -> io::Result<()> {
    let profile = &case.whole.profile;
    let header = &profile.header;
    let check = json!({
        "schema": "alloctrace.check/1",
        "status": outcome.status().name(),
        "summary": outcome.headline(),
        "capture": report::capture_json(profile, options.path.as_deref()),
        "target": header.target,
        "window": { "from_s": profile.from_s, "to_s": profile.to_s },
        "trust": profile.grade.to_string(),
        "loss": profile.losses,
        "command_failure": outcome.failure,
        "doubts": outcome.doubts,
        "budgets": outcome.findings.iter().map(|it| finding(it, case, options)).collect::<Vec<_>>(),
        "suppressions": outcome.suppressed.iter().map(|it| json!({
            "pattern": it.pattern,
            "built_in": it.is_built_in,
            "sites": it.sites,
            "live_bytes": it.cost.bytes,
            "live_blocks": it.cost.blocks,
        })).collect::<Vec<_>>(),
    });
    serde_json::to_writer_pretty(&mut *out, &check)?;
    writeln!(out)
}

fn finding(finding: &Finding, case: &Case, options: &Options) -> Value {
    let budget = &finding.budget;
    let profile = &case.evidence(budget).profile;
    json!({
        "budget": budget.flag(),
        "result": finding.result.name(),
        "unit": if budget.is_rate() { "bytes/s" } else { "bytes" },
        "allowed": budget.allowed(),
        "measured": finding.measured,
        "measured_low": finding.bounds.map(|it| it.low).or(finding.measured),
        "measured_high": finding.bounds.map(|it| it.high).or(finding.measured),
        "detail": finding.detail,
        "sites": finding.sites.iter().take(options.top).map(|it| suspect(it, profile)).collect::<Vec<_>>(),
        "other_sites": finding.sites.len().saturating_sub(options.top),
    })
}

fn suspect(suspect: &Suspect, profile: &Profile) -> Value {
    json!({
        "bytes": suspect.cost.bytes,
        "blocks": suspect.cost.blocks,
        "share": suspect.share,
        "site": report::site_json(profile, &profile.sites[suspect.site]),
    })
}
