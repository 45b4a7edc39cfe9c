//! The data of the page: what is short as plain JSON, the tables deflated within it.
//!
//! `tables` is JSON as well, in columns, deflated (zlib) and in base64; numbers that grow are written as
//! differences. `python3 -c "import json,zlib,base64,…"` reads it as well as a browser does.

use std::{
    borrow::Cow,
    io::{self, Write as _},
};

use base64::{Engine as _, engine::general_purpose::STANDARD as BASE64};
use flate2::{Compression, write::ZlibEncoder};
use rustc_hash::FxHashMap;
use serde::Serialize;
use serde_json::{Value, json};

use super::{
    TOP,
    histories::{Histories, Point},
    stacks::{Stacks, Strings},
};
use crate::{
    capture::Recording,
    event::Loss,
    profile::{Frame, Group, Process, Profile, Range, Site, Verdict, command},
    report::{Options, incident, units, words},
};

/// `S`: the columns of the sites.
#[derive(Serialize)]
pub(super) struct Tables<S> {
    pub(super) strings: Vec<String>,
    #[serde(flatten)]
    pub(super) stacks: Stacks,
    pub(super) sites: S,
    pub(super) points: Points,
    pub(super) samples: Vec<Samples>,
}

/// Texts are places in the strings, `node` one in the nodes.
#[derive(Default, Serialize)]
struct Sites {
    id: Vec<u32>,
    /// How many sites it is: more than one for the sum of those that have no row of their own.
    count: Vec<usize>,
    /// The place of the group that it is of.
    process: Vec<usize>,
    /// How many sites of processes were merged into it.
    merged: Vec<usize>,
    kind: Vec<u32>,
    via: Vec<u32>,
    node: Vec<Option<u32>>,
    stop: Vec<u32>,
    peak_bytes: Vec<i64>,
    oldest_s: Vec<Option<f64>>,
    /// Where blocks were sampled: between what the live bytes of the report lie.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    live_low_bytes: Vec<i64>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    live_high_bytes: Vec<i64>,
    verdict: Vec<u32>,
    verdict_class: Vec<u32>,
    /// How many of the points are its own.
    points: Vec<usize>,
}

/// Differences to the site's point before. An edge is a time of the grid.
#[derive(Default, Serialize)]
pub(super) struct Points {
    edge: Vec<u32>,
    allocated_bytes: Vec<i64>,
    allocated_blocks: Vec<i64>,
    freed_bytes: Vec<i64>,
    freed_blocks: Vec<i64>,
}

/// A process at the ends of intervals; differences, where there is a number.
#[derive(Default, Serialize)]
pub(super) struct Samples {
    interval: Vec<u32>,
    rss_bytes: Vec<Option<i64>>,
}

/// The whole document.
pub(super) fn json(recording: &Recording, profile: &Profile, options: &Options) -> io::Result<String> {
    let header = &profile.header;
    let histories = Histories::new(recording, profile);
    let document = json!({
        "schema": "alloctrace.html/1",
        "capture": {
            "path": options.path,
            "target": header.target,
            "host": header.host,
            "kernel": header.kernel,
            "started": header.started,
            "tool_version": header.tool_version,
            "duration_s": profile.duration_s,
            "interval_s": header.interval_s,
            "complete": profile.complete,
        },
        "incident": recording.incident.as_ref().map(|it| incident::lines(it)),
        "window": { "from_s": options.from_s.unwrap_or(profile.from_s), "to_s": options.to_s.unwrap_or(profile.to_s) },
        "processes": profile.processes.iter().map(process).collect::<Vec<_>>(),
        "by": profile.by.name(),
        "groups": groups_of_processes(profile),
        "trust": trust(profile),
        "marks": recording.marks.iter().map(|it| json!({ "t_s": it.t_s, "label": it.label })).collect::<Vec<_>>(),
        "ooms": recording.ooms.iter().filter_map(|it| {
            Some(json!({ "t_s": it.t_s, "pid": recording.processes.get(&it.process)?.pid }))
        }).collect::<Vec<_>>(),
        "times_s": recording.times_s,
        "edges": histories.edges().collect::<Vec<_>>(),
        "suspects": profile.suspects().map(|it| json!({
            "site": it.id,
            "growth_bytes_per_s": it.growth_bytes_per_s,
        })).collect::<Vec<_>>(),
        "left_out_sites": profile.other_sites,
        "tables": deflated(&tables(recording, profile, &histories, options.top.unwrap_or(TOP)))?,
    });
    script(&document)
}

/// As it stands in the page. No `<` is in it, so that nothing in it can end the script element that holds it.
pub(super) fn script(document: &Value) -> io::Result<String> {
    Ok(serde_json::to_string(document)?.replace('<', "\\u003c"))
}

/// What sites are of: names, and places of processes.
fn groups_of_processes(profile: &Profile) -> Vec<Value> {
    let processes = profile.processes.iter();
    let places: FxHashMap<u32, usize> = processes.enumerate().map(|(at, it)| (it.row.id, at)).collect();
    let group = |it: &Group| {
        let processes: Vec<usize> = it.processes.iter().filter_map(|it| places.get(it).copied()).collect();
        json!({ "name": it.name, "processes": processes })
    };
    profile.groups().iter().map(group).collect()
}

fn process(process: &Process) -> Value {
    let row = &process.row;
    json!({
        "pid": row.pid,
        "program": command(row),
        "cgroup": row.cgroup,
        "live_bytes": if process.is_gone { 0 } else { process.live.bytes },
        "name": row.name,
        "command": row.command,
        "exe": row.exe,
        "began_s": row.began_s,
        "ended": row.ended.as_ref().map(|it| json!({ "how": it.how, "code": it.code, "t_s": it.t_s })),
        "rss_first_bytes": process.rss_first_bytes,
        "rss_last_bytes": process.rss_last_bytes,
        "rss_max_bytes": process.rss_max_bytes,
        "limit_bytes": row.limit_bytes,
        "unknown_frees": process.unknown_frees,
        "arena_bytes": process.arena_bytes,
        "outlook": process.outlook.name(),
        "outlook_words": words::outlook(process.outlook),
        "account": process.account.map(|account| {
            let part = |(bytes, words): (i64, Cow<'static, str>)| json!({ "bytes": bytes, "words": words });
            json!({
                "change_bytes": account.change_bytes,
                "before_bytes": account.before_bytes,
                "parts": words::account(&account).map(part).collect::<Vec<_>>(),
            })
        }),
    })
}

pub(super) fn trust(profile: &Profile) -> Value {
    json!({
        "grade": profile.grade.to_string(),
        "meaning": profile.trust(),
        "losses": losses(profile),
        "sampled": words::sampled(profile),
        "unsampled_frees": profile.unsampled_frees(),
        "unknown_frees": profile.unknown_frees(),
    })
}

fn losses(profile: &Profile) -> Vec<Value> {
    let happened = Loss::ALL.into_iter().filter(|it| profile.loss(*it) > 0);
    happened
        .map(|it| json!({ "name": it.name(), "count": profile.loss(it), "meaning": words::explain(it) }))
        .collect()
}

pub(super) fn deflated<S: Serialize>(tables: &Tables<S>) -> io::Result<String> {
    let mut encoder = ZlibEncoder::new(Vec::new(), Compression::default());
    // The encoder is fed from a buffer: serde_json writes number by number.
    let mut buffered = io::BufWriter::with_capacity(1 << 16, &mut encoder);
    serde_json::to_writer(&mut buffered, tables)?;
    buffered.flush()?;
    drop(buffered);
    Ok(BASE64.encode(encoder.finish()?))
}

fn tables(recording: &Recording, profile: &Profile, histories: &Histories, top: usize) -> Tables<Sites> {
    let mut strings = Strings::default();
    let mut stacks = Stacks::default();
    let (mut sites, mut points) = (Sites::default(), Points::default());
    let frames: Vec<u32> = profile.stacks.frames().iter().map(|it| stacks.frame(it, &mut strings)).collect();
    let beginnings = Beginnings::new(&mut stacks, &mut strings);
    let (shown, others) = shown_and_others(profile, top);
    let is_sampled = profile.sample_bytes().is_some();
    for site in shown {
        sites.add_range(site.live_range, is_sampled);
        let stack = site.frames.iter().rev().map(|it| frames[it.0 as usize]);
        sites.add(site, 1, &mut strings);
        sites.node.push(stacks.node(beginnings.of(site).into_iter().chain(stack)));
        sites.points.push(points.add(histories.of(site.id)));
    }
    for alike in groups(&others) {
        let Some(first) = alike.first() else { continue };
        sites.add_range(Profile::error_of(alike.iter().copied()).0, is_sampled);
        sites.add(first, alike.len(), &mut strings);
        let frame = stacks.frame(&more(alike.len()), &mut strings);
        sites.node.push(stacks.node([frame].into_iter()));
        sites.points.push(points.add(&histories.sum(alike.iter().map(|it| it.id))));
    }
    let samples = profile.processes.iter().map(|it| samples(recording, it)).collect();
    Tables { strings: strings.into_texts(), stacks, sites, points, samples }
}

/// The first `top` sites and the suspects, and what is left.
fn shown_and_others(profile: &Profile, top: usize) -> (Vec<&Site>, Vec<&Site>) {
    let suspects: Vec<u32> = profile.suspects().map(|it| it.id).collect();
    let (mut shown, mut others) = (Vec::new(), Vec::new());
    for (place, site) in profile.sites.iter().enumerate() {
        if place < top || suspects.contains(&site.id) { shown.push(site) } else { others.push(site) }
    }
    (shown, others)
}

/// What stands before stacks without a beginning: they stand apart, as in the folded form.
pub(super) struct Beginnings {
    early: u32,
    none: u32,
}

impl Beginnings {
    pub(super) fn new(stacks: &mut Stacks, strings: &mut Strings) -> Self {
        Self {
            early: stacks.frame(&instead("[stack ends early]"), strings),
            none: stacks.frame(&instead("[no stack]"), strings),
        }
    }

    pub(super) fn of(&self, site: &Site) -> Option<u32> {
        match (site.is_complete(), site.frames.is_empty()) {
            (_, true) => Some(self.none),
            (false, _) => Some(self.early),
            (true, _) => None,
        }
    }
}

/// Stands for sites that have no row of their own.
pub(super) fn more(sites: usize) -> Frame {
    match sites {
        1 => instead("[1 more site]"),
        count => instead(&format!("[{} more sites]", units::count(count as i64))),
    }
}

/// Stands where there is no function.
fn instead(text: &str) -> Frame {
    Frame { function: Some(text.into()), ..Frame::default() }
}

/// Sites of the same group and kind.
fn groups<'a>(sites: &[&'a Site]) -> Vec<Vec<&'a Site>> {
    let mut groups = std::collections::BTreeMap::<_, Vec<&Site>>::new();
    for &site in sites {
        groups.entry((site.group_place(), &site.kind)).or_default().push(site);
    }
    groups.into_values().collect()
}

impl Sites {
    fn add_range(&mut self, range: Range, is_sampled: bool) {
        if is_sampled {
            self.live_low_bytes.push(range.low_bytes);
            self.live_high_bytes.push(range.high_bytes);
        }
    }

    fn add(&mut self, site: &Site, count: usize, strings: &mut Strings) {
        let own = count == 1;
        self.id.push(site.id);
        self.count.push(count);
        self.process.push(site.group_place());
        self.merged.push(site.merged_sites());
        self.kind.push(strings.place(&site.kind));
        self.via.push(strings.place(if own { &site.via } else { "" }));
        self.stop.push(strings.place(if own { &site.stop } else { "complete" }));
        self.peak_bytes.push(if own { site.peak_bytes } else { 0 });
        self.oldest_s.push(site.oldest_s.filter(|_| own));
        let verdict = if own { site.verdict.to_string() } else { String::new() };
        self.verdict.push(strings.place(&verdict));
        self.verdict_class.push(strings.place(class(site.verdict)));
    }
}

/// The verdict in one word, for its looks.
fn class(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::TooShort => "short",
        Verdict::Freed => "freed",
        Verdict::Growing { .. } => "growing",
        Verdict::Turnover => "turnover",
        Verdict::Steady => "steady",
        Verdict::Replacing => "replacing",
    }
}

impl Points {
    pub(super) fn add(&mut self, points: &[Point]) -> usize {
        let mut before = Point::default();
        for point in points {
            let (allocated, freed) = (point.allocated - before.allocated, point.freed - before.freed);
            self.edge.push(point.edge - before.edge);
            self.allocated_bytes.push(allocated.bytes);
            self.allocated_blocks.push(allocated.blocks);
            self.freed_bytes.push(freed.bytes);
            self.freed_blocks.push(freed.blocks);
            before = *point;
        }
        points.len()
    }
}

fn samples(recording: &Recording, process: &Process) -> Samples {
    let mut samples = Samples::default();
    let (mut interval_before, mut rss_before) = (0, 0);
    for sample in recording.samples.get(&process.row.id).into_iter().flatten() {
        samples.interval.push(sample.interval - interval_before);
        interval_before = sample.interval;
        let rss = sample.rss_bytes.map(|it| it as i64);
        samples.rss_bytes.push(rss.map(|it| it - rss_before));
        rss_before = rss.unwrap_or(rss_before);
    }
    samples
}
