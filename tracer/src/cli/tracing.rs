//! What every command does that traces: find the target, or have it wait at its gate, and say what is to be done to it.

use std::{io, path::Path};

use clap::Args;

use super::{
    exit::Failure,
    settings::{self, TargetArgs},
};
use crate::kernel::{Launched, Programs, Settings, Streams, Target, process};

/// Whom to trace, and how.
#[derive(Args)]
pub(super) struct TracingArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Do not trace the children of a launched command.
    ///
    /// Children are traced from their first instruction on, and for that every process of this machine
    /// that uses the same C library pays about half a microsecond per allocation while the tracing
    /// goes on. With this option only the command itself is touched.
    #[arg(long)]
    pub(super) no_follow: bool,
    /// Memory for events on their way to us; a power of two.
    #[arg(long, value_name = "SIZE", default_value = "64MiB", value_parser = ring_size)]
    pub(super) ring: u32,
}

/// A target that is there. A launched one waits until its gate opens, and leaves if we do.
pub(super) struct Prepared {
    pub(super) settings: Settings,
    pub(super) launched: Option<Launched>,
    /// Of the command, or of the first process.
    pub(super) name: String,
    pub(super) tgid: u32,
    /// As typed.
    pub(super) description: String,
}

impl TracingArgs {
    /// `streams` are those of a launched command.
    pub(super) fn prepare(&self, streams: Streams<'_>) -> Result<Prepared, Failure> {
        let command = &self.target.command;
        let (target, launched, name, tgid) = match &command[..] {
            [] => {
                let tgid = self.target.pid[0];
                let target = Target::Processes(dedup(&self.target.pid));
                (target, None, process::describe(tgid).name, tgid)
            }
            [program, ..] => {
                let child = Launched::new(command, streams)?;
                let tgid = child.tgid();
                let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
                (Target::Launched { tgid, command: command.clone() }, Some(child), name, tgid)
            }
        };
        let follow = launched.is_some() && !self.no_follow;
        if follow {
            log::info!(
                "children are followed: other processes with the same C library pay for the traps too"
            );
        }
        let settings = Settings { target, follow, ring_bytes: self.ring, programs: Programs::Trace };
        Ok(Prepared { settings, launched, name, tgid, description: self.target.describe() })
    }
}

impl TargetArgs {
    fn describe(&self) -> String {
        if self.command.is_empty() {
            let pids: Vec<String> = self.pid.iter().map(u32::to_string).collect();
            format!("-p {}", pids.join(" -p "))
        } else {
            let words: Vec<_> = self.command.iter().map(|it| it.to_string_lossy()).collect();
            format!("-- {}", words.join(" "))
        }
    }
}

/// The runtime of every command that traces: one thread, which owns the heap.
pub(super) fn runtime() -> io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}

fn dedup(tgids: &[u32]) -> Vec<u32> {
    let mut distinct = tgids.to_vec();
    distinct.sort_unstable();
    distinct.dedup();
    distinct
}

pub(super) fn ring_size(text: &str) -> Result<u32, String> {
    let bytes = settings::size(text)?;
    match u32::try_from(bytes) {
        Ok(it) if it.is_power_of_two() && (1 << 16..=1 << 30).contains(&it) => Ok(it),
        _ => Err("must be a power of two between 64KiB and 1GiB".to_owned()),
    }
}
