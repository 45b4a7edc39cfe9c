//! `watch` with budgets: who breaks one is told of, everywhere and once.

use std::{
    fs,
    io::{BufRead as _, BufReader, Read as _, Write as _},
    net::{TcpListener, TcpStream},
    path::Path,
    process::Command,
    sync::mpsc::{Receiver, channel},
    thread,
};

use serde_json::Value;

use crate::{
    program::{PATIENCE, Program, Signal, scratch, within},
    tracer::{alloctrace, alloctrace_says, alone},
    workload::build,
};

/// A server that answers POSTs with these statuses in turn, the last one for ever; what it gets.
fn serve(statuses: &'static [u16]) -> (u16, Receiver<(u16, Value)>) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = listener.local_addr().expect("an address").port();
    let (bodies, received) = channel();
    thread::spawn(move || {
        let mut statuses = statuses.iter();
        let mut status = 0;
        for connection in listener.incoming() {
            let mut connection = BufReader::new(connection.expect("a connection"));
            let mut length = 0;
            loop {
                let mut line = String::new();
                connection.read_line(&mut line).expect("a line");
                if let Some(value) = line.to_lowercase().strip_prefix("content-length:") {
                    length = value.trim().parse().expect("a length");
                }
                if line.trim().is_empty() {
                    break;
                }
            }
            let mut body = vec![0; length];
            connection.read_exact(&mut body).expect("a body");
            status = statuses.next().copied().unwrap_or(status);
            let answer = format!("HTTP/1.1 {status} Said\r\nContent-Length: 0\r\nConnection: close\r\n\r\n");
            connection.get_mut().write_all(answer.as_bytes()).expect("an answer");
            if bodies.send((status, serde_json::from_slice(&body).expect("JSON"))).is_err() {
                return;
            }
        }
    });
    (port, received)
}

/// What Prometheus would be told.
fn metrics(address: &str) -> String {
    let mut connection = TcpStream::connect(address).expect("it listens");
    let question = format!("GET /metrics HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    connection.write_all(question.as_bytes()).expect("it takes questions");
    let mut answer = String::new();
    connection.read_to_string(&mut answer).expect("an answer");
    answer
}

/// What is in the log, in order, of one budget.
fn log(path: &Path, budget: &str) -> Vec<Value> {
    let text = fs::read_to_string(path).unwrap_or_default();
    // The last line may be being written.
    let lines = text.split_inclusive('\n').filter(|it| it.ends_with('\n'));
    let alerts = lines.map(|it| serde_json::from_str::<Value>(it).expect("JSON"));
    alerts.filter(|it| it["budget"] == budget).collect()
}

fn wait_for(path: &Path, budget: &str, count: usize) -> Vec<Value> {
    let enough = || Some(log(path, budget)).filter(|it| it.len() >= count);
    within(PATIENCE, enough).unwrap_or_else(|| panic!("{count} of {budget}: {:?}", log(path, "all")))
}

fn states(alerts: &[Value]) -> Vec<&str> {
    alerts.iter().filter_map(|it| it["state"].as_str()).collect()
}

#[test]
fn who_leaks_is_told_of_once_and_who_does_not_never() {
    let _alone = alone();
    let program = build("growth/sessions.c");
    let start = |kind: &str| {
        let mut program = Program::start(Command::new(&program).arg(kind));
        program.wait_for("ready");
        program
    };
    let (quiet, leak) = (start("quiet"), start("leak"));
    let directory = scratch("alerts");
    let (port, posted) = serve(&[500, 200]);
    let (config, alerts) = (directory.join("watch.toml"), directory.join("alerts.jsonl"));
    fs::write(directory.join("token"), "letmein\n").expect("a token");
    let outlets = format!(
        "[alerts]\nlog = {alerts:?}\ncommand = ['/bin/sh', '-c', 'cat >> $0/told.jsonl; env >> $0/env; cat /proc/self/oom_score_adj > $0/score', {directory:?}]\n\
         webhook = 'http://127.0.0.1:{port}/hook'\nheaders = {{ Authorization = {{ file = {:?} }} }}\n",
        directory.join("token")
    );
    let budgets = "[[budget]]\nlabel = 'growth'\nname = 'sessions'\nmax-growth = '12MiB/min'\nover = '3s'\n\
         [[budget]]\nlabel = 'size'\ncommand = '*sessions*'\nmax-rss = '40MiB'\n";
    fs::write(&config, format!("{budgets}{outlets}")).expect("a configuration");
    let mut watch = alloctrace(["watch", "-i", "200ms", "--listen", "127.0.0.1:0", "--config"]);
    watch.arg(&config).arg("--state-dir").arg(directory.join("state"));
    for program in [&quiet, &leak] {
        watch.args(["-p", &program.pid().to_string()]);
    }
    let mut watch = Program::start(&mut watch);
    let place = watch.wait_for_error("alloctrace: answers at ");
    let address = place.rsplit_once("http://").expect("an address").1.to_owned();
    watch.wait_for_error("alloctrace: ready");

    let size = wait_for(&alerts, "size", 2);
    let growth = wait_for(&alerts, "growth", 1);
    assert_eq!(states(&size), ["warning", "error"]);
    assert_eq!(states(&growth), ["error"]);
    for alert in size.iter().chain(&growth) {
        assert_eq!(alert["schema"], "alloctrace.alert/1");
        assert_eq!(alert["subject"]["pid"], leak.pid(), "{alert}");
        assert!(alert["measured"].as_f64() >= alert["allowed"].as_f64().map(|it| 0.8 * it), "{alert}");
        let first = alert["stacks"][0]["functions"].to_string();
        assert!(first.contains("leak_session"), "{alert}");
    }
    assert_eq!(growth[0]["stacks"][0]["sampled"], growth[0]["stacks"][0]["kind"] == "resident");

    // Another budget, which nobody keeps.
    fs::write(&config, format!("[[budget]]\nlabel = 'other'\nmax-rss = '64KiB'\n{outlets}"))
        .expect("it again");
    watch.signal(Signal::HUP);
    watch.wait_for_error("alloctrace: the configuration has been read again");
    let other = wait_for(&alerts, "other", 2);
    assert_eq!(states(&other), ["error", "error"]);
    let firing = "alloctrace_alerts_firing{budget=\"other\",severity=\"error\"} 2";
    within(PATIENCE, || Some(metrics(&address)).filter(|it| it.contains(firing))).expect("both fire");
    assert!(metrics(&address).contains("alloctrace_alert_failures_total{way=\"webhook\"} 0"));
    for budget in ["size", "growth"] {
        let told = wait_for(&alerts, budget, 1);
        let last = told.last().expect("it is there");
        assert_eq!((&last["state"], &last["reason"]), (&"resolved".into(), &"withdrawn".into()), "{last}");
    }

    // What is wrong is said, and what held holds.
    fs::write(&config, "[[budget]]\nmax-rs = 1").expect("it again");
    watch.signal(Signal::HUP);
    watch.wait_for_error("alloctrace: the old configuration goes on to hold: ");
    let pid = leak.pid();
    drop(leak);
    let other = wait_for(&alerts, "other", 3);
    assert_eq!(states(&other), ["error", "error", "resolved"]);
    assert_eq!((&other[2]["subject"]["pid"], &other[2]["reason"]), (&pid.into(), &"ended".into()));
    assert_eq!(other[2]["ended"], "killed by signal 9");

    watch.signal(Signal::TERM);
    let ended = watch.wait();
    assert_eq!(ended.code, Some(0), "{ended:?}");
    assert!(!ended.errors.contains("could not be told"), "{}", ended.errors);
    let all: Vec<Value> = lines(&alerts);
    assert_eq!(all.len(), 8, "{all:?}");
    assert_eq!(lines(&directory.join("told.jsonl")), all);
    let posted: Vec<(u16, Value)> = posted.try_iter().collect();
    assert_eq!((posted[0].0, &posted[0].1), (500, &all[0]));
    let taken: Vec<&Value> = posted.iter().filter(|it| it.0 == 200).map(|it| &it.1).collect();
    assert_eq!(taken, all.iter().collect::<Vec<_>>());
    // It may be killed rather than us, as anybody.
    let score = |path: &Path| fs::read_to_string(path).expect("a score").trim().to_owned();
    assert_eq!(score(&directory.join("score")), score(Path::new("/proc/self/oom_score_adj")));
    let environment = fs::read_to_string(directory.join("env")).expect("the environment");
    for line in [
        "ALLOCTRACE_ALERT_STATE=error",
        &format!("ALLOCTRACE_ALERT_PID={pid}"),
        "ALLOCTRACE_ALERT_NAME=sessions",
    ] {
        assert!(environment.lines().any(|it| it == line), "{line}: {environment}");
    }
}

fn lines(path: &Path) -> Vec<Value> {
    let text = fs::read_to_string(path).expect("it is there");
    text.lines().map(|it| serde_json::from_str(it).expect("JSON")).collect()
}

#[test]
fn a_configuration_that_is_wrong_is_refused_with_its_line() {
    let config = scratch("alerts-wrong").join("watch.toml");
    for (text, expected) in [
        ("[[budget]]\nname = 'x'", "a budget allows something"),
        ("[[budget]]\nmax-rss = 'lots'", "lots"),
        ("[alerts]\nwebhook = 'mailto:me'", "webhook begins with https:// or http://"),
        ("[alert]", "alert"),
    ] {
        fs::write(&config, text).expect("a configuration");
        let ended = alloctrace_says(["watch", "--config", config.to_str().expect("UTF-8")]);
        assert_eq!(ended.code, Some(2), "{ended:?}");
        assert!(ended.errors.contains(expected) && ended.errors.contains("line "), "{ended:?}");
    }
}
