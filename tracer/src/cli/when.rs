//! Points in time of a recording, as they are typed.

use std::{str::FromStr, time::Duration};

use jiff::Timestamp;

use super::settings;
use crate::{capture::Recording, report::units};

/// What is accepted, for the help.
pub(super) const FORMS: &str = "90s or 5m since tracing began, -30s before its end, start, end, mark:1 (the first mark), 2026-01-31T10:05:00Z";

/// A point in time that only the recording can place.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum When {
    Start,
    End,
    SinceStart(Duration),
    BeforeEnd(Duration),
    /// By number, from 1 on, or by label.
    Mark(String),
    Clock(Timestamp),
}

impl FromStr for When {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "start" => return Ok(Self::Start),
            "end" => return Ok(Self::End),
            // A duration is more than nothing; a time may be.
            _ if text.trim_end_matches('s').parse() == Ok(0.0) => return Ok(Self::Start),
            _ => {}
        }
        if let Some(mark) = text.strip_prefix("mark:") {
            return Ok(Self::Mark(mark.to_owned()));
        }
        if let Ok(time) = text.parse::<Timestamp>() {
            return Ok(Self::Clock(time));
        }
        let parsed = match text.strip_prefix('-') {
            Some(before) => settings::duration(before).map(Self::BeforeEnd),
            None => settings::duration(text).map(Self::SinceStart),
        };
        parsed.map_err(|_| format!("is no point in time; write for example {FORMS}"))
    }
}

impl When {
    /// Seconds since tracing began.
    ///
    /// # Errors
    /// If the recording has no such point; in words.
    pub(super) fn seconds(&self, recording: &Recording) -> Result<f64, String> {
        let end_s = recording.end_s();
        match self {
            Self::Start => Ok(0.0),
            Self::End => Ok(end_s),
            Self::SinceStart(after) => Ok(after.as_secs_f64()),
            Self::BeforeEnd(before) => Ok((end_s - before.as_secs_f64()).max(0.0)),
            Self::Mark(name) => mark(name, recording),
            Self::Clock(time) => {
                let started = recording.header.started.parse::<Timestamp>().map_err(|_| {
                    format!("the recording does not say when it was started ({:?})", recording.header.started)
                })?;
                let after_s = time.duration_since(started).as_secs_f64();
                if after_s >= 0.0 && after_s <= end_s.ceil() {
                    Ok(after_s)
                } else {
                    Err(format!(
                        "{time} is not in the recording, which was started at {started} and lasted {}",
                        units::seconds(end_s)
                    ))
                }
            }
        }
    }
}

fn mark(name: &str, recording: &Recording) -> Result<f64, String> {
    let numbered = name.parse::<usize>().ok().and_then(|it| recording.marks.get(it.checked_sub(1)?));
    let labelled = || recording.marks.iter().find(|it| !it.label.is_empty() && it.label == name);
    let found = numbered.or_else(labelled).map(|it| it.t_s);
    found.ok_or_else(|| match recording.marks.len() {
        0 => "the recording has no marks (SIGUSR2 to `alloctrace record` sets one)".to_owned(),
        count => format!("the recording has no mark {name:?}; it has {count}, mark:1 being the first"),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::capture::{EndRow, Header, MarkRow, Row};

    fn recording() -> Recording {
        let mut recording = Recording::default();
        recording
            .add(Row::Header(Header { started: "2026-01-02T03:04:05Z".to_owned(), ..Header::default() }));
        for (t_s, label) in [(10.0, ""), (20.0, "deploy")] {
            recording.add(Row::Mark(MarkRow { t_s, label: label.to_owned() }));
        }
        recording.add(Row::End(EndRow { t_s: 100.0, reason: String::new() }));
        recording
    }

    fn check(text: &str, expected: Result<f64, &str>) {
        let found = text.parse::<When>().and_then(|it| it.seconds(&recording()));
        match (&found, expected) {
            (Ok(found), Ok(expected)) => assert_eq!(*found, expected, "{text}"),
            (Err(found), Err(expected)) => assert!(found.contains(expected), "{text}: {found}"),
            _ => panic!("{text}: {found:?}"),
        }
    }

    #[test]
    fn points_of_a_recording() {
        check("start", Ok(0.0));
        check("0s", Ok(0.0));
        check("0.0s", Ok(0.0));
        check("end", Ok(100.0));
        check("90", Ok(90.0));
        check("1m30s", Ok(90.0));
        check("-30s", Ok(70.0));
        check("-1h", Ok(0.0));
        check("mark:1", Ok(10.0));
        check("mark:deploy", Ok(20.0));
        check("2026-01-02T03:04:35Z", Ok(30.0));
        check("2026-01-02T04:04:35+01:00", Ok(30.0));
    }

    #[test]
    fn what_is_no_point_of_it() {
        check("soon", Err("is no point in time"));
        check("-", Err("is no point in time"));
        check("mark:3", Err("it has 2"));
        check("mark:0", Err("it has 2"));
        check("2026-01-02T03:04:04Z", Err("not in the recording"));
        check("2027-01-02T03:04:04Z", Err("not in the recording"));
    }
}
