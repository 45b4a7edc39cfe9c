//! Both layouts, as the tools print them.

use expect_test::{Expect, expect};

use super::*;

fn line(address: u64, function: Option<(&str, u64)>, module: Option<&str>) -> Line {
    let function = function.map(|(name, offset)| (name.to_owned(), offset));
    Line { address, function, module: module.map(str::to_owned) }
}

fn outstanding() -> Outstanding {
    let main = line(0x5584_6b7f_b0f1, Some(("main", 0x61)), Some("/tmp/leak"));
    let libc = line(0x7f79_37d2_c24a, None, Some("/usr/lib/x86_64-linux-gnu/libc.so.6"));
    let table = Holder {
        bytes: 1160,
        blocks: 29,
        frames: vec![main.clone(), libc.clone()],
        listed: vec![(0x5584_9a17_b070, 40), (0x5584_9a17_b020, 1120)],
    };
    let grow = Holder {
        bytes: 464,
        blocks: 29,
        frames: vec![line(0x5584_6b7f_b224, Some(("grow", 0x14)), Some("/tmp/leak")), main, libc],
        listed: vec![(0x5584_9a17_b2d0, 464)],
    };
    let jit =
        Holder { bytes: 16, blocks: 1, frames: vec![line(0x7f00_0000_1000, None, None)], listed: vec![] };
    let nowhere = Holder { bytes: 0, blocks: 1, frames: vec![], listed: vec![] };
    Outstanding { time: [9, 1, 5], holders: vec![table, grow, jit, nowhere] }
}

fn check(layout: Layout, top: usize, combined_only: bool, expected: Expect) {
    let mut outstanding = outstanding();
    if combined_only {
        outstanding.holders.iter_mut().for_each(|it| it.listed.clear());
    }
    let mut out = Vec::new();
    write(&outstanding, &Options { layout, top, combined_only }, &mut out).unwrap();
    expected.assert_eq(&String::from_utf8(out).unwrap());
}

#[test]
fn python_with_addresses() {
    check(
        Layout::Python,
        10,
        false,
        expect![[r#"
        [09:01:05] Top 10 stacks with outstanding allocations:
        	addr = 55849a17b070 size = 40
        	addr = 55849a17b2d0 size = 464
        	addr = 55849a17b020 size = 1120
        	0 bytes in 1 allocations from stack
        		[unknown]
        	16 bytes in 1 allocations from stack
        		0x00007f0000001000	[unknown]
        	464 bytes in 29 allocations from stack
        		0x000055846b7fb224	grow+0x14 [leak]
        		0x000055846b7fb0f1	main+0x61 [leak]
        		0x00007f7937d2c24a	[unknown] [libc.so.6]
        	1160 bytes in 29 allocations from stack
        		0x000055846b7fb0f1	main+0x61 [leak]
        		0x00007f7937d2c24a	[unknown] [libc.so.6]
    "#]],
    );
}

#[test]
fn python_combined_only() {
    check(
        Layout::Python,
        2,
        true,
        expect![[r#"
        [09:01:05] Top 2 stacks with outstanding allocations:
        	464 bytes in 29 allocations from stack
        		grow+0x14 [leak]
        		main+0x61 [leak]
        		[unknown] [libc.so.6]
        	1160 bytes in 29 allocations from stack
        		main+0x61 [leak]
        		[unknown] [libc.so.6]
    "#]],
    );
}

#[test]
fn libbpf_with_addresses() {
    check(
        Layout::Libbpf,
        10,
        false,
        expect![[r#"
        [9:1:5] Top 4 stacks with outstanding allocations:
        1160 bytes in 29 allocations from stack
        	addr = 0x55849a17b070 size = 40
        	addr = 0x55849a17b020 size = 1120
        	0 [<000055846b7fb0f1>] main+0x61 [/tmp/leak]
        	1 [<00007f7937d2c24a>] [/usr/lib/x86_64-linux-gnu/libc.so.6]
        464 bytes in 29 allocations from stack
        	addr = 0x55849a17b2d0 size = 464
        	0 [<000055846b7fb224>] grow+0x14 [/tmp/leak]
        	1 [<000055846b7fb0f1>] main+0x61 [/tmp/leak]
        	2 [<00007f7937d2c24a>] [/usr/lib/x86_64-linux-gnu/libc.so.6]
        16 bytes in 1 allocations from stack
        	0 [<00007f0000001000>] <null sym>
        0 bytes in 1 allocations from stack
    "#]],
    );
}

#[test]
fn libbpf_top() {
    check(
        Layout::Libbpf,
        1,
        true,
        expect![[r#"
        [9:1:5] Top 1 stacks with outstanding allocations:
        1160 bytes in 29 allocations from stack
        	0 [<000055846b7fb0f1>] main+0x61 [/tmp/leak]
        	1 [<00007f7937d2c24a>] [/usr/lib/x86_64-linux-gnu/libc.so.6]
    "#]],
    );
}

#[test]
fn the_trace() {
    let caller = Caller { name: "le'ak\x1b[m", tgid: 18147, time_ns: 23_163_448_350_999 };
    let mut out = Vec::new();
    for layout in [Layout::Python, Layout::Libbpf] {
        trace(layout, caller, Call::Alloc { bytes: 16, address: 0x5584_9a18_09b0 }, &mut out).unwrap();
        trace(layout, caller, Call::Free { address: 0x5584_9a17_52c0, bytes: 100 }, &mut out).unwrap();
    }
    expect![[r#"
        (b'le\'ak\x1b[m', 18147, None, b'', 23163.44835, b'alloc entered, size = 16')
        (b'le\'ak\x1b[m', 18147, None, b'', 23163.44835, b'alloc exited, size = 16, result = 55849a1809b0')
        (b'le\'ak\x1b[m', 18147, None, b'', 23163.44835, b'free entered, address = 55849a1752c0, size = 100')
           le'ak\u{1b}[m-18147   [---] ..... 23163.448350: bpf_trace_printk: alloc entered, size = 16
           le'ak\u{1b}[m-18147   [---] ..... 23163.448350: bpf_trace_printk: alloc exited, size = 16, result = 55849a1809b0
           le'ak\u{1b}[m-18147   [---] ..... 23163.448350: bpf_trace_printk: free entered, address = 55849a1752c0, size = 100
    "#]].assert_eq(&String::from_utf8(out).unwrap());
}

#[test]
fn names_do_not_reach_the_terminal_raw() {
    let evil = line(1, Some(("a\x1b[2Jb\n", 1)), Some("/tmp/\x07bell"));
    let holders = vec![Holder { bytes: 1, blocks: 1, frames: vec![evil], listed: vec![] }];
    for layout in [Layout::Python, Layout::Libbpf] {
        let mut out = Vec::new();
        let outstanding = Outstanding { time: [0; 3], holders: holders.clone() };
        write(&outstanding, &Options { layout, top: 1, combined_only: false }, &mut out).unwrap();
        let text = String::from_utf8(out).unwrap();
        assert!(!text.contains(['\x1b', '\x07']) && text.lines().count() == 3, "{text:?}");
    }
}
