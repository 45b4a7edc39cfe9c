//! `alloctrace bench-floor`: for the benchmark that compares the tracer with its own traps.

use std::process::ExitCode;

use tokio::signal::unix::{SignalKind, signal};

use super::{exit::Failure, tracing::runtime};
use crate::{
    elf::pools::Pools,
    kernel::{Kernel, MemoryBound, Programs, Settings, Target, Tier},
};

#[derive(clap::Args)]
pub(super) struct Args {
    #[arg(short, long = "pid", value_name = "PID")]
    pid: u32,
    /// Probe functions at their symbols and at their returns, as other tools do.
    #[arg(long)]
    naive: bool,
}

/// Smallest that the kernel accepts: nothing is ever written to it.
const RING_BYTES: u32 = 4096;

pub(super) fn run(args: &Args) -> Result<ExitCode, Failure> {
    runtime()?.block_on(async {
        let target = Target::Processes(vec![args.pid]);
        let settings = Settings {
            target,
            follow: false,
            ring_bytes: RING_BYTES,
            programs: if args.naive { Programs::NaiveFloor } else { Programs::Floor },
            pools: Pools::default(),
            tier: Tier::Exact,
            sample_shift: 0,
            memory: MemoryBound::usual(),
            is_governed: false,
        };
        let kernel = Kernel::start(&settings)?;
        eprintln!("alloctrace: ready");
        signal(SignalKind::interrupt())?.recv().await;
        drop(kernel);
        Ok(ExitCode::SUCCESS)
    })
}
