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
    program::{needed, run, scratch},
    report::Report,
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
        let python = needed("python3", "python3");
        let script = format!(
            "sleep 1 | {}; {} -I -S -c 'import json; kept = json.loads(str([[n] * 30 for n in range(5000)]))'",
            cache.display(),
            python.display()
        );
        Tracer::launch(&["sh", "-c", &script], &path, &["-i", "200ms"]).finish();
        path
    })
}

/// A report of the recording, as a file.
fn written(format: &str, name: &str) -> PathBuf {
    let out = capture().with_file_name(name);
    let mut arguments = vec!["report".into(), capture().as_os_str().to_owned(), "-o".into()];
    arguments.push(out.as_os_str().to_owned());
    arguments.extend(["--format".into(), format.into()]);
    let ended = alloctrace_says(arguments);
    assert_eq!(ended.code, Some(0), "{format}: {}", ended.errors);
    out
}

fn json() -> Value {
    serde_json::from_str(&Report::try_read(capture(), &[]).output).expect("JSON")
}

fn number(value: &Value, field: &str) -> i64 {
    value[field].as_i64().unwrap_or_else(|| panic!("{field} is a number in {value}"))
}

fn items(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// By name: (in the innermost frame, anywhere in the stack). Names without a share are left out.
type Shares = BTreeMap<String, (i64, i64)>;

/// Adds a stack, innermost first.
fn add(shares: &mut Shares, stack: impl IntoIterator<Item = String>, value: i64) {
    let mut seen = HashSet::new();
    for (depth, name) in stack.into_iter().enumerate() {
        let is_first = seen.insert(name.clone());
        let share = shares.entry(name).or_default();
        share.0 += if depth == 0 { value } else { 0 };
        share.1 += if is_first { value } else { 0 };
    }
}

/// From the JSON report; `stack` gives a site's names, innermost first.
fn expected(report: &Value, field: &str, stack: impl Fn(&Value) -> Vec<String>) -> Shares {
    let mut shares = Shares::new();
    for site in items(&report["sites"]) {
        add(&mut shares, stack(site), number(site, field));
    }
    shares.retain(|_, it| it.1 != 0);
    shares
}

/// The levels of a flame graph, without the process.
fn levels(site: &Value) -> Vec<String> {
    let mapping = (site["kind"] == "mmap").then(|| format!("[{}]", text(&site["via"])));
    let frames = items(&site["frames"]).iter().map(|it| match it["function"].as_str() {
        Some(function) => function.to_owned(),
        None => format!("{}+{:#x}", module(it), it["offset"].as_u64().expect("an offset")),
    });
    let end = (site["stack_complete"] == false).then(|| "[stack ends early]".to_owned());
    mapping.into_iter().chain(frames).chain(end).collect()
}

fn module(frame: &Value) -> &str {
    frame["module"].as_str().map_or("[anonymous]", |it| it.rsplit('/').next().unwrap_or(it))
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("{value} is a text"))
}

fn process_name(report: &Value, site: &Value) -> String {
    let process =
        items(&report["processes"]).iter().find(|it| it["pid"] == site["pid"]).expect("its process");
    text(&process["name"]).to_owned()
}

fn assert_same(what: &str, found: &Shares, expected: &Shares) {
    let names: HashSet<&String> = found.keys().chain(expected.keys()).collect();
    let differences: Vec<String> = names
        .into_iter()
        .filter(|it| found.get(*it) != expected.get(*it))
        .map(|it| format!("{it}: {:?}, in JSON {:?}", found.get(it), expected.get(it)))
        .collect();
    assert!(differences.is_empty(), "{what}: {} differences\n{}", differences.len(), differences.join("\n"));
    assert!(expected.len() > 20, "{what}: the recording has functions");
}

#[test]
fn go_tool_pprof() {
    let report = json();
    let _alone = alone();
    let file = written("pprof", "run.pb.gz");
    let go = needed("go", "golang-go");
    let pprof = |arguments: &[&str]| {
        let ended = run(Command::new(&go).args(["tool", "pprof"]).args(arguments).arg(&file));
        assert_eq!(ended.code, Some(0), "pprof {arguments:?}: {}", ended.errors);
        ended.output
    };
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

#[test]
fn dhat_viewer() {
    let report = json();
    let _alone = alone();
    let file = written("dhat", "run.dhat.json");
    let viewer = Path::new("/usr/libexec/valgrind/dh_view.js");
    assert!(viewer.is_file(), "{} is missing: it is in the package valgrind", viewer.display());
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/consumers/dh_view.cjs");
    let ended = run(Command::new(needed("node", "nodejs")).args([&page, viewer, &file]));
    assert_eq!(ended.code, Some(0), "dh_view: {}", ended.errors);
    let sums: Value = serde_json::from_str(&ended.output).expect("JSON");
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
        viewer.say(&["thread", "select", text(&thread["threadHandle"])]);
        let pid: i64 = text(&thread["pid"]).parse().expect("a number");
        let stack = |site: &Value| if number(site, "pid") == pid { levels(site) } else { Vec::new() };
        let expected = expected(&report, "live_bytes", stack);
        if expected.is_empty() {
            continue;
        }
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

/// The profiler's own code, behind a command that asks a process of its own.
struct FirefoxProfiler {
    home: PathBuf,
}

impl FirefoxProfiler {
    fn load(file: &Path) -> Self {
        let viewer = Self { home: scratch("firefox-home") };
        viewer.say(&["load", file.to_str().expect("its path is text")]);
        viewer
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(needed("node", "nodejs"));
        let program = tool("node_modules/@firefox-devtools/profiler-cli/dist/profiler-cli.js");
        command.arg(program).args(arguments).env("HOME", &self.home);
        command
    }

    fn say(&self, arguments: &[&str]) -> String {
        let ended = run(&mut self.command(arguments));
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
        // Its process would wait for ever.
        let _ = self.command(&["stop", "--all"]).output();
    }
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
