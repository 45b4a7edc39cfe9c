//! What was typed, as values: targets; and durations, sizes and shares.

use std::ffi::OsString;

use clap::Args;

pub(super) use crate::quantity::{duration, share, size};

/// Whose memory is looked at.
#[derive(Args, Default)]
#[group(required = true, multiple = true)]
pub(super) struct TargetArgs {
    /// A running process; repeat for several.
    #[arg(
        short,
        long = "pid",
        value_name = "PID",
        value_parser = clap::value_parser!(u32).range(1..=i32::MAX as i64),
        conflicts_with_all = ["name", "cgroup", "container", "all", "command"]
    )]
    pub(super) pid: Vec<u32>,
    /// Every process whose program has this name, now or later; repeat for several.
    ///
    /// The name is the one that `ps -o comm` shows. A process that becomes another program is left alone from then
    /// on, unless --follow is given.
    #[arg(
        short,
        long,
        value_name = "COMM",
        value_parser = program_name,
        conflicts_with_all = ["cgroup", "container", "all", "command"]
    )]
    pub(super) name: Vec<String>,
    /// Every process in or below this control group, now or later; repeat for several.
    ///
    /// A directory, such as /sys/fs/cgroup/system.slice, or its path from the root of the hierarchy, or the beginning
    /// of a container's id (12 digits or more). Several must lie in one hierarchy.
    #[arg(long, value_name = "PATH", conflicts_with_all = ["all", "command"])]
    pub(super) cgroup: Vec<String>,
    /// Every process of this container, of which 12 or more digits of the id are given; repeat for several.
    #[arg(long, value_name = "ID", conflicts_with_all = ["all", "command"])]
    pub(super) container: Vec<String>,
    /// Every process of this machine, now or later.
    #[arg(short, long, conflicts_with = "command")]
    pub(super) all: bool,
    /// Start a command and trace it from its first instruction on.
    #[arg(last = true, value_name = "COMMAND")]
    pub(super) command: Vec<OsString>,
}

/// What the kernel cuts off is not the name of any process.
fn program_name(text: &str) -> Result<String, String> {
    /// `TASK_COMM_LEN` of include/linux/sched.h, without the zero at the end.
    const LONGEST: usize = 15;
    match text.len() {
        0 => Err("must not be empty".to_owned()),
        1..=LONGEST => Ok(text.to_owned()),
        _ => Ok(text.as_bytes()[..LONGEST].iter().map(|it| *it as char).collect()),
    }
}
