//! `[[budget]]` of the configuration: who, and what is allowed.

use serde::Deserialize;

use super::written;
use crate::{capture::ProcessRow, check::Rate, quantity, report::units};

/// What the processes that it selects may take.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(try_from = "Written")]
pub struct Budget {
    /// How it is called in alerts and metrics.
    pub label: String,
    pub selector: Selector,
    /// At least one.
    pub limits: Vec<Limit>,
    /// The share of what is allowed at which a warning is due.
    pub warn_at: f64,
    /// For how long it must be so before it is said.
    pub hold_s: f64,
}

/// Whose budget it is. All that is given must hold; nothing given is every process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector {
    /// As `ps -o comm` shows it.
    pub name: Option<String>,
    /// The command line, with `*` for anything and `?` for one character.
    pub command: Option<String>,
    /// A control group, and all below it: a path from the root of the hierarchy.
    pub cgroup: Option<String>,
}

/// One thing that is allowed.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Limit {
    /// Resident bytes of a process.
    Rss(u64),
    /// Live bytes on the heap of a process whose allocator is followed.
    Live(u64),
    /// Bytes that are accounted to a control group.
    Cgroup(Ceiling),
    /// Of the resident bytes of a process.
    Growth { rate: Rate, over_s: f64 },
}

/// Of a control group.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ceiling {
    Bytes(u64),
    /// Of its limit.
    Share(f64),
}

/// As it stands in the file.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct Written {
    label: Option<String>,
    name: Option<String>,
    command: Option<String>,
    cgroup: Option<String>,
    #[serde(default, deserialize_with = "written::size")]
    max_rss: Option<u64>,
    #[serde(default, deserialize_with = "written::size")]
    max_live: Option<u64>,
    #[serde(default, deserialize_with = "ceiling")]
    max_cgroup: Option<Ceiling>,
    #[serde(default, deserialize_with = "rate")]
    max_growth: Option<Rate>,
    #[serde(default, deserialize_with = "written::duration")]
    over: Option<std::time::Duration>,
    #[serde(default, deserialize_with = "written::share")]
    warn_at: Option<f64>,
    #[serde(default, deserialize_with = "written::duration_or_none")]
    r#for: Option<std::time::Duration>,
}

fn ceiling<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Ceiling>, D::Error> {
    written::parsed(from, |it| match it.ends_with('%') {
        true => quantity::share(it).map(Ceiling::Share),
        false => quantity::size(it).map(Ceiling::Bytes),
    })
}

fn rate<'de, D: serde::Deserializer<'de>>(from: D) -> Result<Option<Rate>, D::Error> {
    written::parsed(from, str::parse)
}

const WARN_AT: f64 = 0.8;
const OVER_S: f64 = 600.0;

/// What the kernel keeps of a name (`TASK_COMM_LEN`, less the zero at its end).
const COMM_BYTES: usize = 15;

impl TryFrom<Written> for Budget {
    type Error = String;

    fn try_from(it: Written) -> Result<Self, String> {
        let over_s = it.over.map_or(OVER_S, |it| it.as_secs_f64());
        let limits: Vec<Limit> = [
            it.max_rss.map(Limit::Rss),
            it.max_live.map(Limit::Live),
            it.max_cgroup.map(Limit::Cgroup),
            it.max_growth.map(|rate| Limit::Growth { rate, over_s }),
        ]
        .into_iter()
        .flatten()
        .collect();
        if limits.is_empty() {
            return Err("a budget allows something: max-rss, max-live, max-cgroup or max-growth is missing"
                .to_owned());
        }
        if limits.iter().any(|it| it.is_nothing()) {
            return Err("a budget allows more than nothing".to_owned());
        }
        if it.over.is_some() && it.max_growth.is_none() {
            return Err("over is the time over which max-growth holds, and that is missing".to_owned());
        }
        let warn_at = it.warn_at.unwrap_or(WARN_AT);
        if warn_at > 1.0 {
            return Err("warn-at is a share of what is allowed: at most 100%".to_owned());
        }
        if let Some(name) = it.name.as_ref().filter(|it| it.is_empty() || it.len() > COMM_BYTES) {
            return Err(format!(
                "the kernel keeps {COMM_BYTES} bytes of a name, and no process has the name {name:?}; use command = \"*{name}*\""
            ));
        }
        let cgroup = it.cgroup.as_deref().map(group_path);
        let selector = Selector { name: it.name, command: it.command, cgroup };
        let label = it.label.unwrap_or_else(|| selector.to_string());
        Ok(Self { label, selector, limits, warn_at, hold_s: it.r#for.map_or(0.0, |it| it.as_secs_f64()) })
    }
}

/// `/system.slice` for that, for `system.slice/` and for its directory.
fn group_path(text: &str) -> String {
    let path = text.strip_prefix("/sys/fs/cgroup").filter(|it| it.is_empty() || it.starts_with('/'));
    format!("/{}", path.unwrap_or(text).trim_matches('/'))
}

impl std::fmt::Display for Selector {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let parts = [&self.name, &self.command, &self.cgroup];
        let parts: Vec<&str> = parts.into_iter().flatten().map(String::as_str).collect();
        out.write_str(&if parts.is_empty() { "every process".to_owned() } else { parts.join(" ") })
    }
}

impl Selector {
    pub fn selects(&self, process: &ProcessRow) -> bool {
        self.name.as_ref().is_none_or(|it| *it == process.name)
            && self.command.as_ref().is_none_or(|it| matches(it, &process.command))
            && process.cgroup.as_deref().map_or(self.cgroup.is_none(), |it| self.selects_group(it))
    }

    /// Its path is, or lies below, what is asked for.
    pub(super) fn selects_group(&self, path: &str) -> bool {
        let Some(top) = &self.cgroup else { return true };
        let below = path.strip_prefix(top.trim_end_matches('/'));
        below.is_some_and(|it| it.is_empty() || it.starts_with('/'))
    }
}

/// `*` stands for any text, `?` for one character.
fn matches(pattern: &str, text: &str) -> bool {
    let (pattern, text): (Vec<char>, Vec<char>) = (pattern.chars().collect(), text.chars().collect());
    let (mut at, mut begun) = (0, 0);
    // The last `*`, and how far what it stands for reaches.
    let mut star: Option<(usize, usize)> = None;
    while begun < text.len() {
        match pattern.get(at) {
            Some('*') => {
                star = Some((at, begun));
                at += 1;
            }
            Some(it) if *it == '?' || *it == text[begun] => (at, begun) = (at + 1, begun + 1),
            _ => {
                let Some((place, reach)) = star else { return false };
                star = Some((place, reach + 1));
                (at, begun) = (place + 1, reach + 1);
            }
        }
    }
    pattern[at..].iter().all(|it| *it == '*')
}

impl Limit {
    /// As in the file.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Rss(_) => "max-rss",
            Self::Live(_) => "max-live",
            Self::Cgroup(_) => "max-cgroup",
            Self::Growth { .. } => "max-growth",
        }
    }

    pub fn is_rate(&self) -> bool {
        matches!(self, Self::Growth { .. })
    }

    fn is_nothing(&self) -> bool {
        match self {
            Self::Rss(bytes) | Self::Live(bytes) | Self::Cgroup(Ceiling::Bytes(bytes)) => *bytes == 0,
            Self::Cgroup(Ceiling::Share(share)) => *share <= 0.0,
            Self::Growth { rate, .. } => rate.bytes == 0,
        }
    }

    /// An amount in the unit of this limit, for people.
    pub fn show(&self, amount: f64) -> String {
        match self {
            Self::Growth { rate, .. } => rate.per.show(amount),
            _ => units::bytes(amount.round() as i64),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::watch::Config;

    fn budget(text: &str) -> Budget {
        let mut config = Config::parse(&format!("[[budget]]\n{text}")).unwrap();
        config.budget.remove(0)
    }

    #[test]
    fn what_is_written() {
        let found = budget(
            "label = 'cache'\nname = 'redis-server'\ncommand = '*:6379*'\ncgroup = 'system.slice/'\nmax-rss = '1GiB'\n\
             max-live = 1048576\nmax-cgroup = '90%'\nmax-growth = '1MiB/min'\nover = '5min'\nwarn-at = '50%'\nfor = '30s'",
        );
        let selector = Selector {
            name: Some("redis-server".to_owned()),
            command: Some("*:6379*".to_owned()),
            cgroup: Some("/system.slice".to_owned()),
        };
        let limits = vec![
            Limit::Rss(1 << 30),
            Limit::Live(1 << 20),
            Limit::Cgroup(Ceiling::Share(0.9)),
            Limit::Growth { rate: "1MiB/min".parse().unwrap(), over_s: 300.0 },
        ];
        assert_eq!(found, Budget { label: "cache".to_owned(), selector, limits, warn_at: 0.5, hold_s: 30.0 });
    }

    #[test]
    fn what_is_not_written() {
        let found = budget("max-growth = '1MiB/min'");
        assert_eq!((found.label.as_str(), found.warn_at, found.hold_s), ("every process", 0.8, 0.0));
        assert!(matches!(found.limits[..], [Limit::Growth { over_s: 600.0, .. }]));
        let found = budget("name = 'nginx'\ncgroup = '/a'\nmax-cgroup = '1GiB'");
        assert_eq!(found.label, "nginx /a");
        assert_eq!(found.limits, [Limit::Cgroup(Ceiling::Bytes(1 << 30))]);
    }

    #[test]
    fn what_is_wrong_is_said_with_its_line() {
        for (text, expected) in [
            ("name = 'nginx'", "a budget allows something"),
            ("max-rss = 'much'", "write for example 4096, 64KiB or 1MB"),
            ("max-rss = 0", "more than nothing"),
            ("max-growth = '1MiB'", "a rate is a size per time"),
            ("max-rss = 1\nover = '5min'", "max-growth"),
            ("max-rss = 1\nwarn-at = '120%'", "at most 100%"),
            ("max-rss = 1\nname = 'a-name-that-is-too-long'", "the kernel keeps 15 bytes"),
            ("max-rss = 1\nmax-rrs = 2", "max-rrs"),
        ] {
            let error = Config::parse(&format!("\n[[budget]]\n{text}")).unwrap_err().to_string();
            assert!(error.contains(expected) && error.contains("line "), "{text}: {error}");
        }
    }

    fn check(selector: &Selector, (name, command, cgroup): (&str, &str, &str), expected: bool) {
        let row = ProcessRow {
            name: name.to_owned(),
            command: command.to_owned(),
            cgroup: (!cgroup.is_empty()).then(|| cgroup.to_owned()),
            ..ProcessRow::default()
        };
        assert_eq!(selector.selects(&row), expected, "{selector:?} {row:?}");
    }

    #[test]
    fn whose_it_is() {
        let process = ("nginx", "nginx: worker process", "/system.slice/nginx.service");
        let selector = |name: &str, command: &str, cgroup: &str| {
            let given = |it: &str| (!it.is_empty()).then(|| it.to_owned());
            Selector { name: given(name), command: given(command), cgroup: given(cgroup) }
        };
        check(&selector("", "", ""), process, true);
        check(&selector("nginx", "*worker*", "/system.slice"), process, true);
        check(&selector("ngin", "", ""), process, false);
        check(&selector("nginx", "*master*", ""), process, false);
        check(&selector("", "", "/system.slice/nginx.service"), process, true);
        check(&selector("", "", "/system.slice/nginx"), process, false);
        check(&selector("", "", "/"), process, true);
        check(&selector("", "", "/a"), ("x", "", ""), false);
        check(&selector("x", "", ""), ("x", "", ""), true);
    }

    #[test]
    fn patterns() {
        for (pattern, text, expected) in [
            ("", "", true),
            ("*", "", true),
            ("*", "anything", true),
            ("a*c", "abbbc", true),
            ("a*c", "abbbcd", false),
            ("*b*d*", "abcde", true),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("*aab", "aaaaab", true),
            ("ü*", "über", true),
            ("java", "java -jar x", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn directories_and_paths_are_the_same_group() {
        for text in ["/a/b", "a/b", "a/b/", "/sys/fs/cgroup/a/b"] {
            assert_eq!(group_path(text), "/a/b");
        }
        assert_eq!(group_path("/sys/fs/cgroup"), "/");
        assert_eq!(group_path("/sys/fs/cgroupies"), "/sys/fs/cgroupies");
    }
}
