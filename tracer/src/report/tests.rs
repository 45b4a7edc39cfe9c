//! One small profile in every format.

use expect_test::{Expect, expect};

use super::*;
use crate::{
    profile::Query,
    symbol::{Place, Places},
};

/// Knows one frame, with a function inlined into it.
struct OnePlace;

impl Places for OnePlace {
    fn places(&mut self, _path: &str, build_id: Option<&str>, offset: u64) -> Vec<Place> {
        if (build_id, offset) != (Some("ab12"), 0x1000) {
            return Vec::new();
        }
        let place = |function: &str, line, inlined| Place {
            function: Some(function.to_owned()),
            file: Some("/src/app.c".to_owned()),
            line: Some(line),
            inlined,
        };
        vec![place("push", 12, true), place("leak", 34, false)]
    }
}

fn check(format: Format, query: &Query, expected: Expect) {
    let mut profile = Profile::new(&crate::profile::sample_recording(), query);
    profile.add_places(10, &mut OnePlace);
    let options = Options { path: "a.jsonl.zst".to_owned(), top: None };
    let mut out = Vec::new();
    write(format, &profile, &options, &mut out).unwrap();
    expected.assert_eq(&String::from_utf8(out).unwrap());
}

#[test]
fn text() {
    check(Format::Text, &Query::default(), expect![[]]);
}

#[test]
fn text_of_nothing() {
    check(Format::Text, &Query { pid: Some(8), ..Query::default() }, expect![[]]);
}

#[test]
fn folded() {
    check(Format::Folded, &Query::default(), expect![[]]);
}

#[test]
fn json() {
    check(Format::Json, &Query { min_bytes: Some(1000), ..Query::default() }, expect![[]]);
}
