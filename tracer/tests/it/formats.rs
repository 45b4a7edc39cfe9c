//! Every capture that any test makes is written in every format; and so are captures that nobody would like to meet.

use std::{ffi::OsStr, fs::File, io::Read as _, path::Path, process::Command};

use alloctrace::{
    capture::{
        self, EndRow, FrameRow, Header, IntervalRow, ModuleRow, ProcessRow, ProcessSample, Row, SiteRow,
        StackRow, Writer,
    },
    profile::{Profile, Query},
    report::{self, Format, Options},
};
use serde_json::Value;

use crate::{
    consumers,
    program::{needed, run, scratch},
    report::Report,
    tracer::{alloctrace, alloctrace_says},
};

/// Writes what a test has recorded in all formats, and checks what each must be.
pub(crate) fn check_every_format(capture: &Path) {
    let file = File::open(capture).expect("open the capture");
    let recording = capture::read(file, None).expect("read the capture");
    let profile = Profile::new(&recording, &Query::default(), usize::MAX);
    // A lost allocation whose free was seen makes a site that holds less than nothing.
    let is_exact = profile.sites.iter().all(|it| it.live.bytes >= 0);
    let live_bytes = is_exact.then_some(profile.totals().0.bytes);
    for format in Format::ALL {
        let mut out = Vec::new();
        report::write(format, &recording, &profile, &Options::default(), &mut out)
            .expect("write into memory");
        check(format, &out, live_bytes, capture);
    }
}

/// What holds for a report of anything in `format`.
fn check(format: Format, bytes: &[u8], live_bytes: Option<i64>, capture: &Path) {
    let what = format!("{format:?} of {}", capture.display());
    let text = || std::str::from_utf8(bytes).unwrap_or_else(|error| panic!("{what}: {error}"));
    let json = || -> Value {
        serde_json::from_slice(bytes).unwrap_or_else(|error| panic!("{what}: {error}\n{}", text()))
    };
    let sum = |values: &Value| -> i64 {
        values.as_array().map_or(0, |it| it.iter().map(|it| it.as_f64().expect("a number") as i64).sum())
    };
    let found = match format {
        Format::Folded => Some(
            text()
                .lines()
                .map(|it| {
                    it.rsplit_once(' ').and_then(|it| it.1.parse::<i64>().ok()).expect("a stack and bytes")
                })
                .sum(),
        ),
        Format::Flamegraph => {
            assert!(text().ends_with("</svg>\n"), "{what} ends well");
            match text().split_once("total_samples=\"").and_then(|it| it.1.split('"').next()) {
                Some(total) => Some(total.parse().expect("a number")),
                None => text().contains("Nothing is live.").then_some(0),
            }
        }
        Format::Pprof => {
            let mut inside = Vec::new();
            flate2::read::GzDecoder::new(bytes)
                .read_to_end(&mut inside)
                .unwrap_or_else(|error| panic!("{what}: {error}"));
            assert!(!inside.is_empty(), "{what} holds something");
            live_bytes
        }
        Format::Json => json()["totals"]["live_bytes"].as_i64(),
        Format::Speedscope => json()["profiles"][0]["endValue"].as_i64(),
        Format::Firefox => {
            let file = json();
            let threads = file["threads"].as_array().expect("threads");
            Some(threads.iter().map(|it| sum(&it["nativeAllocations"]["weight"])).sum())
        }
        Format::Dhat => {
            let file = json();
            let points = file["pps"].as_array().expect("points");
            Some(points.iter().map(|it| it["eb"].as_i64().expect("bytes")).sum())
        }
        _ => {
            assert!(!text().is_empty(), "{what} says something");
            live_bytes
        }
    };
    if live_bytes.is_some() {
        assert_eq!(found, live_bytes, "live bytes in {what}");
    }
}

/// By the command, to a file and to standard output.
fn check_by_command(capture: &Path) {
    let live_bytes = Report::try_read(capture, &[]);
    assert_eq!(live_bytes.code, Some(0), "{}", live_bytes.errors);
    let report: Value = serde_json::from_str(&live_bytes.output).expect("JSON");
    let live_bytes = report["totals"]["live_bytes"].as_i64();
    for format in Format::ALL {
        let out = capture.with_extension(format.extension());
        let name = format!("{format:?}").to_lowercase();
        let mut command = alloctrace(["report", "--format", &name]);
        command.arg(capture);
        let piped = command.output().expect("run alloctrace");
        assert_eq!(piped.status.code(), Some(0), "{name} of {}", capture.display());
        let ended = run(command.arg("-o").arg(&out));
        assert_eq!(ended.code, Some(0), "{name} of {}: {}", capture.display(), ended.errors);
        let bytes = std::fs::read(&out).expect("read the report");
        assert!(piped.stdout == bytes, "{name} of {}: the same in a file and in a pipe", capture.display());
        check(format, &bytes, live_bytes, capture);
    }
}

#[test]
fn a_capture_of_hostile_names() {
    let path = scratch("hostile").join("capture.jsonl.zst");
    hostile(&path, 14);
    check_by_command(&path);
}

#[test]
fn a_capture_of_nothing_but_its_header() {
    let path = scratch("header-only").join("capture.jsonl.zst");
    let file = File::create(&path).expect("create a capture");
    Writer::new(file, header("-p 7")).expect("write the header");
    check_by_command(&path);
}

#[test]
fn a_capture_that_was_cut_off() {
    let whole = std::fs::read(consumers::capture()).expect("read the capture");
    let path = scratch("cut-formats").join("capture.jsonl.zst");
    std::fs::write(&path, &whole[..whole.len() * 9 / 10]).expect("write a file");
    let report = Report::read(&path);
    assert!(!report.capture.complete && report.totals.live_bytes > 0, "it holds less, and something");
    check_by_command(&path);
}

#[test]
fn a_window_of_a_capture() {
    let format = |name: &str, extra: &[&str]| {
        let mut arguments = vec!["report".into(), consumers::capture().as_os_str().to_owned()];
        arguments.extend(["--from", "0.4s", "--format", name].iter().chain(extra).map(Into::into));
        let ended = alloctrace_says(arguments);
        assert_eq!(ended.code, Some(0), "{name}: {}", ended.errors);
        ended.output
    };
    let report: Value = serde_json::from_str(&format("json", &[])).expect("JSON");
    let live_bytes = report["totals"]["live_bytes"].as_i64();
    assert!(live_bytes > Some(0), "something was allocated in the window and is live");
    for (name, kind) in [
        ("folded", Format::Folded),
        ("flamegraph", Format::Flamegraph),
        ("speedscope", Format::Speedscope),
        ("firefox", Format::Firefox),
        ("dhat", Format::Dhat),
    ] {
        check(kind, format(name, &[]).as_bytes(), live_bytes, consumers::capture());
    }
    let nothing = format("flamegraph", &["--min-size", "1TB"]);
    assert!(nothing.contains("Nothing is live."), "{nothing}");
}

#[test]
fn binary_formats_are_not_for_terminals() {
    let path = scratch("terminal").join("capture.jsonl.zst");
    hostile(&path, 1);
    let command = format!("{} report {} --format pprof", env!("CARGO_BIN_EXE_alloctrace"), path.display());
    // It gives its command a terminal, and ends as that does.
    let ended = run(Command::new(needed("script", "bsdutils")).args(["-qec", &command, "/dev/null"]));
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.output.contains("binary") && ended.output.contains("-o report.pb.gz"), "{ended:?}");
}

#[test]
fn a_report_does_not_overwrite_its_capture() {
    let path = scratch("onto-itself").join("capture.jsonl.zst");
    hostile(&path, 1);
    let before = std::fs::read(&path).expect("read the capture");
    let onto = path.with_file_name("./capture.jsonl.zst");
    let report = [OsStr::new("report"), path.as_os_str(), OsStr::new("-o"), onto.as_os_str()];
    let ended = alloctrace_says(report);
    assert_eq!(ended.code, Some(2), "{}", ended.errors);
    assert!(ended.errors.contains("is the capture itself"), "{}", ended.errors);
    let diff = [OsStr::new("diff"), path.as_os_str(), path.as_os_str(), OsStr::new("-o"), onto.as_os_str()];
    assert_eq!(alloctrace_says(diff).code, Some(2));
    assert!(std::fs::read(&path).expect("read it again") == before, "the capture is what it was");
}

fn header(target: &str) -> Header {
    Header {
        schema: capture::SCHEMA.to_owned(),
        interval_s: 1.0,
        target: target.to_owned(),
        started: "2026-01-02T03:04:05Z".to_owned(),
        ..Header::default()
    }
}

/// Writes a capture in which somebody chose the names who means no good: `count` of them. Returns the live bytes.
pub(crate) fn hostile(path: &Path, count: usize) -> i64 {
    let long = "x".repeat(10_000);
    let names = [
        "<script>alert(1)</script>",
        "a;b",
        "new\nline\r\t",
        "\u{1}\u{7f}\u{85}\u{2028}\u{fffe}\u{0}\u{1b}[31m",
        "]]>--><!--",
        "& \"quoted\" 'twice' \\ \\u0000",
        "f 12",
        "f (.cold)",
        "f",
        "# f",
        "",
        " ",
        "\u{202e}caf\u{e9} \u{1f4a3}\u{fffd}",
        &long,
    ];
    let names = &names[..count];
    let file = File::create(path).expect("create a capture");
    let mut writer = Writer::new(file, header(&names.concat())).expect("write the header");
    let mut row = |row: Row| writer.row(&row).expect("write a row");
    let mut sites = Vec::new();
    for (id, name) in (1..).zip(names) {
        row(Row::Module(ModuleRow { id, path: format!("/opt/{name}"), build_id: Some((*name).to_owned()) }));
        let (name, command) = ((*name).to_owned(), names.concat());
        row(Row::Process(ProcessRow {
            id,
            pid: 7,
            exe: command.clone(),
            name,
            command,
            ..ProcessRow::default()
        }));
        let frame = |offset, function: &str| FrameRow { module: id, offset, function: Some(function.into()) };
        let unnamed = FrameRow { module: id, offset: u64::MAX, function: None };
        let frames = vec![frame(id.into(), names[id as usize - 1]), unnamed, frame(0x1000, "main")];
        row(Row::Stack(StackRow { id, stop: names[0].to_owned(), frames }));
        sites.push(SiteRow {
            site: id,
            process: id,
            kind: if id % 2 == 0 { "mmap" } else { "heap" }.to_owned(),
            via: names[id as usize - 1].to_owned(),
            stack: id,
            allocated_bytes: 1000 + i64::from(id),
            allocated_blocks: 1,
            freed_bytes: 0,
            freed_blocks: 0,
            peak_bytes: 1000 + i64::from(id),
            cohorts: vec![capture::CohortRow {
                from_s: 0.0,
                to_s: 1.0,
                bytes: 1000 + i64::from(id),
                blocks: 1,
            }],
            ..SiteRow::default()
        });
    }
    let processes = (1..=names.len() as u32)
        .map(|process| ProcessSample {
            process,
            live_bytes: 1000 + i64::from(process),
            ..ProcessSample::default()
        })
        .collect();
    row(Row::Interval(IntervalRow { t_s: 1.0, processes, sites, ..IntervalRow::default() }));
    row(Row::End(EndRow { t_s: 1.0, reason: "signal".to_owned() }));
    writer.flush().expect("write the capture");
    (1..=names.len() as i64).map(|it| 1000 + it).sum()
}
