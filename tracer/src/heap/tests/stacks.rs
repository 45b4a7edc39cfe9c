//! Keys, stacks, and stacks that never came.

use std::collections::BTreeSet;

use expect_test::expect;

use super::{SECOND, apply, check, heap};
use crate::{
    estimate::Rate,
    event::{Event, Frame, Loss, ProcessId, StackKey, Stop, Via},
    interval::Losses,
    script,
};

#[test]
fn keys_lead_to_one_stack_by_its_frames_and_stop() {
    check(
        "
        begin 10 app
        stack #1 main > f
        stack #2 main > f
        stack #3 main > f (truncated)
        stack #1 main > f
        alloc 10 0x1000 1B #1
        alloc 10 0x2000 2B #2
        alloc 10 0x3000 4B #2
        alloc 10 0x4000 8B #2
        alloc 10 0x5000 16B #3
        ",
        expect![[r#"
            10 app: 31B/5
              10 heap malloc: 15B/4 of 15B/4, peak 15B: main > f
              10 heap malloc: 16B/1 of 16B/1, peak 16B: main > f
            1 truncated_stacks
        "#]],
    );
}

#[test]
fn a_stack_that_comes_late_is_right_from_then_on() {
    check(
        "
        begin 10 app
        alloc 10 0x1000 1B #1
        alloc 10 0x2000 2B #1
        stack #1 main > f
        alloc 10 0x3000 4B #1
        free  10 0x1000
        ",
        expect![[r#"
            10 app: 6B/2
              10 heap malloc: 2B/1 of 3B/2, peak 3B: unknown
              10 heap malloc: 4B/1 of 4B/1, peak 4B: main > f
            2 unknown_stacks
        "#]],
    );
}

#[test]
fn stacks_that_end_early_are_counted_once_with_the_reason() {
    check(
        "
        begin 10 app
        stack #1 a (truncated)
        stack #2 a (no-mapping)
        stack #3 a (no-table)
        stack #4 a (unsupported)
        stack #5 a (unreadable)
        stack #6 a (gone)
        stack #7 a (pending)
        stack #8 a (no-table)
        stack #9 b (no-table)
        stack #3 a (no-table)
        ",
        expect![[r#"
            10 app: 0B/0
            1 truncated_stacks
            6 incomplete_stacks
            1 unmapped_frames
            2 no_table_frames
            1 unsupported_frames
            1 unreadable_stacks
            1 gone_stacks
        "#]],
    );
}

#[test]
fn a_stack_without_frames_is_the_unknown_one_and_still_counted() {
    for script in [
        "begin 10 app\n stack #2 (gone)\n stack #3 (gone)\n alloc 10 0x1000 1B #1\n alloc 10 0x2000 2B #2",
        "begin 10 app\n alloc 10 0x1000 1B #1\n stack #2 (gone)\n stack #3 (gone)\n alloc 10 0x2000 2B #2",
    ] {
        let mut heap = heap();
        apply(&mut heap, script);
        let interval = heap.interval(SECOND);
        assert_eq!((interval.stacks.len(), interval.sites.len()), (1, 1));
        assert_eq!(interval.stacks[0].stop, Stop::Gone);
        let losses: Vec<_> = interval.losses.iter().collect();
        assert_eq!(losses, [(Loss::IncompleteStacks, 1), (Loss::GoneStacks, 1), (Loss::UnknownStacks, 1)]);
    }
}

#[test]
fn numbers_that_are_used_once_do_not_pile_up() {
    let mut heap = heap();
    apply(
        &mut heap,
        "begin 10 app\n stack #1 main\n stack #2 main\n alloc 10 0x1 1B #2\n alloc 10 0x2 1B #2",
    );
    for number in 100..200_000 {
        let frames = vec![script::frame("main")].into();
        heap.apply(&Event::Stack { key: StackKey(number), stop: Stop::Complete, frames });
        heap.apply(&Event::Alloc {
            process: ProcessId(10),
            time_ns: 0,
            via: Via::Malloc,
            address: number,
            size_bytes: 1,
            stack: StackKey(number),
            rate: Rate::EXACT,
        });
    }
    apply(&mut heap, "alloc 10 0x3 1B #1\n alloc 10 0x4 1B #2");
    let interval = heap.interval(SECOND);
    assert_eq!((interval.stacks.len(), interval.sites.len()), (1, 1));
    assert_eq!(interval.losses, Losses::default());
    assert_eq!(heap.stacks.key_count(), 2 + (200_000 - 100) % (1 << 15) + (1 << 15));
}

/// Of a run without an end: what no process that lives has any more is told again when it comes back.
#[test]
fn stacks_of_the_dead_are_forgotten() {
    let mut heap = heap();
    heap.keep_lean();
    let mut told = BTreeSet::new();
    let mut known = 0;
    for process in 1..=40 {
        let tgid = process;
        let process = ProcessId(process);
        heap.apply(&Event::Begin { process, time_ns: 0, tgid, name: "app".into(), break_end: None });
        for number in 0..4000 {
            // One of all, those of two processes each, and new ones.
            let number = if number == 0 { 1 } else { u64::from(tgid / 2 + 1) * 10_000 + number };
            let (key, offset) = (StackKey(number), number);
            let frames = vec![Frame::new(1, offset)].into();
            heap.apply(&Event::Stack { key, stop: Stop::Complete, frames });
            let (via, rate) = (Via::Malloc, Rate::EXACT);
            let (address, size_bytes) = (number, 1);
            heap.apply(&Event::Alloc { process, time_ns: 0, via, address, size_bytes, stack: key, rate });
        }
        let interval = heap.interval(SECOND * u64::from(tgid));
        // Whoever listens knows each stack of this interval from this one.
        told.extend(interval.stacks.iter().map(|it| it.id));
        let fresh: BTreeSet<_> = interval.stacks.iter().map(|it| it.id).collect();
        assert_eq!(fresh.len(), interval.stacks.len(), "told twice");
        assert!(interval.sites.iter().all(|it| fresh.contains(&it.stack)));
        assert_eq!(interval.losses, Losses::default());
        let gone = heap.forget_stacks();
        known = heap.stacks.key_count();
        assert!(known <= (1 << 16) + 4000, "{known}");
        if tgid <= 39 {
            heap.apply(&Event::Exit { process, time_ns: 0, status: 0 });
        }
        assert!(!gone.contains(&StackKey(1)), "it is in use");
    }
    assert!(told.len() > (1 << 16) && known < told.len(), "{} of {}", known, told.len());
}
