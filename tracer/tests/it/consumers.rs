//! The programs that our formats are for: each must read what we write of a real recording, and come to the numbers that
//! the JSON report has. `cargo xtask test` installs them.

use std::{
    collections::{BTreeMap, HashSet},
    path::{Path, PathBuf},
    process::Command,
    sync::OnceLock,
};

use serde_json::Value;

use crate::{
    formats::hostile,
    program::{PATIENCE, Program, needed, run, scratch, within},
    report::Report,
    shares::{Shares, add, assert_same, expected, items, levels, module, number, process_name, text},
    tracer::{Tracer, alloctrace_says, alone},
    workload::build,
};

/// A shell, a Rust program that keeps what it should forget, and Python: several processes, inlined functions, names with
/// all sorts of brackets, mappings.
pub(crate) fn capture() -> &'static Path {
    static CAPTURE: OnceLock<PathBuf> = OnceLock::new();
    CAPTURE.get_or_init(|| {
        let cache = build("incidents/cache.rs");
        let _alone = alone();
        let path = scratch("consumers").join("run.jsonl.zst");
        // Itself, where a script that is called so starts it.
        let python = run(Command::new(needed("python3", "python3")).args(["-c", "import sys; print(sys.executable)"]));
        let script = format!(
            "sleep 1 | {}; {} -I -S -c 'import json; kept = json.loads(str([[n] * 30 for n in range(5000)]))'",
            cache.display(),
            python.output.trim()
        );
        Tracer::launch(&["sh", "-c", &script], &path, &["-i", "200ms"]).finish();
        path
    })
}

/// A report of the recording, as a file.
fn written(format: &str, name: &str) -> PathBuf {
    written_of(capture(), format, name)
}

fn written_of(capture: &Path, format: &str, name: &str) -> PathBuf {
    let out = capture.with_file_name(name);
    let mut arguments = vec!["report".into(), capture.as_os_str().to_owned(), "-o".into()];
    arguments.push(out.as_os_str().to_owned());
    arguments.extend(["--format".into(), format.into()]);
    let ended = alloctrace_says(arguments);
    assert_eq!(ended.code, Some(0), "{format}: {}", ended.errors);
    out
}

fn json() -> Value {
    serde_json::from_str(&Report::try_read(capture(), &[]).output).expect("JSON")
}

#[test]
fn go_tool_pprof() {
    let report = json();
    let _alone = alone();
    let file = written("pprof", "run.pb.gz");
    let pprof = |arguments: &[&str]| pprof(arguments, &file);
    let stack = |site: &Value| {
        let name =
            |it: &Value| it["function"].as_str().map_or_else(|| format!("[{}]", module(it)), str::to_owned);
        let frames: Vec<String> = items(&site["frames"]).iter().map(name).collect();
        if frames.is_empty() { vec!["[stack ends early]".to_owned()] } else { frames }
    };
    for (index, field, unit) in [
        ("alloc_objects", "allocated_blocks", "count"),
        ("alloc_space", "allocated_bytes", "B"),
        ("inuse_objects", "live_blocks", "count"),
        ("inuse_space", "live_bytes", "B"),
    ] {
        let (index, unit) = (format!("-sample_index={index}"), format!("-unit={unit}"));
        let top = pprof(&["-top", "-nodefraction=0", "-edgefraction=0", "-nodecount=1000000", &index, &unit]);
        assert_same(&index, &top_rows(&top), &expected(&report, field, stack));
    }
    assert!(pprof(&["-top"]).contains("Type: inuse_space"), "what is live is shown unless asked otherwise");
    let comments = pprof(&["-comments"]);
    assert!(comments.contains(&format!("trust {}", text(&report["loss"]["grade"]))), "{comments}");
    let raw = pprof(&["-raw"]);
    assert!(
        raw.contains("alloc_objects/count alloc_space/bytes inuse_objects/count inuse_space/bytes"),
        "{raw}"
    );
    let tags = pprof(&["-tags"]);
    for process in items(&report["processes"]) {
        let pid = number(process, "pid");
        assert!(tags.contains(&format!("): {pid}\n")), "process {pid} is a tag:\n{tags}");
    }
}

fn pprof(arguments: &[&str], file: &Path) -> String {
    let ended =
        run(Command::new(needed("go", "golang-go")).args(["tool", "pprof"]).args(arguments).arg(file));
    assert_eq!(ended.code, Some(0), "pprof {arguments:?}: {}", ended.errors);
    ended.output
}

/// The rows of `-top`: flat, flat%, sum%, cum, cum%, name.
fn top_rows(top: &str) -> Shares {
    let rows = top.lines().skip_while(|it| !it.trim_start().starts_with("flat ")).skip(1);
    let value = |text: &str| -> i64 {
        let digits = text.trim_end_matches(|it: char| !it.is_ascii_digit());
        digits.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    };
    let row = |line: &str| {
        let mut rest = line;
        let columns = [(); 5].map(|()| {
            let (column, behind) = rest.trim_start().split_once(' ').expect("a column");
            rest = behind;
            column
        });
        let name = rest.trim_start();
        let name =
            [" (inline)", " (partial-inline)"].iter().find_map(|it| name.strip_suffix(it)).unwrap_or(name);
        (name.to_owned(), (value(columns[0]), value(columns[3])))
    };
    rows.map(row).filter(|(_, it)| it.1 != 0).collect()
}

#[test]
fn folded_stacks_in_inferno() {
    let report = json();
    let _alone = alone();
    let file = std::fs::read_to_string(written("folded", "run.folded")).expect("read the report");
    let mut svg = Vec::new();
    inferno::flamegraph::from_reader(&mut inferno::flamegraph::Options::default(), file.as_bytes(), &mut svg)
        .expect("inferno reads it");
    let total = number(&report["totals"], "live_bytes");
    assert!(String::from_utf8_lossy(&svg).contains(&format!("total_samples=\"{total}\"")), "inferno's total");

    let mut found = Shares::new();
    for (stack, bytes) in file.lines().filter_map(|it| it.rsplit_once(' ')) {
        add(&mut found, stack.rsplit(';').map(str::to_owned), bytes.parse().expect("a number"));
    }
    let stack = |site: &Value| {
        let name = |it: String| it.replace(';', ":");
        levels(site).into_iter().map(name).chain([process_name(&report, site)]).collect()
    };
    assert_same("folded", &found, &expected(&report, "live_bytes", stack));
}

#[test]
fn speedscope() {
    let report = json();
    let _alone = alone();
    let file = written("speedscope", "run.speedscope.json");
    let schema = tool("node_modules/speedscope/dist/release/file-format-schema.json");
    let script =
        "import json, jsonschema, sys; jsonschema.validate(*(json.load(open(it)) for it in sys.argv[1:]))";
    let ended = run(Command::new(tool("python/bin/python")).args(["-c", script]).arg(&file).arg(schema));
    assert_eq!(ended.code, Some(0), "speedscope's schema: {}", ended.errors);

    let file: Value = serde_json::from_slice(&std::fs::read(file).expect("read the report")).expect("JSON");
    let frames = items(&file["shared"]["frames"]);
    for (profile, field) in
        items(&file["profiles"]).iter().zip(["live_bytes", "allocated_bytes", "live_blocks"])
    {
        let mut found = Shares::new();
        let (samples, weights) = (items(&profile["samples"]), items(&profile["weights"]));
        assert_eq!(samples.len(), weights.len());
        for (sample, weight) in samples.iter().zip(weights) {
            let name = |it: &Value| text(&frames[it.as_u64().expect("an index") as usize]["name"]).to_owned();
            add(&mut found, items(sample).iter().rev().map(name), weight.as_i64().expect("a number"));
        }
        let stack =
            |site: &Value| levels(site).into_iter().chain([process_name(&report, site)]).collect::<Vec<_>>();
        assert_same(text(&profile["name"]), &found, &expected(&report, field, stack));
    }
}

fn check_schema(file: &Path) {
    let schema = tool("node_modules/speedscope/dist/release/file-format-schema.json");
    let script =
        "import json, jsonschema, sys; jsonschema.validate(*(json.load(open(it)) for it in sys.argv[1:]))";
    let ended = run(Command::new(tool("python/bin/python")).args(["-c", script]).arg(file).arg(schema));
    assert_eq!(ended.code, Some(0), "speedscope's schema: {}", ended.errors);
}

#[test]
fn dhat_viewer() {
    let report = json();
    let _alone = alone();
    let sums = dh_view(&written("dhat", "run.dhat.json"));
    for (sum, total) in [
        ("total_bytes", "allocated_bytes"),
        ("total_blocks", "allocated_blocks"),
        ("end_bytes", "live_bytes"),
        ("end_blocks", "live_blocks"),
    ] {
        assert_eq!(number(&sums, sum), number(&report["totals"], total), "{sum}");
    }
    let mut live_bytes: BTreeMap<String, i64> = BTreeMap::new();
    for moment in items(&report["timeline"]) {
        *live_bytes.entry(moment["t_s"].to_string()).or_default() += number(moment, "live_bytes");
    }
    assert_eq!(Some(&number(&sums, "peak_bytes")), live_bytes.values().max(), "live when the most was live");
}

/// What valgrind's viewer has summed up.
fn dh_view(file: &Path) -> Value {
    let viewer = Path::new("/usr/libexec/valgrind/dh_view.js");
    assert!(viewer.is_file(), "{} is missing: it is in the package valgrind", viewer.display());
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/consumers/dh_view.cjs");
    let ended = run(Command::new(needed("node", "nodejs")).args([&page, viewer, file]));
    assert_eq!(ended.code, Some(0), "dh_view: {}", ended.errors);
    serde_json::from_str(&ended.output).expect("JSON")
}

#[test]
fn firefox_profiler() {
    let report = json();
    let _alone = alone();
    let viewer = FirefoxProfiler::load(&written("firefox", "run.firefox.json"));
    let threads = viewer.ask(&["thread", "list", "--limit", "0"]);
    let threads = items(&threads["threads"]);
    assert_eq!(threads.len(), items(&report["processes"]).len(), "a thread for each process");
    let mut functions = 0;
    for thread in threads {
        let pid: i64 = text(&thread["pid"]).parse().expect("a number");
        let stack = |site: &Value| if number(site, "pid") == pid { levels(site) } else { Vec::new() };
        let expected = expected(&report, "live_bytes", stack);
        if expected.is_empty() {
            continue;
        }
        viewer.say(&["thread", "select", text(&thread["threadHandle"])]);
        viewer.say(&["strategy", "native-retained-allocations"]);
        let answer = viewer.ask(&["thread", "functions", "--limit", "0"]);
        let row = |it: &Value| {
            (text(&it["nameWithLibrary"]).to_owned(), (number(it, "selfSamples"), number(it, "totalSamples")))
        };
        let found: Shares = items(&answer["functions"]).iter().map(row).filter(|(_, it)| it.1 != 0).collect();
        functions += found.len();
        assert_same(&format!("process {pid}"), &found, &expected);
    }
    assert!(functions > 20, "{functions} functions hold memory");
    let tracks = viewer.ask(&["counter", "list"]);
    for name in ["Live", "RSS"] {
        assert!(items(&tracks["counters"]).iter().any(|it| it["label"] == name), "a track {name}: {tracks}");
    }
}

/// The profiler's own code: a process that holds the file, and commands that ask it.
struct FirefoxProfiler {
    /// It ends with us. Started by the command `load`, it would have half a second to be there.
    _holder: Program,
    sessions: PathBuf,
}

impl FirefoxProfiler {
    fn load(file: &Path) -> Self {
        // A socket's path has to be short.
        let sessions = std::env::temp_dir().join(format!("alloctrace-firefox-{}", std::process::id()));
        std::fs::create_dir_all(&sessions).expect("make a directory");
        let mut holder = Self::command(&sessions, &["--daemon"]);
        let viewer = Self { _holder: Program::start(holder.arg(file).args(["--session", "test"])), sessions };
        let is_ready = || {
            let mut status = Self::command(&viewer.sessions, &["status", "--session", "test"]);
            (run(&mut status).code == Some(0)).then_some(())
        };
        within(PATIENCE, is_ready).unwrap_or_else(|| panic!("the Firefox Profiler loads {}", file.display()));
        viewer
    }

    fn command(sessions: &Path, arguments: &[&str]) -> Command {
        let mut command = Command::new(needed("node", "nodejs"));
        let program = tool("node_modules/@firefox-devtools/profiler-cli/dist/profiler-cli.js");
        command.arg(program).args(arguments).env("HOME", sessions).env("PROFILER_CLI_SESSION_DIR", sessions);
        command
    }

    fn say(&self, arguments: &[&str]) -> String {
        let ended = run(&mut Self::command(&self.sessions, &[arguments, &["--session", "test"]].concat()));
        assert_eq!(ended.code, Some(0), "profiler-cli {arguments:?}: {} {}", ended.output, ended.errors);
        ended.output
    }

    fn ask(&self, arguments: &[&str]) -> Value {
        let answer = self.say(&[arguments, &["--json"]].concat());
        serde_json::from_str(&answer).unwrap_or_else(|error| panic!("{arguments:?}: {error}\n{answer}"))
    }
}

impl Drop for FirefoxProfiler {
    fn drop(&mut self) {
        // As well as it goes: a test that fails must not fail twice.
        let _ = std::fs::remove_dir_all(&self.sessions);
    }
}

#[test]
fn hostile_names_reach_every_viewer_as_names() {
    let capture = scratch("hostile-consumers").join("capture.jsonl.zst");
    let total = hostile(&capture, 14);
    let _alone = alone();
    let top = pprof(&["-top", "-unit=B", "-nodefraction=0"], &written_of(&capture, "pprof", "run.pb.gz"));
    assert!(
        top.contains(&format!("Total samples = {total}B")) || top.contains(&format!("of {total}B total")),
        "{top}"
    );
    check_schema(&written_of(&capture, "speedscope", "run.speedscope.json"));
    assert_eq!(number(&dh_view(&written_of(&capture, "dhat", "run.dhat.json")), "end_bytes"), total);
    let viewer = FirefoxProfiler::load(&written_of(&capture, "firefox", "run.firefox.json"));
    let threads = viewer.ask(&["thread", "list", "--limit", "0"]);
    assert_eq!(items(&threads["threads"]).len(), 14);
    drop(viewer);
    let svg = written_of(&capture, "flamegraph", "run.svg");
    let script = "import sys, xml.etree.ElementTree as t; print(*(it.text for it in t.parse(sys.argv[1]).iter() if it.tag.endswith('}title')), sep='\\n')";
    let ended = run(Command::new(tool("python/bin/python")).args(["-c", script]).arg(svg));
    assert_eq!(ended.code, Some(0), "as XML: {}", ended.errors);
    assert!(ended.output.contains("<script>alert(1)</script> ("), "a name is text: {}", ended.output);
}

/// The queries stand in the README, and are run as they stand there.
#[test]
fn queries_of_the_readme() {
    let report = json();
    let _alone = alone();
    let readme = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let readme = std::fs::read_to_string(readme).expect("read the README");
    let section = readme.split("\n## ").find(|it| it.starts_with("The capture\n")).expect("the section");
    let queries: Vec<&str> = section.split("```").skip(1).step_by(2).collect();
    let answer = |word: &str| {
        let query =
            queries.iter().find(|it| it.contains(word)).unwrap_or_else(|| panic!("a query with {word}"));
        let path = std::env::var_os("PATH").unwrap_or_default();
        let paths = [tool("python/bin")].into_iter().chain(std::env::split_paths(&path));
        let mut shell = Command::new("sh");
        shell.args(["-ec", query]).current_dir(capture().parent().expect("a directory"));
        let ended = run(shell.env("PATH", std::env::join_paths(paths).expect("a path")));
        assert_eq!(ended.code, Some(0), "{query}: {}", ended.errors);
        ended.output
    };
    let last = items(&report["timeline"]).last().expect("a moment")["t_s"].clone();
    let at_the_end = || items(&report["timeline"]).iter().filter(|it| it["t_s"] == last);

    let processes: Value = serde_json::from_str(&answer("jq")).expect("JSON");
    let live = |values: &[&Value]| values.iter().map(|it| number(it, "live_bytes")).sum::<i64>();
    assert_eq!(
        live(&items(&processes).iter().collect::<Vec<_>>()),
        live(&at_the_end().collect::<Vec<_>>()),
        "live bytes by jq"
    );

    let table = answer("duckdb");
    for moment in at_the_end() {
        let live_bytes = number(moment, "live_bytes").to_string();
        assert!(table.contains(&live_bytes), "{live_bytes} by DuckDB:\n{table}");
    }

    let counts = answer("pandas");
    let intervals: HashSet<String> =
        items(&report["timeline"]).iter().map(|it| it["t_s"].to_string()).collect();
    let row = counts.lines().find(|it| it.starts_with("interval ")).unwrap_or_else(|| panic!("{counts}"));
    assert_eq!(row.split_whitespace().last(), Some(&*intervals.len().to_string()), "intervals by pandas");
}

/// Something that `cargo xtask test` has installed for these tests.
fn tool(path: &str) -> PathBuf {
    let path = Path::new(env!("CARGO_TARGET_TMPDIR")).join("../consumers").join(path);
    assert!(path.exists(), "{} is missing: `cargo xtask test` installs it", path.display());
    path
}
