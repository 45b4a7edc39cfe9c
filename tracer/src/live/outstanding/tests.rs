//! Questions about scripted events.

use std::time::Duration;

use super::{Call, Holder, Question, Sort, is_loader, view::View};
use crate::{
    event::{Event, Frame, ObjectId, ProcessId, StackKey, Stop},
    script,
};

const MS: u64 = 1_000_000;

fn everything() -> Question {
    Question {
        older: Duration::ZERO,
        sizes: 0..=u64::MAX,
        sort: Sort::Bytes,
        top: 10,
        listed: false,
        calls: false,
    }
}

fn view(question: Question, text: &str) -> View {
    let mut view = View::new(ProcessId(10), 0, question);
    script::parse(text).iter().for_each(|it| view.apply(it));
    view
}

/// Bytes, blocks and the innermost function of each.
fn told(holders: &[Holder], text: &str) -> Vec<(u64, u64, String)> {
    let names = script::names(text);
    let function = |it: &Holder| it.frames.first().map(|(frame, _)| names[frame].clone()).unwrap_or_default();
    holders.iter().map(|it| (it.bytes, it.blocks, function(it))).collect()
}

fn check(question: Question, text: &str, time_ms: u64, expected: &[(u64, u64, &str)]) {
    let holders = view(question, text).outstanding(time_ms * MS);
    let expected: Vec<_> = expected.iter().map(|(a, b, name)| (*a, *b, (*name).to_owned())).collect();
    assert_eq!(told(&holders, text), expected);
}

const APP: &str = "
    begin 10 app
    stack #1 main > few
    stack #2 main > many
    stack #3 main > map
    alloc 10 0x1000 500B #1
    alloc 10 0x2000 100B #2
    alloc 10 0x3000 101B #2 calloc
    alloc 10 0x4000 102B #2
    alloc 10 0x5000 7B #2
    map   10 0x10000 8KiB #3
    free  10 0x5000
    alloc 10 0x6000 0B #9
";

#[test]
fn the_largest_first() {
    let all = [(8192, 1, "map"), (500, 1, "few"), (303, 3, "many"), (0, 1, "")];
    check(everything(), APP, 100, &all);
    check(Question { top: 2, ..everything() }, APP, 100, &all[..2]);
    let most = [(303, 3, "many"), (500, 1, "few"), (8192, 1, "map"), (0, 1, "")];
    check(Question { sort: Sort::Blocks, ..everything() }, APP, 100, &most);
}

#[test]
fn mappings_of_the_loader_are_left_out() {
    let mut view = view(everything(), "begin 10 app\n stack #1 main > load");
    let loader = Frame::new(2, 0x10);
    view.apply(&Event::Stack { key: StackKey(2), stop: Stop::Complete, frames: [loader].into() });
    let more = "map 10 0x10000 4KiB #2\n map 10 0x20000 8KiB #1\n alloc 10 0x1000 5B #2";
    script::parse(more).iter().for_each(|it| view.apply(it));
    view.leave_out_mappings_of(ObjectId(2));
    let bytes: Vec<u64> = view.outstanding(100 * MS).iter().map(|it| it.bytes).collect();
    assert_eq!(bytes, [8192, 5], "what it allocates is not left out");
    let loaders = ["/lib64/ld-linux-x86-64.so.2", "/lib/ld-2.31.so", "/libexec/ld.so.1"];
    assert!(loaders.into_iter().all(is_loader));
    assert!(
        !["/lib/ld-musl-x86_64.so.1", "/lib/libc.so.6", "/usr/bin/ld", "/ld-/app"].into_iter().any(is_loader)
    );
}

#[test]
fn sizes_are_of_blocks() {
    let some = Question { sizes: 101..=500, ..everything() };
    check(some, APP, 100, &[(500, 1, "few"), (203, 2, "many")]);
}

#[test]
fn blocks_are_listed() {
    let mut view = view(Question { listed: true, top: 1, ..everything() }, APP);
    let holders = view.outstanding(100 * MS);
    assert_eq!(holders.len(), 4, "all of them, since each block is asked for");
    assert_eq!(holders[2].listed, [(0x2000, 100), (0x3000, 101), (0x4000, 102)]);
    assert_eq!((holders[0].frames.len(), holders[1].frames.len()), (2, 0), "frames of the largest only");
}

/// A process that does nothing for a long time after an allocation.
const QUIET: &str = "
    begin 10 app
    stack #1 main > old
    stack #2 main > young
    alloc 10 0x1000 1B #1
    at    10s
    alloc 10 0x2000 2B #2
    alloc 10 0x3000 3B #2
";

#[test]
fn only_what_is_old() {
    let older = |ms| Question { older: Duration::from_millis(ms), ..everything() };
    check(older(9_000), QUIET, 10_050, &[(1, 1, "old")]);
    check(older(9_000), QUIET, 8_000, &[]);
    // Known to a fiftieth of it.
    check(older(1_000), QUIET, 11_030, &[(5, 2, "young"), (1, 1, "old")]);
    check(older(1_000), QUIET, 10_990, &[(1, 1, "old")]);
}

#[test]
fn an_age_is_known_to_a_fiftieth() {
    let older = Duration::from_millis(1_000);
    for step in 0..40 {
        let born_ms = 5_000 + step * 3;
        let text = format!(
            "begin 10 app\n stack #1 main > f\n at 4.9s\n alloc 10 0x9000 1B #1\n free 10 0x9000\n at {:?}\n \
             alloc 10 0x1000 1B #1\n alloc 10 0x2000 2B #1\n free 10 0x2000",
            Duration::from_millis(born_ms)
        );
        let seen = |ms| {
            let holders = view(Question { older, ..everything() }, &text).outstanding((born_ms + ms) * MS);
            !holders.is_empty()
        };
        assert!(!seen(999), "not before its time, born at {born_ms} ms");
        assert!(seen(1_021), "not much later either, born at {born_ms} ms");
    }
}

#[test]
fn what_was_outstanding_at_the_end() {
    let text = "
        begin 10 app
        begin 11 other
        stack #1 main > lost
        alloc 10 0x1000 64B #1
        alloc 11 0x1000 1B #1
        exit  11 0
    ";
    let mut view = view(everything(), text);
    assert!(view.at_end().is_none());
    script::parse("at 2s\n exit 10 0").iter().for_each(|it| view.apply(it));
    let holders = view.at_end().expect("it has ended").clone();
    assert_eq!(told(&holders, text), [(64, 1, "lost".to_owned())]);
}

#[test]
fn calls_and_their_sizes() {
    let text = "
        begin 10 app
        begin 11 other
        stack #1 main
        alloc   10 0x1000 64B #1
        alloc   11 0x1000 64B #1
        realloc 10 0x1000 0x2000 65B #1
        alloc   10 0x3000 1B #1
        free    10 0x3000
        free    10 0x2000
        free    10 0x9000
        free    11 0x1000
        map     10 0x10000 4KiB #1
        map     10 0x20000 4KiB #1 nested
        unmap   10 0x10000 4KiB
    ";
    let mut view = view(Question { calls: true, sizes: 2..=u64::MAX, ..everything() }, text);
    let alloc = |time_ms, address, bytes| Call::Alloc { time_ns: time_ms * MS, address, bytes };
    let free = |time_ms, address, bytes| Call::Free { time_ns: time_ms * MS, address, bytes };
    let expected = [
        alloc(2, 0x1000, 64),
        free(4, 0x1000, 64),
        alloc(4, 0x2000, 65),
        free(7, 0x2000, 65),
        alloc(10, 0x10000, 4096),
        free(12, 0x10000, 4096),
    ];
    assert_eq!(view.take_calls(), expected);
    assert!(view.take_calls().is_empty());
}
