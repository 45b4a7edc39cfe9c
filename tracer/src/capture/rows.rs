//! The rows, as they are written. They have types of their own, so that the format does not change when the
//! program's inner types do.

use std::{collections::BTreeMap, sync::Arc};

use serde::{Deserialize, Serialize};

use super::IncidentRow;

/// Any row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "lowercase")]
pub enum Row {
    Header(Header),
    Module(ModuleRow),
    Stack(StackRow),
    Process(ProcessRow),
    Interval(IntervalRow),
    Mark(MarkRow),
    Oom(OomRow),
    Tier(TierRow),
    Incident(Box<IncidentRow>),
    End(EndRow),
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    pub schema: String,
    pub tool_version: String,
    /// RFC 3339.
    pub started: String,
    pub host: String,
    pub kernel: String,
    pub interval_s: f64,
    /// As typed: `-p 7`, or `-- command`.
    pub target: String,
    /// `exact`, `growth` or `auto`; `exact` where it is missing.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub tier: String,
    /// Of the bytes that processes allocate one in so many is sampled, unless a later row says otherwise; absent if every
    /// block is reported.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sample_bytes: i64,
    /// How much slower tracing may make the target, as a share.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_overhead: Option<f64>,
    /// What a probe costs was measured on this machine when the recording began.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub is_calibrated: bool,
}

impl Header {
    /// Only mappings and samples of page faults were traced.
    pub fn is_growth(&self) -> bool {
        self.tier == "growth"
    }

    /// The processes were traced from their first instruction on.
    pub fn is_launch(&self) -> bool {
        self.target.starts_with("-- ")
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ModuleRow {
    pub id: u32,
    pub path: String,
    /// Lower-case hexadecimal.
    pub build_id: Option<String>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StackRow {
    pub id: u32,
    /// `complete`, or why the stack ends too early.
    pub stop: String,
    /// Innermost first.
    pub frames: Vec<FrameRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FrameRow {
    /// 0: memory without a file; `offset` is then the address.
    pub module: u32,
    /// In the file; lies inside the call instruction.
    pub offset: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub function: Option<Arc<str>>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct ProcessRow {
    /// The recording's own number; process ids can be reused.
    pub id: u32,
    pub pid: u32,
    pub parent: Option<u32>,
    pub name: String,
    pub command: String,
    pub exe: String,
    /// The control group that accounts its memory, as a path from the hierarchy's root.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cgroup: Option<String>,
    /// What serves it, as in `glibc (/usr/lib/x86_64-linux-gnu/libc.so.6)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub allocators: Vec<String>,
    pub began_s: f64,
    pub limit_bytes: Option<u64>,
    pub ended: Option<EndedRow>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndedRow {
    pub t_s: f64,
    /// `exit`, `signal` or `oom-kill`; `exec` if it became a program that was not to be traced, and `unseen` if the
    /// record of its end was lost.
    pub how: String,
    pub code: u32,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct IntervalRow {
    pub t_s: f64,
    pub processes: Vec<ProcessSample>,
    /// Those of the traced processes.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cgroups: Vec<CgroupSample>,
    /// The share of the last ten seconds in which somebody on this machine waited for memory; absent if the kernel does not
    /// tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<f64>,
    pub sites: Vec<SiteRow>,
    /// By name; those that did not happen are left out.
    pub loss: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessSample {
    pub process: u32,
    /// `None` once the process has ended.
    pub rss_bytes: Option<u64>,
    pub live_bytes: i64,
    pub live_blocks: i64,
    pub unknown_frees: u64,
    /// Frees of blocks that were not sampled, or are from before the attach; absent if none.
    #[serde(default, skip_serializing_if = "is_none")]
    pub unsampled_frees: u64,
    pub arena_bytes: i64,
    /// CPU time that it has used since it was met; absent if its allocator is not traced.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cpu_us: Option<u64>,
    /// What of it was for the tracing, by estimate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tracing_us: Option<u64>,
}

/// A control group at the end of an interval, as the kernel accounts it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CgroupSample {
    pub path: String,
    pub memory_bytes: u64,
    /// Its own; those above it that have one have samples too.
    pub limit_bytes: Option<u64>,
    /// Of its memory: copies of files that nobody has used lately, which the kernel takes back before it kills. Absent if
    /// it is far from its limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reclaimable_bytes: Option<u64>,
    /// The share of the last ten seconds in which somebody in it waited for memory; absent if the kernel does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pressure: Option<f64>,
    /// How often it was at its limit without anything to take back, and how many of its processes were killed for that.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_kill_count: Option<u64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct SiteRow {
    pub site: u32,
    pub process: u32,
    /// `heap`, `mmap` or `resident`; a block of the last is a sample.
    pub kind: String,
    /// The function that allocated.
    pub via: String,
    pub stack: u32,
    pub allocated_bytes: i64,
    pub allocated_blocks: i64,
    pub freed_bytes: i64,
    pub freed_blocks: i64,
    pub peak_bytes: i64,
    /// Live bytes in places that blocks from before the attach had left; absent if none.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub reused_bytes: i64,
    /// Two standard errors of what is live; absent, as the next ones, unless it is known by samples.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub live_error_bytes: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub live_error_blocks: i64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub allocated_error_bytes: i64,
    /// Of the live bytes: those of blocks that were not seen, for which the sampled ones stand.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub unseen_bytes: i64,
    /// Of so many bytes one was sampled, where that was coarsest.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub sample_bytes: i64,
    /// What is live, by birth, oldest first.
    pub cohorts: Vec<CohortRow>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_zero(count: &i64) -> bool {
    *count == 0
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands over a reference")]
fn is_none(count: &u64) -> bool {
    *count == 0
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CohortRow {
    pub from_s: f64,
    pub to_s: f64,
    pub bytes: i64,
    pub blocks: i64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct MarkRow {
    pub t_s: f64,
    pub label: String,
}

/// The OOM killer has chosen a process. What the kernel did not tell is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct OomRow {
    pub t_s: f64,
    pub process: u32,
    /// Who needed memory when there was none: number and name.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger_pid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trigger: Option<String>,
    /// Of the victim, as are all that follow.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub total_vm_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub anon_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub file_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub shmem_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub page_table_bytes: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub uid: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub oom_score_adj: Option<i32>,
}

impl OomRow {
    /// What was resident of the victim.
    pub fn rss_bytes(&self) -> Option<u64> {
        Some(self.anon_bytes? + self.file_bytes? + self.shmem_bytes?)
    }
}

/// From here on a process is traced in another way.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct TierRow {
    pub t_s: f64,
    pub process: u32,
    /// `exact`, `sampled` or `growth`.
    pub tier: String,
    /// In words.
    pub reason: String,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct EndRow {
    pub t_s: f64,
    /// `target-ended`, `signal` or `duration`; `saved` if the tracing went on.
    pub reason: String,
}
