//! Reads a capture; the mirror of the writer.

use std::{
    borrow::Cow,
    io::{self, BufRead as _, BufReader, Read},
};

use serde::Deserialize;

use super::{Header, IncidentRow, IntervalRow, Recording, Row, SCHEMA};

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

/// Reads to the end, or to where the file was cut. Intervals that ended after `until_s` are left out.
///
/// # Errors
/// See [`Error`]. A file that merely ends too early is no error.
pub fn read(input: impl Read, until_s: Option<f64>) -> Result<Recording, Error> {
    let mut recording = Recording::default();
    for_each_line(input, &mut recording, |recording, line| {
        if type_of(line) == Some("stack") {
            let it = serde_json::from_slice::<StackLine>(line)?;
            let frames =
                it.frames.iter().map(|it| (it.module, it.offset, it.function.as_ref().map(|it| &*it.0)));
            recording.add_frames(it.id, &it.stop, frames);
            return Ok(());
        }
        match row(line)? {
            Row::Interval(it) if until_s.is_some_and(|until_s| it.t_s > until_s) => {
                recording.later_intervals += 1
            }
            row => recording.add(row),
        }
        Ok(())
    })?;
    Ok(recording)
}

/// Reads what places times on the clock: header, times of the intervals, marks, end.
///
/// # Errors
/// As [`read`].
pub fn read_times(input: impl Read) -> Result<Recording, Error> {
    let mut recording = Recording::default();
    for_each_line(input, &mut recording, |recording, line| {
        match type_of(line) {
            Some("interval") => recording.times_s.push(serde_json::from_slice::<Time>(line)?.t_s),
            Some("header" | "mark" | "end") => recording.add(row(line)?),
            _ => {}
        }
        Ok(())
    })?;
    Ok(recording)
}

/// Reads the header and the incident of a file that was kept because of one, which stand at its beginning.
///
/// # Errors
/// As [`read`]; and of a capture that is of no incident.
pub fn read_incident(input: impl Read) -> Result<(Header, IncidentRow), Error> {
    let mut recording = Recording::default();
    let (mut rows, mut incident) = (0, None);
    // What comes behind is not looked at: an error stops the reading, and the one of a row that is not wanted is none.
    let read = for_each_line(input, &mut recording, |recording, line| {
        rows += 1;
        match row(line)? {
            Row::Incident(it) => incident = Some(*it),
            header if rows == 1 => {
                recording.add(header);
                return Ok(());
            }
            _ => {}
        }
        Err(serde::de::Error::custom("it is of no incident"))
    });
    match (incident, read) {
        (Some(incident), _) => Ok((recording.header, incident)),
        (None, Err(Error::Damaged { line: 2, why, .. })) => Err(Error::NotCapture(why)),
        (None, Err(error)) => Err(error),
        (None, Ok(())) => Err(Error::NotCapture("it was cut off behind its header".to_owned())),
    }
}

/// A [`StackRow`](super::StackRow) whose names stay in the line: a recording of 50,000 stacks repeats a few thousand
/// names a million times.
#[derive(Deserialize)]
struct StackLine<'a> {
    id: u32,
    #[serde(borrow)]
    stop: Cow<'a, str>,
    #[serde(borrow)]
    frames: Vec<FrameLine<'a>>,
}

#[derive(Deserialize)]
struct FrameLine<'a> {
    module: u32,
    offset: u64,
    #[serde(borrow, default)]
    function: Option<Name<'a>>,
}

/// serde borrows in a `Cow` of its own, and copies in one inside an `Option`.
#[derive(Deserialize)]
struct Name<'a>(#[serde(borrow)] Cow<'a, str>);

#[derive(Deserialize)]
struct Time {
    t_s: f64,
}

/// Hands every line to `add`, the first of which is checked to be a header of this format.
fn for_each_line(
    mut input: impl Read,
    recording: &mut Recording,
    mut add: impl FnMut(&mut Recording, &[u8]) -> serde_json::Result<()>,
) -> Result<(), Error> {
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
    let mut lines = BufReader::with_capacity(BUFFER_BYTES, zstd::Decoder::new(frames)?);
    let mut line = Vec::new();
    for number in 1.. {
        line.clear();
        match lines.read_until(b'\n', &mut line) {
            // The decoder reports a frame without an end as this; nothing of it is used.
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => break,
            Err(error) if is_device_error(&error) => return Err(error.into()),
            Err(error) => return Err(damaged(recording, number, error.to_string())),
            Ok(0) => break,
            Ok(_) => {}
        }
        if line.last() != Some(&b'\n') {
            break;
        }
        match add(recording, &line) {
            Ok(()) if number == 1 => check_header(recording)?,
            Ok(()) => {}
            Err(error) if number == 1 => return Err(Error::NotCapture(format!("no header: {error}"))),
            Err(error) => return Err(damaged(recording, number, error.to_string())),
        }
    }
    if recording.header == Header::default() {
        return Err(Error::NotCapture("it was cut off before its header".to_owned()));
    }
    Ok(())
}

/// What the decoder hands over at a time.
const BUFFER_BYTES: usize = 1 << 17;

fn check_header(recording: &Recording) -> Result<(), Error> {
    let schema = &recording.header.schema;
    if recording.header == Header::default() {
        return Err(Error::NotCapture("its first row is no header".to_owned()));
    }
    match schema.strip_prefix("alloctrace.capture/") {
        _ if schema == SCHEMA => Ok(()),
        Some(_) => Err(Error::Newer(schema.clone())),
        None => Err(Error::NotCapture(format!("its schema is {schema:?}"))),
    }
}

fn damaged(recording: &Recording, line: usize, why: String) -> Error {
    Error::Damaged { line, why, intervals: recording.times_s.len() }
}

/// The type of a row that begins with it, as those do that we write.
fn type_of(line: &[u8]) -> Option<&str> {
    let rest = line.strip_prefix(b"{\"type\":\"")?;
    let end = rest.iter().position(|it| *it == b'"')?;
    str::from_utf8(&rest[..end]).ok()
}

/// serde reads a tagged row twice, since the tag may stand anywhere; where it stands first, the row is of that type.
fn row(line: &[u8]) -> serde_json::Result<Row> {
    Ok(match type_of(line) {
        Some("interval") => Row::Interval(serde_json::from_slice::<IntervalRow>(line)?),
        _ => serde_json::from_slice(line)?,
    })
}

/// An error of the system, as opposed to one of the decoder.
fn is_device_error(error: &io::Error) -> bool {
    error.raw_os_error().is_some()
}
