//! One process: its live blocks and mappings, and the rules by which events change them.
//!
//! live = allocated − freed holds for every site after every event. What an event contradicts is
//! settled in favour of the event, and counted.

mod life;
mod unknown;
mod untracked;

use std::{
    collections::{BTreeSet, VecDeque},
    sync::Arc,
};

use rustc_hash::FxHashMap;

use super::{
    blocks::Found,
    mappings::{Maker, Mappings, Range},
    residents::{self, Residents},
    sites::{Origin, Sites, Slot},
    stacks::Stacks,
    table::{Block, Entry, Refused, Table},
    tally,
};
use crate::{
    cost::Cost,
    estimate::Rate,
    event::{Kind, Loss, ProcessId, StackKey, Via},
    interval::{Ended, Losses, ProcessState},
};

/// How long a block that lost its address to another may wait for the `realloc` that released it.
/// The record is written when the call returns, which is at most the copy of the block later.
const CLAIM_NS: u64 = 2_000_000_000;

/// Unknown frees that may turn out to be of a thread's cache. That is said when the thread ends, within a
/// millisecond: time for a hundred threads to empty their caches of 450 blocks at once.
const MAX_LATEST_UNKNOWN: usize = 1 << 16;

/// Blocks that may wait for the `realloc` that released them: 24 MB.
const MAX_DISPLACED: usize = 1 << 20;

/// No block is larger: user addresses have 47 bits.
const MAX_SIZE: u64 = i64::MAX as u64;

impl Block {
    pub(super) fn found(self, address: u64) -> Found {
        (address, self.size_bytes, Maker { site: self.site, birth: self.birth })
    }
}

/// When an event happened, and what all processes share.
pub(super) struct Context<'a> {
    pub(super) time_ns: u64,
    pub(super) birth: u32,
    pub(super) stacks: &'a mut Stacks,
    pub(super) losses: &'a mut Losses,
    /// Bytes by which block tables may still grow.
    pub(super) room: &'a mut usize,
}

pub(super) struct Process {
    pub(super) id: ProcessId,
    tgid: u32,
    parent: Option<ProcessId>,
    name: Arc<str>,
    began_ns: u64,
    pub(super) live: Cost,
    unknown_frees: u64,
    unsampled_frees: u64,
    /// Not all blocks are reported, or were for a time: a free of one that is not known may be of one of those.
    pub(super) is_sampled: bool,
    /// Blocks that found no place in the table, less the unknown frees since: those are taken for theirs.
    untracked: u64,
    /// Addresses at which a block from before the attach has been freed. What is allocated there since takes its
    /// place: a cache that was full when we came frees one old entry for each new one, and does not grow.
    vacated: BTreeSet<u64>,
    /// Time and thread of unknown frees, until they can no longer be of a thread's cache.
    latest_unknown: VecDeque<(u64, u8)>,
    arena_bytes: i64,
    break_end: Option<u64>,
    oom: bool,
    pub(super) ended: Option<Ended>,
    pub(super) sites: Sites,
    pub(super) blocks: Table,
    /// Addresses whose live block was closed by an allocation there, and the time of that. Either a
    /// `realloc` in another thread had released the block and will say so when it returns, or a
    /// free was lost. At most one for each address that is or was live, for two seconds.
    displaced: FxHashMap<u64, u64>,
    pub(super) mappings: Mappings,
    residents: Residents,
}

impl Process {
    pub(super) fn new(
        id: ProcessId,
        tgid: u32,
        name: Arc<str>,
        time_ns: u64,
        break_end: Option<u64>,
    ) -> Self {
        Self {
            id,
            tgid,
            parent: None,
            name,
            began_ns: time_ns,
            live: Cost::default(),
            unknown_frees: 0,
            unsampled_frees: 0,
            is_sampled: false,
            untracked: 0,
            vacated: BTreeSet::new(),
            latest_unknown: VecDeque::new(),
            arena_bytes: 0,
            break_end,
            oom: false,
            ended: None,
            sites: Sites::default(),
            blocks: Table::default(),
            displaced: FxHashMap::default(),
            mappings: Mappings::default(),
            residents: Residents::default(),
        }
    }

    pub(super) fn state(&self) -> ProcessState {
        ProcessState {
            id: self.id,
            tgid: self.tgid,
            parent: self.parent,
            name: Arc::clone(&self.name),
            began_ns: self.began_ns,
            live: tally::told(self.live),
            unknown_frees: self.unknown_frees,
            unsampled_frees: self.unsampled_frees,
            arena_bytes: self.arena_bytes,
            ended: self.ended,
        }
    }

    #[inline]
    pub(super) fn alloc(
        &mut self,
        address: u64,
        size_bytes: u64,
        rate: Rate,
        via: Via,
        stack: StackKey,
        cx: &mut Context,
    ) {
        let site = self.sites.find(Origin { kind: Kind::Heap, via }, stack, cx.stacks, cx.losses);
        let largest_bytes = self.sites.largest_bytes(site, size_bytes);
        let reused = self.is_vacated(address, largest_bytes);
        let block = Block { size_bytes: size_bytes & MAX_SIZE, site, birth: cx.birth, reused, rate };
        let has_room = match self.blocks.insert(address, Entry::Block(block), cx.room) {
            Ok(Some(Entry::Block(old))) => {
                self.close(old);
                self.displace(address, cx);
                true
            }
            Ok(Some(Entry::Enclosed) | None) => true,
            Err(Refused::NoAddress) => return cx.losses.add(Loss::MalformedRecords, 1),
            Err(Refused::NoRoom) => false,
        };
        let cost = if rate.is_exact() { tally::whole(block.size_bytes) } else { self.sample(block) };
        self.open(site, cx.birth, cost);
        if reused {
            self.sites.reuse(site, cost.bytes);
        }
        if !has_room {
            self.leave_untracked(block, cx.losses);
        }
    }

    /// A live block was closed by an allocation at its address.
    #[cold]
    fn displace(&mut self, address: u64, cx: &mut Context) {
        // If one was waiting there already, nothing will tell the two apart. One that finds no room is not waited for.
        let is_lost = if self.displaced.len() < MAX_DISPLACED {
            self.displaced.insert(address, cx.time_ns).is_some()
        } else {
            true
        };
        cx.losses.add(Loss::LostFrees, is_lost.into());
    }

    #[inline]
    pub(super) fn free(&mut self, address: u64, thread: u8, time_ns: u64) {
        match self.blocks.remove(address) {
            Some(Entry::Block(block)) => self.close(block),
            Some(Entry::Enclosed) => {}
            None if self.untracked > 0 => self.untracked -= 1,
            None => {
                self.free_unknown(address);
                if self.latest_unknown.len() == MAX_LATEST_UNKNOWN {
                    self.latest_unknown.pop_front();
                }
                self.latest_unknown.push_back((time_ns, thread));
            }
        }
    }

    /// An allocator has taken back `old_address` and given `address` to a pool of the user's, if they are not 0.
    pub(super) fn enclose(&mut self, old_address: u64, address: u64, room: &mut usize) {
        let given = match self.blocks.insert(address, Entry::Enclosed, room) {
            Ok(entry) => entry,
            // There is none.
            Err(Refused::NoAddress) => None,
            // It is no block that counts, but its free will be an unknown one.
            Err(Refused::NoRoom) => {
                self.untracked += 1;
                None
            }
        };
        let taken = if old_address == address { None } else { self.blocks.remove(old_address) };
        for entry in [taken, given].into_iter().flatten() {
            if let Entry::Block(block) = entry {
                self.close(block);
            }
        }
    }

    /// What a call like `realloc`, which began at `started_ns`, does to the block that it is given.
    pub(super) fn give_up(&mut self, old_address: u64, started_ns: u64) {
        if !self.claim(old_address, started_ns) {
            match self.blocks.remove(old_address) {
                Some(Entry::Block(block)) => self.close(block),
                Some(Entry::Enclosed) => {}
                None if self.untracked > 0 => self.untracked -= 1,
                None => self.free_unknown(old_address),
            }
        }
    }

    /// A nested mapping is the allocator's, and its blocks are what counts.
    pub(super) fn map(&mut self, range: Range, via: Via, stack: StackKey, nested: bool, cx: &mut Context) {
        self.discard(range);
        if nested {
            self.arena_bytes += range.bytes() as i64;
            return;
        }
        self.cut(range);
        if range.bytes() == 0 {
            return;
        }
        let site = self.sites.find(Origin { kind: Kind::Mmap, via }, stack, cx.stacks, cx.losses);
        self.mappings.insert(range, Maker { site, birth: cx.birth });
        self.open(site, cx.birth, tally::whole(range.bytes()));
    }

    /// What is in no mapping of ours is a file, or from before the attach. An allocator gives back
    /// what it got for itself and never the program's mappings, which a nested call leaves alone.
    pub(super) fn unmap(&mut self, range: Range, nested: bool) {
        self.discard(range);
        if nested {
            let own_bytes = range.bytes() - self.mappings.covered_bytes(range);
            self.arena_bytes -= own_bytes as i64;
        } else {
            self.cut(range);
        }
    }

    /// One free of what we know of `old`, and one allocation of all of `new`: a mapping from before
    /// the attach counts from its `mremap` on.
    pub(super) fn remap(&mut self, old: Range, new: Range, stack: StackKey, nested: bool, cx: &mut Context) {
        // The pages move with the range.
        let moved = self.residents.take(old);
        if nested {
            self.discard(new);
            self.arena_bytes += new.bytes() as i64 - old.bytes() as i64;
        } else {
            self.cut(old);
            self.map(new, Via::Mremap, stack, false, cx);
        }
        for (address, sample) in moved {
            let address = address - old.start + new.start;
            if address < new.end {
                self.residents.insert(address, sample);
            } else {
                self.forget(sample);
            }
        }
    }

    /// Memory became resident.
    pub(super) fn touch(
        &mut self,
        address: u64,
        page_bytes: u64,
        every: u32,
        stack: StackKey,
        cx: &mut Context,
    ) {
        let origin = Origin { kind: Kind::Resident, via: Via::PageFault };
        let site = self.sites.find(origin, stack, cx.stacks, cx.losses);
        let sample = residents::Sample::new(site, cx.birth, page_bytes, every);
        self.sites.allocate(site, cx.birth, sample.tally().cost);
        self.sites.blur(site, &sample.tally());
        if let Some(before) = self.residents.insert(address, sample) {
            self.forget(before);
        }
    }

    /// The pages of `range` are not resident any more.
    pub(super) fn discard(&mut self, range: Range) {
        for (_, sample) in self.residents.take(range) {
            self.forget(sample);
        }
    }

    fn forget(&mut self, sample: residents::Sample) {
        let Maker { site, birth } = sample.maker;
        self.sites.free(site, birth, sample.tally().cost);
        self.sites.sharpen(site, &sample.tally());
    }

    /// The first known end is only the base from which changes are counted.
    pub(super) fn set_break(&mut self, end: u64, stack: StackKey, nested: bool, cx: &mut Context) {
        match self.break_end.replace(end) {
            Some(old) if old < end => self.map(Range { start: old, end }, Via::Brk, stack, nested, cx),
            Some(old) if old > end => self.unmap(Range { start: end, end: old }, nested),
            _ => {}
        }
    }

    /// To be called now and then: gives up on displaced blocks that no `realloc` claimed before
    /// `latest_ns`, and returns the memory of a table that has become sparse.
    pub(super) fn settle(&mut self, latest_ns: u64, losses: &mut Losses) {
        let waiting = self.displaced.len();
        self.displaced.retain(|_, since_ns| latest_ns.saturating_sub(*since_ns) <= CLAIM_NS);
        losses.add(Loss::LostFrees, (waiting - self.displaced.len()) as u64);
        self.displaced.shrink_to(2 * self.displaced.len());
        let of_caches = self.latest_unknown.partition_point(|(time_ns, _)| time_ns + CLAIM_NS < latest_ns);
        self.latest_unknown.drain(..of_caches);
        self.latest_unknown.shrink_to(2 * self.latest_unknown.len());
        self.blocks.settle();
    }

    /// Bytes of the block table.
    pub(super) fn table_bytes(&self) -> usize {
        self.blocks.bytes()
    }

    /// Was the block at `address`, released by a `realloc` that began at `started_ns`, closed by an
    /// allocation that came before the record of that `realloc`?
    fn claim(&mut self, address: u64, started_ns: u64) -> bool {
        let claimed = self.displaced.get(&address).is_some_and(|&since_ns| started_ns < since_ns);
        if claimed {
            self.displaced.remove(&address);
        }
        claimed
    }

    #[inline]
    fn open(&mut self, site: Slot, birth: u32, cost: Cost) {
        self.live += cost;
        self.sites.allocate(site, birth, cost);
    }

    #[inline]
    pub(super) fn close(&mut self, block: Block) {
        let cost = if block.rate.is_exact() { tally::whole(block.size_bytes) } else { self.unsample(block) };
        self.live -= cost;
        self.sites.free(block.site, block.birth, cost);
        if block.reused {
            self.sites.reuse(block.site, -cost.bytes);
        }
    }

    /// A sampled block is allocated: what it counts.
    #[cold]
    fn sample(&mut self, block: Block) -> Cost {
        self.is_sampled = true;
        let sample = tally::Sample::new(block.size_bytes, block.rate);
        self.sites.blur(block.site, &sample);
        sample.cost
    }

    /// … is freed.
    #[cold]
    fn unsample(&mut self, block: Block) -> Cost {
        let sample = tally::Sample::new(block.size_bytes, block.rate);
        self.sites.sharpen(block.site, &sample);
        sample.cost
    }

    fn cut(&mut self, range: Range) {
        self.mappings.cut(range, |maker, cost| {
            let cost = tally::plain(cost);
            self.live -= cost;
            self.sites.free(maker.site, maker.birth, cost);
        });
    }
}
