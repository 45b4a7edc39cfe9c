//! Puts names to the frames and prints, on a thread of its own: neither may keep the ring waiting.

use std::{
    collections::HashMap,
    io::{self, Write as _},
    ops::ControlFlow,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use anyhow::anyhow;

use crate::{
    event::Frame,
    kernel::{Module, process},
    live::outstanding::{self, News},
    report::memleak::{self as layout, Caller, Holder, Layout, Line, Options},
    symbol::{NameTable, Symbol},
};

/// What may wait to be printed: beyond that the reader is too slow, and waiting is right.
const QUEUE: usize = 64;

/// The near end.
pub(super) struct Printer {
    options: Options,
    tgid: u32,
    messages: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<io::Result<()>>>,
}

enum Message {
    Text(String),
    Modules(Vec<Module>),
    Outstanding([i8; 3], Vec<outstanding::Holder>),
    Calls(Vec<outstanding::Call>),
}

impl Printer {
    pub(super) fn start(options: Options, tgid: u32) -> io::Result<Self> {
        let (messages, inbox) = sync_channel(QUEUE);
        let run = move || {
            Work {
                options,
                tgid,
                names: NameTable::default(),
                modules: HashMap::new(),
                symbols: HashMap::new(),
            }
            .run(&inbox)
        };
        let thread = thread::Builder::new().name("printer".to_owned()).spawn(run)?;
        Ok(Self { options, tgid, messages: Some(messages), thread: Some(thread) })
    }

    /// The line that scripts wait for.
    pub(super) fn attached(&self, command: Option<&str>) {
        let tgid = self.tgid;
        let launched = match (command, self.options.layout) {
            (None, _) => String::new(),
            (Some(command), Layout::Python) => {
                format!("Executing '{command}' and tracing the resulting process.\n")
            }
            (Some(_), Layout::Libbpf) => format!("child created with pid: {tgid}\n"),
        };
        let text = format!("{launched}Attaching to pid {tgid}, Ctrl+C to quit.\n");
        // A failure shows with the next message.
        let _ = self.send(Message::Text(text));
    }

    /// Breaks when nobody reads any more.
    pub(super) fn tell(&mut self, news: News) -> ControlFlow<()> {
        self.send(match news {
            News::Modules(modules) => Message::Modules(modules),
            News::Calls(calls) => Message::Calls(calls),
            News::Outstanding(holders) => {
                let now = jiff::Zoned::now();
                Message::Outstanding([now.hour(), now.minute(), now.second()], holders)
            }
        })
    }

    /// Waits until everything is printed.
    pub(super) fn finish(mut self) -> anyhow::Result<()> {
        drop(self.messages.take());
        let Some(thread) = self.thread.take() else { return Ok(()) };
        thread.join().map_err(|_| anyhow!("the printer's thread panicked"))??;
        Ok(())
    }

    fn send(&self, message: Message) -> ControlFlow<()> {
        match &self.messages {
            Some(messages) if messages.send(message).is_ok() => ControlFlow::Continue(()),
            _ => ControlFlow::Break(()),
        }
    }
}

/// The far end.
struct Work {
    options: Options,
    tgid: u32,
    names: NameTable,
    modules: HashMap<u32, Module>,
    symbols: HashMap<Frame, Option<Symbol>>,
}

impl Work {
    fn run(mut self, inbox: &Receiver<Message>) -> io::Result<()> {
        for message in inbox {
            let mut out = io::BufWriter::new(io::stdout().lock());
            match message {
                Message::Text(text) => out.write_all(text.as_bytes())?,
                Message::Modules(modules) => {
                    self.modules.extend(modules.into_iter().map(|it| (it.id.0, it)));
                }
                Message::Calls(calls) => {
                    let name = process::describe(self.tgid).name;
                    for call in calls {
                        self.call(&name, call, &mut out)?;
                    }
                }
                Message::Outstanding(time, holders) => {
                    self.find_symbols(&holders);
                    let holders = holders.into_iter().map(|it| self.holder(it)).collect();
                    layout::write(&layout::Outstanding { time, holders }, &self.options, &mut out)?;
                }
            }
            // Whoever waits for a report has it whole.
            out.flush()?;
        }
        Ok(())
    }

    fn call(&self, name: &str, call: outstanding::Call, out: &mut dyn io::Write) -> io::Result<()> {
        let (time_ns, call) = match call {
            outstanding::Call::Alloc { time_ns, address, bytes } => {
                (time_ns, layout::Call::Alloc { bytes, address })
            }
            outstanding::Call::Free { time_ns, address, bytes } => {
                (time_ns, layout::Call::Free { address, bytes })
            }
        };
        layout::trace(self.options.layout, Caller { name, tgid: self.tgid, time_ns }, call, out)
    }

    /// One question for each file: opening its tables costs more than looking a name up.
    fn find_symbols(&mut self, holders: &[outstanding::Holder]) {
        let mut unknown: HashMap<u32, Vec<u64>> = HashMap::new();
        for (frame, _) in holders.iter().flat_map(|it| &it.frames) {
            if !self.symbols.contains_key(frame) {
                self.symbols.insert(*frame, None);
                unknown.entry(frame.object()).or_default().push(frame.offset());
            }
        }
        for (id, offsets) in unknown {
            let Some(path) = self.modules.get(&id).and_then(Module::held_path) else { continue };
            let symbols = self.names.symbols(&path, &offsets);
            for (offset, symbol) in offsets.into_iter().zip(symbols) {
                self.symbols.insert(Frame::new(id, offset), symbol);
            }
        }
    }

    fn holder(&self, holder: outstanding::Holder) -> Holder {
        Holder {
            bytes: holder.bytes,
            blocks: holder.blocks,
            frames: holder.frames.into_iter().map(|(frame, address)| self.line(frame, address)).collect(),
            listed: holder.listed,
        }
    }

    /// A frame is one byte before the address to which the call returns, which is what both tools print. Without
    /// an address, because the process was gone too soon, the offset in the file takes its place.
    fn line(&self, frame: Frame, address: Option<u64>) -> Line {
        let symbol = self.symbols.get(&frame).cloned().flatten();
        Line {
            address: address.unwrap_or(frame.offset()) + 1,
            function: symbol.map(|it| (it.name, it.offset + 1)),
            module: self.modules.get(&frame.object()).map(|it| it.path.clone()),
        }
    }
}
