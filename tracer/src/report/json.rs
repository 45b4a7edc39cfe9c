//! `alloctrace.report/1`: every number, for programs. Field names are a contract.

use std::io::{self, Write};

use serde::Serialize;
use serde_json::{Map, Value, json};

mod processes;

use self::processes::{Whole, control};
use super::Options;
use crate::{
    event::Loss,
    profile::{By, Frame, Moment, Profile, Site, missed_bytes},
};

/// One line for each process, site and moment: `less` and `grep` can deal with it, and indenting every frame would
/// make it twice as large.
pub(super) fn write(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    writeln!(out, "{{\n\"schema\":\"alloctrace.report/1\",")?;
    member("capture", &capture(profile, Some(&options.path)), out)?;
    if let Some(incident) = &profile.incident {
        member("incident", incident, out)?;
    }
    member("by", &profile.by.name(), out)?;
    member("window", &json!({ "from_s": profile.from_s, "to_s": profile.to_s, "at_s": profile.at_s }), out)?;
    let whole = Whole::of(profile);
    list("processes", profile.processes.iter().map(|it| whole.process(it)), out)?;
    list("groups", whole.groups(), out)?;
    list("cgroups", profile.controls.iter().map(control), out)?;
    list("tiers", profile.tiers.iter().map(|it| whole.tier(it)), out)?;
    member("loss", &loss(profile), out)?;
    member("totals", &totals(profile), out)?;
    let top = options.top.unwrap_or(usize::MAX);
    list("sites", profile.sites.iter().take(top).map(|it| site(profile, it)), out)?;
    list("timeline", profile.timeline.iter().map(moment), out)?;
    let marks: Vec<Value> =
        profile.marks.iter().map(|it| json!({ "t_s": it.t_s, "label": it.label })).collect();
    write!(out, "\"marks\":")?;
    serde_json::to_writer(&mut *out, &marks)?;
    writeln!(out, "\n}}")
}

fn member(name: &str, value: &impl Serialize, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "\"{name}\":")?;
    serde_json::to_writer(&mut *out, value)?;
    writeln!(out, ",")
}

fn list(name: &str, values: impl Iterator<Item = impl Serialize>, out: &mut dyn Write) -> io::Result<()> {
    write!(out, "\"{name}\":[")?;
    for (place, value) in values.enumerate() {
        out.write_all(if place == 0 { b"\n" } else { b",\n" })?;
        serde_json::to_writer(&mut *out, &value)?;
    }
    writeln!(out, "],")
}

#[derive(Serialize)]
struct SiteJson<'a> {
    id: u32,
    /// `null` where sites of several processes were to be merged.
    pid: Option<u32>,
    /// The recording's own number, by which `processes` have it; as `pid`.
    process: Option<u32>,
    /// Whose it is, unless by process.
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    /// How many sites of processes it is.
    merged_sites: usize,
    kind: &'a str,
    via: &'a str,
    live_bytes: i64,
    live_blocks: i64,
    /// By how much more or less the two above may be; 0 but for windows and ages, and where they are estimated by samples:
    /// then the truth lies within it in nineteen of twenty cases. The blocks of the kind `resident` are samples.
    live_error_bytes: i64,
    live_error_blocks: i64,
    /// The same more closely: the truth lies from here to there.
    live_low_bytes: i64,
    live_high_bytes: i64,
    /// Of so many of the bytes that it allocated one was sampled; 0 if every block was seen.
    sample_bytes: i64,
    /// Two standard errors of what was allocated; 0 if every block was seen.
    allocated_error_bytes: i64,
    allocated_bytes: i64,
    allocated_blocks: i64,
    freed_bytes: i64,
    freed_blocks: i64,
    change_bytes: i64,
    change_blocks: i64,
    peak_bytes: i64,
    reused_bytes: i64,
    oldest_s: Option<f64>,
    growth_bytes_per_s: f64,
    verdict: String,
    stack_complete: bool,
    /// Why the stack ends early; absent if it is complete.
    #[serde(skip_serializing_if = "Option::is_none")]
    stack_stop: Option<&'a str>,
    frames: Vec<FrameJson<'a>>,
}

#[derive(Serialize)]
pub(super) struct FrameJson<'a> {
    function: Option<&'a str>,
    module: Option<&'a str>,
    build_id: Option<&'a str>,
    offset: u64,
    file: Option<&'a str>,
    line: Option<u32>,
    inlined: bool,
}

/// What was recorded, in every JSON that we write; `path` is as the user gave it, if there is a file.
pub fn capture(profile: &Profile, path: Option<&str>) -> Value {
    let header = &profile.header;
    json!({
        "path": path,
        "started": header.started,
        "duration_s": profile.duration_s,
        "interval_s": header.interval_s,
        "host": header.host,
        "kernel": header.kernel,
        "tool_version": header.tool_version,
        "sample_bytes": header.sample_bytes,
        "complete": profile.complete,
    })
}

fn totals(profile: &Profile) -> Value {
    let (live, allocated, freed) = profile.totals();
    json!({
        "live_bytes": live.bytes,
        "live_blocks": live.blocks,
        "allocated_bytes": allocated.bytes,
        "allocated_blocks": allocated.blocks,
        "freed_bytes": freed.bytes,
        "freed_blocks": freed.blocks,
        "unknown_frees": profile.unknown_frees(),
        "unsampled_frees": profile.unsampled_frees(),
        "sample_bytes": profile.sample_bytes().unwrap_or(0),
        "missed_site_bytes": profile.sample_bytes().map_or(0, missed_bytes),
        "live_error_bytes": profile.live_error().bytes,
        "live_error_blocks": profile.live_error().blocks,
        "resident_bytes": profile.resident().live.bytes,
        "resident_samples": profile.resident().live.blocks,
        "resident_error_bytes": profile.resident().error_bytes,
        "ended_bytes": profile.ended.bytes,
        "ended_blocks": profile.ended.blocks,
    })
}

fn moment(moment: &Moment) -> Value {
    json!({
        "t_s": moment.t_s,
        "pid": moment.pid,
        "process": moment.process,
        "live_bytes": moment.live.bytes,
        "live_blocks": moment.live.blocks,
        "rss_bytes": moment.rss_bytes,
    })
}

fn loss(profile: &Profile) -> Map<String, Value> {
    let mut fields = Map::new();
    fields.insert("grade".to_owned(), profile.grade.to_string().into());
    for loss in Loss::ALL {
        fields.insert(loss.name().to_owned(), profile.loss(loss).into());
    }
    fields
}

pub(super) fn site_value(profile: &Profile, site: &Site) -> Value {
    // Numbers and texts only: nothing in it can fail to become JSON.
    serde_json::to_value(self::site(profile, site)).unwrap_or_default()
}

fn site<'a>(profile: &'a Profile, site: &'a Site) -> SiteJson<'a> {
    SiteJson {
        id: site.id,
        pid: site.pid,
        process: site.pid.map(|_| site.process),
        group: profile.group(site).filter(|_| profile.by != By::Process).map(|it| &*it.name),
        merged_sites: site.merged_sites(),
        kind: &site.kind,
        via: &site.via,
        live_bytes: site.live.bytes,
        live_blocks: site.live.blocks,
        live_error_bytes: site.live_error.bytes,
        live_error_blocks: site.live_error.blocks,
        live_low_bytes: site.live_range.low_bytes,
        live_high_bytes: site.live_range.high_bytes,
        sample_bytes: site.sample_bytes(),
        allocated_error_bytes: site.allocated_error_bytes(),
        allocated_bytes: site.allocated.bytes,
        allocated_blocks: site.allocated.blocks,
        freed_bytes: site.freed.bytes,
        freed_blocks: site.freed.blocks,
        change_bytes: site.change.bytes,
        change_blocks: site.change.blocks,
        peak_bytes: site.peak_bytes,
        reused_bytes: site.reused_bytes,
        oldest_s: site.oldest_s,
        growth_bytes_per_s: site.growth_bytes_per_s,
        verdict: site.verdict.to_string(),
        stack_complete: site.is_complete(),
        stack_stop: (!site.is_complete()).then_some(&site.stop),
        frames: profile.stack(site).map(FrameJson::of).collect(),
    }
}

impl<'a> FrameJson<'a> {
    pub(super) fn of(frame: &'a Frame) -> Self {
        Self {
            function: frame.function.as_deref(),
            module: Some(&*frame.module).filter(|it| !it.is_empty()),
            build_id: frame.build_id.as_deref(),
            offset: frame.offset,
            file: frame.file.as_deref(),
            line: frame.line,
            inlined: frame.inlined,
        }
    }
}
