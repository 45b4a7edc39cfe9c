//! What an event costs the heap: frees and allocations over 100,000 live blocks and 1,000 stacks.
//!
//! `cargo bench --bench heap`; the bytes per live block are printed first.

use alloctrace::{
    event::{Event, Frame, ProcessId, StackKey, Stop, Via},
    heap::Heap,
};
use criterion::{Criterion, Throughput, criterion_group, criterion_main};

const BLOCKS: u64 = 100_000;
const STACKS: u64 = 1_000;
const PROCESS: ProcessId = ProcessId(1);

/// Numbers that look random and are the same in every run.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: u64) -> u64 {
        self.0 = self.0.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(0x1405_7b7e_f767_814f);
        (self.0 >> 33) % limit
    }
}

fn alloc(numbers: &mut Numbers, block: u64, time_ns: u64) -> Event {
    Event::Alloc {
        process: PROCESS,
        time_ns,
        via: Via::Malloc,
        address: 0x7f00_0000_0000 + block * 48,
        size_bytes: 16 + numbers.below(32),
        stack: key(numbers.below(STACKS)),
    }
}

/// Keys are hashes of frames.
fn key(stack: u64) -> StackKey {
    StackKey(tracer_ebpf::record::mix(0, stack))
}

fn full_heap(numbers: &mut Numbers) -> Heap {
    let mut heap = Heap::new(0, 1_000_000_000);
    heap.apply(&Event::Begin {
        process: PROCESS,
        time_ns: 0,
        tgid: 1,
        name: "bench".into(),
        break_end: None,
    });
    for stack in 0..STACKS {
        let frames = (0..30).map(|depth| Frame::new(1, stack * 100 + depth)).collect();
        heap.apply(&Event::Stack { key: key(stack), stop: Stop::Complete, frames });
    }
    for block in 0..BLOCKS {
        heap.apply(&alloc(numbers, block, block));
    }
    heap
}

/// Any live block is freed and its address allocated again, 10,000 times a millisecond's worth.
fn pairs(numbers: &mut Numbers, count: u64, step_ns: u64) -> Vec<Event> {
    let pair = |at: u64| {
        let block = numbers.below(BLOCKS);
        let address = 0x7f00_0000_0000 + block * 48;
        let free = Event::Free { process: PROCESS, time_ns: at * step_ns, address };
        [free, alloc(numbers, block, at * step_ns)]
    };
    (0..count).flat_map(pair).collect()
}

fn apply(c: &mut Criterion) {
    let mut numbers = Numbers(1);
    let mut heap = full_heap(&mut numbers);
    println!("{:.1} bytes per live block", heap.table_bytes() as f64 / BLOCKS as f64);

    let mut group = c.benchmark_group("apply");
    // All births in one interval, and over 100 intervals: then sites have all their cohorts.
    for (name, step_ns) in [("young", 0), ("aged", 500_000)] {
        let events = pairs(&mut numbers, 200_000, step_ns);
        group.throughput(Throughput::Elements(events.len() as u64));
        group.bench_function(name, |b| b.iter(|| events.iter().for_each(|it| heap.apply(it))));
    }
    group.finish();
}

fn interval(c: &mut Criterion) {
    let mut numbers = Numbers(2);
    let mut heap = full_heap(&mut numbers);
    let events = pairs(&mut numbers, 200_000, 500_000);
    events.iter().for_each(|it| heap.apply(it));
    let touch: Vec<_> = events.into_iter().take(8 * STACKS as usize).collect();
    c.bench_function("interval/1000 sites changed", |b| {
        b.iter_batched(
            || touch.iter().for_each(|_| ()),
            |()| {
                touch.iter().for_each(|it| heap.apply(it));
                heap.interval(0)
            },
            criterion::BatchSize::SmallInput,
        );
    });
    c.bench_function("fork and exec/100000 blocks", |b| {
        let mut child = 1;
        b.iter(|| {
            child += 1;
            let child = ProcessId(child);
            heap.apply(&Event::Fork { process: PROCESS, time_ns: 0, child, child_tgid: 2 });
            heap.apply(&Event::Exec { process: child, time_ns: 0, name: "other".into() });
            heap.apply(&Event::Exit { process: child, time_ns: 0, status: 0 });
            heap.interval(0)
        });
    });
}

criterion_group!(benches, apply, interval);
criterion_main!(benches);
