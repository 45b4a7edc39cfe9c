//! Which budgets are near their end or breached, and what is to be told of it: each matter once when it becomes a warning, once
//! when it becomes an error, and once when it is over.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap, HashSet},
    path::Path,
};

use jiff::{SignedDuration, Timestamp};

use super::{
    Alert, Budget, Ceiling, Event, Group, Limit, Outlets, Reason, Severity, Standing, Subject, Watched,
    alert,
    evidence::{Evidence, Wanted},
    growth::Course,
    rise::{Level, Rise, Rules, Turn},
};
use crate::report::words;

/// What others may want to know of it, at the moment.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Alerting {
    /// Alerts that last, by label of their budget and severity. Both severities of each budget are here.
    pub firing: BTreeMap<(String, Severity), u64>,
    /// Alerts that could not be delivered since the watch began, by whom they were for: `log`, `command`, `webhook`.
    pub failures: BTreeMap<&'static str, u64>,
}

/// All budgets, and where everybody stands to them.
#[derive(Clone, Debug, Default)]
pub struct Alerts {
    budgets: Vec<Budget>,
    resolve_after_s: f64,
    repeat_s: Option<f64>,
    matters: BTreeMap<Key, Matter>,
    courses: HashMap<Key, Course>,
}

/// A limit of a budget, and who is to keep it.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
struct Key {
    /// Places in [`Alerts::budgets`], and in its limits.
    budget: usize,
    limit: usize,
    who: Who,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
enum Who {
    /// The recording's own number, so that a restart is another one.
    Process(u32),
    Group(String),
}

/// Something that is, or may become, an alert.
#[derive(Clone, Debug)]
struct Matter {
    rise: Rise,
    /// As last seen.
    measured: Measured,
    /// Judgements since then.
    unseen: u32,
}

/// What somebody has of what is allowed.
#[derive(Clone, Debug)]
struct Measured {
    amount: f64,
    /// What surely is there; more than that raises no alert.
    sure_amount: f64,
    allowed: f64,
    subject: Subject,
    processes: BTreeSet<u32>,
    limit_bytes: Option<u64>,
    time_to_limit_s: Option<f64>,
}

/// Who has not been seen for so many judgements is gone, also if nobody has said so.
const MOST_UNSEEN: u32 = 3;

/// Alerts of one moment that get their stacks. Who has more has read enough, and looking for them takes time.
const MOST_GATHERED: usize = 64;

/// How far back an alert of an amount looks for what has grown.
const LOOK_BACK_S: f64 = 600.0;

impl Alerts {
    pub fn new(budgets: Vec<Budget>, outlets: &Outlets) -> Self {
        let mut alerts = Self::default();
        alerts.set(budgets, outlets);
        alerts
    }

    fn set(&mut self, budgets: Vec<Budget>, outlets: &Outlets) {
        self.budgets = budgets;
        self.resolve_after_s = outlets.resolve_after.as_secs_f64();
        self.repeat_s = outlets.repeat.map(|it| it.as_secs_f64());
    }

    /// From now on these hold. What is over by that is told; budgets that are as before know what they knew.
    pub fn configure(&mut self, watched: &Watched, budgets: Vec<Budget>, outlets: &Outlets) -> Vec<Alert> {
        let mut places: Vec<Option<usize>> = Vec::new();
        for old in &self.budgets {
            let place = |it: &usize| budgets[*it] == *old && !places.contains(&Some(*it));
            places.push((0..budgets.len()).find(place));
        }
        let moved = |key: &Key| places[key.budget].map(|budget| Key { budget, ..key.clone() });
        let mut told = Vec::new();
        let mut matters = BTreeMap::new();
        for (key, matter) in std::mem::take(&mut self.matters) {
            match moved(&key) {
                Some(key) => drop(matters.insert(key, matter)),
                None if matter.rise.severity().is_some() => {
                    told.push((key, matter, Event::Resolved(Reason::Withdrawn)));
                }
                None => {}
            }
        }
        let courses = std::mem::take(&mut self.courses);
        self.courses = courses.into_iter().filter_map(|(key, it)| Some((moved(&key)?, it))).collect();
        let alerts = self.write(watched, told);
        self.matters = matters;
        self.set(budgets, outlets);
        alerts
    }

    /// Once an interval: what is to be told.
    pub fn judge(&mut self, watched: &Watched) -> Vec<Alert> {
        if self.budgets.is_empty() {
            return Vec::new();
        }
        let now_s = watched.now_s();
        let mut told: Vec<(Key, Matter, Event)> = Vec::new();
        let measured = self.measure(watched);
        let mut seen: HashSet<Key> = HashSet::new();
        for (key, measured) in measured {
            let rules = self.rules(&key);
            let share = |amount: f64| amount / measured.allowed;
            let level = Level { share: share(measured.amount), sure_share: share(measured.sure_amount) };
            let matter = self.matters.entry(key.clone()).or_insert_with(|| Matter {
                rise: Rise::default(),
                measured: measured.clone(),
                unseen: 0,
            });
            matter.measured = measured;
            matter.unseen = 0;
            let event = match matter.rise.step(now_s, level, &rules) {
                None => None,
                Some(Turn::Raised) => Some(Event::Raised),
                Some(Turn::Repeated(times)) => Some(Event::Repeated(times)),
                Some(Turn::Resolved) => Some(Event::Resolved(Reason::Calm)),
            };
            told.extend(event.map(|it| (key.clone(), matter.clone(), it)));
            seen.insert(key);
        }
        for (key, matter) in self.matters.iter_mut().filter(|(key, _)| !seen.contains(key)) {
            matter.unseen += 1;
            if let Some(how) = gone(watched, key, matter.unseen) {
                if matter.rise.severity().is_some() {
                    let event = Event::Resolved(Reason::Ended(how));
                    told.push((key.clone(), matter.clone(), event));
                }
                matter.rise = Rise::default();
            }
        }
        self.matters.retain(|_, it| !it.rise.is_fine());
        self.courses.retain(|key, _| seen.contains(key) || gone(watched, key, 0).is_none());
        self.write(watched, told)
    }

    /// What is alarming now; of each budget both severities.
    pub fn firing(&self) -> BTreeMap<(String, Severity), u64> {
        let both = |it: &Budget| Severity::ALL.map(|severity| ((it.label.clone(), severity), 0));
        let mut firing: BTreeMap<_, u64> = self.budgets.iter().flat_map(both).collect();
        for (key, matter) in &self.matters {
            if let Some(severity) = matter.rise.severity() {
                *firing.entry((self.budgets[key.budget].label.clone(), severity)).or_default() += 1;
            }
        }
        firing
    }

    fn rules(&self, key: &Key) -> Rules {
        let budget = &self.budgets[key.budget];
        Rules {
            warn_at: budget.warn_at,
            hold_s: budget.hold_s,
            resolve_after_s: self.resolve_after_s,
            repeat_s: self.repeat_s,
        }
    }

    /// Everybody that a budget is for.
    fn measure(&mut self, watched: &Watched) -> Vec<(Key, Measured)> {
        let now_s = watched.now_s();
        let mut measured = Vec::new();
        // The processes that make a group the business of a limit.
        let mut members: BTreeMap<(usize, usize, &str), BTreeSet<u32>> = BTreeMap::new();
        let groups: HashMap<&str, Group<'_>> = watched.groups().map(|it| (it.path, it)).collect();
        let mut heaps: Option<HashMap<u32, i64>> = None;
        for standing in watched.processes() {
            let id = standing.row.id;
            for (budget, it) in
                self.budgets.iter().enumerate().filter(|it| it.1.selector.selects(standing.row))
            {
                for (limit, it) in it.limits.iter().enumerate() {
                    let key = Key { budget, limit, who: Who::Process(id) };
                    let found = match *it {
                        Limit::Rss(allowed) => Some((standing.rss_bytes as f64, None, allowed as f64)),
                        Limit::Live(_) if !standing.is_exact => None,
                        Limit::Live(allowed) => {
                            let heaps = heaps.get_or_insert_with(|| heap_bytes(watched));
                            let live = heaps.get(&id).copied().unwrap_or(0);
                            Some((live as f64, None, allowed as f64))
                        }
                        Limit::Growth { rate, over_s } => {
                            let course =
                                self.courses.entry(key.clone()).or_insert_with(|| Course::new(over_s));
                            let growth = course.add(now_s, standing.rss_bytes);
                            growth.map(|it| {
                                let sure = if it.goes_on { it.sure_bytes_per_s } else { 0.0 };
                                (it.bytes_per_s, Some(sure), rate.bytes_per_s())
                            })
                        }
                        Limit::Cgroup(ceiling) => {
                            for path in groups_of(standing.row.cgroup.as_deref(), ceiling, &groups) {
                                if self.budgets[budget].selector.selects_group(path) {
                                    members.entry((budget, limit, path)).or_default().insert(id);
                                }
                            }
                            None
                        }
                    };
                    measured.extend(found.map(|found| (key, of_process(&standing, found))));
                }
            }
        }
        for ((budget, limit, path), processes) in members {
            let (Some(group), Limit::Cgroup(ceiling)) =
                (groups.get(path), self.budgets[budget].limits[limit])
            else {
                continue;
            };
            let allowed = match ceiling {
                Ceiling::Bytes(bytes) => Some(bytes as f64),
                Ceiling::Share(share) => group.limit_bytes.map(|it| share * it as f64),
            };
            let Some(allowed) = allowed.filter(|it| *it > 0.0) else { continue };
            let amount = group.memory_bytes as f64;
            let of_group = Measured {
                amount,
                sure_amount: amount,
                allowed,
                subject: Subject::Group { path: path.to_owned() },
                processes,
                limit_bytes: group.limit_bytes,
                time_to_limit_s: group.time_to_limit_s(),
            };
            measured.push((Key { budget, limit, who: Who::Group(path.to_owned()) }, of_group));
        }
        measured
    }

    /// With the stacks that are to blame.
    fn write(&self, watched: &Watched, told: Vec<(Key, Matter, Event)>) -> Vec<Alert> {
        let header = &watched.recording.header;
        let now_s = watched.now_s();
        let limit = |key: &Key| self.budgets[key.budget].limits[key.limit];
        let is_over = |event: &Event| matches!(event, Event::Resolved(_));
        let mut gathered = 0;
        let alert = |(key, Matter { rise, measured, .. }, event): (Key, Matter, Event)| {
            let limit = limit(&key);
            let evidence = match is_over(&event) {
                true => Evidence::default(),
                false if gathered == MOST_GATHERED => Evidence {
                    why_none: Some(format!(
                        "more than {MOST_GATHERED} alerts at once; those before have theirs"
                    )),
                    ..Evidence::default()
                },
                false => {
                    gathered += 1;
                    wanted(limit, &measured).gather(watched)
                }
            };
            let is_new = matches!(event, Event::Raised);
            let budget = self.budgets[key.budget].label.clone();
            Alert {
                id: alert::id(&header.host, &header.started, &budget, limit, &key.who.to_string()),
                host: header.host.clone(),
                time: time(&header.started, now_s),
                t_s: now_s,
                since_s: rise.since_s(),
                severity: rise.last_severity(),
                event,
                budget,
                limit,
                allowed: measured.allowed,
                measured: if is_new { measured.sure_amount } else { measured.amount },
                subject: measured.subject,
                limit_bytes: measured.limit_bytes,
                time_to_limit_s: measured.time_to_limit_s,
                evidence: Evidence { by_growth: limit.is_rate(), ..evidence },
            }
        };
        told.into_iter().map(alert).collect()
    }
}

impl std::fmt::Display for Who {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Process(id) => write!(out, "{id}"),
            Self::Group(path) => out.write_str(path),
        }
    }
}

/// The groups of a process that a ceiling is for: its own, and of a share, all above it that have a limit.
fn groups_of<'a>(
    own: Option<&'a str>,
    ceiling: Ceiling,
    groups: &HashMap<&str, Group<'_>>,
) -> impl Iterator<Item = &'a str> {
    let above = own.map(Path::new).into_iter().flat_map(Path::ancestors).filter_map(Path::to_str);
    above.filter(move |path| match ceiling {
        Ceiling::Bytes(_) => Some(*path) == own,
        Ceiling::Share(_) => groups.get(path).is_some_and(|it| it.limit_bytes.is_some()),
    })
}

fn of_process(standing: &Standing<'_>, (amount, sure, allowed): (f64, Option<f64>, f64)) -> Measured {
    let row = standing.row;
    Measured {
        amount,
        sure_amount: sure.unwrap_or(amount),
        allowed,
        subject: Subject::Process {
            pid: row.pid,
            name: row.name.clone(),
            command: row.command.clone(),
            cgroup: row.cgroup.clone(),
            is_exact: standing.is_exact,
        },
        processes: BTreeSet::from([row.id]),
        limit_bytes: standing.limit_bytes,
        time_to_limit_s: standing.time_to_limit_s(),
    }
}

fn wanted(limit: Limit, measured: &Measured) -> Wanted {
    let window_s = if let Limit::Growth { over_s, .. } = limit { over_s } else { LOOK_BACK_S };
    let is_exact = matches!(measured.subject, Subject::Process { is_exact: true, .. });
    Wanted { processes: measured.processes.clone(), window_s, by_growth: limit.is_rate(), is_exact }
}

/// How it went, in words, if it has gone.
fn gone(watched: &Watched, key: &Key, unseen: u32) -> Option<String> {
    let is_lost = unseen >= MOST_UNSEEN;
    match &key.who {
        Who::Process(id) => match watched.recording.processes.get(id) {
            Some(process) => {
                let how = process.ended.as_ref().map(words::end);
                how.or_else(|| is_lost.then(|| "no longer one of those that the budget is for".to_owned()))
            }
            None => Some("gone".to_owned()),
        },
        Who::Group(_) => is_lost.then(|| "without processes that are watched".to_owned()),
    }
}

/// Live bytes on the heap, by process.
fn heap_bytes(watched: &Watched) -> HashMap<u32, i64> {
    let mut bytes: HashMap<u32, i64> = HashMap::new();
    for site in watched.recording.sites.values().filter(|it| &*it.kind == "heap") {
        let live = site.points.last().map_or(0, |it| it.live().bytes);
        *bytes.entry(site.process).or_default() += live;
    }
    bytes
}

/// `after_s` after a moment.
fn time(started: &str, after_s: f64) -> String {
    let after = SignedDuration::from_millis((after_s * 1000.0) as i64);
    let time = started.parse::<Timestamp>().ok().and_then(|it| it.checked_add(after).ok());
    time.map_or_else(|| started.to_owned(), |it| format!("{it:.3}"))
}

#[cfg(test)]
mod tests;
