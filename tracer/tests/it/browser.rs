//! The HTML report in a browser: Chromium without a window, driven by `tests/browser/report.py`.

use std::{
    path::{Path, PathBuf},
    process::Command,
};

use crate::{
    program::{needed, run, scratch},
    synthetic::{LEAK, Synthetic},
    tracer::alloctrace_says,
};

/// What a report may have at most, to be sent around.
const MAX_BYTES: u64 = 10_000_000;

/// Names that would like to be more than text.
const HOSTILE: [&str; 8] = [
    "</script><script>alert(1)</script>",
    "<img src=x onerror=alert(2)>",
    "\"><svg onload=alert(3)>",
    "<!--<script>",
    "' onmouseover='alert(4)",
    "javascript:alert(5)",
    "{{constructor.constructor('alert(6)')()}}",
    "line\nbreak\u{2028}and\u{0}zero",
];

fn html(directory: &Path, capture: &Synthetic, options: &[&str]) -> PathBuf {
    let (path, page) = (directory.join("capture.jsonl.zst"), directory.join("report.html"));
    capture.write(&path);
    let [path, out] = [&path, &page].map(|it| it.to_str().expect("a path of ours").to_owned());
    let ended = alloctrace_says([&["report", &path, "--format", "html", "-o", &out], options].concat());
    assert_eq!(ended.code, Some(0), "{ended:?}");
    page
}

/// The comparison of the two, and what the JSON says of it beside the page.
fn comparison(directory: &Path, captures: [&Synthetic; 2], options: &[&str]) -> PathBuf {
    let paths = ["before.jsonl.zst", "after.jsonl.zst"].map(|it| directory.join(it));
    captures.iter().zip(&paths).for_each(|(capture, path)| capture.write(path));
    let page = directory.join("report.html");
    for out in [&page, &directory.join("report.json")] {
        let format = out.extension().and_then(|it| it.to_str()).expect("an extension of ours");
        let [before, after, out] = [&paths[0], &paths[1], out].map(|it| it.to_str().expect("a path of ours"));
        let ended =
            alloctrace_says([&["diff", before, after, "--format", format, "-o", out], options].concat());
        assert_eq!(ended.code, Some(0), "{ended:?}");
    }
    page
}

/// Runs the checks of the script on the page. What it prints is for whoever reads the tests' output.
fn check_in_browser(page: &Path, checks: &str) {
    needed("chromedriver", "chromium-driver");
    let chromium = needed("chromium", "chromium");
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/browser/report.py");
    // Debian's own Python: that is the one which the package python3-selenium is for.
    let ended =
        run(Command::new("/usr/bin/python3").arg(script).arg(checks).arg(page).env("CHROMIUM", chromium));
    println!("{}", ended.output);
    assert_eq!(ended.code, Some(0), "{}\n{}", ended.output, ended.errors);
}

#[test]
fn a_report_is_used_with_pointer_and_keys() {
    let directory = scratch("browser-use");
    let names = vec!["book::Ledger::on_message".to_owned()];
    let capture = Synthetic { sites: 300, frames: 12, intervals: 60, processes: 1, names, is_complete: true };
    check_in_browser(&html(&directory, &capture, &[]), "use");
}

#[test]
fn names_are_no_markup() {
    let directory = scratch("browser-names");
    let names = HOSTILE.map(str::to_owned).to_vec();
    let capture =
        Synthetic { sites: 200, frames: 10, intervals: 10, processes: 1, names, is_complete: false };
    let page = html(&directory, &capture, &[]);
    check_in_browser(&page, "names");
    check_in_browser(&page, "policy");
}

#[test]
fn a_window_that_was_asked_for_is_where_it_opens() {
    let directory = scratch("browser-window");
    let window = ["--from", "10s", "--to", "20s"];
    let capture =
        Synthetic { sites: 50, frames: 8, intervals: 40, processes: 2, names: Vec::new(), is_complete: true };
    let page = html(&directory, &capture, &window);
    // What the browser computes for a window is to be what the other reports say of it.
    let path = directory.join("capture.jsonl.zst");
    let path = path.to_str().expect("a path of ours");
    let json = alloctrace_says([&["report", path, "--format", "json"], &window[..]].concat());
    std::fs::write(directory.join("report.json"), json.output).expect("a file in the scratch directory");
    check_in_browser(&page, "window");
    check_in_browser(&html(&directory, &capture, &["-T", "5"]), "others");
}

#[test]
fn one_of_a_thousand_processes() {
    let capture = Synthetic {
        sites: 5000,
        frames: 12,
        intervals: 10,
        processes: 1000,
        names: Vec::new(),
        is_complete: true,
    };
    check_in_browser(&html(&scratch("browser-crowd"), &capture, &[]), "crowd");
}

#[test]
fn nothing_was_recorded() {
    let directory = scratch("browser-empty");
    let capture =
        Synthetic { sites: 0, frames: 0, intervals: 0, processes: 1, names: Vec::new(), is_complete: false };
    check_in_browser(&html(&directory, &capture, &[]), "empty");
}

#[test]
fn twenty_thousand_sites() {
    let directory = scratch("browser-large");
    let capture = Synthetic {
        sites: 20_000,
        frames: 20,
        intervals: 300,
        processes: 1,
        names: Vec::new(),
        is_complete: true,
    };
    let page = html(&directory, &capture, &[]);
    let size = page.metadata().expect("it was written").len();
    println!("20,000 sites: {size} bytes");
    assert!(size < MAX_BYTES, "{size} bytes");
    check_in_browser(&page, "large");
}

#[test]
fn a_comparison_shows_what_has_gone_and_what_is_new() {
    let directory = scratch("browser-comparison");
    let capture = |sites, intervals| Synthetic {
        sites,
        frames: 12,
        intervals,
        processes: 1,
        names: Vec::new(),
        is_complete: true,
    };
    // The site that grows is among those that only the larger has.
    let (large, small) = (capture(300, 60), capture(LEAK, 60));
    check_in_browser(&comparison(&directory, [&large, &small], &[]), "comparison");
    check_in_browser(&comparison(&directory, [&small, &large], &[]), "comparison");
    // Of two that are the same there is nothing to say, and of what was cut off there may be nothing to show.
    check_in_browser(&comparison(&directory, [&small, &small], &[]), "no_change");
    let nothing = Synthetic { is_complete: false, ..capture(0, 0) };
    check_in_browser(&comparison(&directory, [&nothing, &nothing], &[]), "no_change");
}

#[test]
fn names_in_a_comparison_are_no_markup() {
    let directory = scratch("browser-comparison-names");
    let capture = |intervals| Synthetic {
        sites: 200,
        frames: 10,
        intervals,
        processes: 1,
        names: HOSTILE.map(str::to_owned).to_vec(),
        is_complete: false,
    };
    let page = comparison(&directory, [&capture(10), &capture(20)], &["--normalize"]);
    check_in_browser(&page, "names");
    check_in_browser(&page, "policy");
}
