//! The line that says how a recording goes: redrawn on a terminal, one now and then otherwise.

use std::{
    io::{IsTerminal as _, Write as _, stderr},
    time::Duration,
};

use tokio::time::Instant;

use crate::{
    cost::Cost,
    interval::Losses,
    report::{escape::printable, units, words},
};

pub(super) struct Progress {
    start: Instant,
    terminal: bool,
    last: Instant,
    last_events: u64,
}

impl Progress {
    pub(super) fn new(start: Instant) -> Self {
        Self {
            start,
            terminal: stderr().is_terminal() && std::env::var_os("TERM").is_none_or(|it| it != "dumb"),
            last: start,
            last_events: 0,
        }
    }

    pub(super) fn period(&self) -> Duration {
        // A log of a day should have hundreds of lines, not tens of thousands.
        Duration::from_secs(if self.terminal { 1 } else { 10 })
    }

    pub(super) fn draw(&mut self, live: Cost, events: u64, share: Option<f64>, losses: &Losses) {
        let now = Instant::now();
        let rate = (events - self.last_events) as f64 / (now - self.last).as_secs_f64().max(1e-3);
        (self.last, self.last_events) = (now, events);
        let lost: u64 = losses.iter().map(|(_, count)| count).sum();
        let slower = share.map_or_else(String::new, |it| format!("   tracing adds {}", words::share(it)));
        let line = format!(
            "{:>5.0} s   live {} in {} blocks   {} events/s   losses {lost}{slower}",
            (now - self.start).as_secs_f64(),
            units::bytes(live.bytes),
            units::count(live.blocks),
            units::count(rate as i64),
        );
        let mut out = stderr().lock();
        // Standard error may be closed; that must not end a recording.
        let _ = if self.terminal {
            write!(out, "\r\x1b[K{line}")
        } else {
            writeln!(out, "alloctrace: {}", line.trim_start())
        };
        let _ = out.flush();
    }

    /// Takes the line off the terminal.
    pub(super) fn clear(&self) {
        if self.terminal {
            let _ = write!(stderr().lock(), "\r\x1b[K");
        }
    }
}

/// Says something besides. Standard error may be closed; that must not end a recording. The line that says how it goes
/// makes room.
pub(super) fn say(text: &str) {
    let mut out = stderr().lock();
    if out.is_terminal() {
        let _ = write!(out, "\r\x1b[K");
    }
    for (at, line) in text.lines().enumerate() {
        let _ = writeln!(out, "{}{}", if at == 0 { "alloctrace: " } else { "  " }, printable(line));
    }
}
