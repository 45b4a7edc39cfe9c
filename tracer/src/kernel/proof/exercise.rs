//! What the child does: allocates in the ways in which the paths of an allocator differ.

use std::{
    hint::black_box,
    io::{self, Read as _, Write as _},
    sync::Barrier,
    thread,
};

use super::{super::sys::RawBlock, READY};

/// The name of the hidden command that is this child.
pub const COMMAND: &str = "__exercise";

/// As many as have an arena of their own and more than share one: glibc makes eight for each CPU at most, and one CPU is enough for
/// the threads to be in each other's way.
const THREADS: usize = 4;

/// Blocks of each small size: more than glibc keeps in a thread's cache (7), so that it is filled and runs empty.
const SMALL_BLOCKS: usize = 20;

/// No allocator has so much.
const TOO_MUCH: usize = isize::MAX as usize;

/// Says that it is there, waits, and does it.
///
/// # Errors
/// If the pipes are gone.
pub fn exercise() -> io::Result<()> {
    io::stdout().write_all(READY.as_bytes())?;
    io::stdout().flush()?;
    let mut begin = [0];
    io::stdin().read_exact(&mut begin)?;
    all();
    let together = Barrier::new(THREADS);
    thread::scope(|scope| {
        for _ in 0..THREADS {
            scope.spawn(|| {
                together.wait();
                all();
                contend();
            });
        }
    });
    // With threads behind it the process is another one for glibc.
    all();
    Ok(())
}

fn all() {
    fail();
    for _ in 0..2 {
        small();
    }
    large();
}

fn fail() {
    for bytes in [usize::MAX, TOO_MUCH, TOO_MUCH - 4096, 1 << 46] {
        black_box(RawBlock::of(bytes));
    }
    black_box(RawBlock::zeroed(usize::MAX / 2, 3));
    black_box(RawBlock::zeroed(1 << 30, 1 << 30));
}

/// Sizes that caches hold, and their borders.
fn small() {
    for bytes in (0..=64).step_by(7).chain((64..1200).step_by(111)) {
        let blocks: Vec<_> = (0..SMALL_BLOCKS).map(|_| RawBlock::of(black_box(bytes))).collect();
        drop(black_box(blocks));
        // From the cache, which is now full.
        black_box(RawBlock::of(black_box(bytes)));
        black_box(RawBlock::zeroed(black_box(bytes), 3));
        black_box(RawBlock::aligned(64, black_box(bytes)));
    }
}

fn large() {
    let mut kept = Vec::new();
    for power in 10..24 {
        for bytes in [(1usize << power) - 9, 1 << power] {
            kept.push(RawBlock::of(black_box(bytes)));
            black_box(RawBlock::of(black_box(bytes)));
            black_box(RawBlock::zeroed(black_box(bytes), 1));
            black_box(RawBlock::aligned(4096, black_box(bytes)));
        }
    }
    drop(black_box(kept));
}

/// Beyond caches, so that threads meet at the locks.
fn contend() {
    for round in 0..50 {
        let blocks: Vec<_> = (0..4).map(|it| RawBlock::of(black_box(1100 + 16 * it + round))).collect();
        drop(black_box(blocks));
    }
}
