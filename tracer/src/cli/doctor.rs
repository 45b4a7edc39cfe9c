//! `alloctrace doctor`

use std::{io::Write as _, process::ExitCode};

use super::exit::Failure;
use crate::kernel::doctor;

/// Say what this machine allows, what is missing, and how to get it.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  alloctrace doctor
  alloctrace doctor --json | jq '.findings[] | select(.ok | not)'")]
pub(super) struct Args {
    /// Print JSON instead of lines.
    #[arg(long)]
    json: bool,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let findings = doctor::examine();
    let mut out = std::io::stdout().lock();
    let fine = findings.iter().all(|it| it.is_fine() || !it.required);
    if args.json {
        let rows: Vec<_> = findings
            .iter()
            .map(|it| serde_json::json!({ "name": it.name, "ok": it.is_fine(), "detail": it.detail, "remedy": it.remedy, "required": it.required }))
            .collect();
        let report = serde_json::json!({ "schema": "alloctrace.doctor/1", "ready": fine, "findings": rows });
        serde_json::to_writer_pretty(&mut out, &report).map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        for finding in &findings {
            let mark = if finding.is_fine() { "ok     " } else { "MISSING" };
            writeln!(out, "{mark}  {:<32} {}", finding.name, finding.detail)?;
            if let Some(remedy) = finding.remedy {
                writeln!(out, "         {:<32} -> {remedy}", "")?;
            }
        }
        writeln!(out, "{}", if fine { "\nThis machine can trace." } else { "\nThis machine cannot trace." })?;
    }
    if fine {
        Ok(ExitCode::SUCCESS)
    } else {
        Err(Failure::kernel("something that tracing needs is missing".to_owned()))
    }
}
