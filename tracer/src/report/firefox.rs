//! The Firefox Profiler's processed profile (https://profiler.firefox.com): a thread for each process (or group of them) with its live
//! blocks as native allocations at the time of their birth, its memory as tracks, and marks.

use std::io::{self, Write};

use fxprof_processed_profile::{
    CategoryColor, CategoryHandle, FrameFlags, FrameHandle, FrameInfo, MarkerFieldFlags, MarkerFieldFormat,
    MarkerLocations, MarkerTiming, ProcessHandle, ReferenceTimestamp, SamplingInterval, StackHandle,
    StaticSchemaMarker, StaticSchemaMarkerField, StringHandle, ThreadHandle, Timestamp,
};
use rustc_hash::FxHashMap;
use serde_json::{Value, json};

use super::{
    Options,
    level::{Level, Levels, printable, shown},
    words,
};
use crate::profile::{self, By, Group, Moment, Process, Profile, Site};

pub(super) fn write(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    let mut builder = Builder::new(profile);
    let processes: FxHashMap<u32, &Process> = profile.processes.iter().map(|it| (it.row.id, it)).collect();
    let mut timelines: FxHashMap<u32, Vec<&Moment>> = FxHashMap::default();
    for moment in &profile.timeline {
        timelines.entry(moment.process).or_default().push(moment);
    }
    for group in profile.groups() {
        let own: Vec<&Process> = group.processes.iter().filter_map(|it| processes.get(it).copied()).collect();
        let mut timeline: Vec<&Moment> =
            group.processes.iter().filter_map(|it| timelines.get(it)).flatten().copied().collect();
        timeline.sort_by(|a, b| a.t_s.total_cmp(&b.t_s));
        builder.add_group(group, &own, &timeline);
    }
    for site in shown(profile, options) {
        builder.add_site(site);
    }
    builder.add_marks();
    out.write_all(&with_displays(serde_json::to_vec(&builder.finish())?)?)?;
    writeln!(out)
}

struct Builder<'a> {
    profile: &'a Profile,
    levels: Levels<'a>,
    firefox: fxprof_processed_profile::Profile,
    categories: Categories,
    /// By the name of the group.
    threads: FxHashMap<&'a str, ThreadHandle>,
    frames: FxHashMap<(ThreadHandle, u32), FrameHandle>,
    births: Vec<Birth>,
}

struct Categories {
    code: CategoryHandle,
    mapping: CategoryHandle,
    note: CategoryHandle,
}

/// Blocks of one site that came into being at about the same time and are live.
struct Birth {
    time: Timestamp,
    thread: ThreadHandle,
    stack: Option<StackHandle>,
    bytes: i64,
}

impl<'a> Builder<'a> {
    fn new(profile: &'a Profile) -> Self {
        let header = &profile.header;
        let started = header.started.parse::<jiff::Timestamp>();
        let started_ms = started.map_or(0.0, |it| it.as_millisecond() as f64);
        let mut firefox = fxprof_processed_profile::Profile::new(
            &format!("alloctrace {}", printable(&header.target)),
            ReferenceTimestamp::from_millis_since_unix_epoch(started_ms),
            SamplingInterval::from_nanos((header.interval_s.max(0.001) * 1e9) as u64),
        );
        firefox.set_os_name(&printable(&format!("Linux {}", header.kernel)));
        // Names are known as far as they can be.
        firefox.set_symbolicated(true);
        let categories = Categories {
            code: firefox.add_category("Heap", CategoryColor::Blue),
            mapping: firefox.add_category("Mappings", CategoryColor::Orange),
            note: CategoryHandle::OTHER,
        };
        Self {
            profile,
            levels: Levels::of(profile),
            firefox,
            categories,
            threads: FxHashMap::default(),
            frames: FxHashMap::default(),
            births: Vec::new(),
        }
    }

    /// What its sites are of: a process, or several as one.
    fn add_group(&mut self, group: &'a Group, processes: &[&'a Process], timeline: &[&Moment]) {
        let Some(first) = processes.first() else { return };
        let is_process = self.profile.by == By::Process;
        let name = Level::Process(if is_process { &first.row.name } else { &group.name }).name();
        let began_s = processes.iter().map(|it| it.row.began_s).fold(f64::INFINITY, f64::min);
        let began = time(began_s);
        let handle = self.firefox.add_process(&name, first.row.pid, began);
        let thread = self.firefox.add_thread(handle, first.row.pid, began, true);
        self.threads.insert(&group.name, thread);
        let ends = || processes.iter().filter_map(|it| it.row.ended.as_ref());
        if ends().count() == processes.len() {
            let end_s = ends().map(|it| it.t_s).fold(0.0, f64::max);
            self.firefox.set_process_end_time(handle, time(end_s));
            self.firefox.set_thread_end_time(thread, time(end_s));
        }
        for ended in ends() {
            let text = match ended.how.as_str() {
                "exit" if !is_process => continue,
                "exit" => format!("exited with code {}", ended.code),
                "oom-kill" => "killed by the OOM killer".to_owned(),
                "exec" => "became another program, which is not traced".to_owned(),
                "unseen" => "gone; how it ended was lost".to_owned(),
                _ => format!("killed by signal {}", ended.code),
            };
            self.add_note(thread, ended.t_s, "end", &text);
        }
        self.add_tracks(handle, began_s, timeline);
    }

    /// Live and resident bytes over time. The graphs are fed with differences.
    fn add_tracks(&mut self, handle: ProcessHandle, began_s: f64, timeline: &[&Moment]) {
        // What is known of begins with nothing.
        let nothing = (self.profile.from_s == 0.0).then_some((began_s.max(0.0), 0));
        let at_once = || timeline.chunk_by(|a, b| a.t_s == b.t_s);
        let sum = |it: &[&Moment]| it.iter().map(|it| it.live.bytes).sum();
        let live = nothing.into_iter().chain(at_once().map(|it| (it[0].t_s, sum(it)))).collect();
        let resident = |it: &[&Moment]| it.iter().filter_map(|it| it.rss_bytes).reduce(|a, b| a + b);
        let rss: Vec<(f64, i64)> =
            at_once().filter_map(|it| Some((it[0].t_s, i64::try_from(resident(it)?).ok()?))).collect();
        for (track, values) in TRACKS.iter().zip([live, rss]) {
            if values.is_empty() {
                continue;
            }
            let counter = self.firefox.add_counter(handle, track.name, "Memory", track.what);
            let mut last = 0;
            for (t_s, value) in values {
                self.firefox.add_counter_sample(counter, time(t_s), (value - last) as f64, 0);
                last = value;
            }
        }
    }

    fn add_site(&mut self, site: &'a Site) {
        let Some(thread) = self.profile.group(site).and_then(|it| self.threads.get(&*it.name).copied())
        else {
            return;
        };
        if site.births.is_empty() {
            return;
        }
        let mut stack = None;
        // The thread is the process.
        for number in self.levels.stack(site).into_iter().skip(1) {
            let frame = self.frame(thread, number);
            stack = Some(self.firefox.intern_stack(thread, stack, frame));
        }
        let birth = |it: &profile::Birth| Birth { time: time(it.t_s), thread, stack, bytes: it.bytes };
        self.births.extend(site.births.iter().map(birth));
    }

    fn frame(&mut self, thread: ThreadHandle, number: u32) -> FrameHandle {
        if let Some(known) = self.frames.get(&(thread, number)) {
            return *known;
        }
        let level = self.levels.all()[number as usize];
        let name = self.firefox.intern_string(&level.name());
        let category = match level {
            Level::Function { .. } | Level::Address { .. } => self.categories.code,
            Level::Mapping(_) => self.categories.mapping,
            Level::Process(_) | Level::EndsEarly => self.categories.note,
        };
        let frame = FrameInfo {
            frame: fxprof_processed_profile::Frame::Label(name),
            category_pair: category.into(),
            flags: FrameFlags::empty(),
        };
        let handle = self.firefox.intern_frame(thread, frame);
        self.frames.insert((thread, number), handle);
        handle
    }

    /// Marks are of the recording; they stand in its first process.
    fn add_marks(&mut self) {
        let profile = self.profile;
        let first = profile.groups().iter().find_map(|it| self.threads.get(&*it.name).copied());
        if let (Some(thread), Some(text)) = (first, words::sampled(profile)) {
            self.add_note(thread, profile.from_s, "estimates", &text);
        }
        for (number, mark) in (1..).zip(&profile.marks) {
            if let Some(thread) = first {
                self.add_note(thread, mark.t_s, "mark", &format!("{number} {}", mark.label));
            }
        }
    }

    fn add_note(&mut self, thread: ThreadHandle, t_s: f64, name: &str, text: &str) {
        let name = self.firefox.intern_string(&printable(name));
        let text = self.firefox.intern_string(&printable(text));
        self.firefox.add_marker(thread, MarkerTiming::Instant(time(t_s)), Note { name, text });
    }

    fn finish(mut self) -> fxprof_processed_profile::Profile {
        // A reader expects the order of time.
        self.births.sort_by_key(|it| it.time);
        // Blocks that were born together share one address; none of them is freed.
        for (address, birth) in (1..).zip(&self.births) {
            self.firefox.add_allocation_sample(birth.thread, birth.time, birth.stack, address, birth.bytes);
        }
        self.firefox
    }
}

/// A graph over time.
struct Track {
    name: &'static str,
    what: &'static str,
    color: &'static str,
    /// From the top.
    place: u32,
}

const TRACKS: [Track; 2] = [
    Track { name: "Live", what: "allocated and not freed", color: "blue", place: 20 },
    Track { name: "RSS", what: "resident memory of the process", color: "grey", place: 21 },
];

/// Tells the reader how to show the tracks, for which the crate has no words. Without that both would be called
/// Memory, and count allocations that nobody has counted.
fn with_displays(mut json: Vec<u8>) -> io::Result<Vec<u8>> {
    const COUNTERS: &[u8] = b",\"counters\":";
    // They stand last, and hold no text but ours.
    let Some(at) = json.windows(COUNTERS.len()).rposition(|it| it == COUNTERS) else { return Ok(json) };
    let values = at + COUNTERS.len()..json.len() - 1;
    let mut counters: Vec<Value> = serde_json::from_slice(&json[values.clone()])?;
    for counter in &mut counters {
        let track = TRACKS.iter().find(|it| counter["name"] == it.name);
        let Some(Track { name, what, color, place }) = track else { continue };
        counter["display"] = json!({
            "graphType": "line-accumulated",
            "unit": "bytes",
            "color": color,
            "markerSchemaLocation": null,
            "sortWeight": place,
            "label": name,
            "tooltipRows": [
                { "type": "value", "source": "accumulated", "format": { "unit": "bytes" }, "label": what },
                {
                    "type": "value",
                    "source": "count-range",
                    "format": { "unit": "bytes" },
                    "label": "range in the graph",
                },
            ],
        });
    }
    json.splice(values, serde_json::to_vec(&counters)?);
    Ok(json)
}

/// Something that happened at a moment.
struct Note {
    name: StringHandle,
    text: StringHandle,
}

impl StaticSchemaMarker for Note {
    const UNIQUE_MARKER_TYPE_NAME: &'static str = "Note";
    const LOCATIONS: MarkerLocations = MarkerLocations::MARKER_CHART
        .union(MarkerLocations::MARKER_TABLE)
        .union(MarkerLocations::TIMELINE_OVERVIEW);
    const CHART_LABEL: Option<&'static str> = Some("{marker.data.text}");
    const TABLE_LABEL: Option<&'static str> = Some("{marker.name}: {marker.data.text}");
    const FIELDS: &'static [StaticSchemaMarkerField] = &[StaticSchemaMarkerField {
        key: "text",
        label: "What",
        format: MarkerFieldFormat::String,
        flags: MarkerFieldFlags::SEARCHABLE,
    }];

    fn name(&self, _profile: &mut fxprof_processed_profile::Profile) -> StringHandle {
        self.name
    }

    fn category(&self, _profile: &mut fxprof_processed_profile::Profile) -> CategoryHandle {
        CategoryHandle::OTHER
    }

    fn string_field_value(&self, _field_index: u32) -> StringHandle {
        self.text
    }

    fn number_field_value(&self, _field_index: u32) -> f64 {
        unreachable!("a note has no number")
    }
}

fn time(seconds: f64) -> Timestamp {
    Timestamp::from_millis_since_reference(seconds.max(0.0) * 1e3)
}
