//! What happened, in a file that was kept because of it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Why a file was kept.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IncidentRow {
    /// When it happened, in the time of the recording and as RFC 3339.
    pub t_s: f64,
    pub time: String,
    /// `oom-kill`; `killed`: by SIGKILL from elsewhere; `crash`: by another signal that ends badly; `interrupted`: the tracer
    /// itself was ended without a word.
    pub kind: String,
    /// Of an `oom-kill`, who had no memory left: `memory-cgroup` or `machine`. Absent if nothing tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint: Option<String>,
    /// How the constraint is known: `kernel-log`, or `usage` if the group was at its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub constraint_by: Option<String>,
    /// What ended a victim that the OOM killer did not choose, as `SIGSEGV`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub signal: Option<String>,
    /// Absent if the tracer was interrupted: then it is about all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub victim: Option<VictimRow>,
    /// Who needed memory when there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<TriggerRow>,
    /// The victim's control group and those above it that have a limit, from the innermost on.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub groups: Vec<GroupRow>,
    /// Those with most memory, of all processes of the machine.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub largest: Vec<LargestRow>,
    /// Those that grew fastest in the last minute, of those that were watched.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub fastest: Vec<FastestRow>,
    /// Lines about it; absent if /dev/kmsg could not be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel_log: Option<Vec<String>>,
}

/// Whom it happened to.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct VictimRow {
    /// The recording's own number.
    pub process: u32,
    pub pid: u32,
    pub name: String,
    pub command: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// Of all its control groups, the lowest.
    pub limit_bytes: Option<u64>,
    pub rss_bytes: Option<u64>,
    /// How it grew to the end, in the last minute; absent if too little is known.
    pub growth_bytes_per_s: Option<f64>,
    /// By how much its resident memory changed in its last minute, or since it was met.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_bytes: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub change_s: Option<f64>,
    /// Each call of its allocator was followed.
    pub is_exact: bool,
    /// What its sites held; of one that was not traced exactly, what it was seen to touch.
    pub live_bytes: i64,
    pub live_blocks: i64,
    /// The function that held most, and how much.
    pub function: Option<String>,
    pub function_bytes: i64,
    /// How it ended; absent as long as it has not.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ended: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TriggerRow {
    pub pid: u32,
    pub name: String,
}

/// A control group, as it was found right after.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GroupRow {
    pub path: String,
    pub memory_bytes: Option<u64>,
    pub limit_bytes: Option<u64>,
    /// The most that it ever had.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peak_bytes: Option<u64>,
    /// Version 2: memory.events; version 1: memory.oom_control and memory.failcnt.
    pub events: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LargestRow {
    pub pid: u32,
    pub name: String,
    pub rss_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct FastestRow {
    pub pid: u32,
    pub name: String,
    pub rss_bytes: Option<u64>,
    pub growth_bytes_per_s: f64,
}
