//! Allocations, frees and reallocs.

use expect_test::expect;

use super::{SECOND, apply, check, heap};
use crate::event::Loss;

#[test]
fn a_site_holds_what_it_allocated_and_did_not_free() {
    check(
        "
        begin 10 app
        stack #1 main > parse > grow
        alloc 10 0x1000 64B #1
        free  10 0x1000
        alloc 10 0x2000 32B #1
        ",
        expect![[r#"
            10 app: 32B/1
              10 heap malloc: 32B/1 of 96B/2, peak 64B: main > parse > grow
        "#]],
    );
}

#[test]
fn what_a_pool_is_given_is_neither_a_block_nor_unknown() {
    check(
        "
        begin    10 app
        stack    #1 main > get
        enclosed 10 0x0 0x1000
        alloc    10 0x4000000000001000 64B #1
        enclosed 10 0x1000 0x2000
        free     10 0x4000000000001000
        free     10 0x2000
        alloc    10 0x3000 8B #1
        enclosed 10 0x3000 0x5000
        realloc  10 0x5000 0x6000 16B #1
        free     10 0x7000
        ",
        expect![[r#"
            10 app: 16B/1, 1 unknown frees
              10 heap malloc: 0B/0 of 72B/2, peak 64B: main > get
              10 heap realloc: 16B/1 of 16B/1, peak 16B: main > get
        "#]],
    );
}

#[test]
fn sites_differ_by_process_kind_function_and_stack() {
    check(
        "
        begin 10 app
        begin 11 app
        stack #1 main > a
        stack #2 main > b
        alloc 10 0x1000 1B #1
        alloc 10 0x2000 2B #2
        alloc 10 0x3000 3B #1 calloc
        alloc 11 0x1000 4B #1
        map   10 0x4000 4KiB #1
        alloc 10 0x9000 5B #1
        ",
        expect![[r#"
            10 app: 4107B/5
            11 app: 4B/1
              10 heap malloc: 6B/2 of 6B/2, peak 6B: main > a
              10 heap malloc: 2B/1 of 2B/1, peak 2B: main > b
              10 heap calloc: 3B/1 of 3B/1, peak 3B: main > a
              10 mmap mmap: 4096B/1 of 4096B/1, peak 4096B: main > a
              11 heap malloc: 4B/1 of 4B/1, peak 4B: main > a
        "#]],
    );
}

#[test]
fn a_block_of_no_bytes_is_a_block() {
    check(
        "begin 10 app\n stack #1 main\n alloc 10 0x1000 0B #1\n alloc 10 0x2000 0B #1\n free 10 0x1000",
        expect![[r#"
            10 app: 0B/1
              10 heap malloc: 0B/1 of 0B/2, peak 0B: main
        "#]],
    );
}

#[test]
fn a_realloc_is_a_free_and_an_allocation() {
    check(
        "
        begin   10 app
        stack   #1 main > make
        stack   #2 main > grow
        alloc   10 0x1000 64B #1
        realloc 10 0x1000 0x2000 128B #2
        realloc 10 0x2000 0x2000 96B #2
        realloc 10 0x0 0x3000 7B #2
        ",
        expect![[r#"
            10 app: 103B/2
              10 heap malloc: 0B/0 of 64B/1, peak 64B: main > make
              10 heap realloc: 103B/2 of 231B/3, peak 128B: main > grow
        "#]],
    );
}

#[test]
fn a_realloc_to_nothing_only_frees() {
    check(
        "
        begin   10 app
        stack   #1 main
        alloc   10 0x1000 64B #1
        realloc 10 0x1000 0x0 0B #9
        realloc 10 0x7000 0x0 0B #9
        ",
        expect![[r#"
            10 app: 0B/0, 1 unknown frees
              10 heap malloc: 0B/0 of 64B/1, peak 64B: main
        "#]],
    );
}

#[test]
fn a_realloc_may_be_told_after_its_old_address_was_given_away() {
    // 0x1000 was released inside the realloc, given to another thread, and is live again.
    check(
        "
        begin   10 app
        stack   #1 main > first
        stack   #2 main > other
        alloc   10 0x1000 64B #1
        at 2s
        alloc   10 0x1000 32B #2
        realloc 10 0x1000 0x2000 128B #1 since 1s
        at 9s
        free    10 0x2000
        ",
        expect![[r#"
            10 app: 32B/1
              10 heap malloc: 0B/0 of 64B/1, peak 64B: main > first
              10 heap malloc: 32B/1 of 32B/1, peak 32B: main > other
              10 heap realloc: 0B/0 of 128B/1, peak 128B: main > first
        "#]],
    );
}

#[test]
fn a_realloc_that_began_later_does_not_claim() {
    check(
        "
        begin   10 app
        stack   #1 main > first
        stack   #2 main > other
        alloc   10 0x1000 64B #1
        at 2s
        alloc   10 0x1000 32B #2
        realloc 10 0x1000 0x2000 128B #1 since 2.5s
        at 9s
        free    10 0x2000
        ",
        expect![[r#"
            10 app: 0B/0
              10 heap malloc: 0B/0 of 64B/1, peak 64B: main > first
              10 heap malloc: 0B/0 of 32B/1, peak 32B: main > other
              10 heap realloc: 0B/0 of 128B/1, peak 128B: main > first
            1 lost_frees
        "#]],
    );
}

#[test]
fn an_allocation_at_a_live_address_is_a_lost_free_after_two_seconds() {
    let mut heap = heap();
    apply(
        &mut heap,
        "
        begin 10 app
        stack #1 main
        alloc 10 0x1000 64B #1
        at 1s
        alloc 10 0x1000 32B #1
        at 3s
        free  10 0x9000
        ",
    );
    // The clock of the caller is ahead of the events, which may still be on their way.
    assert_eq!(heap.interval(50 * SECOND).losses.get(Loss::LostFrees), 0);
    apply(&mut heap, "at 3.1s\n free 10 0x9000");
    let interval = heap.interval(50 * SECOND);
    assert_eq!(interval.losses.get(Loss::LostFrees), 1);
    assert_eq!(interval.processes[0].live.bytes, 32);
    assert_eq!(heap.interval(50 * SECOND).losses.get(Loss::LostFrees), 1);
}

#[test]
fn an_address_displaced_twice_and_an_end_are_lost_frees_at_once() {
    check(
        "
        begin 10 app
        stack #1 main
        alloc 10 0x1000 1B #1
        alloc 10 0x1000 2B #1
        alloc 10 0x1000 3B #1
        exit  10 0
        ",
        expect![[r#"
            10 app: 3B/1, exit 0
              10 heap malloc: 3B/1 of 6B/3, peak 3B: main
            2 lost_frees
        "#]],
    );
}

#[test]
fn frees_of_memory_from_before_are_unknown() {
    check(
        "begin 10 app\n free 10 0x1000\n realloc 10 0x2000 0x0 0B #1",
        expect![[r#"
        10 app: 0B/0, 2 unknown frees
    "#]],
    );
}

#[test]
fn a_thread_that_ends_empties_its_cache() {
    check(
        "
        begin 10 app
        stack #1 main
        alloc 10 0x1000 64B #1
        free  10 0x2000 thread 1
        at    1s
        free  10 0x1000 thread 1
        free  10 0x3000 thread 1
        free  10 0x4000 thread 2
        free  10 0x5000 thread 1
        cache 10 thread 1 since 1s
        ",
        expect![[r#"
            10 app: 0B/0, 2 unknown frees
              10 heap malloc: 0B/0 of 64B/1, peak 64B: main
        "#]],
    );
}

#[test]
fn a_block_in_the_place_of_one_from_before_is_told_apart() {
    let mut heap = heap();
    apply(
        &mut heap,
        "
        begin 10 app
        stack #1 cache
        free  10 0x1000
        alloc 10 0x1000 64B #1
        alloc 10 0x1040 8B #1
        ",
    );
    let reused = |heap: &mut crate::heap::Heap| heap.interval(SECOND).sites[0].reused_bytes;
    assert_eq!(reused(&mut heap), 64, "and not the neighbour above");
    apply(&mut heap, "stack #1 cache\n free 10 0x1000\n alloc 10 0x1000 16B #1");
    assert_eq!(reused(&mut heap), 16, "the place stays what it was");
    apply(&mut heap, "free 10 0x1000");
    assert_eq!(reused(&mut heap), 0);
}
