//! What becomes of blocks for which there is no room.

use expect_test::expect;

use super::{SECOND, apply, heap, render};
use crate::script;

#[test]
fn blocks_without_room_count_as_freed_at_once() {
    let script = "
        begin 10 app
        stack #1 main
        alloc 10 0x1000 64B #1
        alloc 10 0x2000 32B #1
        free  10 0x1000
        free  10 0x2000
        free  10 0x3000
    ";
    let mut heap = heap();
    heap.bound(0);
    apply(&mut heap, script);
    let interval = heap.interval(100 * SECOND);
    // The third free is of none of them.
    expect![[r#"
        10 app: 0B/0, 1 unknown frees
          10 heap malloc: 0B/0 of 96B/2, peak 64B: main
        2 untracked_blocks
        96 untracked_bytes
    "#]]
    .assert_eq(&render(&interval, &script::names(script)));
    assert_eq!(heap.table_bytes(), 0);
}

#[test]
fn a_child_whose_blocks_have_no_room_has_none() {
    let script = "
        begin 10 app
        stack #1 main
        alloc 10 0x1000 64B #1
    ";
    let mut heap = heap();
    apply(&mut heap, script);
    heap.bound(0);
    apply(&mut heap, "fork 10 11\n free 11 0x1000\n free 10 0x1000");
    let interval = heap.interval(100 * SECOND);
    expect![[r#"
        10 app: 0B/0
        11 app: 0B/0
          10 heap malloc: 0B/0 of 64B/1, peak 64B: main
          11 heap malloc: 0B/0 of 64B/1, peak 64B: main
        1 untracked_blocks
        64 untracked_bytes
    "#]]
    .assert_eq(&render(&interval, &script::names(script)));
}
