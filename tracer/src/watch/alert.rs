//! What is said when a budget is near its end or breached: for people, and as `alloctrace.alert/1` for programs, whose field
//! names are a contract.

use serde_json::{Value, json};

use super::{Limit, evidence::Evidence};
use crate::report::{escape::printable, units, words};

/// What is told.
#[derive(Clone, Debug, PartialEq)]
pub struct Alert {
    /// The same for all that is told of one matter.
    pub id: String,
    pub host: String,
    /// RFC 3339.
    pub time: String,
    /// Seconds since the watch began.
    pub t_s: f64,
    /// When it was first told.
    pub since_s: f64,
    pub event: Event,
    /// The one that it has, or had until now.
    pub severity: Severity,
    /// The label.
    pub budget: String,
    pub limit: Limit,
    /// Bytes, or bytes per second, as the next.
    pub allowed: f64,
    pub measured: f64,
    pub subject: Subject,
    /// What the kernel allows, whatever the budget says.
    pub limit_bytes: Option<u64>,
    /// When that is reached if it goes on growing as in the last minute.
    pub time_to_limit_s: Option<f64>,
    pub evidence: Evidence,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    Warning,
    Error,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    Raised,
    /// It lasts; told for the so-manieth time again.
    Repeated(u32),
    Resolved(Reason),
}

/// Why an alert is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Reason {
    /// It has been better for some time.
    Calm,
    /// The process has ended, in words how; or the group has no processes any more.
    Ended(String),
    /// There is no such budget any more.
    Withdrawn,
}

/// Whom it is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    Process { pid: u32, name: String, command: String, cgroup: Option<String>, is_exact: bool },
    Group { path: String },
}

impl Severity {
    pub const ALL: [Self; 2] = [Self::Warning, Self::Error];

    pub fn name(self) -> &'static str {
        match self {
            Self::Warning => "warning",
            Self::Error => "error",
        }
    }
}

impl Reason {
    fn name(&self) -> &'static str {
        match self {
            Self::Calm => "calm",
            Self::Ended(_) => "ended",
            Self::Withdrawn => "withdrawn",
        }
    }
}

impl Subject {
    /// `leak (process 7)`
    fn title(&self) -> String {
        match self {
            Self::Process { pid, name, .. } => format!("{} (process {pid})", printable(name)),
            Self::Group { path } => format!("control group {}", printable(path)),
        }
    }

    /// A command that shows more of it.
    fn more(&self) -> String {
        match self {
            Self::Process { pid, .. } => format!("alloctrace record -p {pid} -d 60s"),
            Self::Group { path } => format!("alloctrace top --cgroup {}", quoted(path)),
        }
    }

    fn json(&self) -> Value {
        match self {
            Self::Process { pid, name, command, cgroup, is_exact } => json!({
                "kind": "process",
                "pid": pid,
                "name": name,
                "command": command,
                "cgroup": cgroup,
                "tier": if *is_exact { "exact" } else { "growth" },
            }),
            Self::Group { path } => json!({ "kind": "cgroup", "cgroup": path }),
        }
    }
}

/// Of what one budget says about one process or group.
pub(super) fn id(host: &str, started: &str, budget: &str, limit: Limit, who: &str) -> String {
    format!("{host}/{started}/{budget}/{}/{who}", limit.name())
}

/// As a shell takes it for one word.
fn quoted(text: &str) -> String {
    let is_plain = |it: char| it.is_ascii_alphanumeric() || "/._:@-".contains(it);
    if text.chars().all(is_plain) { text.to_owned() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

impl Alert {
    /// `warning`, `error` or `resolved`.
    pub fn state(&self) -> &'static str {
        match self.event {
            Event::Resolved(_) => "resolved",
            _ => self.severity.name(),
        }
    }

    /// One line for people.
    pub fn line(&self) -> String {
        let (measured, allowed) = (self.limit.show(self.measured), self.limit.show(self.allowed));
        let title = self.subject.title();
        let budget = format!("{} of budget {:?}", self.limit.name(), self.budget);
        match &self.event {
            Event::Resolved(Reason::Ended(how)) => format!("alert resolved: {title}: {how}; {budget}"),
            Event::Resolved(Reason::Withdrawn) => {
                format!("alert resolved: {title}: no longer held to {budget}")
            }
            Event::Resolved(Reason::Calm) => {
                format!("alert resolved: {title}: {measured}, {allowed} allowed by {budget}")
            }
            Event::Raised | Event::Repeated(_) => {
                let over = match self.limit {
                    Limit::Growth { over_s, .. } => format!(" over {}", units::seconds(over_s)),
                    _ => String::new(),
                };
                let still = if matches!(self.event, Event::Repeated(_)) { "still " } else { "" };
                let mut line = format!(
                    "alert {}: {title}: {still}{measured}{over}, {allowed} allowed by {budget}",
                    self.severity.name()
                );
                if let (Some(left_s), Some(bytes)) = (self.time_to_limit_s, self.limit_bytes) {
                    let (left, bytes) = (units::seconds(left_s), units::bytes(bytes as i64));
                    line += &format!("; its limit of {bytes} is {left} away");
                }
                if let Some(top) = self.evidence.stacks.first() {
                    let share = words::share(top.share);
                    line += &format!("; {share} of {} by {}", self.evidence.of_what(), top.headline());
                }
                line
            }
        }
    }

    /// All of it.
    pub fn json(&self) -> Value {
        let (reason, ended) = match &self.event {
            Event::Resolved(Reason::Ended(how)) => (Some("ended"), Some(how)),
            Event::Resolved(reason) => (Some(reason.name()), None),
            _ => (None, None),
        };
        let is_over = matches!(self.event, Event::Resolved(_));
        json!({
            "schema": "alloctrace.alert/1",
            "id": self.id,
            "host": self.host,
            "time": self.time,
            "t_s": self.t_s,
            "state": self.state(),
            "severity": self.severity.name(),
            "since_s": self.since_s,
            "repeat": if let Event::Repeated(times) = self.event { times } else { 0 },
            "reason": reason,
            "ended": ended,
            "budget": self.budget,
            "limit": self.limit.name(),
            "over_s": if let Limit::Growth { over_s, .. } = self.limit { Some(over_s) } else { None },
            "unit": if self.limit.is_rate() { "bytes/s" } else { "bytes" },
            "allowed": self.allowed,
            "measured": self.measured,
            "message": self.line(),
            "subject": self.subject.json(),
            "limit_bytes": self.limit_bytes,
            "time_to_limit_s": self.time_to_limit_s,
            "share_of": self.evidence.of_what(),
            "stacks": self.evidence.stacks.iter().map(|it| it.json()).collect::<Vec<_>>(),
            "why_no_stacks": self.evidence.why_none,
            "more": (!is_over).then(|| self.subject.more()),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_is_one_word() {
        assert_eq!(quoted("/system.slice/a@b.service"), "/system.slice/a@b.service");
        assert_eq!(quoted("/a b;'c'"), r"'/a b;'\''c'\'''");
    }
}
