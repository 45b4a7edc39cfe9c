//! Six ways to lose memory that were met in real programs, each attached to while it runs: the report must
//! name the guilty function first, and have nothing to say against a program that forgets. Then two that are
//! easily mistaken: a slow leak beside a large cache, and a heap that is full of holes.

use std::{collections::BTreeMap, ffi::OsStr, path::Path, process::Command, thread, time::Duration};

use crate::{
    program::{Program, scratch},
    report::{Report, Site},
    tracer::{Tracer, alloctrace_says, alone},
    workload::build,
};

/// Long enough for a growth that is seen in every interval; what is checked does not depend on it.
const WATCHED: Duration = Duration::from_secs(4);

#[test]
fn callbacks_registered_again_on_every_event() {
    check("callbacks", Growth::Even);
}

#[test]
fn a_parser_buffer_on_unterminated_input() {
    check("parser", Growth::Doubling);
}

#[test]
fn an_effect_queue_that_grows_while_the_program_sleeps() {
    check("effects", Growth::Even);
}

#[test]
fn an_address_book_that_never_forgets() {
    check("peers", Growth::Even);
}

#[test]
fn an_unbounded_cache() {
    check("cache", Growth::Even);
}

#[test]
fn a_receive_buffer_that_an_early_return_never_clears() {
    check("receive", Growth::Doubling);
}

/// Attaches to an incident in full work; the function that it calls guilty, and what was seen.
fn watch(incident: &str, argument: Option<&str>, time: Duration, capture: &Path) -> (String, Report) {
    let program = build(&format!("incidents/{incident}.rs"));
    let mut target = Program::start(Command::new(program).args(argument));
    let line = target.next_line();
    let guilty = line.strip_prefix("leak ").unwrap_or_else(|| panic!("{incident} said {line:?}"));
    let tracer = Tracer::attach(target.pid(), capture, &["-i", "500ms"]);
    thread::sleep(time);
    let report = tracer.interrupt();
    assert!(target.is_running(), "the target outlives the recording");
    target.close_input();
    assert_eq!(target.wait().code, Some(0), "the target ends as if nothing had been");
    let losses = report.losses();
    assert!(losses.is_empty(), "losses: {losses:?}");
    (guilty.to_owned(), report)
}

fn heap(report: &Report) -> impl Iterator<Item = &Site> {
    report.sites.iter().filter(|it| it.kind == "heap")
}

fn labels(report: &Report) -> String {
    heap(report).map(growing).collect::<Vec<_>>().join("\n")
}

/// How the guilty site grows.
enum Growth {
    Even,
    /// One buffer, which is twice as large whenever it is full: it may have been large enough for half of the time.
    Doubling,
}

fn check(incident: &str, growth: Growth) {
    let _alone = alone();
    let directory = scratch(&format!("incident-{incident}"));
    let (guilty, report) = watch(incident, None, WATCHED, &directory.join("leaking.jsonl.zst"));
    let (guilty, heap) = (guilty.as_str(), || heap(&report));
    let labels = || labels(&report);
    let largest = heap().max_by_key(|it| it.live_bytes).expect("a site");
    let fastest =
        heap().max_by(|a, b| a.growth_bytes_per_s.total_cmp(&b.growth_bytes_per_s)).expect("a site");
    let first = heap().next().expect("a site");
    assert!(names(largest, guilty), "the largest site does not name {guilty}:\n{}", labels());
    assert!(names(first, guilty), "the first site of the report does not name {guilty}:\n{}", labels());
    assert!(names(fastest, guilty), "the fastest growing site does not name {guilty}:\n{}", labels());
    assert!(fastest.growth_bytes_per_s > 0.0, "nothing is said to grow:\n{}", labels());
    let is_growing = fastest.verdict.starts_with("growing");
    assert!(is_growing || matches!(growth, Growth::Doubling), "the verdict of the fastest:\n{}", labels());

    let (_, fixed) = watch(incident, Some("--fixed"), WATCHED * 3 / 4, &directory.join("fixed.jsonl.zst"));
    let accused = self::heap(&fixed).find(|it| it.verdict.starts_with("growing") && names(it, guilty));
    assert!(accused.is_none(), "{guilty} forgets:\n{}", self::labels(&fixed));
    check_fix(guilty, &directory.join("leaking.jsonl.zst"), &directory.join("fixed.jsonl.zst"));
}

/// `alloctrace diff` puts the fix first, as less, and has nothing else to say that is of its size.
fn check_fix(guilty: &str, before: &Path, after: &Path) {
    let arguments = [OsStr::new("diff"), before.as_os_str(), after.as_os_str()];
    let diff = |options: &[&str]| {
        let ended = alloctrace_says(arguments.into_iter().chain(options.iter().map(OsStr::new)));
        (ended.code, ended.output, ended.errors)
    };
    let (code, output, errors) = diff(&["--normalize", "--format=json"]);
    assert_eq!(code, Some(0), "{errors}");
    let difference: serde_json::Value = serde_json::from_str(&output).expect("JSON");
    assert_eq!(difference["schema"], "alloctrace.diff/1");
    let change = |site: &serde_json::Value| site["change"]["live_bytes"].as_i64().expect("a number");
    let sites = difference["sites"].as_array().expect("a list");
    let text = diff(&["--normalize"]).1;
    let is_guilty = |site: &serde_json::Value| {
        let frames = site["frames"].as_array().expect("a list");
        frames.iter().any(|it| it["function"].as_str().is_some_and(|it| it.starts_with(guilty)))
    };
    let fixed = sites.iter().position(is_guilty).expect("the fixed site");
    assert_eq!((fixed, &sites[0]["noise"]), (0, &false.into()), "the fix is not first:\n{text}");
    assert!(change(&sites[0]) < 0, "the fix is not less:\n{text}");
    let total = &difference["totals"]["change_live_bytes"];
    assert_eq!(total.as_i64(), Some(sites.iter().map(change).sum()), "the sum of all changes");
    for other in sites.iter().skip(1).filter(|it| !is_guilty(it) && it["noise"] == false) {
        assert!(change(other).abs() * 10 < change(&sites[0]).abs(), "other than noise:\n{text}");
    }
    // The other way round it is growth, and a failure for those who asked.
    let back =
        [OsStr::new("diff"), after.as_os_str(), before.as_os_str(), OsStr::new("--fail-on-growth=100KiB")];
    let ended = alloctrace_says(back);
    assert_eq!(ended.code, Some(3), "{}{}", ended.output, ended.errors);
    assert!(ended.errors.contains("grown by more than 100.0 KiB"), "{}", ended.errors);
}

#[test]
fn a_slow_leak_beside_a_large_cache_in_turnover() {
    let _alone = alone();
    let capture = scratch("incident-slow_leak").join("capture.jsonl.zst");
    let (guilty, report) = watch("slow_leak", None, 2 * WATCHED, &capture);
    let growing = |it: &&Site| it.verdict.starts_with("growing");
    let found: Vec<&Site> = heap(&report).filter(growing).collect();
    assert!(found.iter().any(|it| names(it, &guilty)), "the leak is said to grow:\n{}", labels(&report));
    let cache: Vec<&Site> = heap(&report).filter(|it| names(it, "slow_leak::Cache")).collect();
    let cached: i64 = cache.iter().map(|it| it.live_bytes).sum();
    let leaked: i64 = heap(&report).filter(|it| names(it, &guilty)).map(|it| it.live_bytes).sum();
    assert!(cached > 100 * leaked, "the cache holds {cached} bytes, the leak {leaked}");
    for it in cache {
        assert!(it.verdict.starts_with("steady"), "the cache does not grow:\n{}", labels(&report));
    }
    assert_eq!(report.processes[0].verdict, "growing");
    // `--sort growth` and the suspects rank what grows above what merely has a slope.
    let text = alloctrace_says([OsStr::new("report"), capture.as_os_str(), OsStr::new("--sort=growth")]);
    let first = text.output.split("\n  1. ").nth(1).and_then(|it| it.split("\n  2. ").next());
    assert!(first.is_some_and(|it| it.contains(&guilty)), "the first of --sort growth:\n{}", text.output);
}

/// The bytes of a workload's `books`, by name.
fn books(line: &str) -> BTreeMap<String, i64> {
    let line = line.strip_prefix("books ").unwrap_or_else(|| panic!("it said {line:?}"));
    let words: Vec<&str> = line.split(' ').collect();
    let number = |it: &str| it.parse().unwrap_or_else(|_| panic!("{it:?} in {line:?}"));
    words.chunks(2).map(|it| (it[0].to_owned(), number(it[1]))).collect()
}

#[test]
fn a_heap_full_of_holes_is_no_leak() {
    let _alone = alone();
    let capture = scratch("fragmentation").join("capture.jsonl.zst");
    let mut target = Program::start(&mut Command::new(build("fragmentation.c")));
    let before = books(&target.next_line());
    let tracer = Tracer::attach(target.pid(), &capture, &["-i", "200ms"]);
    let mut after = before.clone();
    for _ in 0..20 {
        target.say("round");
        after = books(&target.next_line());
        thread::sleep(Duration::from_millis(100));
    }
    let report = tracer.interrupt();
    target.close_input();
    assert_eq!(target.wait().code, Some(0));
    let losses = report.losses();
    assert!(losses.is_empty(), "losses: {losses:?}");

    let grown = |name: &str| after[name] - before[name];
    let process = &report.processes[0];
    let account = process.account.as_ref().expect("an account");
    assert_eq!(process.verdict, "fragmented", "{process:?}\n{before:?}\n{after:?}");
    assert_eq!(report.totals.live_bytes, grown("live"), "what it holds: {}", labels(&report));
    assert_eq!(account.live_bytes, grown("live"));
    assert_eq!(process.arena_bytes, grown("arena"), "what glibc got from the kernel: {process:?}");
    assert_eq!(account.live_bytes + account.retained_bytes, grown("arena"), "{process:?}");
    // All of it is resident, but for less than what one round adds.
    let differs = (account.change_bytes - grown("rss")).abs();
    assert!(differs < grown("rss") / 10, "RSS grew by {} bytes: {process:?}", grown("rss"));
}

fn names(site: &Site, function: &str) -> bool {
    site.frames.iter().filter_map(|it| it.function.as_deref()).any(|it| it.starts_with(function))
}

fn growing(site: &Site) -> String {
    format!("{:>12.0} B/s [{}] {}", site.growth_bytes_per_s, site.verdict, site.label())
}
