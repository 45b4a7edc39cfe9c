//! What the viewer keeps of a run: a capture of everything so far, or a picture of what is live.

use std::{
    fs::{File, OpenOptions},
    io::{self, BufWriter, Write as _},
    path::{Path, PathBuf},
};

use super::default_capture_path;
use crate::{
    capture::{Recording, Writer},
    profile::{Profile, Query},
    report::{self, Format, Options},
};

/// Where files go: beside each other, named after the target and the time.
pub struct Saving {
    pub name: String,
    pub tgid: Option<u32>,
}

/// The reason that a capture gives for its end, while the tracing goes on.
const SAVED: &str = "saved";

impl Saving {
    /// Says what became of it.
    pub(super) fn capture(&self, recording: &Recording) -> String {
        let path = self.path();
        said(&path, write_capture(&path, recording))
    }

    /// Says what became of it.
    pub(super) fn flamegraph(&self, recording: &Recording) -> String {
        let path = self.path();
        let path = PathBuf::from(path.to_string_lossy().replace(".jsonl.zst", ".svg"));
        said(&path, write_report(&path, recording, Format::Flamegraph))
    }

    fn path(&self) -> PathBuf {
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        default_capture_path(&self.name, self.tgid, &now)
    }
}

fn said(path: &Path, done: io::Result<()>) -> String {
    match done {
        Ok(()) => format!("written to {}", path.display()),
        Err(error) => format!("not written to {}: {error}", path.display()),
    }
}

/// Never overwrites.
fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).open(path)
}

fn write_capture(path: &Path, recording: &Recording) -> io::Result<()> {
    let mut writer = Writer::new(create(path)?, recording.header.clone())?;
    recording.rows(SAVED).try_for_each(|it| writer.row(&it))?;
    writer.flush()
}

fn write_report(path: &Path, recording: &Recording, format: Format) -> io::Result<()> {
    let profile = Profile::new(recording, &Query::default(), usize::MAX);
    let mut out = BufWriter::new(create(path)?);
    report::write(format, recording, &profile, &Options::default(), &mut out)?;
    out.flush()
}
