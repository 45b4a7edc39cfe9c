//! `alloctrace doctor -p PID --predict`: what tracing would cost this process.

use std::{io::Write, time::Duration};

use serde_json::json;

use super::super::{exit::Failure, tracing::runtime};
use crate::{
    elf::pools::Pools,
    event::Event,
    kernel::{self, Kernel, MemoryBound, Programs, Settings, Target, Tier, process},
    live::Forecast,
    report::{escape::printable, units, words},
};

/// Room for what happens in a moment.
const RING_BYTES: u32 = 16 << 20;

/// Follows the process for some moments, and says on standard error that it does.
pub(super) fn predict(tgid: u32, pools: Pools, duration: Duration) -> Result<Forecast, Failure> {
    runtime()?.block_on(async {
        let settings = Settings {
            target: Target::Processes(vec![tgid]),
            follow: false,
            ring_bytes: RING_BYTES,
            programs: Programs::Trace,
            pools,
            tier: Tier::Exact,
            sample_shift: 0,
            memory: MemoryBound::usual(),
            is_governed: true,
        };
        eprintln!("alloctrace: following process {tgid} for moments of 20 ms");
        let mut kernel = Kernel::start(&settings)?;
        let begun = kernel.beginnings(kernel::now_ns()).into_iter().find_map(|it| match it {
            Event::Begin { process, .. } => Some(process),
            _ => None,
        });
        let gone = || Failure::target_gone(format!("process {tgid} ended before it was looked at"));
        let process = begun.ok_or_else(gone)?;
        Ok(Forecast::of(&mut kernel, process, tgid, duration))
    })
}

pub(super) fn text(tgid: u32, it: &Forecast, limit: f64, out: &mut dyn Write) -> std::io::Result<()> {
    writeln!(out, "process {tgid}: {}", printable(&process::describe(tgid).name))?;
    let (cpu, wall) = (units::seconds(it.cpu_s), units::seconds(it.wall_s));
    writeln!(
        out,
        "  used {cpu} of CPU time in {wall}, {} in the moments that were looked at",
        units::seconds(it.seen_s())
    )?;
    let (Some(share), Some((least, most))) = (it.share(), it.spread()) else {
        return writeln!(
            out,
            "  It did too little to say what tracing would cost: look again when it works, or for longer."
        );
    };
    writeln!(
        out,
        "  allocates and frees {} times in a second of its CPU time",
        units::count(it.calls_per_s() as i64)
    )?;
    writeln!(
        out,
        "  exact tracing would add {} to its CPU time (from {} to {} in {} moments)",
        words::share(share),
        words::share(least),
        words::share(most),
        it.moments(),
    )?;
    if !it.is_calibrated {
        writeln!(out, "  by what a probe costs on another machine: it could not be measured here")?;
    }
    let limit_text = words::share(limit);
    match (it.level(limit), it.sampled_share()) {
        (Some("exact"), _) => writeln!(out, "  --max-overhead {limit_text} would trace it exactly"),
        (Some("sampled"), Some(share)) => writeln!(
            out,
            "  --max-overhead {limit_text} would sample its allocations, one in {}, which would add {}",
            units::bytes(it.rate().bytes()),
            words::share(share)
        ),
        _ => writeln!(
            out,
            "  --max-overhead {limit_text} would follow its memory by page faults, as --tier growth does"
        ),
    }
}

/// The same for programs; names are stable.
pub(super) fn json(tgid: u32, it: &Forecast, limit: f64) -> serde_json::Value {
    let share = it.share();
    let spread = it.spread().filter(|_| share.is_some());
    json!({
        "schema": "alloctrace.doctor.predict/1",
        "pid": tgid,
        "duration_s": it.wall_s,
        "cpu_s": it.cpu_s,
        "seen_cpu_s": it.seen_s(),
        "moments": it.moments(),
        "idle": share.is_none(),
        "calls_per_cpu_s": share.map(|_| it.calls_per_s()),
        "overhead": share,
        "overhead_low": spread.map(|it| it.0),
        "overhead_high": spread.map(|it| it.1),
        "calibrated": it.is_calibrated,
        "max_overhead": limit,
        "overhead_sampled": it.sampled_share(),
        "tier": it.level(limit),
    })
}
