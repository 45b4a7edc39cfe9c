//! The formats of other tools: goldens, and what must hold whatever the names are.

use std::{collections::HashSet, io::Read as _};

use expect_test::expect_file;
use prost::Message as _;
use serde_json::Value;

use super::{super::pprof::proto, *};
use crate::capture::{
    EndRow, FrameRow, Header, IntervalRow, ModuleRow, ProcessRow, Recording, Row, SiteRow, StackRow,
};

/// The sample with a mapping, and with a stack that ends early.
fn sample() -> Profile {
    let mut profile = Profile::new(&crate::profile::sample_recording(), &Query::default(), 10);
    let [cache, leak] = &profile.sites[..] else { panic!("two sites") };
    let (mut mapped, mut cut) = (cache.clone(), leak.clone());
    mapped.id = 2;
    mapped.kind = "mmap".into();
    mapped.via = "mmap".into();
    cut.id = 3;
    cut.stop = "unreadable_stacks".into();
    cut.frames.pop();
    profile.sites.extend([mapped, cut]);
    profile.add_places(&mut OnePlace);
    profile
}

fn written(format: Format, profile: &Profile) -> Vec<u8> {
    let recording = crate::profile::sample_recording();
    let mut out = Vec::new();
    write(format, &recording, profile, &Options::default(), &mut out).unwrap();
    out
}

fn text(format: Format, profile: &Profile) -> String {
    String::from_utf8(written(format, profile)).unwrap()
}

fn json(format: Format, profile: &Profile) -> Value {
    serde_json::from_slice(&written(format, profile)).unwrap()
}

fn pprof(profile: &Profile) -> proto::Profile {
    let mut bytes = Vec::new();
    flate2::read::GzDecoder::new(&written(Format::Pprof, profile)[..]).read_to_end(&mut bytes).unwrap();
    proto::Profile::decode(&bytes[..]).unwrap()
}

fn sum(values: &Value) -> i64 {
    values.as_array().unwrap().iter().map(|it| it.as_f64().unwrap() as i64).sum()
}

#[test]
fn goldens() {
    let profile = sample();
    expect_file!["../golden/sample.folded"].assert_eq(&text(Format::Folded, &profile));
    expect_file!["../golden/sample.svg"].assert_eq(&text(Format::Flamegraph, &profile));
    expect_file!["../golden/sample.pprof.txt"].assert_eq(&readable(&pprof(&profile)));
    for (format, golden) in [
        (Format::Speedscope, expect_file!["../golden/sample.speedscope.json"]),
        (Format::Firefox, expect_file!["../golden/sample.firefox.json"]),
        (Format::Dhat, expect_file!["../golden/sample.dhat.json"]),
    ] {
        golden.assert_eq(&(serde_json::to_string_pretty(&json(format, &profile)).unwrap() + "\n"));
    }
}

/// The messages with their strings in place of indexes.
fn readable(file: &proto::Profile) -> String {
    let text = |it: i64| file.string_table[it as usize].as_str();
    let kind = |it: &proto::ValueType| format!("{}/{}", text(it.r#type), text(it.unit));
    let mut lines = vec![
        format!("types {}", file.sample_type.iter().map(kind).collect::<Vec<_>>().join(" ")),
        format!("default {}", text(file.default_sample_type)),
        format!("period {} {}", file.period, file.period_type.as_ref().map(kind).unwrap()),
        format!("time {} + {}", file.time_nanos, file.duration_nanos),
    ];
    lines.extend(file.comment.iter().map(|it| format!("comment {}", text(*it))));
    for it in &file.mapping {
        let has = [
            (it.has_functions, "functions"),
            (it.has_filenames, "filenames"),
            (it.has_line_numbers, "lines"),
            (it.has_inline_frames, "inlined"),
        ];
        let has: Vec<&str> = has.iter().filter(|it| it.0).map(|it| it.1).collect();
        lines.push(format!(
            "mapping {} {:#x}-{:#x} at {} {} {}: {}",
            it.id,
            it.memory_start,
            it.memory_limit,
            it.file_offset,
            text(it.filename),
            text(it.build_id),
            has.join(" ")
        ));
    }
    for it in &file.function {
        let (name, system, place) = (text(it.name), text(it.system_name), text(it.filename));
        lines.push(format!("function {} {name} ({system}) {place}:{}", it.id, it.start_line));
    }
    for it in &file.location {
        let line = |it: &proto::Line| format!(" {}:{}", it.function_id, it.line);
        let functions: String = it.line.iter().map(line).collect();
        lines.push(format!("location {} in {} {:#x}{functions}", it.id, it.mapping_id, it.address));
    }
    for it in &file.sample {
        let labels: Vec<String> =
            it.label.iter().map(|it| format!("{}={}", text(it.key), text(it.str))).collect();
        lines.push(format!("sample {:?} at {:?} {}", it.value, it.location_id, labels.join(" ")));
    }
    lines.join("\n") + "\n"
}

#[test]
fn pprof_sums_are_the_totals_and_every_number_leads_somewhere() {
    let profile = sample();
    let file = pprof(&profile);
    let (live, allocated, _) = profile.totals();
    let sums: Vec<i64> = (0..4).map(|at| file.sample.iter().map(|it| it.value[at]).sum()).collect();
    assert_eq!(sums, [allocated.blocks, allocated.bytes, live.blocks, live.bytes]);
    let locations: HashSet<u64> = file.location.iter().map(|it| it.id).collect();
    let functions: HashSet<u64> = file.function.iter().map(|it| it.id).collect();
    assert!(file.sample.iter().flat_map(|it| &it.location_id).all(|it| locations.contains(it)));
    assert!(file.location.iter().flat_map(|it| &it.line).all(|it| functions.contains(&it.function_id)));
    for location in &file.location {
        let mapping = file.mapping.iter().find(|it| it.id == location.mapping_id).unwrap();
        assert!((mapping.memory_start..mapping.memory_limit).contains(&location.address));
    }
    assert_eq!(file.location.len(), 4, "two stacks share the locations of main and below");
}

#[test]
fn a_site_without_frames_is_not_lost() {
    let mut profile = sample();
    profile.sites.truncate(1);
    profile.sites[0].frames.clear();
    profile.sites[0].stop = "gone_stacks".into();
    assert_eq!(text(Format::Folded, &profile), "app;[stack ends early] 1000\n");
    let file = pprof(&profile);
    assert_eq!((file.sample.len(), file.sample[0].location_id.len()), (1, 1));
    assert_eq!(json(Format::Dhat, &profile)["pps"][0]["eb"], 1000);
}

#[test]
fn speedscope_weights_are_the_totals() {
    let profile = sample();
    let (live, allocated, _) = profile.totals();
    let file = json(Format::Speedscope, &profile);
    let frames = file["shared"]["frames"].as_array().unwrap().len() as u64;
    for (measure, total) in
        file["profiles"].as_array().unwrap().iter().zip([live.bytes, allocated.bytes, live.blocks])
    {
        assert_eq!((sum(&measure["weights"]), measure["endValue"].as_i64()), (total, Some(total)));
        let samples = measure["samples"].as_array().unwrap();
        assert_eq!(samples.len(), measure["weights"].as_array().unwrap().len());
        assert!(samples.iter().flat_map(|it| it.as_array().unwrap()).all(|it| it.as_u64().unwrap() < frames));
    }
}

#[test]
fn firefox_weights_are_live_and_the_tracks_end_at_the_last_values() {
    let profile = sample();
    let file = json(Format::Firefox, &profile);
    let allocations = &file["threads"][0]["nativeAllocations"];
    assert_eq!(sum(&allocations["weight"]), profile.totals().0.bytes);
    let times: Vec<f64> =
        allocations["time"].as_array().unwrap().iter().map(|it| it.as_f64().unwrap()).collect();
    assert!(times.is_sorted());
    let last = profile.timeline.last().unwrap();
    let tracks = file["counters"].as_array().unwrap();
    let ends: Vec<i64> = tracks.iter().map(|it| sum(&it["samples"]["count"])).collect();
    assert_eq!(ends, [last.live.bytes, last.rss_bytes.unwrap() as i64]);
}

#[test]
fn dhat_points_are_the_totals_and_no_stack_comes_twice() {
    let mut profile = sample();
    // As after an exec: the same stack in the same process id.
    let again = profile.sites[0].clone();
    profile.sites.push(again);
    let (live, allocated, _) = profile.totals();
    let file = json(Format::Dhat, &profile);
    let points = file["pps"].as_array().unwrap();
    assert_eq!(points.len(), profile.sites.len() - 1);
    let total = |field: &str| points.iter().map(|it| it[field].as_i64().unwrap()).sum::<i64>();
    assert_eq!(
        (total("tb"), total("tbk"), total("eb"), total("ebk")),
        (allocated.bytes, allocated.blocks, live.bytes, live.blocks)
    );
    let stacks: HashSet<String> = points.iter().map(|it| it["fs"].to_string()).collect();
    assert_eq!(stacks.len(), points.len());
}

/// What a name may be that somebody else chose.
fn hostile_names() -> Vec<String> {
    [
        "<script>alert(1)</script>",
        "a;b",
        "new\nline\r\t",
        "\u{1}\u{7f}\u{85}\u{2028}\u{fffe}\u{0}",
        "]]>--><!--",
        "& \"quoted\" 'twice' \\",
        "f 12",
        "f (.cold)",
        "f",
        "# f",
        "",
        " ",
        "\u{202e}caf\u{e9} \u{1f4a3}\u{fffd}",
    ]
    .into_iter()
    .map(str::to_owned)
    .chain(["x".repeat(10_000)])
    .collect()
}

fn hostile() -> Profile {
    let names = hostile_names();
    let mut recording = Recording::default();
    let header = Header { target: names.concat(), ..Header::default() };
    recording.add(Row::Header(header));
    let path = format!("/opt/{}", names.concat());
    recording.add(Row::Module(ModuleRow { id: 1, path, build_id: None }));
    let (name, command) = (names[0].clone(), names.concat());
    recording.add(Row::Process(ProcessRow { id: 1, name, command, ..ProcessRow::default() }));
    let mut sites = Vec::new();
    for (id, name) in (1..).zip(&names) {
        let frame = |offset, function: &str| FrameRow { module: 1, offset, function: Some(function.into()) };
        let frames = vec![frame(id.into(), name), frame(0x1000, "main")];
        recording.add(Row::Stack(StackRow { id, stop: "complete".to_owned(), frames }));
        sites.push(SiteRow {
            site: id,
            process: 1,
            kind: "heap".to_owned(),
            via: "malloc".to_owned(),
            stack: id,
            allocated_bytes: 1 << id,
            allocated_blocks: 1,
            ..SiteRow::default()
        });
    }
    recording.add(Row::Interval(IntervalRow { t_s: 1.0, sites, ..IntervalRow::default() }));
    recording.add(Row::End(EndRow { t_s: 1.0, reason: String::new() }));
    Profile::new(&recording, &Query::default(), usize::MAX)
}

#[test]
fn hostile_names_break_no_format() {
    let profile = hostile();
    let total = profile.totals().0.bytes;
    for format in [Format::Speedscope, Format::Firefox, Format::Dhat] {
        json(format, &profile);
    }
    assert_eq!(pprof(&profile).sample.iter().map(|it| it.value[3]).sum::<i64>(), total);

    let folded = text(Format::Folded, &profile);
    assert!(!folded.contains(|it: char| it.is_control() && it != '\n'));
    let numbers = folded.lines().map(|it| it.rsplit_once(' ').unwrap().1.parse::<i64>().unwrap());
    assert_eq!(numbers.sum::<i64>(), total);
    assert!(folded.lines().all(|it| it.split(';').all(|it| !it.is_empty())));

    let svg = text(Format::Flamegraph, &profile);
    assert!(!svg.contains("<script>alert") && svg.contains("&lt;script&gt;alert(1)&lt;/script&gt;"));
    assert!(!svg.contains(|it: char| it.is_control() && it != '\n'));
    assert!(svg.contains(&format!(r#"total_samples="{total}""#)));
}

#[test]
fn inferno_reads_what_is_folded() {
    for profile in [sample(), hostile()] {
        let mut svg = Vec::new();
        // As the command inferno-flamegraph does: it sorts, and refuses what it cannot sort.
        let mut options = inferno::flamegraph::Options::default();
        inferno::flamegraph::from_reader(&mut options, &written(Format::Folded, &profile)[..], &mut svg)
            .unwrap();
        let total = profile.totals().0.bytes;
        assert!(String::from_utf8(svg).unwrap().contains(&format!(r#"total_samples="{total}""#)));
    }
}

#[test]
fn a_flame_graph_of_nothing_says_so() {
    let mut profile = sample();
    profile.sites.iter_mut().for_each(|it| it.live.bytes = 0);
    let svg = text(Format::Flamegraph, &profile);
    assert!(svg.contains(">Nothing is live.</text>"), "{svg}");
    assert!(svg.contains("without 4 stacks that hold nothing"), "{svg}");
    assert!(svg.ends_with("</svg>\n"));
}

#[test]
fn a_difference_is_as_wide_as_the_larger_side() {
    let recording = crate::profile::sample_recording();
    let profile = || Profile::new(&recording, &Query::default(), 10);
    let (mut before, mut after) = (profile(), profile());
    // The cache has 1,000 bytes, the leak 400.
    before.sites[0].live.bytes = 250;
    after.sites.pop();
    let difference = crate::profile::Difference::new(before, after, false);
    let mut folded = Vec::new();
    difference::write_folded(&difference, &Options::default(), &mut folded).unwrap();
    let lines = "app;app+0x3000;main;cache 250 1000\napp;app+0x3000;main;leak 400 0\n";
    assert_eq!(String::from_utf8(folded).unwrap(), lines);
    let mut svg = Vec::new();
    difference::write_flamegraph(&difference, &Options::default(), &mut svg).unwrap();
    let svg = String::from_utf8(svg).unwrap();
    assert!(svg.contains("cache (1,000 bytes, 71.43%; +53.57%)"), "{svg}");
    assert!(svg.contains("leak (400 bytes, 28.57%; -28.57%)"), "{svg}");
}
