//! What `alloctrace watch` answers over HTTP: each page about a program whose books are known, to bad questions, and to more of
//! them than anybody should ask.

mod client;

use std::{
    fs,
    io::Write as _,
    net::TcpStream,
    os::unix::{fs::PermissionsExt as _, net::UnixStream},
    path::Path,
    process::Command,
    thread,
};

use serde_json::Value;

use self::client::{Answer, Client, read_answer};
use crate::{
    program::{Ended, PATIENCE, Program, Signal, needed, run, scratch, within},
    report::Report,
    tracer::{alloctrace, alone},
    workload::build,
};

/// A watch that is kept, and where it answers.
struct Watch {
    program: Program,
    client: Client,
}

impl Watch {
    /// At a port of its own.
    fn keep(pid: u32, state_dir: &Path, options: &[&str]) -> Self {
        let mut command = alloctrace(["watch", "--listen", "127.0.0.1:0", "-i", "200ms"]);
        command.args(["-p", &pid.to_string()]).args(options).arg("--state-dir").arg(state_dir);
        let mut program = Program::start(&mut command);
        let place = program.wait_for_error("alloctrace: answers at ");
        program.wait_for_error("alloctrace: ready");
        let address = place.rsplit_once("http://").expect("an address").1.to_owned();
        Self { program, client: Client::new(address) }
    }

    fn get(&self, path: &str) -> Answer {
        let answer = self.client.ask("GET", path);
        assert_eq!(answer.status, 200, "{path}: {answer}");
        answer
    }

    fn json(&self, path: &str) -> Value {
        serde_json::from_slice(&self.get(path).body).expect("JSON")
    }

    /// Waits until an answer has something.
    fn wait_for<T>(&self, path: &str, look: impl Fn(&Answer) -> Option<T>) -> T {
        let found = within(PATIENCE, || look(&self.get(path)));
        found.unwrap_or_else(|| panic!("{path} never had it: {}", self.get(path)))
    }

    fn end(self) -> Ended {
        self.program.signal(Signal::INT);
        let ended = self.program.wait();
        assert_eq!(ended.code, Some(0), "{ended:?}");
        ended
    }
}

/// Takes blocks of 32 bytes as it is told, in a function called `take`.
struct Hoard(Program);

impl Hoard {
    fn start() -> Self {
        let mut program = Program::start(&mut Command::new(build("hoard.c")));
        program.wait_for("waiting");
        Self(program)
    }

    fn take(&mut self, blocks: i64) {
        self.0.say(&blocks.to_string());
        self.0.wait_for("done");
    }

    fn end(mut self) {
        assert!(self.0.is_running(), "the target outlives the watch");
        self.0.close_input();
        assert_eq!(self.0.wait().code, Some(0));
    }
}

/// The live bytes of the blocks that `take` took.
fn taken_bytes(report: &Report) -> i64 {
    let is_taken = |it: &&crate::report::Site| {
        it.via == "malloc" && it.frames.first().is_some_and(|it| it.function.as_deref() == Some("take"))
    };
    report.sites.iter().filter(is_taken).map(|it| it.live_bytes).sum()
}

/// Live bytes by function, as `go tool pprof` reads them from there.
fn go_pprof(url: &str, name: &str) -> String {
    let mut go = Command::new(needed("go", "golang-go"));
    go.args(["tool", "pprof", "-top", "-unit=B", url]).env("PPROF_TMPDIR", scratch(name));
    let ended = run(&mut go);
    assert_eq!(ended.code, Some(0), "{}", ended.errors);
    ended.output
}

#[test]
fn pages_about_a_program_that_is_traced_exactly() {
    const FIRST: i64 = 10_000;
    const THEN: i64 = 5000;
    let mut hoard = Hoard::start();
    let pid = hoard.0.pid();
    let _alone = alone();
    let watch = Watch::keep(pid, &scratch("http-pages"), &["--tier", "exact"]);
    hoard.take(FIRST);
    let held = format!("}} {}.0", FIRST * 32);
    let line = watch.wait_for("/metrics", |it| {
        let text = it.text();
        let mut sites = text.lines().filter(|it| it.starts_with("alloctrace_site_live_bytes{"));
        sites.find(|it| it.ends_with(&held)).map(str::to_owned)
    });
    for label in [&format!("pid=\"{pid}\""), "name=\"hoard\"", "function=\"take\"", "via=\"malloc\""] {
        assert!(line.contains(label), "{label} is not in {line}");
    }
    let metrics = watch.client.ask_with("GET", "/metrics", "accept: application/openmetrics-text\r\n");
    assert!(metrics.head.contains("content-type: application/openmetrics-text; version=1.0.0"), "{metrics}");
    let text = metrics.text();
    assert!(text.ends_with("# EOF\n"), "{text}");
    let exact = format!("alloctrace_process_exact{{pid=\"{pid}\",name=\"hoard\"}} 1.0");
    assert!(text.lines().any(|it| it == exact), "{exact} is not in\n{text}");

    let health = watch.json("/health");
    assert_eq!((&health["status"], &health["losses"]), (&"ok".into(), &serde_json::json!({})), "{health}");
    assert!(health["events"].as_i64().is_some_and(|it| it > FIRST), "{health}");
    let processes = watch.json("/processes");
    assert_eq!(processes["processes"][0]["pid"], pid);
    assert_eq!(processes["processes"][0]["tier"], "exact");
    let report: Report =
        serde_json::from_slice(&watch.get(&format!("/processes/{pid}?format=json")).body).expect("a report");
    assert_eq!(taken_bytes(&report), FIRST * 32);
    let page = watch.get(&format!("/processes/{pid}"));
    assert!(page.text().contains("Content-Security-Policy"), "the page's own policy");

    // What is allocated from the request on.
    let url = format!("http://{}/debug/pprof/heap?pid={pid}&seconds=2", watch.client.address());
    let top = thread::scope(|scope| {
        let top = scope.spawn(|| go_pprof(&url, "http-window"));
        // It has asked when it is waited for, and the others need not wait.
        thread::sleep(std::time::Duration::from_millis(800));
        hoard.take(THEN);
        watch.get("/metrics");
        top.join().expect("it asks")
    });
    let row = |top: &str| top.lines().find(|it| it.ends_with(" take")).map(str::trim).map(str::to_owned);
    let window = row(&top).unwrap_or_else(|| panic!("take is not in\n{top}"));
    // With the table of what it has, which moved.
    let bytes: i64 = window.split('B').next().and_then(|it| it.parse().ok()).expect("bytes");
    let table = (FIRST + THEN) * 8;
    assert!([THEN * 32, THEN * 32 + table].contains(&bytes), "{bytes} bytes in the window:\n{top}");
    let url = format!("http://{}/debug/pprof/heap", watch.client.address());
    let top = go_pprof(&url, "http-heap");
    let all = format!("{}B", (FIRST + THEN) * 32 + table);
    assert!(row(&top).is_some_and(|it| it.starts_with(&all)), "{all} of take in\n{top}");
    assert!(top.contains("Type: inuse_space"), "{top}");
    let top = go_pprof(&url.replace("heap", "allocs"), "http-allocs");
    assert!(top.contains("Type: alloc_space"), "{top}");

    let ended = watch.end();
    assert!(!ended.errors.contains("panicked"), "{ended:?}");
    hoard.end();
}

#[test]
fn pages_about_a_program_whose_growth_is_sampled() {
    /// 96 MB with malloc's headers, and twice that in a table that moves.
    const BLOCKS: i64 = 2_000_000;
    let mut hoard = Hoard::start();
    let pid = hoard.0.pid();
    let _alone = alone();
    let watch = Watch::keep(pid, &scratch("http-sampled"), &["--tier", "growth"]);
    hoard.take(BLOCKS);
    let find = |it: &Answer| {
        let text = it.text();
        let mut sites = text.lines().filter(|it| it.starts_with("alloctrace_site_live_bytes{"));
        sites.find(|it| it.contains("function=\"take\",via=\"page fault\"")).map(str::to_owned)
    };
    watch.wait_for("/metrics", find);
    let top = go_pprof(&format!("http://{}/debug/pprof/heap", watch.client.address()), "http-growth");
    assert!(top.lines().any(|it| it.ends_with(" take")), "{top}");
    let sampled = watch.get("/debug/pprof/heap?kind=resident");
    let none = watch.get("/debug/pprof/heap?kind=heap");
    assert!(sampled.body.len() > none.body.len(), "there are only samples");
    let text = watch.get(&format!("/processes/{pid}?format=text")).text();
    assert!(text.contains("take"), "{text}");
    assert_eq!(watch.json("/processes")["processes"][0]["tier"], "growth");
    watch.end();
    hoard.end();
}

#[test]
fn questions_that_are_none() {
    let hoard = Hoard::start();
    let pid = hoard.0.pid();
    let directory = scratch("http-questions");
    let _alone = alone();
    let mut victim = Hoard::start();
    let options = ["--tier", "exact", "-p", &victim.0.pid().to_string()];
    let watch = Watch::keep(pid, &directory, &options);
    fs::write(directory.join("secret"), "secret").expect("write a file");

    const HELD: i64 = 1000;
    victim.take(HELD);
    let held = format!("}} {}.0", HELD * 32);
    watch.wait_for("/metrics", |it| it.text().contains(&held).then_some(()));
    assert_eq!(watch.json("/incidents")["incidents"], serde_json::json!([]));
    victim.0.signal(Signal::KILL);
    victim.0.wait();
    let incident = watch.wait_for("/incidents", |it| {
        let listed: Value = serde_json::from_slice(&it.body).expect("JSON");
        listed["incidents"].get(0).cloned()
    });
    assert_eq!(
        (&incident["kind"], &incident["victim"]["function"]),
        (&"killed".into(), &"take".into()),
        "{incident}"
    );
    let path = incident["path"].as_str().expect("a path");
    assert!(watch.get(path).text().starts_with("<!doctype html>"));
    let report: Report =
        serde_json::from_slice(&watch.get(&format!("{path}?format=json")).body).expect("a report");
    assert_eq!(taken_bytes(&report), HELD * 32);
    let listed = watch.get("/incidents?format=text").text();
    assert!(listed.contains("killed") && listed.contains("take"), "{listed}");
    let counted = "alloctrace_incidents_total{kind=\"killed\"} 1.0";
    watch.wait_for("/metrics", |it| it.text().contains(counted).then_some(()));
    for (path, status) in [
        ("/incidents/secret", 404),
        ("/incidents/..%2Fsecret", 404),
        (&format!("{path}%00"), 404),
        ("/nothing", 404),
        ("/debug/pprof/heap?pid=1", 404),
        ("/debug/pprof/heap?seconds=100000", 400),
        ("/processes?format=yaml", 400),
    ] {
        let answer = watch.client.ask("GET", path);
        assert_eq!(answer.status, status, "{path}: {answer}");
        assert!(!answer.text().contains("secret"), "{answer}");
    }
    assert_eq!(watch.client.ask("POST", "/metrics").status, 405);
    let head = watch.client.ask("HEAD", "/metrics");
    assert_eq!((head.status, head.body.len()), (200, 0));
    assert_eq!(watch.client.ask_as("evil.example", "/metrics").status, 403);

    // Somebody else is there.
    let mut taken = alloctrace(["watch", "--listen", watch.client.address(), "-p", &pid.to_string()]);
    let taken = run(taken.arg("--state-dir").arg(scratch("http-taken")));
    assert_eq!(taken.code, Some(1), "{taken:?}");
    assert!(taken.errors.contains("--listen takes another place"), "{taken:?}");
    // Somebody is slow.
    let mut slow = TcpStream::connect(watch.client.address()).expect("connect");
    slow.write_all(b"GET /metrics HT").expect("write");
    watch.get("/metrics");
    slow.write_all(b"TP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").expect("write");
    assert_eq!(read_answer(&mut slow).status, 200);
    watch.end();
    hoard.end();
}

#[test]
fn a_socket_in_a_file() {
    let hoard = Hoard::start();
    let directory = scratch("http-socket");
    let path = directory.join("watch.sock");
    let listen = format!("unix:{}", path.display());
    let _alone = alone();
    let keep = || {
        let pid = hoard.0.pid().to_string();
        let mut command = alloctrace(["watch", "--listen", &listen, "-p", &pid]);
        let mut program = Program::start(command.arg("--state-dir").arg(directory.join("state")));
        program.wait_for_error("alloctrace: ready");
        program
    };
    let ask = || {
        let mut stream = UnixStream::connect(&path).expect("connect");
        stream.write_all(b"GET /alive HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").expect("write");
        read_answer(&mut stream).status
    };
    let killed = keep();
    assert_eq!(ask(), 200);
    let mode = fs::metadata(&path).expect("the file").permissions().mode();
    assert_eq!(mode & 0o777, 0o660, "its owner and its group may ask");
    killed.signal(Signal::KILL);
    killed.wait();
    assert!(path.exists(), "nobody has tidied up");
    let ended = keep();
    assert_eq!(ask(), 200);
    ended.signal(Signal::INT);
    assert_eq!(ended.wait().code, Some(0));
    assert!(!Path::new(&path).exists(), "it has gone with the watch");
    hoard.end();
}

/// A thousand connections that say nothing, and ten thousand questions, while two hundred threads allocate.
#[test]
fn a_flood_does_no_harm_to_the_tracing() {
    const SOCKETS: usize = 1000;
    const ASKING: usize = 8;
    const QUESTIONS: usize = 10_000 / ASKING;
    client::raise_file_limit();
    let mut churn = Program::start(&mut Command::new(build("churn.c")));
    churn.wait_for("waiting");
    let pid = churn.pid();
    let mut rounds = || {
        churn.say("rounds?");
        churn.next_line().parse::<u64>().expect("a number")
    };
    let _alone = alone();
    let watch = Watch::keep(pid, &scratch("http-flood"), &["--tier", "exact"]);
    let events = |watch: &Watch| watch.json("/health")["events"].as_u64().expect("a number");
    let (events_before, rounds_before) = (events(&watch), rounds());
    let idle: Vec<TcpStream> =
        (0..SOCKETS).map(|_| TcpStream::connect(watch.client.address()).expect("connect")).collect();
    thread::scope(|scope| {
        for asking in 0..ASKING {
            let client = &watch.client;
            scope.spawn(move || {
                let paths = ["/metrics", "/health", "/processes", "/nothing", "/debug/pprof/heap"];
                for at in 0..QUESTIONS {
                    let path = paths[(at + asking) % if at % 100 == 0 { 5 } else { 4 }];
                    let answer = client.try_ask("GET", path);
                    // Who comes when there is too much to do is told so, or gets no connection.
                    let status = answer.map_or(503, |it| it.status);
                    assert!([200, 404, 503].contains(&status), "{path}: {status}");
                }
            });
        }
    });
    drop(idle);
    let health = watch.wait_for("/health", |it| {
        let health: Value = serde_json::from_slice(&it.body).expect("JSON");
        (health["events"].as_u64()? > events_before).then_some(health)
    });
    assert_eq!(health["status"], "ok", "{health}");
    for loss in ["lost_events", "lost_stacks"] {
        assert_eq!(health["losses"].get(loss), None, "{health}");
    }
    assert!(rounds() > rounds_before, "the program went on");
    watch.end();
}
