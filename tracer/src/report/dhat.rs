//! DHAT's output file, version 2, for valgrind's `dh_view.html` and the Firefox Profiler.
//!
//! What DHAT measures at each instruction is here known at the end of each interval: the moment when most was live
//! (t-gmax), how many blocks a site then had, and lifetimes, which count whole intervals. Reads and writes of blocks
//! (`bkacc`) are not known at all.

use std::{
    collections::hash_map::Entry,
    io::{self, Write},
};

use rustc_hash::FxHashMap;
use serde::Serialize;

use super::{
    Options,
    level::{self, Level, printable, shown},
    words,
};
use crate::profile::{Frame, Group, Profile, Site};

/// The fields that dh_view.js asks for if `bklt` is set and `bkacc` is not.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct File<'a> {
    dhat_file_version: u32,
    mode: &'static str,
    verb: &'static str,
    /// Lifetimes of blocks are known.
    bklt: bool,
    /// Accesses to blocks are known.
    bkacc: bool,
    tu: &'static str,
    /// A million of them.
    #[serde(rename = "Mtu")]
    mtu: &'static str,
    /// A lifetime up to this is short.
    tuth: u64,
    cmd: &'a str,
    pid: u32,
    te: u64,
    tg: u64,
    pps: Vec<Point>,
    ftbl: Vec<String>,
}

/// A program point; bytes, then blocks.
#[derive(Serialize)]
struct Point {
    /// In all.
    tb: i64,
    tbk: i64,
    /// Lifetimes of all blocks together.
    tl: u64,
    /// When the point held most.
    mb: i64,
    mbk: i64,
    /// When all points together held most.
    gb: i64,
    gbk: i64,
    /// At the end.
    eb: i64,
    ebk: i64,
    /// Innermost first: indexes into the frame table.
    fs: Vec<u32>,
}

pub(super) fn write(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let mut table = Table::of(profile);
    // The reader refuses a stack that occurs twice.
    let mut known: FxHashMap<Vec<u32>, usize> = FxHashMap::default();
    let mut points: Vec<Point> = Vec::new();
    for site in shown(profile, options) {
        let group = profile.group(site).filter(|_| profile.processes.len() > 1);
        let stack = table.stack(group, site);
        match known.entry(stack) {
            Entry::Occupied(at) => points[*at.get()].add(site),
            Entry::Vacant(new) => {
                points.push(Point::new(new.key().clone(), site));
                new.insert(points.len() - 1);
            }
        }
    }
    let first = profile.processes.first().map(|it| &it.row);
    let command = first.map(|it| it.command.as_str()).filter(|it| !it.is_empty());
    let mut command = command.unwrap_or(&profile.header.target).to_owned();
    // There is no other place for it that the viewer shows.
    command.extend(words::sampled(profile).map(|it| format!(" ({it})")));
    let file = File {
        dhat_file_version: 2,
        mode: "alloctrace",
        verb: "Allocated",
        bklt: true,
        bkacc: false,
        tu: "µs",
        mtu: "s",
        tuth: micros(profile.header.interval_s),
        cmd: &printable(&command),
        pid: first.map_or(0, |it| it.pid),
        te: micros(profile.to_s).max(1),
        tg: micros(profile.peak_s),
        pps: points,
        ftbl: table.texts,
    };
    serde_json::to_writer(&mut *out, &file)?;
    writeln!(out)
}

/// What is no call.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
enum Row<'a> {
    Via(&'a str),
    Group(&'a str),
    EndsEarly(&'a str),
}

/// The frame table: the root, every frame of the profile by its id, and what else occurs.
struct Table<'a> {
    numbers: FxHashMap<Row<'a>, u32>,
    texts: Vec<String>,
}

/// The number of the frame with the id 0.
const FIRST_FRAME: u32 = 1;

impl<'a> Table<'a> {
    fn of(profile: &'a Profile) -> Self {
        let frames = profile.stacks.frames().iter().map(call);
        Self {
            numbers: FxHashMap::default(),
            texts: ["[root]".to_owned()].into_iter().chain(frames).collect(),
        }
    }

    fn stack(&mut self, group: Option<&'a Group>, site: &'a Site) -> Vec<u32> {
        let via = self.number(Row::Via(&site.via), || match &*site.kind {
            "mmap" => Level::Mapping(&site.via).name().into_owned(),
            _ => printable(&site.via).into_owned(),
        });
        let mut stack = Vec::with_capacity(site.frames.len() + 3);
        stack.push(via);
        stack.extend(site.frames.iter().map(|it| FIRST_FRAME + it.0));
        if !site.is_complete() {
            let why = || format!("[stack ends early: {}]", printable(&site.stop).replace('_', " "));
            stack.push(self.number(Row::EndsEarly(&site.stop), why));
        }
        if let Some(group) = group {
            let text = || Level::Process(&group.name).name().into_owned();
            stack.push(self.number(Row::Group(&group.name), text));
        }
        stack
    }

    fn number(&mut self, row: Row<'a>, text: impl FnOnce() -> String) -> u32 {
        *self.numbers.entry(row).or_insert_with(|| {
            self.texts.push(text());
            self.texts.len() as u32 - 1
        })
    }
}

/// As valgrind writes frames.
fn call(frame: &Frame) -> String {
    let name = level::name(frame).map_or("???".into(), printable);
    let place = match (&frame.file, frame.line) {
        (Some(file), Some(line)) => format!("{}:{line}", printable(file)),
        (Some(file), None) => printable(file).into_owned(),
        (None, _) if frame.module.is_empty() => "in anonymous memory".to_owned(),
        (None, _) => format!("in {}", printable(&frame.module)),
    };
    format!("{:#X}: {name} ({place})", frame.offset).replacen("0X", "0x", 1)
}

impl Point {
    fn new(fs: Vec<u32>, site: &Site) -> Self {
        let mut point = Self { tb: 0, tbk: 0, tl: 0, mb: 0, mbk: 0, gb: 0, gbk: 0, eb: 0, ebk: 0, fs };
        point.add(site);
        point
    }

    fn add(&mut self, site: &Site) {
        self.tb += site.allocated.bytes;
        self.tbk += site.allocated.blocks;
        self.tl += micros(site.held.block_seconds);
        // At different times, perhaps.
        self.mb = self.mb.max(site.peak_bytes);
        self.mbk = self.mbk.max(site.held.most.blocks);
        // In a span of time, less than nothing may have been added.
        self.gb += site.held.at_peak.bytes.max(0);
        self.gbk += site.held.at_peak.blocks.max(0);
        self.eb += site.live.bytes.max(0);
        self.ebk += site.live.blocks.max(0);
    }
}

fn micros(seconds: f64) -> u64 {
    (seconds * 1e6).round() as u64
}
