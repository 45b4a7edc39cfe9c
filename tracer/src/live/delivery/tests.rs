//! Ways out that work, fail, are slow or flooded.

use std::{
    io::{Read as _, Write as _},
    net::TcpListener,
    path::Path,
    sync::mpsc::channel,
};

use super::*;
use crate::watch::{Event, Evidence, Limit, Log, Secret, Severity, Subject, Webhook};

const SHORT: Duration = Duration::from_millis(300);

/// Longer than anything here takes.
const LONG: Duration = Duration::from_secs(60);

fn alert(label: &str) -> Alert {
    let subject = Subject::Process {
        pid: 7,
        name: "app".to_owned(),
        command: "app -x".to_owned(),
        cgroup: None,
        is_exact: true,
    };
    Alert {
        id: "id".to_owned(),
        host: "vm".to_owned(),
        time: "2026-11-21T10:00:00.000Z".to_owned(),
        t_s: 1.0,
        since_s: 1.0,
        event: Event::Raised,
        severity: Severity::Warning,
        budget: label.to_owned(),
        limit: Limit::Rss(100),
        allowed: 100.0,
        measured: 90.0,
        subject,
        limit_bytes: None,
        time_to_limit_s: None,
        evidence: Evidence::default(),
    }
}

fn sh(script: &str, directory: &Path) -> Vec<String> {
    ["/bin/sh", "-c", script, directory.to_str().unwrap()].map(str::to_owned).to_vec()
}

/// A directory of its own.
fn scratch(name: &str) -> std::path::PathBuf {
    let path = std::env::temp_dir().join(format!("alloctrace-delivery-{}-{name}", std::process::id()));
    std::fs::create_dir_all(&path).unwrap();
    path
}

#[test]
fn a_command_gets_all_of_it() {
    let directory = scratch("all");
    let script = "cat > $0/input; echo $ALLOCTRACE_ALERT_STATE $ALLOCTRACE_ALERT_PID > $0/environment";
    assert_eq!(command::run(&alert("x"), &sh(script, &directory), LONG), Ok(()));
    let read = |name: &str| std::fs::read_to_string(directory.join(name)).unwrap();
    assert_eq!(read("input"), format!("{}\n", alert("x").json()));
    assert_eq!(read("environment"), "warning 7\n");
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn a_command_that_fails_is_slow_or_missing_is_said() {
    let directory = scratch("fails");
    let run = |script: &str, limit| command::run(&alert("x"), &sh(script, &directory), limit).unwrap_err();
    assert_eq!(run("exit 3", LONG), "/bin/sh: exit status: 3");
    // What it has started ends too: else the file would be there.
    assert!(run("(sleep 1; touch $0/late) & sleep 60", SHORT).contains("longer than 300ms"));
    let missing = command::run(&alert("x"), &["/no/such/program".to_owned()], LONG).unwrap_err();
    assert!(missing.starts_with("/no/such/program: No such file"), "{missing}");
    thread::sleep(Duration::from_millis(1500));
    assert!(!directory.join("late").exists());
    std::fs::remove_dir_all(directory).unwrap();
}

/// A server that gives each connection in turn one of `answers`, and none to the others; (the port, requests).
fn serve(answers: &'static [&'static str]) -> (u16, Receiver<String>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = listener.local_addr().unwrap().port();
    let (requests, received) = channel();
    thread::spawn(move || {
        let mut open = Vec::new();
        let mut answers = answers.iter();
        for mut connection in listener.incoming().map_while(Result::ok) {
            let mut request = String::new();
            let mut part = [0; 1 << 16];
            while !request.ends_with('}') {
                let count = connection.read(&mut part).unwrap_or(0);
                request += &String::from_utf8_lossy(&part[..count]);
                if count == 0 {
                    break;
                }
            }
            // First, since whoever has the answer looks for it.
            let is_wanted = requests.send(request).is_ok();
            if let Some(answer) = answers.next() {
                let _ = connection.write_all(answer.as_bytes());
            } else {
                open.push(connection);
            }
            if !is_wanted {
                return;
            }
        }
    });
    (port, received)
}

fn post(port: u16, time_limit: Duration, leaving: &Leaving) -> Result<(), String> {
    let url = Secret::Plain(format!("http://127.0.0.1:{port}/hook?key=SECRET"));
    let headers = BTreeMap::from([("X-Team".to_owned(), Secret::Plain("storage".to_owned()))]);
    let webhook = Webhook { url, headers, authorities: None };
    webhook::post(&alert("x"), &webhook, time_limit, leaving)
}

const FINE: &str = "HTTP/1.1 204 No Content\r\nConnection: close\r\n\r\n";

#[test]
fn a_webhook_that_fails_is_tried_again() {
    let (port, requests) =
        serve(&["HTTP/1.1 500 Oops\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", FINE]);
    assert_eq!(post(port, LONG, &Leaving::default()), Ok(()));
    let requests: Vec<String> = requests.try_iter().collect();
    assert_eq!(requests.len(), 2);
    for request in requests {
        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        assert!(head.starts_with("POST /hook?key=SECRET HTTP/1.1\r\n"), "{head}");
        let head = head.to_lowercase();
        assert!(
            head.contains("content-type: application/json\r\n") && head.contains("x-team: storage"),
            "{head}"
        );
        assert_eq!(body, alert("x").json().to_string());
    }
}

#[test]
fn what_will_not_get_better_is_not_tried_again() {
    let (port, requests) =
        serve(&["HTTP/1.1 404 Nothing here\r\nContent-Length: 0\r\nConnection: close\r\n\r\n", FINE]);
    let why = post(port, LONG, &Leaving::default()).unwrap_err();
    assert_eq!(why, format!("127.0.0.1:{port}: it answers 404 Not Found"));
    assert_eq!(requests.try_iter().count(), 1);
    // Nor does a redirect lead an alert elsewhere.
    let (port, _requests) =
        serve(&["HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:1/\r\nContent-Length: 0\r\n\r\n"]);
    assert!(post(port, LONG, &Leaving::default()).unwrap_err().contains("it answers 302"));
}

#[test]
fn a_slow_webhook_is_given_up() {
    let (port, _requests) = serve(&[]);
    let leaving = Leaving::default();
    // No second try.
    leaving.ring();
    let why = post(port, SHORT, &leaving).unwrap_err();
    assert_eq!(why, format!("127.0.0.1:{port}: it takes longer than time-limit"));
}

#[test]
fn nobody_waits_for_a_flood_and_what_is_lost_is_counted() {
    let directory = scratch("flood");
    let log = Log::File(directory.join("alerts.jsonl"));
    let outlets =
        Outlets { log, command: sh("sleep 20", &directory), time_limit: LONG, ..Outlets::default() };
    let mut delivery = Delivery::new(outlets.clone());
    let count = QUEUE as u64 + 10;
    for _ in 0..count {
        // What takes these lines in is as fast as the disk; what runs the program is not.
        while delivery.shared.counts[&Way::Log].waiting.load(Ordering::Relaxed) > 10 {
            thread::yield_now();
        }
        delivery.tell(alert("x"));
    }
    let failures = delivery.failures();
    // One may have been taken out of the queue.
    assert!((9..=10).contains(&failures["command"]), "{failures:?}");
    assert_eq!((failures["log"], failures["webhook"]), (0, 0));
    let begun = Instant::now();
    delivery.leave(SHORT);
    assert!(begun.elapsed() < LONG);
    let lines = std::fs::read_to_string(directory.join("alerts.jsonl")).unwrap();
    assert_eq!(lines.lines().count() as u64, count);
    std::fs::remove_dir_all(directory).unwrap();
}

#[test]
fn another_configuration_holds_for_what_comes() {
    let directory = scratch("other");
    let to = |name: &str| Outlets { log: Log::File(directory.join(name)), ..Outlets::default() };
    let mut delivery = Delivery::new(to("a"));
    delivery.tell(alert("first"));
    while delivery.shared.counts[&Way::Log].waiting.load(Ordering::Relaxed) > 0 {
        thread::yield_now();
    }
    delivery.configure(to("no/such/directory"));
    delivery.tell(alert("second"));
    while delivery.failures()["log"] == 0 {
        thread::yield_now();
    }
    delivery.configure(to("b"));
    delivery.tell(alert("third"));
    delivery.leave(LONG);
    for (name, label) in [("a", "first"), ("b", "third")] {
        let text = std::fs::read_to_string(directory.join(name)).unwrap();
        assert!(text.lines().count() == 1 && text.contains(label), "{text}");
    }
    std::fs::remove_dir_all(directory).unwrap();
}
