//! The server as a client meets it, with somebody behind it who always knows the same.

use std::{
    io::{self, Read as _, Write as _},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use tokio::sync::oneshot;

use super::{Facts, Incident, Limits, Listener, Own, Question, Source, answer, serve};
use crate::{capture::Recording, profile::sample_recording, watch::Watched};

/// Knows a recording, and counts what it is asked.
struct Oracle {
    watched: Watched,
    asked: AtomicUsize,
    is_busy: bool,
}

impl Source for Oracle {
    fn put(&self, question: Question) -> bool {
        self.asked.fetch_add(1, Ordering::Relaxed);
        if !self.is_busy {
            answer(question, &Facts::new(&self.watched));
        }
        !self.is_busy
    }

    fn own(&self) -> Own {
        Own::default()
    }

    fn incidents(&self) -> io::Result<Vec<Incident>> {
        let name = "incident.web.7.jsonl.zst".to_owned();
        Ok(vec![Incident { name, ..Incident::default() }])
    }

    fn incident(&self, _: &str) -> io::Result<Recording> {
        Ok(sample_recording())
    }
}

struct Running {
    address: SocketAddr,
    oracle: Arc<Oracle>,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<thread::JoinHandle<()>>,
}

impl Running {
    fn start(is_busy: bool) -> Self {
        let watched = Watched { recording: sample_recording(), ..Watched::default() };
        let oracle = Arc::new(Oracle { watched, asked: AtomicUsize::new(0), is_busy });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let address = listener.local_addr().unwrap();
        let listener = Listener::Tcp { listener, address, host: "127.0.0.1".to_owned() };
        let (stop, stopped) = oneshot::channel();
        let source = Arc::clone(&oracle);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(&listener, source, Limits::default(), stopped)).unwrap();
        });
        Self { address, oracle, stop: Some(stop), thread: Some(thread) }
    }

    /// Sends it and reads to the end of the connection.
    fn say(&self, request: &str) -> String {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).unwrap();
        String::from_utf8_lossy(&answer).into_owned()
    }

    fn ask(&self, method: &str, address: &str) -> String {
        self.say(&format!("{method} {address} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n"))
    }

    fn asked(&self) -> usize {
        self.oracle.asked.load(Ordering::Relaxed)
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            thread.join().unwrap();
        }
    }
}

/// (status, head, body)
fn parts(answer: &str) -> (u16, &str, &str) {
    let (head, body) = answer.split_once("\r\n\r\n").unwrap_or_else(|| panic!("no answer: {answer:?}"));
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok());
    (status.unwrap_or_else(|| panic!("no status: {head}")), head, body)
}

#[test]
fn every_page_is_there() {
    let server = Running::start(false);
    let pid = server.oracle.watched.processes().next().unwrap().row.pid;
    for address in [
        "/",
        "/robots.txt",
        "/metrics",
        "/health",
        "/alive",
        "/debug/pprof/",
        "/debug/pprof/heap",
        "/debug/pprof/allocs",
        &format!("/debug/pprof/heap?pid={pid}&kind=mmap"),
        "/processes",
        "/processes?format=text",
        &format!("/processes/{pid}"),
        &format!("/processes/{pid}?format=json"),
        "/incidents",
        "/incidents/incident.web.7.jsonl.zst",
        "/incidents/incident.web.7.jsonl.zst?format=folded",
    ] {
        let answer = server.ask("GET", address);
        let (status, head, body) = parts(&answer);
        assert_eq!(status, 200, "{address}: {answer}");
        assert!(!body.is_empty(), "{address}");
        for line in ["cache-control: no-store", "x-content-type-options: nosniff"] {
            assert!(head.contains(line), "{address}: {head}");
        }
        let answer = server.ask("HEAD", address);
        let (status, only_head, body) = parts(&answer);
        assert_eq!((status, body), (200, ""), "{address}");
        let length = |it: &str| it.lines().find(|it| it.starts_with("content-length: ")).map(str::to_owned);
        // The times in it have moved on.
        if !address.starts_with("/debug") && !address.contains("health") {
            assert_eq!(length(only_head), length(head), "{address}");
        }
    }
}

#[test]
fn what_cannot_be_answered_is_said() {
    let server = Running::start(false);
    let check = |request: &str, expected: u16| {
        let answer = server.say(request);
        assert_eq!(parts(&answer).0, expected, "{request:?}: {answer}");
    };
    for (address, expected) in [
        ("/nothing", 404),
        ("/processes/4294967295", 404),
        ("/debug/pprof/heap?pid=4294967295", 404),
        ("/debug/pprof/heap?pid=4294967295&seconds=1", 404),
        ("/debug/pprof/heap?pid=x", 400),
        ("/incidents/..%2f..%2fetc%2fpasswd", 404),
        ("/incidents/incident.other.jsonl.zst", 404),
    ] {
        let answer = server.ask("GET", address);
        assert_eq!(parts(&answer).0, expected, "{address}: {answer}");
    }
    for method in ["POST", "PUT", "DELETE", "OPTIONS", "CONNECT", "X"] {
        let answer = server.ask(method, if method == "CONNECT" { "localhost:1" } else { "/metrics" });
        assert_eq!(parts(&answer).0, 405, "{method}: {answer}");
        assert!(answer.contains("allow: GET, HEAD"), "{answer}");
    }
    let close = "connection: close\r\n\r\n";
    check(&format!("GET / HTTP/1.1\r\nhost: evil.example\r\n{close}"), 403);
    check(&format!("GET http://evil.example/ HTTP/1.1\r\nhost: localhost\r\n{close}"), 403);
    check(&format!("GET / HTTP/1.1\r\nhost: localhost\r\nhost: localhost\r\n{close}"), 400);
    check(&format!("GET / HTTP/1.1\r\n{close}"), 400);
    check("GET / HTTP/1.0\r\n\r\n", 200);
    check("nonsense\r\n\r\n", 400);
    let long = "x".repeat(20 << 10);
    check(&format!("GET / HTTP/1.1\r\nhost: localhost\r\nx: {long}\r\n\r\n"), 431);
    let many = "x: y\r\n".repeat(100);
    check(&format!("GET / HTTP/1.1\r\nhost: localhost\r\n{many}\r\n"), 431);
}

#[test]
fn many_questions_are_one() {
    let server = Running::start(false);
    let mut stream = TcpStream::connect(server.address).unwrap();
    let mut seen = Vec::new();
    let mut part = [0; 1 << 16];
    for _ in 0..200 {
        stream.write_all(b"GET /metrics HTTP/1.1\r\nhost: localhost\r\n\r\n").unwrap();
        let before = seen.len();
        while !seen[before..].ends_with(b"build_info{version=\"\"} 1.0\n") {
            let count = stream.read(&mut part).unwrap();
            assert_ne!(count, 0, "it has been closed");
            seen.extend_from_slice(&part[..count]);
        }
    }
    // One a second, on a machine that may be slow.
    assert!(server.asked() < 100, "{} questions were passed on", server.asked());
}

#[test]
fn who_is_busy_is_asked_later() {
    let server = Running::start(true);
    let answer = server.ask("GET", "/health");
    let (status, _, body) = parts(&answer);
    assert_eq!(status, 503);
    assert!(body.contains("\"degraded\"") && body.contains("does not answer"), "{body}");
    for address in ["/metrics", "/processes", "/debug/pprof/heap", "/processes/1", "/alive"] {
        let answer = server.ask("GET", address);
        let (status, head, _) = parts(&answer);
        assert_eq!(status, 503, "{address}: {answer}");
        assert!(head.contains("retry-after: 1"), "{address}: {head}");
    }
}

#[test]
fn who_comes_late_displaces_who_is_idle() {
    let server = Running::start(false);
    let idle: Vec<TcpStream> = (0..600).map(|_| TcpStream::connect(server.address).unwrap()).collect();
    for _ in 0..20 {
        assert_eq!(parts(&server.ask("GET", "/metrics")).0, 200);
    }
    let ended = idle.iter().filter(|it| {
        it.set_nonblocking(true).unwrap();
        (&**it).read(&mut [0]).is_ok_and(|count| count == 0)
    });
    // Of 256 that may stay, twenty have made room for the questions.
    assert!(ended.count() >= 600 - 256, "the first have been sent away");
}
