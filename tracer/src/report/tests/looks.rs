//! Colours, names that would do something to a terminal, and words for what is not known.

use crate::{
    capture::Recording,
    profile::{Profile, Query, sample_recording},
    report::{Format, Options, write},
};

fn text(recording: &Recording, color: bool) -> String {
    let profile = Profile::new(recording, &Query::default(), 10);
    let options = Options { path: "a\x1b[2J.jsonl.zst".to_owned(), color, ..Options::default() };
    let mut out = Vec::new();
    write(Format::Text, recording, &profile, &options, &mut out).unwrap();
    String::from_utf8(out).unwrap()
}

/// Without our own escapes.
fn stripped(text: &str) -> String {
    let mut parts = text.split("\x1b[");
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |text, part| text + part.split_once('m').expect("only styles").1)
}

#[test]
fn colours_change_nothing_else() {
    let recording = sample_recording();
    let (plain, colored) = (text(&recording, false), text(&recording, true));
    assert!(!plain.contains('\x1b'));
    assert_eq!(stripped(&colored), plain);
    assert!(colored.contains("\x1b[1mHeap: who holds the memory\x1b[0m"), "{colored}");
    let growing = colored.lines().find(|it| it.contains("[growing")).expect("one grows");
    assert!(growing.contains("\x1b[1m\x1b[31m[growing"), "{growing:?}");
}

#[test]
fn names_do_nothing_to_a_terminal() {
    const EVIL: &str = "\x1b]0;title\x07\x1b[31mred\r\n\u{9b}2J";
    let mut recording = sample_recording();
    let lines = text(&recording, false).lines().count();
    recording.header.target = EVIL.to_owned();
    recording.header.host = EVIL.to_owned();
    recording.header.started = EVIL.to_owned();
    recording.modules.values_mut().for_each(|it| it.path = format!("/opt/{EVIL}"));
    recording.processes.values_mut().for_each(|it| it.name = EVIL.to_owned());
    recording.marks.iter_mut().for_each(|it| it.label = EVIL.to_owned());
    recording.frames.iter_mut().for_each(|it| it.function = Some(EVIL.into()));
    recording.sites.values_mut().for_each(|it| it.via = EVIL.into());
    let text = text(&recording, false);
    assert!(text.contains("red\\r\\n\\u{9b}2J"), "{text}");
    assert!(text.chars().all(|it| it == '\n' || !it.is_control()), "{text:?}");
    assert_eq!(text.lines().count(), lines, "no name makes lines:\n{text}");
}

#[test]
fn nothing_is_said_to_be_held_only_if_that_is_known() {
    let mut recording = sample_recording();
    for site in recording.sites.values_mut() {
        site.points.iter_mut().for_each(|it| it.freed = it.allocated);
        site.cohorts.clear();
    }
    assert!(text(&recording, false).contains("\nNothing is held: every block"));
    recording.losses.insert("unfollowed_processes".to_owned(), 1);
    let let_go = text(&recording, false);
    assert!(let_go.contains("trust    F: calls were not followed all the time"), "{let_go}");
    assert!(let_go.contains("\nNothing is known to be held"), "{let_go}");
}
