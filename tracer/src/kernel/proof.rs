//! Tries proofs about exit sites: a child of ours uses the allocator in all ways that it has, and probes at its entries, inside and at
//! its returns must tell the same story.
//!
//! The trial is of the proof alone: of where probes are, and of what lies there in registers and on the stack.
//!
//! Only a library that we use ourselves can be tried: any other would have to be loaded into a process, and its
//! allocator be used in earnest.

mod exercise;
mod judge;

use std::{
    io::{BufRead as _, BufReader, Write as _},
    num::NonZero,
    os::unix::{fs::MetadataExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    maps::{PerCpuArray, RingBuf},
    programs::{
        UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope},
    },
};
use procfs::process::{MMapPath, MemoryMap, Process};
use tracer_ebpf::{loss::Loss, proof::Step};
use zerocopy::FromBytes as _;

pub use self::exercise::{COMMAND, exercise};
use self::judge::Judge;
use super::{MemoryBound, Tier, load, now_ns, object::Object};
use crate::elf::{
    allocators::Function,
    whole::{Place, Whole},
};

/// The child's answer when it is ready, and what lets it begin.
const READY: &str = "ready\n";

/// Room for what happens between two looks; the exercise makes twenty thousand steps of 48 bytes.
const SIZES: load::Sizes =
    load::Sizes { ring_bytes: 4 << 20, rows: 1024, blocks: 1024, memory: MemoryBound(0) };

/// A child that takes longer is stuck.
const PATIENCE: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(1);

/// For each proof whether it holds; `None` of what the exercise did not reach. Nothing at all if this is no library of ours.
///
/// # Errors
/// If the child or its probes cannot be had, or not all was seen.
pub(super) fn run(object: &Object, proved: &[(&Function, &Whole)]) -> Result<Option<Vec<Option<bool>>>> {
    if !is_ours(object)? {
        return Ok(None);
    }
    let path = object.held_path().context("the vDSO has no allocator")?;
    let started_ns = now_ns();
    let elapsed = || Duration::from_nanos(now_ns().saturating_sub(started_ns));
    let mut child = Trainee::start()?;
    let mut ebpf = load::load(SIZES, false, Tier::Exact, None)?;
    let mut links: Vec<Box<dyn Send>> = Vec::new();
    for (number, (function, whole)) in proved.iter().enumerate() {
        let leave = [("proof_leave", function.site_offset(), function.cookie())];
        let at =
            |it: &Place| (function.file_offset.wrapping_add_signed(it.offset), it.cookie(function.cookie()));
        let ends = whole.ends.iter().map(at).map(|(offset, cookie)| ("proof_end", offset, cookie));
        let begins = whole.begins.iter().map(at).map(|(offset, cookie)| ("proof_begin", offset, cookie));
        let enter = [("proof_enter", function.site_offset(), function.cookie())];
        for (program, offset, cookie) in leave.into_iter().chain(ends).chain(begins).chain(enter) {
            let cookie = cookie.with_via(number as u8);
            links.push(attach(&mut ebpf, program, &path, offset, cookie.0, child.child.id())?);
        }
    }
    let mut ring = RingBuf::try_from(ebpf.take_map("RING").context("map RING")?)?;
    let losses: PerCpuArray<_, u64> = PerCpuArray::try_from(ebpf.take_map("LOSSES").context("map LOSSES")?)?;
    let attached = elapsed();
    child.begin()?;
    let mut judge = Judge::new(proved.len());
    loop {
        let is_over = child.is_over()?;
        while let Some(bytes) = ring.next() {
            judge.see(*Step::ref_from_bytes(&bytes).ok().context("a step of another form")?);
        }
        if is_over {
            break;
        }
        if elapsed() > PATIENCE {
            bail!("the child does not end");
        }
        std::thread::sleep(PAUSE);
    }
    let lost: u64 = losses.get(&(Loss::LostEvents as u32), 0)?.iter().sum();
    if lost > 0 {
        bail!("{lost} steps were lost");
    }
    let verdicts = judge.verdicts();
    log::info!(
        "{}: the proofs about {} functions were tried with {} calls in {:?}, {attached:?} of it to place the probes",
        object.path,
        proved.len(),
        judge.calls,
        elapsed()
    );
    // The kernel waits for each until nobody can be inside of it.
    std::thread::spawn(move || drop((links, ebpf)));
    Ok(Some(verdicts))
}

/// Whether this very file is mapped here, and so in a child too that is this program.
fn is_ours(object: &Object) -> Result<bool> {
    let Some(file) = &object.file else { return Ok(false) };
    let inode = file.metadata()?.ino();
    let maps = Process::myself()?.maps()?;
    let is_it = |it: &MemoryMap| {
        it.inode == inode && matches!(&it.pathname, MMapPath::Path(path) if *path == Path::new(&object.path))
    };
    Ok(maps.iter().any(is_it))
}

fn attach(
    ebpf: &mut Ebpf,
    program: &str,
    path: &str,
    offset: u64,
    cookie: u64,
    pid: u32,
) -> Result<Box<dyn Send>> {
    let probe: &mut UProbe =
        ebpf.program_mut(program).with_context(|| format!("program {program}"))?.try_into()?;
    if probe.fd().is_err() {
        probe.load().with_context(|| format!("load {program}"))?;
    }
    let location = UProbeAttachLocation::AbsoluteOffset(offset);
    let scope = UProbeScope::OneProcess(NonZero::new(pid).context("pid 0 is no process")?);
    let id = probe.attach(UProbeAttachPoint { location, cookie: Some(cookie) }, path, scope)?;
    Ok(Box::new(probe.take_link(id)?))
}

/// The child that uses the allocator.
struct Trainee {
    child: Child,
}

impl Trainee {
    fn start() -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("alloctrace")
            .arg(COMMAND)
            .env_remove("LD_PRELOAD")
            .env_remove("GLIBC_TUNABLES")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start the child")?;
        let out = child.stdout.take().context("its pipe")?;
        let trainee = Self { child };
        let mut line = String::new();
        BufReader::new(out).read_line(&mut line).context("the child's answer")?;
        if line != READY {
            bail!("the child answers {line:?}");
        }
        Ok(trainee)
    }

    fn begin(&mut self) -> Result<()> {
        let mut pipe = self.child.stdin.take().context("the pipe to the child")?;
        pipe.write_all(b"!").context("begin")
    }

    fn is_over(&mut self) -> Result<bool> {
        match self.child.try_wait().context("wait for the child")? {
            Some(status) if !status.success() => bail!("the child ended with {status}"),
            status => Ok(status.is_some()),
        }
    }
}

impl Drop for Trainee {
    fn drop(&mut self) {
        // It is ours, and has nothing to lose.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
