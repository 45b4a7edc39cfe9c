//! The directory of a long run: files that are whole or not there, and the incidents among them.

use std::{
    cmp::Reverse,
    collections::BTreeMap,
    fs::{self, DirBuilder, File, OpenOptions},
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, bail};
use rustix::fs::{FlockOperation, fcntl_lock};

use crate::{
    capture::{self, IncidentRow, Recording, Writer},
    watch::IncidentsConfig,
};

/// A directory that nobody else writes to.
pub(super) struct StateDir {
    path: PathBuf,
    /// Locked as long as it is open. A lock of a process and not of a file: children do not have it.
    _lock: File,
}

const LOCK: &str = "lock";

/// How the names of files begin that are not whole yet.
const UNFINISHED: &str = ".unfinished.";

const INCIDENT: &str = "incident.";
const EXTENSION: &str = ".jsonl.zst";

/// What programs are called and hold is nobody else's business.
const DIRECTORY_MODE: u32 = 0o750;
const FILE_MODE: u32 = 0o640;

impl StateDir {
    /// Makes it, if it is not there.
    ///
    /// # Errors
    /// If it cannot be written to, or another process has it.
    pub(super) fn open(path: &Path) -> Result<Self> {
        let mut builder = DirBuilder::new();
        builder.recursive(true).mode(DIRECTORY_MODE).create(path)?;
        let mut lock = open(&path.join(LOCK)).context("it cannot be written to")?;
        if fcntl_lock(&lock, FlockOperation::NonBlockingLockExclusive).is_err() {
            let owner = fs::read_to_string(path.join(LOCK)).unwrap_or_default();
            let owner = owner.trim();
            bail!("alloctrace watch with pid {owner} uses it: give each its own by --state-dir");
        }
        lock.set_len(0)?;
        writeln!(lock, "{}", std::process::id())?;
        for name in names(path)?.filter(|it| it.starts_with(UNFINISHED)) {
            fs::remove_file(path.join(name))?;
        }
        Ok(Self { path: path.to_owned(), _lock: lock })
    }

    pub(super) fn join(&self, name: &str) -> PathBuf {
        self.path.join(name)
    }

    /// Writes a capture under a name that shows it only when it is whole and on the disk. The writer may go on.
    ///
    /// # Errors
    /// Those of the disk; what had the name before is then as it was.
    pub(super) fn write(&self, name: &str, recording: &Recording) -> io::Result<Writer<File>> {
        let unfinished = self.join(&format!("{UNFINISHED}{name}"));
        let written = self.fill(&unfinished, name, recording);
        if written.is_err() {
            // It says nothing that anybody wants.
            let _ = fs::remove_file(&unfinished);
        }
        written
    }

    fn fill(&self, unfinished: &Path, name: &str, recording: &Recording) -> io::Result<Writer<File>> {
        // What was left of an earlier attempt is no part of it.
        let file = open(unfinished)?;
        file.set_len(0)?;
        let mut writer = Writer::new(file, recording.header.clone())?;
        recording.rows_so_far().try_for_each(|it| writer.row(&it))?;
        writer.flush()?;
        writer.out().sync_all()?;
        fs::rename(unfinished, self.join(name))?;
        // The name too.
        File::open(&self.path)?.sync_all()?;
        Ok(writer)
    }

    /// Removes incidents until those that are left are within bounds; returns the names of the others.
    ///
    /// # Errors
    /// Those of the file system.
    pub(super) fn prune(&self, bounds: &IncidentsConfig) -> io::Result<Vec<String>> {
        let names = names(&self.path)?.filter(|it| it.starts_with(INCIDENT));
        let sized = names.filter_map(|it| {
            let bytes = fs::metadata(self.join(&it)).ok()?.len();
            Some((it, bytes))
        });
        let gone = beyond(sized.collect(), bounds);
        gone.iter().try_for_each(|it| fs::remove_file(self.join(it)))?;
        Ok(gone)
    }
}

/// For appending, which nobody else may read.
fn open(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).mode(FILE_MODE).open(path)
}

fn names(directory: &Path) -> io::Result<impl Iterator<Item = String>> {
    Ok(fs::read_dir(directory)?.filter_map(|it| it.ok()?.file_name().into_string().ok()))
}

/// `incident.NAME.PID.TIME.jsonl.zst`; without a number if it is about all.
pub(super) fn incident_name(name: &str, pid: Option<u32>, time: jiff::Timestamp) -> String {
    let time = time.strftime("%Y%m%dT%H%M%SZ").to_string();
    let path = super::default_capture_path(name, pid, &time);
    path.to_string_lossy().replacen("alloctrace.", INCIDENT, 1)
}

/// Incidents to be removed: the oldest of whichever program has most, so that one that dies every minute does not push out
/// the others.
fn beyond(mut all: Vec<(String, u64)>, bounds: &IncidentsConfig) -> Vec<String> {
    let time = |it: &str| it.trim_end_matches(EXTENSION).rsplit('.').next().unwrap_or_default().to_owned();
    let program = |it: &str| {
        let parts = it.trim_start_matches(INCIDENT).trim_end_matches(EXTENSION).rsplitn(3, '.');
        parts.last().unwrap_or_default().to_owned()
    };
    // The newest first: that one stays in any case.
    all.sort_by_key(|it| Reverse(time(&it.0)));
    let mut gone = Vec::new();
    while all.len() > 1
        && (all.len() > bounds.keep || all.iter().map(|it| it.1).sum::<u64>() > bounds.max_size)
    {
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        all.iter().for_each(|it| *counts.entry(program(&it.0)).or_default() += 1);
        let most = counts.values().max().copied();
        let oldest = all.iter().rposition(|it| counts.get(&program(&it.0)).copied() == most);
        gone.extend(oldest.map(|it| all.remove(it).0));
    }
    gone
}

/// An incident that was kept.
pub struct Kept {
    pub path: PathBuf,
    pub incident: IncidentRow,
}

/// The incidents of a directory.
pub struct Incidents {
    /// The newest first.
    pub kept: Vec<Kept>,
    /// Files that cannot be read as such, and why.
    pub unreadable: Vec<(PathBuf, String)>,
}

/// # Errors
/// If the directory cannot be read.
pub fn incidents(directory: &Path) -> io::Result<Incidents> {
    let (mut kept, mut unreadable) = (Vec::new(), Vec::new());
    for name in names(directory)?.filter(|it| it.starts_with(INCIDENT) && it.ends_with(EXTENSION)) {
        let path = directory.join(name);
        let read = || Ok::<_, capture::Error>(capture::read_incident(File::open(&path)?)?.1);
        match read() {
            Ok(incident) => kept.push(Kept { path, incident }),
            Err(error) => unreadable.push((path, error.to_string())),
        }
    }
    kept.sort_by(|a, b| (&b.incident.time, &b.path).cmp(&(&a.incident.time, &a.path)));
    Ok(Incidents { kept, unreadable })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_of_those_that_died_most_often_go() {
        let check = |names: &[&str], keep, max_size, expected: &[&str]| {
            let all = names.iter().map(|it| (format!("incident.{it}.jsonl.zst"), 10)).collect();
            let expected: Vec<String> =
                expected.iter().map(|it| format!("incident.{it}.jsonl.zst")).collect();
            assert_eq!(beyond(all, &IncidentsConfig { keep, max_size }), expected);
        };
        let loops = ["once.7.20260101T000000Z", "loop.8.20260102T000000Z", "loop.9.20260103T000000Z"];
        check(&loops, 3, 30, &[]);
        check(&loops, 2, 30, &["loop.8.20260102T000000Z"]);
        check(&loops, 3, 29, &["loop.8.20260102T000000Z"]);
        check(&loops, 1, 30, &["loop.8.20260102T000000Z", "once.7.20260101T000000Z"]);
        check(&loops, 0, 0, &["loop.8.20260102T000000Z", "once.7.20260101T000000Z"]);
        let dotted = ["a.b.7.20260101T000000Z", "a.8.20260102T000000Z", "a.b.9.20260103T000000Z"];
        check(&dotted, 2, 30, &["a.b.7.20260101T000000Z"]);
    }

    #[test]
    fn a_name_holds_no_directory() {
        let name = incident_name("../x", Some(7), jiff::Timestamp::UNIX_EPOCH);
        assert_eq!(name, "incident..._x.7.19700101T000000Z.jsonl.zst");
    }
}
