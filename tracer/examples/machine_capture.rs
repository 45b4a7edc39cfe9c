//! Writes the capture of a machine that never ran: `machine_capture OUT PROCESSES SITES INTERVALS`.
//!
//! A tenth of the processes are services that live all the time; the others are compilers that a build makes and that end
//! after two intervals. The heap and the capture's writer are the real ones.

use std::{
    env,
    fs::File,
    io::{self, BufWriter},
    sync::Arc,
};

use alloctrace::{
    capture::{
        CgroupSample, EndRow, Epoch, FrameRow, Header, ModuleRow, ProcessRow, Row, SCHEMA, StackRow, Writer,
    },
    estimate::Rate,
    event::{Event, Frame, ProcessId, StackKey, Stop, Via},
    heap::Heap,
    interval::{Interval, StackFrames},
};

const INTERVAL_NS: u64 = 1_000_000_000;
const SERVICES: [&str; 8] = [
    "postgres",
    "nginx",
    "redis-server",
    "python3.11",
    "java",
    "node",
    "systemd-journald",
    "containerd-shim",
];
const COMPILERS: [&str; 4] = ["cc1plus", "cc1", "as", "sh"];
/// Frames of a stack.
const FRAMES: u64 = 20;
/// Of a service's sites, those that allocate or free in an interval.
const BUSY_SHARE: u64 = 10;
/// Intervals that a compiler lives.
const SHORT: u64 = 2;

const EPOCH: Epoch = Epoch { started_ns: 0, pools: Vec::new() };

fn main() -> io::Result<()> {
    let words: Vec<String> = env::args().skip(1).collect();
    let [out, numbers @ ..] = &words[..] else { return Err(wrong()) };
    let numbers: Vec<u64> = numbers.iter().filter_map(|it| it.parse().ok()).collect();
    let [processes, sites, intervals] = numbers[..] else { return Err(wrong()) };
    let mut writer = Writer::new(BufWriter::new(File::create(out)?), header())?;
    for id in 1..=(SERVICES.len() + COMPILERS.len()) as u32 {
        let path = exe(u64::from(id) - 1);
        writer.row(&Row::Module(ModuleRow { id, path, build_id: Some(format!("{id:040x}")) }))?;
    }
    let mut machine = Machine { heap: Heap::new(0), sites, time_ns: 0, blocks: 0 };
    let services = (processes / 10).max(2);
    for interval in 0..intervals {
        machine.time_ns = interval * INTERVAL_NS;
        let compilers = |at: u64| {
            let until = |it: u64| services + (processes - services) * it / intervals;
            until(at)..until(at + 1)
        };
        for process in 1..=processes {
            let is_service = process <= services;
            let is_new =
                if is_service { interval == 0 } else { compilers(interval).contains(&(process - 1)) };
            if is_new {
                machine.begin(process, services);
            } else if is_service {
                machine.work(process, interval);
            } else if interval >= SHORT && compilers(interval - SHORT).contains(&(process - 1)) {
                machine.time_ns += 1;
                let (process, time_ns) = (ProcessId(process as u32), machine.time_ns);
                machine.heap.apply(&Event::Exit { process, time_ns, status: 0 });
            }
        }
        write(&mut writer, &machine.heap.interval((interval + 1) * INTERVAL_NS))?;
    }
    writer.row(&Row::End(EndRow { t_s: intervals as f64, reason: "duration".to_owned() }))?;
    writer.flush()
}

fn wrong() -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, "wanted OUT PROCESSES SITES INTERVALS")
}

fn header() -> Header {
    Header {
        schema: SCHEMA.to_owned(),
        tool_version: env!("CARGO_PKG_VERSION").to_owned(),
        started: "2026-01-02T03:04:05Z".to_owned(),
        host: "nowhere".to_owned(),
        kernel: "none".to_owned(),
        interval_s: INTERVAL_NS as f64 / 1e9,
        target: "-a".to_owned(),
        ..Header::default()
    }
}

fn exe(program: u64) -> String {
    let names = SERVICES.iter().chain(&COMPILERS);
    format!("/usr/bin/{}", names.copied().nth(program as usize).unwrap_or("?"))
}

/// Of a process, which program it runs.
fn program(process: u64, services: u64) -> u64 {
    if process <= services {
        process % SERVICES.len() as u64
    } else {
        SERVICES.len() as u64 + process % COMPILERS.len() as u64
    }
}

fn write(writer: &mut Writer<BufWriter<File>>, interval: &Interval) -> io::Result<()> {
    for stack in &interval.stacks {
        writer.row(&Row::Stack(stack_row(stack)))?;
    }
    for state in &interval.processes {
        if state.began_ns / INTERVAL_NS == interval.time_ns / INTERVAL_NS - 1 || state.ended.is_some() {
            let exe = format!("/usr/bin/{}", state.name);
            let parent = (state.id.0 > 2).then_some(1 + state.id.0 % 2);
            let cgroup = Some(cgroup(state.id.0));
            writer.row(&Row::Process(ProcessRow { exe, parent, cgroup, ..EPOCH.process_row(state) }))?;
        }
    }
    let mut row = EPOCH.interval_row(interval, |_| Some(30 << 20));
    row.cgroups = (0..20)
        .map(|it| CgroupSample {
            path: cgroup(it),
            memory_bytes: (200 << 20) + interval.time_ns / 1000,
            limit_bytes: Some(1 << 30),
            ..CgroupSample::default()
        })
        .collect();
    writer.row(&Row::Interval(row))?;
    writer.flush()
}

fn cgroup(process: u32) -> String {
    format!("/system.slice/unit-{}.service", process % 20)
}

fn stack_row(stack: &StackFrames) -> StackRow {
    let frame = |it: &Frame| FrameRow {
        module: it.object(),
        offset: it.offset(),
        function: Some(Arc::from(format!("module{}::function_{}", it.object(), it.offset() >> 8))),
    };
    let frames = stack.frames.iter().map(frame).collect();
    StackRow { id: stack.id.0, stop: stack.stop.name().to_owned(), frames }
}

struct Machine {
    heap: Heap,
    sites: u64,
    time_ns: u64,
    blocks: u64,
}

impl Machine {
    fn begin(&mut self, process: u64, services: u64) {
        let program = program(process, services);
        self.time_ns += 1;
        let name = exe(program).rsplit('/').next().unwrap_or_default().into();
        let (id, tgid) = (ProcessId(process as u32), 1000 + process as u32);
        self.heap.apply(&Event::Begin { process: id, time_ns: self.time_ns, tgid, name, break_end: None });
        for site in 0..self.sites {
            let key = StackKey(1 + program * self.sites + site);
            let frames = (0..FRAMES).rev().map(|depth| {
                let branch = site >> (FRAMES - 1 - depth).min(10);
                Frame::new(1 + program as u32, (depth << 20) + (branch << 8))
            });
            self.heap.apply(&Event::Stack { key, stop: Stop::Complete, frames: frames.collect() });
            self.allocate(process, key);
        }
    }

    fn work(&mut self, process: u64, interval: u64) {
        let program = process % SERVICES.len() as u64;
        for at in 0..self.sites / BUSY_SHARE {
            self.allocate(process, StackKey(1 + program * self.sites + (at * 7 + interval * 3) % self.sites));
        }
    }

    fn allocate(&mut self, process: u64, stack: StackKey) {
        self.time_ns += 1;
        self.blocks += 1;
        let size_bytes = 64 << (stack.0 % 8);
        self.heap.apply(&Event::Alloc {
            process: ProcessId(process as u32),
            time_ns: self.time_ns,
            via: Via::Malloc,
            address: 0x1000_0000 + (self.blocks << 16),
            size_bytes,
            stack,
            rate: Rate::EXACT,
        });
    }
}
