//! What an event costs the heap: frees and allocations at random among live blocks of 1,000 stacks.
//!
//! `cargo bench --bench heap`; the bytes per live block are printed on the way.

use alloctrace::{
    estimate::Rate,
    event::{Event, Frame, ProcessId, StackKey, Stop, Via},
    heap::Heap,
    kernel::ring::{self, Decoded},
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use tracer_ebpf::record::{self, Head, Kind};
use zerocopy::IntoBytes as _;

const FEW: u64 = 100_000;
const MANY: u64 = 1_000_000;
/// A table that no cache holds.
const MOST: u64 = 10_000_000;
const STACKS: u64 = 1_000;
const MANY_STACKS: u64 = 100_000;
/// Events that are measured at once: as many as the ring gives out between two looks at timers.
const BATCH: u64 = 100_000;
const PROCESS: ProcessId = ProcessId(1);

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % limit
    }
}

fn alloc(numbers: &mut Numbers, block: u64, stacks: u64, time_ns: u64) -> Event {
    Event::Alloc {
        process: PROCESS,
        time_ns,
        via: Via::Malloc,
        address: address(block),
        size_bytes: 16 + numbers.below(32),
        stack: key(numbers.below(stacks)),
        rate: Rate::EXACT,
    }
}

fn address(block: u64) -> u64 {
    0x7f00_0000_0000 + block * 48
}

/// Keys are hashes of frames.
fn key(stack: u64) -> StackKey {
    StackKey(tracer_ebpf::record::mix(0, stack))
}

fn heap_of(blocks: u64, stacks: u64, numbers: &mut Numbers) -> Heap {
    let mut heap = Heap::new(0);
    heap.apply(&Event::Begin {
        process: PROCESS,
        time_ns: 0,
        tgid: 1,
        name: "bench".into(),
        break_end: None,
    });
    for stack in 0..stacks {
        let frames = (0..30).map(|depth| Frame::new(1, stack * 100 + depth)).collect();
        heap.apply(&Event::Stack { key: key(stack), stop: Stop::Complete, frames });
    }
    for block in 0..blocks {
        heap.apply(&alloc(numbers, block, stacks, block));
    }
    println!("{blocks} live blocks: {:.1} bytes each", heap.table_bytes() as f64 / blocks as f64);
    heap
}

/// Any live block is freed and its address allocated again, `step_ns` after the one before.
fn pairs(blocks: u64, stacks: u64, numbers: &mut Numbers, count: u64, step_ns: u64) -> Vec<Event> {
    let pair = |at: u64| {
        let (block, time_ns) = (numbers.below(blocks), at * step_ns);
        let free = Event::Free { process: PROCESS, time_ns, address: address(block), thread: 0 };
        [free, alloc(numbers, block, stacks, time_ns)]
    };
    (0..count).flat_map(pair).collect()
}

/// A block is allocated and freed at once, at one of a few addresses, beside the live ones.
fn hot(blocks: u64, numbers: &mut Numbers, count: u64) -> Vec<Event> {
    let pair = |at: u64| {
        let (block, time_ns) = (blocks + numbers.below(32), at);
        let free = Event::Free { process: PROCESS, time_ns, address: address(block), thread: 0 };
        [alloc(numbers, block, STACKS, time_ns), free]
    };
    (0..count).flat_map(pair).collect()
}

/// Births in 200 intervals.
fn age(heap: &mut Heap, events: &[Event]) {
    for chunk in events.chunks(events.len() / 200) {
        chunk.iter().for_each(|it| heap.apply(it));
        heap.interval(0);
    }
}

fn apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("apply");
    group.throughput(Throughput::Elements(BATCH));
    let mut numbers = Numbers(1);
    let mut heap = heap_of(FEW, STACKS, &mut numbers);
    let events = hot(FEW, &mut numbers, BATCH / 2);
    group.bench_function("pairs at once", |b| b.iter(|| events.iter().for_each(|it| heap.apply(it))));
    // All births in one interval, or over 200 of them: then sites have all their cohorts.
    for (name, blocks, stacks, step_ns) in [
        ("100000 young", FEW, STACKS, 0),
        ("100000 aged", FEW, STACKS, 1_000_000),
        ("1000000 aged", MANY, STACKS, 1_000_000),
        ("1000000 of 100000 sites", MANY, MANY_STACKS, 0),
        ("10000000 aged", MOST, STACKS, 1_000_000),
    ] {
        let mut numbers = Numbers(1);
        let mut heap = heap_of(blocks, stacks, &mut numbers);
        // Too many for a cache to know them from the round before.
        let events = pairs(blocks, stacks, &mut numbers, BATCH * 10, step_ns);
        if step_ns > 0 {
            age(&mut heap, &events);
        }
        let mut rounds = events.chunks(BATCH as usize).cycle();
        group.bench_function(name, |b| {
            b.iter(|| rounds.next().into_iter().flatten().for_each(|it| heap.apply(it)));
        });
    }
    group.finish();
}

fn others(c: &mut Criterion) {
    let mut numbers = Numbers(2);
    let mut heap = heap_of(FEW, STACKS, &mut numbers);
    let events = pairs(FEW, STACKS, &mut numbers, 200_000, 1_000_000);
    age(&mut heap, &events);
    let last = &events[events.len() - 8 * STACKS as usize..];
    c.bench_function("8000 events and an interval of 1000 sites", |b| {
        b.iter(|| {
            last.iter().for_each(|it| heap.apply(it));
            heap.interval(0)
        });
    });
    let mut child = PROCESS;
    c.bench_function("fork, exec, exit of 100000 blocks", |b| {
        b.iter(|| {
            child.0 += 1;
            heap.apply(&Event::Fork { process: PROCESS, time_ns: 0, child, child_tgid: 2 });
            heap.apply(&Event::Exec { process: child, time_ns: 0, name: "other".into() });
            heap.apply(&Event::Exit { process: child, time_ns: 0, status: 0 });
            heap.interval(0)
        });
    });
}

/// Bytes of the ring, as the probes write them.
fn record(event: &Event) -> Vec<u8> {
    let head = |kind: Kind, via: Via, time_ns| Head {
        kind: kind as u16,
        via: via.code(),
        flags: 0,
        process: PROCESS.0,
        time_ns,
    };
    match *event {
        Event::Alloc { time_ns, via, address, size_bytes, stack, .. } => {
            let head = head(Kind::Alloc, via, time_ns);
            record::Alloc { head, address, size_bytes, stack: stack.0 }.as_bytes().to_vec()
        }
        Event::Free { time_ns, address, .. } => {
            record::Free { head: head(Kind::Free, Via::Malloc, time_ns), address }.as_bytes().to_vec()
        }
        _ => unreachable!("pairs are allocations and frees"),
    }
}

/// The whole user half: from the bytes of the ring to the heap.
fn decode_and_apply(c: &mut Criterion) {
    let mut group = c.benchmark_group("decode and apply");
    group.throughput(Throughput::Elements(BATCH));
    for (name, blocks, rounds) in [("100000", FEW, 1), ("1000000", MANY, 10), ("10000000", MOST, 10)] {
        let mut numbers = Numbers(3);
        let mut heap = heap_of(blocks, STACKS, &mut numbers);
        let events = pairs(blocks, STACKS, &mut numbers, BATCH / 2 * rounds, 0);
        // One after the other, as on the ring; they are aligned to eight bytes there.
        let mut ring: Vec<u64> = Vec::new();
        let mut ranges = Vec::new();
        for bytes in events.iter().map(record) {
            let start = ring.len();
            ring.extend(
                bytes.chunks_exact(8).map(|it| u64::from_ne_bytes(it.try_into().unwrap_or_default())),
            );
            ranges.push(start..ring.len());
        }
        let mut turns = ranges.chunks(BATCH as usize).cycle();
        group.bench_function(name, |b| {
            b.iter(|| {
                for range in turns.next().into_iter().flatten() {
                    if let Some(Decoded::Event(event)) = ring::decode(ring[range.clone()].as_bytes()) {
                        heap.apply(&event);
                    }
                }
            });
        });
    }
    group.finish();
}

criterion_group!(benches, apply, decode_and_apply, others);
criterion_main!(benches);
