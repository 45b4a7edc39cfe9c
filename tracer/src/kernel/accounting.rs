//! What the kernel accounts to control groups.

use std::{fs, path::Path};

/// What a control group has, and may have.
pub struct Accounted {
    pub memory_bytes: u64,
    pub limit_bytes: Option<u64>,
}

/// Where hierarchies are mounted by custom, with the files of what is used and what is allowed: version 1, then 2, then
/// 2 beside 1.
const HIERARCHIES: [(&str, &str, &str); 3] = [
    ("/sys/fs/cgroup/memory", "memory.usage_in_bytes", "memory.limit_in_bytes"),
    ("/sys/fs/cgroup", "memory.current", "memory.max"),
    ("/sys/fs/cgroup/unified", "memory.current", "memory.max"),
];

/// Version 1 writes "no limit" as the largest number of whole pages.
const NO_LIMIT: u64 = 1 << 62;

/// What is accounted now to a group, by its path from the root of its hierarchy; `None` if nothing is, as to the root in
/// version 2.
pub fn of_group(group: &str) -> Option<Accounted> {
    HIERARCHIES.iter().find_map(|(mount, used, limit)| {
        let directory = Path::new(mount).join(group.trim_start_matches('/'));
        let number = |file: &str| fs::read_to_string(directory.join(file)).ok()?.trim().parse::<u64>().ok();
        let limit_bytes = number(limit).filter(|it| *it < NO_LIMIT);
        Some(Accounted { memory_bytes: number(used)?, limit_bytes })
    })
}
