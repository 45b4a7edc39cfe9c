//! `alloctrace doctor`

mod predict;
mod process;

use std::{io::Write as _, process::ExitCode, time::Duration};

use super::{exit::Failure, settings, tracing::PoolArgs};
use crate::kernel::{doctor, examination};

/// Say what this machine allows, what is missing, and how to get it; or explain one process.
///
/// With -p: which allocators serve the process, where the probes would go, and what stands in the way of complete stacks.
/// Nothing is placed in it, unless --predict asks what tracing would cost.
#[derive(clap::Args)]
#[command(after_help = "\
Examples:
  alloctrace doctor
  alloctrace doctor -p 1234
  alloctrace doctor -p 1234 --predict
  alloctrace doctor -p 1234 --alloc 'pool_get:size=arg1' --free 'pool_put:ptr=arg1'
  alloctrace doctor --json | jq '.findings[] | select(.ok | not)'")]
pub(super) struct Args {
    /// Print JSON instead of lines.
    #[arg(long)]
    json: bool,
    /// Explain this process: can it be traced, and how.
    #[arg(short, long, value_name = "PID", value_parser = clap::value_parser!(u32).range(1..=i32::MAX as i64))]
    pid: Option<u32>,
    /// Say what exact tracing would cost this process: follow it for some moments of 20 ms in this time.
    #[arg(
        long,
        value_name = "DUR",
        num_args = 0..=1,
        default_missing_value = "2s",
        requires = "pid",
        value_parser = settings::duration
    )]
    predict: Option<Duration>,
    /// With --predict: what tracing may add to its CPU time.
    #[arg(long, value_name = "SHARE", default_value = "5%", requires = "predict", value_parser = settings::share)]
    max_overhead: f64,
    #[command(flatten)]
    pools: PoolArgs,
}

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    let pools = args.pools.pools()?;
    if let (Some(pid), Some(duration)) = (args.pid, args.predict) {
        let forecast = predict::predict(pid, pools, duration)?;
        let mut out = std::io::stdout().lock();
        if args.json {
            serde_json::to_writer_pretty(&mut out, &predict::json(pid, &forecast, args.max_overhead))
                .map_err(std::io::Error::from)?;
            writeln!(out)?;
        } else {
            predict::text(pid, &forecast, args.max_overhead, &mut out)?;
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(pid) = args.pid {
        return explain(args, &examination::examine(pid, &pools)?);
    }
    if !pools.is_empty() {
        return Err(Failure::usage("--alloc and --free are about a process: give it by -p PID".to_owned()));
    }
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

fn explain(args: &Args, process: &examination::Examination) -> Result<ExitCode, Failure> {
    let privilege = doctor::missing_privilege();
    let verdict = process::judge(process, privilege.as_deref());
    let mut out = std::io::stdout().lock();
    if args.json {
        serde_json::to_writer_pretty(&mut out, &process::json(process, &verdict))
            .map_err(std::io::Error::from)?;
        writeln!(out)?;
    } else {
        process::text(process, &verdict, &mut out)?;
    }
    match privilege {
        Some(missing) => Err(Failure::kernel(missing)),
        None if verdict.traceable => Ok(ExitCode::SUCCESS),
        None => Ok(ExitCode::FAILURE),
    }
}
