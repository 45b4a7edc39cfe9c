//! Which blocks of a process are outstanding, by stack: events in, answers out.

use std::{
    collections::{HashMap, HashSet},
    ops::RangeInclusive,
    sync::Arc,
    time::Duration,
};

use crate::{
    event::{Event, Frame, Kind, ObjectId, POOL_BLOCK, ProcessId},
    heap::{Heap, LiveBlock},
    interval::{Losses, StackId},
};

/// Ages are known to this part of the age that is asked for …
const AGE_STEPS: u32 = 50;

/// … and to this at best: each step is eight bytes of memory for good, at this rate 69 MB a day.
const MIN_STEP: Duration = Duration::from_millis(10);

/// What is looked for.
pub struct Question {
    /// Only blocks at least this old.
    pub older: Duration,
    /// Only blocks of such sizes.
    pub sizes: RangeInclusive<u64>,
    pub sort: Sort,
    /// Only so many stacks are told with their frames.
    pub top: usize,
    /// Each block is listed.
    pub listed: bool,
    /// Each call is told.
    pub calls: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sort {
    Bytes,
    Blocks,
}

/// The outstanding blocks of one stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Holder {
    pub bytes: u64,
    pub blocks: u64,
    /// Innermost first, with the address in the process where that is known.
    pub frames: Vec<(Frame, Option<u64>)>,
    /// Address and size of each block, if they are to be listed.
    pub listed: Vec<(u64, u64)>,
}

/// An allocator call that changed what is live.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    Alloc { time_ns: u64, address: u64, bytes: u64 },
    Free { time_ns: u64, address: u64, bytes: u64 },
}

pub(super) struct View {
    question: Question,
    process: ProcessId,
    heap: Heap,
    stacks: HashMap<StackId, Arc<[Frame]>>,
    /// What these map is left out: the files of dynamic loaders, which map libraries and never give them back.
    loaders: HashSet<ObjectId>,
    /// Births from here on are of a new step.
    step_end_ns: u64,
    step_ns: u64,
    calls: Vec<Call>,
    /// What was outstanding when the process ended, until it is asked for.
    at_end: Option<Vec<Holder>>,
    /// The time of the last allocation or free.
    newest_ns: u64,
}

impl View {
    pub(super) fn new(process: ProcessId, started_ns: u64, question: Question) -> Self {
        let step_ns = (question.older / AGE_STEPS).max(MIN_STEP).as_nanos() as u64;
        Self {
            question,
            process,
            heap: Heap::new(started_ns),
            stacks: HashMap::new(),
            loaders: HashSet::new(),
            step_end_ns: started_ns + step_ns,
            step_ns,
            calls: Vec::new(),
            at_end: None,
            newest_ns: started_ns,
        }
    }

    pub(super) fn apply(&mut self, event: &Event) {
        match *event {
            Event::Alloc { time_ns, .. }
            | Event::Realloc { time_ns, .. }
            | Event::Map { time_ns, .. }
            | Event::Remap { time_ns, .. }
            | Event::Break { time_ns, .. } => {
                self.newest_ns = time_ns;
                self.step(time_ns);
            }
            Event::Free { time_ns, .. } => self.newest_ns = time_ns,
            // The heap forgets the blocks of a process that ends; they are what was never freed.
            Event::Exit { process, time_ns, .. } if process == self.process => {
                self.at_end = Some(self.outstanding(time_ns));
            }
            _ => {}
        }
        if self.question.calls {
            self.note_calls(event);
        }
        self.heap.apply(event);
    }

    pub(super) fn leave_out_mappings_of(&mut self, loader: ObjectId) {
        self.loaders.insert(loader);
    }

    /// The answer now, largest first.
    pub(super) fn outstanding(&mut self, time_ns: u64) -> Vec<Holder> {
        self.step(time_ns);
        self.end_step(time_ns);
        let mut holders: HashMap<StackId, Holder> = HashMap::new();
        let older_ns = u64::try_from(self.question.older.as_nanos()).unwrap_or(u64::MAX);
        let by_loader = |it: &LiveBlock| {
            let caller = self.stacks.get(&it.stack).and_then(|it| it.first());
            it.kind == Kind::Mmap && caller.is_some_and(|it| self.loaders.contains(&ObjectId(it.object())))
        };
        let wanted = |it: &LiveBlock| {
            self.question.sizes.contains(&it.size_bytes) && it.age_ns(time_ns) >= older_ns && !by_loader(it)
        };
        for block in self.heap.blocks(self.process).filter(wanted) {
            let holder = holders.entry(block.stack).or_insert_with(|| Holder {
                bytes: 0,
                blocks: 0,
                frames: Vec::new(),
                listed: Vec::new(),
            });
            holder.bytes += block.size_bytes;
            holder.blocks += 1;
            if self.question.listed {
                holder.listed.push((block.address & !POOL_BLOCK, block.size_bytes));
            }
        }
        let mut holders: Vec<(StackId, Holder)> = holders.into_iter().collect();
        holders.sort_unstable_by_key(|(stack, it)| {
            let size = if self.question.sort == Sort::Bytes { it.bytes } else { it.blocks };
            (std::cmp::Reverse(size), *stack)
        });
        if !self.question.listed {
            holders.truncate(self.question.top);
        }
        // In the order of addresses: a table has none.
        holders.iter_mut().for_each(|(_, it)| it.listed.sort_unstable());
        for (stack, holder) in holders.iter_mut().take(self.question.top) {
            let frames = self.stacks.get(stack).map_or(&[][..], |it| it);
            holder.frames = frames.iter().map(|it| (*it, None)).collect();
        }
        holders.into_iter().map(|(_, holder)| holder).collect()
    }

    /// The time of the last allocation or free.
    pub(super) fn newest_ns(&self) -> u64 {
        self.newest_ns
    }

    pub(super) fn heap(&mut self) -> &mut Heap {
        &mut self.heap
    }

    /// What was outstanding when the process ended, if it has.
    pub(super) fn at_end(&mut self) -> Option<&mut Vec<Holder>> {
        self.at_end.as_mut()
    }

    pub(super) fn take_calls(&mut self) -> Vec<Call> {
        std::mem::take(&mut self.calls)
    }

    pub(super) fn losses(&self) -> &Losses {
        self.heap.losses()
    }

    /// Ends the step of births that is over at `time_ns`. It ends where it was to, however late the next
    /// birth is, so that the blocks of a quiet process have their age.
    fn step(&mut self, time_ns: u64) {
        if let Some(late_ns) = time_ns.checked_sub(self.step_end_ns) {
            self.end_step(self.step_end_ns);
            self.step_end_ns += (late_ns / self.step_ns + 1) * self.step_ns;
        }
    }

    fn end_step(&mut self, time_ns: u64) {
        let fresh = self.heap.interval(time_ns).stacks;
        self.stacks.extend(fresh.into_iter().map(|it| (it.id, it.frames)));
    }

    /// Before the heap knows of it.
    fn note_calls(&mut self, event: &Event) {
        let process = self.process;
        match *event {
            Event::Alloc { process: caller, time_ns, address, size_bytes, .. }
            | Event::Map { process: caller, time_ns, address, size_bytes, nested: false, .. }
                if caller == process =>
            {
                self.note_alloc(time_ns, address, size_bytes);
            }
            Event::Free { process: caller, time_ns, address, .. }
            | Event::Unmap { process: caller, time_ns, address, nested: false, .. }
                if caller == process =>
            {
                self.note_free(time_ns, address, u64::MAX);
            }
            Event::Realloc {
                process: caller, time_ns, old_address, address, size_bytes, started_ns, ..
            } if caller == process => {
                self.note_free(time_ns, old_address, started_ns);
                if address != 0 {
                    self.note_alloc(time_ns, address, size_bytes);
                }
            }
            Event::Remap {
                process: caller,
                time_ns,
                old_address,
                address,
                size_bytes,
                nested: false,
                ..
            } if caller == process => {
                self.note_free(time_ns, old_address, u64::MAX);
                self.note_alloc(time_ns, address, size_bytes);
            }
            _ => {}
        }
    }

    fn note_alloc(&mut self, time_ns: u64, address: u64, bytes: u64) {
        if self.question.sizes.contains(&bytes) {
            let address = address & !POOL_BLOCK;
            self.calls.push(Call::Alloc { time_ns, address, bytes });
        }
    }

    /// A block that was born after `started_ns` is another, which was given the address meanwhile.
    fn note_free(&mut self, time_ns: u64, address: u64, started_ns: u64) {
        if let Some(block) = self.heap.block(self.process, address)
            && block.from_ns < started_ns
            && self.question.sizes.contains(&block.size_bytes)
        {
            let address = address & !POOL_BLOCK;
            self.calls.push(Call::Free { time_ns, address, bytes: block.size_bytes });
        }
    }
}
