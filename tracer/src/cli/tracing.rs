//! What every command does that traces: find the target, or have it wait at its gate, and say what is to be done to it.

use std::{io, path::Path, time::Duration};

use clap::Args;

use super::{
    exit::Failure,
    sample::SampleArgs,
    settings::{self, TargetArgs},
};
use crate::{
    elf::pools::{Pools, Spec},
    kernel::{
        self, Kernel, Launched, MemoryBound, Programs, Selection, Settings, Streams, Target, Tier,
        cgroup::Groups, process,
    },
    live::About,
    report::{escape::printable, units},
};

/// Whom to trace, and how.
#[derive(Args)]
pub(super) struct TracingArgs {
    #[command(flatten)]
    pub(super) target: TargetArgs,
    /// Trace the children of a process too, whatever they become.
    ///
    /// This is so for a launched command. Of a selection (-n, --cgroup, -a) forked children are traced anyway, as long as
    /// they stay inside of it.
    #[arg(long, conflicts_with = "no_follow")]
    pub(super) follow: bool,
    /// Do not trace the children of a launched command.
    ///
    /// Children are traced from their first instruction on, and for that every process of this machine
    /// that uses the same C library pays about half a microsecond per allocation while the tracing
    /// goes on. With this option only the command itself is touched.
    #[arg(long, conflicts_with_all = ["name", "cgroup", "container", "all"])]
    pub(super) no_follow: bool,
    /// How closely to look.
    #[arg(long, value_enum, default_value_t = TierName::Exact, value_name = "TIER")]
    pub(super) tier: TierName,
    /// Look less closely rather than make the target this much slower, for example 5%.
    ///
    /// The share of CPU time that tracing adds to what a process would need without it, on the average of some ten seconds.
    /// Below it nothing is left out. Above it allocations are sampled, if that is enough, at the rate of --sample or one in
    /// 64KiB; otherwise the calls of the process's allocator are not followed any more until it makes fewer of them: what it
    /// holds is then known as by --tier growth. The report says since when. It is for each process of -p, and otherwise for
    /// all together. A program that does little but allocate is slowed down for some tenths of a second before it is let
    /// go; what runs only for some seconds pays more than this. Tracepoints cost each system call some forty nanoseconds; that
    /// is not counted.
    #[arg(long, value_name = "SHARE", value_parser = settings::share)]
    pub(super) max_overhead: Option<f64>,
    /// Memory for events on their way to us; a power of two [default: 64MiB, or a sixteenth of --max-memory if that is
    /// less].
    #[arg(long, value_name = "SIZE", value_parser = ring_size)]
    pub(super) ring: Option<u32>,
    #[command(flatten)]
    pub(super) memory: MemoryArgs,
    #[command(flatten)]
    pub(super) sample: SampleArgs,
    #[command(flatten)]
    pub(super) pools: PoolArgs,
}

/// What the tracer itself may take.
#[derive(Args, Clone, Default)]
pub(super) struct MemoryArgs {
    /// The most memory that alloctrace itself may take, as `ps` shows it and with its maps in the kernel [default: a
    /// quarter of what the machine or our control group has].
    ///
    /// Every live block takes 16 to 23 bytes. Blocks for which there is no room count as freed at once, and are counted as
    /// untracked_blocks and untracked_bytes: what is allocated stays exact, and what is live may be more by as much.
    #[arg(long, value_name = "SIZE", value_parser = settings::size)]
    pub(super) max_memory: Option<u64>,
}

impl MemoryArgs {
    fn bound(&self) -> MemoryBound {
        self.max_memory.map_or_else(MemoryBound::usual, MemoryBound)
    }
}

/// Allocators that are the target's own.
#[derive(Args, Clone, Default)]
#[command(next_help_heading = "Own pools")]
pub(super) struct PoolArgs {
    /// Count what this function of the target hands out, as 'pool_get:size=arg1,ptr=ret'; repeat for several.
    ///
    /// [FILE!]FUNCTION:ROLE=WHERE,... with the roles size=argN or size=NUMBER (blocks of one size), count=argN (times
    /// size), ptr=ret (the default) or ptr=*argN (stored there; the function returns 0), old=argN (as of realloc).
    /// Arguments count from arg0 to arg5; a method's `this` is arg0. FUNCTION is a name as reports show it or the
    /// linker's; FILE, the end of a path, may be one that is loaded later.
    ///
    /// What the function allocates inside belongs to its blocks. A C++ or Rust function is probed so that exceptions
    /// pass, or refused; do not give a C function through which exceptions of others pass.
    #[arg(long, value_name = "SPEC", value_parser = Spec::alloc)]
    pub(super) alloc: Vec<Spec>,
    /// Count what this function of the target takes back, as 'pool_put:ptr=arg0'; repeat for several.
    #[arg(long, value_name = "SPEC", value_parser = Spec::free)]
    pub(super) free: Vec<Spec>,
}

impl PoolArgs {
    pub(super) fn pools(&self) -> Result<Pools, Failure> {
        Pools::new(&self.alloc, &self.free).map_err(Failure::usage)
    }
}

/// Begins to trace, and says what the user should know before.
pub(super) fn start(settings: &Settings) -> Result<Kernel, Failure> {
    let kernel = Kernel::start(settings)?;
    kernel.check_memory().map_err(|least| {
        let bound = units::bytes(settings.memory.0 as i64);
        let least = least >> 20;
        Failure::usage(format!(
            "{bound} of memory are too little to trace this: give --max-memory {least}MiB or more"
        ))
    })?;
    for note in kernel.notes() {
        eprintln!("alloctrace: {}", printable(&note));
    }
    Ok(kernel)
}

/// How closely to look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(super) enum TierName {
    /// Every call of the allocator.
    Exact,
    /// Mappings, and a sample of the page faults that make memory resident: nearly free, for any program.
    Growth,
    /// As growth, and exact for processes that grow.
    Auto,
}

impl From<TierName> for Tier {
    fn from(name: TierName) -> Self {
        match name {
            TierName::Exact => Self::Exact,
            TierName::Growth => Self::Growth,
            TierName::Auto => Self::Auto,
        }
    }
}

/// A target that is there. A launched one waits until its gate opens, and leaves if we do.
pub(super) struct Prepared {
    pub(super) settings: Settings,
    pub(super) launched: Option<Launched>,
    /// Of the command, of the first process or of the selection.
    pub(super) name: String,
    /// None of a selection.
    pub(super) tgid: Option<u32>,
    /// As typed.
    pub(super) description: String,
}

impl TracingArgs {
    /// What the recording says of itself; its times begin now.
    pub(super) fn about(
        &self,
        prepared: &Prepared,
        kernel: &Kernel,
        interval: Duration,
        started: jiff::Timestamp,
    ) -> About {
        About {
            started: started.to_string(),
            target: prepared.description.clone(),
            interval,
            tier: self.tier.into(),
            max_overhead: self.max_overhead,
            is_calibrated: kernel.prices().traps.is_calibrated,
            started_ns: kernel::now_ns(),
            pools: prepared.settings.pools.names(),
            sample_bytes: prepared.settings.sample_bytes(),
        }
    }

    /// `streams` are those of a launched command.
    pub(super) fn prepare(&self, streams: Streams<'_>) -> Result<Prepared, Failure> {
        let pools = self.pools.pools()?;
        let rate = self.sample.rate();
        if self.tier == TierName::Growth && !rate.is_exact() {
            return Err(Failure::usage(
                "--sample is about calls of the allocator, which --tier growth does not see".to_owned(),
            ));
        }
        let command = &self.target.command;
        let (target, launched, name, tgid) = if let Some(selection) = self.target.selection()? {
            say_if_nobody(&selection);
            let name = name_of(&selection);
            (Target::Selected(selection), None, name, None)
        } else if let [program, ..] = &command[..] {
            let child = Launched::new(command, streams)?;
            let tgid = child.tgid();
            let name = Path::new(program).file_name().unwrap_or(program).to_string_lossy().into_owned();
            (Target::Launched { tgid, command: command.clone() }, Some(child), name, Some(tgid))
        } else {
            let tgid = self.target.pid[0];
            let target = Target::Processes(dedup(&self.target.pid));
            (target, None, process::describe(tgid).name, Some(tgid))
        };
        let follow = self.follow || (launched.is_some() && !self.no_follow);
        if (follow || tgid.is_none()) && self.tier == TierName::Exact {
            log::info!("processes to come are traced: others with the same C library pay for the traps too");
        }
        let memory = self.memory.bound();
        let settings = Settings {
            target,
            follow,
            ring_bytes: self.ring.unwrap_or_else(|| memory.ring_bytes()),
            memory,
            programs: Programs::Trace,
            pools,
            tier: self.tier.into(),
            sample_shift: rate.shift(),
            is_governed: self.max_overhead.is_some() && self.tier != TierName::Growth,
        };
        Ok(Prepared { settings, launched, name, tgid, description: self.target.describe() })
    }
}

/// For a file's name.
fn name_of(selection: &Selection) -> String {
    match selection {
        Selection::All => "all".to_owned(),
        Selection::Names(names) => names.join("+"),
        Selection::Groups(groups) => groups.name(),
    }
}

fn say_if_nobody(selection: &Selection) {
    if selection.is_empty() {
        eprintln!("alloctrace: there are no {} yet; waiting for them", selection.describe());
    }
}

impl TargetArgs {
    fn is_empty(&self) -> bool {
        let Self { pid, name, cgroup, container, all, command } = self;
        pid.is_empty()
            && name.is_empty()
            && cgroup.is_empty()
            && container.is_empty()
            && !all
            && command.is_empty()
    }

    /// What is not a process or a command by itself.
    fn selection(&self) -> Result<Option<Selection>, Failure> {
        // Without any target: what only `watch` allows.
        if self.all || self.is_empty() {
            return Ok(Some(Selection::All));
        }
        if !self.name.is_empty() {
            return Ok(Some(Selection::Names(self.name.clone())));
        }
        if !self.cgroup.is_empty() || !self.container.is_empty() {
            return Ok(Some(Selection::Groups(Groups::find(&self.cgroup, &self.container)?)));
        }
        Ok(None)
    }

    fn describe(&self) -> String {
        if !self.command.is_empty() {
            let words: Vec<_> = self.command.iter().map(|it| it.to_string_lossy()).collect();
            return format!("-- {}", words.join(" "));
        }
        let mut words = Vec::new();
        words.extend(self.pid.iter().map(|it| format!("-p {it}")));
        words.extend(self.name.iter().map(|it| format!("-n {it}")));
        words.extend(self.cgroup.iter().map(|it| format!("--cgroup {it}")));
        words.extend(self.container.iter().map(|it| format!("--container {it}")));
        words.extend((self.all || self.is_empty()).then(|| "-a".to_owned()));
        words.join(" ")
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
