//! Processes that begin, are copied, are replaced and end.

use expect_test::expect;

use super::{SECOND, apply, check, heap};
use crate::{
    cost::Cost,
    event::{Loss, ProcessId},
    interval::{Ended, How},
};

#[test]
fn exec_frees_everything_and_the_process_lives_on() {
    check(
        "
        begin 10 app 0x5000
        stack #1 main
        alloc 10 0x1000 64B #1
        map   10 0x10000 4KiB #1
        map   10 0x20000 4KiB #1 nested
        exec  10 other
        brk   10 0x9000 #1
        alloc 10 0x1000 8B #1
        free  10 0x2000
        ",
        expect![[r#"
            10 other: 8B/1, 1 unknown frees
              10 heap malloc: 8B/1 of 72B/2, peak 64B: main
              10 mmap mmap: 0B/0 of 4096B/1, peak 4096B: main
        "#]],
    );
}

#[test]
fn exit_keeps_what_was_held() {
    check(
        "
        begin 10 app
        stack #1 main
        alloc 10 0x1000 64B #1
        exit  10 3
        ",
        expect![[r#"
            10 app: 64B/1, exit 3
              10 heap malloc: 64B/1 of 64B/1, peak 64B: main
        "#]],
    );
}

#[test]
fn the_dead_are_told_once_and_then_forgotten() {
    let mut heap = heap();
    apply(&mut heap, "begin 10 app\n begin 11 b\n stack #1 main\n alloc 10 0x1000 64B #1\n exit 10 0");
    assert_eq!(heap.live().bytes, 0);
    assert_eq!(heap.processes().count(), 2);
    assert_eq!(heap.interval(SECOND).processes[0].live.bytes, 64);
    let ids: Vec<_> = heap.interval(2 * SECOND).processes.iter().map(|it| it.id).collect();
    assert_eq!(ids, [ProcessId(11)]);
    apply(&mut heap, "free 10 0x1000\n alloc 11 0x1000 3B #1");
    assert_eq!(heap.losses().get(Loss::MalformedRecords), 1);
    assert_eq!((heap.live().bytes, heap.events()), (3, 7));
}

#[test]
fn ends_have_three_ways() {
    let ended = |script: &str| {
        let mut heap = heap();
        apply(&mut heap, script);
        heap.interval(0).processes[0].ended
    };
    let at = |how, code| Some(Ended { time_ns: SECOND, how, code });
    assert_eq!(ended("begin 1 app\n at 1s\n exit 1 137"), at(How::Exit, 137));
    assert_eq!(ended("begin 1 app\n at 1s\n exit 1 signal 11"), at(How::Signal, 11));
    // Bit 7 says that there is a core file.
    assert_eq!(ended("begin 1 app\n at 1s\n exit 1 signal 139"), at(How::Signal, 11));
    assert_eq!(ended("begin 1 app\n oom 1\n at 1s\n exit 1 signal 9"), at(How::OomKill, 9));
    assert_eq!(ended("begin 1 app\n oom 1"), None);
}

#[test]
fn what_leaves_holds_nothing_and_has_ended() {
    let mut heap = heap();
    apply(&mut heap, "begin 10 app\n stack #1 main\n alloc 10 0x1000 64B #1\n at 1s\n leave 10");
    let interval = heap.interval(SECOND);
    assert_eq!(interval.processes[0].ended, Some(Ended { time_ns: SECOND, how: How::Exec, code: 0 }));
    assert_eq!(interval.sites[0].live(), Cost::default());
    assert_eq!(heap.interval(2 * SECOND).processes.len(), 0);
    apply(&mut heap, "alloc 10 0x1000 64B #1");
    assert_eq!(heap.losses().get(Loss::MalformedRecords), 1);
}

#[test]
fn a_spawned_child_has_a_parent_and_none_of_its_blocks() {
    check(
        "
        begin 10 app
        stack #1 main
        alloc 10 0x1000 64B #1
        spawn 10 11
        exec  11 other
        alloc 11 0x1000 1B #1
        ",
        expect![[r#"
            10 app: 64B/1
            11 other: 1B/1
              10 heap malloc: 64B/1 of 64B/1, peak 64B: main
              11 heap malloc: 1B/1 of 1B/1, peak 1B: main
        "#]],
    );
}

#[test]
fn a_child_starts_with_the_live_blocks_of_its_parent() {
    check(
        "
        begin 10 app 0x5000
        stack #1 main > both
        stack #2 main > freed
        stack #3 main > map
        alloc 10 0x1000 64B #1
        alloc 10 0x2000 32B #1
        alloc 10 0x3000 16B #2
        free  10 0x3000
        map   10 0x10000 8KiB #3
        unmap 10 0x10000 4KiB
        free  10 0x9000
        fork  10 11
        free  11 0x1000
        unmap 11 0x11000 4KiB
        free  11 0x3000
        alloc 11 0x1000 1B #1
        brk   11 0x5002 #2
        ",
        expect![[r#"
            10 app: 4192B/3, 1 unknown frees
            11 app: 35B/3, 1 unknown frees
              10 heap malloc: 96B/2 of 96B/2, peak 96B: main > both
              10 heap malloc: 0B/0 of 16B/1, peak 16B: main > freed
              10 mmap mmap: 4096B/1 of 8192B/1, peak 8192B: main > map
              11 heap malloc: 33B/2 of 97B/3, peak 96B: main > both
              11 mmap mmap: 0B/0 of 4096B/1, peak 4096B: main > map
              11 mmap brk: 2B/1 of 2B/1, peak 2B: main > freed
        "#]],
    );
}

#[test]
fn a_child_that_replaces_its_image_at_once_repeats_nothing() {
    check(
        "
        begin 10 app
        stack #1 main > parent
        stack #2 main > child
        alloc 10 0x1000 64B #1
        fork  10 11
        alloc 11 0x2000 32B #2
        exec  11 other
        alloc 11 0x1000 8B #2
        ",
        expect![[r#"
            10 app: 64B/1
            11 other: 8B/1
              10 heap malloc: 64B/1 of 64B/1, peak 64B: main > parent
              11 heap malloc: 8B/1 of 40B/2, peak 32B: main > child
        "#]],
    );
}

#[test]
fn a_named_site_of_a_child_is_closed_by_exec() {
    let mut heap = heap();
    apply(&mut heap, "begin 10 app\n stack #1 main\n alloc 10 0x1000 64B #1\n fork 10 11");
    let id = heap.interval(SECOND).sites[1].id;
    apply(&mut heap, "exec 11 other\n alloc 11 0x1000 8B #1");
    let sites = heap.interval(2 * SECOND).sites;
    assert_eq!(sites.len(), 1);
    assert_eq!((sites[0].id, sites[0].live().bytes, sites[0].allocated.bytes), (id, 8, 72));
}

#[test]
fn a_block_keeps_its_age_in_a_child() {
    let mut heap = heap();
    apply(&mut heap, "begin 10 app\n stack #1 main\n alloc 10 0x1000 64B #1");
    heap.interval(SECOND);
    apply(&mut heap, "at 7.5s\n fork 10 11");
    let sites = heap.interval(8 * SECOND).sites;
    let [child] = &sites[..] else { panic!("the parent's has not changed") };
    assert_eq!((child.cohorts[0].from_ns, child.cohorts[0].to_ns), (0, SECOND));
}

#[test]
fn events_out_of_place_are_counted() {
    check(
        "
        begin 10 app
        begin 10 again
        alloc 99 0x1000 1B #1
        fork  99 12
        fork  10 10
        exit  10 0
        exit  10 0
        free  10 0x1000
        ",
        expect![[r#"
            10 app: 0B/0, exit 0
            6 malformed_records
        "#]],
    );
}

#[test]
fn what_is_not_followed_any_more_leaves_the_books() {
    check(
        "
        begin 10 app
        stack #1 main
        map   10 0x10000 8KiB #1
        alloc 10 0x1000 64B #1
        alloc 10 0x2000 32B #1
        free  10 0x2000
        unfollow 10
        free  10 0x1000
        alloc 10 0x1000 16B #1
        ",
        expect![[r#"
            10 app: 8208B/2, 1 unknown frees
              10 mmap mmap: 8192B/1 of 8192B/1, peak 8192B: main
              10 heap malloc: 16B/1 of 112B/3, peak 96B: main
            1 unfollowed_processes
        "#]],
    );
}
