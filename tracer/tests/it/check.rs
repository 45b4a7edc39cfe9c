//! `alloctrace check` on real programs: what breaches a budget, what keeps it, and what the exit code says.

use std::{fs, path::Path, process::Command, thread, time::Duration};

use serde_json::Value;

use crate::{
    program::{Ended, Program, run, scratch},
    tracer::{alloctrace, alone},
    workload::build,
};

const FAILED: i32 = 1;
const USAGE: i32 = 2;
const BREACHED: i32 = 3;

/// Long enough for some intervals of the length below; what is checked does not depend on it.
const WATCHED: Duration = Duration::from_secs(3);
const INTERVAL: [&str; 2] = ["-i", "200ms"];

/// Runs an incident under `check` until its input ends.
fn check(incident: &str, options: &[&str], arguments: &[&str]) -> Ended {
    let mut command = alloctrace(["check"]);
    command
        .args(INTERVAL)
        .args(options)
        .arg("--")
        .arg(build(&format!("incidents/{incident}.rs")))
        .args(arguments);
    let mut checked = Program::start(&mut command);
    checked.wait_for_error("alloctrace: ready");
    if options.contains(&"json") {
        // Nothing but the result goes to standard output.
        checked.wait_for_error("leak ");
    } else {
        checked.next_line();
    }
    thread::sleep(WATCHED);
    checked.close_input();
    checked.wait()
}

fn json(ended: &Ended) -> Value {
    serde_json::from_str(&ended.output).unwrap_or_else(|error| panic!("{error}: {ended:?}"))
}

/// The functions on the stack of the first site of a budget.
fn first_functions(result: &Value, budget: &str) -> Vec<String> {
    let of = |it: &&Value| it["budget"] == budget;
    let found = result["budgets"].as_array().expect("budgets").iter().find(of).expect("the budget");
    let frames = found["sites"][0]["site"]["frames"].as_array();
    let frames = frames.unwrap_or_else(|| panic!("nobody is to blame: {found:#}"));
    frames.iter().filter_map(|it| it["function"].as_str().map(str::to_owned)).collect()
}

#[test]
fn a_leak_breaches_and_is_named_first() {
    let _alone = alone();
    let options = ["--max-growth", "64KiB/s", "--max-growth-per-site", "64KiB/s", "--format", "json"];
    let ended = check("peers", &options, &[]);
    assert_eq!(ended.code, Some(BREACHED), "{ended:?}");
    let result = json(&ended);
    assert_eq!(result["status"], "breached");
    for budget in ["--max-growth", "--max-growth-per-site"] {
        let functions = first_functions(&result, budget);
        let guilty = |it: &String| it.starts_with("peers::AddressBook::remember_peer");
        assert!(functions.iter().any(guilty), "{budget}: {functions:?}");
    }
}

#[test]
fn what_forgets_keeps_its_budgets() {
    let _alone = alone();
    let options = ["--max-growth", "64KiB/s", "--max-growth-per-site", "64KiB/s", "--max-live", "2MiB"];
    let ended = check("peers", &[&options[..], &["--warm-up", "1s"]].concat(), &["--fixed"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.output.contains("within 3 budgets"), "{ended:?}");
}

#[test]
fn a_suppression_makes_a_breach_a_pass() {
    let _alone = alone();
    let directory = scratch("check-suppressions");
    let file = directory.join("known.supp");
    fs::write(&file, "# ticket 7\nleak:^effects::Scheduler::queue_effect$\nleak:libnothere.so\n")
        .expect("write it");
    let options = ["--max-growth", "64KiB/s"];
    let ended = check("effects", &options, &[]);
    assert_eq!(ended.code, Some(BREACHED), "{ended:?}");
    let suppressed = [&options[..], &["-v", "--suppressions", file.to_str().expect("UTF-8")]].concat();
    let ended = check("effects", &suppressed, &[]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
    let (used, unused) = ended.output.split_once("Suppressions that nothing matched").expect("an unused one");
    assert!(used.contains("leak:^effects::Scheduler::queue_effect$"), "{ended:?}");
    assert!(unused.contains("leak:libnothere.so"), "{ended:?}");
}

#[test]
fn a_warm_up_leaves_out_what_is_filled_at_the_start() {
    let _alone = alone();
    let capture = scratch("check-warm-up").join("kept.jsonl.zst");
    let mut command =
        alloctrace(["check", "--max-leaked", "64KiB", "--max-growth", "64KiB/s", "--warm-up", "2s"]);
    command
        .args(["-i", "100ms", "--keep-capture"])
        .arg(&capture)
        .arg("--")
        .arg(build("incidents/start_up.rs"));
    let mut checked = Program::start(&mut command);
    // The table is full.
    checked.next_line();
    thread::sleep(2 * WATCHED);
    checked.close_input();
    let warmed_up = checked.wait();
    assert_eq!(warmed_up.code, Some(0), "{warmed_up:?}");

    let mut command = alloctrace(["check", "--max-leaked", "64KiB", "--format", "json", "--capture"]);
    let whole = run(command.arg(&capture));
    assert_eq!(whole.code, Some(BREACHED), "{whole:?}");
    let functions = first_functions(&json(&whole), "--max-leaked");
    assert!(functions.iter().any(|it| it.starts_with("start_up::load_table_row")), "{functions:?}");
}

#[test]
fn the_failure_of_the_command_is_told() {
    let _alone = alone();
    let failing = |options: &[&str]| {
        let mut command = alloctrace(["check", "--max-live", "64MiB"]);
        run(command.args(options).args(["--", "sh", "-c", "exit 7"]))
    };
    let ended = failing(&[]);
    assert_eq!(ended.code, Some(FAILED), "{ended:?}");
    assert!(ended.errors.contains("exited with code 7"), "{ended:?}");
    let ended = failing(&["--ignore-exit-code"]);
    assert_eq!(ended.code, Some(0), "{ended:?}");
}

#[test]
fn a_running_program_is_judged_and_left_alone() {
    let _alone = alone();
    let mut target = Program::start(&mut Command::new(build("incidents/callbacks.rs")));
    target.next_line();
    let pid = target.pid().to_string();
    let mut command =
        alloctrace(["check", "--max-growth", "64KiB/s", "--format", "github", "-d", "3s", "-p", &pid]);
    let ended = run(command.args(INTERVAL));
    assert_eq!(ended.code, Some(BREACHED), "{ended:?}");
    assert!(ended.output.starts_with("::error file="), "{ended:?}");
    assert!(ended.output.contains("callbacks::Bus::register_callback"), "{ended:?}");
    assert!(target.is_running(), "the target outlives the check");
    target.close_input();
    assert_eq!(target.wait().code, Some(0));
}

#[test]
fn results_go_where_they_are_sent_and_nothing_else_is_left() {
    let _alone = alone();
    let directory = scratch("check-output");
    let temporary = directory.join("tmp");
    fs::create_dir(&temporary).expect("make it");
    let mut command =
        alloctrace(["check", "--max-live", "64MiB", "--max-leaked", "64MiB", "--format", "junit"]);
    command.args(["-o", "result.xml", "--", "true"]).current_dir(&directory).env("TMPDIR", &temporary);
    let ended = run(&mut command);
    assert_eq!((ended.code, ended.output.as_str()), (Some(0), ""), "{ended:?}");
    let result = fs::read_to_string(directory.join("result.xml")).expect("the result");
    assert!(result.contains("tests=\"4\" failures=\"0\" errors=\"0\""), "{result}");
    assert_eq!(names(&temporary), Vec::<String>::new(), "the temporary capture is gone");
    assert_eq!(names(&directory), ["result.xml", "tmp"]);
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).expect("it is there");
    let mut names: Vec<String> =
        entries.map(|it| it.expect("an entry").file_name().to_string_lossy().into_owned()).collect();
    names.sort();
    names
}

#[test]
fn wrong_input_is_refused_before_anything_is_traced() {
    let directory = scratch("check-input");
    fs::write(directory.join("bad.supp"), "leak:fine\nrace:worse\n").expect("write it");
    let wrong: [(&[&str], &str); 7] = [
        (&["--", "true"], "--max-growth RATE"),
        (&["--max-live", "1MiB"], "required"),
        (&["--max-growth", "1MiB", "--", "true"], "1MiB/min"),
        (&["--max-live", "1", "--warm-up", "9s", "-d", "5s", "--", "true"], "nothing to judge"),
        (&["--max-live", "1", "--suppressions", "bad.supp", "--", "true"], "bad.supp:2: \"race\""),
        (&["--max-live", "1", "--suppressions", "none.supp", "--", "true"], "none.supp"),
        (&["--max-live", "1", "--capture", "a", "-d", "5s"], "cannot be used with"),
    ];
    for (arguments, words) in wrong {
        let mut command = alloctrace(["check"]);
        let ended = run(command.args(arguments).current_dir(&directory));
        assert_eq!(ended.code, Some(USAGE), "{arguments:?}: {ended:?}");
        assert!(ended.errors.contains(words), "{arguments:?}: {ended:?}");
    }
}
