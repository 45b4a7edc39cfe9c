//! Reads a capture; the mirror of the writer.

use std::{
    collections::{BTreeMap, HashSet},
    io::{self, BufRead as _, BufReader, Read},
    sync::Arc,
};

use super::{EndRow, Header, IntervalRow, MarkRow, ModuleRow, OomRow, ProcessRow, Row, SCHEMA, StackRow};

/// A capture in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    pub header: Header,
    pub modules: BTreeMap<u32, ModuleRow>,
    pub stacks: BTreeMap<u32, StackRow>,
    /// As last described.
    pub processes: BTreeMap<u32, ProcessRow>,
    pub intervals: Vec<IntervalRow>,
    pub marks: Vec<MarkRow>,
    pub ooms: Vec<OomRow>,
    /// `None`: the capture was cut off; everything up to its last whole flush is here.
    pub end: Option<EndRow>,
}

/// Why a file cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("not an alloctrace capture: it does not begin with a zstd frame")]
    NotZstd,
    #[error("not an alloctrace capture: {0}")]
    NotCapture(String),
    #[error("written by a newer alloctrace ({0}; this one reads {SCHEMA}): use that version to read it")]
    Newer(String),
    #[error("damaged in line {line}: {why}; the {intervals} intervals before it were readable")]
    Damaged { line: usize, why: String, intervals: usize },
    #[error(transparent)]
    Io(#[from] io::Error),
}

/// Every zstd frame begins with these bytes (RFC 8878, section 3.1.1).
const ZSTD_MAGIC: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];

/// Reads to the end, or to where the file was cut.
///
/// # Errors
/// See [`Error`]. A file that merely ends too early is no error.
pub fn read(mut input: impl Read) -> Result<Recording, Error> {
    let mut magic = [0; 4];
    let mut got = 0;
    while got < magic.len() {
        match input.read(&mut magic[got..])? {
            0 => break,
            count => got += count,
        }
    }
    if magic[..got] != ZSTD_MAGIC[..got] || got == 0 {
        return Err(Error::NotZstd);
    }
    let frames = io::Cursor::new(magic[..got].to_vec()).chain(input);
    let mut lines = BufReader::new(zstd::Decoder::new(frames)?);
    let mut recording = Recording::default();
    let mut names = Names::default();
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            // The decoder reports a frame without an end as this; nothing of it is used.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) if is_device_error(&error) => return Err(error.into()),
            Err(error) => return Err(recording.damaged(number, error.to_string())),
            Ok(0) => break,
            Ok(_) => {}
        }
        if line.last() != Some(&b'\n') {
            break;
        }
        match serde_json::from_slice(&line) {
            Ok(row) => recording.add(row, number, &mut names)?,
            Err(error) if number == 1 => return Err(Error::NotCapture(format!("no header: {error}"))),
            Err(error) => return Err(recording.damaged(number, error.to_string())),
        }
    }
    if recording.header == Header::default() {
        return Err(Error::NotCapture("it was cut off before its header".to_owned()));
    }
    Ok(recording)
}

/// An error of the system, as opposed to one of the decoder.
fn is_device_error(error: &io::Error) -> bool {
    error.raw_os_error().is_some()
}

/// Function names, once each: a recording has a few thousand, and millions of frames.
#[derive(Default)]
struct Names(HashSet<Arc<str>>);

impl Names {
    fn share(&mut self, name: &mut Arc<str>) {
        match self.0.get(name) {
            Some(known) => *name = Arc::clone(known),
            None => drop(self.0.insert(Arc::clone(name))),
        }
    }
}

impl Recording {
    fn add(&mut self, row: Row, line: usize, names: &mut Names) -> Result<(), Error> {
        match row {
            Row::Header(header) => {
                if header.schema != SCHEMA {
                    return Err(match header.schema.strip_prefix("alloctrace.capture/") {
                        Some(_) => Error::Newer(header.schema),
                        None => Error::NotCapture(format!("its schema is {:?}", header.schema)),
                    });
                }
                self.header = header;
            }
            _ if line == 1 => return Err(Error::NotCapture("its first row is no header".to_owned())),
            Row::Module(it) => drop(self.modules.insert(it.id, it)),
            Row::Stack(mut it) => {
                for function in it.frames.iter_mut().filter_map(|it| it.function.as_mut()) {
                    names.share(function);
                }
                self.stacks.insert(it.id, it);
            }
            Row::Process(it) => drop(self.processes.insert(it.id, it)),
            Row::Interval(it) => self.intervals.push(it),
            Row::Mark(it) => self.marks.push(it),
            Row::Oom(it) => self.ooms.push(it),
            Row::End(it) => self.end = Some(it),
        }
        Ok(())
    }

    fn damaged(&self, line: usize, why: String) -> Error {
        Error::Damaged { line, why, intervals: self.intervals.len() }
    }
}
