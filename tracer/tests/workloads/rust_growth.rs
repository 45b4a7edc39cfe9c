//! rust_growth: Vec, Box and HashMap grow, and a chain of closures allocates. What they ask for follows from
//! their capacities, so that the books need no allocator of our own in the way.
//!
//! The lines are described in truth.h.

use std::{
    collections::HashMap,
    hint::black_box,
    io::{self, BufRead as _, Write as _},
};

#[cfg(feature = "tikv-jemallocator")]
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[cfg(feature = "mimalloc")]
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

#[cfg(feature = "snmalloc-rs")]
#[global_allocator]
static ALLOCATOR: snmalloc_rs::SnMalloc = snmalloc_rs::SnMalloc;

/// The books of one site.
struct Site {
    via: &'static str,
    frames: &'static str,
    /// `None` where only the number of blocks follows from the capacity.
    item_bytes: Option<usize>,
    live: (usize, usize),
    allocated: (usize, usize),
}

impl Site {
    fn new(via: &'static str, frames: &'static str, item_bytes: Option<usize>) -> Self {
        Self { via, frames, item_bytes, live: (0, 0), allocated: (0, 0) }
    }

    fn took(&mut self, bytes: usize) {
        self.live = (self.live.0 + bytes, self.live.1 + 1);
        self.allocated = (self.allocated.0 + bytes, self.allocated.1 + 1);
    }

    fn gave(&mut self, bytes: usize) {
        self.live = (self.live.0 - bytes, self.live.1 - 1);
    }

    /// A container went from one capacity to another.
    fn resized(&mut self, before: usize, now: usize) {
        if before == now {
            return;
        }
        let item_bytes = self.item_bytes.unwrap_or(0);
        if before > 0 {
            self.gave(before * item_bytes);
        }
        if now > 0 {
            self.took(now * item_bytes);
        }
    }

    fn tell(&self) {
        let bytes = |it: usize| self.item_bytes.map_or("*".to_owned(), |_| it.to_string());
        let (live, allocated) = (bytes(self.live.0), bytes(self.allocated.0));
        let Self { via, frames, live: (_, live_blocks), allocated: (_, allocated_blocks), .. } = self;
        println!("site heap {via} {live} {live_blocks} {allocated} {allocated_blocks} {frames}");
    }
}

#[inline(never)]
fn grow_vec(site: &mut Site, vec: &mut Vec<[u32; 5]>, count: u32) -> usize {
    for at in 0..count {
        let before = vec.capacity();
        vec.push([at; 5]);
        site.resized(before, vec.capacity());
    }
    black_box(vec.len())
}

#[inline(never)]
fn shrink_vec(site: &mut Site, vec: &mut Vec<[u32; 5]>, length: usize) -> usize {
    let before = vec.capacity();
    // Only the block of `grow_vec` ends here, and its site is not this one.
    vec.truncate(length);
    vec.shrink_to_fit();
    site.took(vec.capacity() * size_of::<[u32; 5]>());
    black_box(before)
}

#[inline(never)]
fn make_boxes(site: &mut Site, kept: &mut Vec<Box<[u8; 333]>>, count: u8) -> usize {
    for at in 0..count {
        let made = Box::new([at; 333]);
        site.took(333);
        if at % 3 == 0 {
            // Its capacity suffices.
            kept.push(made);
        } else {
            drop(black_box(made));
            site.gave(333);
        }
    }
    black_box(kept.len())
}

#[inline(never)]
fn grow_map(site: &mut Site, map: &mut HashMap<u64, [u64; 3]>, count: u64) -> usize {
    for at in 0..count {
        let before = map.capacity();
        map.insert(at, [at; 3]);
        site.resized(before, map.capacity());
    }
    black_box(map.len())
}

type Step<'a> = &'a mut dyn FnMut(usize) -> usize;

#[inline(never)]
fn through(step: Step<'_>, bytes: usize) -> usize {
    black_box(step(bytes)) + 1
}

/// Each closure calls the next one through a function that knows only that it is a closure.
#[inline(never)]
fn chain(site: &mut Site, kept: &mut Vec<Vec<u8>>, bytes: usize) -> usize {
    let mut innermost = |bytes: usize| {
        let made: Vec<u8> = Vec::with_capacity(bytes);
        site.took(made.capacity());
        kept.push(made);
        black_box(bytes)
    };
    let mut second = |bytes: usize| through(&mut innermost, bytes + 1) + 1;
    let mut third = |bytes: usize| through(&mut second, bytes + 1) + 1;
    through(&mut third, bytes) + 1
}

#[inline(never)]
fn work() -> Vec<Site> {
    let mut sites = Vec::with_capacity(8);

    let mut vec = Vec::new();
    let mut site = Site::new("malloc|realloc", "**;rust_growth::grow_vec;rust_growth::work", Some(20));
    grow_vec(&mut site, &mut vec, 10_000);
    // `shrink_vec` gives back the block that this site made.
    site.gave(vec.capacity() * 20);
    sites.push(site);
    let mut site = Site::new("realloc", "**;rust_growth::shrink_vec;rust_growth::work", Some(20));
    shrink_vec(&mut site, &mut vec, 77);
    sites.push(site);

    let mut boxes = Vec::with_capacity(200);
    let mut site = Site::new("malloc", "**;rust_growth::make_boxes;rust_growth::work", Some(333));
    make_boxes(&mut site, &mut boxes, 200);
    sites.push(site);

    let mut map = HashMap::new();
    let mut site =
        Site::new("malloc|posix_memalign|aligned_alloc", "**;rust_growth::grow_map;rust_growth::work", None);
    grow_map(&mut site, &mut map, 3000);
    sites.push(site);

    let mut kept = Vec::with_capacity(100);
    let frames = "**;rust_growth::chain::{{closure}};rust_growth::through;rust_growth::chain::{{closure}};\
        rust_growth::through;rust_growth::chain::{{closure}};rust_growth::through;rust_growth::chain;rust_growth::work";
    let mut site = Site::new("malloc", frames, Some(1));
    for bytes in 1..=100 {
        chain(&mut site, &mut kept, bytes);
    }
    sites.push(site);

    std::mem::forget((vec, boxes, map, kept));
    sites
}

fn main() {
    let mut input = io::stdin().lock();
    let mut line = String::with_capacity(100);
    println!("waiting");
    let _ = input.read_line(&mut line);
    let sites = work();
    for site in &sites {
        site.tell();
    }
    for function in ["grow_vec", "shrink_vec", "make_boxes", "grow_map", "chain"] {
        println!("covers rust_growth::{function}");
    }
    println!("done");
    let _ = io::stdout().flush();
    while input.read_line(&mut line).is_ok_and(|count| count > 0) {}
}
