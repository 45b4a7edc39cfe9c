//! The view of single blocks.

use super::{SECOND, apply, heap};
use crate::{
    event::{Kind, ProcessId},
    heap::{Heap, LiveBlock},
};

const APP: ProcessId = ProcessId(10);

/// Address, bytes, number of the stack, and the seconds between which it was born; by address.
fn blocks(heap: &Heap) -> Vec<(u64, u64, u32, [u64; 2])> {
    let block = |it: LiveBlock| {
        (it.address, it.size_bytes, it.stack.0, [it.from_ns, it.to_ns].map(|it| it.div_ceil(SECOND)))
    };
    let mut blocks: Vec<_> = heap.blocks(APP).map(block).collect();
    blocks.sort_unstable();
    blocks
}

#[test]
fn blocks_and_what_is_left_of_mappings() {
    let mut heap = heap();
    apply(
        &mut heap,
        "
        begin 10 app
        begin 11 other
        stack #1 main > a
        stack #2 main > b
        alloc 10 0x1000 64B #1
        alloc 11 0x9000 1B #1
        ",
    );
    heap.interval(3 * SECOND);
    apply(
        &mut heap,
        "
        stack #2 main > b
        stack #1 main > a
        at    3.5s
        alloc 10 0x2000 0B #2
        map   10 0x10000 16KiB #2
        unmap 10 0x10000 4KiB
        unmap 10 0x12000 4KiB
        alloc 10 0x3000 5B #1
        free  10 0x3000
        ",
    );
    heap.interval(4 * SECOND);
    let expected = [(0x1000, 64, 0, [0, 3]), (0x2000, 0, 1, [3, 4]), (0x11000, 8192, 1, [3, 4])];
    assert_eq!(blocks(&heap), expected);
    let mapped = heap.blocks(APP).filter(|it| it.kind == Kind::Mmap).map(|it| it.address);
    assert_eq!(mapped.collect::<Vec<_>>(), [0x11000]);
    assert_eq!(heap.blocks(ProcessId(12)).count(), 0);
    let bytes = |address| heap.block(APP, address).map(|it| it.size_bytes);
    assert_eq!([0x1000, 0x2000, 0x3000].map(bytes), [Some(64), Some(0), None]);
    assert_eq!([0x10000, 0x11000, 0x13000].map(bytes), [None, Some(4096), Some(4096)]);
    assert_eq!(heap.block(ProcessId(11), 0x1000), None);
}

#[test]
fn an_age_is_never_overstated() {
    let mut heap = heap();
    apply(&mut heap, "begin 10 app\n stack #1 main");
    heap.interval(2 * SECOND);
    apply(&mut heap, "at 2.7s\n alloc 10 0x1000 1B #1\n at 2.8s\n free 10 0x9000");
    let age_ns = |heap: &Heap, time_ns| heap.block(APP, 0x1000).expect("it lives").age_ns(time_ns);
    assert_eq!(age_ns(&heap, 2_900_000_000), 100_000_000, "it was there at the last event");
    heap.interval(3 * SECOND);
    assert_eq!(age_ns(&heap, 5 * SECOND), 2 * SECOND);
    assert_eq!(age_ns(&heap, SECOND), 0);
}

#[test]
fn nothing_lives_after_the_end() {
    let mut heap = heap();
    apply(&mut heap, "begin 10 app\n stack #1 main\n alloc 10 0x1000 1B #1\n map 10 0x10000 4KiB #1");
    assert_eq!(blocks(&heap).len(), 2);
    apply(&mut heap, "at 1s\n exit 10 0");
    assert_eq!(blocks(&heap), []);
}
