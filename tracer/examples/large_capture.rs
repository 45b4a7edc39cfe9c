//! Writes the capture of a large program that never ran: `large_capture OUT SITES INTERVALS`.
//!
//! The heap and the capture's writer are the real ones, so that cohorts, counters and rows are what a recording would
//! hold; only the events are made up, the same in every run. `cargo xtask bench reports` measures reports with it.

use std::{
    collections::VecDeque,
    env,
    fs::File,
    io::{self, BufWriter, Write},
    sync::Arc,
};

use alloctrace::{
    capture::{EndRow, Epoch, FrameRow, Header, ModuleRow, ProcessRow, Row, SCHEMA, StackRow, Writer},
    estimate::Rate,
    event::{Event, Frame, ProcessId, StackKey, Stop, Via},
    heap::Heap,
    interval::{Interval, StackFrames},
};

const PROCESS: ProcessId = ProcessId(1);
const INTERVAL_NS: u64 = 1_000_000_000;
/// Half of all sites are met while the program starts, in this many intervals; the others one after the other.
const START: u64 = 50;
/// Sites that allocate or free in an interval, besides those that are new in it.
const BUSY: u64 = 300;
/// Of these, sites that allocate in each interval and free nothing: leaks.
const GROWING: u64 = 5;
/// Frames that all stacks have in common, as a server's loop and its dispatch.
const COMMON_FRAMES: u64 = 9;
/// Below them, each frame halves the sites that share it: 16 of them tell 50,000 sites apart.
const OWN_FRAMES: u64 = 16;
/// Distinct functions of the program.
const FUNCTIONS: u64 = 4000;

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % limit.max(1)
    }
}

/// Times are given as they are to be written.
const EPOCH: Epoch = Epoch { started_ns: 0, pools: Vec::new() };

fn main() -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [out, sites, intervals] = &words[..] else { return Err(wrong("wanted OUT SITES INTERVALS")) };
    let number = |it: &str| it.parse().map_err(|_| wrong(&format!("{it:?} is not a number")));
    let (sites, intervals) = (number(sites)?, number(intervals)?);
    let mut program = Program::new();
    let mut writer = Writer::new(BufWriter::new(File::create(out)?), header())?;
    for (id, path) in [(1, "/opt/shop/bin/server"), (2, "/opt/shop/lib/libengine.so"), (3, "/lib/libc.so.6")]
    {
        let build_id = Some(format!("{:032x}", u128::from(hash(id, 0)) << 64 | u128::from(hash(0, id))));
        writer.row(&Row::Module(ModuleRow { id: id as u32, path: path.to_owned(), build_id }))?;
    }
    for interval in 1..=intervals {
        program.run(interval, met(interval - 1, sites, intervals)..met(interval, sites, intervals));
        write(&mut writer, &program.heap.interval(interval * INTERVAL_NS))?;
    }
    writer.row(&Row::End(EndRow { t_s: intervals as f64, reason: "duration".to_owned() }))?;
    writer.flush()
}

fn wrong(message: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

fn header() -> Header {
    Header {
        schema: SCHEMA.to_owned(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        started: "2026-01-02T03:04:05Z".to_owned(),
        host: "nowhere".to_owned(),
        kernel: "none".to_owned(),
        interval_s: INTERVAL_NS as f64 / 1e9,
        target: "-p 4242".to_owned(),
        ..Header::default()
    }
}

/// How many of all sites have been met after an interval.
fn met(interval: u64, sites: u64, intervals: u64) -> u64 {
    let (start, early) = (START.min(intervals), sites / 2);
    early * interval.min(start) / start + (sites - early) * interval / intervals
}

fn write<W: Write>(writer: &mut Writer<W>, interval: &Interval) -> io::Result<()> {
    for stack in &interval.stacks {
        writer.row(&Row::Stack(stack_row(stack)))?;
    }
    if interval.time_ns == INTERVAL_NS {
        for state in &interval.processes {
            let (command, exe) =
                ("/opt/shop/bin/server --port 80".to_owned(), "/opt/shop/bin/server".to_owned());
            writer.row(&Row::Process(ProcessRow { command, exe, ..EPOCH.process_row(state) }))?;
        }
    }
    // What the program asked for, a sixth more for the allocator, and what was there before.
    let live_bytes = interval.processes.iter().map(|it| it.live.bytes as u64).sum::<u64>();
    let row = EPOCH.interval_row(interval, |_| Some((40 << 20) + live_bytes * 7 / 6));
    writer.row(&Row::Interval(row))?;
    writer.flush()
}

fn stack_row(stack: &StackFrames) -> StackRow {
    let frame = |it: &Frame| FrameRow {
        module: it.object(),
        offset: it.offset(),
        function: Some(Arc::from(function(it.offset() >> 12))),
    };
    let frames = stack.frames.iter().map(frame).collect();
    StackRow { id: stack.id.0, stop: stack.stop.name().to_owned(), frames }
}

/// As long as names of generic code are.
fn function(number: u64) -> String {
    const ROOMS: [&str; 8] = ["order", "basket", "price", "stock", "session", "search", "render", "parser"];
    const VERBS: [&str; 8] = ["insert", "update", "visit", "decode", "collect", "resolve", "fetch", "build"];
    let (room, verb) = (ROOMS[(number % 8) as usize], VERBS[(number / 8 % 8) as usize]);
    format!("shop::{room}::{verb}_{number}<alloc::vec::Vec<shop::{room}::Item>>::{{{{closure}}}}")
}

fn hash(a: u64, b: u64) -> u64 {
    let mut word = (a ^ b.rotate_left(32)).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    word ^= word >> 29;
    word.wrapping_mul(0xbf58_476d_1ce4_e5b9) ^ (word >> 32)
}

struct Program {
    heap: Heap,
    numbers: Numbers,
    /// Live blocks of each site, the oldest first.
    blocks: Vec<VecDeque<u64>>,
    next_address: u64,
    time_ns: u64,
}

impl Program {
    fn new() -> Self {
        let mut heap = Heap::new(0);
        let (name, time_ns) = ("server".into(), 0);
        heap.apply(&Event::Begin { process: PROCESS, time_ns, tgid: 4242, name, break_end: None });
        Self { heap, numbers: Numbers(1), blocks: Vec::new(), next_address: 0x7f00_0000_0000, time_ns: 0 }
    }

    /// One interval, in which `new` sites are met.
    fn run(&mut self, interval: u64, new: std::ops::Range<u64>) {
        self.time_ns = (interval - 1) * INTERVAL_NS;
        for site in new {
            let (key, frames) = (StackKey(hash(7, site)), frames(site).into());
            self.heap.apply(&Event::Stack { key, stop: Stop::Complete, frames });
            self.blocks.push(VecDeque::new());
            for _ in 0..=self.numbers.below(20) {
                self.allocate(site);
            }
        }
        let known = self.blocks.len() as u64;
        for at in 0..BUSY {
            // The product of two numbers prefers the small ones: a few sites are busy all the time.
            let busy = self.numbers.below(known) * self.numbers.below(known) / known.max(1);
            let site = if at < GROWING { at } else { busy };
            for _ in 0..=self.numbers.below(8) {
                self.allocate(site);
                if at >= GROWING {
                    self.free_oldest(site);
                }
            }
        }
    }

    fn allocate(&mut self, site: u64) {
        self.time_ns += 1;
        let address = self.next_address;
        let size_bytes = 16 << (hash(site, 3) % 9);
        self.next_address += size_bytes;
        let (time_ns, stack) = (self.time_ns, StackKey(hash(7, site)));
        self.heap.apply(&Event::Alloc {
            process: PROCESS,
            time_ns,
            via: Via::Malloc,
            address,
            size_bytes,
            stack,
            rate: Rate::EXACT,
        });
        self.blocks[site as usize].push_back(address);
    }

    fn free_oldest(&mut self, site: u64) {
        let Some(address) = self.blocks[site as usize].pop_front() else { return };
        self.time_ns += 1;
        self.heap.apply(&Event::Free { process: PROCESS, time_ns: self.time_ns, address, thread: 0 });
    }
}

/// The stack of a site, innermost first: its number read as a way down a tree of calls.
fn frames(site: u64) -> Vec<Frame> {
    let common = (0..COMMON_FRAMES).map(|depth| frame(depth, 0));
    let own =
        (0..OWN_FRAMES).map(|depth| frame(COMMON_FRAMES + depth, 1 + (site >> (OWN_FRAMES - 1 - depth))));
    let mut frames: Vec<Frame> = common.chain(own).collect();
    frames.reverse();
    frames
}

fn frame(depth: u64, branch: u64) -> Frame {
    let function = hash(depth, branch) % FUNCTIONS;
    // The outermost are the C library's. A function calls from several places.
    let module = if depth < 2 { 3 } else { 1 + function as u32 % 2 };
    Frame::new(module, (function << 12) + hash(branch, depth) % 4096)
}
