//! Names new stacks and writes the capture, on a thread of its own: neither may keep the ring waiting.

use std::{
    collections::{HashMap, HashSet},
    fs::File,
    io,
    os::fd::AsRawFd as _,
    path::{Path, PathBuf},
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, anyhow};

use crate::{
    capture::{self, EndRow, FrameRow, Header, MarkRow, ModuleRow, OomRow, ProcessRow, Row, StackRow, Writer},
    event::{Frame, ProcessId, Stop},
    interval::{Interval, StackFrames},
    kernel::{Module, process::Description},
    symbol::NameTable,
};

/// What the header says.
pub struct About {
    /// RFC 3339.
    pub started: String,
    pub target: String,
    pub interval: Duration,
    /// The zero of the capture's times.
    pub started_ns: u64,
}

/// Intervals that may wait to be written: beyond that the disk is too slow, and waiting is right.
const QUEUE: usize = 64;

enum Message {
    Modules(Vec<Module>),
    Process(ProcessId, Description),
    Interval(Interval, HashMap<ProcessId, u64>),
    Mark(f64),
    Oom(ProcessId, u64),
    End(String, f64),
}

/// The near end of the recorder's thread.
pub struct Recorder {
    messages: Option<SyncSender<Message>>,
    thread: Option<JoinHandle<io::Result<()>>>,
    path: PathBuf,
    started_ns: u64,
}

impl Recorder {
    /// Writes the header, so that a full disk is known before anything is attached.
    ///
    /// # Errors
    /// Those of the file.
    pub fn start(file: File, path: &Path, about: &About) -> Result<Self> {
        let name = rustix::system::uname();
        let header = Header {
            schema: capture::SCHEMA.to_owned(),
            tool_version: env!("CARGO_PKG_VERSION").to_owned(),
            started: about.started.clone(),
            host: name.nodename().to_string_lossy().into_owned(),
            kernel: name.release().to_string_lossy().into_owned(),
            interval_s: about.interval.as_secs_f64(),
            target: about.target.clone(),
        };
        let writer = Writer::new(file, header, about.started_ns)
            .with_context(|| format!("write the capture {}", path.display()))?;
        let (messages, inbox) = sync_channel(QUEUE);
        let work = move || Work { writer, ..Work::new(writer_placeholder()) }.run(&inbox);
        let thread = thread::Builder::new().name("recorder".to_owned()).spawn(work)?;
        Ok(Self {
            messages: Some(messages),
            thread: Some(thread),
            path: path.to_owned(),
            started_ns: about.started_ns,
        })
    }
}
