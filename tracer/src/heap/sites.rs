//! The sites of one process: who allocated, how much, and what of it lives.
//!
//! Events name a site by kind, function and stack *key*: one look-up finds it. Keys that may not come
//! again, and those whose frames have not arrived, take the longer way over the stack itself.
//!
//! A site gets its [`SiteId`] when an interval names it first. A forked child starts with a copy of
//! all sites of its parent, and most children replace their image at once: those never need ids.

use rustc_hash::FxHashMap;

use super::{
    cohorts::Cohorts,
    stacks::Stacks,
    tally::{Sample, Samples},
};
use crate::{
    cost::Cost,
    event::{Kind, Loss, StackKey, Via},
    interval::{Losses, SiteId, StackId},
};

/// Sites of one process; a block names its own by 22 bits. A run has an eighth as many stacks at most.
pub(super) const MAX_SITES: usize = (1 << 22) - 1;

/// Of them, room for sites without a stack: one for each way to ask for memory.
const MAX_ORIGINS: usize = 1 << 10;

/// A site of this process, as blocks name it. Valid from one exec to the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Slot(pub(super) u32);

/// How the memory was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Origin {
    pub(super) kind: Kind,
    pub(super) via: Via,
}

#[derive(Clone, Debug)]
pub(super) struct Site {
    pub(super) id: Option<SiteId>,
    pub(super) origin: Origin,
    pub(super) stack: StackId,
    pub(super) allocated: Cost,
    pub(super) freed: Cost,
    pub(super) peak_bytes: i64,
    /// Live bytes in places that blocks from before the attach had left.
    pub(super) reused_bytes: i64,
    /// Only of a site that has had samples.
    pub(super) samples: Option<Box<Samples>>,
    /// Of any block so far.
    largest_bytes: u64,
    pub(super) cohorts: Cohorts,
    /// It is in [`Sites::changed`].
    changed: bool,
    /// It has blocks that were not inherited.
    own: bool,
}

impl Site {
    pub(super) fn live(&self) -> Cost {
        self.allocated - self.freed
    }
}

#[derive(Default)]
pub(super) struct Sites {
    list: Vec<Site>,
    by_key: FxHashMap<(StackKey, Origin), Slot>,
    by_stack: FxHashMap<(StackId, Origin), Slot>,
    /// Those that changed since the last interval.
    changed: Vec<Slot>,
}

impl Sites {
    #[inline]
    pub(super) fn find(
        &mut self,
        origin: Origin,
        key: StackKey,
        stacks: &mut Stacks,
        losses: &mut Losses,
    ) -> Slot {
        match self.by_key.get(&(key, origin)) {
            Some(&slot) => slot,
            None => self.resolve(origin, key, stacks, losses),
        }
    }

    pub(super) fn kind_and_stack(&self, slot: Slot) -> (Kind, StackId) {
        let site = &self.list[slot.0 as usize];
        (site.origin.kind, site.stack)
    }

    #[inline]
    pub(super) fn allocate(&mut self, slot: Slot, birth: u32, cost: Cost) {
        let site = &mut self.list[slot.0 as usize];
        site.allocated += cost;
        site.peak_bytes = site.peak_bytes.max(site.live().bytes);
        site.cohorts.add(birth, cost);
        site.own = true;
        self.mark_changed(slot);
    }

    #[inline]
    pub(super) fn free(&mut self, slot: Slot, birth: u32, cost: Cost) {
        let site = &mut self.list[slot.0 as usize];
        site.freed += cost;
        site.cohorts.remove(birth, cost);
        self.mark_changed(slot);
    }

    /// The size of the largest block so far, if one of `size_bytes` is another.
    #[inline]
    pub(super) fn largest_bytes(&mut self, slot: Slot, size_bytes: u64) -> u64 {
        let site = &mut self.list[slot.0 as usize];
        site.largest_bytes = site.largest_bytes.max(size_bytes);
        site.largest_bytes
    }

    /// Of a block that was allocated or freed just now.
    #[inline]
    pub(super) fn reuse(&mut self, slot: Slot, bytes: i64) {
        self.list[slot.0 as usize].reused_bytes += bytes;
    }

    /// Of a sample that was allocated just now.
    pub(super) fn blur(&mut self, slot: Slot, sample: &Sample) {
        self.list[slot.0 as usize].samples.get_or_insert_default().allocate(sample);
    }

    /// Of a sample that was freed just now.
    pub(super) fn sharpen(&mut self, slot: Slot, sample: &Sample) {
        if let Some(samples) = &mut self.list[slot.0 as usize].samples {
            samples.free(sample);
        }
    }

    /// Everything is freed at once. What was inherited and never named by an interval is forgotten:
    /// a child that replaces its image at once would else repeat all sites of its parent.
    /// No [`Slot`] from before is valid afterwards.
    pub(super) fn close(&mut self) {
        self.by_key.clear();
        self.by_stack.clear();
        self.changed.clear();
        self.list.retain(|it| it.own || it.id.is_some());
        for (at, site) in self.list.iter_mut().enumerate() {
            let slot = Slot(at as u32);
            site.changed |= site.live() != Cost::default();
            site.freed = site.allocated;
            site.reused_bytes = 0;
            if let Some(samples) = &mut site.samples {
                samples.free_all();
            }
            site.cohorts.clear();
            if site.changed {
                self.changed.push(slot);
            }
            self.by_stack.insert((site.stack, site.origin), slot);
        }
    }

    /// The sites of a forked child: what is live counts as allocated there, at its true age.
    pub(super) fn inherit(&self) -> Self {
        let list: Vec<_> = self.list.iter().map(inherited).collect();
        let changed = (0..).map(Slot).zip(&list).filter(|(_, it)| it.changed).map(|(slot, _)| slot).collect();
        Self { list, by_key: self.by_key.clone(), by_stack: self.by_stack.clone(), changed }
    }

    /// Releases what only further events would need.
    pub(super) fn end(&mut self) {
        self.by_key = FxHashMap::default();
        self.by_stack = FxHashMap::default();
    }

    pub(super) fn stacks(&self) -> impl Iterator<Item = StackId> + '_ {
        self.list.iter().map(|it| it.stack)
    }

    /// Calls `visit` for every site that changed since this was called last.
    pub(super) fn take_changed(&mut self, mut visit: impl FnMut(&mut Site)) {
        for slot in self.changed.drain(..) {
            let site = &mut self.list[slot.0 as usize];
            site.changed = false;
            visit(site);
        }
    }

    #[cold]
    fn resolve(&mut self, origin: Origin, key: StackKey, stacks: &mut Stacks, losses: &mut Losses) -> Slot {
        let (mut stack, mut lasting) = match stacks.resolve(key) {
            Some(found) => (found.stack, found.lasting),
            None => {
                losses.add(Loss::UnknownStacks, 1);
                (stacks.unknown(), false)
            }
        };
        let is_full = self.list.len() >= MAX_SITES - MAX_ORIGINS;
        if is_full && !self.by_stack.contains_key(&(stack, origin)) {
            losses.add(Loss::UnknownStacks, 1);
            (stack, lasting) = (stacks.unknown(), false);
        }
        let slot = *self.by_stack.entry((stack, origin)).or_insert_with(|| {
            self.list.push(Site {
                id: None,
                origin,
                stack,
                allocated: Cost::default(),
                freed: Cost::default(),
                peak_bytes: 0,
                reused_bytes: 0,
                samples: None,
                largest_bytes: 0,
                cohorts: Cohorts::default(),
                changed: false,
                own: false,
            });
            Slot(self.list.len() as u32 - 1)
        });
        if lasting {
            self.by_key.insert((key, origin), slot);
        }
        slot
    }

    #[inline]
    fn mark_changed(&mut self, slot: Slot) {
        let site = &mut self.list[slot.0 as usize];
        if !site.changed {
            site.changed = true;
            self.changed.push(slot);
        }
    }
}

fn inherited(site: &Site) -> Site {
    let live = site.live();
    Site {
        id: None,
        allocated: live,
        freed: Cost::default(),
        peak_bytes: live.bytes,
        changed: live != Cost::default(),
        own: false,
        samples: site.samples.as_ref().map(|it| Box::new(it.inherited())),
        ..site.clone()
    }
}
