//! Six ways to lose memory that were met in real programs, each attached to while it runs: the report must
//! name the guilty function first.

use std::{process::Command, thread, time::Duration};

use crate::{
    program::{Program, scratch},
    report::Site,
    tracer::{Tracer, alone},
    workload::build,
};

/// Long enough for a growth that is seen in every interval; what is checked does not depend on it.
const WATCHED: Duration = Duration::from_secs(4);

#[test]
fn callbacks_registered_again_on_every_event() {
    check("callbacks");
}

#[test]
fn a_parser_buffer_on_unterminated_input() {
    check("parser");
}

#[test]
fn an_effect_queue_that_grows_while_the_program_sleeps() {
    check("effects");
}

#[test]
fn an_address_book_that_never_forgets() {
    check("peers");
}

#[test]
fn an_unbounded_cache() {
    check("cache");
}

#[test]
fn a_receive_buffer_that_an_early_return_never_clears() {
    check("receive");
}

fn check(incident: &str) {
    let program = build(&format!("incidents/{incident}.rs"));
    let _alone = alone();
    let capture = scratch(&format!("incident-{incident}")).join("capture.jsonl.zst");

    let mut target = Program::start(&mut Command::new(program));
    let line = target.next_line();
    let guilty = line.strip_prefix("leak ").unwrap_or_else(|| panic!("{incident} said {line:?}"));
    let tracer = Tracer::attach(target.pid(), &capture, &["-i", "500ms"]);
    thread::sleep(WATCHED);
    let report = tracer.interrupt();
    assert!(target.is_running(), "the target outlives the recording");
    target.close_input();
    assert_eq!(target.wait().code, Some(0), "the target ends as if nothing had been");

    let heap = || report.sites.iter().filter(|it| it.kind == "heap");
    let labels = || heap().map(growing).collect::<Vec<_>>().join("\n");
    let largest = heap().max_by_key(|it| it.live_bytes).expect("a site");
    let fastest =
        heap().max_by(|a, b| a.growth_bytes_per_s.total_cmp(&b.growth_bytes_per_s)).expect("a site");
    let first = heap().next().expect("a site");
    assert!(names(largest, guilty), "the largest site does not name {guilty}:\n{}", labels());
    assert!(names(first, guilty), "the first site of the report does not name {guilty}:\n{}", labels());
    assert!(names(fastest, guilty), "the fastest growing site does not name {guilty}:\n{}", labels());
    assert!(fastest.growth_bytes_per_s > 0.0, "nothing is said to grow:\n{}", labels());
    let losses = report.losses();
    assert!(losses.is_empty(), "losses: {losses:?}");
}

fn names(site: &Site, function: &str) -> bool {
    site.frames.iter().filter_map(|it| it.function.as_deref()).any(|it| it.starts_with(function))
}

fn growing(site: &Site) -> String {
    format!("{:>12.0} B/s {}", site.growth_bytes_per_s, site.label())
}
