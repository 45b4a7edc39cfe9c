//! Loads the BPF object into the kernel, told what it must know of this machine.

use std::{collections::BTreeSet, fs, num::NonZero, path::Path, sync::Mutex, thread};

use anyhow::{Context as _, Result, anyhow, bail};
use aya::{
    Ebpf, EbpfLoader,
    maps::Array,
    programs::{Program, ProgramError, RawTracePoint, TracePoint, UProbe},
};
use tracer_ebpf::{config::Config, mapping::FIRST_KERNEL_OBJECT};

use super::{MemoryBound, Tier, btf::Btf, cgroup::Hierarchy, multi::Multi, tracefs};

/// The kernel's description of its own types.
pub(crate) const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Built by `cargo xtask bpf`.
pub(super) static OBJECT: &[u8] = aya::include_bytes_aligned!("../../bpf/probes.o");

/// Sizes that depend on the machine or on the target.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sizes {
    pub(crate) ring_bytes: u32,
    /// In words; an element of the array is two.
    pub(crate) rows: u32,
    /// Likewise.
    pub(crate) blocks: u32,
    pub(crate) memory: MemoryBound,
}

/// Stacks that the probes know user space to have, and pages of text whose file they know: caches, which are smaller under
/// a smaller bound of our memory than this.
const SEEN_STACKS: usize = 1 << 17;
const KNOWN_PAGES: usize = 1 << 15;
const CACHES_BOUND_BYTES: u64 = 256 << 20;

/// The kernel keeps a part of such a map for each processor.
const MIN_CACHED: usize = 1 << 12;

/// Of so many page faults one is looked at, or of more where there are many: a sample stands for 128 KiB, so that ten
/// megabytes are known to a quarter.
const FAULT_EVERY: u32 = 32;

/// The same where a fault may bring a page of 2 MiB: there are few, and each weighs much.
const FAULT_EVERY_LARGE: u32 = 4;

/// Places to walk stacks in, of 21 KiB. Threads share them by their ids, and one that finds another's has nothing to build on;
/// a walk that finds four next to each other in use, by threads that were preempted in the middle, is refused.
const SCRATCHES_PER_CPU: u32 = 16;
const LEAST_SCRATCHES: u32 = 128;

/// Whether the kernel gives large pages to those that did not ask for them.
fn gives_large_pages() -> bool {
    const ROOT: &str = "/sys/kernel/mm/transparent_hugepage";
    let chosen =
        |path: &Path, mode: &str| fs::read_to_string(path).is_ok_and(|it| it.contains(&format!("[{mode}]")));
    let always = chosen(&Path::new(ROOT).join("enabled"), "always");
    let sizes = fs::read_dir(ROOT).into_iter().flatten().filter_map(Result::ok);
    sizes
        .map(|it| it.path().join("enabled"))
        .any(|it| chosen(&it, "always") || always && chosen(&it, "inherit"))
        || always
}

/// Of how many page faults one is looked at.
pub(crate) fn fault_every() -> u32 {
    if gives_large_pages() { FAULT_EVERY_LARGE } else { FAULT_EVERY }
}

/// Whether the kernel announces each resident page: it does since Linux 6.2, where the counts of a process became
/// counters for each CPU.
pub(crate) fn announces_pages() -> bool {
    fs::read(BTF_PATH).is_ok_and(|bytes| {
        Btf::parse(&bytes).is_some_and(|it| it.offset("mm_struct", &["rss_stat", "count"]).is_none())
    })
}

/// Loads the object and its maps; no program runs yet. `hierarchy` is that of the control groups to look for.
///
/// # Errors
/// What is missing: type information, a structure member, a tracepoint, or what the kernel said.
pub(crate) fn load(sizes: Sizes, follow: bool, tier: Tier, hierarchy: Option<&Hierarchy>) -> Result<Ebpf> {
    let own_tgid = std::process::id();
    let always_large = gives_large_pages();
    let fault_every = if tier == Tier::Exact { 0 } else { self::fault_every() };
    let cpus =
        aya::util::nr_cpus().map_err(|(file, error)| anyhow!(error).context(format!("read {file}")))?;
    let scratches = (cpus as u32 * SCRATCHES_PER_CPU).next_power_of_two().max(LEAST_SCRATCHES);
    let cached = |count: usize| sizes.memory.scaled(count, CACHES_BOUND_BYTES).max(MIN_CACHED) as u32;
    let config = Config {
        scratch_mask: scratches - 1,
        follow: follow.into(),
        wake_bytes: sizes.ring_bytes / 4,
        fault_every,
        always_large: always_large.into(),
        own_tgid,
        ..machine_config(hierarchy)?
    };
    let mut ebpf = EbpfLoader::new()
        .map_max_entries("RING", sizes.ring_bytes)
        .map_max_entries("ROWS", sizes.rows.div_ceil(2))
        .map_max_entries("BLOCKS", sizes.blocks.div_ceil(2))
        .map_max_entries("SEEN", cached(SEEN_STACKS))
        .map_max_entries("PAGES", cached(KNOWN_PAGES))
        .map_max_entries("SCRATCH", scratches)
        .load(OBJECT)
        .context("load the BPF object")?;
    Array::try_from(ebpf.map_mut("CONFIG").context("map CONFIG")?)?.set(0, config, 0)?;
    let mut next: Array<_, u32> = Array::try_from(ebpf.map_mut("NEXT").context("map NEXT")?)?;
    next.set(0, FIRST_KERNEL_OBJECT, 0)?;
    Ok(ebpf)
}

/// How probes in allocator functions are linked to their programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Links {
    /// One link for each, which can be told to see one process only.
    Single,
    /// One link for many, where the kernel has it.
    Multi,
}

/// Which programs a run may need, and which of them at once. To verify all of them takes the kernel half a second.
#[derive(Clone, Debug)]
pub(crate) struct Needs {
    pub(crate) links: Links,
    /// Those in allocator functions that are loaded at once; others are when there is a function for them.
    pub(crate) calls: Calls,
    /// Those in the user's own pools.
    pub(crate) pools: bool,
    /// Those of page faults.
    pub(crate) faults: bool,
}

/// How the names of programs begin that are no part of a trace; see [`super::proof`].
const PROOF: &str = "proof_";

/// Programs in allocator functions.
#[derive(Clone, Debug)]
pub(crate) enum Calls {
    None,
    /// By name.
    These(BTreeSet<&'static str>),
    All,
}

impl Needs {
    pub(crate) fn all(links: Links) -> Self {
        Self { links, calls: Calls::All, pools: true, faults: true }
    }

    /// What may be needed in this run.
    fn wants(&self, program: &str) -> bool {
        match program {
            "resident" | "user_fault" | "kernel_fault" | "enter_madvise" => self.faults,
            _ if program.starts_with(PROOF) => false,
            _ => self.pools || !program.starts_with("pool_"),
        }
    }

    /// What is needed in an allocator function at once.
    fn begins_with(&self, program: &str) -> bool {
        match &self.calls {
            Calls::None => false,
            Calls::These(names) => names.contains(program),
            Calls::All => self.wants(program),
        }
    }
}

/// Loads the programs, so that what the verifier refuses is known before anything is attached. With
/// [`Links::Multi`] the answer is `None` where the kernel has no such links; then all is ready for single ones.
///
/// # Errors
/// The program, and the last lines of what the verifier said.
pub(crate) fn load_programs(ebpf: &mut Ebpf, needs: &Needs) -> Result<Option<Multi>> {
    let tracepoints = ebpf.programs_mut().filter(|(name, _)| needs.wants(name));
    side_by_side(tracepoints.collect(), |(name, program)| {
        let loaded = match program {
            Program::TracePoint(it) => TracePoint::load(it),
            Program::RawTracePoint(it) => RawTracePoint::load(it),
            _ => return Ok(()),
        };
        loaded.map_err(|error| explain(name, error))
    })?;
    if matches!(needs.calls, Calls::None) {
        return Ok(None);
    }
    if needs.links == Links::Multi {
        match Multi::load(ebpf, OBJECT, |program| needs.begins_with(program)) {
            Ok(multi) => return Ok(Some(multi)),
            Err(error) => log::info!("each probe gets a link of its own: {error:#}"),
        }
    }
    let probes = ebpf.programs_mut().filter(|(name, _)| needs.begins_with(name));
    side_by_side(probes.collect(), |(name, program)| match program {
        Program::UProbe(it) => UProbe::load(it).map_err(|error| explain(name, error)),
        _ => Ok(()),
    })?;
    Ok(None)
}

/// Does something with each of `all`, as many at the same time as there are processors: the verifier uses one for each
/// program.
///
/// # Errors
/// One of those that occurred.
pub(super) fn side_by_side<T: Send>(all: Vec<T>, act: impl Fn(T) -> Result<()> + Sync) -> Result<()> {
    /// Verifying, each takes megabytes.
    const MOST: usize = 8;
    let threads = thread::available_parallelism().map_or(1, NonZero::get).min(MOST).min(all.len());
    let all = Mutex::new(all);
    let next = || all.lock().ok()?.pop();
    let work = || std::iter::from_fn(next).try_for_each(&act);
    thread::scope(|scope| {
        let others: Vec<_> = (1..threads).map(|_| scope.spawn(work)).collect();
        let mine = work();
        let theirs = others.into_iter().map(|it| it.join().unwrap_or_else(|_| bail!("a thread panicked")));
        mine.and(theirs.collect())
    })
}

/// A verifier log can have thousands of lines; the reason is at its end.
pub(crate) const LOG_TAIL_LINES: usize = 12;

fn explain(name: &str, error: ProgramError) -> anyhow::Error {
    let tail = match &error {
        ProgramError::LoadError { verifier_log, .. } => {
            let log = verifier_log.to_string();
            let lines: Vec<&str> = log.lines().collect();
            lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
        }
        _ => String::new(),
    };
    anyhow!(error).context(format!("load the BPF program {name}\n{tail}"))
}

/// The offsets of everything that the probes read out of the kernel.
fn machine_config(hierarchy: Option<&Hierarchy>) -> Result<Config> {
    let bytes = fs::read(BTF_PATH).with_context(|| {
        format!("read {BTF_PATH} (the kernel must be built with CONFIG_DEBUG_INFO_BTF=y)")
    })?;
    let btf =
        Btf::parse(&bytes).with_context(|| format!("{BTF_PATH}: not type information of a known form"))?;
    let offset = |structure: &str, path: &[&str]| {
        btf.offset(structure, path)
            .with_context(|| format!("{BTF_PATH}: no member {} in {structure}", path.join(".")))
    };
    // Named anew in Linux 6.7 and 6.11.
    let modified = |old: &str, new: &str| {
        let of = |path: &[&str]| btf.offset("inode", path);
        let found = of(&[new]).or_else(|| of(&["__i_mtime", old])).or_else(|| of(&["i_mtime", old]));
        found.with_context(|| format!("{BTF_PATH}: no member {new} in inode"))
    };
    let new_task = tracefs::Format::read("task", "task_newtask")?;
    let victim = tracefs::Format::read("oom", "mark_victim")?;
    // Kernels before Linux 6.8 tell only who it is.
    let told = |field: &str| victim.offset(field).unwrap_or(0);
    let groups = match hierarchy {
        Some(hierarchy) => group_config(&btf, hierarchy)
            .with_context(|| format!("{BTF_PATH}: this kernel's control groups are not of a known form"))?,
        None => Config::default(),
    };
    Ok(Config {
        vma_start: offset("vm_area_struct", &["vm_start"])?,
        vma_end: offset("vm_area_struct", &["vm_end"])?,
        vma_flags: offset("vm_area_struct", &["vm_flags"])?,
        vma_file_offset: offset("vm_area_struct", &["vm_pgoff"])?,
        vma_file: offset("vm_area_struct", &["vm_file"])?,
        file_inode: offset("file", &["f_inode"])?,
        inode_number: offset("inode", &["i_ino"])?,
        inode_super_block: offset("inode", &["i_sb"])?,
        inode_modified_s: modified("tv_sec", "i_mtime_sec")?,
        inode_modified_ns: modified("tv_nsec", "i_mtime_nsec")?,
        super_block_device: offset("super_block", &["s_dev"])?,
        task_mm: offset("task_struct", &["mm"])?,
        task_signal: offset("task_struct", &["signal"])?,
        task_min_flt: offset("task_struct", &["min_flt"])?,
        task_maj_flt: offset("task_struct", &["maj_flt"])?,
        task_pagefault_disabled: offset("task_struct", &["pagefault_disabled"])?,
        task_exit_code: offset("task_struct", &["exit_code"])?,
        signal_live: offset("signal_struct", &["live"])?,
        signal_flags: offset("signal_struct", &["flags"])?,
        mm_start_code: offset("mm_struct", &["start_code"])?,
        mm_vdso: offset("mm_struct", &["context", "vdso"])?,
        newtask_pid: new_task.offset("pid")?,
        newtask_clone_flags: new_task.offset("clone_flags")?,
        victim_pid: victim.offset("pid")?,
        victim_total_vm: told("total_vm"),
        victim_anon_rss: told("anon_rss"),
        victim_file_rss: told("file_rss"),
        victim_shmem_rss: told("shmem_rss"),
        victim_page_tables: told("pgtables"),
        victim_uid: told("uid"),
        victim_oom_score_adj: told("oom_score_adj"),
        mm_arg_start: offset("mm_struct", &["arg_start"])?,
        mm_arg_end: offset("mm_struct", &["arg_end"])?,
        file_dentry: offset("file", &["f_path", "dentry"])?,
        dentry_name: offset("dentry", &["d_name", "name"])?,
        dentry_parent: offset("dentry", &["d_parent"])?,
        ..groups
    })
}

/// The way from a task to its control group, and from there to the root.
fn group_config(btf: &Btf<'_>, hierarchy: &Hierarchy) -> Option<Config> {
    const POINTER_BYTES: u32 = 8;
    let css_set_start = match hierarchy.subsystem() {
        Some(name) => {
            let place = u32::try_from(btf.enumerator(&name)?).ok()?;
            btf.offset("css_set", &["subsys"])? + POINTER_BYTES * place
        }
        None => btf.offset("css_set", &["dfl_cgrp"])?,
    };
    Some(Config {
        task_cgroups: btf.offset("task_struct", &["cgroups"])?,
        css_set_start,
        css_cgroup: btf.offset("cgroup_subsys_state", &["cgroup"])?,
        cgroup_parent: btf.offset("cgroup", &["self", "parent"])?,
        cgroup_kernfs: btf.offset("cgroup", &["kn"])?,
        kernfs_id: btf.offset("kernfs_node", &["id"])?,
        hierarchy_is_v2: (*hierarchy == Hierarchy::V2).into(),
        ..Config::default()
    })
}

/// Whether the kernel describes its own types.
pub(crate) fn has_btf() -> bool {
    Path::new(BTF_PATH).exists()
}
