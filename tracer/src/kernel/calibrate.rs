//! What a trap costs here and now: a child of ours calls malloc and free of the C library, without probes and with programs
//! that do nothing.
//!
//! The programs themselves are not measured in the child: the kernel counts how long they take where they are at work.

use std::{
    io::{self, BufRead as _, BufReader, Write as _},
    num::NonZero,
    os::unix::{fs::FileExt as _, process::CommandExt as _},
    path::Path,
    process::{Child, ChildStdin, ChildStdout, Command, Stdio},
};

use anyhow::{Context as _, Result, bail};
use aya::{
    Ebpf,
    programs::{
        UProbe,
        uprobe::{UProbeAttachLocation, UProbeAttachPoint, UProbeScope},
    },
};

use super::{multi::Multi, now_ns, object::Object, objects::Objects, price::Traps, process, sys};
use crate::elf::{
    allocators::{End, Function},
    site,
};

/// The name of the hidden command that is the child.
pub const CALIBRATE_COMMAND: &str = "__calibrate";

/// Calls of malloc and free in one go: some milliseconds.
const PAIRS: u32 = 2000;

/// The same where each is single-stepped.
const STEPPED_PAIRS: u32 = 500;

/// What the child goes through between two calls, so that it needs again what a trap has taken from its cache: as large as
/// the first cache of a CPU.
const DATA_BYTES: usize = 32 << 10;
const LINE_BYTES: usize = 64;

/// Of so many goes the quickest counts: in the others something else came between.
const GOES: u32 = 3;

/// What a trap costs here, or elsewhere if that cannot be measured.
pub(super) fn traps(ebpf: &mut Ebpf, multi: Option<&Multi>, objects: &Objects) -> Traps {
    let begun_ns = now_ns();
    let measured = calibrate(ebpf, multi, objects);
    match &measured {
        Ok(traps) => log::info!("calibrated in {} ms: {traps:?}", (now_ns() - begun_ns) / 1_000_000),
        Err(error) => log::warn!("what a probe costs here was not measured: {error:#}"),
    }
    measured.unwrap_or_default()
}

/// # Errors
/// If the child cannot be made or probed, or its C library is not of a known kind.
fn calibrate(ebpf: &mut Ebpf, multi: Option<&Multi>, objects: &Objects) -> Result<Traps> {
    let mut loops = Loops::start()?;
    // By the time it answers it has mapped everything.
    loops.pair_ns(1, 1)?;
    let tgid = loops.child.id();
    let mut read = None;
    let library = library(tgid, objects, &mut read).context("the child has no C library that is known")?;
    let named = |name: &str| library.functions.iter().find(|it| it.name == name);
    let (Some(malloc), Some(free)) = (named("malloc"), named("free")) else { bail!("no malloc") };
    if malloc.site.is_single_step() || free.site.is_single_step() {
        bail!("every probe in {} is single-stepped", library.path);
    }
    let path = library.held_path().context("it has no file")?;
    let mut placed = Placed { ebpf, multi, tgid, path, links: Vec::new() };

    let bare_ns = loops.pair_ns(PAIRS, GOES)?;
    placed.add("floor_enter", free.site_offset())?;
    let freed_ns = loops.pair_ns(PAIRS, GOES)?;
    if malloc.end == End::Return {
        placed.add("floor_leave", malloc.site_offset())?;
    }
    placed.add("floor_enter", malloc.site_offset())?;
    let both_ns = loops.pair_ns(PAIRS, GOES)?;
    let entry_ns = (freed_ns - bare_ns).max(0.0);
    let default = Traps::default();
    let return_ns = match malloc.end {
        End::Return => (both_ns - freed_ns - entry_ns).max(0.0),
        // Nobody needs it.
        _ => default.return_ns * entry_ns / default.entry_ns,
    };
    let step_ns = match stepped_offset(library, malloc) {
        Some(offset) => {
            placed.add("floor_enter", offset)?;
            (loops.pair_ns(STEPPED_PAIRS, GOES)? - both_ns).max(entry_ns)
        }
        None => default.step_ns * entry_ns / default.entry_ns,
    };
    let links = placed.links;
    // The kernel waits at each. The child has ended by then, so that nobody meets them.
    drop(loops);
    std::thread::spawn(move || drop(links));
    Ok(Traps { entry_ns, return_ns, step_ns, is_calibrated: true })
}

/// The object with the malloc of a process; `read` holds it if nobody else does.
fn library<'a>(tgid: u32, objects: &'a Objects, read: &'a mut Option<Object>) -> Option<&'a Object> {
    let is_it =
        |it: &Object| ["malloc", "free"].iter().all(|name| it.functions.iter().any(|f| f.name == *name));
    let mappings = process::code_mappings(tgid).ok()?;
    if let Some(known) = mappings.iter().find_map(|it| objects.at(Path::new(&it.path)).filter(|it| is_it(it)))
    {
        return Some(known);
    }
    let mut others = mappings.iter().filter(|it| objects.at(Path::new(&it.path)).is_none());
    *read = others.find_map(|it| Object::of_mapping(tgid, it).ok().filter(is_it));
    read.as_ref()
}

fn stepped_offset(library: &Object, function: &Function) -> Option<u64> {
    let mut code = [0; 64];
    library.file.as_ref()?.read_exact_at(&mut code, function.file_offset).ok()?;
    let offset = function.file_offset + u64::from(site::single_stepped(&code)?);
    (offset != function.site_offset()).then_some(offset)
}

/// Probes in the child.
struct Placed<'a> {
    ebpf: &'a mut Ebpf,
    multi: Option<&'a Multi>,
    tgid: u32,
    path: String,
    links: Vec<Box<dyn Send>>,
}

impl Placed<'_> {
    fn add(&mut self, program: &str, offset: u64) -> Result<()> {
        if let Some(multi) = self.multi {
            self.links.push(Box::new(multi.attach(program, &self.path, &[(offset, 0)], Some(self.tgid))?));
            return Ok(());
        }
        let probe: &mut UProbe = self.ebpf.program_mut(program).context("no such program")?.try_into()?;
        if probe.fd().is_err() {
            probe.load()?;
        }
        let location = UProbeAttachLocation::AbsoluteOffset(offset);
        let scope = UProbeScope::OneProcess(NonZero::new(self.tgid).context("pid 0 is no process")?);
        let id = probe.attach(UProbeAttachPoint { location, cookie: None }, &self.path, scope)?;
        self.links.push(Box::new(probe.take_link(id)?));
        Ok(())
    }
}

/// The child.
struct Loops {
    child: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Loops {
    fn start() -> Result<Self> {
        let mut child = Command::new("/proc/self/exe")
            .arg0("alloctrace")
            .arg(CALIBRATE_COMMAND)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .context("start the child that probes are measured in")?;
        let orders = child.stdin.take();
        let answers = BufReader::new(child.stdout.take().context("the child's answers")?);
        Ok(Self { child, orders, answers })
    }

    /// CPU time of a malloc and a free.
    fn pair_ns(&mut self, pairs: u32, goes: u32) -> Result<f64> {
        let mut least_ns = f64::INFINITY;
        for _ in 0..goes {
            let orders = self.orders.as_mut().context("the child's orders")?;
            writeln!(orders, "{pairs}")?;
            let mut answer = String::new();
            self.answers.read_line(&mut answer)?;
            let total_ns: f64 =
                answer.trim().parse().context("the child that probes are measured in has ended")?;
            least_ns = least_ns.min(total_ns / f64::from(pairs));
        }
        Ok(least_ns)
    }
}

impl Drop for Loops {
    /// It ends when it gets no more orders.
    fn drop(&mut self) {
        drop(self.orders.take());
        let _ = self.child.wait();
    }
}

/// The child: for each line with a number it makes so many calls, and writes the nanoseconds of CPU time that they took. In
/// a second thread, as the work of many programs is done.
///
/// # Errors
/// If it cannot write, or there is no memory.
pub fn run_child() -> io::Result<()> {
    let work = || -> io::Result<()> {
        let data = vec![1u8; DATA_BYTES];
        for line in io::stdin().lines() {
            let pairs: u32 = line?.parse().map_err(io::Error::other)?;
            let before_ns = thread_ns();
            for _ in 0..pairs {
                std::hint::black_box(sys::LibcBlock::new(32, 1)?);
                let sum = |sum: u64, it: &u8| sum + u64::from(*it);
                std::hint::black_box(data.iter().step_by(LINE_BYTES).fold(0, sum));
            }
            let taken_ns = thread_ns() - before_ns;
            let mut out = io::stdout();
            writeln!(out, "{taken_ns}")?;
            out.flush()?;
        }
        Ok(())
    };
    std::thread::spawn(work).join().map_err(|_| io::Error::other("the loop panicked"))?
}

fn thread_ns() -> u64 {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64
}
