//! The heap's rules as named cases, by what they are about; its laws are in `laws.rs`.

mod blocks;
mod bounded;
mod intervals;
mod laws;
mod mappings;
mod processes;
mod samples;
mod stacks;
mod table;
mod views;

use std::{collections::BTreeMap, fmt::Write as _};

use expect_test::Expect;

use super::Heap;
use crate::{event::Frame, interval::Interval, script};

const SECOND: u64 = 1_000_000_000;

fn heap() -> Heap {
    Heap::new(0)
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
        if it.unsampled_frees != 0 {
            write!(out, ", {} unsampled frees", it.unsampled_frees).unwrap();
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
        let frames = if frames.is_empty() { "unknown" } else { &frames };
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
