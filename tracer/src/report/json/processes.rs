//! What the JSON report says of processes, of groups of them, and of control groups.

use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use crate::{
    capture::TierRow,
    profile::{By, Control, Process, Profile, Summary},
    report::words,
};

/// Processes as others refer to them.
pub(super) struct Whole<'a> {
    profile: &'a Profile,
    pids: FxHashMap<u32, u32>,
    groups: FxHashMap<u32, &'a str>,
}

impl<'a> Whole<'a> {
    pub(super) fn of(profile: &'a Profile) -> Self {
        let groups = profile.groups().iter();
        Self {
            profile,
            pids: profile.processes.iter().map(|it| (it.row.id, it.row.pid)).collect(),
            groups: groups.flat_map(|it| it.processes.iter().map(|process| (*process, &*it.name))).collect(),
        }
    }

    pub(super) fn process(&self, process: &Process) -> Value {
        let row = &process.row;
        let tier = self.profile.tiers.iter().rfind(|it| it.process == row.id);
        let mut value = json!({
            "id": row.id,
            "pid": row.pid,
            "parent": row.parent,
            "parent_pid": process.parent_pid,
            "name": row.name,
            "command": row.command,
            "exe": row.exe,
            "cgroup": row.cgroup,
            "allocators": row.allocators,
            "tier": tier.map(|it| &it.tier),
            "overhead": process.expense.map(|it| json!({
                "share": it.share(),
                "cpu_s": it.cpu_us as f64 / 1e6,
                "tracing_s": it.tracing_us as f64 / 1e6,
                "calibrated": self.profile.header.is_calibrated,
            })),
            "began_s": row.began_s,
            "ended_s": row.ended.as_ref().map(|it| it.t_s),
            "ended": row.ended.as_ref().map(|it| json!({ "how": it.how, "code": it.code })),
            "live_bytes": process.live.bytes,
            "live_blocks": process.live.blocks,
            "mapped_bytes": process.mapped.bytes,
            "allocated_bytes": process.allocated.bytes,
            "allocated_blocks": process.allocated.blocks,
            "growth_bytes_per_s": process.growth_bytes_per_s,
            "growing_sites": process.growing_sites,
            "rss_first_bytes": process.rss_first_bytes,
            "rss_last_bytes": process.rss_last_bytes,
            "rss_max_bytes": process.rss_max_bytes,
            "limit_bytes": row.limit_bytes,
            "unknown_frees": process.unknown_frees,
            "arena_bytes": process.arena_bytes,
            "verdict": process.outlook.name(),
            "verdict_text": words::outlook(process.outlook),
            "account": process.account.map(|it| json!({
                "before_bytes": it.before_bytes,
                "change_bytes": it.change_bytes,
                "live_bytes": it.live_bytes,
                "mapped_bytes": it.mapped_bytes,
                "retained_bytes": it.retained_bytes,
                "resident_bytes": it.resident_bytes,
                "resident_error_bytes": it.resident_error_bytes,
                "rest_bytes": it.rest_bytes,
            })),
        });
        if self.profile.by != By::Process {
            value["group"] = json!(self.groups.get(&row.id));
        }
        value
    }

    /// Those that sites are merged by; the group that holds most first.
    pub(super) fn groups(&self) -> impl Iterator<Item = Value> {
        let is_merged = self.profile.by != By::Process;
        let summaries =
            if is_merged { Summary::of(&self.profile.processes, self.profile.by) } else { Vec::new() };
        summaries.into_iter().map(|it| {
            json!({
                "group": it.name,
                "processes": it.processes,
                "ended": it.ended,
                "live_bytes": it.live.bytes,
                "live_blocks": it.live.blocks,
                "allocated_bytes": it.allocated.bytes,
                "allocated_blocks": it.allocated.blocks,
                "rss_bytes": it.rss_bytes,
                "rss_max_bytes": it.rss_max_bytes,
                "growth_bytes_per_s": it.growth_bytes_per_s,
            })
        })
    }

    pub(super) fn tier(&self, row: &TierRow) -> Value {
        json!({
            "t_s": row.t_s,
            "pid": self.pids.get(&row.process),
            "process": row.process,
            "tier": row.tier,
            "reason": row.reason,
        })
    }
}

pub(super) fn control(control: &Control) -> Value {
    let moment = |(t_s, memory_bytes, limit_bytes): &(f64, u64, Option<u64>)| json!({ "t_s": t_s, "memory_bytes": memory_bytes, "limit_bytes": limit_bytes });
    json!({
        "path": control.path,
        "memory_last_bytes": control.last_bytes(),
        "memory_max_bytes": control.most_bytes(),
        "limit_bytes": control.limit_bytes(),
        "timeline": control.moments.iter().map(moment).collect::<Vec<_>>(),
    })
}
