//! A client of HTTP that sends what it is told and reads to the end.

use std::{
    fmt,
    io::{self, Read, Write as _},
    net::TcpStream,
};

use crate::program::PATIENCE;

pub(super) struct Client {
    address: String,
}

pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) head: String,
    pub(super) body: Vec<u8>,
}

impl Answer {
    pub(super) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}\n\n{}", self.head, self.text())
    }
}

impl Client {
    pub(super) fn new(address: String) -> Self {
        Self { address }
    }

    /// Host and port.
    pub(super) fn address(&self) -> &str {
        &self.address
    }

    pub(super) fn ask(&self, method: &str, path: &str) -> Answer {
        self.ask_with(method, path, "")
    }

    /// With lines of the head.
    pub(super) fn ask_with(&self, method: &str, path: &str, lines: &str) -> Answer {
        let answer = self.send(method, path, "localhost", lines);
        answer.unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// By another name.
    pub(super) fn ask_as(&self, host: &str, path: &str) -> Answer {
        self.send("GET", path, host, "").unwrap_or_else(|error| panic!("{path}: {error}"))
    }

    pub(super) fn try_ask(&self, method: &str, path: &str) -> io::Result<Answer> {
        self.send(method, path, "localhost", "")
    }

    fn send(&self, method: &str, path: &str, host: &str, lines: &str) -> io::Result<Answer> {
        let mut stream = TcpStream::connect(&self.address)?;
        stream.set_read_timeout(Some(PATIENCE))?;
        let head = format!("{method} {path} HTTP/1.1\r\nhost: {host}\r\nconnection: close\r\n{lines}\r\n");
        stream.write_all(head.as_bytes())?;
        try_read_answer(&mut stream)
    }
}

pub(super) fn read_answer(stream: &mut impl Read) -> Answer {
    try_read_answer(stream).unwrap_or_else(|error| panic!("no answer: {error}"))
}

fn try_read_answer(stream: &mut impl Read) -> io::Result<Answer> {
    let mut all = Vec::new();
    stream.read_to_end(&mut all)?;
    let end = all.windows(4).position(|it| it == b"\r\n\r\n").ok_or(io::ErrorKind::UnexpectedEof)?;
    let body = all.split_off(end + 4);
    let head = String::from_utf8_lossy(&all).trim_end().to_owned();
    let status = head.split(' ').nth(1).and_then(|it| it.parse().ok()).ok_or(io::ErrorKind::InvalidData)?;
    Ok(Answer { status, head, body })
}

/// For a thousand connections.
pub(super) fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, maximum: limit.maximum })
        .expect("it may be raised");
}
