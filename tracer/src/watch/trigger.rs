//! When a process is looked at closely: conditions on where it stands, each with a time for which it must hold, and another
//! for which none must before it is let go again.

#[cfg(test)]
mod tests;

use std::{collections::HashMap, str::FromStr, time::Duration};

use serde::{Deserialize, Deserializer, de};

use super::{Group, Standing, Watched, suspicion};
use crate::{check::Rate, quantity, report::units};

/// Growth is that of so long, unless `for` says otherwise.
const GROWTH: Duration = Duration::from_secs(60);

/// How long nothing must be alarming before a process is let go.
const CALM: Duration = Duration::from_secs(60);

/// A process that is looked at closely has to be this far below a level that made it so: what lies on the border would come
/// and go otherwise.
const BELOW: f64 = 0.9;

/// Looks closely at a process when all of its conditions hold.
#[derive(Clone, Debug, Default, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case", default)]
pub struct Trigger {
    /// Only of processes whose program has this name.
    pub name: Option<String>,
    /// Only of those in or below this control group.
    pub cgroup: Option<String>,
    /// Its resident memory is beyond this share of what it may have.
    #[serde(deserialize_with = "share")]
    pub rss_share: Option<f64>,
    /// A control group that it is in uses more than this share of what that may have.
    #[serde(deserialize_with = "share")]
    pub cgroup_share: Option<f64>,
    /// Its resident memory grows faster.
    #[serde(deserialize_with = "rate")]
    pub growth: Option<Rate>,
    /// The time of that growth; without one, how long the conditions must have held.
    #[serde(rename = "for", deserialize_with = "duration")]
    pub lasting: Option<Duration>,
    /// Somebody in its control group, or of this machine, waited for memory for more than this share of the last ten seconds.
    #[serde(deserialize_with = "share")]
    pub pressure: Option<f64>,
    /// It, or its control group, will have all that it may have in less time.
    #[serde(deserialize_with = "duration")]
    pub time_to_limit: Option<Duration>,
    /// Its resident memory grows, by at least 1 MiB and 2 %, and goes on: what `--tier auto` looks for.
    pub suspicious: bool,
    /// How long this must not hold before the process is let go.
    #[serde(deserialize_with = "duration")]
    pub calm: Option<Duration>,
}

/// Where a process stands.
pub struct Situation<'a> {
    pub process: u32,
    pub name: &'a str,
    pub cgroup: Option<&'a str>,
    pub rss_bytes: u64,
    /// What it has of what it may have.
    pub rss_share: Option<f64>,
    /// The same of the fullest of its control groups.
    pub cgroup_share: Option<f64>,
    pub pressure: Option<f64>,
    pub time_to_limit_s: Option<f64>,
    /// Bytes per second, in so many last seconds; `None` if it was not known for so long, or shows no growth.
    pub growth: &'a dyn Fn(f64) -> Option<f64>,
}

/// Somebody who is to be looked at closely.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Wanted {
    pub process: u32,
    /// In words.
    pub reason: String,
}

/// What is known of the triggers of each process.
#[derive(Clone, Debug, Default)]
pub struct Triggers {
    triggers: Vec<Trigger>,
    processes: HashMap<u32, Course>,
}

#[derive(Clone, Debug, Default)]
struct Course {
    growth: suspicion::Watch,
    /// Since when the conditions of each trigger have held.
    since_s: Vec<Option<f64>>,
    alarm: Option<Alarm>,
    /// Of the last look.
    is_met: bool,
}

#[derive(Clone, Debug)]
struct Alarm {
    /// By which trigger.
    trigger: usize,
    reason: String,
    /// When any of them held last.
    last_s: f64,
}

impl Trigger {
    /// What is done if nobody says what to do: whoever grows for some time, or grows where there is little room left.
    pub fn usual() -> Vec<Self> {
        let minute = Rate { bytes: 1 << 20, per: crate::check::Per::Minute };
        let near = Self { growth: Some(minute), lasting: Some(Duration::from_secs(10)), ..Self::default() };
        vec![
            Self { suspicious: true, ..Self::default() },
            Self { rss_share: Some(0.8), ..near.clone() },
            Self { cgroup_share: Some(0.8), ..near.clone() },
            Self { time_to_limit: Some(Duration::from_secs(120)), ..near },
        ]
    }

    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        let levels = [self.rss_share, self.cgroup_share, self.pressure];
        let has_condition = self.suspicious
            || levels.iter().any(Option::is_some)
            || self.growth.is_some()
            || self.time_to_limit.is_some();
        if has_condition {
            return Ok(());
        }
        Err("a trigger needs a condition: rss-share, cgroup-share, growth, pressure, time-to-limit or suspicious".to_owned())
    }

    fn is_about(&self, facts: &Situation<'_>) -> bool {
        let is_below = |wanted: &String| {
            let wanted = format!("/{}", wanted.trim_matches('/'));
            facts.cgroup.is_some_and(|it| {
                it.strip_prefix(wanted.as_str()).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
            })
        };
        self.name.as_ref().is_none_or(|it| it == facts.name) && self.cgroup.as_ref().is_none_or(is_below)
    }

    /// Why all of its conditions hold, in words; `None` if one does not. `part` of each level is enough.
    fn holds(
        &self,
        facts: &Situation<'_>,
        suspicion: Option<&suspicion::Suspicion>,
        part: f64,
    ) -> Option<String> {
        let mut reasons = Vec::new();
        let mut level = |wanted: Option<f64>, found: Option<f64>, say: &dyn Fn(f64) -> String| {
            let Some(wanted) = wanted else { return Some(()) };
            let found = found.filter(|it| *it >= wanted * part)?;
            reasons.push(say(found));
            Some(())
        };
        let percent = |share: f64| format!("{:.0} %", share * 100.0);
        level(self.rss_share, facts.rss_share, &|it| {
            format!("it has {} of the memory that it may have", percent(it))
        })?;
        level(self.cgroup_share, facts.cgroup_share, &|it| {
            format!("its control group has {} of the memory that it may have", percent(it))
        })?;
        level(self.pressure, facts.pressure, &|it| {
            format!("{} of the time somebody waits for memory", percent(it))
        })?;
        let span_s = self.lasting.unwrap_or(GROWTH).as_secs_f64();
        let growth = self.growth.and_then(|_| (facts.growth)(span_s));
        level(self.growth.map(Rate::bytes_per_s), growth, &|it| {
            format!("its resident memory grows by {}", units::rate(it).trim_start_matches('+'))
        })?;
        if let Some(wanted) = self.time_to_limit {
            let found_s = facts.time_to_limit_s.filter(|it| it * part <= wanted.as_secs_f64())?;
            reasons.push(format!(
                "if it goes on like this there is no room left in {}",
                units::seconds(found_s)
            ));
        }
        if self.suspicious {
            reasons.push(suspicion?.to_string());
        }
        Some(reasons.join("; "))
    }

    /// How long it must have held.
    fn hold_s(&self) -> f64 {
        if self.growth.is_some() { 0.0 } else { self.lasting.map_or(0.0, |it| it.as_secs_f64()) }
    }

    fn calm_s(&self) -> f64 {
        self.calm.unwrap_or(CALM).as_secs_f64()
    }
}

/// `growth=1MiB/min,for=10m,name=app`; as in a file, with commas between.
impl FromStr for Trigger {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mut table = toml::Table::new();
        for part in text.split(',').map(str::trim).filter(|it| !it.is_empty()) {
            let (key, value) = match part.split_once('=') {
                Some((key, value)) => (key.trim(), toml::Value::String(value.trim().to_owned())),
                None => (part, toml::Value::Boolean(true)),
            };
            if table.insert(key.to_owned(), value).is_some() {
                return Err(format!("{key} is there twice"));
            }
        }
        let trigger: Self = table.try_into().map_err(|error: toml::de::Error| error.message().to_owned())?;
        trigger.check()?;
        Ok(trigger)
    }
}

impl Triggers {
    pub fn new(triggers: Vec<Trigger>) -> Self {
        Self { triggers, processes: HashMap::new() }
    }

    /// From now on these hold. Who is looked at closely stays so until it has been calm for as long as the new ones want.
    pub fn configure(&mut self, triggers: Vec<Trigger>) {
        self.triggers = triggers;
        for course in self.processes.values_mut() {
            course.since_s.clear();
            if let Some(alarm) = &mut course.alarm {
                alarm.trigger = alarm.trigger.min(self.triggers.len().saturating_sub(1));
            }
        }
    }

    /// As [`Triggers::judge`], of all that live.
    pub fn look(&mut self, watched: &Watched) -> Vec<Wanted> {
        let standings: Vec<Standing<'_>> = watched.processes().collect();
        let growth = |it: &Standing<'_>| {
            let process = it.row.id;
            move |span_s: f64| watched.growth_over(process, span_s)
        };
        let growth: Vec<_> = standings.iter().map(growth).collect();
        let facts = standings.iter().zip(&growth).map(|(it, growth)| Situation {
            process: it.row.id,
            name: &it.row.name,
            cgroup: it.row.cgroup.as_deref(),
            rss_bytes: it.rss_bytes,
            rss_share: it.share(),
            cgroup_share: it.group.as_ref().and_then(Group::share),
            pressure: it.pressure,
            time_to_limit_s: it.time_to_limit_s(),
            growth,
        });
        self.judge(watched.now_s(), facts)
    }

    /// Who is to be looked at closely now: those who are already, then by how near they are to what they may have.
    pub fn judge<'a>(&mut self, now_s: f64, all: impl IntoIterator<Item = Situation<'a>>) -> Vec<Wanted> {
        let mut wanted = Vec::new();
        self.processes.values_mut().for_each(|it| it.is_met = false);
        for facts in all {
            let course = self.processes.entry(facts.process).or_default();
            course.is_met = true;
            let was_wanted = course.alarm.is_some();
            course.judge(&self.triggers, now_s, &facts);
            if let Some(alarm) = &course.alarm {
                let wanted_one = Wanted { process: facts.process, reason: alarm.reason.clone() };
                wanted.push((was_wanted, facts.nearness(), wanted_one));
            }
        }
        self.processes.retain(|_, it| it.is_met);
        wanted.sort_by(|a, b| b.0.cmp(&a.0).then(b.1.total_cmp(&a.1)).then(a.2.process.cmp(&b.2.process)));
        wanted.into_iter().map(|it| it.2).collect()
    }
}

impl Situation<'_> {
    /// The more the nearer to its limit: what it has of that, and more if it will soon be there.
    fn nearness(&self) -> f64 {
        let share = [self.rss_share, self.cgroup_share].into_iter().flatten().fold(0.0, f64::max);
        share + self.time_to_limit_s.map_or(0.0, |it| 60.0 / (60.0 + it.max(0.0)))
    }
}

impl Course {
    fn judge(&mut self, triggers: &[Trigger], now_s: f64, facts: &Situation<'_>) {
        let suspicion = self.growth.add(now_s, facts.rss_bytes as i64);
        self.since_s.resize(triggers.len(), None);
        let part = if self.alarm.is_some() { BELOW } else { 1.0 };
        let mut holds = false;
        for (at, trigger) in triggers.iter().enumerate() {
            let reason = Some(trigger)
                .filter(|it| it.is_about(facts))
                .and_then(|it| it.holds(facts, suspicion.as_ref(), part));
            let Some(reason) = reason else {
                self.since_s[at] = None;
                continue;
            };
            holds = true;
            let since_s = *self.since_s[at].get_or_insert(now_s);
            if self.alarm.is_none() && now_s - since_s >= trigger.hold_s() {
                self.alarm = Some(Alarm { trigger: at, reason, last_s: now_s });
            }
        }
        if let Some(alarm) = &mut self.alarm {
            if holds {
                alarm.last_s = now_s;
            }
            let calm_s = triggers.get(alarm.trigger).map_or(0.0, Trigger::calm_s);
            if now_s - alarm.last_s >= calm_s {
                self.alarm = None;
            }
        }
    }
}

fn parsed<'de, D: Deserializer<'de>, T>(
    from: D,
    parse: fn(&str) -> Result<T, String>,
) -> Result<Option<T>, D::Error> {
    let text = String::deserialize(from)?;
    parse(&text).map(Some).map_err(|why| de::Error::custom(format!("{text:?}: {why}")))
}

fn share<'de, D: Deserializer<'de>>(from: D) -> Result<Option<f64>, D::Error> {
    parsed(from, quantity::share)
}

fn duration<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    parsed(from, quantity::duration)
}

fn rate<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Rate>, D::Error> {
    parsed(from, Rate::from_str)
}
