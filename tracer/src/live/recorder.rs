//! Names new stacks and hands the rows of a run on, on a thread of its own: neither may keep the ring waiting.

use std::{
    collections::HashMap,
    io,
    os::fd::AsRawFd as _,
    sync::{
        Arc,
        mpsc::{Receiver, SyncSender, sync_channel},
    },
    thread::{self, JoinHandle},
};

use anyhow::{Context as _, Result, anyhow};

use super::{About, Sink, Used};
use crate::{
    capture::{
        CgroupSample, EndRow, Epoch, FrameRow, IntervalRow, MarkRow, ModuleRow, OomRow, ProcessRow, Row,
        StackRow, TierRow,
    },
    event::{Choice, Frame, ObjectId, ProcessId},
    interval::{Interval, ProcessState, StackFrames},
    kernel::{Module, PerfMap, process::Description},
    symbol::{NameTable, PerfMapNames},
};

/// Intervals that may wait to be written: beyond that the disk is too slow, and waiting is right.
const QUEUE: usize = 64;

/// What is known of the machine at the end of an interval.
pub struct MachineSample {
    pub cgroups: Vec<CgroupSample>,
    pub pressure: Option<f64>,
}

enum Message {
    Modules(Vec<Module>),
    Descriptions(Vec<(ProcessId, Description)>),
    Allocators(ProcessId, Vec<String>),
    Forget(Vec<ObjectId>),
    Interval(Box<Interval>, HashMap<ProcessId, u64>, HashMap<ProcessId, Used>, MachineSample),
    Tier(TierRow),
    Mark(f64),
    Oom(Box<OomRow>),
    End(EndRow),
}

/// The near end of the recorder's thread.
pub struct Recorder {
    messages: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    epoch: Epoch,
    purpose: String,
}

impl Recorder {
    /// Sends rows into `sink`, which has taken the header in. If that fails, it fails to do `purpose`.
    ///
    /// # Errors
    /// If no thread can be made.
    pub fn start(sink: impl Sink, about: &About, purpose: String) -> Result<Self> {
        let epoch = Epoch { started_ns: about.started_ns, pools: about.pools.clone() };
        let (messages, inbox) = sync_channel(QUEUE);
        let names = epoch.clone();
        let thread = thread::Builder::new()
            .name("recorder".to_owned())
            .spawn(move || Work::new(sink, names).run(&inbox))?;
        Ok(Self { messages: Some(messages), thread: Some(thread), epoch, purpose })
    }

    /// Files that later stacks refer to.
    ///
    /// # Errors
    /// Those of the file, as of all that follow: what was written before is readable.
    pub fn modules(&mut self, modules: Vec<Module>) -> Result<()> {
        if modules.is_empty() { Ok(()) } else { self.send(Message::Modules(modules)) }
    }

    /// Nobody has these files mapped any more, and they need not be held open: names that were found are kept.
    pub fn forget(&mut self, modules: Vec<ObjectId>) -> Result<()> {
        if modules.is_empty() { Ok(()) } else { self.send(Message::Forget(modules)) }
    }

    /// What to say of processes, for the next interval.
    pub fn descriptions(&mut self, descriptions: Vec<(ProcessId, Description)>) -> Result<()> {
        if descriptions.is_empty() { Ok(()) } else { self.send(Message::Descriptions(descriptions)) }
    }

    /// What serves a process. A failure shows with the next interval.
    pub fn allocators(&self, process: ProcessId, allocators: Vec<String>) {
        self.tell(Message::Allocators(process, allocators));
    }

    /// The OOM killer has chosen a process. A failure shows with the next interval.
    pub fn oom(&self, process: ProcessId, time_ns: u64, choice: &Choice) {
        self.tell(Message::Oom(Box::new(self.epoch.oom_row(process, time_ns, choice))));
    }

    /// An interval, with the resident bytes of the processes that live, what they have used, and what is accounted to their
    /// groups.
    pub fn interval(
        &mut self,
        interval: Interval,
        rss_bytes: HashMap<ProcessId, u64>,
        used: HashMap<ProcessId, Used>,
        machine: MachineSample,
    ) -> Result<()> {
        self.send(Message::Interval(Box::new(interval), rss_bytes, used, machine))
    }

    /// A process is traced in another way from now on, or is not, for a reason.
    pub fn tier(&mut self, process: ProcessId, time_ns: u64, tier: &str, reason: String) -> Result<()> {
        let t_s = self.epoch.seconds(time_ns);
        self.send(Message::Tier(TierRow { t_s, process: process.0, tier: tier.to_owned(), reason }))
    }

    pub fn mark(&mut self, time_ns: u64) -> Result<()> {
        self.send(Message::Mark(self.epoch.seconds(time_ns)))
    }

    /// The last row; returns when everything is on its way to the disk.
    pub fn finish(mut self, reason: &str, time_ns: u64) -> Result<()> {
        let t_s = self.epoch.seconds(time_ns);
        self.send(Message::End(EndRow { t_s, reason: reason.to_owned() }))?;
        self.close()
    }

    fn tell(&self, message: Message) {
        if let Some(messages) = &self.messages {
            let _ = messages.send(message);
        }
    }

    fn send(&mut self, message: Message) -> Result<()> {
        match &self.messages {
            Some(messages) if messages.send(message).is_ok() => Ok(()),
            // The thread is gone, and knows why.
            _ => self.close().and(Err(anyhow!("the recorder has ended"))),
        }
    }

    fn close(&mut self) -> Result<()> {
        drop(self.messages.take());
        let Some(thread) = self.thread.take() else { return Ok(()) };
        let written = thread.join().map_err(|_| anyhow!("the recorder's thread panicked"))?;
        written.with_context(|| self.purpose.clone())
    }
}

/// The far end.
struct Work<S> {
    sink: S,
    epoch: Epoch,
    names: NameTable,
    modules: HashMap<u32, Module>,
    descriptions: HashMap<ProcessId, Description>,
    allocators: HashMap<ProcessId, Vec<String>>,
    /// As last written.
    processes: HashMap<ProcessId, ProcessRow>,
    /// Names of frames that were met; many stacks share most of them.
    functions: HashMap<Frame, Option<Arc<str>>>,
    /// Names of code that was made at run time, by module.
    generated: HashMap<u32, (PerfMap, PerfMapNames)>,
    /// Stacks with such code that has no name yet: its compiler may not have written it down.
    unnamed: Vec<StackFrames>,
}

/// Names that are kept at hand; without them they are looked up again.
const MAX_FUNCTIONS: usize = 1 << 18;

/// Stacks that may wait for names.
const MAX_UNNAMED: usize = 1 << 14;

impl<S: Sink> Work<S> {
    fn new(sink: S, epoch: Epoch) -> Self {
        Self {
            sink,
            epoch,
            names: NameTable::default(),
            modules: HashMap::new(),
            descriptions: HashMap::new(),
            allocators: HashMap::new(),
            processes: HashMap::new(),
            functions: HashMap::new(),
            generated: HashMap::new(),
            unnamed: Vec::new(),
        }
    }

    fn run(mut self, inbox: &Receiver<Message>) -> io::Result<()> {
        for message in inbox {
            match message {
                Message::Modules(modules) => modules.into_iter().try_for_each(|it| self.module(it))?,
                Message::Descriptions(descriptions) => self.descriptions.extend(descriptions),
                Message::Allocators(process, allocators) => {
                    self.allocators.insert(process, allocators);
                }
                Message::Forget(modules) => self.forget(&modules),
                Message::Interval(interval, rss_bytes, used, machine) => {
                    self.interval(&interval, &rss_bytes, &used, machine)?;
                }
                Message::Tier(tier) => {
                    self.sink.row(Row::Tier(tier))?;
                    self.sink.flush()?;
                }
                Message::Mark(t_s) => {
                    self.sink.row(Row::Mark(MarkRow { t_s, label: String::new() }))?;
                    self.sink.flush()?;
                }
                Message::Oom(oom) => self.sink.row(Row::Oom(*oom))?,
                Message::End(end) => {
                    self.sink.row(Row::End(end))?;
                    self.sink.flush()?;
                }
            }
        }
        Ok(())
    }

    fn module(&mut self, module: Module) -> io::Result<()> {
        let ObjectId(id) = module.id;
        let row = ModuleRow { id, path: module.path.clone(), build_id: module.build_id.clone() };
        if let Some(file) = module.perf_map.clone() {
            self.generated.insert(id, (file, PerfMapNames::default()));
        }
        self.modules.insert(id, module);
        self.sink.row(Row::Module(row))
    }

    fn forget(&mut self, modules: &[ObjectId]) {
        for ObjectId(id) in modules {
            self.modules.remove(id);
            self.generated.remove(id);
        }
        // It holds the files too, by the numbers of descriptors that others will have.
        self.names = NameTable::default();
    }

    /// One flush: everything that the interval refers to, then the interval.
    fn interval(
        &mut self,
        interval: &Interval,
        rss_bytes: &HashMap<ProcessId, u64>,
        used: &HashMap<ProcessId, Used>,
        machine: MachineSample,
    ) -> io::Result<()> {
        let MachineSample { cgroups, pressure } = machine;
        self.find_names(&interval.stacks);
        self.name_generated(&interval.stacks)?;
        for stack in &interval.stacks {
            self.sink.row(Row::Stack(self.stack_row(stack)))?;
        }
        for state in &interval.processes {
            self.process(state)?;
        }
        let mut row = self.epoch.interval_row(interval, |it| rss_bytes.get(&it).copied());
        for sample in &mut row.processes {
            let used = used.get(&ProcessId(sample.process));
            sample.cpu_us = used.map(|it| it.cpu_us);
            sample.tracing_us = used.map(|it| it.tracing_us);
        }
        self.sink.row(Row::Interval(IntervalRow { cgroups, pressure, ..row }))?;
        self.sink.flush()
    }

    fn process(&mut self, state: &ProcessState) -> io::Result<()> {
        let description = self.descriptions.get(&state.id).cloned().unwrap_or_default();
        let row = ProcessRow {
            command: description.command,
            exe: description.exe,
            limit_bytes: description.limit_bytes,
            cgroup: description.cgroup,
            allocators: self.allocators.get(&state.id).cloned().unwrap_or_default(),
            ..self.epoch.process_row(state)
        };
        let is_new = self.processes.get(&state.id) != Some(&row);
        if state.ended.is_some() {
            // The heap does not speak of it again.
            self.descriptions.remove(&state.id);
            self.allocators.remove(&state.id);
            self.processes.remove(&state.id);
            // Frames that have names keep them.
            self.generated.retain(|_, (file, _)| file.tgid() != state.tgid);
        } else if is_new {
            self.processes.insert(state.id, row.clone());
        }
        if is_new { self.sink.row(Row::Process(row)) } else { Ok(()) }
    }

    /// One question for each file: opening its tables costs more than looking a name up.
    fn find_names(&mut self, stacks: &[StackFrames]) {
        if self.functions.len() > MAX_FUNCTIONS {
            // Those of code that was made at run time cannot always be found again.
            self.functions.retain(|frame, _| self.generated.contains_key(&frame.object()));
        }
        let mut unknown: HashMap<u32, Vec<u64>> = HashMap::new();
        for frame in stacks.iter().flat_map(|it| it.frames.iter()) {
            if !self.functions.contains_key(frame) {
                self.functions.insert(*frame, None);
                unknown.entry(frame.object()).or_default().push(frame.offset());
            }
        }
        for (id, offsets) in unknown {
            // Only a module without a file has no names: the vDSO, or one that was gone too soon.
            let Some(file) = self.modules.get(&id).and_then(|it| it.file.as_ref()) else { continue };
            let path = format!("/proc/self/fd/{}", file.as_raw_fd());
            let names = self.names.functions(&path, &offsets);
            for (offset, name) in offsets.into_iter().zip(names) {
                self.functions.insert(Frame::new(id, offset), name.map(Arc::from));
            }
        }
    }

    /// Names code that was made at run time, as far as its compiler has told: what was written without names before is
    /// written again with them.
    fn name_generated(&mut self, stacks: &[StackFrames]) -> io::Result<()> {
        let mut waiting = std::mem::take(&mut self.unnamed);
        let old = waiting.len();
        let is_generated = |it: &Frame| self.generated.contains_key(&it.object());
        let fresh = stacks.iter().filter(|it| it.frames.iter().any(is_generated)).cloned();
        waiting.extend(fresh.take(MAX_UNNAMED - old));
        if waiting.is_empty() {
            return Ok(());
        }
        for (file, names) in self.generated.values_mut() {
            if let Some(text) = file.read_new() {
                *names = PerfMapNames::parse(&text);
            }
        }
        for (at, stack) in waiting.into_iter().enumerate() {
            let (mut found, mut left) = (false, false);
            for frame in stack.frames.iter() {
                let Some((_, names)) = self.generated.get(&frame.object()) else { continue };
                if self.functions.get(frame).is_some_and(Option::is_some) {
                    continue;
                }
                let name = names.function(frame.offset());
                (found, left) = (found || name.is_some(), left || name.is_none());
                self.functions.insert(*frame, name);
            }
            // Those of this interval are written next.
            if found && at < old {
                self.sink.row(Row::Stack(self.stack_row(&stack)))?;
            }
            if left {
                self.unnamed.push(stack);
            }
        }
        Ok(())
    }

    fn stack_row(&self, stack: &StackFrames) -> StackRow {
        let frame = |it: &Frame| FrameRow {
            module: it.object(),
            offset: it.offset(),
            function: self.functions.get(it).cloned().flatten(),
        };
        StackRow {
            id: stack.id.0,
            stop: stack.stop.name().to_owned(),
            frames: stack.frames.iter().map(frame).collect(),
        }
    }
}
