//! What the kernel tells after the end of a process: of its control groups, of all others, and in its log.

use std::{
    collections::{BTreeMap, VecDeque},
    fs::{self, File},
    io::{self, Read as _, Seek as _, SeekFrom},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use super::accounting;

/// A control group, as it is accounted.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Group {
    pub path: String,
    pub memory_bytes: Option<u64>,
    pub limit_bytes: Option<u64>,
    pub peak_bytes: Option<u64>,
    /// By the kernel's names.
    pub events: BTreeMap<String, u64>,
}

/// The control group at `path`, and those above it that have a limit; of those that are gone, nothing.
pub fn groups(path: &str) -> Vec<Group> {
    let is_told = |it: &Group| it.path == path || it.limit_bytes.is_some();
    Path::new(path).ancestors().filter_map(|it| group(it.to_str()?)).filter(is_told).collect()
}

/// Where memory is accounted by custom, and the files with: what was used at most, and what happened (as lines of a name and a
/// number, or a number that the file's own name is for).
const HIERARCHIES: [(&str, &str, [&str; 2]); 3] = [
    ("/sys/fs/cgroup/memory", "memory.max_usage_in_bytes", ["memory.oom_control", "memory.failcnt"]),
    ("/sys/fs/cgroup", "memory.peak", ["memory.events", ""]),
    ("/sys/fs/cgroup/unified", "memory.peak", ["memory.events", ""]),
];

fn group(path: &str) -> Option<Group> {
    HIERARCHIES.iter().find_map(|(mount, peak, files)| {
        let directory = Path::new(mount).join(path.trim_start_matches('/'));
        let read = |file: &str| fs::read_to_string(directory.join(file)).ok();
        let mut events = BTreeMap::new();
        for file in files {
            let Some(text) = read(file) else { continue };
            let name = file.strip_prefix("memory.").unwrap_or(file);
            events.extend(text.lines().filter_map(|it| event(name, it)));
        }
        if events.is_empty() {
            return None;
        }
        let accounted = accounting::of_group(path);
        Some(Group {
            path: path.to_owned(),
            memory_bytes: accounted.as_ref().map(|it| it.memory_bytes),
            limit_bytes: accounted.as_ref().and_then(|it| it.limit_bytes),
            peak_bytes: read(peak).and_then(|it| it.trim().parse().ok()),
            events,
        })
    })
}

/// A line of a file that is called `file`.
fn event(file: &str, line: &str) -> Option<(String, u64)> {
    let (name, count) = line.split_once(' ').unwrap_or((file, line));
    Some((name.to_owned(), count.trim().parse().ok()?))
}

/// A process, as `/proc` has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Resident {
    pub pid: u32,
    pub name: String,
    pub rss_bytes: u64,
}

/// All processes of this machine that have memory.
pub fn residents() -> Vec<Resident> {
    let page_bytes = rustix::param::page_size() as u64;
    let resident = |it: procfs::process::Process| {
        let stat = it.stat().ok()?;
        let rss_bytes = stat.rss * page_bytes;
        (rss_bytes > 0).then_some(Resident { pid: stat.pid as u32, name: stat.comm, rss_bytes })
    };
    let all = procfs::process::all_processes().into_iter().flatten();
    all.filter_map(Result::ok).filter_map(resident).collect()
}

/// What the kernel has logged since this was opened.
pub struct Log {
    /// `None` if it may not be read.
    file: Option<File>,
    lines: VecDeque<String>,
}

/// What the kernel says of one process that it kills takes some hundred lines, one for each process of the machine
/// among them.
const MAX_LINES: usize = 4096;

/// The longest record that the kernel gives to whoever reads (`PRINTK_MESSAGE_MAX`).
const RECORD_BYTES: usize = 2048;

impl Log {
    pub fn open() -> Self {
        let open = || -> io::Result<File> {
            let nonblocking = rustix::fs::OFlags::NONBLOCK.bits() as i32;
            let mut file = fs::OpenOptions::new().read(true).custom_flags(nonblocking).open("/dev/kmsg")?;
            file.seek(SeekFrom::End(0))?;
            Ok(file)
        };
        let file = open().inspect_err(|error| log::info!("the kernel's log cannot be read: {error}"));
        Self { file: file.ok(), lines: VecDeque::new() }
    }

    /// All lines, oldest first; `None` if they may not be read.
    pub fn lines(&mut self) -> Option<impl Iterator<Item = &str>> {
        let file = self.file.as_mut()?;
        let mut record = [0; RECORD_BYTES];
        loop {
            match file.read(&mut record) {
                Ok(bytes) if bytes > 0 => {
                    self.lines.extend(message(&record[..bytes]));
                    if self.lines.len() > MAX_LINES {
                        self.lines.pop_front();
                    }
                }
                // Records were overwritten before they were read; the next is there.
                Err(error) if error.raw_os_error() == Some(rustix::io::Errno::PIPE.raw_os_error()) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                _ => break,
            }
        }
        Some(self.lines.iter().map(String::as_str))
    }
}

/// `priority,number,time,flags;message`, and then lines that begin with a space.
fn message(record: &[u8]) -> Option<String> {
    let text = String::from_utf8_lossy(record);
    let (_, message) = text.split_once(';')?;
    Some(message.lines().next()?.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_of_the_log() {
        let record = b"6,339,5140900,-;oom-kill:constraint=CONSTRAINT_MEMCG\n SUBSYSTEM=x\n";
        assert_eq!(message(record).unwrap(), "oom-kill:constraint=CONSTRAINT_MEMCG");
        assert_eq!(message(b"nothing"), None);
    }

    #[test]
    fn events_are_named_by_the_line_or_by_the_file() {
        let read = |file, line| event(file, line).map(|(name, count)| format!("{name} {count}"));
        assert_eq!(read("events", "oom_kill 3").as_deref(), Some("oom_kill 3"));
        assert_eq!(read("failcnt", "94\n").as_deref(), Some("failcnt 94"));
        assert_eq!(read("failcnt", ""), None);
    }
}
