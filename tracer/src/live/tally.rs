//! How many calls of its allocator each process has made lately, by function.

use rustc_hash::FxHashMap;

use crate::{
    estimate::Rate,
    event::{Event, ProcessId, Via},
};

/// The calls of one process.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Calls {
    /// Those that were sampled as many as they stand for.
    allocs: Vec<(Via, f64)>,
    /// Those that were reported.
    pub(super) reported: u64,
    /// How many of them are reported when they are sampled, times the bytes of which one is sampled.
    taken_bytes: u64,
    pub(super) frees: u64,
}

impl Calls {
    pub(super) fn allocs(&self) -> impl Iterator<Item = (Via, f64)> + '_ {
        self.allocs.iter().copied()
    }

    pub(super) fn all_allocs(&self) -> f64 {
        self.allocs.iter().map(|it| it.1).sum()
    }

    /// How many of the allocations are reported at a rate, rather too many than too few.
    pub(super) fn taken(&self, rate: Rate) -> f64 {
        self.taken_bytes as f64 / rate.bytes() as f64
    }

    /// A process has a handful of functions, and calls mostly one.
    #[inline]
    fn alloc(&mut self, via: Via, blocks: f64, taken_bytes: u64) {
        self.reported += 1;
        self.taken_bytes += taken_bytes;
        match self.allocs.iter_mut().find(|it| it.0 == via) {
            Some((_, count)) => *count += blocks,
            None => self.allocs.push((via, blocks)),
        }
    }
}

/// Those of all processes.
pub(super) struct Tally {
    processes: FxHashMap<ProcessId, Calls>,
    /// At which allocations are or may come to be sampled.
    rate: Rate,
}

impl Tally {
    pub(super) fn new(rate: Rate) -> Self {
        Self { processes: FxHashMap::default(), rate }
    }

    /// Whose call of an allocator an event is; that has then been counted.
    #[inline]
    pub(super) fn count(&mut self, event: &Event) -> Option<ProcessId> {
        /// What of a pool's or of an enclosed block is taken is not asked.
        const ANY_SIZE: u64 = 0;
        let (process, alloc) = match *event {
            Event::Alloc { process, via, size_bytes, rate, .. } => (process, Some((via, size_bytes, rate))),
            // The old block is given up in any case, and that is reported.
            Event::Realloc { process, via, old_address, size_bytes, rate, .. } => {
                let rate = if old_address == 0 { rate } else { Rate::EXACT };
                (process, Some((via, size_bytes, rate)))
            }
            Event::Free { process, .. } | Event::Enclosed { process, address: 0, .. } => (process, None),
            Event::Enclosed { process, .. } => (process, Some((Via::Malloc, ANY_SIZE, Rate::EXACT))),
            _ => return None,
        };
        let rate_bytes = self.rate.bytes() as u64;
        let calls = self.processes.entry(process).or_default();
        match alloc {
            Some((via, size_bytes, Rate::EXACT)) => calls.alloc(via, 1.0, size_bytes.min(rate_bytes)),
            // Of probes on their way out, nobody asks how many that stands for.
            Some((via, _, rate)) if rate != self.rate => calls.alloc(via, 1.0, rate_bytes),
            Some((via, size_bytes, rate)) => calls.alloc(via, rate.weight(size_bytes).blocks, rate_bytes),
            None => calls.frees += 1,
        }
        Some(process)
    }

    /// What was counted since the last call.
    pub(super) fn take(&mut self) -> FxHashMap<ProcessId, Calls> {
        std::mem::take(&mut self.processes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{event::StackKey, script};

    #[test]
    fn calls_are_counted_by_process_and_function() {
        let mut tally = Tally::new(Rate::of_shift(7));
        let script = "begin 10 app\n stack #1 main\n alloc 10 0x1000 64B #1\n realloc 10 0x1000 0x2000 8B #1\n \
                      free 10 0x2000\n alloc 11 0x1000 64B #1\n map 10 0x10000 8KiB #1\n enclosed 10 0x0 0x1000";
        script::parse(script).iter().for_each(|it| {
            tally.count(it);
        });
        let calls = tally.take();
        let of = |process: u32| &calls[&ProcessId(process)];
        assert_eq!((of(10).all_allocs(), of(10).reported, of(10).frees), (3.0, 3, 1));
        assert_eq!((of(11).all_allocs(), of(11).reported, of(11).frees), (1.0, 1, 0));
        assert_eq!(of(10).allocs().find(|it| it.0 == Via::Malloc), Some((Via::Malloc, 2.0)));
        assert_eq!(of(11).taken(Rate::of_shift(7)), 0.5);
        assert!(tally.take().is_empty());
    }

    #[test]
    fn a_sampled_allocation_stands_for_many() {
        let rate = Rate::of_shift(16);
        let mut tally = Tally::new(rate);
        let (process, via, stack) = (ProcessId(10), Via::Malloc, StackKey(1));
        let size_bytes = 64;
        tally.count(&Event::Alloc { process, time_ns: 0, via, address: 16, size_bytes, stack, rate });
        let calls = &tally.take()[&process];
        assert!((1024.0..1025.0).contains(&calls.all_allocs()), "{calls:?}");
        assert_eq!((calls.reported, calls.taken(rate)), (1, 1.0));
    }
}
