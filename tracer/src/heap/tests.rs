//! The heap's rules as named cases; its laws are in `laws.rs`.

mod laws;
mod mappings;

use std::{collections::BTreeMap, fmt::Write as _};

use expect_test::{Expect, expect};

use super::{Heap, cohorts::MAX_COHORTS};
use crate::{
    event::{Event, Frame, Loss, ProcessId, StackKey, Stop, Via},
    interval::{Ended, How, Interval, SiteState},
    script,
};

const SECOND: u64 = 1_000_000_000;

fn heap() -> Heap {
    Heap::new(0, SECOND)
}

fn apply(heap: &mut Heap, script: &str) {
    script::parse(script).iter().for_each(|it| heap.apply(it));
}

/// Everything that one interval says after the script.
fn check(script: &str, expected: Expect) {
    let mut heap = heap();
    apply(&mut heap, script);
    let interval = heap.interval(100 * SECOND);
    expected.assert_eq(&render(&interval, &script::names(script)));
}

fn render(interval: &Interval, names: &BTreeMap<Frame, String>) -> String {
    let mut out = String::new();
    for it in &interval.processes {
        let (live, unknown, arena) = (it.live, it.unknown_frees, it.arena_bytes);
        write!(out, "{} {}: {}B/{}", it.tgid, it.name, live.bytes, live.blocks).unwrap();
        if unknown != 0 {
            write!(out, ", {unknown} unknown frees").unwrap();
        }
        if arena != 0 {
            write!(out, ", arena {arena}B").unwrap();
        }
        if let Some(ended) = it.ended {
            write!(out, ", {} {}", ended.how.name(), ended.code).unwrap();
        }
        out.push('\n');
    }
    for it in &interval.sites {
        let stack = &interval.stacks[it.stack.0 as usize];
        assert_eq!(stack.id, it.stack);
        let frames = stack.frames.iter().rev().map(|it| names[it].as_str()).collect::<Vec<_>>().join(" > ");
        let (live, total) = (it.live(), it.allocated);
        let origin = format!("{} {} {}", it.process.0, it.kind.name(), it.via.name());
        let (live_bytes, live_blocks, bytes, blocks) = (live.bytes, live.blocks, total.bytes, total.blocks);
        writeln!(
            out,
            "  {origin}: {live_bytes}B/{live_blocks} of {bytes}B/{blocks}, peak {}B: {frames}",
            it.peak_bytes
        )
        .unwrap();
    }
    for (loss, count) in interval.losses.iter() {
        writeln!(out, "{count} {}", loss.name()).unwrap();
    }
    out
}

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
fn a_nested_mapping_is_growth_of_an_arena() {
    check(
        "
        begin 10 app 0x5000
        stack #1 main
        map   10 0x10000 8KiB #1 nested
        unmap 10 0x11000 4KiB nested
        map   10 0x20000 4KiB #1
        unmap 10 0x1f000 12KiB nested
        remap 10 0x10000 4KiB 0x40000 64KiB #1 nested
        brk   10 0x6000 #1 nested
        brk   10 0x5800 #1 nested
        ",
        expect![[r#"
            10 app: 4096B/1, arena 59392B
              10 mmap mmap: 4096B/1 of 4096B/1, peak 4096B: main
        "#]],
    );
}

#[test]
fn a_mapping_is_live_until_its_last_piece_goes() {
    check(
        "
        begin 10 app
        stack #1 main > whole
        stack #2 main > cut
        stack #3 main > gone
        map   10 0x10000 16KiB #1
        map   10 0x20000 16KiB #2
        map   10 0x30000 16KiB #3
        unmap 10 0x21000 8KiB
        unmap 10 0x30000 4KiB
        unmap 10 0x32000 8KiB
        unmap 10 0x31000 4KiB
        unmap 10 0x70000 4KiB
        ",
        expect![[r#"
            10 app: 24576B/2
              10 mmap mmap: 16384B/1 of 16384B/1, peak 16384B: main > whole
              10 mmap mmap: 8192B/1 of 16384B/1, peak 16384B: main > cut
              10 mmap mmap: 0B/0 of 16384B/1, peak 16384B: main > gone
        "#]],
    );
}

#[test]
fn system_calls_touch_whole_pages() {
    check(
        "
        begin 10 app
        stack #1 main
        map   10 0x10000 5000B #1
        map   10 0x20000 8KiB #1
        unmap 10 0x20000 1B
        ",
        expect![[r#"
            10 app: 12288B/2
              10 mmap mmap: 12288B/2 of 16384B/2, peak 16384B: main
        "#]],
    );
}

#[test]
fn a_mapping_over_another_unmaps_it() {
    check(
        "
        begin 10 app
        stack #1 main > under
        stack #2 main > over
        map   10 0x10000 16KiB #1
        map   10 0x12000 16KiB #2
        ",
        expect![[r#"
            10 app: 24576B/2
              10 mmap mmap: 8192B/1 of 16384B/1, peak 16384B: main > under
              10 mmap mmap: 16384B/1 of 16384B/1, peak 16384B: main > over
        "#]],
    );
}

#[test]
fn a_moved_mapping_belongs_to_the_mover() {
    check(
        "
        begin 10 app
        stack #1 main > map
        stack #2 main > move
        map   10 0x10000 8KiB #1
        remap 10 0x11000 4KiB 0x20000 8KiB #2
        remap 10 0x20000 8KiB 0x20000 4KiB #2
        ",
        expect![[r#"
            10 app: 8192B/2
              10 mmap mmap: 4096B/1 of 8192B/1, peak 8192B: main > map
              10 mmap mremap: 4096B/1 of 12288B/2, peak 8192B: main > move
        "#]],
    );
}

#[test]
fn a_mapping_from_before_counts_from_its_move() {
    check(
        "begin 10 app\n stack #1 main\n remap 10 0x10000 4KiB 0x20000 8KiB #1",
        expect![[r#"
        10 app: 8192B/1
          10 mmap mremap: 8192B/1 of 8192B/1, peak 8192B: main
    "#]],
    );
}

#[test]
fn the_first_known_break_is_the_base() {
    check(
        "
        begin 10 app 0x5000
        begin 11 late
        stack #1 main
        brk   10 0x5100 #1
        brk   10 0x5400 #1
        brk   10 0x5200 #1
        brk   11 0x5000 #1
        brk   11 0x5010 #1
        brk   11 0x4000 #1
        ",
        expect![[r#"
            10 app: 512B/2
            11 late: 0B/0
              10 mmap brk: 512B/2 of 1024B/2, peak 1024B: main
              11 mmap brk: 0B/0 of 16B/1, peak 16B: main
        "#]],
    );
}

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
    apply(&mut heap, "begin 10 app\n stack #1 main\n alloc 10 0x1000 64B #1\n at 7.5s\n fork 10 11");
    let sites = heap.interval(8 * SECOND).sites;
    assert_eq!(sites[0].cohorts, sites[1].cohorts);
    assert_eq!((sites[1].cohorts[0].from_ns, sites[1].cohorts[0].to_ns), (0, SECOND - 1));
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
              10 heap malloc: 2B/1 of 3B/2, peak 3B: 
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
        });
    }
    apply(&mut heap, "alloc 10 0x3 1B #1\n alloc 10 0x4 1B #2");
    let interval = heap.interval(SECOND);
    assert_eq!((interval.stacks.len(), interval.sites.len()), (1, 1));
    assert_eq!(interval.losses, crate::interval::Losses::default());
    assert_eq!(heap.stacks.key_count(), 2 + (200_000 - 100) % (1 << 15) + (1 << 15));
}

#[test]
fn an_interval_says_only_what_changed() {
    let mut heap = heap();
    apply(&mut heap, "begin 10 app\n stack #1 a\n stack #2 b\n alloc 10 0x1 1B #1\n alloc 10 0x2 1B #2");
    let first = heap.interval(SECOND);
    assert_eq!((first.stacks.len(), first.sites.len(), first.processes.len()), (2, 2, 1));
    apply(&mut heap, "stack #1 a\n free 10 0x2");
    let second = heap.interval(2 * SECOND);
    assert_eq!((second.stacks.len(), second.sites.len(), second.processes.len()), (0, 1, 1));
    assert_eq!(second.sites[0].id, first.sites[1].id);
    let third = heap.interval(3 * SECOND);
    assert_eq!((third.stacks.len(), third.sites.len(), third.processes.len()), (0, 0, 1));
}

/// One block each interval for `intervals`; the site at the end.
fn one_block_each(intervals: u64) -> SiteState {
    let mut heap = heap();
    apply(&mut heap, "begin 10 app\n stack #1 main");
    for second in 0..intervals {
        heap.apply(&Event::Alloc {
            process: ProcessId(10),
            time_ns: second * SECOND,
            via: Via::Malloc,
            address: second + 1,
            size_bytes: 1,
            stack: StackKey(1),
        });
    }
    heap.interval(intervals * SECOND).sites.remove(0)
}

#[test]
fn cohorts_are_births_by_interval() {
    let cohorts = one_block_each(3).cohorts;
    let spans: Vec<_> = cohorts.iter().map(|it| (it.from_ns, it.to_ns, it.live.bytes)).collect();
    let span = |second: u64| (second * SECOND, (second + 1) * SECOND - 1, 1);
    assert_eq!(spans, [span(0), span(1), span(2)]);
}

#[test]
fn old_cohorts_are_at_most_as_wide_as_they_are_old() {
    let site = one_block_each(100_000);
    assert!(site.cohorts.len() <= MAX_COHORTS);
    assert_eq!(site.cohorts.iter().map(|it| it.live).sum::<crate::cost::Cost>(), site.live());
    for pair in site.cohorts.windows(2) {
        assert_eq!(pair[0].to_ns + 1, pair[1].from_ns);
    }
    for it in &site.cohorts {
        let age_ns = 100_000 * SECOND - it.to_ns;
        assert!(it.to_ns - it.from_ns <= age_ns.max(SECOND), "{it:?} is {age_ns} old");
    }
}

#[test]
fn a_large_table_shrinks_when_it_empties() {
    let mut heap = heap();
    apply(&mut heap, "begin 10 app\n stack #1 main");
    let (process, stack, via) = (ProcessId(10), StackKey(1), Via::Malloc);
    for address in 1..=500_000 {
        heap.apply(&Event::Alloc { process, time_ns: 0, via, address, size_bytes: 1, stack });
    }
    let full = heap.table_bytes();
    for address in 1..=490_000 {
        heap.apply(&Event::Free { process, time_ns: 0, address });
    }
    assert_eq!(heap.table_bytes(), full);
    heap.interval(SECOND);
    assert!(heap.table_bytes() * 16 <= full);
    assert_eq!(heap.live().blocks, 10_000);
}
