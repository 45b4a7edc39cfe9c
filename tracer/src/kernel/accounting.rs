//! What the kernel accounts to control groups, and how much somebody waits for memory.

use std::{collections::BTreeSet, fs, path::Path};

/// What a control group has, and may have.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Accounted {
    pub memory_bytes: u64,
    pub limit_bytes: Option<u64>,
    /// Files' pages that nobody has used lately; only looked at where the limit is not far.
    pub reclaimable_bytes: Option<u64>,
    /// The share of the last ten seconds in which somebody in it waited for memory.
    pub pressure: Option<f64>,
    pub oom_count: Option<u64>,
    pub oom_kill_count: Option<u64>,
}

/// Where a hierarchy is mounted by custom, and its files.
struct Hierarchy {
    mount: &'static str,
    used: &'static str,
    limit: &'static str,
    /// In `memory.stat`.
    reclaimable: &'static str,
    events: &'static str,
}

/// Version 1, then 2, then 2 beside 1.
const HIERARCHIES: [Hierarchy; 3] = [
    Hierarchy {
        mount: "/sys/fs/cgroup/memory",
        used: "memory.usage_in_bytes",
        limit: "memory.limit_in_bytes",
        reclaimable: "total_inactive_file",
        events: "memory.oom_control",
    },
    Hierarchy { mount: "/sys/fs/cgroup", ..VERSION_2 },
    Hierarchy { mount: "/sys/fs/cgroup/unified", ..VERSION_2 },
];

const VERSION_2: Hierarchy = Hierarchy {
    mount: "",
    used: "memory.current",
    limit: "memory.max",
    reclaimable: "inactive_file",
    events: "memory.events",
};

/// Version 1 writes "no limit" as the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 62;

/// From this share of its limit on it is looked what of a group's memory could be taken back: that takes the kernel longer.
const NEAR: f64 = 0.5;

/// What is accounted now to a group, by its path from the root of its hierarchy; `None` if nothing is, as to the root in
/// version 2.
pub fn of_group(group: &str) -> Option<Accounted> {
    HIERARCHIES
        .iter()
        .find_map(|it| of_directory(&Path::new(it.mount).join(group.trim_start_matches('/')), it))
}

/// These groups, and those above them that may have only so much memory.
pub fn with_limited(groups: impl IntoIterator<Item = String>) -> BTreeSet<String> {
    let mut groups: BTreeSet<String> = groups.into_iter().collect();
    let above: BTreeSet<&Path> = groups.iter().flat_map(|it| Path::new(it).ancestors().skip(1)).collect();
    let is_limited = |path: &&Path| {
        let name = path.strip_prefix("/").unwrap_or(path);
        let limit = |it: &Hierarchy| number(&Path::new(it.mount).join(name).join(it.limit));
        name != Path::new("") && HIERARCHIES.iter().filter_map(limit).any(|it| it < NO_LIMIT)
    };
    let limited = above.into_iter().filter(is_limited).filter_map(|it| Some(it.to_str()?.to_owned()));
    let limited: Vec<String> = limited.collect();
    groups.extend(limited);
    groups
}

/// The share of the last ten seconds in which somebody on this machine waited for memory; `None` if the kernel does not
/// tell.
pub fn pressure() -> Option<f64> {
    some_avg10(&fs::read_to_string("/proc/pressure/memory").ok()?)
}

fn of_directory(directory: &Path, hierarchy: &Hierarchy) -> Option<Accounted> {
    let memory_bytes = number(&directory.join(hierarchy.used))?;
    let limit_bytes = number(&directory.join(hierarchy.limit)).filter(|it| *it < NO_LIMIT);
    let is_near = limit_bytes.is_some_and(|it| memory_bytes as f64 >= NEAR * it as f64);
    let text = |file: &str| fs::read_to_string(directory.join(file)).unwrap_or_default();
    let events = limit_bytes.map(|_| text(hierarchy.events)).unwrap_or_default();
    Some(Accounted {
        memory_bytes,
        limit_bytes,
        reclaimable_bytes: is_near.then(|| field(&text("memory.stat"), hierarchy.reclaimable)).flatten(),
        // Version 1 has none.
        pressure: some_avg10(&text("memory.pressure")),
        oom_count: field(&events, "oom"),
        oom_kill_count: field(&events, "oom_kill"),
    })
}

fn number(path: &Path) -> Option<u64> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

/// Of lines that are a name and a number.
fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|it| it.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// `some avg10=1.50 avg60=…`
fn some_avg10(text: &str) -> Option<f64> {
    let line = text.lines().find_map(|it| it.strip_prefix("some "))?;
    let percent: f64 = line.split(' ').find_map(|it| it.strip_prefix("avg10="))?.parse().ok()?;
    Some(percent / 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pressure_is_a_share() {
        let text = "some avg10=1.50 avg60=0.20 avg300=0.00 total=248\nfull avg10=9.00 avg60=0.00 avg300=0.00 total=7\n";
        assert_eq!(some_avg10(text), Some(0.015));
        assert_eq!(some_avg10("full avg10=9.00 avg60=0.00 avg300=0.00 total=7\n"), None);
        assert_eq!(some_avg10(""), None);
    }

    /// What one group says, in both versions.
    #[test]
    fn a_group_tells_what_it_has() {
        let directory = std::env::temp_dir().join(format!("alloctrace.accounting.{}", std::process::id()));
        let check = |files: &[(&str, &str)], hierarchy: &Hierarchy, expected: Option<Accounted>| {
            let _ = fs::remove_dir_all(&directory);
            fs::create_dir_all(&directory).unwrap();
            files.iter().for_each(|(name, text)| fs::write(directory.join(name), text).unwrap());
            assert_eq!(of_directory(&directory, hierarchy), expected);
        };
        let full = Accounted {
            memory_bytes: 60,
            limit_bytes: Some(100),
            reclaimable_bytes: Some(7),
            pressure: Some(0.5),
            oom_count: Some(3),
            oom_kill_count: Some(2),
        };
        let version_2 = [
            ("memory.current", "60\n"),
            ("memory.max", "100\n"),
            ("memory.stat", "file 9\ninactive_file 7\n"),
            ("memory.pressure", "some avg10=50.00 avg60=0.00 avg300=0.00 total=1\n"),
            ("memory.events", "low 0\nmax 9\noom 3\noom_kill 2\noom_group_kill 0\n"),
        ];
        check(&version_2, &HIERARCHIES[1], Some(full.clone()));
        let version_1 = [
            ("memory.usage_in_bytes", "60\n"),
            ("memory.limit_in_bytes", "100\n"),
            ("memory.stat", "inactive_file 3\ntotal_inactive_file 7\n"),
            ("memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 2\n"),
        ];
        check(&version_1, &HIERARCHIES[0], Some(Accounted { pressure: None, oom_count: None, ..full }));
        let without =
            [("memory.current", "60\n"), ("memory.max", "max\n"), ("memory.stat", "inactive_file 7\n")];
        check(&without, &HIERARCHIES[1], Some(Accounted { memory_bytes: 60, ..Accounted::default() }));
        check(&[], &HIERARCHIES[1], None);
        let _ = fs::remove_dir_all(&directory);
    }
}
