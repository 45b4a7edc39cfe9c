//! What is on the disk of a long run: how things stood in the last day, each second anew, and an incident for each process that
//! was killed.
//!
//! The file of how things stand is appended to, a frame each interval, and written anew once a minute. What was appended is in
//! the kernel's hands, and outlives us; a crash of the machine may take what was appended since the file was last written
//! anew, which is when it is brought onto the disk. Incidents are on the disk before they have their names.

#[cfg(test)]
mod tests;

use std::{
    collections::{BTreeSet, HashMap},
    fs::{self, File},
    io,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::{
    progress::say,
    state_dir::{StateDir, incident_name},
};
use crate::{
    capture::{self, GroupRow, IncidentRow, LargestRow, Recording, Row, Writer},
    kernel::evidence,
    report::{escape::printable, units},
    watch::{self, Config, Facts, Watched},
};

/// How often the file is written anew, and memory gets coarser with it.
const REWRITE: Duration = Duration::from_secs(60);

/// If it grows beyond its bound before, it is written anew at once, but for a pause of so many times as long as that took.
const REST: u32 = 9;

/// Incidents of one interval: a machine on which hundreds are killed at once has one reason for all.
const MOST_AT_ONCE: usize = 20;

/// Processes that have ended and are remembered.
const KEPT_ENDED: usize = 256;

const ROLLING: &str = "black-box.jsonl.zst";

/// The files of a run.
pub struct BlackBox {
    state: StateDir,
    config: Config,
    log: evidence::Log,
    /// `None` after the disk has failed, until it is written anew.
    rolling: Option<Rolling>,
    /// When it was written anew, and how long that took.
    rewritten: Option<(Instant, Duration)>,
    /// Processes that were chosen, or have ended, since the last interval.
    news: BTreeSet<u32>,
    /// Incidents of processes that have not ended yet.
    open: HashMap<u32, Written>,
    /// A tracer before us was interrupted.
    has_found: bool,
    /// Why something could not be written, until the black box has been written anew.
    trouble: Option<String>,
}

struct Rolling {
    writer: Writer<File>,
    /// What was left out when it was written.
    left_out: Vec<(String, u64)>,
}

struct Written {
    name: String,
    facts: Facts,
}

impl BlackBox {
    /// Keeps what an interrupted run has left in the directory as an incident.
    ///
    /// # Errors
    /// If the directory cannot be written to, or belongs to another run.
    pub fn open(directory: &Path, config: &Config) -> Result<Self> {
        let state = StateDir::open(directory)
            .with_context(|| format!("keep the black box in {}", directory.display()))?;
        let mut this = Self {
            state,
            config: config.clone(),
            log: evidence::Log::open(),
            rolling: None,
            rewritten: None,
            news: BTreeSet::new(),
            open: HashMap::new(),
            has_found: false,
            trouble: None,
        };
        this.keep_left().context("keep what an interrupted run has left")?;
        Ok(this)
    }

    pub fn configure(&mut self, config: &Config) {
        self.config = config.clone();
    }

    /// Rows, before they are taken in.
    pub(super) fn append(&mut self, rows: &[Row]) {
        for row in rows {
            match row {
                Row::Oom(it) => _ = self.news.insert(it.process),
                Row::Process(it) if it.ended.is_some() => _ = self.news.insert(it.id),
                _ => {}
            }
        }
        let Some(rolling) = &mut self.rolling else { return };
        if let Err(error) = rolling.append(rows) {
            // What is there stays readable; behind a frame that is broken nothing may follow.
            self.rolling = None;
            self.complain(format!("the black box cannot be written: {error}"));
        }
    }

    /// Once an interval, when its rows have been taken in.
    pub(super) fn look(&mut self, watched: &mut Watched) {
        if self.has_found {
            self.has_found = false;
            count("interrupted", watched);
        }
        self.write_incidents(watched);
        if self.is_due() {
            let begun = Instant::now();
            watched.recording.thin_by_age();
            watched.recording.forget_ended(KEPT_ENDED);
            match self.rewrite(&watched.recording) {
                Ok(rolling) => (self.rolling, self.trouble) = (Some(rolling), None),
                Err(error) => self.complain(format!("the black box cannot be written anew: {error}")),
            }
            self.rewritten = Some((Instant::now(), begun.elapsed()));
            log::info!("the black box has been written anew in {:?}", begun.elapsed());
        }
    }

    fn is_due(&self) -> bool {
        let Some((at, took)) = self.rewritten else { return true };
        let is_full = |it: &Rolling| {
            it.writer.out().metadata().is_ok_and(|it| it.len() > self.config.black_box.max_size)
        };
        let age = at.elapsed();
        age >= REWRITE || age >= took * REST && self.rolling.as_ref().is_some_and(is_full)
    }

    /// What does not work, for those who ask.
    pub(super) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    fn complain(&mut self, why: String) {
        say(&why);
        self.trouble = Some(why);
    }

    /// The run has come to its end, and is no incident.
    pub(super) fn close(&mut self) {
        self.rolling = None;
        if let Err(error) = fs::remove_file(self.state.join(ROLLING))
            && error.kind() != io::ErrorKind::NotFound
        {
            say(&format!("the black box cannot be removed: {error}"));
        }
    }

    /// Half of the room is for what will be appended.
    fn rewrite(&self, recording: &Recording) -> io::Result<Rolling> {
        let max_bytes = self.config.black_box.max_size / 2;
        let lives = |it: u32| recording.processes.get(&it).is_some_and(|it| it.ended.is_none());
        let mut sites = self.config.black_box.sites;
        loop {
            // With one site of each even those that have ended are too many.
            let is_wanted = |it: u32| sites > 1 || lives(it);
            let part = recording.part(is_wanted, sites);
            let writer = self.state.write(ROLLING, &part)?;
            if writer.out().metadata()?.len() <= max_bytes || sites <= 1 {
                let mut left_out = part.losses;
                left_out.retain(|name, _| !recording.losses.contains_key(name));
                return Ok(Rolling { writer, left_out: left_out.into_iter().collect() });
            }
            sites /= 2;
        }
    }

    fn keep_left(&mut self) -> Result<()> {
        let path = self.state.join(ROLLING);
        let file = match File::open(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
            file => file?,
        };
        let time = jiff::Timestamp::try_from(file.metadata()?.modified()?)?;
        match capture::read(file, None) {
            Ok(left) => {
                let name = incident_name("watch", None, time);
                self.state.write(&name, &watch::interrupted(left, rfc3339(time)))?;
                say(&format!(
                    "the last run was interrupted; what it knew is in {}",
                    self.state.join(&name).display()
                ));
                self.has_found = true;
                fs::remove_file(path)?;
                self.prune();
            }
            Err(error) => {
                let damaged = self.state.join("damaged.jsonl.zst");
                say(&format!("what the last run has left is not readable ({error}): {}", damaged.display()));
                fs::rename(path, damaged)?;
            }
        }
        Ok(())
    }

    fn write_incidents(&mut self, watched: &mut Watched) {
        let is_incident = |it: &u32| {
            let row = watched.recording.processes.get(it);
            let ended_badly = || row?.ended.as_ref().map(watch::ended_badly)?;
            watched.recording.ooms.iter().any(|oom| oom.process == *it) || ended_badly().is_some()
        };
        let news = std::mem::take(&mut self.news);
        let (known, new): (Vec<u32>, Vec<u32>) =
            news.into_iter().filter(is_incident).partition(|it| self.open.contains_key(it));
        if known.is_empty() && new.is_empty() {
            return;
        }
        if new.len() > MOST_AT_ONCE {
            say(&format!(
                "{} processes were killed at once: there are incidents of {MOST_AT_ONCE} of them",
                new.len()
            ));
        }
        let mut residents = None;
        for process in known.into_iter().chain(new.into_iter().take(MOST_AT_ONCE)) {
            let mut facts = match self.open.get(&process) {
                Some(written) => written.facts.clone(),
                None => Facts {
                    processes: residents.get_or_insert_with(self::residents).clone(),
                    ..facts(watched, process)
                },
            };
            facts.kernel_log = self.log.lines().map(|it| it.map(str::to_owned).collect());
            if let Err(error) = self.write_incident(watched, process, facts) {
                self.complain(format!("an incident cannot be written: {error}"));
            }
        }
        self.prune();
    }

    fn write_incident(&mut self, watched: &mut Watched, process: u32, facts: Facts) -> io::Result<()> {
        let Some(part) = watch::incident(watched, process, &facts) else { return Ok(()) };
        let (Some(incident), Some(row)) = (&part.incident, watched.recording.processes.get(&process)) else {
            return Ok(());
        };
        let known = self.open.remove(&process);
        let is_new = known.is_none();
        let name = known.map_or_else(
            || {
                let time = incident.time.parse().unwrap_or_else(|_| jiff::Timestamp::now());
                incident_name(&row.name, Some(row.pid), time)
            },
            |it| it.name,
        );
        self.state.write(&name, &part)?;
        if is_new {
            say(&format!("{}; {}", told(incident), self.state.join(&name).display()));
        }
        if row.ended.is_none() {
            // Its lines in the log are read again when it has ended.
            self.open.insert(process, Written { name, facts: Facts { kernel_log: None, ..facts } });
        }
        if is_new {
            count(&incident.kind, watched);
        }
        Ok(())
    }

    fn prune(&self) {
        match self.state.prune(&self.config.incidents) {
            Ok(gone) => gone.iter().for_each(|it| {
                say(&format!("incident removed, to stay within bounds: {}", self.state.join(it).display()));
            }),
            Err(error) => say(&format!("old incidents cannot be removed: {error}")),
        }
    }
}

impl Rolling {
    /// One frame.
    fn append(&mut self, rows: &[Row]) -> io::Result<()> {
        for row in rows {
            match row {
                Row::Interval(it) if !self.left_out.is_empty() => {
                    let mut it = it.clone();
                    it.loss.extend(self.left_out.iter().cloned());
                    self.writer.row(&Row::Interval(it))?;
                }
                row => self.writer.row(row)?,
            }
        }
        self.writer.flush()
    }
}

fn count(kind: &str, watched: &mut Watched) {
    *watched.incidents.entry(kind.to_owned()).or_default() += 1;
}

/// What can be found out about the end of a process.
fn facts(watched: &Watched, process: u32) -> Facts {
    let path = watched.recording.processes.get(&process).and_then(|it| it.cgroup.as_deref());
    let group = |it: evidence::Group| GroupRow {
        path: it.path,
        memory_bytes: it.memory_bytes,
        limit_bytes: it.limit_bytes,
        peak_bytes: it.peak_bytes,
        events: it.events,
    };
    let age_s = watch::happened_s(watched, process).map_or(0.0, |it| watched.now_s() - it);
    let now = jiff::Timestamp::now();
    let time = now.checked_sub(jiff::SignedDuration::from_secs_f64(age_s)).unwrap_or(now);
    Facts {
        time: rfc3339(time),
        groups: path.map(|it| evidence::groups(it).into_iter().map(group).collect()).unwrap_or_default(),
        ..Facts::default()
    }
}

fn residents() -> Vec<LargestRow> {
    let row = |it: evidence::Resident| LargestRow { pid: it.pid, name: it.name, rss_bytes: it.rss_bytes };
    evidence::residents().into_iter().map(row).collect()
}

/// To the millisecond.
fn rfc3339(time: jiff::Timestamp) -> String {
    format!("{time:.3}")
}

/// In one line.
fn told(incident: &IncidentRow) -> String {
    let Some(victim) = &incident.victim else { return incident.kind.clone() };
    let how = match (&*incident.kind, incident.signal.as_deref()) {
        ("oom-kill", _) => "was chosen by the OOM killer".to_owned(),
        (_, signal) => format!("was ended by {}", signal.unwrap_or("a signal")),
    };
    let held = match &victim.function {
        Some(name) => format!(", most in {}: {}", printable(name), units::bytes(victim.function_bytes)),
        None => String::new(),
    };
    format!(
        "process {} ({}) {how} and held {}{held}",
        victim.pid,
        printable(&victim.name),
        units::bytes(victim.live_bytes)
    )
}
