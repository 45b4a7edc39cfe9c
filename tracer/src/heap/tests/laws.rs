//! Laws: after any events the heap agrees with a naive model that is told the same.

use std::collections::BTreeMap;

use proptest::prelude::*;

use super::SECOND;
use crate::{
    cost::Cost,
    estimate::Rate,
    event::{Event, Kind, Loss, ProcessId, StackKey, Stop, Via},
    heap::Heap,
    interval::{Interval, ProcessState, SiteId, SiteState, StackId},
    script,
};

const PAGE: u64 = 4096;
const STACKS: u64 = 4;

/// What happens; addresses and sizes are small so that they meet often. Mappings are in pages.
#[derive(Clone, Copy, Debug)]
enum Step {
    Alloc { address: u64, size: u64, stack: u64, calloc: bool },
    Realloc { old: u64, address: u64, size: u64, stack: u64 },
    Free { address: u64 },
    Map { page: u64, pages: u64, stack: u64 },
    Unmap { page: u64, pages: u64 },
    Remap { old: u64, old_pages: u64, page: u64, pages: u64, stack: u64 },
    Exec,
    Fork,
    Exit,
    Interval,
}

fn steps() -> impl Strategy<Value = Vec<(usize, u64, Step)>> {
    let (address, stack) = (1..12_u64, 0..STACKS);
    let step = prop_oneof![
        20 => (address.clone(), 0..100_u64, stack.clone(), any::<bool>())
            .prop_map(|(address, size, stack, calloc)| Step::Alloc { address, size, stack, calloc }),
        8 => (0..12_u64, 0..12_u64, 0..100_u64, stack.clone())
            .prop_map(|(old, address, size, stack)| Step::Realloc { old, address, size, stack }),
        16 => address.prop_map(|address| Step::Free { address }),
        6 => (0..20_u64, 1..6_u64, stack.clone()).prop_map(|(page, pages, stack)| Step::Map { page, pages, stack }),
        6 => (0..20_u64, 1..6_u64).prop_map(|(page, pages)| Step::Unmap { page, pages }),
        3 => (0..20_u64, 1..6_u64, 0..20_u64, 1..6_u64, stack).prop_map(|(old, old_pages, page, pages, stack)| {
            Step::Remap { old, old_pages, page, pages, stack }
        }),
        1 => Just(Step::Exec),
        2 => Just(Step::Fork),
        1 => Just(Step::Exit),
        4 => Just(Step::Interval),
    ];
    // Which process, and how long after the step before: now and then a long time.
    prop::collection::vec(
        (
            any::<prop::sample::Index>(),
            prop_oneof![4 => Just(0), 8 => 0..SECOND / 4, 1 => 0..90 * SECOND],
            step,
        ),
        1..200,
    )
    .prop_map(|it| it.into_iter().map(|(index, wait, step)| (index.index(1 << 16), wait, step)).collect())
}

type Origin = (Kind, Via, u64);

/// One process of the model: blocks by address, pages by number, sums by site.
#[derive(Clone, Default)]
struct Model {
    blocks: BTreeMap<u64, (Origin, u64, u64)>,
    pages: BTreeMap<u64, (Origin, u64, u64)>,
    allocated: BTreeMap<Origin, Cost>,
    inherited: bool,
    ended: bool,
    displaced: u64,
}

impl Model {
    fn alloc(&mut self, address: u64, size: u64, origin: Origin, time: u64) {
        if self.blocks.insert(address, (origin, size, time)).is_some() {
            self.displaced += 1;
        }
        *self.allocated.entry(origin).or_default() += Cost::block(size);
    }

    fn map(&mut self, page: u64, pages: u64, origin: Origin, time: u64, number: u64) {
        self.pages.extend((page..page + pages).map(|it| (it, (origin, number, time))));
        *self.allocated.entry(origin).or_default() += Cost::block(pages * PAGE);
    }

    fn unmap(&mut self, page: u64, pages: u64) {
        self.pages.retain(|it, _| !(page..page + pages).contains(it));
    }

    /// What lives, by site and by time of birth.
    fn live(&self) -> BTreeMap<Origin, BTreeMap<u64, Cost>> {
        let mut live = BTreeMap::<Origin, BTreeMap<u64, Cost>>::new();
        let mut add = |origin, time, cost| *live.entry(origin).or_default().entry(time).or_default() += cost;
        for &(origin, size, time) in self.blocks.values() {
            add(origin, time, Cost::block(size));
        }
        let mut mappings = BTreeMap::new();
        for &(origin, number, time) in self.pages.values() {
            *mappings.entry((origin, number, time)).or_insert(0) += PAGE;
        }
        for ((origin, _, time), bytes) in mappings {
            add(origin, time, Cost::block(bytes));
        }
        live
    }
}

/// The last that was said of everything, as a reader of the intervals knows it.
#[derive(Default)]
struct Replay {
    sites: BTreeMap<SiteId, SiteState>,
    processes: BTreeMap<ProcessId, ProcessState>,
    stacks: BTreeMap<StackId, u64>,
    losses: crate::interval::Losses,
}

impl Replay {
    fn read(&mut self, interval: Interval) {
        for it in interval.stacks {
            let number = (0..STACKS).find(|number| it.frames[0] == script::frame(&number.to_string()));
            assert_eq!(self.stacks.insert(it.id, number.unwrap()), None, "named once");
        }
        for it in interval.sites {
            if let Some(before) = self.sites.get(&it.id) {
                assert_eq!((before.process, before.stack, before.via), (it.process, it.stack, it.via));
                for (old, new) in [(before.allocated, it.allocated), (before.freed, it.freed)] {
                    assert!(old.bytes <= new.bytes && old.blocks <= new.blocks, "counters never go back");
                }
            }
            self.sites.insert(it.id, it);
        }
        self.processes.extend(interval.processes.into_iter().map(|it| (it.id, it)));
        self.losses = interval.losses;
    }
}

fn run(steps: Vec<(usize, u64, Step)>) {
    let mut heap = Heap::new(0);
    let mut replay = Replay::default();
    for number in 0..STACKS {
        let frames = vec![script::frame(&number.to_string())].into();
        heap.apply(&Event::Stack { key: StackKey(number), stop: Stop::Complete, frames });
    }
    heap.apply(&Event::Begin {
        process: ProcessId(0),
        time_ns: 0,
        tgid: 0,
        name: "app".into(),
        break_end: None,
    });
    let mut models = vec![Model::default()];
    // A birth lies after the end of the interval before.
    let mut time_ns = 1;
    for (count, (which, wait, step)) in steps.into_iter().enumerate() {
        time_ns += wait;
        let number = which % models.len();
        let children = models.len();
        let (model, process) = (&mut models[number], ProcessId(number as u32));
        if model.ended {
            continue;
        }
        match step {
            Step::Alloc { address, size, stack, calloc } => {
                let via = if calloc { Via::Calloc } else { Via::Malloc };
                model.alloc(address, size, (Kind::Heap, via, stack), time_ns);
                let stack = StackKey(stack);
                heap.apply(&Event::Alloc {
                    process,
                    time_ns,
                    via,
                    address,
                    size_bytes: size,
                    stack,
                    rate: Rate::EXACT,
                });
            }
            Step::Realloc { old, address, size, stack } => {
                model.blocks.remove(&old);
                if address != 0 {
                    model.alloc(address, size, (Kind::Heap, Via::Realloc, stack), time_ns);
                }
                heap.apply(&Event::Realloc {
                    process,
                    time_ns,
                    via: Via::Realloc,
                    old_address: old,
                    address,
                    size_bytes: size,
                    stack: StackKey(stack),
                    started_ns: time_ns,
                    rate: Rate::EXACT,
                });
            }
            Step::Free { address } => {
                model.blocks.remove(&address);
                heap.apply(&Event::Free { process, time_ns, address, thread: 0 });
            }
            Step::Map { page, pages, stack } => {
                model.unmap(page, pages);
                model.map(page, pages, (Kind::Mmap, Via::Mmap, stack), time_ns, count as u64);
                let (address, size_bytes, stack) = (page * PAGE, pages * PAGE, StackKey(stack));
                heap.apply(&Event::Map { process, time_ns, address, size_bytes, stack, nested: false });
            }
            Step::Unmap { page, pages } => {
                model.unmap(page, pages);
                let (address, size_bytes) = (page * PAGE, pages * PAGE);
                heap.apply(&Event::Unmap { process, time_ns, address, size_bytes, nested: false });
            }
            Step::Remap { old, old_pages, page, pages, stack } => {
                model.unmap(old, old_pages);
                model.unmap(page, pages);
                model.map(page, pages, (Kind::Mmap, Via::Mremap, stack), time_ns, count as u64);
                heap.apply(&Event::Remap {
                    process,
                    time_ns,
                    old_address: old * PAGE,
                    old_size_bytes: old_pages * PAGE,
                    address: page * PAGE,
                    size_bytes: pages * PAGE,
                    stack: StackKey(stack),
                    nested: false,
                });
            }
            Step::Exec => {
                model.blocks.clear();
                model.pages.clear();
                heap.apply(&Event::Exec { process, time_ns, name: "other".into() });
            }
            Step::Fork => {
                let child = ProcessId(children as u32);
                heap.apply(&Event::Fork { process, time_ns, child, child_tgid: 0 });
                let child = Model { inherited: true, displaced: 0, ..model.clone() };
                models.push(child);
            }
            Step::Exit => {
                model.ended = true;
                heap.apply(&Event::Exit { process, time_ns, status: 0 });
            }
            Step::Interval => {
                replay.read(heap.interval(time_ns));
                time_ns += 1;
            }
        }
    }
    // A last event, late enough for every displaced block to be given up.
    time_ns += 3 * SECOND;
    heap.apply(&Event::Oom { process: ProcessId(0), time_ns, choice: Box::default() });
    let progress = heap.live();
    for it in heap.processes() {
        let blocks = heap.blocks(it.id).map(|it| Cost::block(it.size_bytes)).sum::<Cost>();
        assert_eq!(blocks, if it.ended.is_some() { Cost::default() } else { it.live });
    }
    replay.read(heap.interval(time_ns));
    compare(&models, &replay);

    let living = replay.processes.values().filter(|it| it.ended.is_none());
    assert_eq!(progress, living.map(|it| it.live).sum());
}

fn compare(models: &[Model], replay: &Replay) {
    for (number, model) in models.iter().enumerate() {
        let process = ProcessId(number as u32);
        let mut live = model.live();
        let mut sum = Cost::default();
        for site in replay.sites.values().filter(|it| it.process == process) {
            let origin = (site.kind, site.via, replay.stacks[&site.stack]);
            let births = live.remove(&origin).unwrap_or_default();
            assert_eq!(site.live(), births.values().copied().sum(), "{process:?} {origin:?}");
            assert!(site.peak_bytes >= site.live().bytes);
            sum += site.live();

            let mut cohorts = site.cohorts.clone();
            assert_eq!(cohorts.iter().map(|it| it.live).sum::<Cost>(), site.live());
            assert!(cohorts.windows(2).all(|pair| pair[0].to_ns <= pair[1].from_ns));
            for (time_ns, cost) in births {
                let cohort = cohorts.iter_mut().find(|it| it.from_ns < time_ns && time_ns <= it.to_ns);
                cohort.expect("a cohort of that time").live -= cost;
            }
            assert!(cohorts.iter().all(|it| it.live == Cost::default()), "{cohorts:?}");

            if !model.inherited {
                assert_eq!(site.allocated, model.allocated[&origin]);
            }
        }
        assert!(live.is_empty(), "{process:?} has sites that no interval named: {live:?}");
        assert_eq!(replay.processes[&process].live, sum);
        assert_eq!(replay.processes[&process].ended.is_some(), model.ended);
    }
    let displaced = models.iter().map(|it| it.displaced).sum::<u64>();
    assert_eq!(replay.losses.get(Loss::LostFrees), displaced);
    assert_eq!(replay.losses.get(Loss::MalformedRecords), u64::from(models[0].ended));
}

proptest! {
    #[test]
    fn the_heap_agrees_with_a_naive_model(steps in steps()) {
        run(steps);
    }
}
