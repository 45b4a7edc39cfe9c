//! What was typed, as values: durations, sizes and targets.

use std::{ffi::OsString, time::Duration};

use clap::Args;

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

/// `90`, `90s`, `5m`, `1h30m`; a bare number is seconds.
pub(super) fn duration(text: &str) -> Result<Duration, String> {
    let parsed = match text.parse::<f64>() {
        Ok(seconds) => Duration::try_from_secs_f64(seconds).map_err(|it| it.to_string()),
        Err(_) => humantime::parse_duration(text).map_err(|it| it.to_string()),
    }
    .map_err(|why| format!("{why}; write for example 500ms, 60s, 5m or 1h30m"))?;
    if parsed.is_zero() { Err("must be more than nothing".to_owned()) } else { Ok(parsed) }
}

/// `4096`, `64KiB`, `1MB`.
pub(super) fn size(text: &str) -> Result<u64, String> {
    let why = |it| format!("{it}; write for example 4096, 64KiB or 1MB");
    text.parse::<bytesize::ByteSize>().map(|it| it.as_u64()).map_err(why)
}

/// `5%`, `0.5%`; a bare number is a percentage too.
pub(super) fn share(text: &str) -> Result<f64, String> {
    let percent: f64 = text
        .strip_suffix('%')
        .unwrap_or(text)
        .trim()
        .parse()
        .map_err(|_| "is not a share; write for example 5% or 0.5%".to_owned())?;
    if (0.1..=1000.0).contains(&percent) {
        Ok(percent / 100.0)
    } else {
        Err("must be between 0.1% and 1000%".to_owned())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("90"), Ok(Duration::from_secs(90)));
        assert_eq!(duration("0.5"), Ok(Duration::from_millis(500)));
        assert_eq!(duration("1h30m"), Ok(Duration::from_secs(5400)));
        for wrong in ["", "0", "-1", "5 parsecs", "1e99", "nan"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn shares() {
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share("0.5"), Ok(0.005));
        assert_eq!(share("200 %"), Ok(2.0));
        for wrong in ["", "%", "0", "-5%", "5%%", "five", "nan", "inf", "1e9"] {
            assert!(share(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("4096"), Ok(4096));
        assert_eq!(size("64KiB"), Ok(65536));
        assert_eq!(size("1MB"), Ok(1_000_000));
        assert!(size("many").is_err());
    }
}
