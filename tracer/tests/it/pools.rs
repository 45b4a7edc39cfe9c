//! Allocators of a program's own: what is wrong with `--alloc` and `--free`, what is said when nothing is found, and what
//! `doctor -p` tells of a process. That they are counted exactly is in `truth.rs`.

use std::process::Command;

use serde_json::Value;

use crate::{
    program::{Program, needed, run, scratch},
    tracer::{alloctrace, alloctrace_says, alone},
    workload::build,
};

#[test]
fn a_function_that_is_not_there() {
    let _alone = alone();
    let program = build("pools.c");
    let capture = scratch("no-pool").join("capture.jsonl.zst");
    let says = |spec: &str| {
        let mut command = alloctrace(["record", "--alloc", spec, "-o"]);
        run(command.arg(&capture).arg("--").arg(&program))
    };
    let ended = says("pool_gte:size=arg1");
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for words in
        ["--alloc pool_gte", "looked at: ", "workloads/pools", "libc.so", "Similar names: pool_get in "]
    {
        assert!(ended.errors.contains(words), "{words:?}: {ended:?}");
    }
    let ended = says("pool_get");
    assert_eq!(ended.code, Some(2), "{ended:?}");
    assert!(ended.errors.contains("write for example 'pool_get:size=arg1,ptr=ret'"), "{ended:?}");
    assert!(!capture.exists(), "nothing was recorded");
}

#[test]
fn a_file_that_is_not_loaded_yet_is_waited_for() {
    let _alone = alone();
    let capture = scratch("later").join("capture.jsonl.zst");
    let mut command = alloctrace(["record", "--alloc", "libnowhere.so!get:size=8", "-o"]);
    let ended = run(command.arg(&capture).args(["--", "true"]));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(ended.errors.contains("--alloc libnowhere.so!get: no file that is loaded has it"), "{ended:?}");
    assert!(ended.errors.contains("--alloc without --free"), "{ended:?}");
}

#[test]
fn a_program_that_does_not_call_the_allocator() {
    let _alone = alone();
    let workload = Program::start(&mut Command::new(build("zone.c")));
    let pid = workload.pid().to_string();
    let capture = scratch("silence").join("capture.jsonl.zst");
    let mut tracer = Program::start(alloctrace(["record", "-p", &pid, "-o"]).arg(&capture));
    let said = tracer.wait_for_error("alloctrace: no allocator call has been seen");
    assert!(said.contains(&format!("process {pid} (zone)")), "{said}");
    let advice = tracer.wait_for_error("  `alloctrace doctor -p");
    assert!(advice.contains(&pid), "{advice}");
    drop(tracer);

    let options = suggestion(&pid);
    assert_eq!(options, ["--alloc", "zone_alloc:size=arg1,ptr=ret", "--free", "zone_free:ptr=arg1"]);
    let ended =
        run(alloctrace(["record", "-p", &pid, "-d", "500ms", "--force", "-o"]).arg(&capture).args(options));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.output.contains("No allocation was seen"), "{ended:?}");
}

/// What doctor says is worth a try, as a shell splits it.
fn suggestion(pid: &str) -> Vec<String> {
    let told = doctor(pid, 0);
    let first = told["suggestions"][0].as_str().unwrap_or_else(|| panic!("a suggestion: {told}"));
    first.split(' ').map(|it| it.trim_matches('\'').to_owned()).collect()
}

/// `doctor -p PID --json`, which ends with this code.
fn doctor(pid: &str, code: i32) -> Value {
    let ended = alloctrace_says(["doctor", "-p", pid, "--json"]);
    assert_eq!(ended.code, Some(code), "{ended:?}");
    let told: Value =
        serde_json::from_str(&ended.output).unwrap_or_else(|error| panic!("{error}: {ended:?}"));
    assert_eq!(told["schema"], "alloctrace.doctor.process/1");
    assert_eq!(told["pid"].to_string(), pid);
    told
}

#[test]
fn a_static_program_without_names() {
    let _alone = alone();
    let directory = scratch("stripped");
    let program = directory.join("zone");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/workloads/zone.c");
    let mut gcc = Command::new(needed("gcc", "gcc"));
    let compiled = run(gcc.args(["-O2", "-static", "-s", source, "-o"]).arg(&program));
    assert_eq!(compiled.code, Some(0), "{compiled:?}");
    let workload = Program::start(&mut Command::new(&program));
    let pid = workload.pid().to_string();
    let ended = run(alloctrace(["record", "-p", &pid]).current_dir(&directory));
    assert_eq!(ended.code, Some(1), "{ended:?}");
    for words in ["linked statically and stripped", "looked at: ", "--tier growth"] {
        assert!(ended.errors.contains(words), "{words:?}: {ended:?}");
    }
    let told = doctor(&pid, 1);
    assert_eq!(told["traceable"], false);
    assert!(told["why"].as_str().is_some_and(|it| it.contains("stripped")), "{told}");
    assert!(told["try"].as_str().is_some_and(|it| it.contains("--tier growth")), "{told}");
}

#[test]
fn doctor_explains_a_process() {
    let _alone = alone();
    let mut workload = Program::start(&mut Command::new(build("pools.c")));
    workload.wait_for("waiting");
    let pid = workload.pid().to_string();
    let told = doctor(&pid, 0);
    assert_eq!(told["traceable"], true);
    assert_eq!(told["name"], "pools");
    let files = told["files"].as_array().expect("files");
    let serving: Vec<&Value> = files.iter().filter(|it| it["serves"] == true).collect();
    assert_eq!(serving.len(), 1, "{told}");
    let functions: Vec<&str> = serving[0]["probes"]
        .as_array()
        .expect("probes")
        .iter()
        .filter_map(|it| it["function"].as_str())
        .collect();
    assert!(functions.contains(&"malloc") && functions.contains(&"free"), "{functions:?}");

    let own = ["--alloc", "pool_get:size=arg1", "--free", "pool_put:ptr=arg1"];
    let ended = run(alloctrace(["doctor", "-p", &pid]).args(own));
    assert_eq!(ended.code, Some(0), "{ended:?}");
    for words in
        ["It can be traced:", "pool_get", "by --alloc or --free", "build id", "rows of unwinding data"]
    {
        assert!(ended.output.contains(words), "{words:?}: {ended:?}");
    }
    workload.close_input();
    workload.wait();
    // Its number is not reused so soon.
    assert_eq!(alloctrace_says(["doctor", "-p", &pid]).code, Some(6));
    assert_eq!(alloctrace_says(["doctor", "-p", "2"]).code, Some(1), "a kernel thread");
    let mut unprivileged = Command::new(needed("setpriv", "util-linux"));
    unprivileged.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--"]);
    let ours = std::process::id().to_string();
    let copy = std::env::temp_dir().join(format!("alloctrace.{ours}"));
    std::fs::copy(env!("CARGO_BIN_EXE_alloctrace"), &copy).expect("copy the program to where all may read");
    let ended = run(unprivileged.arg(&copy).args(["doctor", "-p", &ours]));
    std::fs::remove_file(&copy).expect("remove the copy");
    assert_eq!(ended.code, Some(5), "{ended:?}");
}
