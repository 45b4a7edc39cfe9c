//! How many calls of its allocator each process has made lately, by function.

use rustc_hash::FxHashMap;

use crate::event::{Event, ProcessId, Via};

/// The calls of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Calls {
    allocs: Vec<(Via, u64)>,
    pub(super) frees: u64,
}

impl Calls {
    pub(super) fn allocs(&self) -> impl Iterator<Item = (Via, u64)> + '_ {
        self.allocs.iter().copied()
    }

    pub(super) fn all_allocs(&self) -> u64 {
        self.allocs.iter().map(|it| it.1).sum()
    }

    /// A process has a handful of functions, and calls mostly one.
    #[inline]
    fn alloc(&mut self, via: Via) {
        match self.allocs.iter_mut().find(|it| it.0 == via) {
            Some((_, count)) => *count += 1,
            None => self.allocs.push((via, 1)),
        }
    }
}

/// Those of all processes.
#[derive(Default)]
pub(super) struct Tally(FxHashMap<ProcessId, Calls>);

impl Tally {
    /// Whose call of an allocator an event is; that has then been counted.
    #[inline]
    pub(super) fn count(&mut self, event: &Event) -> Option<ProcessId> {
        let (process, via) = match *event {
            Event::Alloc { process, via, .. } | Event::Realloc { process, via, .. } => (process, Some(via)),
            Event::Free { process, .. } | Event::Enclosed { process, address: 0, .. } => (process, None),
            Event::Enclosed { process, .. } => (process, Some(Via::Malloc)),
            _ => return None,
        };
        let calls = self.0.entry(process).or_default();
        match via {
            Some(via) => calls.alloc(via),
            None => calls.frees += 1,
        }
        Some(process)
    }

    /// What was counted since the last call.
    pub(super) fn take(&mut self) -> FxHashMap<ProcessId, Calls> {
        std::mem::take(&mut self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::script;

    #[test]
    fn calls_are_counted_by_process_and_function() {
        let mut tally = Tally::default();
        let script = "begin 10 app\n stack #1 main\n alloc 10 0x1000 64B #1\n realloc 10 0x1000 0x2000 8B #1\n \
                      free 10 0x2000\n alloc 11 0x1000 64B #1\n map 10 0x10000 8KiB #1\n enclosed 10 0x0 0x1000";
        script::parse(script).iter().for_each(|it| {
            tally.count(it);
        });
        let calls = tally.take();
        let of = |process: u32| &calls[&ProcessId(process)];
        assert_eq!((of(10).all_allocs(), of(10).frees), (3, 1));
        assert_eq!((of(11).all_allocs(), of(11).frees), (1, 0));
        assert_eq!(of(10).allocs().find(|it| it.0 == Via::Malloc), Some((Via::Malloc, 2)));
        assert!(tally.take().is_empty());
    }
}
