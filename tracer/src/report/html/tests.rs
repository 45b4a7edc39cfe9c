//! The page as text: its data says what the recording says, and nothing in it can act but our scripts.

use std::io::Read as _;

use flate2::read::ZlibDecoder;
use serde_json::Value;

use super::*;
use crate::{
    capture::{FrameRow, Recording, Row, StackRow},
    profile::{Query, sample_recording},
};

fn page(recording: &Recording, options: &Options) -> String {
    let profile = Profile::new(recording, &Query::default(), options.top.unwrap_or(TOP));
    let mut out = Vec::new();
    write(recording, &profile, options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

const DATA: &str = r#"<script type="application/json" id="data">"#;

fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let (_, rest) = text.split_once(start).unwrap();
    rest.split_once(end).unwrap().0
}

/// The document, and its tables.
pub(super) fn data(page: &str) -> (Value, Value) {
    let document: Value = serde_json::from_str(between(page, DATA, "</script>")).unwrap();
    let packed = BASE64.decode(document["tables"].as_str().unwrap()).unwrap();
    let mut tables = String::new();
    ZlibDecoder::new(&packed[..]).read_to_string(&mut tables).unwrap();
    (document, serde_json::from_str(&tables).unwrap())
}

pub(super) fn numbers(value: &Value) -> Vec<i64> {
    value.as_array().unwrap().iter().map(|it| it.as_i64().unwrap()).collect()
}

/// What a column of differences adds up to, for the `counts[site]` points of each site.
pub(super) fn totals(column: &Value, counts: &[i64]) -> Vec<Vec<i64>> {
    let mut differences = numbers(column).into_iter();
    let mut history = |count: &i64| {
        let sum = |total: &mut i64, it: i64| {
            *total += it;
            Some(*total)
        };
        differences.by_ref().take(*count as usize).scan(0, sum).collect()
    };
    counts.iter().map(&mut history).collect()
}

#[test]
fn the_data_is_what_was_recorded() {
    let recording = sample_recording();
    let (document, tables) = data(&page(&recording, &Options::default()));
    assert_eq!(document["schema"], "alloctrace.html/1");
    assert_eq!(document["times_s"], serde_json::json!(recording.times_s));
    let ids = numbers(&tables["sites"]["id"]);
    let counts = numbers(&tables["sites"]["points"]);
    let column = |name: &str| totals(&tables["points"][name], &counts);
    let (edges, allocated, freed) = (column("edge"), column("allocated_bytes"), column("freed_bytes"));
    let (allocated_blocks, freed_blocks) = (column("allocated_blocks"), column("freed_blocks"));
    assert_eq!(ids.len(), recording.sites.len());
    for (place, id) in ids.iter().enumerate() {
        let points = &recording.sites[&(*id as u32)].points;
        let recorded = |part: fn(&crate::capture::Point) -> i64| points.iter().map(part).collect::<Vec<_>>();
        assert_eq!(edges[place], recorded(|it| i64::from(it.interval)));
        assert_eq!(allocated[place], recorded(|it| it.allocated.bytes));
        assert_eq!(allocated_blocks[place], recorded(|it| it.allocated.blocks));
        assert_eq!(freed[place], recorded(|it| it.freed.bytes));
        assert_eq!(freed_blocks[place], recorded(|it| it.freed.blocks));
    }
}

#[test]
fn stacks_are_what_was_recorded() {
    let recording = sample_recording();
    let (_, tables) = data(&page(&recording, &Options::default()));
    let place = |value: &Value, at: usize| value[at].as_u64().unwrap() as usize;
    let name = |frame: usize| {
        let function = place(&tables["frames"]["function"], frame);
        tables["strings"][place(&tables["functions"]["name"], function)].as_str().unwrap().to_owned()
    };
    for (site, id) in numbers(&tables["sites"]["id"]).into_iter().enumerate() {
        let mut node = place(&tables["sites"]["node"], site);
        let mut names = vec![name(place(&tables["nodes"]["frame"], node))];
        while place(&tables["nodes"]["caller"], node) > 0 {
            node -= place(&tables["nodes"]["caller"], node);
            names.push(name(place(&tables["nodes"]["frame"], node)));
        }
        let stack = &recording.stacks[&recording.sites[&(id as u32)].stack];
        assert_eq!(names.len(), stack.frames.len());
        for (name, frame) in names.iter().zip(&stack.frames) {
            match &recording.frames[*frame as usize].function {
                Some(function) => assert_eq!(**name, **function),
                None => assert!(name.starts_with("app+0x"), "{name}"),
            }
        }
    }
}

#[test]
fn sites_beyond_the_limit_are_summed_up() {
    let recording = sample_recording();
    let (_, tables) = data(&page(&recording, &Options { top: Some(0), ..Options::default() }));
    // The suspect has a row of its own, whatever the limit.
    assert_eq!(numbers(&tables["sites"]["count"]), [1, recording.sites.len() as i64 - 1]);
    let counts = numbers(&tables["sites"]["points"]);
    let all = |column: &str| -> i64 {
        totals(&tables["points"][column], &counts).iter().filter_map(|it| it.last()).sum()
    };
    let last = |part: fn(&crate::capture::Point) -> i64| {
        recording.sites.values().filter_map(|it| it.points.last()).map(part).sum::<i64>()
    };
    assert_eq!(all("allocated_bytes"), last(|it| it.allocated.bytes));
    assert_eq!(all("freed_blocks"), last(|it| it.freed.blocks));
}

#[test]
fn a_name_cannot_leave_the_data() {
    let mut recording = sample_recording();
    let hostile = "</script><script>alert(1)</script><!--";
    let frame = FrameRow { module: 1, offset: 1, function: Some(hostile.into()) };
    recording.add(Row::Stack(StackRow { id: 0, stop: "<b>".to_owned(), frames: vec![frame] }));
    recording.header.target = hostile.to_owned();
    recording.header.host = hostile.to_owned();
    let page = page(&recording, &Options { path: hostile.to_owned(), ..Options::default() });
    assert_eq!(page.matches("alert(1)").count(), 3, "target, host and path; the stack is deflated");
    assert_eq!(page.matches("<script").count(), 3, "the data, the plot and ours");
    let (document, tables) = data(&page);
    assert_eq!(document["capture"]["target"], hostile);
    assert!(tables["strings"].as_array().unwrap().contains(&hostile.into()));
}

#[test]
fn the_policy_names_every_script_and_style_and_allows_nothing_else() {
    let page = page(&sample_recording(), &Options::default());
    let policy = between(&page, r#"Content-Security-Policy" content=""#, "\"");
    let contents = |start: &str, end: &str| -> Vec<String> {
        page.split(start).skip(1).map(|it| hash(it.split_once(end).unwrap().0)).collect()
    };
    let scripts = contents("<script>", "</script>").join(" ");
    let styles = contents("<style>", "</style>").join(" ");
    assert_eq!(
        policy,
        format!(
            "default-src 'none'; script-src {scripts}; style-src {styles}; img-src data:; base-uri 'none'; form-action 'none'"
        )
    );
}

#[test]
fn scripts_make_no_markup_of_texts() {
    let app = app();
    for way in
        ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function", "srcdoc"]
    {
        assert!(
            !app.contains(way),
            "{way}: names of the traced program get into the page by textContent only"
        );
    }
    for script in [PLOT, &app] {
        assert!(!script.contains("</script"), "it would end its element");
    }
}

#[test]
fn vendored_files_are_as_published() {
    let files = [
        ("dist/uPlot.iife.min.js", PLOT),
        ("dist/uPlot.min.css", STYLES[0]),
        ("LICENSE", include_str!("vendor/uplot/LICENSE")),
    ];
    let manifest = include_str!("vendor/MANIFEST");
    for (path, text) in files {
        let sum: String = Sha256::digest(text).iter().map(|it| format!("{it:02x}")).collect();
        let line = format!("uplot 1.6.32 {path} {sum}");
        assert!(manifest.lines().any(|it| it == line), "{line}");
    }
}
