//! pprof's `profile.proto`, compressed: for `go tool pprof`, Pyroscope, Grafana and speedscope.
//!
//! Four values a stack, as Go's heap profiles have them. An address is the offset in the object behind a base of
//! the object's own, since a site may be known from several processes: offset = address − memory_start.

pub(super) mod proto;

use std::{
    borrow::Cow,
    collections::hash_map::Entry,
    io::{self, Write},
};

use flate2::{Compression, write::GzEncoder};
use prost::Message as _;
use rustc_hash::FxHashMap;

use self::proto::{Function, Label, Line, Location, Mapping, Sample, ValueType};
use super::{
    Options,
    level::{self, Level, printable, shown},
    words,
};
use crate::{
    event::Loss,
    profile::{By, Frame, Profile, Site},
};

/// (type, unit), in the order of [`values`].
const SAMPLE_TYPES: [(&str, &str); 4] = [
    ("alloc_objects", "count"),
    ("alloc_space", "bytes"),
    ("inuse_objects", "count"),
    ("inuse_space", "bytes"),
];

fn values(site: &Site) -> [i64; 4] {
    [site.allocated.blocks, site.allocated.bytes, site.live.blocks, site.live.bytes]
}

pub(super) fn write(profile: &Profile, options: &Options, out: &mut dyn Write) -> io::Result<()> {
    // The fastest level: stacks are mostly small numbers, and further levels gain a few per cent.
    let mut out = GzEncoder::new(out, Compression::fast());
    out.write_all(&Builder::new(profile).build(options).encode_to_vec())?;
    out.finish()?;
    Ok(())
}

/// Room for one object's offsets: no executable file has a TiB, and 16 million of them fit.
const OBJECT_BYTES: u64 = 1 << 40;

/// Rows that are there once each, with numbers from 1 on.
struct Builder<'a> {
    profile: &'a Profile,
    strings: FxHashMap<Cow<'a, str>, i64>,
    string_table: Vec<String>,
    /// By path and build id.
    mappings: FxHashMap<(&'a str, Option<&'a str>), u64>,
    mapping: Vec<Mapping>,
    /// By the id of the frame that has one on the stack, whose inlined functions are always the same; 0: not yet.
    locations: Vec<u64>,
    location: Vec<Location>,
    unknown_location: Option<u64>,
    functions: FxHashMap<Level<'a>, u64>,
    function: Vec<Function>,
    /// Of each process, if sites are of one.
    labels: FxHashMap<u32, [Label; 2]>,
}

impl<'a> Builder<'a> {
    fn new(profile: &'a Profile) -> Self {
        let mut builder = Self {
            profile,
            strings: FxHashMap::default(),
            string_table: Vec::new(),
            mappings: FxHashMap::default(),
            mapping: Vec::new(),
            locations: vec![0; profile.stacks.frames().len()],
            location: Vec::new(),
            unknown_location: None,
            functions: FxHashMap::default(),
            function: Vec::new(),
            labels: FxHashMap::default(),
        };
        builder.string("");
        for process in &profile.processes {
            let pid = builder.label("pid", process.row.pid.to_string());
            let name = builder.label("process", printable(&process.row.name));
            builder.labels.insert(process.row.id, [pid, name]);
        }
        builder
    }

    fn build(mut self, options: &Options) -> proto::Profile {
        let profile = self.profile;
        let sample_type = SAMPLE_TYPES.map(|(name, unit)| self.value_type(name, unit)).into();
        let sample = shown(profile, options)
            .iter()
            .filter(|it| values(it).iter().any(|value| *value != 0))
            .map(|it| self.sample(it))
            .collect();
        let comment = comments(profile).into_iter().map(|it| self.string(it)).collect();
        let period_type = Some(self.value_type("space", "bytes"));
        let opens_with = if options.opens_with_allocated { "alloc_space" } else { "inuse_space" };
        let default_sample_type = self.string(opens_with);
        self.put_program_first();
        proto::Profile {
            sample_type,
            sample,
            mapping: self.mapping,
            location: self.location,
            function: self.function,
            string_table: self.string_table,
            time_nanos: time_ns(profile),
            duration_nanos: ns(profile.to_s - profile.from_s),
            period_type,
            // Every byte counts: nothing is sampled.
            period: 1,
            comment,
            default_sample_type,
        }
    }

    fn string(&mut self, text: impl Into<Cow<'a, str>>) -> i64 {
        match self.strings.entry(text.into()) {
            Entry::Occupied(known) => *known.get(),
            Entry::Vacant(new) => {
                let number = self.string_table.len() as i64;
                self.string_table.push(new.key().to_string());
                *new.insert(number)
            }
        }
    }

    fn value_type(&mut self, name: &'a str, unit: &'a str) -> ValueType {
        ValueType { r#type: self.string(name), unit: self.string(unit) }
    }

    fn sample(&mut self, site: &'a Site) -> Sample {
        let profile = self.profile;
        let mut location_id = Vec::with_capacity(site.frames.len());
        let mut inlined: Vec<&Frame> = Vec::new();
        for id in &site.frames {
            let frame = profile.stacks.frame(*id);
            if frame.inlined {
                inlined.push(frame);
                continue;
            }
            if self.locations[id.0 as usize] == 0 {
                self.locations[id.0 as usize] = self.location(&inlined, frame);
            }
            location_id.push(self.locations[id.0 as usize]);
            inlined.clear();
        }
        if location_id.is_empty() {
            // What has no location is not shown at all.
            location_id.push(self.unknown_location());
        }
        let mut label =
            vec![self.label("kind", printable(&site.kind)), self.label("via", printable(&site.via))];
        match profile.group(site) {
            Some(group) if profile.by != By::Process => {
                label.push(self.label("group", printable(&group.name)));
            }
            _ => label.extend(self.labels.get(&site.process).into_iter().flatten()),
        }
        if !site.is_complete() {
            label.push(self.label("stack_ends_early", printable(&site.stop)));
        }
        Sample { location_id, value: values(site).into(), label }
    }

    fn label(&mut self, key: &'a str, value: impl Into<Cow<'a, str>>) -> Label {
        Label { key: self.string(key), str: self.string(value) }
    }

    fn location(&mut self, inlined: &[&'a Frame], outer: &'a Frame) -> u64 {
        let mapping_id = self.mapping(outer);
        let line = inlined.iter().chain([&outer]).filter_map(|it| self.line(it)).collect();
        let mut address = outer.offset;
        if let Some(mapping) = mapping_id.checked_sub(1).and_then(|it| self.mapping.get_mut(it as usize)) {
            address = mapping.memory_start.saturating_add(outer.offset);
            // Whole pages, as mappings are.
            mapping.memory_limit = mapping.memory_limit.max((address | 0xfff).saturating_add(1));
            mapping.has_functions |= outer.function.is_some();
            mapping.has_filenames |= outer.file.is_some();
            mapping.has_line_numbers |= outer.line.is_some();
            mapping.has_inline_frames |= !inlined.is_empty();
        }
        let id = self.location.len() as u64 + 1;
        self.location.push(Location { id, mapping_id, address, line });
        id
    }

    fn unknown_location(&mut self) -> u64 {
        if let Some(known) = self.unknown_location {
            return known;
        }
        let line = vec![Line { function_id: self.function(Level::EndsEarly), line: 0 }];
        let id = self.location.len() as u64 + 1;
        self.location.push(Location { id, mapping_id: 0, address: 0, line });
        *self.unknown_location.insert(id)
    }

    /// 0 for code without a file; its offset is an address.
    fn mapping(&mut self, frame: &'a Frame) -> u64 {
        if frame.module.is_empty() {
            return 0;
        }
        let key = (&*frame.module, frame.build_id.as_deref());
        if let Some(known) = self.mappings.get(&key) {
            return *known;
        }
        let id = self.mapping.len() as u64 + 1;
        let memory_start = id.saturating_mul(OBJECT_BYTES);
        let filename = self.string(printable(&frame.module));
        let build_id = self.string(frame.build_id.as_deref().unwrap_or_default());
        let memory_limit = memory_start;
        self.mapping.push(Mapping {
            id,
            memory_start,
            memory_limit,
            filename,
            build_id,
            ..Mapping::default()
        });
        self.mappings.insert(key, id);
        id
    }

    /// None for code without a name: readers then show its address and object.
    fn line(&mut self, frame: &'a Frame) -> Option<Line> {
        level::name(frame)?;
        let function_id = self.function(Level::function(frame));
        Some(Line { function_id, line: frame.line.unwrap_or(0).into() })
    }

    fn function(&mut self, level: Level<'a>) -> u64 {
        if let Some(known) = self.functions.get(&level) {
            return *known;
        }
        let name = self.string(level.name());
        let filename = self.string(level.file().unwrap_or_default());
        let id = self.function.len() as u64 + 1;
        // Without a system name readers leave the name as it is. From one that is the same they would make another: go
        // tool pprof takes what stands in pointed brackets out of Rust's names.
        self.function.push(Function { id, name, system_name: 0, filename, start_line: 0 });
        self.functions.insert(level, id);
        id
    }

    /// Readers take the first mapping for the program.
    fn put_program_first(&mut self) {
        let exe = self.profile.processes.first().map(|it| printable(&it.row.exe));
        let exe = exe.and_then(|it| self.strings.get(&it).copied());
        if let Some(at) = self.mapping.iter().position(|it| Some(it.filename) == exe) {
            self.mapping[..=at].rotate_right(1);
        }
    }
}

/// What a reader should know and pprof has no field for.
fn comments(profile: &Profile) -> Vec<String> {
    let header = &profile.header;
    let mut comments = vec![
        format!("alloctrace {} on {}, target {}", header.tool_version, header.host, header.target),
        format!("trust {}: {}", profile.grade, profile.trust()),
    ];
    let losses =
        Loss::ALL.into_iter().map(|it| (it.name(), profile.loss(it))).filter(|(_, count)| *count > 0);
    comments.extend(losses.map(|(name, count)| format!("{name}: {count}")));
    comments.extend(words::sampled(profile));
    if profile.unknown_frees() > 0 {
        comments.push(format!("unknown_frees: {}", profile.unknown_frees()));
    }
    comments.push("sizes are those asked for, not what the allocator rounds them up to".to_owned());
    comments.into_iter().map(|it| printable(&it).into_owned()).collect()
}

/// When the span of time began that the numbers are of.
fn time_ns(profile: &Profile) -> i64 {
    let started = profile.header.started.parse::<jiff::Timestamp>();
    let started_ns = started.map_or(0, |it| i64::try_from(it.as_nanosecond()).unwrap_or(0));
    started_ns.saturating_add(ns(profile.from_s))
}

fn ns(seconds: f64) -> i64 {
    (seconds * 1e9).round() as i64
}
